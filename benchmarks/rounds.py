"""Rounds of load on several proxies in turn (A B A B ...), so that a slow minute of the machine strikes them all.

A round's figure is the CPU time of all the proxy's processes, per request that wrk saw answered.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from benchmarks import measure_wrk
from benchmarks.measure_wrk import USUAL, Load
from benchmarks.peers import Backend, Proxy
from benchmarks.processes import BenchmarkFailed, cpu_seconds, role, rss_bytes, wait_until

SETTLE: Final = 0.3
"""Seconds after the load in which a proxy's own last work (a group commit, a late copy) is still charged to it."""
RECEIPTS_TIMEOUT = 10.0
"""Seconds that the ledger's figures may lag behind: a group commit, a report to the supervisor, a busy core."""
LOSSY: Final = 0.99
"""Of the events, what a proxy that promises no copy must have copied: else it was cheap by leaving work out."""
SHARE_TOLERANCE: Final = 2.0
"""Percent points: the share of 10,000 keys that a hash sends to new may differ this much from the weight."""


class Round(NamedTuple):
    """One proxy under load once.

    cpu_us: microseconds per request, by_role: the same by process; share_new, copied: ratios seen at the backends;
    handed: ratio of the events that a worker left to the ledger, where that was asked; rss: bytes of all processes
    after the load.
    """

    proxy: str
    requests: int
    cpu_us: float
    rate: float
    p50: float
    p99: float
    errors: int
    share_new: float
    copied: float
    by_role: dict[str, float]
    handed: float = 0.0
    rss: int = 0


class Summary(NamedTuple):
    """All rounds of one proxy: medians, and the range of what is judged."""

    proxy: str
    rounds: int
    cpu_us: float
    cpu_us_min: float
    cpu_us_max: float
    rate: float
    p50: float
    p99: float
    errors: int
    share_new: float
    copied: float
    by_role: dict[str, float]
    handed: float = 0.0
    rss: int = 0


class Cpu:
    """CPU time that these processes spend from now on."""

    def __init__(self, pids: frozenset[int]) -> None:
        self._roles = {pid: role(pid) for pid in pids}
        self._start = {pid: cpu_seconds({pid}) for pid in pids}

    def per_event(self, events: int) -> dict[str, float]:
        """Microseconds per event by role, the costliest first."""
        spent: dict[str, float] = {}
        for pid, name in self._roles.items():
            spent[name] = spent.get(name, 0.0) + (cpu_seconds({pid}) - self._start[pid]) / events * 1e6
        return dict(sorted(spent.items(), key=lambda item: -item[1]))


def measure(proxy: Proxy, old: Backend, new: Backend, *, seconds: float, core: int, load: Load = USUAL) -> Round:
    """Load one proxy once; raises BenchmarkFailed when it did not do what it is there for."""
    pids = proxy.started.pids()
    receipts = proxy.admin.receipts() if proxy.admin else 0
    seen_old, seen_new, cpu = old.requests(), new.requests(), Cpu(pids)
    result = measure_wrk.run(proxy.port, seconds=seconds, core=core, load=load, tls=proxy.tls)
    time.sleep(SETTLE)
    settle(proxy, receipts + result.requests)
    spent = cpu.per_event(max(result.requests, 1))
    if proxy.started.pids() != pids:
        raise BenchmarkFailed(f"{proxy.name} lost or gained a process under load:\n{proxy.started.tail()}")
    seen_old, seen_new = old.requests() - seen_old, new.requests() - seen_new
    if result.requests == 0:
        raise BenchmarkFailed(f"{proxy.name} answered nothing:\n{proxy.started.tail()}")
    one = Round(
        proxy.name,
        result.requests,
        sum(spent.values()),
        result.rate,
        result.p50,
        result.p99,
        result.errors,
        share_new=seen_new / max(seen_old + seen_new, 1),
        copied=min(seen_old, seen_new) / result.requests if proxy.copies else 0.0,
        by_role=spent,
        rss=rss_bytes(pids),
    )
    check(proxy, one, loses=proxy.admin is None or proxy.durability == "off")
    return one


def settle(proxy: Proxy, receipts: int) -> None:
    """Ours: wait until the ledger has so many receipts and owes nobody anything; nothing may be lost or refused."""
    if proxy.admin is None:
        return
    admin = proxy.admin
    if proxy.durability != "off":
        wait_until(
            lambda: admin.receipts() >= receipts, f"{proxy.name} to write {receipts} receipts", timeout=RECEIPTS_TIMEOUT
        )
    wait_until(lambda: admin.balance()["pending"] == 0, f"{proxy.name} to deliver what it owes", timeout=60)
    balance = admin.balance()
    unsettled = balance["refused"] + balance["dead"] + (balance["lost"] if proxy.durability != "off" else 0)
    if unsettled:
        raise BenchmarkFailed(f"{proxy.name} has events that did not arrive: {balance}")


def check(proxy: Proxy, one: Round, *, loses: bool) -> None:
    """Raise BenchmarkFailed for a proxy that was cheap because it did something else. loses: it promises no copy."""
    if proxy.copies:
        # wrk cuts off what is in flight when it ends, so the backends may have seen a little more than it.
        if one.copied < (LOSSY if loses else 1.0):
            raise BenchmarkFailed(f"{proxy.name}: only {one.copied:.2%} of the events reached both backends")
        return
    chance = 300 * math.sqrt(proxy.share_new / 100 * (1 - proxy.share_new / 100) / one.requests)  # three sigmas
    if abs(one.share_new * 100 - proxy.share_new) > SHARE_TOLERANCE + chance:
        raise BenchmarkFailed(f"{proxy.name}: {one.share_new:.1%} of the events went to new, not {proxy.share_new:g}%")


def summarise(rounds: Sequence[Round]) -> Summary:
    """The rounds of one proxy as one line."""

    def median(values: list[float]) -> float:
        return float(statistics.median(values))

    cpu = [one.cpu_us for one in rounds]
    return Summary(
        rounds[0].proxy,
        len(rounds),
        median(cpu),
        min(cpu),
        max(cpu),
        median([one.rate for one in rounds]),
        median([one.p50 for one in rounds]),
        median([one.p99 for one in rounds]),
        sum(one.errors for one in rounds),
        median([one.share_new for one in rounds]),
        median([one.copied for one in rounds]),
        {name: median([one.by_role[name] for one in rounds]) for name in rounds[0].by_role},
        median([one.handed for one in rounds]),
        round(median([float(one.rss) for one in rounds])),
    )


def alternate(
    proxies: Sequence[Proxy], measure: Callable[[Proxy, float], Round], *, rounds: int, seconds: float
) -> list[Summary]:
    """As `in_turn`, summed up."""
    taken = in_turn(proxies, measure, rounds=rounds, seconds=seconds)
    return [summarise(one) for one in taken.values()]


def in_turn(
    proxies: Sequence[Proxy], measure: Callable[[Proxy, float], Round], *, rounds: int, seconds: float
) -> dict[str, list[Round]]:
    """Load every proxy once for warmth and then in turn, `rounds` times. measure: one load of so many seconds."""
    for proxy in proxies:
        measure(proxy, max(1.0, seconds / 3))
    taken: dict[str, list[Round]] = {proxy.name: [] for proxy in proxies}
    for _ in range(rounds):
        for proxy in proxies:
            taken[proxy.name].append(measure(proxy, seconds))
    return taken
