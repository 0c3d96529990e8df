"""The staged plan: every transition, and what may never happen on the way."""

from __future__ import annotations

from functools import partial

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from proxy.core import rollout
from proxy.core.errors import BadChange
from proxy.core.gate import HOLD, NO, NO_ANSWER, PAUSE, REVERT, STEP_BACK, YES, Said
from proxy.core.rollout import (
    ABORTED,
    APPLYING,
    DONE,
    HOLDING,
    MOVING,
    PAUSED,
    PREPARING,
    REVERTED,
    REVERTING,
    WAITING,
    Latency,
    Plan,
    Progress,
    Rollout,
    Seen,
    Step,
)
from proxy.core.verdict import INCONCLUSIVE, NODATA, PASS, Verdict

PLAN = Plan((Step(10, 60, 100), Step(50, 60, 0), Step(100, 30, 0)))
GOOD = Verdict(PASS, (), 1000)


GATED = Plan(
    (Step(10, 60, 0, ("warm",), ("smoke",), ("tell",)), Step(50, 60, 0, ("warm",), ("smoke", "approve"))),
    on_revert=("page",),
)


def seen(
    weight: float, *, latch: str = "", applied: bool = True, verdict: Verdict = GOOD, frozen: str = "", **said: Said
) -> Seen:
    return Seen(weight, latch, applied, verdict, said, frozen=frozen)


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


def test_a_split_that_is_wrong_holds() -> None:
    found = after(holding(), (seen(10)._replace(split="worker 1 gave new 2 too many"), 10_000))
    assert (found.phase, found.reason) == (HOLDING, "worker 1 gave new 2 too many")


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
        again = rollout.resumed(PLAN, found, float(weight))
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


def test_a_second_pause_by_somebody_else_leaves_the_first_ones_reason() -> None:
    first = Rollout(PLAN, holding(), "", "eve")
    ann = rollout.owned(first, rollout.paused(first.progress, "lunch"), "ann", "12:00")
    assert (ann.paused_by, ann.paused_at) == ("ann", "12:00")
    both = rollout.owned(ann, rollout.paused(ann.progress, "incident", by="bob"), "bob", "12:01")
    assert (both.progress.reason, both.paused_by, both.paused_at) == ("lunch; bob: incident", "ann, bob", "12:00")
    again = rollout.owned(both, rollout.paused(both.progress, "incident", by="bob"), "bob", "12:02")
    assert again == both
    assert rollout.owned(both, both.progress, "", "12:03") == both, "a look is nobody's pause"
    gone = rollout.owned(both, rollout.resumed(PLAN, both.progress, 10), "", "12:04")
    assert (gone.paused_by, gone.paused_at) == ("", "")


def test_who_pauses_beside_a_gate_stands_before_it() -> None:
    found = msgspec.structs.replace(holding(), phase=PAUSED, reason="gate smoke: no", against="gate smoke: no")
    found = rollout.paused(found, "lunch", by="ann")
    assert found.reason == "lunch; gate smoke: no"
    assert rollout.paused(found, "incident", by="bob").reason == "lunch; bob: incident; gate smoke: no"


