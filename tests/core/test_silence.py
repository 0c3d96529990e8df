"""Silence is told from answers that are rare, from having nothing to answer, and from nobody having looked."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.core.silence import MOST_APART, Asked, SilenceTest


def lasts(*looks: tuple[float, int, int]) -> list[float | None]:
    test = SilenceTest()
    return [test.observe(Asked(*look)) for look in looks]


def test_it_begins_when_something_waits_and_ends_with_an_answer() -> None:
    assert lasts((0, 0, 7), (1, 2, 7), (3, 3, 7), (4, 3, 8), (6, 3, 8)) == [None, 0, 2, 0, 2]


def test_having_nothing_to_answer_is_no_silence() -> None:
    assert lasts((0, 1, 7), (4, 0, 7), (5, 1, 7), (6, 1, 7)) == [0, None, 0, 1]


def test_a_time_in_which_nobody_looked_does_not_count() -> None:
    late = 4 + MOST_APART + 0.1
    assert lasts((0, 1, 7), (4, 1, 7), (late, 1, 7), (late + 2, 1, 7)) == [0, 4, 0, 2]


def test_records_that_are_dropped_are_no_answers() -> None:
    assert lasts((0, 1, 7), (2, 1, 3), (4, 1, 3), (5, 1, 4)) == [0, 2, 4, 0]


def test_it_knows_when_there_was_an_answer_last() -> None:
    test = SilenceTest()
    for at, answered in ((0, 7), (1, 7), (2, 8), (3, 8)):
        test.observe(Asked(at, 1, answered))
    assert test.answered_at == 2
    test.reset()
    assert test.observe(Asked(4, 1, 9)) == 0
    assert test.answered_at is None


LOOKS = st.lists(st.tuples(st.floats(0.01, 2 * MOST_APART), st.integers(0, 3), st.integers(-2, 2)), max_size=60)


@given(LOOKS)
def test_it_is_as_long_as_the_looks_without_an_answer(steps: list[tuple[float, int, int]]) -> None:
    """Against a look back over everything that was seen."""
    test, seen, now, answered = SilenceTest(), [], 100.0, 1000
    for apart, waiting, more in steps:
        now += apart
        answered += more
        seen.append((now, waiting, answered))
        began = None
        for i in range(len(seen) - 1, -1, -1):
            if not seen[i][1]:
                break
            began = seen[i][0]
            if i and (seen[i][2] > seen[i - 1][2] or seen[i][0] - seen[i - 1][0] > MOST_APART):
                break
        assert test.observe(Asked(now, waiting, answered)) == (None if began is None else now - began)
