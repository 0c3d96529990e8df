"""Bulk statements, backlog, turns, back-off: one part at a time."""

from __future__ import annotations

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.ledger.backlog import Backlog
from proxy.ledger.backoff import Backoff
from proxy.ledger.bulk import Bulk
from proxy.ledger.marks import MOST, Marks, create
from proxy.ledger.turns import Place, Turns
from tests.ledger.support import ROUTE, FakeMarks

# bulk


@given(st.integers(0, 700))
def test_bulk_writes_every_row_once(n: int) -> None:
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b)")
    flat: list[apsw.SQLiteValue] = [value for i in range(n) for value in (i, f"v{i}")]
    assert Bulk("INSERT INTO t VALUES", 2).run(connection, flat) == n
    assert connection.execute("SELECT * FROM t ORDER BY a").fetchall() == [(i, f"v{i}") for i in range(n)]


def test_bulk_counts_what_it_changed_and_refuses_half_a_row() -> None:
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b); INSERT INTO t VALUES (1, 0), (2, 0)")
    update = Bulk("WITH u (x, y) AS (VALUES", 2, ") UPDATE t SET b = u.y FROM u WHERE a = u.x")
    assert update.run(connection, [1, 5, 7, 5]) == 1
    with pytest.raises(ValueError, match="not whole rows"):
        update.run(connection, [1, 5, 7])


# backlog


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 1), st.integers(0, 3)), max_size=60))
def test_a_mark_is_set_exactly_while_its_bucket_has_a_backlog(steps: list[tuple[bool, int, int]]) -> None:
    marks = FakeMarks()
    backlog = Backlog({ROUTE: 0, "other": 1}, marks)
    counts: dict[tuple[int, int], int] = {}
    for enters, side, bucket in steps:
        n = counts.get((side, bucket), 0)
        if enters:
            backlog.enter("other", side, bucket)
            counts[side, bucket] = n + 1
        elif n:
            backlog.leave("other", side, bucket)
            counts[side, bucket] = n - 1
        else:
            with pytest.raises(RuntimeError, match="no backlog"):
                backlog.leave("other", side, bucket)
        assert marks.marked == {(1, side, bucket) for (side, bucket), n in counts.items() if n}
        assert backlog.marked("other", 1) == sum(1 for (each, _), n in counts.items() if each == 1 and n)


def test_routes_that_are_not_configured_have_no_marks() -> None:
    marks = FakeMarks()
    backlog = Backlog({ROUTE: 0}, marks)
    backlog.enter("gone", 0, 5)
    backlog.leave("gone", 0, 5)
    assert not marks.marked
    assert backlog.count("gone", 0, 5) == backlog.marked("gone", 0) == 0


def test_marks_of_a_ledger_before_are_cleared_where_there_is_no_backlog() -> None:
    marks = FakeMarks()
    marks.counts = {(0, 1, 7): 4, (0, 1, 8): 1}
    backlog = Backlog({ROUTE: 0}, marks)
    backlog.enter(ROUTE, 1, 7, 3)
    assert marks.counts[0, 1, 7] == MOST, "not every event may be counted yet, so none may think that it knows all"
    backlog.leave(ROUTE, 1, 7)
    assert marks.counts[0, 1, 7] == MOST
    backlog.show_all()
    assert marks.counts == {(0, 1, 7): 2}


def test_a_mark_is_the_count_of_its_bucket_as_far_as_a_byte_goes() -> None:
    marks = Marks(create(1))
    backlog = Backlog({ROUTE: 0}, marks)
    backlog.show_all()
    at = Marks.base(0, 1) + 7
    for n in range(1, MOST + 3):
        backlog.enter(ROUTE, 1, 7)
        assert marks.memory[at] == min(n, MOST)
    for n in reversed(range(MOST + 2)):
        backlog.leave(ROUTE, 1, 7)
        assert marks.memory[at] == min(n, MOST)


# turns


def test_turns_of_one_key_come_in_order_and_keys_do_not_wait_for_each_other() -> None:
    granted: list[Place] = []
    turns = Turns(granted.append)
    for place in ((1, 1), (1, 2), (2, 1)):
        turns.want("r", "k", place)
    turns.want("r", "other", (1, 3))
    assert granted == [(1, 1), (1, 3)]
    turns.done("r", "k", (1, 2))
    assert granted == [(1, 1), (1, 3)], "it left the line without having been served"
    turns.done("r", "k", (1, 1))
    assert granted == [(1, 1), (1, 3), (2, 1)]
    assert turns.holders(2) == [(2, 1)]
    turns.done("r", "k", (9, 9))
    turns.done("r", "unknown", (9, 9))
    turns.done("r", "k", (2, 1))
    turns.done("r", "other", (1, 3))
    assert len(turns) == 0


@given(st.lists(st.integers(0, 9), max_size=60))
def test_at_most_one_of_a_key_has_its_turn(steps: list[int]) -> None:
    granted: list[Place] = []
    turns = Turns(granted.append)
    line: list[Place] = []
    for n, step in enumerate(steps):
        if step < 5 or not line:
            turns.want("r", "k", (0, n))
            line.append((0, n))
        else:
            place = line.pop(step % len(line))
            turns.done("r", "k", place)
        assert [each for each in granted if each in line] == line[:1]


# backoff


def test_waits_grow_with_jitter_up_to_the_longest() -> None:
    backoff = Backoff(0.1, 30.0)
    for failures, least, most in ((1, 0.05, 0.1), (2, 0.1, 0.2), (5, 0.8, 1.6), (9, 12.8, 25.6), (500, 15.0, 30.0)):
        waits = [backoff.delay(failures) for _ in range(200)]
        assert least <= min(waits)
        assert max(waits) <= most
        assert len(set(waits)) > 1 or failures == 1
