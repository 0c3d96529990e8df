"""The guard: looks at new with every report of a worker or the checker, and reverts a route that fails.

It looks whenever new has traffic: at weight 0 with copies there is nothing to revert, and a new that fails is known
before the first percent. A change of weight or copy, and a drill that begins or ends, starts everything anew, because
the traffic is another one then. What it looks at is in `proxy.control.watches`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from config.model import Route, Settings
from proxy.control.changes import OWN_ACTOR, Changes, Who
from proxy.control.drills import Drills, said_of_cause
from proxy.control.onset import Onset
from proxy.control.probes import Probes
from proxy.control.reverts import Reverts
from proxy.control.state import LiveState, RouteState
from proxy.control.tally import Tally
from proxy.control.watch import Cause
from proxy.control.watches import Watches
from proxy.core import rollout
from proxy.core.event import NEW, OLD, SIDES
from proxy.core.gate import REVERT, STEP_BACK
from proxy.core.rollout import Rollout
from proxy.core.routing import COPY_NONE
from proxy.core.verdict import INCONCLUSIVE, NOTHING_YET, Verdict

log = logging.getLogger(__name__)


class Watched:
    """One route under watch."""

    def __init__(self, route: Route, tally: Tally, probes: Probes, *, is_checked: bool) -> None:
        self.route = route
        self.watches = Watches(route, tally, probes, is_checked=is_checked)
        self.onset = Onset(route, tally)
        self.position: tuple[float, str, int, int] | None = None
        """Weight and copy to which the figures belong, by how many turns of them and of drills: there and back again
        between two looks is another position. None before they were seen.
        """
        self.beginnings = 0
        """How often a person has begun anew at the same weight."""
        self.reverting: asyncio.Task[None] | None = None

    def judge(
        self, state: RouteState, epoch: int, turns: tuple[int, int], beginnings: int, now: float
    ) -> tuple[Verdict, Cause | None]:
        """What is thought of new, and for what the weight should go back if it is above 0.

        turns: of this route's dials, and drills of it that began or ended, all in all; beginnings: see `Tally`.
        """
        if beginnings != self.beginnings:
            self.beginnings = beginnings
            self.watches.forgive()
        position = state.weight, state.copy, *turns
        if position != self.position:
            self.position = position
            self.watches.begin(epoch)
            self.onset.begin(now)
        self.onset.look(now)
        if position[:2] == (0.0, COPY_NONE):
            return NOTHING_YET, None
        return self.watches.judge(now)


class Guard:
    """Watches all routes of an instance. rollouts: the last one of each; wall: seconds since 1970."""

    def __init__(
        self,
        settings: Settings,
        changes: Changes,
        tally: Tally,
        probes: Probes,
        drills: Drills,
        rollouts: Mapping[str, Rollout],
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._drills = drills
        self._rollouts = rollouts
        checked = {name for check in settings.consistency if check.is_live for name in check.routes}
        self._watched = [Watched(route, tally, probes, is_checked=route.name in checked) for route in settings.routes]
        self._reverts = Reverts(changes, tally, settings.workers)
        self._tally = tally
        self._wall = wall
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
            name = watched.route.name
            route = state.routes[name]
            cause = self._judged(watched, route, state.revision, now)
            if cause is not None:
                self._drills.noticed(name, cause.text, now)
            if cause is None or route.weight == 0 or (watched.reverting is not None and not watched.reverting.done()):
                continue
            if not self._is_ours(name, cause):
                continue
            evidence = cause.evidence | self._figures(watched.route, route.weight, now)
            drill = self._drills.running(name)
            seconds = watched.onset.seconds(cause, now, self._wall()) if drill is None else round(now - drill.begun, 3)
            evidence["seconds_to_detect"] = seconds
            watched.reverting = asyncio.create_task(self._revert(watched.route, cause, evidence))

    def _judged(self, watched: Watched, state: RouteState, epoch: int, now: float) -> Cause | None:
        """What a route is to be reverted for. A mistake of ours costs one verdict, and no other route's."""
        name = watched.route.name
        turns = self._tally.turns[name], self._drills.turns(name)
        try:
            self._tally.verdicts[name], cause = watched.judge(state, epoch, turns, self._tally.beginnings[name], now)
        except Exception as error:
            self._tally.own["routes_not_judged"] += 1
            unknown = Verdict(INCONCLUSIVE, (f"it could not be judged: {type(error).__name__}",))
            if self._tally.verdicts.get(name) != unknown:  # reports come several times a second
                log.exception("the route could not be judged", extra={"route": name})
            self._tally.verdicts[name] = unknown
            return None
        return cause

    def _is_ours(self, route: str, cause: Cause) -> bool:
        """Is the weight to go to 0? Not where the rollout goes back by a step, or a person decides."""
        found = self._rollouts.get(route)
        is_handled = found is not None and rollout.takes_back(found.plan, found.progress)
        return cause.act == REVERT or (cause.act == STEP_BACK and not is_handled)

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
        """What could not be written is tried again: the next report judges again."""
        text, drill = cause.text, self._drills.running(route.name)
        if drill is not None:
            text = f"{text}; {said_of_cause(drill)}"
            evidence |= {"drill": {"fault": drill.fault.kind, "actor": drill.actor}}
        changed = await self._reverts.revert(route.name, cause.kind, Who(OWN_ACTOR, text), evidence)
        if changed is not None and changed.is_change:
            self._drills.reverted(route.name, changed.epoch)
