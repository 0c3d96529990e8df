"""A soak: what the instance itself sees of new over an hour in which the weight stays, held against limits.

Figures are read every ten seconds, and judged at the end; the sums are differences between the end and the beginning,
memory is a line through all readings. What both services take comes from a Prometheus, where one is named.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from config.gates import Gate, Soak
from proxy.control.gate_calls import GateCalls
from proxy.control.instance import Instance
from proxy.control.resources import LOOK, READINGS, Usage
from proxy.core.event import NEW, OLD
from proxy.core.gate import NO, NO_ANSWER, YES
from proxy.core.sketch import Sketch

WARM: Final = 0.1
"""Share of the time whose readings of memory are left out: caches and pools fill up."""
ENOUGH: Final = 20
"""Answers without which there is no p95."""
SLOWER_BY: Final = 0.01
"""Seconds by which new's p95 may be above old's in any case."""


class Reading(NamedTuple):
    """Sums at a moment. at: seconds on the clock; answered, failed: by new; latencies: by side, of all answers; owed,
    delivered: events of new by the record, None while it says nothing; observed, down: seconds; memory: bytes of all
    workers; restarts: of workers.
    """

    at: float
    answered: int
    failed: int
    latencies: tuple[Sketch, Sketch]
    owed: int | None
    delivered: int | None
    observed: float
    down: float
    memory: int
    restarts: int


class Soaking:
    """One soak under way. read: the figures now; usage: of both services, where it has a say."""

    def __init__(
        self,
        limits: Soak,
        read: Callable[[], Reading],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        usage: Usage | None = None,
    ) -> None:
        self._limits = limits
        self._read = read
        self._usage = usage
        self._sleep = sleep
        self._first = read()
        self._memory: list[tuple[float, float]] = []
        """Seconds since the beginning, and bytes."""
        self._last = self._first

    @property
    def progress(self) -> str:
        """How far it is."""
        return f"soaks for {self._last.at - self._first.at:.0f} of {self._limits.lasts:g} s"

    async def run(self) -> tuple[str, str]:
        """Until it is over; the answer and what was seen."""
        await self._read_usage()
        while (left := self._first.at + self._limits.lasts - self._last.at) > 0:
            await self._sleep(min(LOOK, self._limits.lasts / READINGS, left))
            self._last = self._read()
            since = self._last.at - self._first.at
            if since >= WARM * self._limits.lasts:
                self._memory.append((since, float(self._last.memory)))
            await self._read_usage()
        own = judged(self._limits, self._first, self._last, growth(self._memory))
        return own if self._usage is None else both(own, self._usage.judged())

    async def _read_usage(self) -> None:
        if self._usage is not None:
            await self._usage.read((self._last.at - self._first.at) / self._limits.lasts)


def both(own: tuple[str, str], theirs: tuple[str, str]) -> tuple[str, str]:
    """One answer of two, with what belongs to it: a no of either, else no answer of either, else yes."""
    answer = next(each for each in (NO, NO_ANSWER, YES) if each in (own[0], theirs[0]))
    return answer, "; ".join(text for each, text in (own, theirs) if each == answer)


def judged(limits: Soak, first: Reading, last: Reading, growth: float | None) -> tuple[str, str]:
    """The answer, and what is not within its limit or else what was seen. growth: of memory, bytes in an hour."""
    answered, failed = last.answered - first.answered, last.failed - first.failed
    if answered < ENOUGH:
        return NO_ANSWER, f"new gave {answered} answers; it takes {ENOUGH}"
    if growth is None:
        return NO_ANSWER, "memory was not read often enough"
    old, new = (after.since(before) for before, after in zip(first.latencies, last.latencies, strict=True))
    p95, limit = new.quantile(0.95), _limit(limits, old)
    share, seconds = _share(first, last), last.observed - first.observed
    if share is None or new.count < ENOUGH or seconds <= 0:
        return NO_ANSWER, _unknown(new, share)
    served, errors = 1 - (last.down - first.down) / seconds, failed / answered
    restarts = last.restarts - first.restarts
    wrong = [
        text
        for is_wrong, text in (
            (errors > limits.error_rate, f"errors {errors:.3%}, limit {limits.error_rate:.3%}"),
            (
                limit is not None and p95 > limit,
                f"p95 {p95 * 1000:.1f} ms, limit {(limit or 0) * 1000:.1f} ms",
            ),
            (
                share < limits.throughput,
                f"got {share:.1%} of what it is owed, limit {limits.throughput:.1%}",
            ),
            (served < limits.availability, f"available {served:.3%}, limit {limits.availability:.3%}"),
            (restarts > 0, f"{restarts} workers were restarted"),
            (
                growth > limits.memory_growth,
                f"memory grows by {_mib(growth)} in an hour, limit {_mib(limits.memory_growth)}",
            ),
        )
        if is_wrong
    ]
    if wrong:
        return NO, "; ".join(wrong)
    if limit is None:
        return NO_ANSWER, "old gave too few answers to hold new's p95 against: give `p95`"
    return YES, (
        f"{answered:,} answers, errors {errors:.3%}, p95 {p95 * 1000:.1f} ms, got {share:.1%} of what it is owed, "
        f"available {served:.3%}, memory {_mib(growth)} in an hour"
    )


def _share(first: Reading, last: Reading) -> float | None:
    """Of what new was owed in between, how much it got; 1 where it was owed nothing, None where that is not known."""
    if first.owed is None or last.owed is None or first.delivered is None or last.delivered is None:
        return None
    owed, delivered = last.owed - first.owed, last.delivered - first.delivered
    if owed < 0 or delivered < 0:
        return None  # another record
    return min(1.0, delivered / owed) if owed else 1.0


def _unknown(new: Sketch, share: float | None) -> str:
    """What is not known of the time, so that nothing can be said."""
    if new.count < ENOUGH:
        return f"new's latency is known of {new.count} answers; it takes {ENOUGH}"
    if share is None:
        return "the ledger did not say what new is owed, at the beginning or at the end"
    return "nobody looked whether clients could be served"


def _limit(limits: Soak, old: Sketch) -> float | None:
    """Of new's p95; None where neither is given nor old answered enough."""
    if limits.p95 is not None:
        return limits.p95
    if old.count < ENOUGH:
        return None
    against = old.quantile(0.95)
    return against + max(against * limits.slower, SLOWER_BY)


