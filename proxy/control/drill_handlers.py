"""The operations that begin a drill of a route, end it, and tell of it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from config.model import Route
from proxy.control import views
from proxy.control.admin import Call
from proxy.control.bodies import Drill as DrillBody
from proxy.control.drills import Drill
from proxy.control.instance import Instance
from proxy.control.problems import Problem
from proxy.control.state import Conflict
from proxy.control.status import drill_view
from proxy.core import drill
from proxy.core.errors import BadChange, NoDrill
from proxy.core.rollout import PAUSED


class DrillHandlers:
    """find: the route that is named, or Problem 404."""

    def __init__(self, instance: Instance, find: Callable[[str], Route]) -> None:
        self._instance = instance
        self._find = find

    async def drill(self, call: Call) -> views.DrillView:
        """The last one."""
        return self._view(self._find(call.path["route"]).name)

    async def drill_begin(self, call: Call) -> views.DrillView:
        """Begin one."""
        body: DrillBody = call.body
        instance, who = self._instance, call.who
        route = self._find(call.path["route"])
        fault = drill.fault(body.fault, body.seconds, body.delay)
        async with instance.changes.one_at_a_time:
            if who.expected is not None and who.expected != instance.epoch:
                raise Conflict(instance.epoch)
            self._check(route, body.fault)
            if who.dry_run:
                planned = Drill(route.name, fault, who.actor, who.reason, instance.wall(), instance.clock())
                return self._view(route.name, planned)
            await instance.drills.begin(route.name, fault, who)
        return self._view(route.name)

    async def drill_end(self, call: Call) -> views.DrillView:
        """End it now; one that has ended stays as it is."""
        route = self._find(call.path["route"]).name
        if call.who.expected is not None and call.who.expected != self._instance.epoch:
            raise Conflict(self._instance.epoch)
        if not call.who.dry_run:
            self._instance.drills.end(route, call.who.actor)
        return self._view(route)

    def _check(self, route: Route, kind: str) -> None:
        """Raises BadChange where there can be none now."""
        instance, name = self._instance, route.name
        if instance.state is None:
            raise BadChange("there is no live state yet")
        instance.freezes.allow(name, "drill")
        instance.drills.check(name)
        rollout = instance.rollouts.get(name)
        if rollout is not None and not rollout.progress.is_over and rollout.progress.phase != PAUSED:
            raise BadChange(f"a rollout of {name} is {rollout.progress.phase}: pause it first")
        dials = {each: state.dials for each, state in instance.state.routes.items()}
        others = {each: other for each, other in instance.routes.items() if each != name}
        drill.check(route, kind, dials, others)
        state = instance.tally.dated(name, instance.state.routes[name])
        if state.weight > 0 and state.old_incomplete_since:
            raise NoDrill(f"old is incomplete since {state.old_incomplete_since}: a revert would leave that out")

    def _view(self, route: str, planned: Drill | None = None) -> views.DrillView:
        view = drill_view(planned or self._instance.drills.of(route), self._instance.epoch)
        if view is None:
            raise Problem(404, f"there was no drill of {route} since the supervisor started")
        return msgspec.structs.replace(view, running=False, dry_run=True) if planned is not None else view
