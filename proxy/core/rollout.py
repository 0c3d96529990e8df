"""A staged plan of weights, and when its next step is due.

    start --> PREPARING --> MOVING --> APPLYING --> HOLDING ----> ... ----> DONE
                ^  gates before  |  turned  |  by every   |  held long enough, enough answers, verdict pass, gates
                |                |          |  worker     +--> WAITING for a person, where the plan wants one
              resume             v
                |       at any time:  a revert --> REVERTED, a person --> ABORTED
              PAUSED <-- a person, somebody who turned the weight, a gate's no, or what the guard found, where its
                         rule is such; others step back, or --> REVERTING

All of it is functions of a plan, the progress, and what was seen; whoever calls them turns the weight, keeps the
progress and measures the time.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Final, NamedTuple

import msgspec

from proxy.core import gate
from proxy.core.errors import BadChange
from proxy.core.routing import check_weight
from proxy.core.verdict import PASS, Verdict

PREPARING: Final = "preparing"
MOVING: Final = "moving"
APPLYING: Final = "applying"
HOLDING: Final = "holding"
WAITING: Final = "waiting"
PAUSED: Final = "paused"
REVERTING: Final = "reverting"
DONE: Final = "done"
REVERTED: Final = "reverted"
ABORTED: Final = "aborted"
MOST_BACKS: Final = 2
"""Steps back after which a person is asked: a weight that goes up and down by itself helps nobody."""
ENDED: Final = (DONE, REVERTED, ABORTED)
_AT: Final = (HOLDING, WAITING)
"""Every worker has the weight of the step."""
PHASES: Final = (PREPARING, MOVING, APPLYING, HOLDING, WAITING, PAUSED, REVERTING, *ENDED)


class Step(msgspec.Struct, frozen=True):
    """One stop. weight: percent; hold: seconds; samples: answers of new without which it does not go on; before, gates:
    names of gates that must say yes before the weight is turned, and before it goes on; after: those that are told.
    """

    weight: float
    hold: float
    samples: int
    before: tuple[str, ...] = ()
    gates: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


class Latency(msgspec.Struct, frozen=True):
    """Seconds that new's quantiles may have at a step; None: any."""

    p50: float | None = None
    p95: float | None = None


class Plan(msgspec.Struct, frozen=True):
    """Steps of rising weight; the first may be at 0, where copies alone are judged. auto_promote: false waits for a
    person after each; on_revert: gates that are told; latency: that each step takes.
    """

    steps: tuple[Step, ...]
    auto_promote: bool = True
    on_revert: tuple[str, ...] = ()
    latency: Latency = Latency()


class Progress(msgspec.Struct, frozen=True):
    """How far a plan is. step: index of the one that it moves to or is at; came_from: weight before that; held: seconds
    at it, while every worker was; reason: what it waits for, or why it ended; backs: steps that gates took it back
    since a person let it go on last; against: what the gates that it waits or was paused for have said.
    """

    phase: str
    step: int
    came_from: float
    held: float = 0.0
    reason: str = ""
    backs: int = 0
    against: str = ""

    @property
    def is_over(self) -> bool:
        """Nothing comes after this by itself."""
        return self.phase in ENDED


