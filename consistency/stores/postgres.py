"""A table of a PostgreSQL database.

Rows of a span are read through a cursor in a read-only transaction with one snapshot, a chunk at a time: the server
waits for us, not we for it, and each chunk has the store's timeout. Every question looks first whether the columns are
what they were. Connections that saw an error, or that a reader left in the middle, are ended and never used again.
"""

# ruff: noqa: S608 - names in SQL text are quoted, values are bound

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final, Literal, TypeAlias

import asyncpg

from config.stores import PostgresStore as Settings
from consistency.rows import Key, Row, Span
from consistency.stores.errors import (
    StoreChanged,
    StoreDenied,
    StoreGarbage,
    StoreMissing,
    StoreRefused,
    StoreUnreachable,
)
from consistency.stores.postgres_column import Column, WrongValue
from consistency.stores.postgres_errors import FOREIGN, translated
from consistency.stores.postgres_table import Table, table_of
from consistency.stores.protocol import CHUNK, Fingerprint, Fingerprints, Segment, Traits
from consistency.stores.table import batches, clamped, first_of_each, quoted

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_KEYS: Final = 1000
"""Rows and identities in one statement."""
_GRACE: Final = 1.0
"""Seconds that the server has to say itself that it is late; then we end the connection."""
_ABANDONED: Final = 600
"""Seconds after which the server ends the transaction of a reader that asks for no further chunk."""
_HALF: Final = 2**53
"""Sums of 64-bit hashes are told as two figures, for a float holds no more than 53 bits."""

