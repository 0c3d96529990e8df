"""The ledger as the third source, read through the admin API while the proxy runs.

    new receipts ---after_seq--> [ index file: seq, identity, time, states ] ---> by span, by identity
    what is not settled ---by seq--> present states --------^

Receipts are copied into an SQLite file of the checker's own, so that its memory is bounded whatever the ledger holds,
and the ledger is asked for each receipt once. States that are not settled for good are asked for anew whenever an
identity is asked about. A pending one that the ledger does not have any more is gone from the index as well.
"""

# ruff: noqa: S608 - what is put into SQL text here are our own constants

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

import apsw
import orjson

from consistency.classes import Record
from consistency.identity import text_of
from consistency.moments import moment_of
from consistency.recorded import Recorded, RecordsUnavailable
from consistency.rows import Key, Span
from proxy.core import owed

PAGE: Final = 5000
STATES_PAGE: Final = 500
"""Receipts of one answer, and of one question by numbers, as the admin API allows."""
LEAST_DELAY: Final = 5_000_000_000
MOST_DELAY: Final = 86_400_000_000_000
"""Nanoseconds between an event's own time and its arrival: what is always reckoned with, and what is not believed."""
MOST_IDS: Final = 20
"""Ids that are named of one identity."""
_SETTLED: Final = f"({owed.NOT_OWED}, {owed.DELIVERED})"
_NAMED: Final = "identity IN (SELECT value FROM json_each(?))"
FEW: Final = 50
"""Pending receipts that are asked for at once, where one that is still pending says enough."""

_PENDING: Final = f"(old = {owed.PENDING} OR new = {owed.PENDING})"
_DEFERRED: Final = f"(old = {owed.DEFERRED} OR new = {owed.DEFERRED})"

_SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS receipt (
    seq INTEGER PRIMARY KEY, identity TEXT NOT NULL, at INTEGER NOT NULL, id TEXT NOT NULL,
    old INTEGER, old_tries INTEGER, new INTEGER, new_tries INTEGER);
CREATE INDEX IF NOT EXISTS by_identity ON receipt (identity);
CREATE INDEX IF NOT EXISTS by_time ON receipt (at);
CREATE INDEX IF NOT EXISTS deferred ON receipt (seq) WHERE {_DEFERRED};
CREATE INDEX IF NOT EXISTS pending ON receipt (at) WHERE {_PENDING};
CREATE TABLE IF NOT EXISTS place (route TEXT PRIMARY KEY, after_seq INTEGER NOT NULL);
"""
_COLUMNS: Final = "identity, at, id, old, old_tries, new, new_tries"

Identify = Callable[[str, list[str]], str]
"""From an event's id and its recorded values to its identity in the stores."""


def by_event_id(id: str, _values: list[str]) -> str:
    """Stores that keep the event id."""
    return id


def by_values(id: str, values: list[str]) -> str:
    """Stores that keep what the route's `identities` are; an event that lacks one is named by its id."""
    return text_of(values) if values and all(values) else id


def _spill_file() -> apsw.Connection:
    """A temporary database on disk for what shall not take memory."""
    db = apsw.Connection("")
    db.execute("PRAGMA synchronous = OFF")  # the ledger has it all
    return db


class NotSaidYet(RecordsUnavailable):
    """The instance has only just begun: its ledger tells of itself a moment later."""


class Asker(Protocol):
    """Who asks the admin API."""

    async def ask(self, path: str, **query: object) -> dict[str, Any]:
        """The answer to a GET below /api/v1. Raises RecordsUnavailable."""


async def oldest_owed(admin: Asker, routes: Sequence[str], now: int) -> int | None:
    """When the oldest event was accepted that is still owed to a side of these routes; None when none is. now:
    nanoseconds since the epoch, as the answer. Raises RecordsUnavailable; NotSaidYet in an instance's first moments.
    """
    status = await admin.ask("status")
    if not status["ledger"]["segments"]:
        raise NotSaidYet("the ledger has not said yet what it owes")
    ages = [
        side["ledger"]["oldest_age_s"]
        for route in status["routes"]
        if route["name"] in routes
        for side in route["sides"].values()
        if side["ledger"]["pending"]
    ]
    return now - round(max(ages) * 1e9) if ages else None


class Newest(NamedTuple):
    """A receipt of a moment ago. delivered: whether (old, new) had acknowledged it when it was read."""

    seq: int
    key: Key
    delivered: tuple[bool, bool]


