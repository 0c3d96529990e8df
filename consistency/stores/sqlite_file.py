"""What is asked of an SQLite file, in plain blocking calls: chunks of a span, rows by identity, rows written."""

# ruff: noqa: S608 - names in SQL text are quoted, values are bound

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import apsw

from config.stores import SqliteStore as Settings
from consistency.rows import Row, Span
from consistency.stores import sqlite_pages as pages
from consistency.stores.sqlite_pages import Found
from consistency.stores.sqlite_table import Table, Value, WrongValue, describe
from consistency.stores.table import batches, clamped, format_time, number_of_time, quoted

_KEYS: Final = 500
"""Identities in one statement."""
_STEPS: Final = 20_000
"""Steps of SQLite's machine between two looks at the clock."""


class TableChanged(Exception):
    """The table is another one than it was when it was opened; the text says what to do."""


class File:
    """An open file, read-only. Every method may raise apsw.Error, OSError, UnicodeError, and MissingName,
    WrongValue and TableChanged. One question, with all it waits for, takes as long as the settings' timeout at most.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._deadline = float("inf")
        self._place = self._place_on_disk()
        self._connection = self._connect(apsw.SQLITE_OPEN_READONLY)
        try:
            self._begin()
            self._version = self._schema_version()
            self.table: Table = describe(self._connection, settings)
            self._time_type()
            self._end()
        except BaseException:
            self.close()
            raise

    def _connect(self, flags: int) -> apsw.Connection:
        connection = apsw.Connection(self._settings.file, flags=flags)
        connection.set_busy_timeout(max(1, round(self._settings.timeout * 1000)))
        connection.set_progress_handler(lambda: time.monotonic() > self._deadline, _STEPS)
        return connection

    def close(self) -> None:
        """Let go of the file. Nothing raises."""
        with contextlib.suppress(apsw.Error):
            self._connection.close(True)

    # reading

    def chunks(self, span: Span) -> Iterator[list[Row]]:
        """Rows of a span in order of time; nothing is held between two chunks."""
        span = clamped(span)
        kind = self._time_type_checked()
        if span.start >= span.end or not kind:
            return
        yield from (pages.of_texts if kind == "text" else pages.of_numbers)(self._ask, self.table, span)

    def _time_type_checked(self) -> str:
        self._begin()
        try:
            return self._time_type()
        finally:
            self._end()

    def _time_type(self) -> str:
        """number or text: what the column of time holds; empty when it holds nothing. Raises WrongValue for both."""
        # Least and greatest say it all, for every number is less than every text. Two statements: each uses an index.
        table, name = self.table, quoted(self.table.time.name)
        least, greatest = (self._all(f"SELECT {end}({name}) FROM {table.quoted}")[0][0] for end in ("min", "max"))
        if self._all(f"SELECT 1 FROM {table.quoted} WHERE {name} IS NULL LIMIT 1"):
            raise WrongValue(f"a row has no time: its column {table.time.name} is NULL")
        if least is None:
            return ""
        for value in (least, greatest):
            table.time_of(value)
        if isinstance(least, str) != isinstance(greatest, str):
            raise WrongValue(f"column {table.time.name} holds numbers in some rows and text in others")
        return "text" if isinstance(least, str) else "number"

    def fetch(self, identities: Sequence[str]) -> list[Row]:
        """All rows of these identities."""
        table = self.table
        names = ", ".join(quoted(each.name) for each in table.identity)
        mark = f"({', '.join('?' * len(table.identity))})"
        reader = table.reader()
        rows: list[Row] = []
        for batch in batches(sorted(set(identities)), _KEYS):
            wanted = set(batch)
            for forms in batches([form for identity in batch for form in table.forms(identity)], 4 * _KEYS):
                text = f"SELECT {table.selected} FROM {table.quoted} WHERE ({names}) IN (VALUES {{}})"
                values = tuple(value for form in forms for value in form)
                given = self._ask(text.format(", ".join([mark] * len(forms))), values)
                rows += [row for row in map(reader, given) if row.identity in wanted]
        return rows

    # writing

    def write(self, rows: Sequence[Row]) -> int:
        """Those whose identity is not there, in one transaction; how many."""
        self._begin()
        self._end()
        self._deadline = time.monotonic() + self._settings.timeout
        connection = self._connect(apsw.SQLITE_OPEN_READWRITE)
        try:
            connection.execute("BEGIN IMMEDIATE")
            insert = _Insert(connection, self.table)
            written = sum(insert.row(row) for row in rows)
            connection.execute("COMMIT")
            return written
        finally:
            # What is not committed is rolled back.
            connection.close(True)
            self._deadline = float("inf")

    # asking

    def _ask(self, text: str, values: tuple[Value, ...]) -> Found:
        """One statement, of the table as it was when it was opened."""
        self._begin()
        try:
            return self._all(text, values)
        finally:
            self._end()

    def _all(self, text: str, values: tuple[Value, ...] = ()) -> Found:
        return list(self._connection.execute(text, values))

    def _begin(self) -> None:
        """A read transaction, from here to `_end`. Raises TableChanged, FileNotFoundError."""
        if self._place_on_disk() != self._place:
            raise TableChanged(f"{self._settings.file} was replaced by another file; open it again")
        self._deadline = time.monotonic() + self._settings.timeout
        self._connection.execute("BEGIN")
        if not hasattr(self, "table"):
            return
        try:
            self._check_schema()
        except BaseException:
            self._end()
            raise

    def _check_schema(self) -> None:
        version = self._schema_version()
        if version != self._version:
            if describe(self._connection, self._settings) != self.table:
                raise TableChanged(f"columns of table {self.table.name} changed; open it again")
            self._version = version

    def _end(self) -> None:
        self._deadline = float("inf")
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _place_on_disk(self) -> tuple[int, int]:
        found = os.stat(self._settings.file)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(self._settings.file)
        return found.st_dev, found.st_ino

    def _schema_version(self) -> int:
        return int(str(self._connection.execute("PRAGMA schema_version").get))


class _Insert:
    """Puts rows into a table, in the form that its other rows have."""

    def __init__(self, connection: apsw.Connection, table: Table) -> None:
        self._connection = connection
        self._table = table
        types = ", ".join(f"typeof({quoted(each.name)})" for each in table.identity)
        found = connection.execute(f"SELECT {types} FROM {table.quoted} LIMIT 1").fetchone()
        self._samples = [str(each) for each in found] if found else [""] * len(table.identity)
        self._time = self._time_as(connection.execute(f"SELECT max({quoted(table.time.name)}) FROM {table.quoted}").get)

    def _time_as(self, sample: object) -> Callable[[int], Value]:
        if isinstance(sample, str):
            offset = "Z" if sample[-1] in "Zz" else "+00:00" if {"+", "-"} & set(sample[10:]) else ""
            return lambda at: format_time(at, separator=sample[10:11] or "T", offset=offset)
        if sample is None and self._table.time.affinity in ("TEXT", "NUMERIC"):
            return format_time
        if self._table.time.affinity == "INTEGER":
            return lambda at: at // self._table.unit
        return lambda at: number_of_time(at, self._table.unit)

    def row(self, row: Row) -> int:
        """Put it in unless its identity is there; how many were."""
        table = self._table
        identity = table.stored(row.identity, self._samples)
        names = [each.name for each in table.identity]
        values = {table.time.name: self._time(row.at)} | table.fields(row) | dict(zip(names, identity, strict=True))
        self._connection.execute(
            f"INSERT INTO {table.quoted} ({', '.join(map(quoted, values))}) SELECT {', '.join('?' * len(values))} "
            f"WHERE NOT EXISTS (SELECT 1 FROM {table.quoted} "
            f"WHERE {' AND '.join(f'{quoted(name)} = ?' for name in names)})",
            (*values.values(), *identity),
        )
        return self._connection.changes()
