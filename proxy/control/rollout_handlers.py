"""The operations of a route's staged plan."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from config.model import Route
from config.plan import Plan
from proxy.control import views
from proxy.control.admin import Call
from proxy.control.bodies import Quantiles, RolloutStep, StartRollout
from proxy.control.changes import Who
from proxy.control.instance import Instance
from proxy.control.problems import Problem
from proxy.control.rollout_view import rollout_view
from proxy.control.rollouts import Rollouts
from proxy.core import rollout
from proxy.core.rollout import Latency, Rollout


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
        if body.steps is None:
            body = self._configured(route, body.from_step)
        steps, told = tuple(map(_step, body.steps or ())), tuple(body.on_revert)
        plan = rollout.Plan(steps, body.auto_promote, told, self._latency(route, body))
        if not call.who.dry_run:  # a plan may be made while the route is frozen
            self._instance.freezes.allow(route, "rollout-start")
            self._instance.drills.allow(route, "rollout-start")
        found = await self._rollouts.start(route, plan, body.from_step - 1, call.who)
        return self._view(route, found, dry_run=call.who.dry_run)

    def _configured(self, route: str, from_step: int) -> StartRollout:
        """The plan of the configuration, or the usual one."""
        settings = self._instance.routes[route].rollout or Plan()
        return msgspec.convert(settings.as_request() | {"from_step": from_step}, StartRollout)

    def _latency(self, route: str, body: StartRollout) -> Latency:
        """The limits: those that were typed, or what the baseline says. Raises Problem."""
        if body.improvement is None:
            typed = body.latency or Quantiles()
            return Latency(typed.p50, typed.p95)
        baseline = self._instance.baselines.of(route)
        if body.latency is not None:
            raise Problem(422, "latency and improvement are two ways to say the same: give one")
        if baseline is None:
            raise Problem(422, f"there is no baseline of {route} to improve on: proxyctl record-baseline")
        better = body.improvement
        if any(share is not None and not share < 1 for share in (better.p50, better.p95)):
            raise Problem(422, "an improvement is less than 100 %")
        return Latency(
            None if better.p50 is None else baseline.p50 * (1 - better.p50),
            None if better.p95 is None else baseline.p95 * (1 - better.p95),
        )

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
        return rollout_view(self._instance, self._rollouts, route, found, dry_run=dry_run)


def _step(step: RolloutStep) -> rollout.Step:
    return rollout.Step(
        float(step.weight), float(step.hold), step.samples, tuple(step.before), tuple(step.gates), tuple(step.after)
    )
