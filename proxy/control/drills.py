"""The drills of an instance: which copies fail at the moment, since when, and what the guard made of it.

    begin --audit--> SetFaults --> workers, ledger      ... seconds, or `end` ...
    --> SetFaults without it --> the last reports of what it failed --> over, audit

Nothing of it is kept on disk: a supervisor that starts tells everybody that there is no drill, and without one each
process ends the fault by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from proxy.control.audit import Audit, Entry, iso
from proxy.control.changes import OWN_ACTOR, Who
from proxy.control.link import STATS_INTERVAL
from proxy.control.peers import Peers
from proxy.core.drill import Fault, is_allowed
from proxy.core.errors import BadChange, Drilled

log = logging.getLogger(__name__)

LAST_REPORTS: Final = 2 * STATS_INTERVAL
"""Seconds after its end in which failures of a drill may still be told of."""


@dataclass
class Drill:
    """One drill. began_at, ended_at: seconds since 1970, 0.0 before; begun, since: monotonic seconds.

    noticed: seconds until the guard saw cause for a revert, and cause: which; None before. reverted: the epoch of the
    revert, if there was a weight to take back.
    """

    route: str
    fault: Fault
    actor: str
    reason: str
    began_at: float
    begun: float
    ended_at: float = 0.0
    noticed: float | None = None
    cause: str | None = None
    reverted: int | None = None
    is_over: bool = False
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    stopped_by: str = ""


class Drills:
    """clock: monotonic seconds; wall: seconds since 1970; epoch: the present one; counters: the supervisor's own."""

    def __init__(
        self,
        audit: Audit,
        peers: Peers,
        counters: Counter[str],
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
        epoch: Callable[[], int],
    ) -> None:
        self._audit = audit
        self._peers = peers
        self._counters = counters
        self._clock = clock
        self._wall = wall
        self._epoch = epoch
        self._drills: dict[str, Drill] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns: Counter[str] = Counter()

    def of(self, route: str) -> Drill | None:
        """The last one of a route."""
        return self._drills.get(route)

    def running(self, route: str) -> Drill | None:
        """The one that is under way, with what it failed not told of yet."""
        found = self._drills.get(route)
        return found if found is not None and not found.is_over else None

    def turns(self, route: str) -> int:
        """How often a drill of a route began or ended: what was seen before says nothing of what is now."""
        return self._turns[route]

    def allow(self, route: str, action: str, *, is_lower: bool = False) -> None:
        """Raises Drilled where a drill stands against this change. is_lower: the weight would be less."""
        found = self.running(route)
        if found is not None and not is_allowed(action, is_lower=is_lower):
            raise Drilled(f"{said_of(found)}; a rollback is allowed", route)

    async def begin(self, route: str, fault: Fault, who: Who) -> Drill:
        """Audit, then effect. Whoever calls it is alone (`Changes.one_at_a_time`). Raises BadChange, OSError."""
        self.check(route)
        epoch = self._epoch()
        evidence = {"fault": fault.kind, "seconds": fault.seconds, "delay": fault.delay}
        entry = Entry("", epoch, epoch, who.actor, "drill", route, reason=who.reason, evidence=evidence)
        await self._audit.write(entry)
        found = Drill(route, fault, who.actor, who.reason, self._wall(), self._clock())
        self._drills[route] = found
        self._turns[route] += 1
        self._tell()
        log.warning("a drill fails copies", extra={"route": route, "fault": fault.kind, "seconds": fault.seconds})
        task = asyncio.create_task(self._run(found))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return found

    def check(self, route: str) -> None:
        """Raises BadChange while there is one."""
        found = self.running(route)
        if found is not None:
            raise BadChange(f"{said_of(found)} already")

    def end(self, route: str, actor: str) -> Drill | None:
        """End the one of a route now; the last one. It is over a moment later."""
        found = self.running(route)
        if found is not None and not found.stop.is_set():
            found.stopped_by = actor
            found.stop.set()
        return self.of(route)

    def noticed(self, route: str, cause: str, now: float) -> None:
        """The guard sees cause for a revert. now: monotonic seconds."""
        found = self.running(route)
        if found is not None and found.noticed is None:
            found.noticed, found.cause = round(now - found.begun, 3), cause

    def reverted(self, route: str, epoch: int) -> None:
        """It has reverted the route."""
        found = self.running(route)
        if found is not None:
            found.reverted = epoch

    async def close(self) -> None:
        """End all of them at once; what they failed is delivered by then or later."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, found: Drill) -> None:
        try:
            async with asyncio.timeout(found.fault.seconds):
                await found.stop.wait()
        except TimeoutError:
            pass
        found.ended_at = self._wall()
        self._tell()
        await asyncio.sleep(LAST_REPORTS + found.fault.delay)
        found.is_over = True
        self._turns[found.route] += 1
        log.warning("the drill is over", extra={"route": found.route})
        actor, epoch = found.stopped_by or OWN_ACTOR, self._epoch()
        entry = Entry(
            "", epoch, epoch, actor, "drill-ended", found.route, reason=said_of_end(found), evidence=outcome(found)
        )
        try:
            await self._audit.write(entry)
        except OSError as error:
            self._counters["drills_not_kept"] += 1
            log.warning("the end of a drill could not be written: %s", error, extra={"route": found.route})

    def _tell(self) -> None:
        """Give everybody the faults that hold now."""
        now = self._clock()
        self._peers.set_faults(
            {
                each.route: Fault(each.fault.kind, max(0.0, each.begun + each.fault.seconds - now), each.fault.delay)
                for each in self._drills.values()
                if not each.ended_at
            }
        )


def said_of(found: Drill) -> str:
    """A drill in words."""
    reason = f": {found.reason}" if found.reason else ""
    until = iso(found.began_at + found.fault.seconds)
    return f"a drill of {found.actor} fails the copies of {found.route} ({found.fault.kind}) until {until}{reason}"


def said_of_cause(found: Drill) -> str:
    """One that led to a revert, in words that stay true: the latch outlasts it."""
    reason = f": {found.reason}" if found.reason else ""
    return f"a drill of {found.actor} failed the copies of {found.route} ({found.fault.kind}){reason}"


def said_of_end(found: Drill) -> str:
    """One that is over, and what came of it, in words."""
    text = f"the copies failed ({found.fault.kind}) for {found.ended_at - found.began_at:.0f} s"
    if found.noticed is None:
        return f"{text}, and the guard saw no cause for a revert"
    reverted = f", and reverted (epoch {found.reverted})" if found.reverted is not None else ""
    return f"{text}; the guard saw it after {found.noticed:.2f} s{reverted}: {found.cause}"


def outcome(found: Drill) -> dict[str, Any]:
    """What became of it, for the audit trail."""
    return {
        "fault": found.fault.kind,
        "seconds": round(found.ended_at - found.began_at, 3),
        "seconds_to_notice": found.noticed,
        "cause": found.cause,
        "reverted_epoch": found.reverted,
    }
