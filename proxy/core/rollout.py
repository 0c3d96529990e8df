"""A staged plan of weights, and when its next step is due.

    start --> MOVING --> APPLYING --> HOLDING ----> ... ----> DONE
                ^  turned   |  by every   |  held long enough, enough answers, verdict pass
                |           |  worker     +--> WAITING for a person, where the plan wants one
              resume        v
                |       at any time:  a revert --> REVERTED, a person --> ABORTED
              PAUSED <-- a person, or somebody who turned the weight

All of it is functions of a plan, the progress, and what was seen; whoever calls them turns the weight, keeps the
progress and measures the time.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from proxy.core.errors import BadChange
from proxy.core.routing import check_weight
from proxy.core.verdict import PASS, Verdict

MOVING: Final = "moving"
APPLYING: Final = "applying"
HOLDING: Final = "holding"
WAITING: Final = "waiting"
PAUSED: Final = "paused"
DONE: Final = "done"
REVERTED: Final = "reverted"
ABORTED: Final = "aborted"
ENDED: Final = (DONE, REVERTED, ABORTED)


class Step(msgspec.Struct, frozen=True):
    """One stop. weight: percent; hold: seconds; samples: answers of new without which it does not go on."""

    weight: float
    hold: float
    samples: int


class Plan(msgspec.Struct, frozen=True):
    """Steps of rising weight. auto_promote: false waits for a person after each."""

    steps: tuple[Step, ...]
    auto_promote: bool = True


class Progress(msgspec.Struct, frozen=True):
    """How far a plan is. step: index of the one that it moves to or is at; came_from: weight before that; held: seconds
    at it, while every worker was; reason: what it waits for, or why it ended.
    """

    phase: str
    step: int
    came_from: float
    held: float = 0.0
    reason: str = ""

    @property
    def is_over(self) -> bool:
        """Nothing comes after this by itself."""
        return self.phase in ENDED


class Rollout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A plan on its way. started_at: ISO 8601, UTC; actor: who began it, and why."""

    plan: Plan
    progress: Progress
    started_at: str
    actor: str
    reason: str = ""


class Seen(NamedTuple):
    """How the route is now. is_applied: every worker has this weight; latch_reason: empty when it is not latched."""

    weight: float
    latch_reason: str
    is_applied: bool
    verdict: Verdict


class Prediction(NamedTuple):
    """How long a step takes. seconds: None when no answers come: without any it holds for ever."""

    weight: float
    seconds: float | None
    samples: int


def check(plan: Plan) -> None:
    """Raises BadChange for a plan that cannot be followed."""
    if not plan.steps:
        raise BadChange("a plan has at least one step")
    before = 0.0
    for number, step in enumerate(plan.steps, 1):
        if not 0 < step.weight <= 100:
            raise BadChange(f"step {number}: a weight is above 0 and at most 100 percent, not {step.weight:g}")
        if check_weight(step.weight) != step.weight:
            raise BadChange(f"step {number}: a weight has two decimals at most, not {step.weight:g}")
        if step.weight <= before:
            raise BadChange(f"step {number}: {step.weight:g} % does not rise above the {before:g} % before it")
        if not step.hold > 0:
            raise BadChange(f"step {number}: without time at {step.weight:g} % nothing is learnt: hold is above 0")
        if step.samples < 0:
            raise BadChange(f"step {number}: samples are at least 0, not {step.samples}")
        before = step.weight


def start(plan: Plan, weight: float, from_step: int = 0) -> Progress:
    """Begin at a step (from 0); weight: the present one. Raises BadChange."""
    check(plan)
    if not 0 <= from_step < len(plan.steps):
        raise BadChange(f"there is no step {from_step + 1}: the plan has {len(plan.steps)}")
    if weight > plan.steps[from_step].weight:
        raise BadChange(
            f"the weight is {weight:g} % already, above the {plan.steps[from_step].weight:g} % of step {from_step + 1}"
        )
    return Progress(MOVING, from_step, weight)


def target(plan: Plan, progress: Progress) -> float:
    """The weight of the present step."""
    return plan.steps[progress.step].weight


