"""What a toy backend has stored: an SQLite file in order of arrival, on purpose without a unique constraint.

A duplicate is a row more, a lost event a row less, and nothing hides either.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import apsw
from xxhash import xxh64_intdigest

from proxy.load.stores import Holding

_PATIENCE_MS = 5000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS event(
    position INTEGER PRIMARY KEY, id TEXT NOT NULL, role TEXT NOT NULL DEFAULT '', attempt TEXT NOT NULL DEFAULT '',
    body BLOB NOT NULL, stored_ns INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS by_id ON event(id);
CREATE INDEX IF NOT EXISTS by_time ON event(stored_ns);
"""


class Arrival(NamedTuple):
    """One request as the backend got it. role, attempt: the proxy's headers, or empty."""

    id: str
    role: str
    attempt: str
    body: bytes


class Stored(NamedTuple):
    """One row. digest: XXH64 of the body; position: order of arrival from 1."""

    position: int
    id: str
    role: str
    attempt: str
    digest: int


def digest_of(body: bytes) -> int:
    """XXH64 of a body: enough to see that it arrived byte for byte."""
    return int(xxh64_intdigest(body))


class Store:
    """The writing end; one process has it open.

    A commit survives the death of the process, not a power cut (synchronous=OFF): the backends of a
    demo are killed, never unplugged.
    """

    def __init__(self, path: Path) -> None:
        self._db = apsw.Connection(str(path))
        self._db.set_busy_timeout(_PATIENCE_MS)  # somebody may spoil rows meanwhile
        self._db.execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF")
        self._db.execute(_SCHEMA)

    def add(self, arrivals: list[Arrival]) -> None:
        """Store a batch in its order, in one transaction."""
        now = time.time_ns()
        with self._db:
            self._db.executemany(
                "INSERT INTO event(id, role, attempt, body, stored_ns) VALUES(?, ?, ?, ?, ?)",
                [(*arrival, now) for arrival in arrivals],
            )

    def count(self) -> int:
        """Rows, duplicates included."""
        return int(self._db.execute("SELECT count(*) FROM event").get)

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def read_store(path: Path) -> list[Stored]:
    """Every row of a store in order of arrival; the backend may still have it open."""
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        rows = db.execute("SELECT position, id, role, attempt, body FROM event ORDER BY position")
        return [Stored(position, id, role, attempt, digest_of(body)) for position, id, role, attempt, body in rows]
    finally:
        db.close()


class ToyStore:
    """A toy backend's file as a store that a load test asks (`proxy.load.stores.Store`)."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self._path = path

    def stored(self, run: str) -> Holding:
        """How many events of a run it has. Raises OSError when the file is none of a toy backend."""
        try:
            db = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READWRITE)
            try:
                query = "SELECT count(*), count(DISTINCT id) FROM event WHERE substr(id, 1, ?) = ?"
                rows, events = db.execute(query, (len(run), run)).get
            finally:
                db.close()
        except apsw.Error as error:
            raise OSError(f"{self._path}: {error}") from None
        return Holding(events, rows - events)


def damage_store(path: Path, lost: int, different: int) -> dict[str, list[str]]:
    """Delete the newest `lost` events and spoil the `different` ones before: what a checker must find. Their ids, by
    class.
    """
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    db.set_busy_timeout(_PATIENCE_MS)
    db.transaction_mode = "IMMEDIATE"  # the backend writes meanwhile: a reader could not become a writer
    try:
        with db:
            ids = [
                row[0]
                for row in db.execute(
                    "SELECT id FROM event GROUP BY id ORDER BY min(position) DESC LIMIT ?", (lost + different,)
                )
            ]
            db.executemany("DELETE FROM event WHERE id = ?", [(id,) for id in ids[:lost]])
            db.executemany(
                "UPDATE event SET body = CAST(body || 'x' AS BLOB) WHERE id = ?", [(id,) for id in ids[lost:]]
            )
    finally:
        db.close()
    return {"lost": ids[:lost], "different": ids[lost:]}
