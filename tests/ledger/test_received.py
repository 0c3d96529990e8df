"""What a backend has received and may yet lose: settled at once, and taken back when its connection is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.core.event import OLD
from proxy.core.owed import DELIVERED
from proxy.ledger.entry import Stream
from proxy.ledger.protocol import HANDED, PARKED, RECEIVED, Report
from proxy.ledger.reader import Reader
from tests.ledger.support import ROUTE, Desk, bucket, counted, event, frame, rows

WINDOW = 5.0
BOTH_RECEIVED: list[Report] = [(1, 0, RECEIVED, 0), (1, 1, RECEIVED, 0)]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "ledger", window=WINDOW)
    yield desk
    assert desk.store.balance() == counted(desk.store), "the balance is not what the rows say"
    desk.store.close()


def received(desk: Desk, *more: Report) -> Stream:
    """A stream whose one event both sides have received, on disk."""
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [event(1)], [*BOTH_RECEIVED, *more]))
    desk.commit()
    return stream


def reopened(desk: Desk) -> Stream:
    """The stream after a restart of the ledger."""
    desk.crash()
    desk.open()
    return desk.book.streams["s1"]


def body_of(desk: Desk, seq: int) -> bytes:
    """The body that the replayer would read for old."""
    reader = Reader(lambda: desk.store.segments)
    try:
        [item] = reader.pending(ROUTE, OLD, 0, [], 10, 10_000).items
        assert item.seq == seq
        return item.event.body
    finally:
        reader.close()


def test_it_is_written_once_as_delivered_without_a_body(desk: Desk) -> None:
    received(desk)
    assert desk.states() == {"id-1": ("delivered", "delivered")}
    assert desk.bodies() == set()
    assert not desk.marks.marked


@pytest.mark.parametrize("settled_late", [False, True])
@pytest.mark.parametrize("committed", [False, True])
def test_what_is_handed_back_is_pending_with_its_body(desk: Desk, committed: bool, settled_late: bool) -> None:
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [event(1)], [] if settled_late else BOTH_RECEIVED))
    if committed:
        desk.commit()
    desk.book.take_frame(stream, frame(2, [], [*(BOTH_RECEIVED if settled_late else []), (1, 0, HANDED, 0)]))
    assert desk.marks.marked == {(0, 0, bucket("k"))}, "before anybody can have heard of it"
    desk.commit()
    assert desk.states() == {"id-1": ("pending", "delivered")}
    assert desk.bodies() == {"id-1"}
    assert body_of(desk, 1) == event(1).body
    assert ("handed", 0, 1) in desk.observer.told or ("has_more", 0) in desk.observer.told


def test_what_is_handed_back_in_the_next_segment_has_its_body_where_its_receipt_is(desk: Desk) -> None:
    stream = received(desk)
    desk.store.roll()
    desk.book.take_frame(stream, frame(2, [event(2)], [(1, 0, HANDED, 0)]))
    desk.commit()
    assert desk.bodies() == {"id-1", "id-2"}


def test_after_its_window_it_is_forgotten(desk: Desk) -> None:
    stream = received(desk)
    assert stream.live
    desk.clock.go(WINDOW + 1)
    desk.commit()
    assert not stream.live
    assert not desk.book.on_disk
    desk.book.take_frame(stream, frame(2, [], [(1, 0, HANDED, 0)]))
    desk.commit()
    assert desk.states() == {"id-1": ("delivered", "delivered")}


def test_what_is_too_old_is_removed_from_disk_also_after_the_clock_was_set_back(desk: Desk) -> None:
    stream = received(desk)
    desk.clock.go(-3600)
    most = 0
    for n in range(2, 40):
        desk.book.take_frame(stream, frame(n, [event(n, key=f"k{n}")], [(n, 0, RECEIVED, 0), (n, 1, RECEIVED, 0)]))
        desk.commit()
        desk.clock.go(1)
        most = max(most, len(rows(desk.store.newest.path, "SELECT 1 FROM received")))
    assert most < WINDOW + 5, "it grows for an hour"


def test_what_cannot_be_lost_any_more_is_not_taken_back(desk: Desk) -> None:
    stream = received(desk, (1, 1, DELIVERED, 0))
    desk.book.take_frame(stream, frame(2, [], [(1, 0, DELIVERED, 0)]))
    desk.book.lost(stream)
    desk.book.hand_over(stream)
    desk.commit()
    assert desk.states() == {"id-1": ("delivered", "delivered")}
    assert desk.book.counters["late_reports"] == 0


def test_a_worker_that_does_not_come_back_may_have_taken_it_along(desk: Desk) -> None:
    stream = received(desk)
    desk.book.lost(stream)
    assert desk.marks.marked == {(0, 0, bucket("k")), (0, 1, bucket("k"))}, "what comes now must not overtake it"
    desk.book.hand_over(stream)
    desk.commit()
    assert desk.states() == {"id-1": ("pending", "pending")}
    assert desk.bodies() == {"id-1"}


def test_a_worker_that_comes_back_has_lost_nothing(desk: Desk) -> None:
    stream = received(desk)
    desk.book.lost(stream)
    assert desk.book.hello("s1", 0) is stream
    assert not desk.marks.marked
    desk.clock.go(WINDOW + 1)
    desk.commit()
    assert not stream.live
    assert desk.states() == {"id-1": ("delivered", "delivered")}


def test_a_window_that_ends_while_its_worker_is_away_clears_its_marks(desk: Desk) -> None:
    stream = received(desk)
    desk.book.lost(stream)
    desk.clock.go(WINDOW + 1)
    desk.commit()
    assert not desk.marks.marked


@pytest.mark.parametrize("retain", [False, True])
@pytest.mark.parametrize("settled_late", [False, True])
def test_after_a_restart_it_can_be_handed_back(tmp_path: Path, retain: bool, settled_late: bool) -> None:
    desk = Desk(tmp_path / "ledger", window=WINDOW, retain_bodies=retain)
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [event(1)], [] if settled_late else BOTH_RECEIVED))
    desk.commit()
    if settled_late:
        desk.book.take_frame(stream, frame(2, [], BOTH_RECEIVED))
        desk.commit()
    number = stream.durable + 1
    stream = reopened(desk)
    desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(number, [], [(1, 0, HANDED, 0)]))
    desk.commit()
    assert desk.states() == {"id-1": ("pending", "delivered")}
    assert body_of(desk, 1) == event(1).body
    assert desk.store.balance() == counted(desk.store)
    desk.store.close()


def test_after_a_restart_of_all_it_is_delivered_again(desk: Desk) -> None:
    received(desk)
    stream = reopened(desk)
    desk.book.hand_over(stream)
    desk.book.close(stream)
    desk.commit()
    assert desk.states() == {"id-1": ("pending", "pending")}
    assert body_of(desk, 1) == event(1).body


def test_a_restart_long_after_it_finds_nothing(desk: Desk) -> None:
    stream = received(desk)
    desk.clock.go(WINDOW + 3)
    desk.book.take_frame(stream, frame(2, [event(2, key="other")], [(2, 0, RECEIVED, 0), (2, 1, RECEIVED, 0)]))
    desk.commit()
    assert set(reopened(desk).live) == {2}


def test_one_side_received_and_one_still_on_its_way_survive_a_restart(desk: Desk) -> None:
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [event(1)], [(1, 0, RECEIVED, 0), (1, 1, PARKED, 0)]))
    desk.commit()
    stream = reopened(desk)
    desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(2, [], [(1, 1, RECEIVED, 0)]))
    desk.commit()
    assert desk.states() == {"id-1": ("delivered", "delivered")}
    desk.book.take_frame(stream, frame(3, [], [(1, 0, HANDED, 0), (1, 1, HANDED, 0)]))
    desk.commit()
    assert desk.states() == {"id-1": ("pending", "pending")}
    assert body_of(desk, 1) == event(1).body


def test_one_report_settles_a_row_of_events(desk: Desk) -> None:
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [event(n) for n in range(1, 6)], [(4, 0, PARKED, 0)]))
    desk.book.take_frame(stream, frame(2, [], [(2, 0, RECEIVED, 2), (2, 1, RECEIVED, 3)]))
    desk.commit()
    assert list(desk.states().values()) == [
        ("pending", "pending"),
        ("delivered", "delivered"),
        ("delivered", "delivered"),
        ("delivered", "delivered"),
        ("pending", "delivered"),
    ]
    desk.book.take_frame(stream, frame(3, [], [(6, 0, RECEIVED, 1)]))
    assert desk.book.counters["late_reports"] == 2
    assert not desk.marks.marked


def test_without_a_window_received_is_delivered(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "ledger")
    stream = received(desk)
    assert not stream.live
    desk.book.take_frame(stream, frame(2, [], [(1, 0, HANDED, 0)]))
    desk.commit()
    assert desk.states() == {"id-1": ("delivered", "delivered")}
    desk.store.close()


@pytest.mark.plain
def test_the_number_of_entries_that_are_kept_is_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.ledger.windows.MOST", 3)
    stream = desk.book.hello("s1", 0)
    reports: list[Report] = [(n, side, RECEIVED, 0) for n in range(1, 6) for side in (0, 1)]
    desk.book.take_frame(stream, frame(1, [event(n) for n in range(1, 6)], reports))
    desk.commit()
    assert set(stream.live) == {3, 4, 5}
    assert desk.book.counters["windows_cut"] == 2


@pytest.mark.plain
def test_the_bytes_that_are_kept_are_bounded_with_their_contexts(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session's context has its prologue, and may be much longer than its messages."""
    monkeypatch.setattr("proxy.ledger.windows.MOST_BYTES", 4 * 60_000)
    stream = desk.book.hello("s1", 0)
    reports: list[Report] = [(n, side, RECEIVED, 0) for n in range(1, 6) for side in (0, 1)]
    events = [event(n, context=b"x" * 60_000) for n in range(1, 6)]
    desk.book.take_frame(stream, frame(1, events, reports))
    assert desk.book.uncommitted_bytes > 5 * 60_000
    desk.commit()
    assert set(stream.live) == {3, 4, 5}
    assert desk.book.counters["windows_cut"] == 2


def test_what_may_be_taken_back_is_not_moved_by_hand(desk: Desk) -> None:
    stream = received(desk)
    assert not desk.book.may_move(1, 0, DELIVERED), "what takes it back may come at any moment"
    desk.clock.go(WINDOW + 1)
    desk.commit()
    assert desk.book.may_move(1, 0, DELIVERED)
    assert not stream.live
