"""One segment file, open for writing: apply a group's records to it in one transaction.

Only the store's thread uses a segment. The balance is written in the transaction of the rows that it
counts, so that every snapshot of the file is exact.
"""

# ruff: noqa: S608 - what is put into SQL text here are our own constants

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

import apsw

from proxy.core.errors import CrossfadeError
from proxy.core.event import SIDES
from proxy.core.owed import DEAD, EVER_OWED, OPEN, STATE_NAMES
from proxy.ledger import received_rows
from proxy.ledger.bulk import Bulk
from proxy.ledger.group import Group, HeldRow, ReceivedRow, SideRow, StreamRow
from proxy.ledger.schema import (
    OPEN_STATES,
    PAGE_SIZE,
    RECEIPT_COLUMNS,
    SCHEMA,
    SHARES_CONTEXT,
    check_file,
    check_tables,
    complete,
    connect,
)

BalanceTable: TypeAlias = dict[tuple[str, int], list[int]]
"""Counts by state for each (route, side); in the place of EVER_OWED how many were ever owed."""

_INSERT_RECEIPTS: Final = Bulk(f"INSERT INTO receipt ({','.join(RECEIPT_COLUMNS)}) VALUES", len(RECEIPT_COLUMNS))
_INSERT_BODIES: Final = Bulk("INSERT INTO body VALUES", 3)
_UPDATE_HELD: Final = Bulk(
    "WITH u (s, held, authority, owed) AS (VALUES",
    4,
    ") UPDATE receipt SET held = u.held, authority = u.authority, owed = u.owed FROM u WHERE seq = u.s",
)
_UPDATE_SIDES: Final = tuple(
    Bulk(
        "WITH u (s, before, state, status, attempts, held, authority, owed) AS (VALUES",
        8,
        f") UPDATE receipt SET {side}_state = u.state, {side}_status = u.status, {side}_attempts = u.attempts, "
        "held = coalesce(u.held, receipt.held), authority = coalesce(u.authority, receipt.authority), "
        f"owed = coalesce(u.owed, receipt.owed) FROM u WHERE seq = u.s AND {side}_state = u.before",
    )
    for side in SIDES
)
_DELETE_BODIES: Final = Bulk(
    "WITH u (s) AS (VALUES",
    1,
    f") DELETE FROM body WHERE seq IN (SELECT s FROM u JOIN receipt ON seq = s "
    f"WHERE old_state NOT IN {OPEN_STATES} AND new_state NOT IN {OPEN_STATES})",
)
_ADD_BALANCE, _ADD_CARRIED = (
    Bulk(f"INSERT INTO {table} VALUES", 4, "ON CONFLICT (route, side, state) DO UPDATE SET n = n + excluded.n")
    for table in ("balance", "carried")
)
# A worker that comes back after it was forgotten begins a new stream under its old name.
_SAVE_STREAM: Final = (
    "INSERT INTO stream VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
    "durable = excluded.durable, last_ns = excluded.last_ns, closed = excluded.closed "
    "ON CONFLICT (name) DO UPDATE SET id = excluded.id, worker = excluded.worker, "
    "durable = excluded.durable, last_ns = excluded.last_ns, closed = excluded.closed"
)
_FORGET_EVERY: Final = 1_000_000_000
"""Nanoseconds. With every commit, as it was once, this took half of the ledger's time."""


class LedgerBroken(CrossfadeError):
    """The record on disk is not what we know it to be: stop writing at once."""