@pytest.mark.parametrize(
    ("refused", "why"),
    [
        (lambda: rollout.paused(Progress(DONE, 2, 50), ""), "over: done"),
        (lambda: rollout.aborted(Progress(REVERTED, 2, 50), ""), "over: reverted"),
        (lambda: rollout.resumed(PLAN, holding(), 10), "not paused, it is holding"),
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
        (lambda: rollout.check(Plan((Step(0, 1, 0),))), "a plan that ends at 0 % leads nowhere"),
        (lambda: rollout.check(Plan((Step(-1, 1, 0),))), "step 1: a weight is from 0 to 100"),
        (lambda: rollout.check(Plan((Step(10, 1, 0), Step(0, 1, 0)))), "step 2: 0 % does not rise"),
        (lambda: rollout.check(Plan(PLAN.steps, latency=Latency(p95=0.0))), "p95 is limited to more than 0"),
        (lambda: rollout.check(Plan(PLAN.steps, latency=Latency(p50=float("inf")))), "p50 is limited"),
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


def test_copies_are_judged_before_the_first_percent() -> None:
    plan = Plan((Step(0, 60, 100), Step(100, 60, 0)))
    progress = rollout.start(plan, 0.0)
    progress = after(progress, (seen(0), 1), (seen(0), 60), plan=plan)
    assert (progress.phase, progress.step, progress.came_from) == (MOVING, 1, 0)
    bad = Verdict("fail", ("new fails",), 500)
    found = after(rollout.start(plan, 0.0), (seen(0), 1), (seen(0, verdict=bad), 600), plan=plan)
    assert (found.phase, found.reason) == (HOLDING, "the verdict is fail; new fails")
    with pytest.raises(BadChange, match="the weight is 5 % already"):
        rollout.start(plan, 5.0)


@pytest.mark.parametrize(
    ("latency", "reason"),
    [
        (Latency(0.1, 0.5), ""),
        (Latency(0.1, 0.501), "p95 of new is 501 ms and has to be at most 500 ms"),
        (Latency(0.1), "p95 of new is not known and has to be at most 500 ms"),
    ],
)
def test_limits_of_latency_hold_a_step(latency: Latency, reason: str) -> None:
    plan = Plan(PLAN.steps, latency=Latency(p95=0.5))
    found = rollout.advance(plan, holding(held=60.0), seen(10)._replace(latency=latency), 1)
    assert (found.phase, found.reason) == ((HOLDING, reason) if reason else (MOVING, ""))


def test_gates_open_the_way_to_a_step_and_on_from_it() -> None:
    progress = rollout.start(GATED, 0.0)
    assert (progress.phase, rollout.asks(GATED, progress, seen(0))) == (PREPARING, ("warm",))
    progress = after(progress, (seen(0), 1), plan=GATED)
    assert (progress.phase, progress.reason) == (PREPARING, "gate warm: no answer (it is being asked)")
    progress = after(progress, (seen(0, warm=Said(YES)), 1), plan=GATED)
    assert (progress.phase, rollout.asks(GATED, progress, seen(0))) == (MOVING, ())
    progress = after(progress, (seen(10), 1), (seen(10), 59), plan=GATED)
    assert rollout.asks(GATED, progress, seen(10)) == (), "it has not held yet"
    progress = after(progress, (seen(10), 1), plan=GATED)
    assert (progress.phase, progress.reason) == (HOLDING, "gate smoke: no answer (it is being asked)")
    assert rollout.asks(GATED, progress, seen(10)) == ("smoke",)
    for elsewhere in (seen(10, applied=False), seen(11), seen(10, latch="x"), seen(10, verdict=Verdict(NODATA))):
        assert rollout.asks(GATED, progress, elsewhere) == ()
    further = after(progress, (seen(10, smoke=Said(YES)), 1), plan=GATED)
    assert (further.phase, further.step, further.came_from) == (PREPARING, 1, 10)
    assert rollout.tells(GATED, progress, further) == ("tell",)
    assert rollout.tells(GATED, further, further) == ()


@pytest.mark.parametrize("answer", [NO, NO_ANSWER])
def test_a_gate_that_does_not_say_yes_holds(answer: str) -> None:
    held = Progress(HOLDING, 1, 10, 60.0)
    found = after(held, (seen(50, smoke=Said(YES), approve=Said(answer, "ask Ada")), 1), plan=GATED)
    assert (found.phase, found.reason) == (HOLDING, f"gate approve: {answer} (ask Ada)")
    assert rollout.asks(GATED, found, seen(50)) == ("smoke", "approve")


@pytest.mark.parametrize(
    ("step", "on_fail", "phase", "lands_at"),
    [
        (1, PAUSE, PAUSED, 1),
        (1, STEP_BACK, MOVING, 0),
        (1, REVERT, REVERTING, 1),
        (0, PAUSE, PAUSED, 0),
        (0, STEP_BACK, REVERTING, 0),
        (0, REVERT, REVERTING, 0),
    ],
)
def test_what_a_no_does_at_a_step(step: int, on_fail: str, phase: str, lands_at: int) -> None:
    held = Progress(HOLDING, step, 0 if step == 0 else 10, 60.0)
    weight = rollout.target(GATED, held)
    found = after(held, (seen(weight, approve=Said(YES), smoke=Said(NO, "500", on_fail)), 1), plan=GATED)
    assert (found.phase, found.step, found.reason) == (phase, lands_at, "gate smoke: no (500)")
    no_answer = after(held, (seen(weight, approve=Said(YES), smoke=Said(NO_ANSWER, "", on_fail)), 1), plan=GATED)
    assert no_answer.phase == HOLDING, "who says nothing has not said no"


@pytest.mark.parametrize(
    ("step", "on_fail", "phase"),
    [(0, REVERT, PAUSED), (1, REVERT, REVERTING), (1, STEP_BACK, PAUSED), (1, PAUSE, PAUSED), (1, HOLD, PREPARING)],
)
def test_what_a_no_does_before_a_step(step: int, on_fail: str, phase: str) -> None:
    """Before the first one there is nothing to go back to."""
    weight = 10.0 * step
    found = after(Progress(PREPARING, step, weight), (seen(weight, warm=Said(NO, "", on_fail)), 1), plan=GATED)
    assert (found.phase, found.step, found.reason) == (phase, step, "gate warm: no")


@pytest.mark.parametrize("said", [Said(NO, "500", PAUSE), Said(NO, "500", HOLD), Said(NO_ANSWER, "away")])
def test_what_a_gate_said_stands_beside_the_reason_of_who_pauses(said: Said) -> None:
    held = Progress(HOLDING, 1, 10, 60.0)
    found = after(held, (seen(50, smoke=said, approve=Said(YES)), 1), plan=GATED)
    told = f"gate smoke: {said.answer} ({said.text})"
    for reason, shown in (("lunch", "lunch"), ("", "paused"), ("dinner", "dinner")):
        found = rollout.paused(found, reason)
        assert (found.phase, found.reason) == (PAUSED, f"{shown}; {told}"), "and not those of earlier pauses"
    assert rollout.paused(rollout.resumed(GATED, found, 50), "tea").reason == "tea", "it goes on by asking anew"


def test_before_a_step_as_well_and_not_once_it_has_said_yes() -> None:
    preparing = after(Progress(PREPARING, 1, 10.0), (seen(10, warm=Said(NO, "cold", HOLD)), 1), plan=GATED)
    assert rollout.paused(preparing, "lunch").reason == "lunch; gate warm: no (cold)"
    for later in (
        after(preparing, (seen(10, warm=Said(YES)), 1), plan=GATED),
        after(preparing, (seen(10, frozen="frozen"), 1), plan=GATED),
        after(preparing, (seen(30), 1), plan=GATED),
        rollout.promoted(GATED, preparing, 10),
    ):
        assert rollout.paused(later, "lunch").reason == "lunch"
    held = after(Progress(HOLDING, 1, 10, 60.0), (seen(50, smoke=Said(NO, "", HOLD)), 1), plan=GATED)
    lacking = after(held, (seen(50, verdict=Verdict(INCONCLUSIVE)), 1), plan=GATED)
    assert rollout.paused(lacking, "lunch").reason == "lunch", "the gates are asked anew when the verdict is well"


def test_the_hardest_no_decides() -> None:
    held = Progress(HOLDING, 1, 10, 60.0)
    found = after(held, (seen(50, smoke=Said(NO, "", HOLD), approve=Said(NO, "", REVERT)), 1), plan=GATED)
    assert (found.phase, found.reason) == (REVERTING, "gate smoke: no; gate approve: no")


def test_a_step_back_holds_anew_and_is_not_prepared_again() -> None:
    back = after(Progress(HOLDING, 1, 10, 60.0), (seen(50, smoke=Said(NO, "", STEP_BACK)), 1), plan=GATED)
    assert after(back, (seen(50), 1), plan=GATED).phase == MOVING
    found = after(rollout.turned(back), (seen(10), 1), (seen(10), 59), plan=GATED)
    assert (found.phase, found.step, found.held) == (HOLDING, 0, 59.0)
    assert rollout.tells(GATED, Progress(HOLDING, 1, 10, 60.0), back) == (), "it was not done"


def test_what_is_reverting_ends_with_the_weight_at_0() -> None:
    reverting = Progress(REVERTING, 1, 10, 60.0, "gate smoke: no")
    assert after(reverting, (seen(50), 1), plan=GATED) == reverting
    assert rollout.restarted(reverting) == reverting
    for last in (seen(0), seen(0, latch="gate smoke: no")):
        ended = after(reverting, (last, 1), plan=GATED)
        assert (ended.phase, ended.reason) == (REVERTED, "gate smoke: no")
        assert rollout.tells(GATED, reverting, ended) == ("page",)
        assert rollout.tells(GATED, ended, ended) == ()
    for refused in (partial(rollout.paused, reverting, ""), partial(rollout.promoted, GATED, reverting, 50)):
        with pytest.raises(BadChange, match="reverting"):
            refused()


def test_a_person_goes_past_a_gate_and_comes_back_to_it_after_a_pause() -> None:
    preparing = Progress(PREPARING, 1, 10.0, 0.0, "gate warm: no")
    assert rollout.promoted(GATED, preparing, 10) == Progress(MOVING, 1, 10)
    assert rollout.resumed(GATED, rollout.paused(preparing, ""), 10).phase == PREPARING
    assert rollout.resumed(GATED, Progress(PAUSED, 1, 10), 50).phase == MOVING, "the weight is there"
    assert rollout.promoted(GATED, Progress(HOLDING, 0, 0, 60.0), 10).phase == PREPARING
    assert after(preparing, (seen(30), 1), plan=GATED).phase == PAUSED, "somebody else turned it"
    assert after(preparing, (seen(50), 1), plan=GATED).phase == HOLDING, "somebody turned it for us"
    assert rollout.restarted(preparing) == preparing


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
        steps = tuple(msgspec.structs.replace(each, before=("warm",), gates=("smoke",)) for each in PLAN.steps)
        self.plan = Plan(steps, auto_promote=auto)
        self.progress = rollout.start(self.plan, 0.0)

    @rule(
        elapsed=st.floats(0, 100),
        applied=st.booleans(),
        verdict=st.sampled_from([GOOD, GOOD, Verdict(NODATA), Verdict(INCONCLUSIVE, ("why",), 500)]),
        answer=st.sampled_from([YES, YES, NO, NO_ANSWER]),
        on_fail=st.sampled_from([HOLD, PAUSE, STEP_BACK, REVERT]),
        frozen=st.sampled_from(["", "", "", "it is frozen"]),
    )
    def tick(
        self,
        elapsed: float,
        applied: bool,
        verdict: Verdict,
        answer: str = YES,
        on_fail: str = HOLD,
        frozen: str = "",
    ) -> None:
        before = self.progress
        asked = rollout.asks(self.plan, before, Seen(self.weight, self.latch, applied, verdict, frozen=frozen))
        said = {name: Said(answer, "", on_fail) for name in asked}
        at = rollout.target(self.plan, before) == self.weight
        if before.phase in (HOLDING, WAITING) and at and applied and not self.latch:
            self.evidence[before.step] += elapsed
        seen = Seen(self.weight, self.latch, applied, verdict, said, frozen=frozen)
        self.progress = rollout.advance(self.plan, before, seen, elapsed)
        if self.progress.step < before.step:
            assert (answer, on_fail) == (NO, STEP_BACK)
            self.evidence = dict.fromkeys(self.evidence, 0.0)
        if (before.phase, self.progress.phase) == (PREPARING, MOVING):
            assert said == {"warm": Said(YES, "", on_fail)}
            assert not frozen
        if self.progress.step > before.step or (self.progress.phase == DONE and before.phase != DONE):
            assert verdict == GOOD
            assert applied
            assert not frozen or self.progress.phase == DONE
            if before.phase == HOLDING:
                assert said == {"smoke": Said(YES, "", on_fail)}
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

    @precondition(lambda self: self.progress.phase == REVERTING)
    @rule()
    def gates_revert(self) -> None:
        self.weight, self.latch = 0.0, self.progress.reason
        self.tick(0.0, True, GOOD)
        assert self.progress.phase == REVERTED

    @precondition(lambda self: not self.progress.is_over and self.progress.phase != REVERTING)
    @rule()
    def pause(self) -> None:
        self.progress = rollout.paused(self.progress, "")

    @precondition(lambda self: self.progress.phase == PAUSED)
    @rule()
    def resume(self) -> None:
        self.evidence[self.progress.step] = 0.0
        self.progress = rollout.resumed(self.plan, self.progress, self.weight)

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
        if self.progress.phase in (REVERTED, REVERTING, ABORTED, PAUSED, WAITING):
            assert self.progress.reason


TestRollout = RolloutMachine.TestCase


def test_a_freeze_keeps_it_at_its_step_which_is_judged_anew_afterwards() -> None:
    frozen = seen(10, frozen="events is frozen")
    progress = after(holding(0, 50.0), (frozen, 20))
    assert (progress.phase, progress.step, progress.held, progress.reason) == (HOLDING, 0, 70.0, "events is frozen")
    doubtful = seen(10, verdict=Verdict(INCONCLUSIVE, ("who knows",), 1000))
    assert after(progress, (frozen, 1000), (doubtful, 1)).phase == HOLDING
    assert after(progress, (frozen, 1000), (seen(10), 1)).step == 1
    assert after(progress, (seen(0, latch="it fails", frozen="events is frozen"), 1)).phase == REVERTED


def test_a_freeze_does_not_keep_the_last_step_from_its_end() -> None:
    assert after(holding(2, 30.0), (seen(100, frozen="events is frozen"), 1)).phase == DONE


def test_a_person_is_asked_for_a_promotion_when_there_may_be_one() -> None:
    plan = msgspec.structs.replace(PLAN, auto_promote=False)
    frozen = seen(10, frozen="events is frozen")
    assert after(holding(0, 60.0), (frozen, 1), plan=plan).phase == HOLDING
    waiting = after(holding(0, 60.0), (seen(10), 1), (frozen, 1), plan=plan)
    assert (waiting.phase, waiting.reason) == (WAITING, "events is frozen")
    assert after(waiting, (seen(10), 1), plan=plan).reason == "a person is to promote it"


def test_gates_are_asked_after_a_freeze_and_not_within_it() -> None:
    progress = rollout.start(GATED, 0.0)
    frozen = seen(0, frozen="events is frozen", warm=Said(YES))
    assert rollout.asks(GATED, progress, frozen) == ()
    progress = after(progress, (frozen, 1), plan=GATED)
    assert (progress.phase, progress.reason) == (PREPARING, "events is frozen")
    assert rollout.asks(GATED, progress, seen(0)) == ("warm",)
    assert after(progress, (seen(0, warm=Said(YES)), 1), plan=GATED).phase == MOVING
    held = Progress(HOLDING, 0, 0.0, 100.0)
    assert rollout.asks(GATED, held, seen(10, frozen="events is frozen")) == ()
    assert rollout.asks(GATED, held, seen(10)) == ("smoke",)
