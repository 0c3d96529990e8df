"""Group commit: what came while one commit was written goes out with the next.

    need(urgent)  --> at once, when no commit is under way (but see `GATHER`)
    need()        --> within `commit_interval`, less what is `YOUNG`

All writing is done by one thread; the loop goes on collecting while it waits for the disk. A full disk
is not a failed one: the reserve is released and the same transaction is tried again. After any other
failure nothing is acknowledged any more: what the kernel still has of a failed fsync cannot be known, so
the process ends, and its successor asks the workers again for what was not acknowledged.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Final, ParamSpec, TypeVar

import apsw

from proxy.ledger.book import Book
from proxy.ledger.disk import Disk, is_no_room
from proxy.ledger.entry import Stream
from proxy.ledger.segment import LedgerBroken
from proxy.ledger.store import Store

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

RETRY_FULL: Final = 0.25
"""Seconds between two tries to write to a full disk without a reserve."""
MANY: Final = 16
"""Events with one side in the ledger's hands and the other's answer to come, after which the next commit gathers."""
GATHER: Final = 0.002
"""Seconds from the begin of such a commit to that of the next.

Written before its authority has answered, such an event is written again afterwards; without this the ledger spent
31 us on an event with a stalled copy, with it 21. Where nothing is in the ledger's hands nothing waits for this.
"""
YOUNG: Final = 0.25
"""Of `commit_interval`: an event whose answers are to come is left for the next commit when it is younger than that."""
_ALMOST_NOTHING: Final = 2**20
_SHARED_MEMORY: Final = frozenset({apsw.SQLITE_IOERR_SHMSIZE, apsw.SQLITE_IOERR_SHMMAP, apsw.SQLITE_IOERR_SHMOPEN})
"""Errors of growing the log's index file; nothing of the record was written before them."""


class Committer:
    """Writes the book's groups to the store.

    interval: seconds; now_ns: wall clock; durable: called in the loop with the streams that have a new
    durable frame; low: called with the state of the disk when it is full; die: ends the process.
    """

    def __init__(
        self,
        book: Book,
        store: Store,
        disk: Disk,
        *,
        interval: float,
        now_ns: Callable[[], int],
        durable: Callable[[list[Stream]], None],
        low: Callable[[bool], None],
        die: Callable[[str], None],
    ) -> None:
        self._book = book
        self._store = store
        self._disk = disk
        self._interval = interval * (1 - YOUNG)
        self._young_ns = int(interval * YOUNG * 1e9)
        self._now_ns = now_ns
        self._durable = durable
        self._low = low
        self._die = die
        self._thread = ThreadPoolExecutor(1, "ledger-store")
        self._now = asyncio.Event()
        self._is_urgent = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self.counters: Counter[str] = Counter()
        self.seconds: deque[float] = deque(maxlen=1000)
        """How long the last commits took."""

    def start(self) -> None:
        """Begin to commit what is needed."""
        self._task = asyncio.create_task(self._run(), name="committer")
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Without it nothing would ever be durable again, and everybody would wait."""
        if not task.cancelled() and task.exception() is not None:
            self._die(f"the committer failed: {task.exception()!r}")

    def need(self, *, urgent: bool = False) -> None:
        """There is something to write; urgent: somebody waits for it."""
        if urgent:
            self._is_urgent = True
            self._now.set()
        elif self._timer is None and not self._now.is_set():
            self._timer = asyncio.get_running_loop().call_later(self._interval, self._now.set)

    async def flush(self) -> None:
        """Wait until everything said so far is durable."""
        while self._book.has_changes() or not self._idle.is_set():
            self.need(urgent=True)
            await asyncio.sleep(0)
            await self._idle.wait()

    async def written(self) -> None:
        """Wait until everything said before this call is durable, whatever comes meanwhile."""
        wanted = self._book.group_number + self._book.has_changes()
        while self._book.committed_number < wanted:
            self.need(urgent=True)
            await asyncio.sleep(0)
            await self._idle.wait()

    async def write(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` in the writing thread, again and again while the disk is full."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                return await loop.run_in_executor(self._thread, lambda: work(*args, **kwargs))
            except (apsw.Error, OSError, LedgerBroken) as error:
                if not self._is_full(error):
                    self._die(f"the ledger could not write: {error!r}")
                    raise
            self.counters["disk_full"] += 1
            released = await loop.run_in_executor(self._thread, self._disk.release)
            self._low(True)
            if not released:
                await asyncio.sleep(RETRY_FULL)

    def _is_full(self, error: Exception) -> bool:
        if is_no_room(error):
            return True
        extended = getattr(error, "extendedresult", 0)
        return extended in _SHARED_MEMORY and self._disk.free() < _ALMOST_NOTHING

    async def _run(self) -> None:
        earliest = 0.0
        while True:
            await self._now.wait()
            self._now.clear()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if not self._book.has_changes():
                continue
            self._idle.clear()
            if (left := earliest - monotonic()) > 0:
                await asyncio.sleep(left)
            group = self._book.take(self._now_ns(), 0 if self._is_urgent else self._young_ns)
            self._is_urgent = False
            if self._book.has_changes():
                self.need()  # what was left: its time runs while the others are written
            began = monotonic()
            earliest = began + GATHER if group.halves >= MANY else 0.0
            await self.write(self._store.commit, group)
            self.seconds.append(monotonic() - began)
            self.counters["commits"] += 1
            self._durable(self._book.committed(group))
            if self._store.is_checkpoint_due():
                await self.write(self._store.checkpoint)  # only now: nobody who waits for the group waits for this
            self._idle.set()
            if self._book.has_changes():
                self.need()

    def p99(self) -> float:
        """Seconds within which 99 % of the last commits were done; 0 without one."""
        return sorted(self.seconds)[int(len(self.seconds) * 0.99)] if self.seconds else 0.0

    async def close(self) -> None:
        """Write what is left and stop."""
        await self.flush()
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def release_thread(self) -> None:
        """Let the thread go; nothing is written after this."""
        self._thread.shutdown()
