"""Fixtures of the stores' tests: engines that take a while to start are started once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.consistency.stores.files_stand import FilesStand, MakeFiles
from tests.consistency.stores.postgres_stand import EVENT, GOOD_PASSWORD, PASSWORD, MakePostgres, PostgresStand
from tests.consistency.stores.sqlite_stand import WITH_ROWID, MakeSqlite, SqliteStand
from tests.harness.postgres import Postgres, running

_FRESH = (
    "DROP SCHEMA IF EXISTS public, my CASCADE",
    "CREATE SCHEMA public",
    "GRANT USAGE ON SCHEMA public TO reader",
)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for all tests, with the user whom stores are."""
    with running(PASSWORD) as started:
        asyncio.run(started.run(f"CREATE ROLE reader LOGIN PASSWORD '{GOOD_PASSWORD}'"))
        yield started


@pytest_asyncio.fixture
async def make_postgres(postgres: Postgres) -> AsyncIterator[MakePostgres]:
    """Makes stands, each with a database of its own. create: statements that make its table."""
    made: list[PostgresStand] = []

    async def one(*create: str, **settings: Any) -> PostgresStand:
        stand = PostgresStand(postgres, f"events {len(made)}", **settings)
        made.append(stand)
        # Making a database takes longer than most tests: those of earlier tests are emptied.
        connection = await postgres.connect()
        if not await connection.fetch("SELECT 1 FROM pg_database WHERE datname = $1", stand.database):
            await connection.execute(f'CREATE DATABASE "{stand.database}"')
        await connection.close()
        await stand.run(
            *_FRESH,
            *(create or (EVENT, "CREATE INDEX ON event (at)", "CREATE INDEX ON event (id)")),
            "GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO reader",
        )
        return stand

    yield one
    for each in made:
        await each.close()


@pytest_asyncio.fixture
async def make_sqlite(tmp_path: Path) -> AsyncIterator[MakeSqlite]:
    """Makes stands, each with a file of its own."""
    made: list[SqliteStand] = []

    async def one(create: str = WITH_ROWID, **settings: Any) -> SqliteStand:
        made.append(SqliteStand(tmp_path / f"{len(made)}.db", create, **settings))
        return made[-1]

    yield one
    for each in made:
        await each.close()


@pytest_asyncio.fixture
async def make_files(tmp_path: Path) -> AsyncIterator[MakeFiles]:
    """Makes stands, each with a folder of its own."""
    made: list[FilesStand] = []

    async def one(*arguments: Any, **settings: Any) -> FilesStand:
        folder = tmp_path / f"files {len(made)}"
        folder.mkdir()
        made.append(FilesStand(folder, *arguments, **settings))
        return made[-1]

    yield one
    for each in made:
        await each.close()