def growth(memory: list[tuple[float, float]]) -> float | None:
    """Bytes in an hour: the slope of the line through readings, by least squares; None for fewer than three of them."""
    if len(memory) < 3:
        return None
    middle = sum(at for at, _ in memory) / len(memory)
    mean = sum(size for _, size in memory) / len(memory)
    spread = sum((at - middle) ** 2 for at, _ in memory)
    return 3600 * sum((at - middle) * (size - mean) for at, size in memory) / spread if spread else None


def _mib(size: float) -> str:
    return f"{size / 2**20:.1f} MiB"


def reading(instance: Instance, route: str) -> Reading:
    """The figures of a route now."""
    tally = instance.tally
    answered, failed = tally.answered(route, NEW)
    sides = tally.ledger.sides if tally.ledger is not None else []
    balance = next((each.balance for each in sides if (each.route, each.side) == (route, NEW)), {})
    present = [stats for _, stats in tally.present()]
    slots = [tally.slot(index) for index in range(instance.settings.workers)]
    return Reading(
        at=instance.clock(),
        answered=answered,
        failed=failed,
        latencies=(tally.latencies(route, OLD), tally.latencies(route, NEW)),
        owed=balance.get("owed"),
        delivered=balance.get("delivered"),
        observed=instance.availability.observed,
        down=instance.availability.down,
        memory=sum(stats.rss_bytes for stats in present),
        restarts=sum(slot.restarts for slot in slots if slot is not None),
    )


def soaking(instance: Instance, gate: Gate, route: str, calls: GateCalls) -> Soaking:
    """The soak of a gate for a route, from now on."""
    assert gate.soak is not None
    usage, resources = None, gate.soak.resources
    if resources is not None:
        is_recorded = resources.against == "baseline"
        recorded = instance.baselines.resources(route, gate.name, resources.queries) if is_recorded else {}
        usage = Usage(resources, calls.value, recorded)
    return Soaking(gate.soak, lambda: reading(instance, route), usage=usage)
