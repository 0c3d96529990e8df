"""A store and a record in memory, which can be slow, fail and show rows late; and a clock that only sleeping moves."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from consistency.classes import Record
from consistency.recorded import Recorded
from consistency.rows import Key, Row, Span
from consistency.stores.errors import StoreError
from consistency.stores.protocol import CHUNK, Fingerprints, Traits


class Clock:
    """Seconds that pass when somebody sleeps. then: what happens at the next times of sleeping, in order."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.then: list[Callable[[], object]] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if self.then:
            self.then.pop(0)()


class MemoryStore:
    """Rows in order of time. errors: raised by the next questions, one each, before anything is said."""

    def __init__(self, rows: Iterable[Row] = (), *, name: str = "old", traits: Traits | None = None) -> None:
        self.name = name
        self.traits = traits or Traits()
        self.errors: list[StoreError] = []
        self.fetched: list[Key] = []
        self._rows: list[Row] = []
        self._by_identity: dict[str, list[Row]] = {}
        self.put(rows)

    def put(self, rows: Iterable[Row]) -> None:
        """More rows, by whom it may concern."""
        for row in rows:
            self._rows.append(row)
            self._by_identity.setdefault(row.identity, []).append(row)
        self._rows.sort(key=lambda row: row.at)

    def drop(self, identity: str) -> None:
        """Delete all rows of an identity."""
        self._by_identity.pop(identity)
        self._rows = [row for row in self._rows if row.identity != identity]

    async def open(self) -> None:
        self._fail()

    async def rows(self, span: Span, series: frozenset[str] | None = None) -> AsyncIterator[list[Row]]:
        self._fail()
        first = bisect_left(self._rows, span.start, key=lambda row: row.at)
        last = bisect_left(self._rows, span.end, key=lambda row: row.at)
        for start in range(first, last, CHUNK):
            yield self._rows[start : min(start + CHUNK, last)]

    async def fetch(self, keys: Sequence[Key]) -> list[Row]:
        self._fail()
        self.fetched += keys
        found = []
        for key in dict.fromkeys(keys):
            for row in self._by_identity.get(key.identity, ()):
                step = self.traits.precision
                if not self.traits.is_keyed_by_time or row.at // step == key.at // step:
                    found.append(row)
        return found

    async def fingerprints(self, span: Span, step: int) -> Fingerprints:
        raise NotImplementedError("its traits say that it makes none")

    async def write(self, rows: Sequence[Row]) -> int:
        self._fail()
        missing = [row for row in rows if row.identity not in self._by_identity]
        self.put(missing)
        return len(missing)

    async def close(self) -> None:
        pass

    def _fail(self) -> None:
        if self.errors:
            raise self.errors.pop(0)


class MemoryRecords:
    """A ledger that covers all times from one on."""

    def __init__(self, covered_from: int = 0) -> None:
        self.covered_from = covered_from
        self.errors: list[Exception] = []
        self._found: dict[str, Recorded] = {}
        self._ordered: list[Recorded] = []

    def put(self, identity: str, at: int, record: Record) -> None:
        """What is said of an identity from now on."""
        self._ordered = []
        self._found[identity] = Recorded(identity, record, at, (f"id-{identity}",))

    async def within(self, span: Span) -> list[Recorded]:
        self._fail()
        ordered = self._ordered = self._ordered or sorted(self._found.values(), key=lambda each: each.at)
        first = bisect_left(ordered, span.start, key=lambda each: each.at)
        return ordered[first : bisect_left(ordered, span.end, key=lambda each: each.at)]

    async def find(self, keys: Sequence[Key]) -> list[Recorded]:
        self._fail()
        return [self._found[key.identity] for key in dict.fromkeys(keys) if key.identity in self._found]

    def covers(self, at: int) -> bool:
        return at >= self.covered_from

    def _fail(self) -> None:
        if self.errors:
            raise self.errors.pop(0)
