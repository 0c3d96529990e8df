"""What a segment file holds: its tables, its format number, and the check that a file is one of ours.

    receipt   one row per event; what became of it at each side
    body      context and body of an event while a side is owed, deferred or dead (or for `retain`)
    stream    each life of a worker: its last durable frame, and when that was
    balance   how many of this file's events are in each state, per route and side
    carried   the balance of segments that were dropped; the newest segment has it
    received  what may be taken back, see `protocol.RECEIVED`: one row for each commit, kept some seconds
    gap       times of which the record may be incomplete
    meta      first_seq, clean (1: the ledger was closed in order), dropped (a segment on its way out)

A segment is made whole under another name and then renamed, so a file with the right name is a whole one.

Its `user_version` is the schema of the version that made it, and above that (from bit 16 on) the oldest one that may go
on with it, 0 when that is the same (`proxy.core.versions`). A later schema may add tables, and columns at the end that
have a default; a file of the schema before gets the tables that it lacks when it is opened, and keeps its number, so
that the version which made it may have it back.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

import apsw

from proxy.core.errors import RefuseToStart
from proxy.core.owed import DEAD, DEFERRED, PENDING
from proxy.core.versions import can_read

APPLICATION_ID: Final = 0x43465F4C  # "CF_L"
SCHEMA_VERSION: Final = 3
OLDEST_SCHEMA: Final = 1
"""Schema 1 has no table `received`."""
SHARES_CONTEXT: Final = 3
"""From this schema on a row of `received` has a context that its events share once."""
READABLE_FROM: Final = 3
"""The oldest schema whose readers may go on with what this version makes."""
USER_VERSION: Final = SCHEMA_VERSION | (READABLE_FROM << 16 if READABLE_FROM < SCHEMA_VERSION else 0)
PAGE_SIZE: Final = 4096

RECEIPT_COLUMNS: Final = (
    "seq", "stream", "n", "id", "route", "key", "bucket", "epoch", "authority", "after_authority", "transport",
    "accepted_ns", "event_time", "identities", "head", "digest", "body_size", "client_id", "owed", "held",
    "old_state", "old_status", "old_attempts", "new_state", "new_status", "new_attempts",
)  # fmt: skip

OPEN_STATES: Final = f"({PENDING}, {DEFERRED}, {DEAD})"
"""States that keep the body. Queries must repeat `side_state IN (1, 2, 5)` word for word to use the partial index."""

_RECEIVED: Final = "CREATE TABLE received (at_ns INTEGER, events BLOB)"
SCHEMA: Final = f"""
CREATE TABLE receipt (
    seq INTEGER PRIMARY KEY, stream INTEGER, n INTEGER, id TEXT, route TEXT, key TEXT, bucket INTEGER,
    epoch INTEGER, authority INTEGER, after_authority INTEGER, transport TEXT, accepted_ns INTEGER,
    event_time TEXT, identities TEXT, head TEXT, digest BLOB, body_size INTEGER, client_id INTEGER,
    owed INTEGER, held INTEGER,
    old_state INTEGER, old_status INTEGER, old_attempts INTEGER,
    new_state INTEGER, new_status INTEGER, new_attempts INTEGER);
CREATE INDEX old_open ON receipt (old_state, route, seq, key, bucket) WHERE old_state IN {OPEN_STATES};
CREATE INDEX new_open ON receipt (new_state, route, seq, key, bucket) WHERE new_state IN {OPEN_STATES};
CREATE INDEX held ON receipt (held) WHERE held > 0;
CREATE TABLE body (seq INTEGER PRIMARY KEY, context BLOB, body BLOB);
CREATE TABLE stream (
    id INTEGER PRIMARY KEY, name TEXT UNIQUE, worker INTEGER, durable INTEGER, last_ns INTEGER, closed INTEGER);
CREATE TABLE balance (
    route TEXT, side INTEGER, state INTEGER, n INTEGER, PRIMARY KEY (route, side, state)) WITHOUT ROWID;
CREATE TABLE carried (
    route TEXT, side INTEGER, state INTEGER, n INTEGER, PRIMARY KEY (route, side, state)) WITHOUT ROWID;
{_RECEIVED};
CREATE TABLE gap (from_ns INTEGER, to_ns INTEGER, reason TEXT);
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER) WITHOUT ROWID;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {USER_VERSION};
"""

_TABLES: Final = frozenset({"receipt", "body", "stream", "balance", "carried", "received", "gap", "meta"})


def check_file(path: Path) -> None:
    """Refuse a file that is not a segment of this format; nothing is written, no journal is replayed.

    Raises RefuseToStart with the file's name and what to do.
    """
    with path.open("rb") as file:
        header = file.read(100)
        size = file.seek(0, 2)
    advice = "move it out of the ledger's directory, or restore it from a backup"
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        raise RefuseToStart(f"{path} is not a ledger segment (foreign, empty or damaged); {advice}")
    version, application = struct.unpack_from(">I4xI", header, 60)
    if application != APPLICATION_ID:
        raise RefuseToStart(f"{path} is a database of something else; {advice}")
    schema, readable_from = version & 0xFFFF, version >> 16 or version
    if not can_read(schema, readable_from, ours=SCHEMA_VERSION, oldest=OLDEST_SCHEMA):
        if schema > SCHEMA_VERSION:
            raise RefuseToStart(
                f"{path} was written by a newer version (schema {schema}, this one reads {SCHEMA_VERSION}); upgrade"
            )
        raise RefuseToStart(f"{path} has the unknown schema {schema}; {advice}")
    (pages,) = struct.unpack_from(">I", header, 28)
    if size < pages * PAGE_SIZE and not path.with_name(path.name + "-wal").exists():
        raise RefuseToStart(f"{path} is truncated ({size} of {pages * PAGE_SIZE} bytes); {advice}")


def complete(path: Path) -> None:
    """Give a file of the schema before what it lacks; its number stays."""
    connection = connect(path)
    try:
        if connection.execute("PRAGMA user_version").get == OLDEST_SCHEMA and "received" not in _tables(connection):
            connection.execute(_RECEIVED)
    finally:
        connection.close()


def _tables(connection: apsw.Connection) -> set[str]:
    rows = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    return {str(name) for (name,) in rows}


def check_tables(connection: apsw.Connection, path: Path) -> None:
    """Raises RefuseToStart when a table is missing."""
    missing = _TABLES - _tables(connection)
    if missing:
        raise RefuseToStart(f"{path} lacks the tables {', '.join(sorted(missing))}; restore it from a backup")


def connect(path: Path, *, query_only: bool = False) -> apsw.Connection:
    """A connection with our settings: WAL, FULL (NORMAL loses acknowledged commits at a power cut).

    Statement journals are kept in memory: on disk each UPDATE of many rows made and removed a file.
    Checkpoints are not SQLite's to begin, see `checkpoint`.
    """
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.set_busy_timeout(5000)
    connection.execute("PRAGMA temp_store = MEMORY; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0")
    if query_only:
        connection.execute("PRAGMA query_only = ON")
    return connection