class Segment:
    """A segment file. number: from its name; first_seq..last_seq: its events (none when last < first)."""

    def __init__(self, path: Path, number: int) -> None:
        self.path = path
        self.number = number
        self.log_pages = 0
        """Pages in its log after the last commit."""
        self.log_generation = 0
        """How often its log began anew."""
        self._connection: apsw.Connection | None = None
        self._shares_context = int(self.connection.execute("PRAGMA user_version").get) & 0xFFFF >= SHARES_CONTEXT
        """What may be taken back is written so that no version before can read it."""
        self.first_seq = self.meta("first_seq")
        (last, newest), *_ = self.connection.execute(
            "SELECT seq, accepted_ns FROM receipt ORDER BY seq DESC LIMIT 1"
        ).fetchall() or [(None, None)]
        self.last_seq = self.first_seq - 1 if last is None else int(last)
        self.newest_ns = 0 if newest is None else int(newest)
        self.created_ns = self.meta("created_ns")
        self.gaps = int(self.connection.execute("SELECT count(*) FROM gap").get)
        self.last_gap_ns = int(self.connection.execute("SELECT ifnull(max(to_ns), 0) FROM gap").get)
        """Where the last of its coverage gaps ends."""
        latest = self.connection.execute("SELECT max(at_ns) FROM received").get
        self.received_ns = 0 if latest is None else int(latest)
        """When the last of what may be taken back was written; 0 when there is nothing of it."""
        self._forgotten_ns = 0
        """What was received before then is gone."""
        self.balance: BalanceTable = {}
        self._count(self.connection.execute("SELECT route, side, state, n FROM balance"))

    @classmethod
    def create(
        cls,
        path: Path,
        number: int,
        first_seq: int,
        created_ns: int,
        streams: Iterable[StreamRow],
        carried: BalanceTable,
    ) -> Segment:
        """Make a new file, whole or not at all. streams, carried: what goes on from the segment before."""
        young = path.with_suffix(".new")
        young.unlink(missing_ok=True)
        try:
            cls._write(young, first_seq, created_ns, streams, carried)
            os.rename(young, path)
            directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
            return cls(path, number)
        except BaseException:
            # Numbering goes on in the segment before, so no later start may find this one.
            young.unlink(missing_ok=True)
            unlink_segment(path)
            raise

    @staticmethod
    def _write(
        young: Path, first_seq: int, created_ns: int, streams: Iterable[StreamRow], carried: BalanceTable
    ) -> None:
        os.close(os.open(young, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        connection = apsw.Connection(str(young), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            connection.execute(f"PRAGMA page_size = {PAGE_SIZE}; PRAGMA synchronous = FULL; BEGIN IMMEDIATE; {SCHEMA}")
            connection.execute(
                "INSERT INTO meta VALUES ('first_seq', ?), ('created_ns', ?), ('clean', 0), ('dropped', 0)",
                (first_seq, created_ns),
            )
            for stream in streams:
                connection.execute(_SAVE_STREAM, stream)
            for row in rows_of(carried):
                connection.execute("INSERT INTO carried VALUES (?, ?, ?, ?)", row)
            connection.execute("COMMIT")
            # The mode is stored in the file, so every later connection has it.
            connection.execute("PRAGMA journal_mode = WAL")
        finally:
            connection.close()

    @classmethod
    def open(cls, path: Path, number: int) -> Segment:
        """Open an existing file; raises RefuseToStart when it is none of ours or damaged."""
        check_file(path)
        complete(path)
        segment = cls(path, number)
        check_tables(segment.connection, path)
        return segment

    @property
    def connection(self) -> apsw.Connection:
        """The connection for writing, opened when it is needed."""
        if self._connection is None:
            self._connection = connect(self.path)
            self._connection.set_wal_hook(self._logged)
        return self._connection

    def _logged(self, _: apsw.Connection, __: str, pages: int) -> int:
        if pages < self.log_pages:
            self.log_generation += 1
        self.log_pages = pages
        return apsw.SQLITE_OK

    def meta(self, name: str) -> int:
        """A number of the meta table."""
        value = self.connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).get
        if value is None:
            raise LedgerBroken(f"{self.path} has no {name}")
        return int(value)

    def set_meta(self, name: str, value: int) -> None:
        """Write a number of the meta table."""
        self.connection.execute("UPDATE meta SET value = ? WHERE name = ?", (value, name))

    def apply(
        self, group: Group, held: list[HeldRow], sides: tuple[list[SideRow], list[SideRow]], *, newest: bool
    ) -> None:
        """Write one group's part of this file in one transaction.

        newest: this is the segment that takes new events, streams and gaps. Raises apsw.FullError when
        the disk is full (nothing was written), other apsw errors when it failed, LedgerBroken when rows
        were not in the state that they are known to be in.
        """
        deltas: Counter[tuple[str, int, int]] = Counter()
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            if newest:
                self._insert(group, deltas)
            last = group.last_seq if newest and group.receipts else self.last_seq
            if group.bodies_again:
                self._insert_again(group, last)
            if group.received or self.received_ns:
                self._write_received(group, last)
            if held:
                flat: list[apsw.SQLiteValue] = [value for row in held for value in row]
                self._expect(_UPDATE_HELD.run(self.connection, flat), len(held))
            closed: list[apsw.SQLiteValue] = []
            for side, rows in enumerate(sides):
                if rows:
                    closed += self._update_side(side, rows, group.needed, deltas)
            if closed and not group.retain_bodies:
                # Last: a side that settles here may be owed to the other side in the same transaction.
                _DELETE_BODIES.run(self.connection, closed)
            self._save_balance(_ADD_BALANCE, deltas)
            self.connection.execute("COMMIT")
        except BaseException:
            self.roll_back()
            raise
        self._count((*name, n) for name, n in deltas.items())
        if newest:
            self.gaps += len(group.gaps)
            self.last_gap_ns = max([self.last_gap_ns, *(to_ns for _, to_ns, _ in group.gaps)])
        if newest and group.receipts:
            self.last_seq = group.last_seq
            self.newest_ns = max(self.newest_ns, group.newest_ns)

    def _insert(self, group: Group, deltas: Counter[tuple[str, int, int]]) -> None:
        if group.receipts:
            _INSERT_RECEIPTS.run(self.connection, group.receipts)
            for (route, old, new), n in group.states.items():
                for side, state in ((0, old), (1, new)):
                    if state:
                        deltas[route, side, state] += n
                        deltas[route, side, EVER_OWED] += n
        if group.bodies:
            _INSERT_BODIES.run(self.connection, group.bodies)
        for row in group.streams:
            self.connection.execute(_SAVE_STREAM, row)
        for gap in group.gaps:
            self.connection.execute("INSERT INTO gap VALUES (?, ?, ?)", gap)

    def _insert_again(self, group: Group, last: int) -> None:
        """Bodies of events whose receipts are here, perhaps since long. last: their highest seq."""
        flat: list[apsw.SQLiteValue] = [
            value for row in group.bodies_again if self.first_seq <= row[0] <= last for value in row
        ]
        if flat:
            _INSERT_BODIES.run(self.connection, flat)

    def _write_received(self, group: Group, last: int) -> None:
        """What may be taken back of the events whose receipts are here; what is too old for it goes."""
        rows = [row for row in group.received if self.first_seq <= row[0] <= last]
        if rows:
            packed = received_rows.pack(rows, shares_context=self._shares_context)
            self.connection.execute("INSERT INTO received VALUES (?, ?)", (group.now_ns, packed))
            self.received_ns = group.now_ns
        until_ns = group.received_until_ns
        if not 0 <= until_ns - self._forgotten_ns < _FORGET_EVERY or until_ns > self.received_ns:
            self.forget_received(until_ns)

    def forget_received(self, until_ns: int) -> None:
        """Remove what was too old to be taken back by then; it reads the whole table, for want of an index."""
        self.connection.execute("DELETE FROM received WHERE at_ns < ?", (until_ns,))
        self._forgotten_ns = until_ns
        if self.received_ns < until_ns:
            self.received_ns = 0

    def received(self, since_ns: int) -> list[ReceivedRow]:
        """What may be taken back of what was written since then, the latest last."""
        rows = self.connection.execute("SELECT events FROM received WHERE at_ns >= ? ORDER BY rowid", (since_ns,))
        return [row for (events,) in rows for row in received_rows.unpack(events)]

    def _update_side(
        self, side: int, rows: list[SideRow], needed: set[int], deltas: Counter[tuple[str, int, int]]
    ) -> list[apsw.SQLiteValue]:
        """Write one side's rows; the seqs whose body neither this side nor one in `needed` needs any more."""
        flat: list[apsw.SQLiteValue] = []
        closed: list[apsw.SQLiteValue] = []
        for seq, route, before, state, status, attempts, held, authority, owed in rows:
            flat += (seq, before, state, status, attempts, held, authority, owed)
            if before != state:
                if before:
                    deltas[route, side, before] -= 1
                else:
                    deltas[route, side, EVER_OWED] += 1
                deltas[route, side, state] += 1
                if state not in OPEN and state != DEAD and seq not in needed:
                    closed.append(seq)
        self._expect(_UPDATE_SIDES[side].run(self.connection, flat), len(rows))
        return closed

    def _expect(self, changed: int, expected: int) -> None:
        if changed != expected:
            raise LedgerBroken(f"{self.path}: {expected} rows should have changed, {changed} did")

    def move(self, sides: tuple[list[SideRow], list[SideRow]], *, keep: bool = True) -> None:
        """Change the state of rows that nobody else works on, in one transaction of its own."""
        self.apply(Group(0, retain_bodies=keep), [], sides, newest=False)

    def add_carried(self, dropped: int, balance: BalanceTable) -> None:
        """Take over the balance of segment `dropped`, which may be unlinked after this."""
        deltas = {(r, side, state): n for (r, side), counts in balance.items() for state, n in enumerate(counts)}
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            self._save_balance(_ADD_CARRIED, deltas)
            self.set_meta("dropped", dropped)
            self.connection.execute("COMMIT")
        except BaseException:
            self.roll_back()
            raise

    def carried(self) -> BalanceTable:
        """The balance of all segments dropped so far."""
        return add_counts({}, self.connection.execute("SELECT route, side, state, n FROM carried"))

    def _save_balance(self, statement: Bulk, deltas: Mapping[tuple[str, int, int], int]) -> None:
        statement.run(self.connection, [value for name, n in deltas.items() if n for value in (*name, n)])

    def roll_back(self) -> None:
        """End a failed transaction; SQLite may have rolled back by itself already."""
        if not self.connection.get_autocommit():
            self.connection.execute("ROLLBACK")

    def _count(self, rows: Iterable[tuple[apsw.SQLiteValue, ...]]) -> None:
        self.balance = add_counts(self.balance, rows)

    def open_count(self, *states: int) -> int:
        """How many times a side of one of its events is in one of these states."""
        return sum(counts[state] for counts in self.balance.values() for state in states)

    @property
    def size(self) -> int:
        """Bytes of the file with its log."""
        log = self.path.with_name(self.path.name + "-wal")
        return self.path.stat().st_size + (log.stat().st_size if log.exists() else 0)

    def close(self) -> None:
        """Close the connection until it is needed again; the last one to a file empties its log."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            self.log_pages = 0


def unlink_segment(path: Path) -> None:
    """Remove a segment's files. The log first: without its file it would be taken for another file's."""
    for ending in ("-wal", "-shm", ""):
        path.with_name(path.name + ending).unlink(missing_ok=True)


def add_counts(table: BalanceTable, rows: Iterable[tuple[apsw.SQLiteValue, ...]]) -> BalanceTable:
    """A table with rows of (route, side, state, n) added; `table` itself stays, for others may be reading it."""
    table = dict(table)
    for route, side, state, n in rows:
        name = (str(route), int(side))  # type: ignore[arg-type]
        counts = table[name] = list(table.get(name) or [0] * len(STATE_NAMES))
        counts[int(state)] += int(n)  # type: ignore[arg-type]
    return table


def rows_of(table: BalanceTable) -> list[tuple[apsw.SQLiteValue, ...]]:
    """A table as rows of (route, side, state, n)."""
    return [(route, side, state, n) for (route, side), counts in table.items() for state, n in enumerate(counts) if n]