def advance(plan: Plan, progress: Progress, seen: Seen, elapsed: float) -> Progress:
    """The progress `elapsed` seconds later."""
    if progress.is_over:
        return progress
    if seen.latch_reason:
        return _at(progress, REVERTED, seen.latch_reason)
    if progress.phase == PAUSED:
        return progress
    wanted = target(plan, progress)
    if seen.weight != wanted:
        if progress.phase == MOVING and seen.weight == progress.came_from:
            return _at(progress, MOVING, f"the weight is to be {wanted:g} %")
        return _at(progress, PAUSED, f"the weight was set to {seen.weight:g} % meanwhile")
    if progress.phase == MOVING:
        progress = turned(progress)
    if not seen.is_applied:
        return _at(progress, progress.phase, "not every worker has applied the weight")
    if progress.phase == APPLYING:
        return Progress(HOLDING, progress.step, progress.came_from, 0.0, _wanting(plan.steps[progress.step], 0.0, seen))
    held = progress.held + elapsed
    wanting = _wanting(plan.steps[progress.step], held, seen)
    progress = Progress(progress.phase, progress.step, progress.came_from, held, wanting)
    if wanting:
        return progress
    if progress.step + 1 == len(plan.steps):
        return _at(progress, DONE, "")
    if plan.auto_promote:
        return _next(plan, progress)
    return _at(progress, WAITING, "a person is to promote it")


def turned(progress: Progress) -> Progress:
    """The weight is that of the step: whoever finds another one knows that somebody was there."""
    return Progress(APPLYING, progress.step, progress.came_from)


def restarted(progress: Progress) -> Progress:
    """Whoever followed it is another one now: the evidence of the present step is gone, so it begins anew."""
    return turned(progress) if progress.phase in (HOLDING, WAITING) else progress


def paused(progress: Progress, reason: str) -> Progress:
    """A person stops it for now. Raises BadChange."""
    _must_go_on(progress)
    return _at(progress, PAUSED, reason or "paused")


def resumed(progress: Progress, weight: float) -> Progress:
    """A person lets it go on, from the step where it was and the weight that stands now. Raises BadChange."""
    _must_go_on(progress)
    if progress.phase != PAUSED:
        raise BadChange(f"the rollout is not paused, it is {progress.phase}")
    return Progress(MOVING, progress.step, weight)


def promoted(plan: Plan, progress: Progress, weight: float) -> Progress:
    """The next step, or the end after the last one, whatever the present one still waits for. weight: the present one.

    Raises BadChange.
    """
    _must_go_on(progress)
    if progress.phase == PAUSED:
        raise BadChange("the rollout is paused: resume it first")
    if weight != target(plan, progress):
        raise BadChange(f"the weight is {weight:g} % and not the {target(plan, progress):g} % of the step")
    return _at(progress, DONE, "") if progress.step + 1 == len(plan.steps) else _next(plan, progress)


def aborted(progress: Progress, reason: str) -> Progress:
    """A person ends it. Raises BadChange."""
    _must_go_on(progress)
    return _at(progress, ABORTED, reason or "aborted")


def predicted(plan: Plan, from_step: int, rate: float, *, has_copy: bool) -> list[Prediction]:
    """How long each step will take. rate: events/s of the route; has_copy: new gets those that old answers, too."""
    found = []
    for step in plan.steps[from_step:]:
        answers = rate if has_copy else rate * step.weight / 100
        seconds = max(step.hold, step.samples / answers) if answers > 0 else None
        found.append(Prediction(step.weight, seconds, step.samples))
    return found


def _next(plan: Plan, progress: Progress) -> Progress:
    return Progress(MOVING, progress.step + 1, target(plan, progress))


def _wanting(step: Step, held: float, seen: Seen) -> str:
    """What is wanting before the next step; empty when nothing is."""
    said = []
    if held < step.hold:
        said.append(f"holds for another {step.hold - held:.0f} s")
    if seen.verdict.samples < step.samples:
        said.append(f"lacks {step.samples - seen.verdict.samples} of {step.samples} answers of new")
    if seen.verdict.name != PASS:
        said.append("; ".join((f"the verdict is {seen.verdict.name}", *seen.verdict.reasons)))
    return ", ".join(said)


def _must_go_on(progress: Progress) -> None:
    if progress.is_over:
        raise BadChange(f"the rollout is over: {progress.phase}")


def _at(progress: Progress, phase: str, reason: str) -> Progress:
    return Progress(phase, progress.step, progress.came_from, progress.held, reason)
