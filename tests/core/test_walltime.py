"""A wall clock beside a monotonic one: steps, restarts, and times away."""

from __future__ import annotations

import pytest

from proxy.core.walltime import AWAY, PACE, SURE, WallTime

NOON = 1_700_000_000.0


def looks(known: WallTime, *steps: tuple[float, float]) -> list[bool]:
    """Whether it is believed after each step: how far the wall clock went, and how far the monotonic one."""
    at, found = (known.last if known.last is not None else known.believed) or NOON, []
    for wall, seconds in steps:
        at += wall
        known = known.after(at, seconds)
        found.append(known.is_believed)
    return found


def test_the_first_time_is_believed() -> None:
    assert WallTime(None).after(NOON, 10.0) == WallTime(NOON, last=NOON, is_believed=True)


def test_clocks_at_the_same_pace_are_believed() -> None:
    assert looks(WallTime(None), *[(10.0, 10.0)] * 5, (3600.0, 3600.0), (10.0 + PACE, 10.0)) == [True] * 7


@pytest.mark.parametrize("jump", [1e9, 86_400.0, PACE + 1, -PACE - 1, -86_400.0, -1e9])
def test_a_step_is_doubted_until_it_is_taken_back(jump: float) -> None:
    steps = [(10.0, 10.0), (10.0 + jump, 10.0), (10.0, 10.0), (10.0 - jump, 10.0), (10.0, 10.0)]
    assert looks(WallTime(None), *steps) == [True, False, False, True, True]


@pytest.mark.parametrize("jump", [86_400.0, -86_400.0])
def test_a_step_that_stays_is_believed_in_the_end(jump: float) -> None:
    steps = [(10.0, 10.0), (jump, 10.0), (SURE / 2, SURE / 2), (SURE / 2 - 1, SURE / 2 - 1), (1.0, 1.0), (10.0, 10.0)]
    assert looks(WallTime(None), *steps) == [True, False, False, False, True, True]


def test_another_step_begins_the_doubt_anew() -> None:
    steps = [(10.0, 10.0), (1e6, 10.0), (SURE - 1, SURE - 1), (1e6, 10.0), (SURE - 1, SURE - 1), (1.0, 1.0)]
    assert looks(WallTime(None), *steps) == [True, False, False, False, False, True]


@pytest.mark.parametrize(("away", "is_believed"), [(0.0, True), (AWAY, True), (AWAY + 1, False), (-PACE - 1, False)])
def test_a_new_life_may_have_been_away(away: float, is_believed: bool) -> None:
    assert looks(WallTime(NOON), (10.0 + away, 10.0)) == [is_believed]


def test_a_restart_in_a_false_time_takes_nothing_for_sure() -> None:
    doubted = WallTime(NOON).after(NOON + 1e6, 10.0).after(NOON + 1e6 + SURE - 1, SURE - 1)
    assert doubted.believed == NOON
    assert looks(WallTime(doubted.believed), (1e6 + SURE, 10.0), (10.0, 10.0)) == [False, False]
