"""What is promised of everything but ratios between proxies, and the results held against it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Final

from benchmarks.attacked import Measured
from benchmarks.commands import StartResult, WeightResult
from benchmarks.costs import by_role
from benchmarks.exposition import ExpositionResult
from benchmarks.latency import Range
from benchmarks.observed import CONSOLES, DATA_PLANE, ObservedResult
from benchmarks.opened import ClientsResult
from benchmarks.report import KIB, MIB, Part, Table, Target, mib, ms
from benchmarks.stalled import StalledResult
from benchmarks.websocket.idle import IdleResult

STALLED_BOUND: Final = 0.010
"""Seconds that clients' p99 may be above that of the healthy run."""
RSS_BOUND: Final = 128 * MIB
WEIGHT_BOUND: Final = 0.050
HELP_BOUND: Final = 0.100
ATTACKED_BOUND: Final = 1.2
"""p99 of healthy clients of an attacked proxy over that of the same proxy beside it; or what it is with nginx."""
IDLE_BOUND: Final = 12 * KIB
CLIENT_BOUND: Final = 4 * KIB
IDLE_LATENCY_BOUND: Final = 0.001
"""Seconds that p99 of requests may be later with idle sessions beside them; rounds of the same differ as well."""
IDLE_CPU_BOUND: Final = 1.1
"""CPU time of a request with idle sessions beside it over that of one alone: Pings that keep them open are in it."""
EXPOSITION_BOUND: Final = 0.020
ERRORS_BOUND: Final = 0.001
OBSERVED_BOUND: Final = 1.03
"""The data plane's CPU time per event while three consoles and a Prometheus look, over without."""


def stalled(name: str, latency: str, events: str, pairs: Sequence[StalledResult]) -> Part:
    """A copy's backend that was away, so many times. latency: of what; events: what came meanwhile."""
    added = Range.of([one.stalled_p99 - one.healthy_p99 for one in pairs])
    growth = max(one.rss_stalled for one in pairs) - pairs[0].rss_healthy
    lost, failed = sum(one.lost for one in pairs), sum(one.failed for one in pairs)
    targets = [
        Target(
            f"{name}: {latency} p99, added to that of a healthy load before it",
            str(added),
            f"≤ {ms(STALLED_BOUND)}",
            added.median <= STALLED_BOUND,
        ),
        Target(f"{name}: {events}", f"{lost} lost, {failed} failed", "0, 0", not lost and not failed),
        Target(f"{name}: memory gained in all", mib(growth), f"≤ {mib(RSS_BOUND)}", growth <= RSS_BOUND),
    ]
    rows = []
    for number, one in enumerate(pairs, 1):
        healthy = [ms(one.healthy_p50), ms(one.healthy_p99), mib(one.rss_healthy), by_role(one.healthy_cpu)]
        away = [ms(one.stalled_p50), ms(one.stalled_p99), mib(one.rss_stalled), by_role(one.stalled_cpu)]
        rows += [[f"{number}, healthy", *healthy], [f"{number}, away", *away]]
    title = f"{name}, {pairs[0].rate:.0f} {events}/s in an open loop, {sum(one.events for one in pairs)} {events}"
    header = ["", "p50", "p99", "memory", f"CPU µs/{events.removesuffix('s')}"]
    note = f"Lost {lost}, failed {failed}, delivered twice {sum(one.duplicates for one in pairs)}."
    return Part([one._asdict() for one in pairs], [Table(title, header, rows, note)], targets)


def weight(one: WeightResult) -> Part:
    """Changes of the weight under load."""
    met = one.worst < WEIGHT_BOUND and not one.errors
    measured = f"{ms(one.worst)}, {one.errors} client errors"
    name = f"weight change on all workers, worst of {one.changes}"
    return Part(one._asdict(), targets=[Target(name, measured, f"< {ms(WEIGHT_BOUND)}, 0", met)])


def start(one: StartResult) -> Part:
    """Start-up and the command line."""
    rows = [
        ["`proxyctl run`, until it is ready", ms(one.ready)],
        ["the same, until the first event has its answer", ms(one.first_answer)],
        ["`proxyctl --help`, warm", ms(one.help)],
        ["`proxyctl --help`, files not in memory", ms(one.help_cold)],
    ]
    target = Target("proxyctl --help", ms(one.help), f"< {ms(HELP_BOUND)}", one.help < HELP_BOUND)
    return Part(one._asdict(), [Table(f"Start, medians of {one.starts}", ["", "took"], rows)], [target])


