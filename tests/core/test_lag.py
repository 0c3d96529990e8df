"""A side that falls behind is told from one that keeps up, and from one that works off its backlog."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.lag import LEAST, Kind, Lag, LagTest, Waiting

WINDOW, LIMIT, PATIENCE = 60.0, 60.0, 300.0
LONG = int(WINDOW + LIMIT + PATIENCE) + 60
"""Seconds after which whatever lasts has lasted long enough."""


class Side:
    """A side with a queue, second by second. backlog: events that wait already, since `age` seconds before 0."""

    def __init__(self, backlog: int = 0, age: float = 0.0) -> None:
        self.test = LagTest(WINDOW, LIMIT)
        self.now = 0.0
        self.owed = backlog
        self.queue = deque([[-age, backlog]]) if backlog else deque()

    def second(self, arrive: int, take: int, dropped: int = 0) -> Lag | None:
        """So many arrive, so many of those that wait are taken, and receipts of so many are dropped."""
        self.now += 1.0
        self.owed += arrive - dropped
        if arrive:
            self.queue.append([self.now, arrive])
        while take and self.queue:
            taken = min(take, int(self.queue[0][1]))
            self.queue[0][1] -= taken
            take -= taken
            if not self.queue[0][1]:
                self.queue.popleft()
        oldest = self.now - self.queue[0][0] if self.queue else 0.0
        return self.test.observe(Waiting(self.now, self.owed, sum(int(count) for _, count in self.queue), oldest))

    def run(self, steps: Iterable[tuple[int, int]]) -> list[Lag | None]:
        return [self.second(*step) for step in steps]


def lasted(found: list[Lag | None]) -> int | None:
    """The second at which it has been a lag for long enough."""
    return next(
        (at for at, lag in enumerate(found, 1) if lag is not None and lag.is_lag and lag.lasts >= PATIENCE), None
    )


ARRIVALS = st.lists(st.integers(0, 500), min_size=LONG, max_size=LONG)


@given(ARRIVALS, st.integers(0, 40))
def test_whoever_keeps_up_is_never_behind(arrivals: list[int], delay: int) -> None:
    """However unsteady: all of it is taken some seconds later."""
    steps = zip(arrivals, [0] * delay + arrivals, strict=False)
    found = Side().run(steps)
    if delay == 0:
        assert found == [None] * LONG
    assert lasted(found) is None


@given(ARRIVALS, st.integers(1, 10**7), st.floats(0, 10**6))
def test_a_backlog_that_is_worked_off_is_no_reason(arrivals: list[int], backlog: int, age: float) -> None:
    found = Side(backlog, age).run((each, each + 1 + each // 50) for each in arrivals)
    assert not any(lag.is_lag for lag in found if lag is not None)


@given(st.lists(st.integers(10, 500), min_size=LONG, max_size=LONG), st.integers(0, 75), st.booleans())
def test_what_takes_too_little_is_found_and_not_before_its_time(arrivals: list[int], percent: int, drops: bool) -> None:
    """With and without receipts that are dropped meanwhile."""
    side = Side()
    found = [
        side.second(each, each * percent // 100, dropped=100_000 if drops and not second % 20 else 0)
        for second, each in enumerate(arrivals)
    ]
    at = lasted(found)
    assert at is not None
    assert WINDOW + PATIENCE <= at <= WINDOW + PATIENCE + 2
    assert all(lag is None or not lag.is_lag for lag in found[: int(WINDOW)])


@given(st.integers(1, LEAST - 1), ARRIVALS)
def test_some_keys_alone_are_no_reason(stuck: int, arrivals: list[int]) -> None:
    side, found = Side(), []
    for each in arrivals:
        side.now += 1.0
        side.owed += each + 1
        found.append(side.test.observe(Waiting(side.now, side.owed, stuck, side.now + 1000.0)))
    assert {lag.kind for lag in found if lag is not None} == {Kind.UNKNOWN, Kind.FEW}


@given(st.integers(1, 50), st.integers(1, 40))
def test_one_that_takes_nothing_is_found_by_the_age_of_the_oldest(every: int, backlog: int) -> None:
    """Be there ever so little traffic."""
    found = Side(backlog).run((int(second % every == 0), 0) for second in range(LONG))
    at = lasted(found)
    assert at is not None
    assert at >= LIMIT + PATIENCE


def test_a_break_begins_it_anew() -> None:
    side = Side()
    found = side.run([(100, 50)] * 200)
    lag = found[-1]
    assert lag is not None
    assert (lag.kind, lag.owed, lag.taken, lag.seconds) == (Kind.FALLS_BEHIND, 6000, 3000, 60)
    assert (lag.pending, lag.lasts) == (10_000, 139)
    assert side.run([(100, 400)] * 100)[-1] is None
    again = side.run([(100, 50)] * 90)[-1]
    assert again is not None
    assert again.lasts < 90


def test_a_replay_is_a_burst_and_then_a_backlog_that_shrinks() -> None:
    """A person makes a hundred thousand old events pending again."""
    side = Side()
    side.run([(100, 100)] * 100)
    side.queue.appendleft([-86_400.0, 100_000])
    found = side.run([(100, 1000)] * 100)
    kinds = [lag.kind for lag in found if lag is not None]
    assert kinds == [Kind.FALLS_BEHIND] * 60 + [Kind.FEWER] * 40
    assert lasted(found) is None


def test_a_steady_lag_is_behind_and_not_falling_behind() -> None:
    found = Side(10_000, 0.0).run([(100, 100)] * LONG)
    kinds = {lag.kind for lag in found if lag is not None and lag.seconds >= WINDOW}
    assert kinds == {Kind.IS_BEHIND}
    assert lasted(found) is not None


@pytest.mark.parametrize("oldest", [LIMIT, LIMIT - 1])
def test_the_limit_itself_is_within_it(oldest: float) -> None:
    test = LagTest(WINDOW, LIMIT)
    assert [test.observe(Waiting(at, 0, 5, oldest)) for at in (0.0, 30.0, 60.0, 90.0)] == [None] * 4


def test_after_a_reset_a_whole_window_is_needed_again() -> None:
    side = Side()
    side.run([(100, 0)] * 200)
    side.test.reset()
    found = side.run([(100, 0)] * 61)
    assert [lag.kind if lag is not None else None for lag in found] == [Kind.UNKNOWN] * 60 + [Kind.FALLS_BEHIND]
    assert found[-1] is not None
    assert found[-1].lasts == 0


def test_who_stood_still_knows_nothing_of_the_time_between() -> None:
    """A stopped process looks at the same stale figures again, minutes later: they have not lasted for so long."""
    side = Side()
    lag = next(lag for lag in side.run([(100, 0)] * LONG) if lag is not None and lag.is_lag)
    assert lag.lasts < PATIENCE
    side.now += PATIENCE
    assert side.second(100, 0) is None or not side.second(100, 0).is_lag  # type: ignore[union-attr]
    assert max(lag.lasts for lag in side.run([(100, 0)] * 30) if lag is not None) < PATIENCE
