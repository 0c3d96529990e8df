"""Which new events may miss a group, and what becomes of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.core.event import BOTH, Event
from proxy.core.owed import DELIVERED
from proxy.ledger.protocol import Report
from tests.ledger.support import SECOND, Desk, counted, event, frame

AGE = SECOND // 80


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "ledger")
    yield desk
    assert desk.store.balance() == counted(desk.store), "the balance is not what the rows say"
    desk.store.close()


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


def test_a_crash_in_between_loses_and_doubles_nothing(desk: Desk) -> None:
    stream = desk.book.hello("s1", 0)
    frames = [
        frame(1, [accepted(desk, 1)], answered(1)),
        frame(2, [accepted(desk, 2)]),
        frame(3, [accepted(desk, 3)], [*answered(3), (1, 0, DELIVERED, 200)]),
    ]
    for each in frames:
        desk.book.take_frame(stream, each)
    assert commit(desk) == {"s1": 1}
    desk.crash()
    desk.open()
    stream = desk.book.hello("s1", 0)
    assert stream.durable == 1
    for each in frames[1:]:
        desk.book.take_frame(stream, each)
    desk.book.take_frame(stream, frame(4, [], answered(2)))
    desk.commit()
    assert desk.states() == {f"id-{n}": ("delivered", "delivered") for n in (1, 2, 3)}


def test_a_worker_that_is_gone_is_written_as_it_is(desk: Desk) -> None:
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [accepted(desk, 1)]))
    desk.book.lost(stream)
    assert commit(desk) == {"s1": 1}
    assert on_disk(desk) == ["id-1"]


def test_what_the_ledger_is_to_deliver_is_written_at_once(desk: Desk) -> None:
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [accepted(desk, 1, owed=BOTH, handed=2)]))
    assert commit(desk) == {"s1": 1}
    assert desk.states() == {"id-1": ("pending", "pending")}


def test_what_waits_is_counted_as_memory(desk: Desk) -> None:
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [accepted(desk, 1)], answered(1)))
    desk.book.take_frame(stream, frame(2, [accepted(desk, 2)]))
    both = desk.book.uncommitted_bytes
    commit(desk)
    assert 0 < desk.book.uncommitted_bytes < both
    desk.commit()
    assert desk.book.uncommitted_bytes == 0
