"""A table of an SQLite file, which a backend may be writing meanwhile.

The file is opened to be read alone, and for each write anew; it is never created. All of it happens in one thread of
the store's own, for SQLite blocks. Two rows of one identity and the same columns are two rows; a column's text stays
text, also where it is a JSON document: rules say how it is compared.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import apsw

from config.stores import SqliteStore as Settings
from consistency.rows import Key, Row, Span
from consistency.stores.errors import (
    StoreChanged,
    StoreDenied,
    StoreError,
    StoreGarbage,
    StoreMissing,
    StoreRefused,
    StoreUnreachable,
)
from consistency.stores.protocol import Fingerprints, Traits
from consistency.stores.sqlite_file import File, TableChanged
from consistency.stores.sqlite_table import MissingName, WrongValue

_T = TypeVar("_T")


class SqliteStore:
    """See `consistency.stores.protocol.Store`. name: in the configuration."""

    def __init__(self, name: str, settings: Settings) -> None:
        self._name = name
        self._settings = settings
        self._file: File | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._traits = Traits()

    @property
    def name(self) -> str:
        """Its name in the configuration."""
        return self._name

    @property
    def traits(self) -> Traits:
        """Rows add up; whole numbers lose what is finer than their unit."""
        return self._traits

    async def open(self) -> None:
        """Open the file afresh; the table and its columns must be there."""
        await self.close()
        self._thread = ThreadPoolExecutor(1, f"store {self._name}")
        try:
            self._file = file = await self._ask(lambda: File(self._settings))
        except BaseException:
            await self.close()
            raise
        self._traits = Traits(precision=file.table.precision, is_writable=file.table.is_writable)

    async def rows(self, span: Span, series: frozenset[str] | None = None) -> AsyncIterator[list[Row]]:
        """All rows of a span in order of time. A table is one series, the empty text."""
        if series is None or "" in series:
            chunks = self._opened().chunks(span)
            while (chunk := await self._ask(lambda: next(chunks, None))) is not None:
                yield chunk

    async def fetch(self, keys: Sequence[Key], step: int = 1) -> list[Row]:
        """All rows of these identities, whatever their times are."""
        file = self._opened()
        return await self._ask(lambda: file.fetch([key.identity for key in keys]))

    async def fingerprints(self, span: Span, step: int) -> Fingerprints:
        """SQLite has no hash: rows are read instead, from the same disk."""
        raise NotImplementedError("an SQLite store makes no fingerprints, as its traits say")

    async def write(self, rows: Sequence[Row]) -> int:
        """Insert rows whose identity is not there, in one transaction; nobody else writes meanwhile."""
        file = self._opened()
        try:
            return await self._ask(lambda: file.write(rows))
        except StoreGarbage as error:
            raise StoreRefused(self._name, str(error).partition(": ")[2], 0) from None

    async def close(self) -> None:
        """Let go of the file."""
        file, self._file = self._file, None
        thread, self._thread = self._thread, None
        if thread is not None:
            if file is not None:
                await asyncio.get_running_loop().run_in_executor(thread, file.close)
            thread.shutdown(wait=False)

    def _opened(self) -> File:
        if self._file is None:
            raise StoreUnreachable(self._name, "it is not open")
        return self._file

    async def _ask(self, ask: Callable[[], _T]) -> _T:
        """The answer of a question, asked in the thread; foreign exceptions become ours."""
        assert self._thread is not None
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, ask)
        except (apsw.Error, OSError, MissingName, WrongValue, TableChanged, UnicodeError) as error:
            raise self._translated(error) from None

    def _translated(self, error: Exception) -> StoreError:
        file = self._settings.file
        match error:
            case apsw.BusyError() | apsw.LockedError() | apsw.InterruptError():
                waited = f"no answer within {self._settings.timeout:g} s"
                return StoreUnreachable(self._name, f"{waited}: {file} is locked, or has no index on its time")
            case FileNotFoundError():
                return StoreMissing(self._name, f"there is no file {file}")
            case MissingName():
                return StoreMissing(self._name, str(error))
            case TableChanged():
                return StoreChanged(self._name, str(error))
            case apsw.NotADBError() | apsw.CorruptError():
                return StoreGarbage(self._name, f"{file} is damaged, or no SQLite file")
            case UnicodeError():
                return StoreGarbage(self._name, f"text in table {self._settings.table} is not UTF-8")
            case WrongValue():
                return StoreGarbage(self._name, str(error))
            case apsw.ConstraintError() | apsw.MismatchError():
                return StoreRefused(self._name, f"a row does not fit table {self._settings.table}: {error}", 0)
            case (
                IsADirectoryError()
                | PermissionError()
                | apsw.CantOpenError()
                | apsw.ReadOnlyError()
                | apsw.PermissionsError()
            ):
                return StoreDenied(self._name, f"{file} cannot be opened: see its modes, or let its backend recover it")
            case _:
                return StoreUnreachable(self._name, f"{file}: {error}")
