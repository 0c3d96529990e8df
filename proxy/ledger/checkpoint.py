"""Checkpoints: what the log of a segment file holds is brought into the file beside the writing.

SQLite's own way is to do it at the end of the commit that fills the log, and everybody whose answer waits
for that commit or for the next one waits for the copying too (20 ms, four times a second, with a stalled copy).

    commit .. commit   the log is full    -> a pass in a thread of its own copies it, on a connection of its own
    commit .. commit   the pass is over   -> more passes, until what came meanwhile is little: the writer copies
                                             that between two commits, and the log begins anew

What a reader still looks at stays in the log until a later pass. If the passes do not keep up, the writer waits
for the one under way and copies the rest itself, however much that is: the disk or the core is too slow for what
comes, and waiting is all that is left.

The thread steps back where there is more to do than the machine can: with a stalled copy at half load on one core,
clients' p99 was 10-21 ms in six runs with that, and 16-33 ms in three without.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final

import apsw

from proxy.ledger.disk import is_no_room
from proxy.ledger.schema import connect
from proxy.ledger.segment import LedgerBroken, Segment

_log = logging.getLogger(__name__)

FULL: Final = 4000
"""Pages in a log that is full: pages that change often are brought into the file once."""
LITTLE: Final = FULL // 20
"""Pages that the writer copies itself."""
AGAIN: Final = FULL // 4
"""Pages until the next try after one that left something, or failed."""
TOO_MANY: Final = FULL * 4
"""Pages past which the writer waits for the pass."""
NICE: Final = 10
"""Of the thread that makes the passes."""
_FATAL: Final = (apsw.IOError, apsw.CorruptError, apsw.NotADBError)


class _Log:
    """What is known of one segment's log.

    connection: the passes' own; running: the pass under way; generation: of the log when that began;
    copied: pages after the pass before it; full: pages at which the log is copied.
    """

    __slots__ = ("connection", "copied", "full", "generation", "running")

    def __init__(self) -> None:
        self.connection: apsw.Connection | None = None
        self.running: Future[int | None] | None = None
        self.generation = 0
        self.copied = 0
        self.full = FULL


class Checkpoints:
    """The checkpoints of all segments. Used by the store's thread; `is_due` by others, too."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "ledger-checkpoint")
        self._thread.submit(_step_back).result()  # where there can be no thread there is no start
        self._logs: dict[int, _Log] = {}
        self.counters: Counter[str] = Counter()

    def is_due(self, segment: Segment) -> bool:
        """Would `look` do something now?"""
        log = self._logs.get(segment.number)
        if log is None:
            return segment.log_pages >= FULL
        running = log.running
        if running is not None:
            return running.done() or segment.log_pages >= TOO_MANY
        return segment.log_pages >= (log.full if log.generation == segment.log_generation else FULL)

    def look(self, segment: Segment) -> None:
        """After a commit: begin, or end, what is due.

        Raises the errors after which nothing may be written any more, as a failed fsync: what the kernel
        still has of it cannot be known. What may pass, as a full disk, is tried again later.
        """
        log = self._logs.setdefault(segment.number, _Log())
        pages = segment.log_pages
        if log.running is not None:
            if not log.running.done() and pages < TOO_MANY:
                return
            running, log.running = log.running, None
            copied = running.result()
            if log.generation == segment.log_generation:
                self._go_on(log, segment, copied)
                return
            # It had copied all there was, and the log began anew with the next commit.
        if log.generation != segment.log_generation:
            log.generation, log.copied, log.full = segment.log_generation, 0, FULL
        if pages >= log.full:
            self._begin(log, segment)

    def _go_on(self, log: _Log, segment: Segment, copied: int | None) -> None:
        """After a pass that left something, be it what came meanwhile."""
        pages = segment.log_pages
        if copied is not None and copied > log.copied and pages - copied > LITTLE and pages < TOO_MANY:
            log.copied = copied
            self._begin(log, segment)
            return
        if copied is not None:
            self._copy(segment.connection)
        # Unless a reader keeps it from that, the log begins anew with the next commit.
        log.full = pages + AGAIN

    def _begin(self, log: _Log, segment: Segment) -> None:
        log.running = self._thread.submit(self._pass, log, segment.path)

    def _pass(self, log: _Log, path: Path) -> int | None:
        """In the passes' thread: copy what there is; how many pages of the log are in the file now, or None."""
        try:
            if log.connection is None:
                log.connection = connect(path)
        except apsw.Error as error:
            self._failed(error)
            return None
        copied = self._copy(log.connection)
        if copied is not None:
            _write_back(path)
        return copied

    def _copy(self, connection: apsw.Connection) -> int | None:
        try:
            ((_, _, copied),) = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except (apsw.Error, OSError) as error:
            self._failed(error)
            return None
        return int(str(copied)) if int(str(copied)) >= 0 else None

    def _failed(self, error: apsw.Error | OSError) -> None:
        """Count what may pass; raise what will not."""
        if isinstance(error, _FATAL):
            raise error
        self.counters["checkpoints_failed"] += 1
        if not is_no_room(error):
            _log.warning("a checkpoint failed and is tried again later: %s", error)

    def forget(self, segment: Segment) -> None:
        """Its connection is about to be closed: wait for its pass. Raises as `look`."""
        log = self._logs.pop(segment.number, None)
        if log is None:
            return
        try:
            if log.running is not None:
                log.running.result()
        finally:
            if log.connection is not None:
                log.connection.close()

    def close(self) -> None:
        """Wait for what is under way."""
        self._thread.shutdown()


def _step_back() -> None:
    with suppress(OSError):  # a sandbox may forbid it
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


def _write_back(path: Path) -> None:
    """Have the disk write what a pass has copied.

    SQLite leaves that to whoever reaches the log's end, which is the writer, who then had 6 to 10 ms of it to wait
    for, and now 1 ms. It is not what durability rests on, for the writer syncs all the same; but an error is told
    once, and perhaps to us. The descriptor must be one of SQLite's: to close another one would drop the locks that
    this process has on the file (POSIX, `fcntl`).
    """
    for number in _descriptors_of(path):
        try:
            os.fdatasync(number)
        except OSError as error:
            if error.errno in (errno.EBADF, errno.EINVAL):
                continue  # closed since, and perhaps something else by now
            raise LedgerBroken(f"{path} cannot be synced: {error}") from error
        return


def _descriptors_of(path: Path) -> Iterator[int]:
    """This process's descriptors of a file; none where that cannot be told."""
    wanted = os.path.realpath(path)
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        return
    for name in names:
        with suppress(OSError):  # closed since
            if os.readlink(f"/proc/self/fd/{name}") == wanted:
                yield int(name)
