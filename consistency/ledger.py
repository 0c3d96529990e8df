"""The ledger as the third source, read through the admin API while the proxy runs.

    new receipts ---after_seq--> [ index file: seq, identity, time, states ] ---> within a span, by identity
    open ones, and suspects ---by seq--> fresh states --------^

Receipts are copied into an SQLite file of the checker's own, so that its memory is bounded whatever the ledger holds,
and the ledger is asked for each receipt once. States that may still change are asked for anew each time; those of
suspects too, for what was delivered may have become pending again (a replay, a lost session).
"""

# ruff: noqa: S608 - what is put into SQL text here are our own constants

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import apsw
import orjson

from consistency.classes import Record
from consistency.identity import text_of
from consistency.moments import moment_of
from consistency.recorded import Recorded
from consistency.rows import Key, Span
from proxy.core import owed

PAGE: Final = 5000
STATES_PAGE: Final = 500
"""Receipts of one answer, and of one question by numbers, as the admin API allows."""
_MAY_CHANGE: Final = f"({owed.PENDING}, {owed.DEFERRED}, {owed.DEAD})"

_OPEN: Final = f"old IN {_MAY_CHANGE} OR new IN {_MAY_CHANGE}"

_SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS receipt (
    seq INTEGER PRIMARY KEY, identity TEXT NOT NULL, at INTEGER NOT NULL, id TEXT NOT NULL,
    old INTEGER, old_tries INTEGER, new INTEGER, new_tries INTEGER);
CREATE INDEX IF NOT EXISTS by_identity ON receipt (identity);
CREATE INDEX IF NOT EXISTS by_time ON receipt (at);
CREATE INDEX IF NOT EXISTS open ON receipt (seq) WHERE {_OPEN};
CREATE TABLE IF NOT EXISTS place (after_seq INTEGER NOT NULL);
"""
_COLUMNS: Final = "identity, at, id, old, old_tries, new, new_tries"

Naming = Callable[[str, list[str]], str]
"""From an event's id and its recorded values to its identity in the stores."""


def by_event_id(id: str, _values: list[str]) -> str:
    """Stores that keep the event id."""
    return id


def by_values(id: str, values: list[str]) -> str:
    """Stores that keep what the route's `identities` are; an event without them is named by its id."""
    return text_of(values) if values else id


class Asker(Protocol):
    """Who asks the admin API."""

    async def ask(self, path: str, **query: object) -> dict[str, Any]:
        """The answer to a GET below /api/v1. Raises RecordsUnavailable."""


class LedgerRecords:
    """What is on record of one route. file: of the index, `:memory:` for one that nobody goes on with."""

    def __init__(self, admin: Asker, route: str, naming: Naming, file: str = ":memory:") -> None:
        self._admin = admin
        self._route = route
        self._naming = naming
        self._db = apsw.Connection(file)
        self._db.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF")  # the ledger has it all
        self._db.execute(_SCHEMA)
        self._after: int = self._db.execute("SELECT after_seq FROM place").get or 0
        self._from_ns: int | None = None
        self._gaps: list[tuple[int, int]] = []
        self.timeless = 0
        """Events whose own time could not be read: the time of their arrival stands in its place."""

    async def within(self, span: Span) -> list[Recorded]:
        """All identities whose events' time is in the span, as they are now."""
        await self.refresh()
        return await asyncio.to_thread(
            self._select, f"SELECT {_COLUMNS} FROM receipt WHERE at >= ? AND at < ?", (span.start, span.end)
        )

    async def find(self, keys: Sequence[Key]) -> list[Recorded]:
        """Those that are on record, as they are now."""
        named = orjson.dumps([key.identity for key in keys]).decode()
        where = "WHERE identity IN (SELECT value FROM json_each(?))"
        seqs = [int(seq) for (seq,) in self._db.execute(f"SELECT seq FROM receipt {where}", (named,))]
        if not seqs:
            return []
        await self._ask_again(seqs)
        return await asyncio.to_thread(self._select, f"SELECT {_COLUMNS} FROM receipt {where}", (named,))

    def covers(self, at: int) -> bool:
        """Whether an event of this time would be on record."""
        if self._from_ns is None or at < self._from_ns:
            return False
        return not any(start <= at < end for start, end in self._gaps)

    async def refresh(self) -> None:
        """Read what came since the last time, and what was open then."""
        covered = await self._admin.ask("ledger/covered")
        self._from_ns = covered["from_ns"]
        self._gaps = [(start, end) for start, end in covered["gaps"]]
        await self._ask_again([int(seq) for (seq,) in self._db.execute(f"SELECT seq FROM receipt WHERE {_OPEN}")])
        more = True
        while more:
            page = await self._admin.ask("ledger/recorded", route=self._route, after_seq=self._after, limit=PAGE)
            await asyncio.to_thread(self._take, page["rows"], page["after_seq"])
            more = page["more"]

    def close(self) -> None:
        """Close the index."""
        self._db.close()

    async def _ask_again(self, seqs: list[int]) -> None:
        for start in range(0, len(seqs), STATES_PAGE):
            batch = seqs[start : start + STATES_PAGE]
            page = await self._admin.ask("ledger/settled", seqs=",".join(map(str, batch)))
            await asyncio.to_thread(self._update, page["rows"])

    def _take(self, rows: list[list[Any]], after_seq: int) -> None:
        """Rows and place in one transaction: whoever goes on later reads none twice and misses none."""
        with self._db:
            self._db.executemany("INSERT OR REPLACE INTO receipt VALUES (?, ?, ?, ?, ?, ?, ?, ?)", map(self._row, rows))
            self._db.execute("DELETE FROM place")
            self._db.execute("INSERT INTO place VALUES (?)", (after_seq,))
        self._after = after_seq

    def _row(self, row: list[Any]) -> tuple[Any, ...]:
        seq, id, accepted_ns, event_time, identities, old, old_tries, new, new_tries = row
        at = event_moment(event_time) if event_time else accepted_ns
        if at is None:
            self.timeless += 1
            at = accepted_ns
        values = orjson.loads(identities) if identities else []
        return seq, self._naming(id, values), at, id, old, old_tries, new, new_tries

    def _update(self, rows: list[list[Any]]) -> None:
        with self._db:
            self._db.executemany(
                "UPDATE receipt SET old = ?, old_tries = ?, new = ?, new_tries = ? WHERE seq = ?",
                [(*row[5:9], row[0]) for row in rows],
            )

    def _select(self, query: str, values: tuple[Any, ...]) -> list[Recorded]:
        found: dict[str, Recorded] = {}
        for identity, at, id, old, old_tries, new, new_tries in self._db.execute(query, values):
            record = Record(old, new, 1, max(old_tries, 1), max(new_tries, 1))
            before = found.get(identity)
            if before is None:
                found[identity] = Recorded(identity, record, at, (id,))
            else:
                ids = before.ids if id in before.ids else (*before.ids, id)
                found[identity] = Recorded(identity, before.record.joined(record), min(at, before.at), ids)
        return list(found.values())


def event_moment(text: str) -> int | None:
    """An event's own time as it was written: text of a moment, or a number as text. Nanoseconds, or None."""
    try:
        return moment_of(int(text))
    except ValueError:
        pass
    try:
        return moment_of(float(text))
    except ValueError:
        return moment_of(text)
