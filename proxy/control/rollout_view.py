"""A staged plan as the API tells it."""

from __future__ import annotations

from typing import Final

from proxy.control import views
from proxy.control.instance import Instance
from proxy.control.rollouts import Rollouts
from proxy.core import rollout
from proxy.core.rollout import Plan, Prediction, Rollout
from proxy.core.routing import COPY_NONE

NO_COPY: Final = "copy is none: old does not get what new answers; for that, proxyctl stage dualwrite before it begins"

SHORT: Final = 30.0
"""Seconds of a step after which a failure of a few percent may well not have shown."""


def rollout_view(
    instance: Instance, rollouts: Rollouts, route: str, found: Rollout, *, dry_run: bool = False
) -> views.RolloutView:
    """A rollout of a route. dry_run: it is the one that would be, of which no gate has said anything."""
    plan, progress = found.plan, found.progress
    state = instance.state
    has_copy = state is not None and state.routes[route].copy != COPY_NONE
    window = instance.tally.window(instance.clock())
    rate = window.sums.accepted[route] / window.seconds if window.seconds > 0 else 0.0
    predicted = rollout.predicted(plan, 0, rate, has_copy=has_copy)
    said = {} if dry_run else rollouts.said.get(route, {})
    return views.RolloutView(
        route=route,
        phase=progress.phase,
        step=progress.step + 1,
        held_s=round(progress.held, 1),
        reason=progress.reason,
        auto_promote=plan.auto_promote,
        latency=views.LatencyView(plan.latency.p50, plan.latency.p95),
        started_at=found.started_at,
        actor=found.actor,
        dry_run=dry_run,
        steps=[
            views.RolloutStepView(
                step.weight, step.hold, step.samples, _rounded(each.seconds), step.before, step.gates, step.after
            )
            for step, each in zip(plan.steps, predicted, strict=True)
        ],
        gates=[views.GateView(name, each.answer, each.text, each.on_fail) for name, each in said.items()],
        on_revert=plan.on_revert,
        notes=[]
        if progress.is_over
        else [
            *_notes(instance, route, has_copy=has_copy),
            *_short_notes(instance, plan, predicted, progress.step),
            *_gate_notes(instance, plan),
        ],
        paused_by=found.paused_by or None,
        paused_at=found.paused_at or None,
    )


def _notes(instance: Instance, route: str, *, has_copy: bool) -> list[str]:
    frozen = instance.freezes.refusal(route)
    notes = [f"{frozen}; the weight does not rise before"] if frozen else []
    return notes if has_copy else [*notes, NO_COPY]


def _short_notes(instance: Instance, plan: Plan, predicted: list[Prediction], first: int) -> list[str]:
    """Steps still to come that may be over before the guard has seen enough of them."""
    soaks = _soaks(instance)
    short = [
        f"{number}"
        for number, (step, each) in enumerate(zip(plan.steps, predicted, strict=True), 1)
        if number > first
        and max(step.hold, each.seconds or 0.0) + sum(soaks.get(name, 0.0) for name in step.gates) < SHORT
    ]
    if not short:
        return []
    steps = f"step {short[0]}" if len(short) == 1 else f"steps {', '.join(short)}"
    why = "in which the guard sees little but outright failure"
    return [f"{steps} may take less than {SHORT:g} s, {why}: a longer hold, or more samples, show more"]


def _gate_notes(instance: Instance, plan: Plan) -> list[str]:
    """What a prediction does not know of."""
    names = [name for step in plan.steps for name in (*step.before, *step.gates)]
    if not names:
        return []
    soaks = _soaks(instance)
    soaking = sum(soaks.get(name, 0.0) for name in names)
    others = [name for name in dict.fromkeys(names) if name not in soaks]
    said = [f"soaks take another {soaking:g} s in all"] if soaking else []
    said += [f"nobody knows how long {', '.join(others)} will take to say yes"] if others else []
    return [f"beside the predicted times, {' and '.join(said)}"]


def _soaks(instance: Instance) -> dict[str, float]:
    """By the names of gates that are one, how long."""
    return {gate.name: gate.soak.lasts for gate in instance.settings.gates if gate.soak is not None}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
