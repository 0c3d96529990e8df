"""The lag of an event loop, as told by a timer that runs anyway."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.loop_lag import WINDOW, LoopLag


def test_what_was_never_expected_is_not_late() -> None:
    assert LoopLag().ran(1000.0) == 0.0


def test_a_timer_that_comes_early_is_not_late() -> None:
    lag = LoopLag()
    lag.expect(10.0)
    assert lag.ran(9.999) == 0.0


def test_the_worst_is_told_until_the_window_is_over() -> None:
    lag = LoopLag()
    lag.expect(10.0)
    assert lag.ran(13.0) == 3.0
    lag.expect(13.25)
    assert lag.ran(13.5) == 3.0
    lag.expect(13.0 + WINDOW)
    assert lag.ran(13.0 + WINDOW) == 0.25


def test_a_run_without_a_new_due_time_counts_once() -> None:
    lag = LoopLag()
    lag.expect(10.0)
    lag.ran(11.0)
    assert lag.ran(10_000.0) == 0.0


@given(st.lists(st.tuples(st.floats(0.01, 5), st.floats(0, 5)), min_size=1, max_size=60))
def test_it_is_the_maximum_over_the_window(steps: list[tuple[float, float]]) -> None:
    """steps: how long after the last run the timer is due, and how late it comes."""
    lag, now = LoopLag(), 0.0
    seen: list[tuple[float, float]] = []
    for wait, late in steps:
        due = now + wait
        lag.expect(due)
        now = due + late
        seen.append((now, now - due))
        assert lag.ran(now) == max(each for at, each in seen if at > now - WINDOW)


@pytest.mark.asyncio
async def test_a_blocked_loop_is_seen() -> None:
    lag, loop = LoopLag(), asyncio.get_running_loop()
    ran: asyncio.Future[float] = loop.create_future()
    lag.expect(time.monotonic() + 0.01)
    loop.call_later(0.01, lambda: ran.set_result(lag.ran(time.monotonic())))
    time.sleep(0.1)  # noqa: ASYNC251 - this is what is to be seen
    assert 0.08 <= await ran < 5.0
