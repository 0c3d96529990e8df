"""Proxies at the same constant rate in an open loop: how late are answers, from when their events were due?

A closed loop as wrk's asks less of a proxy that answers late, and so leaves out what would have been late as well.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Final, NamedTuple

from benchmarks import load
from benchmarks.bench import on_uvloop
from benchmarks.peers import DUAL, NGINX_MIRROR, Proxy
from benchmarks.plots import Bar
from benchmarks.report import Part, Plot, Table, Target, ms
from benchmarks.rounds import settle

P99_BOUND: Final = 1.0
"""Ours over nginx's, at the same rate."""
QUANTILES: Final = (0.5, 0.99, 0.999)


class Range(NamedTuple):
    """A quantile in seconds: the median of the rounds, the least and the most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Range:
        """Of so many rounds."""
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{ms(self.median)} ({self.least * 1000:.1f}-{self.most * 1000:.1f})"


class Late(NamedTuple):
    """A proxy at that rate. quantiles: of `QUANTILES`; failed: events of all rounds without a good answer."""

    proxy: str
    quantiles: tuple[Range, ...]
    failed: int


def measure(proxies: Sequence[Proxy], *, rate: float, seconds: float, rounds: int) -> list[Late]:
    """Load all of them in turn, so many rounds after one for warmth."""
    taken: dict[str, list[load.LoadResult]] = {proxy.name: [] for proxy in proxies}
    for number in range(rounds + 1):
        for proxy in proxies:
            result = on_uvloop(load.run(proxy.port, rate=rate, seconds=seconds))
            settle(proxy, 0)
            if number:
                taken[proxy.name].append(result)
    return [_late(name, results) for name, results in taken.items()]


def _late(name: str, results: Sequence[load.LoadResult]) -> Late:
    quantiles = tuple(Range.of([result.quantile(share) for result in results]) for share in QUANTILES)
    return Late(name, quantiles, sum(len(result.failed) for result in results))


def part(found: Sequence[Late], *, rate: float) -> Part:
    """The table, and p99 held against nginx's."""
    title = f"Dual write at {rate:.0f} events/s in an open loop"
    rows = [[one.proxy, *map(str, one.quantiles), str(one.failed)] for one in found]
    header = ["proxy", *(f"p{share * 100:g}" for share in QUANTILES), "failed"]
    by_name = {one.proxy: one for one in found}
    bars = [Bar(one.proxy, *(value * 1000 for value in one.quantiles[1])) for one in found]
    figures = {"rate": rate, "proxies": [one._asdict() for one in found]}
    return Part(figures, [Table(title, header, rows)], _target(by_name), [Plot("latency", title, "p99 in ms", bars)])


def _target(found: dict[str, Late]) -> list[Target]:
    if not {DUAL, NGINX_MIRROR} <= found.keys():
        return []
    ours, peer = (found[name].quantiles[1].median for name in (DUAL, NGINX_MIRROR))
    ratio, failed = ours / peer, found[DUAL].failed
    measured = f"{ratio:.2f} ({ms(ours)} / {ms(peer)}), {failed} failed"
    name = f"dual write at half load: p99, ours / {NGINX_MIRROR}"
    return [Target(name, measured, f"≤ {P99_BOUND:g}, 0", ratio <= P99_BOUND and not failed)]
