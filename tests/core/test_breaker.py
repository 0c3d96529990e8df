"""The breaker, with a clock that the script turns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.breaker import Breaker, BreakerTrouble

RESET = 2.0


def opened(at: float = 0.0) -> Breaker:
    """A breaker that three failures have just opened."""
    breaker = Breaker(3, RESET)
    assert [breaker.failed(at) for _ in range(3)] == [False, False, True]
    return breaker


def test_it_starts_closed() -> None:
    breaker = Breaker(3, RESET)
    assert (breaker.is_closed, breaker.state(0.0), breaker.opened, breaker.allows(0.0)) == (True, "closed", 0, True)


@pytest.mark.parametrize("failures", [1, 2, 5])
def test_so_many_failures_in_a_row_open_it_and_the_last_one_says_so(failures: int) -> None:
    breaker = Breaker(failures, RESET)
    assert [breaker.failed(0.0) for _ in range(failures)] == [False] * (failures - 1) + [True]
    assert (breaker.is_closed, breaker.state(0.0), breaker.opened) == (False, "open", 1)


def test_one_success_starts_the_row_again() -> None:
    breaker = Breaker(3, RESET)
    for _ in range(10):
        breaker.failed(0.0)
        breaker.failed(0.0)
        breaker.succeeded()
    assert breaker.is_closed
    assert breaker.opened == 0


def test_an_open_breaker_lets_nothing_through_until_the_reset_time() -> None:
    breaker = opened(at=10.0)
    assert [breaker.allows(now) for now in (10.0, 11.0, 11.99)] == [False, False, False]
    assert breaker.state(11.99) == "open"
    assert breaker.state(12.0) == "half-open"
    assert breaker.allows(12.0)


def test_there_is_one_trial_at_a_time() -> None:
    breaker = opened()
    assert [breaker.allows(now) for now in (2.0, 2.0, 2.5, 3.9)] == [True, False, False, False]
    assert breaker.state(2.5) == "half-open"


def test_a_trial_that_is_never_heard_of_again_does_not_shut_it_for_ever() -> None:
    breaker = opened()
    assert breaker.allows(2.0)
    assert not breaker.allows(3.9)
    assert breaker.allows(4.0)


def test_a_trial_that_succeeds_closes_it() -> None:
    breaker = opened()
    assert breaker.allows(2.0)
    breaker.succeeded()
    assert (breaker.is_closed, breaker.state(2.0), breaker.allows(2.0), breaker.allows(2.0)) == (
        True,
        "closed",
        True,
        True,
    )


def test_a_trial_that_fails_begins_the_wait_again() -> None:
    breaker = opened()
    assert breaker.allows(2.0)
    assert not breaker.failed(2.5), "it was open already"
    assert [breaker.allows(now) for now in (2.5, 4.4)] == [False, False]
    assert breaker.state(4.4) == "open"
    assert breaker.allows(4.5)


def test_late_failures_of_what_was_in_flight_are_not_counted_as_openings() -> None:
    breaker = opened()
    assert [breaker.failed(0.5) for _ in range(20)] == [False] * 20
    assert breaker.opened == 1
    assert breaker.allows(2.5)


def test_after_closing_it_takes_a_whole_row_to_open_it_again() -> None:
    breaker = opened()
    assert breaker.allows(2.0)
    breaker.succeeded()
    assert [breaker.failed(3.0) for _ in range(3)] == [False, False, True]
    assert breaker.opened == 2
    assert not breaker.allows(4.9)
    assert breaker.allows(5.0)


def test_why_it_is_open_is_its_last_failure_and_since_when_the_first_one() -> None:
    breaker = Breaker(3, RESET)
    breaker.failed(1.0, "status 500")
    breaker.succeeded()
    breaker.note(9.0, "status 503", sent_at=8.0)  # of one endpoint of several
    breaker.failed(20.0, "no answer within 10 s", sent_at=10.0)
    breaker.failed(20.5, "no answer within 10 s", sent_at=10.5)
    assert breaker.trouble(20.5) is None
    breaker.failed(21.0, "connection refused")
    assert breaker.trouble(21.5) == BreakerTrouble("connection refused", 3, 13.5)
    breaker.failed(23.0, "status 502", sent_at=22.9)
    assert breaker.trouble(23.0) == BreakerTrouble("status 502", 4, 15.0), "a trial that failed is of the same run"
    breaker.succeeded()
    assert breaker.trouble(23.0) is None


# Quarters of a second, so that sums of times are exact.
waits = st.integers(0, 12).map(lambda quarters: quarters / 4)
ACTIONS = st.lists(st.tuples(st.sampled_from(("ask", "ok", "fail")), waits), max_size=60)


@given(st.integers(1, 4), ACTIONS)
def test_whatever_happens_it_is_open_only_for_a_reason_and_never_for_ever(
    failures: int, actions: list[tuple[str, float]]
) -> None:
    breaker = Breaker(failures, RESET)
    now, row, openings, last_let = 0.0, 0, 0, -RESET
    for action, seconds in actions:
        now += seconds
        if action == "fail":
            row += 1
            openings += breaker.failed(now)
            last_let = -RESET
        elif action == "ok":
            row = 0
            breaker.succeeded()
        elif breaker.allows(now) and not breaker.is_closed:
            assert now - last_let >= RESET, "two trials at a time"
            last_let = now
        assert breaker.is_closed == (row < failures)
        assert breaker.is_closed == (breaker.state(now) == "closed")
    assert breaker.opened == openings
    assert breaker.allows(now + RESET)
