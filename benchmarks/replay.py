"""The copy's backend was away: how fast does it get what it is owed, beside what comes live?

live load   ->   new is killed   ->   load until so much is owed   ->   new is there again   ->   nothing is owed
events/s                                                               seconds until the first of it, and to the last
"""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from benchmarks import measure_wrk, rounds
from benchmarks.peers import Backend, Proxy
from benchmarks.processes import BenchmarkFailed, wait_until
from benchmarks.report import Part, Table, Target
from benchmarks.rounds import Cpu

REPLAY_BOUND: Final = 2.0
"""Owed events per second over live ones."""
_LOOK_EVERY: Final = 0.05
_FIRST_TIMEOUT: Final = 90.0
"""Seconds until the ledger tries again: the default of `ledger.retry_max` is 30."""


class ReplayResult(NamedTuple):
    """live: events per second that clients sent while both were there; waited: seconds from when new was there again
    until it had the first; seconds: from then until it had all; cpu_us: of all processes, per owed event."""

    owed: int
    live: float
    waited: float
    seconds: float
    cpu_us: float

    @property
    def rate(self) -> float:
        """Owed events per second."""
        return self.owed / self.seconds


def run(proxy: Proxy, old: Backend, new: Backend, *, owed: int, seconds: float, core: int) -> ReplayResult:
    """Play the story above; seconds: of a load."""
    if proxy.admin is None:
        raise BenchmarkFailed(f"{proxy.name} has no ledger")
    live = rounds.measure(proxy, old, new, seconds=seconds, core=core)
    new.started.stop()
    while proxy.admin.balance()["pending"] < owed:
        done = measure_wrk.run(proxy.port, seconds=seconds, core=core)
        if done.errors:
            raise BenchmarkFailed(f"{proxy.name} answered {done.errors} errors while new was away")
    waiting = _settled(proxy)
    new.start()
    cpu, begun = Cpu(proxy.started.pids()), time.perf_counter()
    first, last = _watch(proxy, waiting, begun)
    if new.requests() < waiting:
        raise BenchmarkFailed(f"new has {new.requests()} of {waiting} events that it was owed")
    spent = sum(cpu.per_event(waiting).values())
    return ReplayResult(waiting, live.rate, first, last - first, spent)


def _settled(proxy: Proxy) -> int:
    """How many are owed, once the figures no longer change: they are up to 0.3 s old."""
    assert proxy.admin is not None
    seen, before = proxy.admin.balance()["pending"], -1
    while seen != before:
        time.sleep(1.0)
        seen, before = proxy.admin.balance()["pending"], seen
    return seen


def _watch(proxy: Proxy, waiting: int, begun: float) -> tuple[float, float]:
    """Seconds from `begun` until fewer wait, and until none does."""
    admin = proxy.admin
    assert admin is not None
    timeout = _FIRST_TIMEOUT
    wait_until(lambda: admin.balance()["pending"] < waiting, "the first owed event", timeout=timeout)
    first = time.perf_counter() - begun
    while admin.balance()["pending"]:
        if time.perf_counter() - begun > timeout + waiting / 1000:
            raise BenchmarkFailed(f"{admin.balance()['pending']} of {waiting} are still owed")
        time.sleep(_LOOK_EVERY)
    return first, time.perf_counter() - begun


def part(one: ReplayResult) -> Part:
    """The rates beside each other."""
    ratio = one.rate / one.live
    header = ["owed", "live", "owed, from the first on", "until the first", "CPU µs/owed event"]
    row = [str(one.owed), f"{one.live:.0f}/s", f"{one.rate:.0f}/s", f"{one.waited:.1f} s", f"{one.cpu_us:.1f}"]
    measured = f"{ratio:.2f} ({one.rate:.0f} / {one.live:.0f} events/s)"
    target = Target("replay after an outage: rate / live", measured, f"≥ {REPLAY_BOUND:g}", ratio >= REPLAY_BOUND)
    return Part(one._asdict(), [Table("Replay after an outage", header, [row])], [target])