def idle(one: IdleResult) -> Part:
    """Sessions in which nothing happens."""
    name = f"{one.sessions} idle sessions"
    targets = [
        _memory(f"{name}: memory of each", one.bytes_per_session, IDLE_BOUND),
        Target(
            f"{name}: CPU time of a request beside them, and alone",
            f"{one.dearer:.3f}, {one.failed} failed",
            f"≤ {IDLE_CPU_BOUND:.2f}, 0",
            one.dearer <= IDLE_CPU_BOUND and not one.failed,
        ),
        Target(
            f"{name}: p99 beside them, less that beside as many connections of others",
            ms(one.later),
            f"≤ {ms(IDLE_LATENCY_BOUND)}",
            one.later <= IDLE_LATENCY_BOUND,
        ),
    ]
    parts = {
        "nothing": (one.alone, mib(one.rss_without)),
        "as many connections that are not the proxy's": (one.others, ""),
        f"{one.sessions} sessions": (one.beside, mib(one.rss_with)),
    }
    rows = []
    for what, (rounds, memory) in parts.items():
        p50, p99, cpu, _ = (median(values) for values in zip(*rounds, strict=True))
        rows.append([what, ms(p50), ms(p99), f"{cpu * 1e6:.1f} µs", memory])
    title = f"{one.rate:.0f} requests/s and {name}, medians of {len(one.alone)} rounds"
    kept = one._asdict()
    for part in ("alone", "others", "beside"):
        kept[part] = [requests._asdict() for requests in kept[part]]
    return Part(kept, [Table(title, ["beside them", "p50", "p99", "CPU", "memory"], rows)], targets)


def clients(found: Sequence[ClientsResult]) -> Part:
    """Clients that are connected and send little, of so many instances."""
    name, sizes = f"{found[0].clients} connected clients", [one.bytes_per_client for one in found]
    p99, spread = Range.of([one.p99 for one in found]), f" ({_kib(min(sizes))}-{_kib(max(sizes))})"
    return Part(
        [one._asdict() for one in found],
        targets=[
            _memory(f"{name}: memory of each", median(sizes), CLIENT_BOUND, spread),
            errors(
                f"{name}, {found[0].rate:.0f} events/s by all in turn, p99 {p99}",
                sum(one.failed for one in found),
                sum(one.events for one in found),
            ),
        ],
    )


def _memory(name: str, size: float, bound: int, spread: str = "") -> Target:
    return Target(name, f"{_kib(size)} KiB{spread}", f"≤ {bound / KIB:.0f} KiB", size <= bound)


def _kib(size: float) -> str:
    return f"{size / KIB:.1f}"


def errors(name: str, failed: int, events: int) -> Target:
    """A share of the events that were sent."""
    share = failed / max(events, 1)
    met = bool(events) and share < ERRORS_BOUND
    return Target(name, f"{share:.3%} errors of {events}", f"< {ERRORS_BOUND:.1%} errors", met)


def attacked(found: dict[str, dict[str, Measured]]) -> Part:
    """By kind of attack and name of the proxy."""
    targets, rows = [], []
    for kind, proxies in found.items():
        ours, nginx = proxies["crossfade"].ratio, proxies["nginx"].ratio
        bound = max(ATTACKED_BOUND, nginx)
        name = f"{kind}: p99 of others, attacked / beside it"
        targets.append(Target(name, f"{ours:.2f}", f"≤ {bound:.2f}", ours <= bound))
        for proxy, one in proxies.items():
            cells = [*map(ms, one.p99), f"{one.ratio:.2f}", f"{one.cpu[0]:.1%}, {one.cpu[1]:.1%}"]
            rows.append([f"{kind}, {proxy}", *cells])
    header = ["attack, proxy", "p99 attacked", "p99 beside it", "ratio", "processor of the two"]
    figures = {kind: {name: one._asdict() for name, one in proxies.items()} for kind, proxies in found.items()}
    return Part(figures, [Table("Under slowhttptest, 20 new attackers a second", header, rows)], targets)


def exposition(one: ExpositionResult) -> Part:
    """A scrape where there are many routes."""
    name = f"exposition of {one.routes} routes, median of {one.scrapes}"
    measured = f"{ms(one.seconds)} (worst {ms(one.worst)}; {ms(one.cpu)} of CPU; {one.lines:,} lines)"
    return Part(
        one._asdict(), targets=[Target(name, measured, f"< {ms(EXPOSITION_BOUND)}", one.seconds < EXPOSITION_BOUND)]
    )


def observed(one: ObservedResult) -> Part:
    """Somebody looks, and nobody does."""
    ratios = f"{one.ratio:.3f} ({one.seen:.1f} / {one.alone:.1f} µs; {one.ratio_min:.3f} to {one.ratio_max:.3f})"
    name = f"{' and '.join(DATA_PLANE)}: CPU per event, looked at / not"
    target = Target(name, ratios, f"≤ {OBSERVED_BOUND:g}", one.ratio <= OBSERVED_BOUND)
    rows = [["nobody looks", by_role(one.by_role_alone)], ["looked at", by_role(one.by_role_seen)]]
    title = f"{CONSOLES} consoles and a scrape each second, {one.pairs} pairs of rounds"
    note = f"Each console got at least {one.told:.1f} snapshots/s; {one.scrapes} scrapes."
    return Part(one._asdict(), [Table(title, ["", "CPU µs/event"], rows, note)], [target])
