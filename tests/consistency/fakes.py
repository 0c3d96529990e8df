"""A store, a record and a ledger in memory, which can be slow, fail and show rows late; and a clock that only sleeping
moves.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from functools import reduce
from typing import Any

import orjson

from consistency.classes import Record
from consistency.ledger import STATES_PAGE
from consistency.recorded import Recorded, RecordsUnavailable
from consistency.rows import Key, Row, Span
from consistency.stores.errors import StoreError
from consistency.stores.protocol import CHUNK, Fingerprint, Fingerprints, Segment, Traits
from proxy.core.owed import DELIVERED


class Clock:
    """Seconds that pass when somebody sleeps. then: what happens at the next times of sleeping, in order."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.then: list[Any] = []

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
        self.read: list[frozenset[str] | None] = []
        self.summed: list[Span] = []
        """What was asked for: rows of which series, fingerprints of which spans."""
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
        self.read.append(series)
        first = bisect_left(self._rows, span.start, key=lambda row: row.at)
        last = bisect_left(self._rows, span.end, key=lambda row: row.at)
        for start in range(first, last, CHUNK):
            some = self._rows[start : min(start + CHUNK, last)]
            yield some if series is None else [row for row in some if row.identity in series]

    async def fetch(self, keys: Sequence[Key], step: int = 1) -> list[Row]:
        self._fail()
        self.fetched += keys
        steps = {(key.identity, key.at // step if self.traits.is_keyed_by_time else 0) for key in keys}
        return [
            row
            for identity, number in steps
            for row in self._by_identity.get(identity, ())
            if not self.traits.is_keyed_by_time or row.at // step == number
        ]

    async def fingerprints(self, span: Span, step: int) -> Fingerprints:
        """Count and sums of numbers; the identity is the series. Series with texts are unread."""
        self._fail()
        self.summed.append(span)
        figures: dict[Segment, dict[str, float]] = {}
        unread = set()
        for row in self._rows:
            if span.start <= row.at < span.end:
                segment = Segment(row.identity, row.at - (row.at - span.start) % step)
                known = figures.setdefault(segment, {"rows": 0})
                known["rows"] += 1
                for name, value in row.fields.items():
                    if isinstance(value, str):
                        unread.add(row.identity)
                    else:
                        sum_of = f"{name} {type(value).__name__} sum"
                        known[sum_of] = known.get(sum_of, 0) + value
        segments = {segment: Fingerprint(int(known.pop("rows")), known) for segment, known in figures.items()}
        return Fingerprints(segments, frozenset(unread))

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
    """A ledger that covers all times from one on. then: what happens before each of the next questions is answered."""

    def __init__(self, covered_from: int = 0) -> None:
        self.covered_from = covered_from
        self.timeless = 0
        self.errors: list[Exception] = []
        self.then: list[Any] = []
        self._events: dict[str, list[tuple[int, Record]]] = {}
        self._ordered: list[tuple[int, str]] = []

    def put(self, identity: str, at: int, record: Record) -> None:
        """What is said of the one event of an identity from now on."""
        self._events[identity] = []
        self.add(identity, at, record)

    def add(self, identity: str, at: int, record: Record) -> None:
        """One event more."""
        self._ordered = []
        self._events.setdefault(identity, []).append((at, record))

    async def about(
        self, span: Span, keys: Sequence[Key], is_wanted: Callable[[Key], bool] = lambda _: True
    ) -> list[Recorded]:
        if self.then:
            self.then.pop(0)()
        if self.errors:
            raise self.errors.pop(0)
        if not self._ordered:
            self._ordered = sorted((at, name) for name, events in self._events.items() for at, _ in events)
        first, last = bisect_left(self._ordered, (span.start,)), bisect_left(self._ordered, (span.end,))
        names = dict.fromkeys(name for at, name in self._ordered[first:last] if is_wanted(Key(name, at)))
        names |= dict.fromkeys(key.identity for key in keys if key.identity in self._events)
        return [self._recorded(name) for name in names]

    async def again(self, keys: Sequence[Key]) -> list[Recorded]:
        return await self.about(Span(0, 0), keys)

    def covers(self, at: int) -> bool:
        return at >= self.covered_from

    def _recorded(self, name: str) -> Recorded:
        events = self._events[name]
        record = reduce(Record.joined, (each for _, each in events))
        return Recorded(name, record, min(at for at, _ in events), (f"id-{name}",))


SECOND = 1_000_000_000


class Ledger:
    """An admin API with a record that tests change. page: receipts of one answer."""

    def __init__(self, page: int = 3) -> None:
        self.rows: list[list[Any]] = []
        self.routes: dict[int, str] = {}
        self.from_ns: int | None = 0
        self.gaps: list[list[int]] = []
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.error = ""
        self._page = page

    def add(
        self,
        id: str,
        at: int,
        old: int = DELIVERED,
        new: int = DELIVERED,
        *,
        tries: int = 1,
        event_time: str = "",
        values: tuple[str, ...] = (),
        route: str = "events",
    ) -> None:
        texts = orjson.dumps(list(values)).decode() if values else ""
        seq = len(self.rows) + 1
        self.routes[seq] = route
        self.rows.append([seq, id, at, event_time, texts, old, 1, new, tries])

    def change(self, id: str, old: int, new: int, tries: int = 1) -> None:
        for row in self.rows:
            if row[1] == id:
                row[5:] = [old, 1, new, tries]

    def wipe(self) -> None:
        self.rows = []

    def questions(self, path: str, name: str) -> list[Any]:
        """What was asked there, one argument of it."""
        return [query[name] for each, query in self.asked if each == path]

    async def ask(self, path: str, **query: Any) -> dict[str, Any]:
        self.asked.append((path, query))
        if self.error:
            raise RecordsUnavailable(self.error)
        if path == "ledger/covered":
            last = self.rows[-1][0] if self.rows else 0
            return {"from_ns": self.from_ns, "last_seq": last, "gaps": self.gaps}
        if path == "ledger/settled":
            seqs = {int(seq) for seq in query["seqs"].split(",")}
            assert len(seqs) <= STATES_PAGE
            return {"rows": [list(row) for row in self.rows if row[0] in seqs]}
        assert path == "ledger/recorded"
        behind = [
            list(row)
            for row in self.rows
            if row[0] > query["after_seq"]
            and self.routes[row[0]] == query["route"]
            and row[2] >= query["since"] * SECOND
        ]
        page = behind[: self._page]
        return {"rows": page, "after_seq": page[-1][0] if page else query["after_seq"], "more": len(behind) > len(page)}
