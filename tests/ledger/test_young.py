"""Which new events may miss a group, and what becomes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proxy.core.event import BOTH, Event
from proxy.core.owed import DELIVERED, REFUSED
from proxy.ledger.protocol import ANSWERED, HANDED, PARKED, RECEIVED, Report
from tests.ledger.support import SECOND, Desk, event, frame

AGE = SECOND // 80


def accepted(desk: Desk, n: int, *, ago: float = 0.001, **changes: Any) -> Event:
    """An event that was accepted so many seconds ago."""
    return event(n, accepted_ns=desk.clock() - int(ago * SECOND), **changes)


def answered(n: int) -> list[Report]:
    """Both sides have it."""
    return [(n, 0, DELIVERED, 200), (n, 1, DELIVERED, 200)]


def commit(desk: Desk) -> dict[str, int]:
    """A group without the young; by stream, the durable frames that are told."""
    return {stream.name: stream.durable for stream in desk.commit(AGE)}


def on_disk(desk: Desk) -> list[str]:
    return list(desk.states())


def test_what_is_about_to_be_answered_is_written_once(desk: Desk) -> None:
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [accepted(desk, 1)], answered(1)))
    desk.book.take_frame(stream, frame(2, [accepted(desk, 2)]))
    desk.book.take_frame(stream, frame(3, [accepted(desk, 3)], answered(3)))
    assert commit(desk) == {"s1": 1}
    assert on_disk(desk) == ["id-1"], "what stands behind it waits with it"
    assert desk.book.has_changes()
    desk.book.take_frame(stream, frame(4, [], answered(2)))
    desk.clock.go(0.05)
    group = desk.book.take(desk.clock(), AGE)
    assert not group.bodies, "nothing of it is owed any more"
    desk.store.commit(group)
    assert [each.durable for each in desk.book.committed(group)] == [4]
    assert on_disk(desk) == ["id-1", "id-2", "id-3"]
    assert not desk.book.has_changes()


def test_nobody_misses_two_groups(desk: Desk) -> None:
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [accepted(desk, 1)]))
    assert commit(desk) == {}
    desk.book.take_frame(stream, frame(2, [accepted(desk, 2)]))
    assert commit(desk) == {"s1": 1}, "its age is what it was: the clock was put back, perhaps"
    assert on_disk(desk) == ["id-1"]
    assert commit(desk) == {"s1": 2}


def test_what_is_old_waits_for_nothing(desk: Desk) -> None:
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [accepted(desk, 1, ago=0.02), accepted(desk, 2)], answered(2)))
    assert commit(desk) == {"s1": 1}
    assert on_disk(desk) == ["id-1", "id-2"]


def test_a_frame_is_not_torn(desk: Desk) -> None:
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [accepted(desk, 1), accepted(desk, 2)], answered(1)))
    assert commit(desk) == {}
    assert on_disk(desk) == []


def test_another_stream_waits_from_where_it_is_behind(desk: Desk) -> None:
    one, other = desk.book.hello("s1", 0), desk.book.hello("s2", 1)
    desk.book.take_frame(other, frame(1, [accepted(desk, 1, id="other-1")], answered(1)))
    desk.book.take_frame(one, frame(1, [accepted(desk, 1)]))
    desk.book.take_frame(other, frame(2, [accepted(desk, 2, id="other-2")], answered(2)))
    assert commit(desk) == {"s2": 1}
    assert on_disk(desk) == ["other-1"]
    assert commit(desk) == {"s1": 1, "s2": 2}
    assert on_disk(desk) == ["other-1", "id-1", "other-2"]


SAID_LATER: list[list[Report]] = [
    [(1, 1, DELIVERED, 200)],
    [(1, 1, REFUSED, 422)],
    [(1, 1, PARKED, 0)],
    [(1, 1, PARKED, 0), (1, 1, DELIVERED, 200)],
    [(1, 1, HANDED, 503)],
    [(1, 1, RECEIVED, 0)],
    [(1, 1, RECEIVED, 0), (1, 1, HANDED, 1)],
    [(1, 1, RECEIVED, 0), (1, 1, DELIVERED, 0)],
    [(1, 0, ANSWERED, 0), (1, 1, HANDED, 0)],
]


@pytest.mark.parametrize("said", SAID_LATER)
def test_what_is_written_before_its_frame_is_durable_may_be_said_again(tmp_path: Path, said: list[Report]) -> None:
    """Of an event that is on disk, behind one that is left: with a crash in between all is as without."""
    found = []
    for crashes in (False, True):
        desk = Desk(tmp_path / f"ledger-{crashes}", window=5.0)
        stream = desk.book.hello("s1", 0)
        desk.book.take_frame(stream, frame(1, [accepted(desk, 1)], [(1, 0, DELIVERED, 200)]))
        desk.commit()
        frames = [frame(2, [accepted(desk, 2)]), frame(3, [accepted(desk, 3)], [*answered(3), *said])]
        for each in frames:
            desk.book.take_frame(stream, each)
        assert commit(desk) == {}
        assert on_disk(desk) == ["id-1"]
        if crashes:
            desk.crash()
            desk.open()
            stream = desk.book.hello("s1", 0)
            assert stream.durable == 1
            for each in frames:
                desk.book.take_frame(stream, each)
        desk.book.take_frame(stream, frame(4, [], answered(2)))
        desk.commit()
        desk.book.lost(stream)
        desk.book.hand_over(stream)
        desk.commit()
        found.append((desk.states(), desk.bodies(), desk.store.balance()))
        desk.store.close()
    assert found[0] == found[1]
    assert list(found[0][0]) == ["id-1", "id-2", "id-3"]


def test_a_worker_that_comes_back_in_between_says_again_what_was_left(desk: Desk) -> None:
    stream = desk.book.hello("s1", 0)
    frames = [frame(1, [accepted(desk, 1)], answered(1)), frame(2, [accepted(desk, 2)])]
    for each in frames:
        desk.book.take_frame(stream, each)
    assert commit(desk) == {"s1": 1}
    assert desk.book.hello("s1", 0).durable == 1
    desk.book.take_frame(stream, frames[1])
    desk.commit()
    assert on_disk(desk) == ["id-1", "id-2"]
    assert desk.book.counters["duplicate_frames"] == 1


def test_a_new_segment_in_between_has_what_was_left(desk: Desk) -> None:
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [accepted(desk, 1)], answered(1)))
    desk.book.take_frame(stream, frame(2, [accepted(desk, 2)]))
    commit(desk)
    desk.store.roll()
    assert commit(desk) == {"s1": 2}
    assert [(each.first_seq, each.last_seq) for each in desk.store.segments] == [(1, 1), (2, 2)]


def test_a_gap_would_begin_before_what_was_left(desk: Desk) -> None:
    stream = desk.book.hello("s1", 0)
    left = accepted(desk, 2)
    desk.book.take_frame(stream, frame(1, [accepted(desk, 1)], answered(1)))
    desk.book.take_frame(stream, frame(2, [left]))
    commit(desk)
    assert desk.store.streams()[0][4] == left.accepted_ns < desk.clock()
    desk.commit()
    assert desk.store.streams()[0][4] == desk.clock()


def test_a_worker_that_is_gone_is_written_as_it_is(desk: Desk) -> None:
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [accepted(desk, 1)]))
    desk.book.lost(stream)
    assert commit(desk) == {"s1": 1}
    assert on_disk(desk) == ["id-1"]


@pytest.mark.parametrize("first", [{"owed": BOTH, "handed": 2}, {"owed": BOTH, "handed": 3}, {}])
def test_what_the_ledger_is_to_deliver_is_written_at_once(desk: Desk, first: dict[str, Any]) -> None:
    """Also behind one that might wait, and when its worker gives it up a moment later."""
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [accepted(desk, 1)]))
    desk.book.take_frame(stream, frame(2, [accepted(desk, 2, **first)]))
    if not first:
        desk.book.take_frame(stream, frame(3, [], [(2, 1, HANDED, 0)]))
    durable = 2 if first else 3
    assert commit(desk) == {"s1": durable}
    assert on_disk(desk) == ["id-1", "id-2"]


def test_what_waits_is_counted_as_memory(desk: Desk) -> None:
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [accepted(desk, 1)], answered(1)))
    desk.book.take_frame(stream, frame(2, [accepted(desk, 2)]))
    both = desk.book.uncommitted_bytes
    commit(desk)
    assert 0 < desk.book.uncommitted_bytes < both
    desk.commit()
    assert desk.book.uncommitted_bytes == 0