_COLUMNS: Final = """
SELECT n.nspname, c.relname, pg_relation_is_updatable(c.oid, false) & 8 = 8, a.attname,
    format_type(CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END, -1), a.attgenerated <> '', NOT a.attnotnull
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_attribute AS a ON a.attrelid = c.oid JOIN pg_type AS t ON t.oid = a.atttypid
WHERE c.oid = coalesce(to_regclass($1), to_regclass($2)) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""


class PostgresStore:
    """See `consistency.stores.protocol.Store`. name: in the configuration."""

    def __init__(self, name: str, settings: Settings) -> None:
        self._name = name
        self._settings = settings
        self._idle: list[Connection] = []
        self._password: str | None = None
        self._table: Table | None = None
        self._traits = Traits()

    @property
    def name(self) -> str:
        """Its name in the configuration."""
        return self._name

    @property
    def traits(self) -> Traits:
        """Rows add up; times are as fine as the column's type."""
        return self._traits

    async def open(self) -> None:
        """Connect afresh; the table and its columns must be there, and every row must have a time."""
        await self.close()
        self._password = await asyncio.to_thread(self._read_password)
        async with self._reading() as connection:
            table = await self._described(connection)
            if not table.is_time():
                said = f"column {table.time.name} is {table.time.type}: neither a time nor a number"
                raise StoreGarbage(self._name, said)
            untimely = f"SELECT 1 FROM {table.name} WHERE {table.untimely} LIMIT 1"
            if table.untimely and await connection.fetch(untimely):
                raise StoreGarbage(self._name, f"a row has no time: its column {table.time.name} is NULL or infinite")
            encoding = await connection.fetchval("SELECT current_setting('server_encoding')")
            version = connection.get_server_version().major
        self._table = table
        self._traits = Traits(
            precision=table.precision,
            fingerprint=f"postgres {version} {encoding} {table.sort}",
            is_writable=table.is_writable,
        )

    async def rows(self, span: Span, series: frozenset[str] | None = None) -> AsyncIterator[list[Row]]:
        """All rows of a span in order of time, as they were at one moment. A table is one series, the empty text."""
        table, span = self._opened(), clamped(span)
        if (series is not None and "" not in series) or span.start >= span.end:
            return
        reader = table.reader()
        where = f"{table.within(span)} ORDER BY {quoted(table.time.name)}"
        async with self._reading(table) as connection:
            cursor = await connection.cursor(f"SELECT {table.selected} FROM {table.name} WHERE {where}")
            while found := await cursor.fetch(CHUNK):
                yield [reader(record) for record in found]

    async def fetch(self, keys: Sequence[Key], step: int = 1) -> list[Row]:
        """All rows of these identities, whatever their times are."""
        table = self._opened()
        rows: list[Row] = []
        for batch in batches(sorted({key.identity for key in keys}), _KEYS):
            rows += await self._fetch(table, batch)
        return rows

    async def _fetch(self, table: Table, identities: Sequence[str]) -> list[Row]:
        try:
            return await self._found(table, identities)
        except StoreGarbage:
            # An identity that is none of the column's type is not there, and spoils the question for all others.
            fitting = await self._fitting(table, identities)
            if len(fitting) == len(identities):
                raise
        return await self._found(table, fitting) if fitting else []

    async def _found(self, table: Table, identities: Sequence[str]) -> list[Row]:
        async with self._reading(table) as connection:
            text = f"SELECT {table.selected} FROM {table.name} WHERE {table.wanted}"
            found = await connection.fetch(text, *table.parts(identities))
            # Other texts may stand for the same value: 07 for 7.
            wanted = frozenset(identities)
            return [row for row in map(table.reader(), found) if row.identity in wanted]

    async def _fitting(self, table: Table, identities: Sequence[str]) -> Sequence[str]:
        try:
            async with self._reading(table) as connection:
                await connection.fetch(table.cast, *table.parts(identities))
        except StoreGarbage:
            middle = len(identities) // 2
            if not middle:
                return ()
            halves = identities[:middle], identities[middle:]
            return [each for half in halves for each in await self._fitting(table, half)]
        return identities

    async def fingerprints(self, span: Span, step: int) -> Fingerprints:
        """Rows and the sum of a 64-bit hash of each, per step; nothing is unread."""
        table, span = self._opened(), clamped(span)
        if span.start >= span.end:
            return Fingerprints({}, frozenset())
        async with self._reading(table) as connection:
            found = await connection.fetch(table.fingerprints(span, step), span.start, step)
        segments = {}
        for number, rows, total in found:
            high, low = divmod(int(total), _HALF)
            segments[Segment("", span.start + number * step)] = Fingerprint(rows, {"high": high, "low": low})
        return Fingerprints(segments, frozenset())

    async def write(self, rows: Sequence[Row]) -> int:
        """Insert rows whose identity is not there, in one transaction.

        Where no unique constraint names the event, somebody who inserts the same one in the same moment is not seen.
        """
        table = self._opened()
        written = 0
        async with self._transaction(table, is_writing=True) as connection:
            for batch in batches(first_of_each(rows), _KEYS):
                said = await connection.execute(table.insert, *table.texts(batch))
                written += int(said.rpartition(" ")[2])
        return written

    async def close(self) -> None:
        """End connections."""
        self._table = None
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.terminate()

    # connections

    def _opened(self) -> Table:
        if self._table is None:
            raise StoreUnreachable(self._name, "it is not open")
        return self._table

    def _reading(self, table: Table | None = None) -> AbstractAsyncContextManager[Connection]:
        return self._transaction(table, is_writing=False)

    @asynccontextmanager
    async def _transaction(self, table: Table | None, *, is_writing: bool) -> AsyncIterator[Connection]:
        """A connection in a transaction. table: that must be as it was; foreign exceptions become ours."""
        connection: Connection | None = None
        try:
            connection = self._idle.pop() if self._idle else await self._connect()
            isolation: Literal["read_committed", "repeatable_read"] = (
                "read_committed" if is_writing else "repeatable_read"
            )
            transaction = connection.transaction(isolation=isolation, readonly=not is_writing)
            await transaction.start()
            if table is not None and await self._described(connection) != table:
                raise StoreChanged(self._name, f"columns of table {table.name} changed; open it again")
            yield connection
            await transaction.commit()
            self._idle.append(connection)
            connection = None
        except WrongValue as error:
            if is_writing:
                raise StoreRefused(self._name, str(error), 0) from None
            raise StoreGarbage(self._name, str(error)) from None
        except FOREIGN as error:
            raise translated(self._name, error, self._settings.timeout, is_writing=is_writing) from None
        finally:
            # Whoever does not answer would not answer a ROLLBACK either: the end of the connection is one.
            if connection is not None:
                connection.terminate()

    async def _connect(self) -> Connection:
        timeout = self._settings.timeout
        milliseconds = str(max(1, round(timeout * 1000)))
        # Text of times, numbers and bytes is the same whatever the server, database and user are set to.
        settings = {
            "application_name": "crossfade-consistency", "TimeZone": "UTC", "DateStyle": "ISO, YMD",
            "IntervalStyle": "postgres", "extra_float_digits": "3", "bytea_output": "hex", "lc_monetary": "C",
            "jit": "off", "statement_timeout": milliseconds, "lock_timeout": milliseconds,
            "idle_in_transaction_session_timeout": str(_ABANDONED * 1000),
        }  # fmt: skip
        return await asyncpg.connect(
            self._settings.url,
            password=self._password,
            timeout=timeout,
            command_timeout=timeout + _GRACE,
            statement_cache_size=0,
            server_settings=settings,
        )

    def _read_password(self) -> str | None:
        file = self._settings.password_file
        if file is None:
            return self._settings.password
        try:
            return Path(file).read_text(encoding="utf-8").removesuffix("\n")
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise StoreDenied(self._name, f"its password_file {file} cannot be read: {reason}") from None

    async def _described(self, connection: Connection) -> Table:
        settings = self._settings
        schema, _, table = settings.table.partition(".")
        names = (quoted(settings.table), f"{quoted(schema)}.{quoted(table)}" if table else quoted(schema))
        found = await connection.fetch(_COLUMNS, *names)
        if not found:
            raise StoreMissing(self._name, f"there is no table or view {settings.table}")
        name = f"{quoted(found[0][0])}.{quoted(found[0][1])}"
        columns = [Column(*record[3:]) for record in found]
        try:
            return table_of(name, columns, settings, is_writable=found[0][2])
        except LookupError as error:
            # A column that was there when it was opened is a change.
            kind = StoreMissing if self._table is None else StoreChanged
            raise kind(self._name, str(error.args[0])) from None
