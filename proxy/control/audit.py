"""The audit trail: one JSON line for each change, durable before the change takes effect.

A change that then fails is followed by a line of its own with the action `not-applied`. A line that a
power cut tore is passed over and counted, never repaired.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from proxy.control.files import append_line

log = logging.getLogger(__name__)

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


class Audit:
    """`audit.jsonl`. clock: seconds since 1970."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._order = asyncio.Lock()
        self.damaged = 0
        """Lines that could not be read when last asked."""

    async def write(self, entry: Entry) -> Entry:
        """Append an entry, stamped with the present time; durable when this returns. Raises OSError."""
        stamped = msgspec.structs.replace(
            entry, at=iso(self._clock()), reason=entry.reason[:MAX_TEXT], actor=entry.actor[:MAX_TEXT]
        )
        async with self._order:
            await asyncio.to_thread(append_line, self._path, msgspec.json.encode(stamped))
        log.info("%s", stamped.action, extra={"route": stamped.route, "actor": stamped.actor, "epoch": stamped.epoch})
        return stamped

    async def history(self, limit: int, route: str | None = None, action: str | None = None) -> list[Entry]:
        """The newest entries first, at most `limit`, of one route and one action when given."""
        return await asyncio.to_thread(self._history, limit, route, action)

    def _history(self, limit: int, route: str | None, action: str | None) -> list[Entry]:
        found: list[Entry] = []
        damaged = 0
        for line in lines_backwards(self._path):
            try:
                entry = msgspec.json.decode(line, type=Entry)
            except msgspec.DecodeError:
                damaged += 1
                continue
            if (route is None or entry.route == route) and (action is None or entry.action == action):
                found.append(entry)
                if len(found) >= limit:
                    break
        if damaged > self.damaged:
            log.warning("%s has %d damaged lines", self._path, damaged)
        self.damaged = damaged
        return found

    def last_epoch(self) -> int:
        """The epoch of the newest entry; 0 without one."""
        newest = self._history(1, None, None)
        return newest[0].epoch if newest else 0


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
