"""Checkpoints: who copies how much of the log and when, bounded, exact, and never past a failure."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import apsw
import pytest

from proxy.core.owed import DISCARDED, PENDING
from proxy.ledger import checkpoint
from proxy.ledger.checkpoint import Checkpoints
from proxy.ledger.schema import PAGE_SIZE, connect
from proxy.ledger.segment import LedgerBroken
from tests.ledger.support import Desk, event, frame, rows

FULL, LITTLE, AGAIN, TOO_MANY = 40, 12, 20, 160


class Writer:
    """A desk that commits one event after another, a few pages each, and looks at the log as the committer does.

    copied: (who, pages in the file after it) for each checkpoint; opened: passes do not end while it is not set.
    """

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.desk = Desk(directory / "ledger")
        self.stream = self.desk.book.hello("s1", 0)
        self.number = 0
        self.copied: list[tuple[str, int | None]] = []
        self.opened = threading.Event()
        self.opened.set()
        self.fail: Callable[[str], None] = lambda who: None
        main, real = threading.current_thread(), Checkpoints._copy

        def copy(checkpoints: Checkpoints, connection: apsw.Connection) -> int | None:
            who = "writer" if threading.current_thread() is main else "pass"
            try:
                self.fail(who)
            except apsw.Error as error:
                checkpoints._failed(error)
                return None
            pages = real(checkpoints, connection)
            self.copied.append((who, pages))
            if who == "pass":
                assert self.opened.wait(20)
            return pages

        self._reader: apsw.Connection | None = None

        monkeypatch.setattr(Checkpoints, "_copy", copy)

    def commit(self) -> None:
        self.number += 1
        body = b"%d" % self.number * 2000
        self.desk.book.take_frame(self.stream, frame(self.number, [event(self.number, body=body)]))
        self.desk.commit()
        if self.desk.store.is_checkpoint_due():
            self.desk.store.checkpoint()

    def commit_until(self, condition: Callable[[], bool], what: str) -> None:
        """Commit until it is so; fails after 20 s."""
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, what
            self.commit()

    def fill(self) -> None:
        """Commit until a pass has copied what there is."""
        self.commit_until(lambda: self.is_under_way, "a full log")
        deadline = time.monotonic() + 20
        while not self.copied:
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def fill_and_commit(self, condition: Callable[[], bool]) -> int:
        """A pass that copies while commits come, until it is so; the pages that it copied.

        A reader sees to it that the log goes on: with all of it copied it would begin anew at once.
        """
        self.opened.clear()
        self.commit_until(lambda: self.pages > FULL - 8, "nearly full")
        self._reader = connect(self.path, query_only=True)
        self._reader.execute("BEGIN; SELECT * FROM meta").fetchall()
        self.fill()
        self.commit_until(condition, "it is so")
        self._reader.close()
        self.opened.set()
        self.finish_pass()
        ((who, pages),) = self.copied
        assert who == "pass"
        assert pages is not None
        return pages

    def finish_pass(self) -> None:
        """Until the pass under way is over; the writer has not seen that yet."""
        running = self.desk.store.checkpoints._logs[1].running
        assert running is not None
        running.result(timeout=20)

    @property
    def is_under_way(self) -> bool:
        log = self.desk.store.checkpoints._logs.get(1)
        return log is not None and log.running is not None

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


@pytest.fixture
def writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Writer]:
    for name in ("FULL", "LITTLE", "AGAIN", "TOO_MANY"):
        monkeypatch.setattr(checkpoint, name, globals()[name])
    writer = Writer(tmp_path, monkeypatch)
    yield writer
    writer.opened.set()
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


def test_where_passes_end_between_commits_the_writer_copies_nothing(writer: Writer) -> None:
    for _ in range(300):
        writer.commit()
        if writer.is_under_way:
            writer.finish_pass()
    assert len(writer.copied) > 10
    assert {who for who, _ in writer.copied} == {"pass"}


def test_commits_go_on_during_a_pass_and_the_writer_copies_what_little_came(writer: Writer) -> None:
    copied = writer.fill_and_commit(lambda: True)
    assert copied < writer.pages <= copied + LITTLE
    writer.desk.store.checkpoint()
    assert writer.copied[1:] == [("writer", writer.pages)]
    writer.commit()
    assert writer.pages < FULL, "the log began anew"


def test_when_much_came_during_a_pass_another_one_copies_it(writer: Writer) -> None:
    began = writer.fill_and_commit(lambda: writer.pages > FULL + 2 * LITTLE)
    assert writer.pages > began + LITTLE
    writer.desk.store.checkpoint()
    writer.finish_pass()
    assert writer.copied[1:] == [("pass", writer.pages)]
    writer.desk.store.checkpoint()
    writer.commit()
    assert writer.pages < FULL, "the log began anew"


def test_past_too_many_pages_the_writer_waits_and_copies_the_rest(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.fill_and_commit(lambda: writer.pages >= TOO_MANY - 40)
    writer.opened.clear()
    writer.commit()  # another pass
    running = writer.desk.store.checkpoints._logs[1].running
    assert running is not None
    real = running.result

    def result(timeout: float | None = None) -> int | None:
        assert not running.done(), "it waits for it"
        writer.opened.set()
        return real(timeout)

    monkeypatch.setattr(running, "result", result)
    monkeypatch.setattr(writer.desk.store.newest, "log_pages", TOO_MANY)
    writer.desk.store.checkpoint()
    assert writer.opened.is_set(), "it was held up"
    assert [who for who, _ in writer.copied] == ["pass", "pass", "writer"]
    writer.commit()
    assert writer.pages < FULL


def test_what_a_reader_looks_at_stays_in_the_log_and_is_tried_again_now_and_then(writer: Writer) -> None:
    writer.commit()
    reader = connect(writer.path, query_only=True)
    cursor = reader.execute("SELECT id FROM receipt UNION ALL SELECT 'x'")
    next(cursor)
    for _ in range(60):
        writer.commit()
        if writer.is_under_way:
            writer.finish_pass()
    assert writer.pages > TOO_MANY, "the writer neither loses what is read nor waits for the reader"
    assert len(writer.copied) < 2 * writer.pages / AGAIN, "nor does it try at each commit"
    assert [id for (id,) in cursor] == ["x"], "it reads on as of then"
    reader.close()
    writer.commit_until(lambda: writer.pages < FULL, "the log begins anew after the reader")


@pytest.mark.parametrize("who_fails", ["pass", "writer"])
def test_a_failed_fsync_stops_the_writer(writer: Writer, who_fails: str) -> None:
    def fail(who: str) -> None:
        if who == who_fails:
            raise apsw.IOError("fsync failed")

    writer.fail = fail
    if who_fails == "writer":
        writer.opened.clear()
        threading.Timer(0.2, writer.opened.set).start()
    with pytest.raises(apsw.IOError, match="fsync failed"):
        writer.commit_until(lambda: writer.number > 1000, "it fails long before that")


@pytest.mark.parametrize(
    "error", [apsw.FullError("full"), apsw.CantOpenError("no descriptors"), apsw.BusyError("busy")]
)
def test_what_may_pass_is_tried_again_and_the_log_only_grows(writer: Writer, error: apsw.Error) -> None:
    failing = True

    def fail(who: str) -> None:
        if failing:
            raise error

    writer.fail = fail
    writer.commit_until(lambda: writer.pages > 2 * TOO_MANY, "commits go on")
    failed = writer.desk.store.checkpoints.counters["checkpoints_failed"]
    assert 1 < failed < 2 * writer.pages / AGAIN
    failing = False
    writer.commit_until(lambda: writer.pages < FULL, "the log begins anew once it can be copied")


def test_without_descriptors_for_a_pass_commits_go_on(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(path: Path) -> apsw.Connection:
        raise apsw.CantOpenError("unable to open database file")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "connect", none_left)
        writer.commit_until(lambda: writer.pages > 2 * FULL, "commits go on")
    assert writer.desk.store.checkpoints.counters["checkpoints_failed"] >= 1
    writer.commit_until(lambda: writer.pages < FULL, "the log begins anew once there are some")


def test_what_a_move_writes_is_copied_too(writer: Writer) -> None:
    for _ in range(3):
        writer.commit()
    pages = writer.pages
    looked: list[int] = []
    writer.desk.store.checkpoints.look = lambda segment: looked.append(segment.log_pages)  # type: ignore[method-assign]
    writer.desk.book.hand_over(writer.stream)
    writer.desk.commit()
    assert writer.desk.store.move(0, [1, 2, 3], PENDING, DISCARDED) == [1, 2, 3]
    assert looked
    assert looked[-1] > pages


def test_a_log_of_a_killed_ledger_is_taken_up(writer: Writer) -> None:
    held = connect(writer.path, query_only=True)
    held.execute("SELECT * FROM receipt").fetchall()  # a second connection: closing the writer's leaves the log
    writer.opened.clear()
    writer.fill()
    writer.opened.set()
    writer.finish_pass()
    writer.desk.crash()
    assert writer.log_size >= FULL
    writer.desk.open()
    assert writer.pages == 0
    writer.stream = writer.desk.book.hello("s1", 0)
    held.close()
    writer.commit_until(lambda: 0 < writer.pages < FULL, "the log begins anew")


def test_closing_waits_for_the_pass_and_leaves_no_log(writer: Writer) -> None:
    writer.opened.clear()
    writer.fill()
    threading.Timer(0.2, writer.opened.set).start()
    segment = writer.desk.store.newest
    writer.desk.store.close()
    assert writer.opened.is_set()
    assert segment.log_pages == 0
    assert not writer.path.with_name(writer.path.name + "-wal").exists(), "the last connection emptied the log"


def test_passes_step_back_for_the_rest(writer: Writer) -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    here = niceness()
    assert writer.desk.store.checkpoints._thread.submit(niceness).result(20) == max(here, checkpoint.NICE)
    assert niceness() == here


def test_a_pass_has_the_disk_write_what_it_copied(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    real, synced = os.fdatasync, []

    def fdatasync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    writer.commit_until(lambda: bool(synced), "a pass")
    assert synced[0] == str(writer.path)


def test_through_a_link_to_its_directory_too(writer: Writer, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(writer.path.parent)
    assert (
        set(checkpoint._descriptors_of(link / writer.path.name))
        == set(checkpoint._descriptors_of(writer.path))
        != set()
    )


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_sync_that_failed_is_the_end(writer: Writer, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(LedgerBroken, match="cannot be synced"):
        writer.commit_until(lambda: writer.number > 1000, "it fails long before that")


@pytest.mark.parametrize("number", [errno.EBADF, errno.EINVAL])
def test_a_descriptor_that_was_closed_meanwhile_is_nothing(
    writer: Writer, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def closed(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fdatasync", closed)
    for _ in range(100):
        writer.commit()


def test_without_a_descriptor_to_look_for_them_passes_go_on(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(path: str) -> list[str]:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "listdir", none_left)
    for _ in range(100):
        writer.commit()
    assert len(writer.copied) > 2


def test_after_a_pass_the_locks_still_tell_others_that_the_log_is_in_use(writer: Writer) -> None:
    """A process that takes itself for the last one to close a file deletes its log."""
    writer.commit_until(lambda: len(writer.copied) > 2, "passes")
    code = "import apsw, sys; c = apsw.Connection(sys.argv[1]); c.execute('SELECT * FROM meta').fetchall(); c.close()"
    subprocess.run([sys.executable, "-c", code, str(writer.path)], check=True)
    assert writer.path.with_name(writer.path.name + "-wal").exists()
    writer.commit()


def test_corruption_is_the_end(writer: Writer) -> None:
    def fail(who: str) -> None:
        raise apsw.CorruptError("malformed")

    writer.fail = fail
    with pytest.raises(apsw.CorruptError):
        writer.commit_until(lambda: writer.number > 1000, "it fails long before that")


def test_with_a_reader_passes_that_get_no_further_are_not_repeated(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "TOO_MANY", 100 * FULL)
    writer.commit()
    reader = connect(writer.path, query_only=True)
    reader.execute("BEGIN; SELECT * FROM meta").fetchall()
    while writer.pages < 20 * FULL:
        writer.commit()
        if writer.is_under_way:
            writer.finish_pass()
    passes = [who for who, _ in writer.copied].count("pass")
    assert passes <= writer.pages / AGAIN
    reader.close()
    writer.commit_until(lambda: writer.pages < FULL, "the log begins anew after the reader")


def test_nothing_is_due_while_a_pass_is_under_way_or_too_little_came_since(writer: Writer) -> None:
    writer.opened.clear()
    writer.fill()
    store = writer.desk.store
    assert not store.is_checkpoint_due()
    writer.opened.set()
    writer.finish_pass()
    assert store.is_checkpoint_due(), "its end is to be seen"
    store.checkpoint()
    assert not store.is_checkpoint_due()


def test_closed_files_leave_no_descriptor(writer: Writer) -> None:
    writer.commit_until(lambda: len(writer.copied) > 1, "passes")
    assert set(checkpoint._descriptors_of(writer.path))
    path = writer.path
    writer.desk.store.close()
    assert not set(checkpoint._descriptors_of(path))
    writer.desk.open()


def test_a_ledger_whose_last_pass_failed_is_no_clean_one(writer: Writer) -> None:
    writer.opened.clear()
    writer.fail = lambda who: None
    writer.fill()
    log = writer.desk.store.checkpoints._logs[1]
    assert log.running is not None
    failed: Future[int | None] = Future()
    failed.set_exception(apsw.IOError("fsync failed"))
    writer.opened.set()
    log.running.result(20)
    log.running = failed
    with pytest.raises(apsw.IOError):
        writer.desk.store.close()
    writer.desk.open()
    assert not writer.desk.store.was_clean
