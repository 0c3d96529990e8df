"""The present state of an instance, told again and again to whoever watches: Server-sent events.

    Streams (one producer, only while somebody watches)          Watcher (one for each stream)
      snapshot, every TICK or when the routing changed --bytes-->  the newest of each kind that it has not sent yet
      history, when the audit trail has a new line     --bytes-->

What is told is rendered once, however many watch. A watcher holds one message of each kind at most: one that reads
slowly misses snapshots, which say everything each time, and one that reads nothing is cut (`event_stream.py`).
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from proxy.control.audit import Entry
from proxy.control.views import History, Snapshot

log = logging.getLogger(__name__)

TICK: Final = 0.5
"""Seconds between two snapshots."""
LEAST: Final = 0.1
"""Seconds between two snapshots when one change follows the other."""
SHARE: Final = 0.05
"""Of this process's time that snapshots take at most: with very many routes they come less often."""
MOST_WATCHERS: Final = 16
HEARTBEAT: Final = 5.0
"""Seconds of silence after which a watcher is sent a comment, so that it knows that the connection lives."""
FEED: Final = 50
"""Lines of the audit trail that are told."""
BEAT: Final = b": beat\n\n"


def message(kind: str, number: str, content: Any) -> bytes:
    """One event of a stream. number: its id."""
    return b"event: %s\nid: %s\ndata: %s\n\n" % (kind.encode(), number.encode(), msgspec.json.encode(content))


class Watcher:
    """What one stream is still to send."""

    def __init__(self) -> None:
        self._waiting: dict[str, bytes] = {}
        self._is_told = asyncio.Event()
        self.is_over = False

    def put(self, kind: str, told: bytes) -> None:
        """Send this; it takes the place of one of its kind that was not sent yet."""
        self._waiting[kind] = told
        self._is_told.set()

    def end(self) -> None:
        """Nothing will come any more."""
        self.is_over = True
        self._is_told.set()

    async def next(self) -> bytes:
        """All that is to be sent, or a sign of life when there is nothing for long; empty at the end."""
        try:
            async with asyncio.timeout(HEARTBEAT):
                await self._is_told.wait()
        except TimeoutError:
            return BEAT
        if self.is_over:
            return b""
        told = b"".join(self._waiting.values())
        self._waiting.clear()
        self._is_told.clear()
        return told


class Streams:
    """Those who watch an instance. snapshot: makes one; history: reads the newest lines of the audit trail, so many.

    Ids of events are `LIFE.NUMBER`: another life means another supervisor.
    """

    def __init__(self, snapshot: Callable[[], Snapshot], history: Callable[[int], Awaitable[History]]) -> None:
        self._snapshot = snapshot
        self._history = history
        self._life = uuid.uuid4().hex[:12]
        self._number = 0
        self._watchers: set[Watcher] = set()
        self._latest: dict[str, bytes] = {}
        self._is_changed = asyncio.Event()
        self._producer: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._is_stale = True
        """The audit trail has lines that were not read yet."""
        self._is_closed = False

    @property
    def count(self) -> int:
        """How many watch."""
        return len(self._watchers)

    @property
    def is_full(self) -> bool:
        """Do as many watch as may?"""
        return self.count >= MOST_WATCHERS

    @contextmanager
    def watcher(self) -> Iterator[Watcher]:
        """One more, for as long as it lasts. The first begins the production, and with the last one it ends."""
        made = Watcher()
        if self._is_closed:
            made.end()
        self._watchers.add(made)
        for kind, told in self._latest.items():
            made.put(kind, told)
        if self._producer is None and not self._is_closed:
            self._producer = asyncio.create_task(self._produce())
        try:
            yield made
        finally:
            self._watchers.discard(made)
            if not self._watchers:
                self._stop()

    def changed(self) -> None:
        """The routing is another one: tell it now."""
        self._is_changed.set()

    def written(self, _entry: Entry) -> None:
        """The audit trail has a new line."""
        self._is_stale = True
        self._is_changed.set()

    def close(self) -> None:
        """All streams end; who watches comes again, to the next supervisor."""
        self._is_closed = True
        for each in self._watchers:
            each.end()
        self._stop()

    def _stop(self) -> None:
        for task in (self._producer, self._reader):
            if task is not None:
                task.cancel()
        self._producer = self._reader = None
        self._latest.clear()
        self._is_stale = True

    async def _produce(self) -> None:
        while True:
            self._is_changed.clear()
            begun = time.thread_time()
            try:
                self._publish("snapshot", self._snapshot())
            except Exception:  # who watches sees that nothing comes, and this process goes on
                log.exception("the state could not be told to those who watch")
            self._read_history()
            await asyncio.sleep(max(LEAST, (time.thread_time() - begun) / SHARE))
            try:
                async with asyncio.timeout(TICK - LEAST):
                    await self._is_changed.wait()
            except TimeoutError:
                pass

    def _read_history(self) -> None:
        """In a task of its own: a disk that does not answer holds nothing up."""
        if self._is_stale and (self._reader is None or self._reader.done()):
            self._is_stale = False
            self._reader = asyncio.create_task(self._tell_history())

    async def _tell_history(self) -> None:
        try:
            self._publish("history", await self._history(FEED))
        except OSError as error:
            self._is_stale = True
            log.warning("the audit trail could not be read: %s", error)

    def _publish(self, kind: str, content: Any) -> None:
        self._number += 1
        told = self._latest[kind] = message(kind, f"{self._life}.{self._number}", content)
        for each in self._watchers:
            each.put(kind, told)
