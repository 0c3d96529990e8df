"""The guard: looks at new with every report of a worker or the checker, and reverts a route that fails.

It looks whenever new has traffic: at weight 0 with copies there is nothing to revert, and a new that fails is known
before the first percent. A change of weight or copy starts everything anew, because the traffic is another one then.
What it looks at is in `proxy.control.watches`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from config.model import Route, Settings
from proxy.control.changes import OWN_ACTOR, Changes, Who
from proxy.control.probes import Probes
from proxy.control.state import LiveState, RouteState
from proxy.control.tally import Tally
from proxy.control.watches import Cause, Watches
from proxy.core.errors import CrossfadeError
from proxy.core.event import NEW, OLD, SIDES
from proxy.core.routing import COPY_NONE, rolled_back
from proxy.core.verdict import NOTHING_YET, Verdict

log = logging.getLogger(__name__)


class Watched:
    """One route under watch."""

    def __init__(self, route: Route, tally: Tally, probes: Probes) -> None:
        self.route = route
        self.watches = Watches(route, tally, probes)
        self.position: tuple[float, str] | None = None
        """Weight and copy to which the figures belong; None before they were seen."""
        self.reverting: asyncio.Task[None] | None = None

    def judge(self, state: RouteState, epoch: int, now: float) -> tuple[Verdict, Cause | None]:
        """What is thought of new, and for what the weight should go back if it is above 0."""
        position = state.weight, state.copy
        if position != self.position:
            self.position = position
            self.watches.begin(epoch)
        if position == (0.0, COPY_NONE):
            return NOTHING_YET, None
        return self.watches.judge(now)


class Guard:
    """Watches all routes of an instance."""

    def __init__(self, settings: Settings, changes: Changes, tally: Tally, probes: Probes) -> None:
        self._watched = [Watched(route, tally, probes) for route in settings.routes]
        self._changes = changes
        self._tally = tally
        self._newcomers = 0

    def look(self, state: LiveState | None, now: float) -> None:
        """Judge every route by the present figures; start a revert where it is due. now: monotonic seconds."""
        if state is None:
            return
        if self._tally.newcomers != self._newcomers:
            self._newcomers = self._tally.newcomers
            for watched in self._watched:
                watched.position = None  # what a worker had counted before it was first heard is not of now
        for watched in self._watched:
            route = state.routes[watched.route.name]
            self._tally.verdicts[watched.route.name], cause = watched.judge(route, state.revision, now)
            if cause is None or route.weight == 0 or (watched.reverting is not None and not watched.reverting.done()):
                continue
            evidence = cause.evidence | self._figures(watched.route, route.weight, now)
            watched.reverting = asyncio.create_task(self._revert(watched.route, cause, evidence))

    async def settle(self) -> None:
        """Wait for reverts under way."""
        await asyncio.gather(*(each.reverting for each in self._watched if each.reverting is not None))

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
