"""A place in SQLite for rows: a file of its own with a table, written as a backend would."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import apsw

from config.stores import SqliteStore as Settings
from consistency.rows import Row
from consistency.stores.protocol import Traits
from consistency.stores.sqlite import SqliteStore
from tests.consistency.stores.stand import VALUES

NAME: Final = "old"
COLUMNS: Final = "whole INTEGER, ratio REAL, note TEXT"


class SqliteStand:
    """A file with one table. create: statements that make it; settings: of its stores, where they are others."""

    values: Sequence[tuple[str, Any]] = (
        # A whole REAL is kept as an integer on disk, which has no negative zero.
        *(each for each in VALUES if each[0] != "flag" and repr(each[1]) != "-0.0"),
        ("ratio", float("inf")),
        ("ratio", float("-inf")),
        ("note", b"\x00\xff bytes"),
        ("note", "with\x00zero"),
    )
    secrets: tuple[str, ...] = ()

    def __init__(self, file: Path, create: str, **settings: Any) -> None:
        self.file = file
        self.settings = {"table": "event", "identity": ("id",), "time": "at", "time_unit": "ns"} | settings
        self.traits = Traits()
        self.filled = "event"
        self.as_stored: Callable[[int], Any] = lambda at: at
        self.lock: apsw.Connection | None = None
        self._stores: list[SqliteStore] = []
        self.run(*create.split(";"))

    def run(self, *statements: str) -> None:
        """As the backend would."""
        connection = apsw.Connection(str(self.file))
        connection.set_busy_timeout(5000)
        for statement in statements:
            connection.execute(statement)
        connection.close()

    def identity(self, name: str) -> str:
        return name

    async def fill(self, rows: Sequence[Row]) -> None:
        await asyncio.to_thread(self.put, [(row.identity, row) for row in rows])

    def put(self, rows: Sequence[tuple[Any, Row]]) -> None:
        """Rows, with what stands in the column of their identity."""
        connection = apsw.Connection(str(self.file))
        connection.set_busy_timeout(5000)
        with connection:
            connection.executemany(
                f"INSERT INTO {self.filled} (id, at, whole, ratio, note) VALUES (?, ?, ?, ?, ?)",
                [
                    (identity, self.as_stored(row.at), *map(row.fields.get, ("whole", "ratio", "note")))
                    for identity, row in rows
                ],
            )
        connection.close()

    def store(self, timeout: float = 10.0) -> SqliteStore:
        values = {"file": str(self.file), "timeout": f"{timeout}s"} | self.settings
        self._stores.append(SqliteStore(NAME, Settings.model_validate(values)))
        return self._stores[-1]

    async def close(self) -> None:
        for store in self._stores:
            await store.close()


MakeSqlite = Callable[..., Awaitable[SqliteStand]]
WITH_ROWID: Final = (
    f"CREATE TABLE event (id TEXT, at INTEGER, {COLUMNS}); CREATE INDEX event_at ON event (at); "
    "CREATE INDEX event_id ON event (id)"
)


async def locked(stand: SqliteStand) -> None:
    stand.lock = apsw.Connection(str(stand.file))
    stand.lock.execute("BEGIN EXCLUSIVE")


async def unlocked(stand: SqliteStand) -> None:
    assert stand.lock is not None
    stand.lock.close(True)