class LedgerRecords:
    """What is on record of some routes. since: receipts of events accepted before this time are not read (nanoseconds);
    foreign_from: from this time on, what is not on record although the record had only just begun was under way before,
    and is foreign; without one it is judged by both stores alone.

    db: where the index is kept, for who goes on later; a temporary file without one. on_receipts: is given the event
    times of new receipts, and of those that were acknowledged or carried over since, within the transaction that takes
    them in, so that what it writes to `db` is kept with them.
    """

    def __init__(
        self,
        admin: Asker,
        routes: Sequence[str],
        identify: Identify,
        *,
        since: int = 0,
        foreign_from: int | None = None,
        db: apsw.Connection | None = None,
        on_receipts: Callable[[Sequence[int]], None] = lambda _: None,
    ) -> None:
        self._admin = admin
        self._identify = identify
        self._since = since
        self._foreign_from = foreign_from
        self._on_receipts = on_receipts
        self._db = db if db is not None else _spill_file()
        self._is_own = db is None
        self._db.execute(_SCHEMA)
        kept = dict(self._db.execute("SELECT route, after_seq FROM place"))
        self._after = {route: kept.get(route, 0) for route in routes}
        self._from_ns: int | None = None
        self._gaps: list[tuple[int, int]] = []
        self._deferred_after = 0
        """Of what is deferred, the receipt that was asked about last."""
        self._delay = LEAST_DELAY
        """How long events took from their own time until they were accepted, at most; nanoseconds."""
        self.timeless = 0
        """Events without a time of their own that could be believed: that of their arrival stands in its place."""

    async def about(
        self, span: Span, keys: Sequence[Key], is_wanted: Callable[[Key], bool] = lambda _: True
    ) -> list[Recorded]:
        """Identities with an event in the span, and those of these keys that are on record; what is delivered is taken
        to be so still.
        """
        await self.refresh()
        query = "SELECT identity, at FROM receipt WHERE at >= ? AND at < ?"
        events = (Key(identity, at) for identity, at in self._db.execute(query, (span.start, span.end)))
        names = dict.fromkeys(key.identity for key in events if is_wanted(key))
        names |= dict.fromkeys(key.identity for key in keys)
        return await self._all_now(list(names), is_all=False)

    async def again(self, keys: Sequence[Key]) -> list[Recorded]:
        """Those of these keys that are on record, with every state asked for anew."""
        await self.refresh()
        return await self._all_now(list(dict.fromkeys(key.identity for key in keys)), is_all=True)

    def covers(self, at: int) -> bool:
        """Whether an event of this time would be on record. Coverage goes by arrival, and events arrive after they
        happened: what may have arrived before the record began, or in a gap, is not covered.
        """
        if self._from_ns is None:
            return False
        if at < max(self._from_ns, self._since) + LEAST_DELAY:
            return self._foreign_from is not None and at >= self._foreign_from
        return not any(start - self._delay <= at < end for start, end in self._gaps)

    async def refresh(self) -> None:
        """Read what came since the last time."""
        covered = await self._admin.ask("ledger/covered")
        self._from_ns = covered["from_ns"]
        self._gaps = [(start, end) for start, end in covered["gaps"]]
        if covered["last_seq"] < max(self._after.values()):  # another ledger, whose numbers began anew
            self._forget()
        for route in self._after:
            more = True
            while more:
                after = self._after[route]
                page = await self._admin.ask(
                    "ledger/recorded", route=route, after_seq=after, limit=PAGE, since=self._since // 1_000_000_000
                )
                self._take(route, page["rows"], page["after_seq"])
                more = page["more"]

    async def is_pending(self, span: Span) -> bool:
        """Whether an event of the span is still owed to a side, as far as receipts were read."""
        query = f"SELECT seq FROM receipt WHERE {_PENDING} AND at >= ? AND at < ? ORDER BY at LIMIT {FEW}"
        asked: set[int] = set()
        while seqs := {int(seq) for (seq,) in self._db.execute(query, (span.start, span.end))}:
            if seqs & asked:
                return True
            await self._ask_again(sorted(seqs))
            asked |= seqs
        return False

    async def look_at_deferred(self) -> None:
        """Ask anew about some of what is kept for a rollback: after one it is owed, in windows that were judged."""
        query = f"SELECT seq FROM receipt WHERE {_DEFERRED} AND seq > ? ORDER BY seq LIMIT {STATES_PAGE}"
        seqs = [int(seq) for (seq,) in self._db.execute(query, (self._deferred_after,))]
        await self._ask_again(seqs)
        self._deferred_after = seqs[-1] if len(seqs) == STATES_PAGE else 0

    def newest(self, limit: int, after: int) -> list[Newest]:
        """The latest receipts behind a number, at most so many, the latest first."""
        query = "SELECT seq, identity, at, old, new FROM receipt WHERE seq > ? ORDER BY seq DESC LIMIT ?"
        return [
            Newest(seq, Key(identity, at), (old == owed.DELIVERED, new == owed.DELIVERED))
            for seq, identity, at, old, new in self._db.execute(query, (after, limit))
        ]

    def forget(self, before: int) -> None:
        """Leave out what happened before a time (nanoseconds): nobody asks about it any more."""
        with self._db:
            self._db.execute("DELETE FROM receipt WHERE at < ?", (before,))

    def close(self) -> None:
        """Close the index, if it is our own."""
        if self._is_own:
            self._db.close()

    async def _all_now(self, names: list[str], *, is_all: bool) -> list[Recorded]:
        found: list[Recorded] = []
        for start in range(0, len(names), STATES_PAGE):
            found += await self._now(names[start : start + STATES_PAGE], is_all=is_all)
        return found

    async def _now(self, names: list[str], *, is_all: bool) -> list[Recorded]:
        """Some identities, with the present states of what is not settled for good, or of everything."""
        named = orjson.dumps(names).decode()
        which = "" if is_all else f"AND NOT (old IN {_SETTLED} AND new IN {_SETTLED})"
        query = f"SELECT seq FROM receipt WHERE {_NAMED} {which} ORDER BY seq"
        unsettled = [int(seq) for (seq,) in self._db.execute(query, (named,))]
        await self._ask_again(unsettled)
        return self._select(named)

    async def _ask_again(self, seqs: list[int]) -> None:
        for start in range(0, len(seqs), STATES_PAGE):
            batch = seqs[start : start + STATES_PAGE]
            page = await self._admin.ask("ledger/settled", seqs=",".join(map(str, batch)))
            gone = set(batch) - {row[0] for row in page["rows"]}
            with self._db:
                self._on_receipts(self._changed(page["rows"]))
                self._db.executemany(
                    "UPDATE receipt SET old = ?, old_tries = ?, new = ?, new_tries = ? WHERE seq = ? AND id = ?",
                    [(*row[5:9], row[0], row[1]) for row in page["rows"]],
                )
                # Dropped when it was settled, who knows how; what is known of others stays as it was.
                self._db.executemany(f"DELETE FROM receipt WHERE seq = ? AND {_PENDING}", [(seq,) for seq in gone])

    def _changed(self, rows: list[list[Any]]) -> list[int]:
        """Event times of those that a side has acknowledged since they were read last, or is owed after a rollback."""
        now = {row[0]: (row[5], row[7]) for row in rows}
        query = "SELECT seq, at, old, new FROM receipt WHERE seq IN (SELECT value FROM json_each(?))"
        return [
            at
            for seq, at, *before in self._db.execute(query, (orjson.dumps(list(now)).decode(),))
            if any(
                state == owed.DELIVERED != known or known == owed.DEFERRED != state
                for state, known in zip(now[seq], before, strict=True)
            )
        ]

    def _take(self, route: str, rows: list[list[Any]], after_seq: int) -> None:
        """Rows and place in one transaction: whoever goes on later reads none twice and misses none."""
        taken = [self._row(row) for row in rows]
        with self._db:
            self._db.executemany("INSERT OR REPLACE INTO receipt VALUES (?, ?, ?, ?, ?, ?, ?, ?)", taken)
            self._db.execute("INSERT OR REPLACE INTO place VALUES (?, ?)", (route, after_seq))
            self._on_receipts([row[2] for row in taken])
        self._after[route] = after_seq

    def _forget(self) -> None:
        with self._db:
            self._db.execute("DELETE FROM receipt")
            self._db.execute("DELETE FROM place")
        self._after = dict.fromkeys(self._after, 0)

    def _row(self, row: list[Any]) -> tuple[Any, ...]:
        seq, id, accepted_ns, event_time, identities, old, old_tries, new, new_tries = row
        at = accepted_ns
        if event_time:
            own = event_moment(event_time)
            if own is None or abs(own - accepted_ns) > MOST_DELAY:
                self.timeless += 1
            else:
                at = own
                self._delay = max(self._delay, accepted_ns - own)
        values = orjson.loads(identities) if identities else []
        return seq, self._identify(id, values), at, id, old, old_tries, new, new_tries

    def _select(self, named: str) -> list[Recorded]:
        found: dict[str, Recorded] = {}
        for identity, at, id, old, old_tries, new, new_tries in self._db.execute(
            f"SELECT {_COLUMNS} FROM receipt WHERE {_NAMED} ORDER BY seq", (named,)
        ):
            record = Record.of(old, new, old_tries, new_tries)
            before = found.get(identity)
            if before is None:
                found[identity] = Recorded(identity, record, at, (id,))
            else:
                ids = before.ids if id in before.ids else (*before.ids, id)[:MOST_IDS]
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
