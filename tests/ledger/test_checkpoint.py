"""Checkpoints: beside the writing, bounded, exact, and never past a failure."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from proxy.ledger import checkpoint
from proxy.ledger.schema import PAGE_SIZE, connect
from tests.ledger.support import Desk, event, frame, rows

FULL, LITTLE, AGAIN, TOO_MANY = 40, 4, 10, 80


class Writer:
    """A desk that commits an event after another; each fills a few pages."""

    def __init__(self, directory: Path) -> None:
        self.desk = Desk(directory / "ledger")
        self.stream = self.desk.book.hello("s1", 0)
        self.number = 0

    def commit(self) -> None:
        self.number += 1
        body = b"%d" % self.number * 2000
        self.desk.book.take_frame(self.stream, frame(self.number, [event(self.number, body=body)]))
        self.desk.commit()

    def commit_until(self, condition: Callable[[], bool], what: str) -> None:
        """Commit until it is so; fails after 20 s."""
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, what
            self.commit()

    def fill(self) -> None:
        """Commit until the log is full, which begins a pass."""
        self.commit_until(lambda: self.pages >= FULL, "a full log")

    @property
    def pages(self) -> int:
        return self.desk.store.newest.log_pages

    @property
    def path(self) -> Path:
        return self.desk.store.newest.path

    @property
    def log_size(self) -> int:
        """Pages that the log's file has room for; it is written from its start again when it begins anew."""
        return self.path.with_name(self.path.name + "-wal").stat().st_size // PAGE_SIZE


class Gate:
    """Holds passes up. passes: how many began."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened = threading.Event()
        self.passes = 0
        self._real = checkpoint._copy
        monkeypatch.setattr(checkpoint, "_copy", self)

    def __call__(self, path: Path) -> int:
        self.passes += 1
        assert self.opened.wait(20)
        return self._real(path)


@pytest.fixture
def writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Writer]:
    for name in ("FULL", "LITTLE", "AGAIN", "TOO_MANY"):
        monkeypatch.setattr(checkpoint, name, globals()[name])
    writer = Writer(tmp_path)
    yield writer
    writer.desk.store.close()


def test_the_log_begins_anew_and_the_file_has_everything(writer: Writer, tmp_path: Path) -> None:
    for _ in range(300):
        writer.commit()
    assert writer.log_size <= TOO_MANY + 20, "300 events need some 2,000 pages"
    alone = tmp_path / "alone.db"
    alone.write_bytes(writer.path.read_bytes())
    ((count,),) = rows(alone, "SELECT count(*) FROM body")
    assert count > 250, "in the file itself, without its log"
    writer.desk.crash()
    writer.desk.open()
    assert len(writer.desk.states()) == len(writer.desk.bodies()) == 300
    assert rows(writer.path, "PRAGMA integrity_check") == [("ok",)]


def test_commits_go_on_during_a_pass(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    writer.fill()
    began = writer.pages
    for _ in range(3):
        writer.commit()
    assert gate.passes == 1
    assert began < writer.pages < TOO_MANY
    gate.opened.set()
    writer.commit_until(lambda: writer.pages < FULL, "the log begins anew after the pass")


def test_past_too_many_pages_the_writer_waits(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    writer.fill()
    threading.Timer(0.2, gate.opened.set).start()
    writer.commit_until(gate.opened.is_set, "it is held up")
    assert TOO_MANY <= writer.pages < TOO_MANY + 20
    writer.commit()
    assert writer.pages < FULL, "it copied the rest itself, whatever that was"


def test_another_pass_follows_while_much_came_during_one(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    writer.fill()
    gate.opened.set()
    wait_for_pass(writer)
    gate.opened.clear()
    while writer.pages <= FULL + 2 * LITTLE + 2:
        writer.commit()
    assert gate.passes == 2
    gate.opened.set()


def wait_for_pass(writer: Writer) -> None:
    """Until the pass under way is over; the writer has not seen that yet."""
    running = writer.desk.store._checkpoints._logs[1].running
    assert running is not None
    running.result(timeout=20)


def test_what_a_reader_looks_at_stays_in_the_log(writer: Writer) -> None:
    writer.commit()
    reader = connect(writer.path, query_only=True)
    cursor = reader.execute("SELECT id FROM receipt UNION ALL SELECT 'x'")
    next(cursor)
    for _ in range(60):
        writer.commit()
    assert writer.pages > TOO_MANY, "the writer neither loses what is read nor waits for the reader"
    assert [id for (id,) in cursor] == ["x"], "it reads on as of then"
    reader.close()
    writer.commit_until(lambda: writer.pages < FULL, "the log begins anew after the reader")


@pytest.mark.parametrize("in_a_pass", [True, False])
def test_a_failed_checkpoint_stops_the_writer(writer: Writer, monkeypatch: pytest.MonkeyPatch, in_a_pass: bool) -> None:
    real, main = checkpoint._checkpoint, threading.current_thread()

    def fail(connection: apsw.Connection) -> int:
        if in_a_pass == (threading.current_thread() is not main):
            raise apsw.IOError("fsync failed")
        return real(connection)

    monkeypatch.setattr(checkpoint, "_checkpoint", fail)
    with pytest.raises(apsw.IOError, match="fsync failed"):
        writer.commit_until(lambda: writer.number > 1000, "it fails long before that")


def test_on_a_full_disk_the_log_only_grows(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    real = apsw.Connection.execute
    full = True

    class Full:
        def __init__(self, connection: apsw.Connection) -> None:
            self._connection = connection

        def execute(self, text: str) -> apsw.Cursor:
            if full:
                raise apsw.FullError("database or disk is full")
            return real(self._connection, text)

    checkpoint_of = checkpoint._checkpoint
    monkeypatch.setattr(checkpoint, "_checkpoint", lambda connection: checkpoint_of(Full(connection)))  # type: ignore[arg-type]
    writer.commit_until(lambda: writer.pages > 2 * TOO_MANY, "commits go on")
    full = False
    writer.commit_until(lambda: writer.pages < FULL, "the log begins anew once there is room")


def test_a_log_of_a_killed_ledger_is_taken_up(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    held = connect(writer.path, query_only=True)
    held.execute("SELECT * FROM receipt").fetchall()  # a second connection: closing the writer's leaves the log
    writer.fill()
    writer.desk.crash()
    assert writer.log_size >= FULL
    writer.desk.open()
    writer.stream = writer.desk.book.hello("s1", 0)
    held.close()
    writer.commit_until(lambda: 0 < writer.pages < FULL, "the log begins anew")


def test_closing_waits_for_the_pass(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    writer.fill()
    threading.Timer(0.2, gate.opened.set).start()
    writer.desk.store.close()
    assert gate.opened.is_set()
    assert not writer.path.with_name(writer.path.name + "-wal").exists(), "the last connection emptied the log"


def test_passes_step_back_for_the_rest(writer: Writer) -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    here = niceness()
    assert writer.desk.store._checkpoints._thread.submit(niceness).result(20) == max(here, checkpoint.NICE)
    assert niceness() == here
