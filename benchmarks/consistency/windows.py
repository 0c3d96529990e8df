"""What the live check's judge costs: windows of events with nested documents, told apart from two stores in memory."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

from consistency.classes import Class, Record
from consistency.compare import Judge
from consistency.identity import Naming
from consistency.judge import Checker
from consistency.recorded import Recorded
from consistency.rows import Key, Row, Span
from consistency.rules import Rules
from consistency.stores.protocol import CHUNK, Fingerprints, Traits
from proxy.core.owed import DELIVERED

WINDOW: Final = 10_000
"""Events of one window."""
_BOTH: Final = Record.of(DELIVERED, DELIVERED)


class MemoryStore:
    """Rows by number; the time of each is its number."""

    def __init__(self, name: str, rows: list[Row]) -> None:
        self.name = name
        self.traits = Traits()
        self._rows = rows

    async def open(self) -> None:
        """Nothing to do."""

    async def rows(self, span: Span, series: frozenset[str] | None = None) -> AsyncIterator[list[Row]]:
        """In chunks, as a real one."""
        for start in range(span.start, min(span.end, len(self._rows)), CHUNK):
            yield self._rows[start : min(start + CHUNK, span.end)]

    async def fetch(self, keys: Sequence[Key], step: int = 1) -> list[Row]:
        """By number."""
        return [self._rows[key.at] for key in keys if key.at < len(self._rows)]

    async def fingerprints(self, span: Span, step: int) -> Fingerprints:
        """None are asked for."""
        raise NotImplementedError

    async def write(self, rows: Sequence[Row]) -> int:
        """Nobody writes."""
        raise NotImplementedError

    async def close(self) -> None:
        """Nothing to do."""


class MemoryRecords:
    """Every event was delivered to both."""

    timeless = 0

    def __init__(self, recorded: list[Recorded]) -> None:
        self._recorded = recorded

    async def about(
        self, span: Span, keys: Sequence[Key], is_wanted: Callable[[Key], bool] = lambda _: True
    ) -> list[Recorded]:
        """Those of the span."""
        return self._recorded[span.start : span.end]

    async def again(self, keys: Sequence[Key]) -> list[Recorded]:
        """By number."""
        return [self._recorded[key.at] for key in keys]

    def covers(self, at: int) -> bool:
        """Everything."""
        return True


def row(number: int) -> Row:
    """An event as Home Assistant has them, in ten fields."""
    fields: dict[str, Any] = {
        "entity_id": f"sensor.room_{number % 200}",
        "state": str(number % 97),
        "attributes": {
            "unit": "°C",
            "friendly_name": f"Room {number % 200}",
            "battery": number % 100,
            "tags": [1, 2, 3],
        },
        "context": {"id": f"{number:032x}", "parent_id": None, "user_id": None},
        "temperature": number / 7,
        "humidity": number % 100,
        "occupied": number % 2 == 0,
        "counter": number * 3,
        "last_changed": "2026-01-31T12:00:00.123456+00:00",
        "origin": "LOCAL",
    }
    return Row(f"event-{number:010}", number, fields)


def pairs_per_second(events: int) -> float:
    """Pairs of events that one core judges in a second, by processor time."""
    old, new = ([row(number) for number in range(events)] for _ in range(2))
    records = MemoryRecords([Recorded(each.identity, _BOTH, each.at, (each.identity,)) for each in old])
    judge = Judge(Rules(()), Naming(), records.covers)
    checker = Checker(MemoryStore("old", old), MemoryStore("new", new), records, judge)

    async def judged() -> int:
        equal = 0
        for start in range(0, events, WINDOW):
            found = await checker.judge(Span(start, start + WINDOW))
            equal += found.counts.classes[Class.EQUAL]
        return equal

    gc.collect()
    gc.freeze()  # the rows are the stores': nobody looks through them for garbage
    begun = time.process_time()
    equal = asyncio.run(judged())
    seconds = time.process_time() - begun
    gc.unfreeze()
    if equal != events:
        raise AssertionError(f"{equal} of {events} are equal")
    return events / seconds