class Rollout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A plan on its way. started_at: ISO 8601, UTC; actor: who began it, and why; paused_by, paused_at: who paused it,
    and when the first of them did, empty while it is not paused.
    """

    plan: Plan
    progress: Progress
    started_at: str
    actor: str
    reason: str = ""
    paused_by: str = ""
    paused_at: str = ""


class Seen(NamedTuple):
    """How the route is now. is_applied: every worker has this weight; latch_reason: empty when it is not latched;
    said: what gates that were to be asked have said; latency: new's at this step, where the plan has limits for it;
    frozen: why no step may be made now, split: why events may not go where they are to; empty when all is well.
    """

    weight: float
    latch_reason: str
    is_applied: bool
    verdict: Verdict
    said: Mapping[str, gate.Said] = {}
    latency: Latency = Latency()
    frozen: str = ""
    split: str = ""


class Prediction(NamedTuple):
    """How long a step takes. seconds: None when no answers come: without any it holds for ever."""

    weight: float
    seconds: float | None
    samples: int


def check(plan: Plan) -> None:
    """Raises BadChange for a plan that cannot be followed."""
    if not plan.steps:
        raise BadChange("a plan has at least one step")
    before = -1.0
    for number, step in enumerate(plan.steps, 1):
        if not 0 <= step.weight <= 100:
            raise BadChange(f"step {number}: a weight is from 0 to 100 percent, not {step.weight:g}")
        if check_weight(step.weight) != step.weight:
            raise BadChange(f"step {number}: a weight has two decimals at most, not {step.weight:g}")
        if step.weight <= before:
            raise BadChange(f"step {number}: {step.weight:g} % does not rise above the {before:g} % before it")
        if not step.hold > 0:
            raise BadChange(f"step {number}: without time at {step.weight:g} % nothing is learnt: hold is above 0")
        if step.samples < 0:
            raise BadChange(f"step {number}: samples are at least 0, not {step.samples}")
        before = step.weight
    if before == 0:
        raise BadChange("a plan that ends at 0 % leads nowhere")
    for name in Latency.__struct_fields__:
        limit = getattr(plan.latency, name)
        if limit is not None and not 0 < limit < inf:
            raise BadChange(f"{name} is limited to more than 0 seconds, not {limit:g}")


def start(plan: Plan, weight: float, from_step: int = 0) -> Progress:
    """Begin at a step (from 0); weight: the present one. Raises BadChange."""
    check(plan)
    if not 0 <= from_step < len(plan.steps):
        raise BadChange(f"there is no step {from_step + 1}: the plan has {len(plan.steps)}")
    if weight > plan.steps[from_step].weight:
        raise BadChange(
            f"the weight is {weight:g} % already, above the {plan.steps[from_step].weight:g} % of step "
            f"{from_step + 1}: begin at a later step (--from-step), or lower it first"
        )
    return _to(plan, from_step, weight)


def asks(plan: Plan, progress: Progress, seen: Seen) -> tuple[str, ...]:
    """Gates that are to be asked now: those before a step, and those of one that lacks nothing else."""
    step = plan.steps[progress.step]
    if progress.phase == PREPARING:
        return () if seen.frozen else step.before
    if progress.phase != HOLDING or seen.latch_reason or not seen.is_applied or seen.weight != step.weight:
        return ()
    return () if _wanting(plan, progress, progress.held, seen) else step.gates


def tells(plan: Plan, before: Progress, after: Progress) -> tuple[str, ...]:
    """Gates that are told when one becomes the other: those after a step that was done, those of a revert."""
    if after.phase == REVERTED != before.phase:
        return plan.on_revert
    is_done = after.step > before.step or after.phase == DONE != before.phase
    return plan.steps[before.step].after if is_done else ()


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
    if progress.phase == REVERTING:
        return _at(progress, REVERTED, progress.reason) if seen.weight == 0 else progress
    if progress.phase == PREPARING and seen.weight == progress.came_from:
        return _prepared(plan, progress, seen)
    wanted = target(plan, progress)
    if seen.weight != wanted:
        if progress.phase == MOVING and seen.weight == progress.came_from:
            return _at(progress, MOVING, f"the weight is to be {wanted:g} %")
        return _with(progress, phase=PAUSED, reason=f"the weight was set to {seen.weight:g} % meanwhile", against="")
    if progress.phase in (PREPARING, MOVING):
        progress = turned(progress)
    if not seen.is_applied:
        return _at(progress, progress.phase, "not every worker has applied the weight")
    if progress.phase == APPLYING:
        return _with(progress, phase=HOLDING, held=0.0, reason=_wanting(plan, progress, 0.0, seen))
    if seen.verdict.act in (gate.PAUSE, gate.STEP_BACK):
        return _held_up(plan, progress, _found(seen))
    held = progress.held + elapsed
    wanting = _wanting(plan, progress, held, seen)
    progress = _with(progress, held=held, reason=wanting, against="")
    if wanting:
        return progress
    ruling = gate.ruling(plan.steps[progress.step].gates, seen.said)
    if ruling.act != gate.GO and progress.phase == HOLDING:
        return _held_up(plan, progress, ruling)
    if progress.step + 1 == len(plan.steps):
        return _at(progress, DONE, "")
    if plan.auto_promote:
        return _next(plan, progress)
    return _at(progress, WAITING, "a person is to promote it")


def takes_back(plan: Plan, progress: Progress) -> bool:
    """Would it go back by a step, is it about to, or has it asked a person because it did so often enough?"""
    if progress.phase == MOVING:
        return progress.came_from > target(plan, progress)
    if progress.phase == PAUSED:
        return progress.backs >= MOST_BACKS
    return progress.phase in (APPLYING, *_AT) and progress.step > 0


def turned(progress: Progress) -> Progress:
    """The weight is that of the step: whoever finds another one knows that somebody was there."""
    return _with(progress, phase=APPLYING, held=0.0, reason="", against="")


def restarted(progress: Progress) -> Progress:
    """Whoever followed it is another one now: the evidence of the present step is gone, so it begins anew."""
    return turned(progress) if progress.phase in (HOLDING, WAITING) else progress


def paused(progress: Progress, reason: str, *, by: str = "") -> Progress:
    """A person stops it for now; what gates say against going on is told beside why. by: who, where somebody else has
    paused it before: why he did stands first. Raises BadChange.
    """
    _must_go_on(progress)
    if progress.phase == REVERTING:
        raise BadChange("the rollout is reverting: the weight goes to 0")
    reason = reason or "paused"
    if by and progress.phase == PAUSED and progress.reason != progress.against:
        before = progress.reason.removesuffix(f"; {progress.against}")
        reason = before if f"{by}: {reason}" in before.split("; ") else f"{before}; {by}: {reason}"
    return _at(progress, PAUSED, "; ".join(filter(None, (reason, progress.against))))


def owned(found: Rollout, progress: Progress, by: str, at: str) -> Rollout:
    """The rollout with this progress, and whose pause that is. by: who paused it just now, or empty; at: now."""
    if progress.phase != PAUSED:
        by = at = ""
    elif found.progress.phase == PAUSED:
        names = found.paused_by.split(", ") if found.paused_by else []
        by, at = ", ".join(names if by in ("", *names) else [*names, by]), found.paused_at
    return msgspec.structs.replace(found, progress=progress, paused_by=by, paused_at=at)


def resumed(plan: Plan, progress: Progress, weight: float) -> Progress:
    """A person lets it go on, from the step where it was and the weight that stands now. Raises BadChange."""
    _must_go_on(progress)
    if progress.phase != PAUSED:
        raise BadChange(f"the rollout is not paused, it is {progress.phase}")
    return _to(plan, progress.step, weight)


def promoted(plan: Plan, progress: Progress, weight: float) -> Progress:
    """The next step, or the end after the last one, whatever the present one still waits for: of a step that is being
    prepared, the step itself. weight: the present one. Raises BadChange.
    """
    _must_go_on(progress)
    if progress.phase in (PAUSED, REVERTING):
        raise BadChange(f"the rollout is {progress.phase}" + (": resume it first" * (progress.phase == PAUSED)))
    if progress.phase == PREPARING:
        return _with(progress, phase=MOVING, held=0.0, reason="", against="")
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
    return _with(_to(plan, progress.step + 1, target(plan, progress)), backs=progress.backs)


def _to(plan: Plan, step: int, weight: float) -> Progress:
    """On the way to a step from a weight: where that is the step's already, nobody has to agree."""
    is_asking = plan.steps[step].before and weight != plan.steps[step].weight
    return Progress(PREPARING if is_asking else MOVING, step, weight)


