"""The copy's backend is away at half load. What do clients feel, and what is missing later?

    healthy load   ->   new is harmed   ->   the same load   ->   new is healed   ->   the ledger drains
       p99                                   p99, memory                               every id at both backends?

A stopped nginx is a stalled backend in its purest form: the kernel goes on accepting its connections and bytes. A dead
one refuses them.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import uvloop

from benchmarks import load
from benchmarks.peers import Backend, Proxy
from benchmarks.processes import BenchmarkFailed, rss_bytes, wait_until
from benchmarks.rounds import Cpu

DRAIN_TIMEOUT: Final = 120.0


class Harm(NamedTuple):
    """What is done to a backend, and how it gets well again."""

    harm: Callable[[Backend], None]
    heal: Callable[[Backend], None]


STOPPED: Final = Harm(
    lambda backend: backend.started.signal_all(signal.SIGSTOP),
    lambda backend: backend.started.signal_all(signal.SIGCONT),
)
DEAD: Final = Harm(Backend.stop, Backend.start)


class StalledResult(NamedTuple):
    """Latencies in seconds; cpu: microseconds per event by process; rss in bytes, all processes.

    lost: accepted ids that a backend never got; duplicates: deliveries beyond the first of each.
    """

    rate: float
    events: int
    healthy_p50: float
    healthy_p99: float
    stalled_p50: float
    stalled_p99: float
    healthy_cpu: dict[str, float]
    stalled_cpu: dict[str, float]
    rss_healthy: int
    rss_stalled: int
    failed: int
    lost: int
    duplicates: int


def run(proxy: Proxy, old: Backend, new: Backend, *, rate: float, seconds: float, harm: Harm) -> StalledResult:
    """Play the story above with `seconds` of load in each of its two parts."""
    pids = proxy.started.pids()
    healthy, healthy_cpu, rss_healthy = _load(proxy, pids, rate, seconds)
    harm.harm(new)
    try:
        stalled, stalled_cpu, rss_stalled = _load(proxy, pids, rate, seconds)
    finally:
        harm.heal(new)
    accepted = healthy.accepted + stalled.accepted
    drain(proxy)
    lost, duplicates = compare(accepted, old.ids_log, new.ids_log)
    return StalledResult(
        rate,
        len(accepted),
        healthy.quantile(0.5),
        healthy.quantile(0.99),
        stalled.quantile(0.5),
        stalled.quantile(0.99),
        healthy_cpu,
        stalled_cpu,
        rss_healthy,
        rss_stalled,
        failed=len(healthy.failed) + len(stalled.failed),
        lost=lost,
        duplicates=duplicates,
    )


def _load(
    proxy: Proxy, pids: frozenset[int], rate: float, seconds: float
) -> tuple[load.LoadResult, dict[str, float], int]:
    """One part of the story; also the CPU time per event and the most memory that was seen."""
    cpu = Cpu(pids)
    seen: list[int] = [rss_bytes(pids)]
    watch: Callable[[], None] = lambda: seen.append(rss_bytes(pids))  # noqa: E731 - typed, and used once
    work: Any = load.run(proxy.port, rate=rate, seconds=seconds, watch=watch)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result: load.LoadResult = runner.run(work)
    return result, cpu.per_event(max(result.answers, 1)), max(seen)


def drain(proxy: Proxy) -> None:
    """Wait until the ledger owes nobody anything."""
    if proxy.admin is None:
        raise BenchmarkFailed(f"{proxy.name} has no ledger that could drain")
    admin = proxy.admin
    wait_until(lambda: admin.balance()["pending"] == 0, "the ledger to drain", timeout=DRAIN_TIMEOUT)


def logged_ids(path: Path) -> Counter[str]:
    """How often each id was stored, from a backend's log; an unfinished last line does not count."""
    return Counter(path.read_text().rpartition("\n")[0].split("\n"))


def compare(accepted: list[str], old: Path, new: Path) -> tuple[int, int]:
    """How many accepted ids one of the backends' logs lacks, and how many deliveries were surplus.

    The backends' logs are buffered for a moment, so what lacks is only believed after a while.
    """
    wanted = set(accepted)

    def lacking() -> int:
        return len(wanted - logged_ids(old).keys()) + len(wanted - logged_ids(new).keys())

    try:
        wait_until(lambda: lacking() == 0, "every id at both backends", timeout=5)
    except BenchmarkFailed:
        return lacking(), 0
    counts = [logged_ids(log) for log in (old, new)]
    return 0, sum(count[one] - 1 for count in counts for one in wanted)
