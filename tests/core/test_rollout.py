"""The staged plan: every transition, and what may never happen on the way."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from proxy.core import rollout
from proxy.core.errors import BadChange
from proxy.core.rollout import (
    ABORTED,
    APPLYING,
    DONE,
    HOLDING,
    MOVING,
    PAUSED,
    REVERTED,
    WAITING,
    Plan,
    Progress,
    Seen,
    Step,
)
from proxy.core.verdict import INCONCLUSIVE, NODATA, PASS, Verdict

PLAN = Plan((Step(10, 60, 100), Step(50, 60, 0), Step(100, 30, 0)))
GOOD = Verdict(PASS, (), 1000)


def seen(weight: float, *, latch: str = "", applied: bool = True, verdict: Verdict = GOOD) -> Seen:
    return Seen(weight, latch, applied, verdict)


def after(progress: Progress, *steps: tuple[Seen, float], plan: Plan = PLAN) -> Progress:
    for each, elapsed in steps:
        progress = rollout.advance(plan, progress, each, elapsed)
    return progress


def holding(step: int = 0, held: float = 0.0) -> Progress:
    before = PLAN.steps[step - 1].weight if step else 0.0
    return Progress(HOLDING, step, before, held)


def test_a_plan_runs_to_its_end() -> None:
    progress = rollout.start(PLAN, 0.0)
    assert (progress.phase, rollout.target(PLAN, progress)) == (MOVING, 10)
    progress = after(progress, (seen(0), 1), (seen(0), 1))
    assert (progress.phase, progress.reason) == (MOVING, "the weight is to be 10 %")
    progress = after(progress, (seen(10), 1))
    assert (progress.phase, progress.held) == (HOLDING, 0.0)
    progress = after(progress, (seen(10), 59))
    assert (progress.phase, progress.reason) == (HOLDING, "holds for another 1 s")
    progress = after(progress, (seen(10), 1))
    assert (progress.phase, progress.step, progress.came_from) == (MOVING, 1, 10)
    progress = after(progress, (seen(10), 9), (seen(50), 9), (seen(50), 60))
    assert (progress.phase, progress.step) == (MOVING, 2)
    progress = after(progress, (seen(100), 1), (seen(100), 30))
    assert (progress.phase, progress.reason, progress.is_over) == (DONE, "", True)
    assert after(progress, (seen(0, latch="later"), 9)) == progress


def test_time_counts_only_while_every_worker_is_there() -> None:
    progress = after(rollout.start(PLAN, 0.0), (seen(10, applied=False), 60))
    assert (progress.phase, progress.reason) == (APPLYING, "not every worker has applied the weight")
    progress = after(progress, (seen(10), 60), (seen(10), 30), (seen(10, applied=False), 500), (seen(10), 29))
    assert (progress.phase, progress.held) == (HOLDING, 59.0)


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [
        (Verdict(PASS, (), 60), "lacks 40 of 100 answers of new"),
        (Verdict(NODATA), "lacks 100 of 100 answers of new, the verdict is nodata"),
        (Verdict(INCONCLUSIVE, ("a", "b"), 500), "the verdict is inconclusive; a; b"),
    ],
)
def test_without_evidence_it_does_not_go_on_however_long_it_holds(verdict: Verdict, reason: str) -> None:
    progress = after(holding(), (seen(10, verdict=verdict), 10_000))
    assert (progress.phase, progress.reason) == (HOLDING, reason)
    assert after(progress, (seen(10), 1)).step == 1


def test_without_traffic_a_step_that_needs_no_samples_holds_all_the_same() -> None:
    assert after(holding(1), (seen(50, verdict=Verdict(NODATA)), 10_000)).phase == HOLDING


@pytest.mark.parametrize("progress", [rollout.start(PLAN, 0.0), holding(), Progress(PAUSED, 0, 0.0)])
def test_a_revert_ends_it(progress: Progress) -> None:
    ended = after(progress, (seen(0, latch="new fails"), 1))
    assert (ended.phase, ended.reason, ended.is_over) == (REVERTED, "new fails", True)


def test_who_turns_the_weight_himself_is_not_fought() -> None:
    for progress, weight in ((rollout.start(PLAN, 0.0), 30), (holding(), 0), (holding(1), 10), (holding(), 30)):
        found = after(progress, (seen(weight), 1))
        assert (found.phase, found.reason) == (PAUSED, f"the weight was set to {weight} % meanwhile")
        assert after(found, (seen(99), 1_000)) == found
        again = rollout.resumed(found, float(weight))
        assert (again.phase, again.step, again.came_from) == (MOVING, progress.step, weight)


def test_a_weight_that_was_turned_and_is_the_one_before_again_is_a_persons() -> None:
    """Not one that is still to be turned."""
    begun = rollout.start(PLAN, 0.0)
    for progress in (rollout.turned(begun), after(begun, (seen(10, applied=False), 1))):
        assert progress.phase == APPLYING
        assert after(progress, (seen(0), 1)).phase == PAUSED


@pytest.mark.parametrize("phase", [HOLDING, WAITING])
def test_who_follows_it_anew_has_no_evidence_yet(phase: str) -> None:
    progress = rollout.restarted(Progress(phase, 1, 10, 500.0))
    assert (progress.phase, progress.step, progress.held) == (APPLYING, 1, 0.0)
    assert after(progress, (seen(50), 1)).phase == HOLDING
    assert after(progress, (seen(10), 1)).phase == PAUSED
    assert rollout.restarted(Progress(MOVING, 1, 10)) == Progress(MOVING, 1, 10)


def test_a_person_promotes_where_the_plan_wants_one() -> None:
    plan = Plan(PLAN.steps, auto_promote=False)
    progress = after(holding(), (seen(10), 60), plan=plan)
    assert (progress.phase, progress.reason) == (WAITING, "a person is to promote it")
    progress = after(progress, (seen(10, verdict=Verdict(INCONCLUSIVE, ("late",), 500)), 60), plan=plan)
    assert (progress.phase, progress.reason) == (WAITING, "the verdict is inconclusive; late")
    assert rollout.promoted(plan, progress, 10) == Progress(MOVING, 1, 10)
    assert rollout.promoted(plan, holding(2), 100).phase == DONE
    assert after(holding(2), (seen(100), 30), plan=plan).phase == DONE, "there is nothing to promote it to"


def test_a_person_pauses_and_aborts() -> None:
    progress = rollout.paused(holding(), "lunch")
    assert (progress.phase, progress.reason) == (PAUSED, "lunch")
    assert rollout.aborted(progress, "").phase == ABORTED


@pytest.mark.parametrize(
    ("refused", "why"),
    [
        (lambda: rollout.paused(Progress(DONE, 2, 50), ""), "over: done"),
        (lambda: rollout.aborted(Progress(REVERTED, 2, 50), ""), "over: reverted"),
        (lambda: rollout.resumed(holding(), 10), "not paused, it is holding"),
        (lambda: rollout.promoted(PLAN, rollout.start(PLAN, 0), 0), "0 % and not the 10 % of the step"),
        (lambda: rollout.promoted(PLAN, holding(2), 0), "0 % and not the 100 % of the step"),
        (lambda: rollout.promoted(PLAN, Progress(PAUSED, 2, 50), 100), "resume it first"),
        (lambda: rollout.check(Plan((Step(33.333, 1, 0),))), "two decimals at most"),
        (lambda: rollout.check(Plan((Step(0.001, 1, 0),))), "two decimals at most"),
        (lambda: rollout.check(Plan((Step(10, float("nan"), 0),))), "hold is above 0"),
        (lambda: rollout.start(PLAN, 0, 3), "there is no step 4: the plan has 3"),
        (lambda: rollout.start(PLAN, 0, -1), "there is no step 0"),
        (lambda: rollout.start(PLAN, 30), "the weight is 30 % already, above the 10 % of step 1"),
        (lambda: rollout.check(Plan(())), "at least one step"),
        (lambda: rollout.check(Plan((Step(10, 1, 0), Step(10, 1, 0)))), "step 2: 10 % does not rise above the 10 %"),
        (lambda: rollout.check(Plan((Step(0, 1, 0),))), "step 1: a weight is above 0"),
        (lambda: rollout.check(Plan((Step(101, 1, 0),))), "not 101"),
        (lambda: rollout.check(Plan((Step(float("nan"), 1, 0),))), "not nan"),
        (lambda: rollout.check(Plan((Step(10, 0, 0),))), "hold is above 0"),
        (lambda: rollout.check(Plan((Step(10, 1, -1),))), "not -1"),
    ],
)
def test_what_makes_no_sense_is_refused(refused: object, why: str) -> None:
    with pytest.raises(BadChange, match=why):
        refused()  # type: ignore[operator]


def test_predictions() -> None:
    both = rollout.predicted(PLAN, 0, 0.5, has_copy=True)
    assert [(each.weight, each.seconds) for each in both] == [(10, 200.0), (50, 60.0), (100, 30.0)]
    split = rollout.predicted(PLAN, 0, 0.5, has_copy=False)
    assert [each.seconds for each in split] == [2000.0, 60.0, 30.0]
    assert [each.seconds for each in rollout.predicted(PLAN, 1, 0.5, has_copy=True)] == [60.0, 30.0]
    assert [each.seconds for each in rollout.predicted(PLAN, 0, 0.0, has_copy=True)] == [None, None, None]


class RolloutMachine(RuleBasedStateMachine):
    """A plan with a world around it that does what it wants, and somebody who turns the weight as the plan says."""

    def __init__(self) -> None:
        super().__init__()
        self.plan = PLAN
        self.progress = rollout.start(PLAN, 0.0)
        self.weight, self.latch = 0.0, ""
        self.evidence = dict.fromkeys(range(len(PLAN.steps)), 0.0)
        """Good seconds at each step, as somebody else counts them."""

    @initialize(auto=st.booleans())
    def begin(self, auto: bool) -> None:
        self.plan = Plan(PLAN.steps, auto_promote=auto)

    @rule(
        elapsed=st.floats(0, 100),
        applied=st.booleans(),
        verdict=st.sampled_from([GOOD, GOOD, Verdict(NODATA), Verdict(INCONCLUSIVE, ("why",), 500)]),
    )
    def tick(self, elapsed: float, applied: bool, verdict: Verdict) -> None:
        before = self.progress
        at = rollout.target(self.plan, before) == self.weight
        if before.phase in (HOLDING, WAITING) and at and applied and not self.latch:
            self.evidence[before.step] += elapsed
        self.progress = rollout.advance(self.plan, before, Seen(self.weight, self.latch, applied, verdict), elapsed)
        if self.progress.step > before.step or (self.progress.phase == DONE and before.phase != DONE):
            assert verdict == GOOD
            assert applied
            assert self.evidence[before.step] >= PLAN.steps[before.step].hold
            assert self.plan.auto_promote or before.step + 1 == len(PLAN.steps)

    @precondition(lambda self: self.progress.phase == MOVING and self.weight == self.progress.came_from)
    @precondition(lambda self: not self.latch)
    @rule()
    def turn(self) -> None:
        self.weight = rollout.target(self.plan, self.progress)
        self.progress = rollout.turned(self.progress)

    @rule(weight=st.sampled_from([0.0, 5.0, 10.0, 50.0]))
    def somebody_turns(self, weight: float) -> None:
        """Once the plan has turned it, it turns it no more."""
        if not self.latch:
            self.weight = weight
            if self.progress.phase in (APPLYING, HOLDING, WAITING) and weight != rollout.target(
                self.plan, self.progress
            ):
                self.tick(1.0, True, GOOD)
                assert self.progress.phase == PAUSED

    @rule()
    def revert(self) -> None:
        self.weight, self.latch = 0.0, "new fails"

    @precondition(lambda self: not self.progress.is_over)
    @rule()
    def pause(self) -> None:
        self.progress = rollout.paused(self.progress, "")

    @precondition(lambda self: self.progress.phase == PAUSED)
    @rule()
    def resume(self) -> None:
        self.evidence[self.progress.step] = 0.0
        self.progress = rollout.resumed(self.progress, self.weight)

    @precondition(lambda self: self.progress.phase in (APPLYING, HOLDING, WAITING) and not self.latch)
    @precondition(lambda self: self.weight == rollout.target(self.plan, self.progress))
    @rule()
    def promote(self) -> None:
        self.progress = rollout.promoted(self.plan, self.progress, self.weight)

    @rule()
    def restart(self) -> None:
        self.progress = rollout.restarted(self.progress)
        self.evidence[self.progress.step] = 0.0

    @precondition(lambda self: not self.progress.is_over)
    @rule()
    def abort(self) -> None:
        self.progress = rollout.aborted(self.progress, "")

    @invariant()
    def it_is_at_a_step_and_says_why_it_is_not_done(self) -> None:
        assert 0 <= self.progress.step < len(self.plan.steps)
        if self.progress.phase in (REVERTED, ABORTED, PAUSED, WAITING):
            assert self.progress.reason


TestRollout = RolloutMachine.TestCase
