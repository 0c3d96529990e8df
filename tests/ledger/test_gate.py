"""The gate of one backend by itself: when it is shut, and when that is certainly the backend's doing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proxy.ledger.backoff import Backoff
from proxy.ledger.gate import ALONE, EVENTS_FAILED, FAILURES_IN_A_ROW, Gate


class FakeTimer:
    def __init__(self, seconds: float, call: Callable[[], None]) -> None:
        self.seconds = seconds
        self.call = call
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class GateScript:
    """A gate with timers that a test fires."""

    def __init__(self, concurrency: int = 4) -> None:
        self.timers: list[FakeTimer] = []
        self.opened: list[Gate] = []
        self.gate = Gate("new", concurrency, Backoff(0.1, 1.0), self.call_later, self.opened.append)

    def call_later(self, seconds: float, call: Callable[[], None]) -> Any:
        self.timers.append(FakeTimer(seconds, call))
        return self.timers[-1]

    def fire(self) -> None:
        timer = self.timers[-1]
        assert not timer.is_cancelled
        timer.call()

    def fly(self, *, fails: bool = False, seq: int = 7, now: float = 0.0) -> None:
        assert self.gate.may_start()
        self.gate.started()
        self.gate.ended()
        if fails:
            self.gate.failed(seq, now)
        else:
            self.gate.succeeded()

    def fail(self, events: list[int], now: float = 0.0) -> None:
        for seq in events:
            self.fly(fails=True, seq=seq, now=now)

    def try_again(self, seq: int, now: float) -> None:
        """The back-off is over, and the trial fails."""
        self.fire()
        self.fail([seq], now)


def test_an_open_gate_lets_so_many_through() -> None:
    gate = GateScript(concurrency=2).gate
    gate.started()
    gate.started()
    assert not gate.may_start()
    gate.ended()
    assert gate.may_start()


def test_a_pause_ends_with_one_trial() -> None:
    script = GateScript()
    gate = script.gate
    gate.pause("refused", shown=False)
    assert not gate.may_start()
    assert gate.paused == ""
    script.fire()
    assert script.opened == [gate]
    assert gate.may_start()
    gate.started()
    assert not gate.may_start(), "one at a time"
    gate.ended()
    assert gate.succeeded()
    assert gate.may_start()
    assert gate.is_open


def test_a_trial_that_told_nothing_of_the_backend_lets_another_event_try() -> None:
    script = GateScript()
    gate = script.gate
    gate.pause("refused", shown=False)
    script.fire()
    trial = gate.started()
    gate.ended()
    gate.told_nothing(trial)
    assert gate.may_start()
    script.fly()
    assert gate.is_open


def test_only_the_trial_itself_lets_another_event_try() -> None:
    script = GateScript()
    gate = script.gate
    earlier = gate.started()
    gate.pause("refused", shown=False)
    script.fire()
    first = gate.started()
    gate.told_nothing(earlier)
    assert not gate.may_start(), "it was sent before the pause"
    gate.pause("refused again", shown=False)
    script.fire()
    second = gate.started()
    gate.told_nothing(first)
    assert not gate.may_start(), "another one is the trial by now"
    gate.told_nothing(second)
    assert gate.may_start()


def test_a_failed_trial_pauses_longer() -> None:
    script = GateScript()
    script.gate.pause("refused", shown=False)
    for _ in range(4):
        script.fire()
        script.gate.started()
        script.gate.ended()
        script.gate.pause("refused", shown=False)
    assert len(script.timers) == 5
    assert script.timers[-1].seconds > script.timers[0].seconds


def test_failures_that_arrive_during_a_pause_do_not_prolong_it() -> None:
    script = GateScript()
    for _ in range(4):
        script.gate.started()
    for _ in range(4):
        script.gate.ended()
        script.gate.pause("refused", shown=False)
    assert len(script.timers) == 1


def test_a_person_must_mend_a_wrong_credential() -> None:
    script = GateScript()
    script.gate.pause("status 403", shown=True)
    assert script.gate.paused == "status 403"
    script.gate.try_now()
    assert not script.gate.may_start(), "a healthy probe says nothing about our credential"
    script.fire()
    script.gate.started()
    script.gate.ended()
    script.gate.succeeded()
    assert script.gate.paused == ""


def test_a_sign_of_life_ends_a_pause_early() -> None:
    script = GateScript()
    script.gate.try_now()
    assert script.opened == [], "it is open"
    script.gate.pause("refused", shown=False)
    script.gate.try_now()
    assert script.timers[0].is_cancelled
    assert script.gate.may_start()


def test_many_failures_in_a_row_are_the_backends() -> None:
    script = GateScript()
    for _ in range(FAILURES_IN_A_ROW - 1):
        script.fly(fails=True)
    script.fly()
    for _ in range(FAILURES_IN_A_ROW):
        assert script.gate.is_open
        script.fly(fails=True)
    assert not script.gate.is_open


def test_live_answers_between_failures_keep_the_gate_open() -> None:
    script = GateScript()
    for _ in range(3 * FAILURES_IN_A_ROW):
        script.fly(fails=True)
        script.gate.saw_live(2)
    assert script.gate.is_open
    assert script.gate.successes == 6 * FAILURES_IN_A_ROW


def test_a_trial_that_fails_while_live_events_are_taken_failed_by_itself() -> None:
    script = GateScript()
    script.gate.pause("refused", shown=False)
    script.gate.saw_live(1)
    assert script.timers[0].is_cancelled
    script.fly(fails=True)
    assert script.gate.is_open
    script.gate.pause("refused", shown=False)
    script.fire()
    script.fly(fails=True)
    assert not script.gate.is_open, "nothing was taken since this pause"


def test_a_closed_gate_starts_nothing() -> None:
    script = GateScript()
    script.gate.pause("refused", shown=False)
    script.gate.close()
    assert script.timers[0].is_cancelled
    assert not script.gate.may_start()


def test_one_event_alone_shuts_it_and_proves_nothing() -> None:
    script = GateScript()
    script.fail([7] * (FAILURES_IN_A_ROW - 1))
    assert script.gate.is_open
    script.fail([7])
    assert (script.gate.is_open, script.gate.is_failing(0.0)) == (False, False)
    script.try_again(7, 30.0)
    assert not script.gate.is_failing(ALONE - 0.1)


def test_one_event_for_long_with_nothing_taken_is_the_backend() -> None:
    script = GateScript()
    script.fail([7] * FAILURES_IN_A_ROW, now=100.0)
    assert not script.gate.is_failing(100.0 + ALONE - 0.1)
    assert script.gate.is_failing(100.0 + ALONE)


def test_what_is_taken_meanwhile_begins_that_time_anew() -> None:
    script = GateScript()
    script.fail([7] * FAILURES_IN_A_ROW)
    script.gate.saw_live(1)  # which makes the trial due at once
    assert not script.gate.is_failing(ALONE)
    script.fail([7], ALONE)
    assert script.gate.is_open, "the trial met an event that fails by itself"
    script.fail([7] * (FAILURES_IN_A_ROW - 1), now=ALONE)
    assert (script.gate.is_open, script.gate.is_failing(ALONE + 1)) == (False, False)


def test_several_events_are_the_backend() -> None:
    script = GateScript()
    script.fail([number % EVENTS_FAILED for number in range(FAILURES_IN_A_ROW)])
    assert script.gate.is_failing(0.0)


def test_trials_of_others_make_it_certain() -> None:
    script = GateScript()
    script.fail([7] * FAILURES_IN_A_ROW)
    script.try_again(8, 1.0)
    assert not script.gate.is_failing(1.0)
    script.try_again(9, 2.0)
    assert script.gate.is_failing(2.0)


def test_what_is_not_reached_is_the_backend_at_once() -> None:
    script = GateScript()
    script.gate.pause("connection refused", shown=False)
    assert script.gate.is_failing(0.0)
    script.fire()
    script.gate.started()
    script.gate.succeeded()
    assert (script.gate.is_open, script.gate.is_failing(0.0)) == (True, False)


def test_reached_again_it_is_judged_by_events() -> None:
    script = GateScript()
    script.gate.pause("connection refused", shown=False)
    script.try_again(7, 1.0)
    assert not script.gate.is_failing(1.0)
