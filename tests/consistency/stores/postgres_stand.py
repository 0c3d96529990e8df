"""A place in PostgreSQL for rows: a database of its own with a table, which an ordinary user reads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg

from config.stores import PostgresStore as Settings
from consistency.rows import Row
from consistency.stores.postgres import PostgresStore
from consistency.stores.protocol import Traits
from tests.consistency.stores.stand import VALUES
from tests.harness.postgres import Postgres

NAME: Final = "new"
PASSWORD: Final = "only the tests' own/%?"
READER_PASSWORD: Final = "the reader's own"
COLUMNS: Final = "whole bigint, ratio double precision, flag boolean, note text"
EVENT: Final = f"CREATE TABLE event (id text, at timestamptz, {COLUMNS})"
GOOD_PASSWORD: Final = READER_PASSWORD.replace("'", "''")
TURNED: Final = f"CREATE TABLE event (note text, whole bigint, at timestamptz, {COLUMNS[14:-11]}, id text)"
FIELDS: Final = ("whole", "ratio", "flag", "note")


class PostgresStand:
    """A database of its own, with a table; the store is an ordinary user's."""

    values: Sequence[tuple[str, Any]] = (*VALUES, *(("ratio", float(word)) for word in ("nan", "inf", "-inf")))
    secrets: tuple[str, ...] = (PASSWORD, READER_PASSWORD)

    def __init__(self, server: Postgres, database: str, **settings: Any) -> None:
        self.server = server
        self.database = database
        self.settings = {
            "url": server.url(database, "reader"), "password": READER_PASSWORD, "table": "event", "identity": ("id",),
            "time": "at",
        } | settings  # fmt: skip
        self.traits = Traits(precision=1000, fingerprint="postgres")
        self.lock: asyncpg.Connection[Any] | None = None
        self._stores: list[PostgresStore] = []

    async def run(self, *statements: str) -> None:
        """As the backend would."""
        await self.server.run(*statements, database=self.database)

    def identity(self, name: str) -> str:
        return name

    async def fill(self, rows: Sequence[Row]) -> None:
        connection = await self.server.connect(self.database)
        try:
            await connection.copy_records_to_table(
                "event",
                records=[(row.identity, moment(row.at), *map(row.fields.get, FIELDS)) for row in rows],
                columns=["id", "at", *FIELDS],
            )
        finally:
            await connection.close()

    def store(self, timeout: float = 10.0) -> PostgresStore:
        values = {"timeout": f"{timeout}s"} | self.settings
        self._stores.append(PostgresStore(NAME, Settings.model_validate(values)))
        return self._stores[-1]

    async def close(self) -> None:
        for store in self._stores:
            await store.close()


def moment(at: int) -> datetime:
    """Nanoseconds as asyncpg wants them."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at // 1000)


MakePostgres = Callable[..., Awaitable[PostgresStand]]
