"""Files that a database exported: Parquet, CSV, or JSON objects one to a line, read by DuckDB in a thread of its own.

What reads them has a bound of memory and spills beyond it. Nobody writes to them: what one lacks is written into the
database that it came from.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import duckdb

from config.stores import FilesStore as Settings
from consistency.rows import Key, Row, Span
from consistency.stores.errors import StoreError, StoreGarbage, StoreMissing, StoreRefused, StoreUnreachable
from consistency.stores.files_table import MissingName, Table, WrongValue, describe
from consistency.stores.protocol import CHUNK, Fingerprints, Traits
from consistency.stores.table import clamped

MEMORY: Final = "512MB"
"""Of one connection, beyond which it spills."""

_T = TypeVar("_T")


def connect(memory: str = MEMORY) -> duckdb.DuckDBPyConnection:
    """A DuckDB that loads nothing from anywhere, and for which times without an offset are UTC."""
    connection = duckdb.connect(
        config={"autoinstall_known_extensions": False, "autoload_known_extensions": False, "memory_limit": memory}
    )
    connection.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = false")
    connection.execute("SET temp_directory = ?", [tempfile.gettempdir()])  # it would spill to where somebody stands
    return connection


class FilesStore:
    """See `consistency.stores.protocol.Store`. name: in the configuration."""

    def __init__(self, name: str, settings: Settings) -> None:
        self._name = name
        self.settings = settings
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._table: Table | None = None
        self._thread: ThreadPoolExecutor | None = None

    @property
    def name(self) -> str:
        """Its name in the configuration."""
        return self._name

    @property
    def traits(self) -> Traits:
        """Rows add up; nothing is written."""
        return Traits(precision=self._table.precision if self._table is not None else 1, is_writable=False)

    @property
    def table(self) -> Table:
        """What is in the files; known once it was opened. Raises StoreUnreachable."""
        if self._table is None:
            raise StoreUnreachable(self._name, "it is not open")
        return self._table

    async def open(self) -> None:
        """See what is in the files; the columns must be there."""
        await self.close()
        self._thread = ThreadPoolExecutor(1, f"store {self._name}")
        self._connection = connect()
        try:
            self._table = await self._ask(lambda connection: describe(connection, self.settings))
        except BaseException:
            await self.close()
            raise

    async def rows(self, span: Span, series: frozenset[str] | None = None) -> AsyncIterator[list[Row]]:
        """All rows of a span in order of time. Files are one series, the empty text."""
        table = self.table
        if series is not None and "" not in series:
            return
        where = f"{table.at} >= ? AND {table.at} < ? ORDER BY 1"
        values = list(clamped(span))
        chunks = await self._ask(lambda connection: _chunks(connection, table, where, values))
        while (chunk := await self._ask(lambda _: next(chunks, None))) is not None:
            yield chunk

    async def fetch(self, keys: Sequence[Key], step: int = 1) -> list[Row]:
        """All rows of these identities, whatever their times are."""
        table = self.table
        named = [parts for key in keys if (parts := table.parts_of(key.identity)) is not None]
        if not named:
            return []
        wanted = ", ".join(f"({', '.join('?' * len(table.parts))})" for _ in named)
        values = [part for parts in named for part in parts]
        where = f"({', '.join(table.parts)}) IN ({wanted})"
        found = await self._ask(lambda connection: list(_chunks(connection, table, where, values)))
        return [row for chunk in found for row in chunk]

    async def fingerprints(self, span: Span, step: int) -> Fingerprints:
        """Two stores of files are compared in bulk instead; see `consistency.bulk`."""
        raise NotImplementedError("a store of files makes no fingerprints, as its traits say")

    async def write(self, rows: Sequence[Row]) -> int:
        """Files are exports: they are not written to."""
        raise StoreRefused(self._name, "files are not written to: mend the database that they came from", 0)

    async def close(self) -> None:
        """Let go of the files."""
        connection, self._connection = self._connection, None
        thread, self._thread = self._thread, None
        if thread is not None:
            if connection is not None:
                await asyncio.get_running_loop().run_in_executor(thread, connection.close)
            thread.shutdown(wait=False)

    async def _ask(self, ask: Callable[[duckdb.DuckDBPyConnection], _T]) -> _T:
        """The answer of a question, asked in the thread; foreign exceptions become ours."""
        if self._connection is None or self._thread is None:
            raise StoreUnreachable(self._name, "it is not open")
        connection = self._connection.cursor()  # one question does not end the answer of another
        asked = asyncio.get_running_loop().run_in_executor(self._thread, ask, connection)
        try:
            async with asyncio.timeout(self.settings.timeout):
                return await asyncio.shield(asked)
        except TimeoutError:
            connection.interrupt()
            await asyncio.gather(asked, return_exceptions=True)
            raise StoreUnreachable(self._name, f"no answer within {self.settings.timeout:g} s") from None
        except (duckdb.Error, MissingName, WrongValue, ValueError) as error:
            raise translated(self._name, error) from None


def _chunks(connection: duckdb.DuckDBPyConnection, table: Table, where: str, values: list[Any]) -> Iterator[list[Row]]:
    found = connection.execute(f"SELECT {', '.join(table.selected)} FROM {table.source} WHERE {where}", values)  # noqa: S608
    row = table.reader()

    def chunks() -> Iterator[list[Row]]:
        while many := found.fetchmany(CHUNK):
            yield [row(each) for each in many]

    return chunks()


def translated(name: str, error: Exception) -> StoreError:
    """What went wrong, in our words."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    match error:
        case MissingName():
            return StoreMissing(name, text)
        case duckdb.IOException() if "No files found" in text:
            return StoreMissing(name, f"there are no such files: {text.partition('pattern ')[2] or text}")
        case duckdb.IOException() | duckdb.InterruptException() | duckdb.OutOfMemoryException():
            return StoreUnreachable(name, text)
        case _:
            return StoreGarbage(name, text)
