"""The audit trail: one JSON line for each change, durable before the change takes effect.

A change that then fails is followed by a line of its own with the action `not-applied`. A line that a
power cut tore is passed over and counted, never repaired.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from proxy.control.files import append_line

log = logging.getLogger(__name__)

T = TypeVar("T")
_CHUNK: Final = 64 * 2**10
MAX_TEXT: Final = 1000
"""Characters kept of what a person writes: reason and actor."""


class Entry(msgspec.Struct, frozen=True):
    """One change. action: set-weight, stage, rollback, rearm, revert, replay, dead-requeue and so on.

    at: ISO 8601, UTC; epoch and previous_epoch: equal when the routing did not change; before, after:
    a route's position, or empty; evidence: what led to it.
    """

    at: str
    epoch: int
    previous_epoch: int
    actor: str
    action: str
    route: str = ""
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    reason: str = ""
    evidence: dict[str, Any] = {}


def iso(seconds: float) -> str:
    """A moment as the API writes it: `2026-01-31T12:00:00.123Z`. seconds: since 1970."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _next_millisecond(seconds: float) -> str:
    """The first moment that an entry can bear which is not before this one."""
    return iso(-(-round(seconds * 1e6) // 1000) / 1000)


class Audit:
    """`audit.jsonl`. clock: seconds since 1970."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._order = asyncio.Lock()
        self._writer = ThreadPoolExecutor(1, "audit")
        """Of writes alone: nobody who reads or hangs elsewhere may hold a revert up."""
        self.listeners: list[Callable[[Entry], None]] = []
        """Each gets every entry once it is durable, in order. They neither wait nor raise."""
        self.damaged = 0
        """Lines that could not be read when last asked."""

    async def write(self, entry: Entry) -> Entry:
        """Append an entry, stamped with the present time; durable when this returns. Raises OSError."""
        stamped = msgspec.structs.replace(
            entry, at=iso(self._clock()), reason=entry.reason[:MAX_TEXT], actor=entry.actor[:MAX_TEXT]
        )
        async with self._order:
            line = msgspec.json.encode(stamped)
            await asyncio.get_running_loop().run_in_executor(self._writer, append_line, self._path, line)
            for listener in self.listeners:
                listener(stamped)
        log.info("%s", stamped.action, extra={"route": stamped.route, "actor": stamped.actor, "epoch": stamped.epoch})
        return stamped

    def close(self) -> None:
        """No more writes. One that is under way ends, and the process does not end before it."""
        self._writer.shutdown(wait=False)

    async def history(
        self,
        limit: int,
        route: str | None = None,
        action: str | None = None,
        *,
        since: float | None = None,
        until: float | None = None,
        offset: int = 0,
    ) -> list[Entry]:
        """The newest entries first, at most `limit` after the first `offset`; of one route and one action when given.

        since, until: seconds since 1970, only what was written from then on, and before.
        """
        # All are looked at: a clock that was set back leaves entries that are not in the order of their times.
        begin, end = (None if each is None else _next_millisecond(each) for each in (since, until))

        def look(entries: Iterator[Entry]) -> list[Entry]:
            found = (
                entry
                for entry in entries
                if (route is None or entry.route == route)
                and (action is None or entry.action == action)
                and (begin is None or entry.at >= begin)
                and (end is None or entry.at < end)
            )
            return list(islice(found, offset, offset + limit))

        return await self.read(look)

    async def read(self, look: Callable[[Iterator[Entry]], T]) -> T:
        """What `look` makes of the entries, newest first; it runs in a thread, and reads as far as it wants to."""
        return await asyncio.to_thread(lambda: look(self._entries()))

    def _entries(self) -> Iterator[Entry]:
        damaged = 0
        try:
            for line in lines_backwards(self._path):
                try:
                    entry = msgspec.json.decode(line, type=Entry)
                except msgspec.DecodeError:
                    damaged += 1
                else:
                    yield entry
        finally:  # also where the reader has seen enough
            if damaged > self.damaged:
                log.warning("%s has %d damaged lines", self._path, damaged)
            self.damaged = damaged

    def last_epoch(self) -> int:
        """The epoch of the newest entry; 0 without one."""
        newest = next(self._entries(), None)
        return newest.epoch if newest is not None else 0


def lines_backwards(path: Path) -> Iterator[bytes]:
    """A file's lines from the last to the first, read in chunks; empty lines are left out."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        position = file.seek(0, 2)
        rest = b""
        while position > 0:
            size = min(_CHUNK, position)
            position -= size
            file.seek(position)
            first, *lines = (file.read(size) + rest).split(b"\n")
            yield from (line for line in reversed(lines) if line)
            rest = first
        if rest:
            yield rest
