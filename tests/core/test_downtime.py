"""Seconds of downtime within a window: each look tells of the time until the next."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.downtime import MOST_ELAPSED, Downtime


def looks(window: float, *seen: tuple[float, bool]) -> list[float]:
    downtime = Downtime(window)
    return [downtime.observe(at, is_down=is_down) for at, is_down in seen]


def test_what_was_down_counts_until_the_next_look() -> None:
    assert looks(60, (0, False), (1, True), (2, True), (3, False), (9, False), (10, True), (11, False)) == [
        0, 0, 1, 2, 2, 2, 3,
    ]  # fmt: skip


def test_it_looks_back_no_further_than_to_its_first_look() -> None:
    downtime = Downtime(10)
    watched = []
    for at in (1.0, 4.0, 12.0):
        downtime.observe(at, is_down=True)
        watched.append(downtime.watched(at))
    downtime.reset()
    downtime.observe(20.0, is_down=True)
    assert [*watched, downtime.watched(20.0)] == [0, 3, 10, 0]


def test_it_slides_out_of_the_window() -> None:
    assert looks(10, (0, True), (4, False), (8, False), (12, False), (14, False)) == [0, 4, 4, 2, 0]


def test_a_time_in_which_nobody_looked_counts_for_little() -> None:
    assert looks(1000, (0, True), (500, False)) == [0, MOST_ELAPSED]


def test_it_knows_when_the_first_was_and_forgets() -> None:
    downtime = Downtime(60)
    assert downtime.since is None
    for second in range(5):
        downtime.observe(float(second), is_down=second in (1, 3))
    assert downtime.since == 1.0
    downtime.reset()
    assert (downtime.since, downtime.observe(9.0, is_down=True)) == (None, 0.0)


@given(
    st.lists(st.tuples(st.floats(0.01, 2 * MOST_ELAPSED), st.booleans()), min_size=1, max_size=80),
    st.floats(1.0, 100.0),
)
def test_it_is_the_sum_of_what_lies_within(steps: list[tuple[float, bool]], window: float) -> None:
    downtime, now, pieces = Downtime(window), 100.0, []
    was_down = False
    for apart, is_down in steps:
        if was_down:
            pieces.append((now, now + min(apart, MOST_ELAPSED)))
        now += apart
        expected = sum(max(0.0, end - max(begin, now - window)) for begin, end in pieces)
        assert downtime.observe(now, is_down=is_down) == pytest.approx(expected, abs=1e-6)
        assert 0 <= expected <= window + 1e-6
        was_down = is_down
