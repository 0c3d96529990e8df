"""Segment files: made, refused, rolled, dropped; the balance stays exact through all of it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from proxy.core.errors import RefuseToStart
from proxy.core.owed import DEAD, DEFERRED, DELIVERED, PENDING, RELEASED
from proxy.ledger import segment
from proxy.ledger.schema import APPLICATION_ID, SCHEMA_VERSION
from proxy.ledger.segment import LedgerBroken, Segment
from proxy.ledger.store import Moved, check_directory
from tests.ledger.support import ROUTE, Desk, bucket, counted, event, frame, rows


def settle(desk: Desk, number: int, *numbers: int, sides: int = 3, **changes: Any) -> None:
    """Commit a frame of events; `sides` of them are delivered already."""
    stream = desk.book.hello("s1", 0)
    reports = [(n, side, DELIVERED, 200) for n in numbers for side in (0, 1) if sides & (1 << side)]
    events = [event(n, **({"accepted_ns": desk.clock()} | changes)) for n in numbers]
    desk.book.take_frame(stream, frame(number, events, reports))
    desk.commit()


def path_of(directory: Path, number: int = 1) -> Path:
    return directory / f"segment-{number:08d}.db"


def test_files_are_only_ours_to_read(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "ledger")
    settle(desk, 1, 1)
    assert stat.S_IMODE((tmp_path / "ledger").stat().st_mode) == 0o700
    for name in os.listdir(tmp_path / "ledger"):
        assert stat.S_IMODE((tmp_path / "ledger" / name).stat().st_mode) == 0o600, name
    desk.store.close()


def test_a_file_names_its_format(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "ledger")
    path = desk.store.newest.path
    assert rows(path, "PRAGMA application_id") == [(APPLICATION_ID,)]
    assert rows(path, "PRAGMA user_version") == [(SCHEMA_VERSION,)]
    assert rows(path, "PRAGMA journal_mode") == [("wal",)]
    desk.store.close()


def _text(path: Path) -> None:
    path.write_text("this is somebody's diary, not a ledger\n" * 10)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _foreign_database(path: Path) -> None:
    path.unlink()
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE photo (name TEXT)")
    connection.close()


def _newer(path: Path) -> None:
    connection = apsw.Connection(str(path))
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}; PRAGMA journal_mode = DELETE")
    connection.close()


def _unknown_old(path: Path) -> None:
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA user_version = 0; PRAGMA journal_mode = DELETE")
    connection.close()


def _of_the_version_before(path: Path) -> None:
    """As schema 1 was: without the table of what was received."""
    connection = apsw.Connection(str(path))
    connection.execute("DROP TABLE received; PRAGMA user_version = 1; PRAGMA journal_mode = DELETE")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()


def _of_a_later_version_that_may_be_taken_back(path: Path) -> None:
    """Schema 3 with a table and a column that 2 knows nothing of, and that 2 may pass over."""
    connection = apsw.Connection(str(path))
    number = SCHEMA_VERSION + 1 | SCHEMA_VERSION << 16
    connection.execute(f"CREATE TABLE later (n INTEGER); PRAGMA user_version = {number}")
    connection.execute("ALTER TABLE receipt ADD COLUMN later INTEGER DEFAULT 7")
    connection.close()


@pytest.mark.parametrize("age", [_of_the_version_before, _of_a_later_version_that_may_be_taken_back])
def test_debts_of_another_version_are_paid_and_its_file_stays_its_own(
    tmp_path: Path, age: Callable[[Path], None]
) -> None:
    desk = Desk(tmp_path / "ledger")
    settle(desk, 1, 1, 2, sides=1)
    desk.store.close()
    path = path_of(tmp_path / "ledger")
    age(path)
    (number,) = rows(path, "PRAGMA user_version")
    desk.open()
    assert desk.states() == {"id-1": ("delivered", "pending"), "id-2": ("delivered", "pending")}
    assert desk.bodies() == {"id-1", "id-2"}
    desk.book.take_frame(desk.book.hello("s1", 0), frame(2, [event(3)], [(1, 1, DELIVERED, 200)]))
    desk.commit()
    assert desk.states()["id-3"] == ("pending", "pending")
    balance = desk.store.balance()
    desk.store.close()
    check_directory(tmp_path / "ledger")
    assert rows(path, "PRAGMA user_version") == [number], "the version that made it may have it back"
    desk.open()
    assert desk.store.balance() == balance
    desk.store.close()


def _truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)


def _lacks_a_table(path: Path) -> None:
    connection = apsw.Connection(str(path))
    connection.execute("DROP TABLE gap; PRAGMA journal_mode = DELETE")
    connection.close()


def _scribbled(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xee" * (path.stat().st_size - 100))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_text, "not a ledger segment"),
        (_empty, "not a ledger segment"),
        (_foreign_database, "database of something else"),
        (_newer, "newer version"),
        (_unknown_old, "unknown schema"),
        (_truncated, "truncated"),
        (_lacks_a_table, "gap|damaged"),
        (_scribbled, "damaged"),
    ],
)
def test_a_file_that_is_none_of_ours_is_refused_and_left_alone(
    tmp_path: Path, damage: Callable[[Path], None], says: str
) -> None:
    desk = Desk(tmp_path / "ledger")
    settle(desk, 1, *range(1, 200))
    desk.store.close()
    path = path_of(tmp_path / "ledger")
    damage(path)
    before = path.read_bytes()
    with pytest.raises(RefuseToStart, match=says) as refusal:
        desk.open()
    assert "ledger" in str(refusal.value)
    assert path.read_bytes() == before
    assert len([name for name in os.listdir(tmp_path / "ledger") if name.endswith(".db")]) == 1


def test_a_missing_segment_is_refused(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "ledger")
    for number in (1, 2, 3):
        settle(desk, number, number)
        desk.store.roll()
    desk.store.close()
    path_of(tmp_path / "ledger", 2).unlink()
    with pytest.raises(RefuseToStart, match="between 1 and 4 is missing"):
        desk.open()


def test_a_directory_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text("a file where the directory should be")
    with pytest.raises(RefuseToStart, match="cannot be used"):
        Desk(tmp_path / "ledger")


def test_a_segment_that_was_never_finished_is_made_again(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "ledger")
    settle(desk, 1, 1)
    desk.store.close()
    half = tmp_path / "ledger" / "segment-00000002.new"
    half.write_bytes(b"half of a file")
    desk.open()
    assert not half.exists()
    desk.store.roll()
    assert [segment.number for segment in desk.store.segments] == [1, 2]
    desk.store.close()


@pytest.mark.parametrize("at", ["open", "fsync", "write"])
def test_a_roll_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    desk = Desk(tmp_path / "ledger")
    settle(desk, 1, 1)
    with monkeypatch.context() as patch:
        if at == "open":
            patch.setattr(segment, "connect", raising(apsw.CantOpenError("no room for its log")))
        elif at == "fsync":
            patch.setattr(os, "fsync", raising(OSError(errno.ENOSPC, "no room")))
        else:
            patch.setattr(segment, "SCHEMA", "CREATE TABLE half (a INTEGER); SELECT no_such_function();")
        with pytest.raises((OSError, apsw.Error)):
            desk.store.roll()
    assert sorted(name for name in os.listdir(tmp_path / "ledger") if "00000002" in name) == []
    settle(desk, 2, 2)
    settle(desk, 3, 3)
    desk.crash()
    desk.open()
    assert desk.store.next_seq == 4
    assert desk.book.hello("s1", 0).durable == 3
    desk.store.roll()
    assert [each.number for each in desk.store.segments] == [1, 2]
    desk.store.close()


def raising(error: Exception) -> Callable[..., None]:
    """A call that fails so."""

    def call(*args: object, **kwargs: object) -> None:
        raise error

    return call


def test_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "ledger")
    settle(desk, 1, 1, 2)
    desk.crash()
    desk.open()
    assert not desk.store.was_clean
    assert desk.store.next_seq == 3
    desk.store.close()
    desk.open()
    assert desk.store.was_clean
    desk.crash()
    desk.open()
    assert not desk.store.was_clean, "the note of a clean end holds for one start"
    desk.store.close()


def test_a_new_segment_takes_over_what_goes_on(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "ledger")
    settle(desk, 1, 1, sides=1)
    desk.store.roll()
    settle(desk, 2, 2)
    assert [(s.first_seq, s.last_seq) for s in desk.store.segments] == [(1, 1), (2, 2)]
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(3, [event(3)], [(1, 1, DELIVERED, 200), (3, 0, DELIVERED, 200)]))
    desk.commit()
    assert desk.states() == {
        "id-1": ("delivered", "delivered"),
        "id-2": ("delivered", "delivered"),
        "id-3": ("delivered", "pending"),
    }
    assert desk.bodies() == {"id-3"}
    desk.crash()
    desk.open()
    assert desk.book.hello("s1", 0).durable == 3
    assert desk.store.balance() == counted(desk.store)
    desk.store.close()


def test_segments_roll_by_size_and_by_age_but_never_empty(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "ledger", segment_size="200KiB", segment_age="1h")
    desk.clock.go(7200)
    assert not desk.store.is_due_to_roll(), "an empty one is never closed"
    desk.store.close()
    desk.open()
    settle(desk, 1, 1)
    assert desk.store.is_due_to_roll(), "by age"
    desk.store.roll()
    settle(desk, 2, 2)
    assert not desk.store.is_due_to_roll()
    settle(desk, 3, *range(3, 2000))
    assert desk.store.is_due_to_roll(), "by size"
    desk.store.close()


def test_old_segments_are_dropped_whole_and_their_balance_is_carried(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "ledger", retain="1h")
    settle(desk, 1, 1, 2, 3)
    desk.store.roll()
    settle(desk, 2, 4)
    assert desk.store.drop_old() == 0, "too young"
    desk.clock.go(3700)
    before = desk.store.balance()
    assert desk.store.drop_old() == 1
    assert not path_of(tmp_path / "ledger", 1).exists()
    assert desk.store.balance() == before
    assert desk.store.balance()[ROUTE, 0][DELIVERED] == 4
    desk.store.roll()
    desk.crash()
    desk.open()
    assert desk.store.balance() == before, "carried on to the next segment and over a restart"
    assert desk.store.next_seq == 5
    desk.store.close()


@pytest.mark.parametrize("state", [PENDING, DEFERRED, DEAD])
def test_a_segment_with_something_open_is_never_dropped(tmp_path: Path, state: int) -> None:
    desk = Desk(tmp_path / "ledger", retain="1h", carry_over_for="30d")
    settle(
        desk, 1, 1, sides=2, authority=1, handed=0 if state == DEFERRED else 1, deferred=1 if state == DEFERRED else 0
    )
    if state == DEAD:
        assert desk.book.settle(1, ROUTE, 0, bucket("k"), DEAD, 500, 9)
        desk.commit()
    desk.store.roll()
    desk.clock.go(86400)
    assert desk.store.drop_old() == 0
    assert desk.store.release_deferred() == 0
    desk.store.close()


def test_a_drop_that_was_interrupted_is_finished_at_the_next_start(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "ledger", retain="1h")
    settle(desk, 1, 1, 2)
    desk.store.roll()
    settle(desk, 2, 3)
    first = desk.store.segments[0]
    desk.store.newest.add_carried(first.number, first.balance)
    desk.crash()
    desk.open()
    assert not path_of(tmp_path / "ledger", 1).exists()
    assert desk.store.balance()[ROUTE, 0][DELIVERED] == 3, "counted once"
    desk.store.close()


def test_deferred_events_are_released_past_their_bound(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "ledger", carry_over_for="1h")
    settle(desk, 1, *range(1, 1501), sides=2, authority=1, deferred=1)
    desk.clock.go(1800)
    settle(desk, 2, 2000, sides=2, authority=1, deferred=1)
    assert desk.store.release_deferred() == 0
    desk.clock.go(1900)
    assert desk.store.release_deferred() == 1000, "a bounded chunk"
    assert desk.store.release_deferred() == 500
    assert desk.store.release_deferred() == 0
    assert desk.store.balance()[ROUTE, 0][RELEASED] == 1500
    assert desk.store.balance()[ROUTE, 0][DEFERRED] == 1
    assert desk.bodies() == {"id-2000"}
    assert desk.store.balance() == counted(desk.store)
    desk.store.close()


def test_a_commit_over_two_segments_is_written_once_when_it_is_tried_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path / "ledger")
    settle(desk, 1, 1, sides=1)
    desk.store.roll()
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(2, [event(2)], [(1, 1, DELIVERED, 200)]))
    group = desk.book.take(desk.clock())
    real = Segment.apply

    def full_once(self: Segment, *args: Any, newest: bool) -> None:
        if newest:
            monkeypatch.setattr(Segment, "apply", real)
            raise apsw.FullError("no room")
        real(self, *args, newest=newest)

    monkeypatch.setattr(Segment, "apply", full_once)
    with pytest.raises(apsw.FullError):
        desk.store.commit(group)
    desk.store.commit(group)
    desk.book.committed(group)
    assert desk.store.balance() == counted(desk.store)
    assert desk.states() == {"id-1": ("delivered", "delivered"), "id-2": ("pending", "pending")}
    desk.store.close()


def test_a_move_that_is_repeated_after_a_full_disk_names_all_it_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path / "ledger")
    settle(desk, 1, 1, sides=2, authority=1, deferred=1)
    desk.store.roll()
    settle(desk, 2, 2, sides=2, authority=1, deferred=1)
    real = Segment.move

    def full_once(self: Segment, *args: Any, **kwargs: Any) -> None:
        if self is desk.store.newest:
            monkeypatch.setattr(Segment, "move", real)
            raise apsw.FullError("no room")
        real(self, *args, **kwargs)

    monkeypatch.setattr(Segment, "move", full_once)
    done = Moved([], [], with_partners=False)
    with pytest.raises(apsw.FullError):
        desk.store.move(0, [1, 2], DEFERRED, PENDING, done)
    desk.store.move(0, [1, 2], DEFERRED, PENDING, done)
    assert done.seqs == [1, 2]
    assert desk.store.balance() == counted(desk.store)
    desk.store.close()


def test_rows_that_are_not_as_we_know_them_stop_the_ledger(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "ledger")
    settle(desk, 1, 1, sides=1, handed=2)
    connection = apsw.Connection(str(desk.store.newest.path))
    connection.execute("UPDATE receipt SET new_state = 4")
    connection.close()
    assert desk.book.settle(1, ROUTE, 1, bucket("k"), DELIVERED, 200, 1)
    group = desk.book.take(1)
    with pytest.raises(LedgerBroken, match="1 rows should have changed, 0 did"):
        desk.store.commit(group)
    assert desk.states() == {"id-1": ("delivered", "refused")}, "nothing was written"
    desk.store.close()


def test_moving_takes_only_rows_that_are_in_that_state_and_nobodys_work(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "ledger")
    settle(desk, 1, 1, 2, sides=2, authority=1, deferred=1)
    settle(desk, 2, 3, sides=0, authority=1, deferred=1)
    desk.store.roll()
    settle(desk, 3, 4, sides=2, authority=1, deferred=1)
    settle(desk, 4, 5)
    assert desk.store.move(0, [1, 2, 3, 4, 5, 99], DEFERRED, PENDING) == [1, 2, 4]
    assert desk.store.move(0, [1, 2, 3, 4, 5], DEFERRED, PENDING) == []
    assert desk.store.balance() == counted(desk.store)
    assert desk.states()["id-3"] == ("deferred", "pending"), "its worker is still on the other side"
    desk.store.close()
