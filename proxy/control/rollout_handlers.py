"""The operations of a route's staged plan."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from config.model import Route
from proxy.control import views
from proxy.control.admin import Call
from proxy.control.bodies import StartRollout
from proxy.control.changes import Who
from proxy.control.instance import Instance
from proxy.control.problems import Problem
from proxy.control.rollouts import Rollouts
from proxy.core import rollout
from proxy.core.rollout import Rollout
from proxy.core.routing import COPY_NONE

NO_COPY: Final = "copy is none: old does not get what new answers; for that, proxyctl stage dualwrite before it begins"


class RolloutHandlers:
    """find: the route that a path names, or Problem 404."""

    def __init__(self, instance: Instance, rollouts: Rollouts, find: Callable[[str], Route]) -> None:
        self._instance = instance
        self._rollouts = rollouts
        self._find = find

    async def rollout(self, call: Call) -> views.RolloutView:
        """The last rollout of a route."""
        route = self._find(call.path["route"]).name
        found = self._rollouts.of(route)
        if found is None:
            raise Problem(404, f"there was no rollout of {route}")
        return self._view(route, found, dry_run=False)

    async def rollout_start(self, call: Call) -> views.RolloutView:
        """Begin one."""
        route, body = self._find(call.path["route"]).name, call.body
        assert isinstance(body, StartRollout)
        steps = tuple(rollout.Step(float(step.weight), float(step.hold), step.samples) for step in body.steps)
        plan = rollout.Plan(steps, body.auto_promote)
        found = await self._rollouts.start(route, plan, body.from_step - 1, call.who)
        return self._view(route, found, dry_run=call.who.dry_run)

    async def rollout_pause(self, call: Call) -> views.RolloutView:
        """Stay where it is."""
        return await self._act(call, self._rollouts.pause)

    async def rollout_resume(self, call: Call) -> views.RolloutView:
        """Go on."""
        return await self._act(call, self._rollouts.resume)

    async def rollout_promote(self, call: Call) -> views.RolloutView:
        """The next step at once."""
        return await self._act(call, self._rollouts.promote)

    async def rollout_abort(self, call: Call) -> views.RolloutView:
        """End it, and weight 0."""
        return await self._act(call, self._rollouts.abort)

    async def _act(self, call: Call, act: Callable[[str, Who], Awaitable[Rollout]]) -> views.RolloutView:
        route = self._find(call.path["route"]).name
        return self._view(route, await act(route, call.who), dry_run=call.who.dry_run)

    def _view(self, route: str, found: Rollout, *, dry_run: bool) -> views.RolloutView:
        plan, progress = found.plan, found.progress
        state = self._instance.state
        has_copy = state is not None and state.routes[route].copy != COPY_NONE
        window = self._instance.tally.window(self._instance.clock())
        rate = window.sums.accepted[route] / window.seconds if window.seconds > 0 else 0.0
        predicted = rollout.predicted(plan, 0, rate, has_copy=has_copy)
        return views.RolloutView(
            route=route,
            phase=progress.phase,
            step=progress.step + 1,
            held_s=round(progress.held, 1),
            reason=progress.reason,
            auto_promote=plan.auto_promote,
            started_at=found.started_at,
            actor=found.actor,
            dry_run=dry_run,
            steps=[
                views.RolloutStepView(step.weight, step.hold, step.samples, _rounded(each.seconds))
                for step, each in zip(plan.steps, predicted, strict=True)
            ],
            notes=[] if has_copy or progress.is_over else [NO_COPY],
        )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
