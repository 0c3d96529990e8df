"""Checkpoints: what the log of a segment file holds is brought into the file beside the writing.

SQLite's own way is to do it at the end of the commit that fills the log, and everybody whose answer waits
for that commit or for the next one waits for the copying too (20 ms, four times a second, with a stalled copy).

    commit .. commit   the log is full    -> a pass in a thread of its own copies it, on a connection of its own
    commit .. commit   the pass is over   -> more passes, until what came meanwhile is little: the writer copies
                                             that, and the log begins anew

A pass never waits for anybody, and what a reader still looks at stays in the log until a later one. Its thread
steps back where there is more to do than the machine can: with a stalled copy at half load on one core, clients'
p99 was 10-21 ms in six runs with that, and 16-33 ms in three without.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final

import apsw

from proxy.ledger.disk import is_no_room
from proxy.ledger.schema import connect
from proxy.ledger.segment import Segment

FULL: Final = 4000
"""Pages in a log that is full: pages that change often are brought into the file once."""
LITTLE: Final = FULL // 20
"""Pages that the writer copies itself."""
AGAIN: Final = FULL // 4
"""Pages until the next try after one that left something."""
TOO_MANY: Final = FULL * 2
"""Pages past which the writer waits for the pass: the disk does not keep up."""
NICE: Final = 10
"""Of the thread that makes the passes."""


class _Log:
    """What is known of one log. full: pages at which it is looked at; running: the pass under way."""

    __slots__ = ("full", "running")

    def __init__(self) -> None:
        self.full = FULL
        self.running: Future[int] | None = None


class Checkpoints:
    """The checkpoints of all segments. Only the store's thread uses it."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "ledger-checkpoint", _step_back)
        self._logs: dict[int, _Log] = {}

    def look(self, segment: Segment) -> None:
        """After a commit: begin, or end, what is due.

        Raises the errors of a pass, but for a full disk: a failed fsync must not be tried again (what the
        kernel still has of it cannot be known), so who calls this stops writing.
        """
        if segment.log_pages < FULL:
            return
        log = self._logs.setdefault(segment.number, _Log())
        if log.running is None:
            if segment.log_pages >= log.full:
                self._begin(log, segment)
        elif log.running.done() or segment.log_pages >= TOO_MANY:
            running, log.running = log.running, None
            copied = running.result()
            if segment.log_pages - copied > LITTLE and segment.log_pages < TOO_MANY:
                self._begin(log, segment)
            else:
                is_empty = _checkpoint(segment.connection) >= segment.log_pages
                log.full = FULL if is_empty else segment.log_pages + AGAIN

    def _begin(self, log: _Log, segment: Segment) -> None:
        log.running = self._thread.submit(_copy, segment.path)

    def forget(self, segment: Segment) -> None:
        """Its connection is about to be closed: wait for its pass. Raises as `look`."""
        log = self._logs.pop(segment.number, None)
        if log is not None and log.running is not None:
            log.running.result()

    def close(self) -> None:
        """Wait for what is under way."""
        self._thread.shutdown()


def _step_back() -> None:
    with suppress(OSError):  # a sandbox may forbid it
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


def _copy(path: Path) -> int:
    """One pass."""
    connection = connect(path)
    try:
        return _checkpoint(connection)
    finally:
        connection.close()


def _checkpoint(connection: apsw.Connection) -> int:
    """Copy what can be copied; how many of the log's pages are in the file now (0 on a full disk)."""
    try:
        ((_, _, copied),) = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    except (apsw.Error, OSError) as error:
        if is_no_room(error):
            return 0
        raise
    return int(str(copied))
