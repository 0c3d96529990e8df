"""Windows by a clock of ours: when they are due, what holds them up, what reopens them, how one goes on later."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consistency.rows import Span
from consistency.windows import ENOUGH, LEAST_SETTLE, MOST_SETTLE, MOST_WAIT, SECOND, Settle, Windows, WindowState

MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
BEGIN = 1_769_860_800 * SECOND
SETTLE = 5 * SECOND


def windows(begin: int = BEGIN) -> Windows:
    return Windows(size=MINUTE, begin=begin, horizon=HOUR)


def judge(whole: Windows, window: Span) -> None:
    whole.take(window)
    whole.judge(window)


def nothing(_: Span) -> bool:
    return False


def starts(found: list[Span]) -> list[int]:
    """Their numbers. By its end, for the first one may begin later."""
    return [(span.end - BEGIN) // MINUTE - 1 for span in found]


def pending_in(*minutes: int) -> Callable[[Span], bool]:
    return lambda window: (window.start - BEGIN) // MINUTE in minutes


def test_a_window_is_half_open_and_aligned() -> None:
    whole = windows(BEGIN - MINUTE)
    assert whole.of(BEGIN) == whole.of(BEGIN + MINUTE - 1) == Span(BEGIN, BEGIN + MINUTE)
    assert whole.of(BEGIN - 1) == Span(BEGIN - MINUTE, BEGIN)


def test_the_first_window_is_what_is_left_of_one() -> None:
    whole = windows(BEGIN - 17)
    first = Span(BEGIN - 17, BEGIN)
    assert (whole.cursor, whole.of(BEGIN - 17), whole.of(BEGIN - 1)) == (first.start, first, first)
    assert whole.of(BEGIN) == Span(BEGIN, BEGIN + MINUTE)
    assert whole.due(BEGIN + SETTLE - 1, SETTLE, nothing) == []
    assert whole.due(BEGIN + SETTLE, SETTLE, nothing) == [first]
    judge(whole, first)
    assert whole.cursor == BEGIN
    assert whole.reopen(BEGIN - 18, BEGIN + SETTLE) is WindowState.CLOSED, "before the beginning"
    assert whole.reopen(BEGIN - 17, BEGIN + SETTLE) is WindowState.JUDGED
    again = Windows(size=MINUTE, begin=whole.begin, horizon=HOUR, cursor=whole.cursor, reopened=whole.reopened)
    assert again.due(BEGIN + MINUTE + SETTLE, SETTLE, nothing) == [first, Span(BEGIN, BEGIN + MINUTE)]


@pytest.mark.parametrize(
    ("after_end", "state"),
    [
        (-1, WindowState.OPEN),
        (0, WindowState.PROVISIONAL),
        (SETTLE - 1, WindowState.PROVISIONAL),
        (SETTLE, WindowState.DUE),
        (HOUR, WindowState.DUE),
    ],
)
def test_the_life_of_a_window(after_end: int, state: WindowState) -> None:
    whole = windows()
    window = whole.of(BEGIN)
    assert whole.state(window, window.end + after_end, SETTLE, nothing) is state
    assert (whole.due(window.end + after_end, SETTLE, nothing)[:1] == [window]) is (state is WindowState.DUE)


def test_what_was_judged_is_not_due_again() -> None:
    whole = windows()
    now = BEGIN + 3 * MINUTE + SETTLE
    assert starts(whole.due(now, SETTLE, nothing)) == [0, 1, 2]
    for window in whole.due(now, SETTLE, nothing):
        judge(whole, window)
    assert whole.due(now, SETTLE, nothing) == []
    assert starts(whole.due(now + MINUTE, SETTLE, nothing)) == [3]
    assert whole.state(whole.of(BEGIN), now, SETTLE, nothing) is WindowState.JUDGED
    assert whole.state(whole.of(BEGIN), BEGIN + MINUTE + HOUR, SETTLE, nothing) is WindowState.CLOSED


def test_a_source_that_sends_nothing_holds_nothing_up() -> None:
    """New was down for an hour, or nobody sent: windows end by the wall clock all the same."""
    assert len(windows().due(BEGIN + HOUR + SETTLE, SETTLE, nothing)) == 60


def test_a_window_with_something_pending_holds_up_itself_alone() -> None:
    whole = windows()
    now = BEGIN + 4 * MINUTE + SETTLE
    for window in whole.due(now, SETTLE, pending_in(1)):
        judge(whole, window)
    assert (whole.cursor - BEGIN) // MINUTE == 1
    assert whole.state(whole.of(BEGIN + MINUTE), now, SETTLE, pending_in(1)) is WindowState.PROVISIONAL
    assert [(start - BEGIN) // MINUTE for start in whole.judged] == [2, 3]
    assert starts(whole.due(now, SETTLE, nothing)) == [1], "it was delivered"
    judge(whole, whole.of(BEGIN + MINUTE))
    assert ((whole.cursor - BEGIN) // MINUTE, whole.judged) == (4, [])


def test_a_late_event_reopens_its_window_until_the_horizon() -> None:
    whole = windows()
    now = BEGIN + 2 * MINUTE + SETTLE
    for window in whole.due(now, SETTLE, nothing):
        judge(whole, window)
    assert whole.reopen(BEGIN + 1, now) is WindowState.JUDGED
    assert whole.state(whole.of(BEGIN), now, SETTLE, pending_in(0)) is WindowState.PROVISIONAL
    assert starts(whole.due(now, SETTLE, nothing)) == [0]
    judge(whole, whole.of(BEGIN))
    assert whole.due(now, SETTLE, nothing) == []
    edge = BEGIN + MINUTE + HOUR
    assert whole.reopen(BEGIN + 1, edge - 1) is WindowState.JUDGED
    judge(whole, whole.of(BEGIN))
    assert whole.reopen(BEGIN + 1, edge) is WindowState.CLOSED
    assert starts(whole.due(edge, SETTLE, nothing))[0] == 2, "and nothing was reopened"


def test_what_was_before_the_beginning_is_not_judged() -> None:
    whole = windows()
    assert whole.reopen(BEGIN - 1, BEGIN) is WindowState.CLOSED
    assert whole.due(BEGIN + SETTLE, SETTLE, nothing) == []


def test_an_event_that_turns_up_while_its_window_is_read_opens_it_again() -> None:
    whole = windows()
    now = BEGIN + MINUTE + SETTLE
    (window,) = whole.due(now, SETTLE, nothing)
    whole.take(window)
    assert whole.reopen(BEGIN + 1, now) is WindowState.DUE
    whole.judge(window)
    assert whole.due(now, SETTLE, nothing) == [window]
    judge(whole, window)
    assert whole.due(now, SETTLE, nothing) == []


def test_a_window_is_settled_after_the_last_acknowledgement_in_it() -> None:
    whole = windows()
    window = whole.of(BEGIN)
    late = window.end + MOST_WAIT // 2
    whole.acknowledge(BEGIN + 1, late)
    assert whole.expected(window, late) == late
    assert whole.state(window, late + SETTLE - 1, SETTLE, nothing) is WindowState.PROVISIONAL
    assert whole.state(window, late + SETTLE, SETTLE, nothing) is WindowState.DUE
    assert whole.expected(window, late - 1) == window.end, "the clock ran ahead"
    whole.forget(late, late + SETTLE)
    assert whole.expected(window, late + SETTLE) == late
    whole.forget(late + 1, late + SETTLE)
    assert whole.expected(window, late + SETTLE) == window.end


def test_events_that_come_late_again_and_again_do_not_put_a_window_off_for_ever() -> None:
    whole = windows()
    window = whole.of(BEGIN)
    first_look = window.end + MOST_WAIT + SETTLE
    for late in range(window.end, first_look, SECOND):
        whole.acknowledge(BEGIN + 1, late)
        assert whole.state(window, late, SETTLE, nothing) is WindowState.PROVISIONAL
    whole.acknowledge(BEGIN + 1, first_look)
    assert whole.state(window, first_look, SETTLE, nothing) is WindowState.DUE
    assert whole.expected(window, first_look) == first_look, "what does not match then is not final"


def test_windows_of_another_size_are_not_gone_on_with() -> None:
    with pytest.raises(ValueError, match="judge them all anew"):
        Windows(size=70 * SECOND, begin=BEGIN, horizon=HOUR, judged=[BEGIN + MINUTE])


def test_an_event_of_a_window_that_is_not_judged_changes_nothing() -> None:
    whole = windows()
    assert whole.reopen(BEGIN + 1, BEGIN + 2) is WindowState.OPEN
    assert whole.reopen(BEGIN + HOUR, BEGIN) is WindowState.OPEN, "a clock that is ahead"
    assert whole.reopen(BEGIN + 1, BEGIN + MINUTE) is WindowState.DUE
    assert whole.reopened == []


@given(
    st.lists(st.tuples(st.sampled_from(["judge", "reopen", "wait", "hold", "restart"]), st.integers(0, 20))),
    st.sampled_from([0, 1, MINUTE - 1]),
)
def test_every_window_is_judged_once_for_each_time_it_is_opened(steps: list[tuple[str, int]], later: int) -> None:
    """Against a model that keeps a state for each window; a restart goes on from what is kept."""
    begin = BEGIN + later
    whole = windows(begin)
    now, held = BEGIN, set[int]()
    done: dict[int, bool] = {}
    for what, number in steps:
        if what == "wait":
            now += number * 10 * SECOND
        elif what == "hold":
            held ^= {number}
        elif what == "restart":
            whole = Windows(
                size=MINUTE,
                begin=begin,
                horizon=HOUR,
                cursor=whole.cursor,
                judged=whole.judged,
                reopened=whole.reopened,
            )
        elif what == "reopen":
            if done.get(number):
                assert whole.reopen(BEGIN + (number + 1) * MINUTE - 1, now) is WindowState.JUDGED
                done[number] = False
        else:
            due = starts(whole.due(now, SETTLE, pending_in(*held)))
            wanted = [
                each
                for each in range(30)
                if BEGIN + (each + 1) * MINUTE + SETTLE <= now and each not in held and not done.get(each)
            ]
            assert due[: len(wanted)] == wanted
            for each in due:
                done[each] = True
                judge(whole, whole.of(BEGIN + (each + 1) * MINUTE - 1))


def test_settling_takes_the_least_time_until_something_is_known() -> None:
    settle = Settle()
    for _ in range(ENOUGH - 1):
        settle.saw(60 * SECOND)
    assert settle.time == LEAST_SETTLE
    settle.saw(60 * SECOND)
    assert settle.time == pytest.approx(120 * SECOND, rel=0.03)


def test_settling_follows_the_slow_ones_within_bounds() -> None:
    settle = Settle()
    for number in range(1000):
        settle.saw(20 * SECOND if number % 50 == 0 else SECOND // 10)
    assert settle.time == pytest.approx(40 * SECOND, rel=0.03), "2 % are slow: the 99th percentile is theirs"
    for _ in range(100):
        settle.saw(3600 * SECOND)
    assert settle.time == MOST_SETTLE
    for _ in range(5000):
        settle.saw(0)
    assert settle.time == LEAST_SETTLE, "what was long ago is forgotten"
