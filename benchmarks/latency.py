"""Proxies at the same constant rate in an open loop: how late are answers, from when their events were due?

A closed loop as wrk's asks less of a proxy that answers late, and so leaves out what would have been late as well.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks import load
from benchmarks.bench import on_uvloop
from benchmarks.peers import DUAL, NGINX_MIRROR, Proxy
from benchmarks.plots import Bar
from benchmarks.report import Part, Plot, Table, Target, ms
from benchmarks.rounds import settle
from benchmarks.websocket.cost import CONNECTIONS, START_AND_END, rest
from benchmarks.websocket.stand import clients

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


class Sample(NamedTuple):
    """One round. quantiles: of `QUANTILES`, in seconds; failed: events without a good answer."""

    quantiles: tuple[float, ...]
    failed: int


Load = Callable[[Proxy], Sample]
"""Loads a proxy once, at a rate of its own."""


class Late(NamedTuple):
    """A proxy at that rate. quantiles: of `QUANTILES`; failed: events of all rounds without a good answer."""

    proxy: str
    quantiles: tuple[Range, ...]
    failed: int


class Group(NamedTuple):
    """Proxies at the same rate. plot: name of its file; empty for none."""

    title: str
    proxies: Sequence[Late]
    plot: str = ""


def events(rate: float, seconds: float) -> Load:
    """So many events per second."""

    def run(proxy: Proxy) -> Sample:
        result = on_uvloop(load.run(proxy.port, rate=rate, seconds=seconds))
        settle(proxy, 0)
        return Sample(tuple(map(result.quantile, QUANTILES)), len(result.failed))

    return run


def messages(rate: float, seconds: float, *, core: int, directory: Path) -> Load:
    """So many messages of sessions per second. A session that ends, or a message without its Pong, fails the run."""
    words = ("--connections", CONNECTIONS, "--rate", rate, "--seconds", seconds)

    def run(proxy: Proxy) -> Sample:
        with clients(proxy.port, *words, core=core, log=directory / "late.log") as loading:
            time.sleep(seconds)  # looking after them takes time from their core
            done = loading.wait(START_AND_END)
            rest(proxy)
        return Sample((done.p50, done.p99, done.p999), 0)

    return run


def measure(proxies: Sequence[Proxy], load: Load, *, rounds: int) -> list[Late]:
    """Load all of them in turn, so many rounds after one for warmth."""
    taken: dict[str, list[Sample]] = {proxy.name: [] for proxy in proxies}
    for number in range(rounds + 1):
        for proxy in proxies:
            sample = load(proxy)
            if number:
                taken[proxy.name].append(sample)
    return [_late(name, samples) for name, samples in taken.items()]


def _late(name: str, samples: Sequence[Sample]) -> Late:
    quantiles = tuple(map(Range.of, zip(*(one.quantiles for one in samples), strict=True)))
    return Late(name, quantiles, sum(one.failed for one in samples))


def part(groups: Sequence[Group]) -> Part:
    """The tables, and p99 of dual writes held against nginx's."""
    header = ["proxy", *(f"p{share * 100:g}" for share in QUANTILES), "failed"]
    found = Part({group.title: [one._asdict() for one in group.proxies] for group in groups})
    for group in groups:
        rows = [[one.proxy, *map(str, one.quantiles), str(one.failed)] for one in group.proxies]
        found.tables.append(Table(group.title, header, rows))
        found.targets += _targets({one.proxy: one for one in group.proxies})
        if group.plot:
            bars = [Bar(one.proxy, *(value * 1000 for value in one.quantiles[1])) for one in group.proxies]
            found.plots.append(Plot(group.plot, group.title, "p99 in ms", bars))
    return found


def _targets(found: dict[str, Late]) -> list[Target]:
    if not {DUAL, NGINX_MIRROR} <= found.keys():
        return []
    ours, peer = (found[name].quantiles[1].median for name in (DUAL, NGINX_MIRROR))
    ratio, failed = ours / peer, found[DUAL].failed
    measured = f"{ratio:.2f} ({ms(ours)} / {ms(peer)}), {failed} failed"
    name = f"dual write at half load: p99, ours / {NGINX_MIRROR}"
    return [Target(name, measured, f"≤ {P99_BOUND:g}, 0", ratio <= P99_BOUND and not failed)]