def _prepared(plan: Plan, progress: Progress, seen: Seen) -> Progress:
    """The weight may be turned when all gates before the step have said yes. They are asked when it may be turned at
    all: what they said before a freeze says nothing of the time after it.
    """
    if seen.verdict.act == gate.PAUSE:
        return _held_up(plan, progress, _found(seen))
    if seen.frozen:
        return _with(progress, reason=seen.frozen, against="")
    ruling = gate.ruling(plan.steps[progress.step].before, seen.said)
    if ruling.act == gate.GO:
        reason = f"the weight is to be {target(plan, progress):g} %"
        return _with(progress, phase=MOVING, held=0.0, reason=reason, against="")
    return _held_up(plan, progress, ruling)


def _found(seen: Seen) -> gate.Ruling:
    """What the guard found, as a gate's no."""
    return gate.Ruling(seen.verdict.act, "; ".join(seen.verdict.reasons))


def _held_up(plan: Plan, progress: Progress, ruling: gate.Ruling) -> Progress:
    """By gates or the guard. Without a weight to go back to, or when it goes up and down, a person is asked instead."""
    has_weight = progress.phase in _AT or progress.came_from > 0
    is_back = ruling.act == gate.STEP_BACK and progress.phase in _AT
    progress = _with(progress, against=ruling.reason)
    if is_back and progress.backs >= MOST_BACKS:
        return _at(progress, PAUSED, f"{ruling.reason}; it was taken back {progress.backs} times already")
    if is_back and progress.step > 0:
        return Progress(MOVING, progress.step - 1, target(plan, progress), 0.0, ruling.reason, progress.backs + 1)
    if is_back or (ruling.act == gate.REVERT and has_weight):
        return _at(progress, REVERTING, ruling.reason)
    return _at(progress, progress.phase if ruling.act == gate.HOLD else PAUSED, ruling.reason)


def _wanting(plan: Plan, progress: Progress, held: float, seen: Seen) -> str:
    """What is wanting before the next step; empty when nothing is. After the last one nothing is turned any more."""
    step = plan.steps[progress.step]
    said = [seen.frozen] if seen.frozen and progress.step + 1 < len(plan.steps) else []
    if seen.split:
        said.append(seen.split)
    if held < step.hold:
        said.append(f"holds for another {step.hold - held:.0f} s")
    if seen.verdict.samples < step.samples:
        said.append(f"lacks {step.samples - seen.verdict.samples} of {step.samples} answers of new")
    if seen.verdict.name != PASS:
        said.append("; ".join((f"the verdict is {seen.verdict.name}", *seen.verdict.reasons)))
    for name in Latency.__struct_fields__:
        limit, found = getattr(plan.latency, name), getattr(seen.latency, name)
        if limit is not None and (found is None or found > limit):
            now = f"{found * 1000:.3g} ms" if found is not None else "not known"
            said.append(f"{name} of new is {now} and has to be at most {limit * 1000:.3g} ms")
    return ", ".join(said)


def _must_go_on(progress: Progress) -> None:
    if progress.is_over:
        raise BadChange(f"the rollout is over: {progress.phase}")


def _at(progress: Progress, phase: str, reason: str) -> Progress:
    return _with(progress, phase=phase, reason=reason)


def _with(progress: Progress, **changes: object) -> Progress:
    return msgspec.structs.replace(progress, **changes)
