"""Proxies that did the same work: what each took per event, and the ratios that are promised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from benchmarks.peers import (
    AIOHTTP_DUAL,
    AIOHTTP_SPLIT,
    DUAL,
    DUAL_204,
    ENVOY_MIRROR,
    ENVOY_SPLIT,
    NGINX_MIRROR,
    NGINX_MIRROR_204,
    NGINX_SPLIT,
    SPLIT,
    SPLIT_CARRIED,
)
from benchmarks.plots import Bar
from benchmarks.report import Part, Plot, Table, Target, mib, ms
from benchmarks.rounds import Summary
from benchmarks.websocket.stand import TUNNEL, WEBSOCKETS


class Ratio(NamedTuple):
    """A promise: our CPU time per event over a peer's. plain: the bound of the checkout, where it is another."""

    ours: str
    peer: str
    bound: float
    plain: float | None = None


RATIOS: Final = {
    "split": (
        Ratio(SPLIT_CARRIED, NGINX_SPLIT, 1.10, plain=1.25),
        Ratio(SPLIT, NGINX_SPLIT, 1.10, plain=1.25),
        Ratio(SPLIT, ENVOY_SPLIT, 0.55),
        Ratio(SPLIT, AIOHTTP_SPLIT, 0.20),
    ),
    "dual": (
        Ratio(DUAL, NGINX_MIRROR, 0.60),
        Ratio(DUAL_204, NGINX_MIRROR_204, 1.40),
        Ratio(DUAL, ENVOY_MIRROR, 0.55),
        Ratio(DUAL, AIOHTTP_DUAL, 0.20),
    ),
    "window 32": (Ratio(DUAL, TUNNEL, 2.0), Ratio(DUAL, WEBSOCKETS, 0.22)),
    "window 1": (Ratio(DUAL, TUNNEL, 2.5), Ratio(DUAL, WEBSOCKETS, 0.45)),
}
THROUGHPUT_BOUND: Final = 3.0
"""Messages per second with a window, ours over the dual writer made of the `websockets` library."""
TRACED: Final = {share: f"{DUAL}, {share} traced" for share in ("0%", "1%", "100%")}
"""Names of ours with `tracing`, by the share of the events that is drawn."""
TRACED_BOUND: Final = 1.05
"""CPU time per event with 1 % of them traced, over that without tracing."""


class Group(NamedTuple):
    """Summaries of the same work; the first is what the others are held against in the table.

    promises: the name in `RATIOS`, if anything is promised of it; event: what one thing of that work is called.
    """

    title: str
    summaries: Sequence[Summary]
    promises: str = ""
    event: str = "event"

    def of(self, name: str) -> Summary | None:
        """The proxy's, if it took part."""
        return next((one for one in self.summaries if one.proxy == name), None)

    def table(self) -> Table:
        """All that is known of each."""
        header = ["proxy", f"CPU µs/{self.event} (min-max)", "ratio", f"{self.event}s/s", "p50", "p99", "memory", "did"]
        rows = [_cells(one, self.summaries[0]) for one in self.summaries]
        return Table(self.title, [*header, "errors", "of which"], rows)

    def targets(self, *, is_plain: bool = False) -> list[Target]:
        """The ratios of those that took part. Client errors of ours spoil a ratio."""
        found = []
        for ratio in RATIOS.get(self.promises, ()):
            ours, peer = self.of(ratio.ours), self.of(ratio.peer)
            if ours is not None and peer is not None:
                bound = ratio.plain if is_plain and ratio.plain is not None else ratio.bound
                found.append(self._target(ours, peer, bound))
        return found

    def _target(self, ours: Summary, peer: Summary, bound: float) -> Target:
        ratio = ours.cpu_us / peer.cpu_us
        measured = f"{ratio:.2f} ({ours.cpu_us:.1f} / {peer.cpu_us:.1f} µs), {ours.errors} client errors"
        name = f"{self.title}: CPU per {self.event}, {ours.proxy} / {peer.proxy}"
        return Target(name, measured, f"≤ {bound:.2f}, 0", ratio <= bound and not ours.errors)

    def throughput(self) -> list[Target]:
        """Ours over the dual writer made of the `websockets` library, in messages per second."""
        ours, peer = self.of(DUAL), self.of(WEBSOCKETS)
        if ours is None or peer is None:
            return []
        ratio = ours.rate / peer.rate
        measured = f"{ratio:.2f} ({ours.rate:.0f} / {peer.rate:.0f} {self.event}s/s)"
        name = f"{self.title}: throughput, ours / {peer.proxy}"
        return [Target(name, measured, f"≥ {THROUGHPUT_BOUND:g}", ratio >= THROUGHPUT_BOUND)]

    def traces(self) -> list[Target]:
        """Ours with 1 % of the events traced over ours without tracing."""
        some, without = self.of(TRACED["1%"]), self.of(DUAL)
        if some is None or without is None:
            return []
        ratio = some.cpu_us / without.cpu_us
        measured = f"{ratio:.3f} ({some.cpu_us:.1f} / {without.cpu_us:.1f} µs), {some.errors} client errors"
        met = ratio < TRACED_BOUND and not some.errors
        return [Target(f"1 % traced: CPU per {self.event}, with / without", measured, f"< {TRACED_BOUND:g}, 0", met)]

    def plot(self, name: str) -> Plot:
        """CPU time of each."""
        bars = [Bar(one.proxy, one.cpu_us, one.cpu_us_min, one.cpu_us_max) for one in self.summaries]
        return Plot(name, self.title, f"CPU time of all processes, µs per {self.event}", bars)


def part(groups: dict[str, Group], *, is_plain: bool = False, plots: Sequence[str] = ()) -> Part:
    """Groups by name as a part of the report. plots: names of those that get one."""
    return Part(
        {name: [one._asdict() for one in group.summaries] for name, group in groups.items()},
        [group.table() for group in groups.values()],
        [target for group in groups.values() for target in group.targets(is_plain=is_plain)],
        [groups[name].plot(name.replace(" ", "-")) for name in plots],
    )


def by_role(cpu_us: dict[str, float]) -> str:
    """Microseconds of each process, for a person."""
    return ", ".join(f"{name} {spent:.1f}" for name, spent in cpu_us.items())


def _cells(one: Summary, first: Summary) -> list[str]:
    did = f"{one.copied:.1%} copied" if one.copied else f"{one.share_new:.1%} to new"
    if one.handed:
        did += f", {one.handed:.1%} by the ledger"
    return [
        one.proxy,
        f"{one.cpu_us:.1f} ({one.cpu_us_min:.1f}-{one.cpu_us_max:.1f})",
        f"{one.cpu_us / first.cpu_us:.2f}",
        f"{one.rate:.0f}",
        ms(one.p50),
        ms(one.p99),
        mib(one.rss),
        did,
        str(one.errors),
        by_role(one.by_role),
    ]
