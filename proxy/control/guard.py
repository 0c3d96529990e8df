"""The guard: looks at new with every report of a worker or the checker, and reverts a route that fails.

It looks only while a route's weight is above 0. A change of weight starts the tests anew, because the
traffic is another one then. Where old fails as well it is not new's doing, and going back would not help: that is
an alert.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final, NamedTuple

from config.model import Route, Settings
from proxy.control.changes import OWN_ACTOR, Changes, Who
from proxy.control.peers import Peers
from proxy.control.state import LiveState
from proxy.control.tally import Tally
from proxy.core.errors import CrossfadeError
from proxy.core.event import NEW, OLD, SIDES
from proxy.core.routing import rolled_back
from proxy.core.sequential import CountedTest, Counts, Suspicion
from proxy.core.trigger import Sample, SlidingRate

log = logging.getLogger(__name__)

BREAKER: Final = "breaker"
ERROR_RATE: Final = "error-rate"
LOST: Final = "lost"
MISMATCH_RATE: Final = "mismatch-rate"
PROBE: Final = "probe"


class Cause(NamedTuple):
    """Why a route shall be reverted. kind: BREAKER, ERROR_RATE, LOST, MISMATCH_RATE or PROBE; text: for people."""

    kind: str
    text: str
    evidence: dict[str, Any]


class Watched:
    """One route under watch. weight: the one that its tests belong to; since: the epoch of that weight."""

    def __init__(self, route: Route) -> None:
        trigger = route.trigger
        self.route = route
        self.errors = {side: CountedTest(trigger.error_rate) for side in (OLD, NEW)}
        self.mismatches = SlidingRate(trigger.mismatch_rate, trigger.mismatch_samples, trigger.mismatch_window)
        self.weight: float | None = None
        self.since = 0
        self.is_based = False
        """The window of mismatches has its first sample."""
        self.checked = (0, 0)
        """What the checker had counted when it was looked at last: settled events, mismatches."""
        self.reverting: asyncio.Task[None] | None = None

    def begin(self, weight: float, epoch: int, now: float) -> None:
        """The weight is another one, or it is seen for the first time."""
        self.weight, self.since, self.checked = weight, epoch, (0, 0)
        for test in self.errors.values():
            test.reset()
        self.mismatches.reset()
        self.is_based = False


class Guard:
    """Watches all routes of an instance."""

    def __init__(self, settings: Settings, changes: Changes, peers: Peers, tally: Tally) -> None:
        self._watched = [Watched(route) for route in settings.routes]
        self._changes = changes
        self._peers = peers
        self._tally = tally

    def look(self, state: LiveState | None, now: float) -> None:
        """Judge every route by the present figures; start a revert where it is due. now: monotonic seconds."""
        if state is None:
            return
        for watched in self._watched:
            weight = state.routes[watched.route.name].weight
            if weight != watched.weight:
                watched.begin(weight, state.revision, now)
            if weight == 0 or (watched.reverting is not None and not watched.reverting.done()):
                self._tally.alerts.pop(watched.route.name, None)
                continue
            cause = self._judge(watched, now)
            if cause is not None:
                evidence = cause.evidence | self._figures(watched.route, weight, now)
                watched.reverting = asyncio.create_task(self._revert(watched.route, cause, evidence))

    async def settle(self) -> None:
        """Wait for reverts under way."""
        await asyncio.gather(*(each.reverting for each in self._watched if each.reverting is not None))

    def _judge(self, watched: Watched, now: float) -> Cause | None:
        route = watched.route
        failing = self._judge_errors(watched, now)
        if route.trigger.on_breaker:
            open_in = [index for index, stats in self._tally.present() if stats.breakers.get(route.new) == "open"]
            if open_in:
                workers = ", ".join(str(index) for index in open_in)
                return Cause(BREAKER, f"the breaker of {route.new} is open in worker {workers}", {"workers": open_in})
            # With few keys workers soon hand everything to the ledger, and it alone still sees that new is down.
            if self._tally.ledger is not None and self._tally.ledger.breakers.get(route.new) == "open":
                return Cause(BREAKER, f"the breaker of {route.new} is open in the ledger", {"workers": []})
        return failing or self._judge_check(watched, now)

    def _judge_errors(self, watched: Watched, now: float) -> Cause | None:
        """By the answers of both sides."""
        route, tests = watched.route, watched.errors
        found = {}
        for side, test in tests.items():
            total, failed = self._tally.answered(route.name, side)
            found[side] = test.observe(Counts(now, total, failed))
        self._tally.alerts.pop(route.name, None)
        suspicion = found[NEW]
        if suspicion is None:
            return None
        reason = _failing(suspicion, route.trigger.error_rate, now)
        if tests[OLD].is_suspected:
            self._tally.alerts[route.name] = f"{reason}; old fails as well, so nothing is reverted"
            return None
        return Cause(ERROR_RATE, reason, {"test": _evidence(suspicion, route.trigger.error_rate, now)})

    def _judge_check(self, watched: Watched, now: float) -> Cause | None:
        """By what the live checker found of this weight in both stores."""
        route = watched.route
        check = next((each for each in self._tally.checks if route.name in each.routes), None)
        if check is None or check.epoch < watched.since:
            return None  # it goes by an earlier routing
        trial, limit = check.trial, route.trigger.lost
        evidence: dict[str, Any] = {"checked": trial.settled, "mismatches": trial.mismatches, "lost": trial.lost}
        evidence |= {"record": check.record, "samples": trial.samples}
        if limit and trial.lost >= limit:
            events, are = ("event", "is") if trial.lost == 1 else ("events", "are")
            reason = f"{trial.lost} {events} that new acknowledged {are} not in its store, says the checker"
            return Cause(LOST, reason, evidence)
        probe, most = check.probe, route.trigger.probe_failures
        if probe is not None and probe.route == route.name and most and probe.against_new >= most:
            reason = f"{probe.against_new} probes in a row failed at new and not at old, the last one at {probe.error}"
            return Cause(PROBE, reason, evidence | {"visible": probe.visible})
        counts = trial.settled, trial.mismatches
        if counts == watched.checked:
            return None
        watched.checked = counts
        if not watched.is_based:
            watched.is_based = True
            if trial.epoch >= watched.since:  # all of it is of now; else it may be of weeks
                watched.mismatches.observe(Sample(now, 0, 0))
        text = watched.mismatches.observe(Sample(now, *counts))
        return Cause(MISMATCH_RATE, text, evidence) if text is not None else None

    def _figures(self, route: Route, weight: float, now: float) -> dict[str, Any]:
        """What both sides looked like, for whoever asks why."""
        window = self._tally.window(now)
        figures: dict[str, Any] = {"weight": weight, "window_seconds": round(window.seconds, 3)}
        for side in (OLD, NEW):
            answers = window.sums.side(route.name, side)
            figures[SIDES[side]] = {
                "backend": (route.old, route.new)[side],
                "code_classes": {name: count for name, count in sorted(answers.classes.items()) if count},
                "p99": round(answers.sketch.quantile(0.99), 6),
            }
        return figures

    async def _revert(self, route: Route, cause: Cause, evidence: dict[str, Any]) -> None:
        log.warning("reverting: %s", cause.text, extra={"route": route.name})
        try:
            changed = await self._changes.turn(
                route.name,
                "revert",
                lambda dials: rolled_back(dials, latch=True) if dials.weight > 0 else dials,
                Who(OWN_ACTOR, cause.text),
                latch_reason=cause.text,
                evidence={"trigger": cause.kind, **evidence},
            )
        except (CrossfadeError, OSError):
            # The next report judges again, so a revert that could not be written is tried again.
            self._tally.own["reverts_failed"] += 1
            log.exception("the revert could not be written; trying again", extra={"route": route.name})
            return
        if changed.is_change:
            self._tally.own[f"reverts:{cause.kind}"] += 1


def _failing(suspicion: Suspicion, limit: float, now: float) -> str:
    """For people."""
    share = f"{suspicion.share:.2%}, limit {limit:.2%}"
    return f"{suspicion.failed} of {suspicion.total} events failed at new in {now - suspicion.since:.1f} s ({share})"


def _evidence(suspicion: Suspicion, limit: float, now: float) -> dict[str, Any]:
    """What the test went by. value: likelihood ratio of the failures against the limit; an alarm from 10^6 on."""
    return {
        "total": suspicion.total,
        "failed": suspicion.failed,
        "seconds": round(now - suspicion.since, 3),
        "limit": limit,
        "value": min(suspicion.value, 1e300),
    }
