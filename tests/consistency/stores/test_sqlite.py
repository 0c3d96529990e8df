"""SQLite: the suite over tables of all sorts, and what goes wrong with files."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import apsw
import pytest

from config.stores import SqliteStore as Settings
from consistency.stores.errors import (
    StoreChanged,
    StoreDenied,
    StoreGarbage,
    StoreMissing,
    StoreUnreachable,
)
from consistency.stores.protocol import Traits
from consistency.stores.sqlite import SqliteStore
from consistency.stores.table import format_time, number_of_time
from tests.consistency.stores.failing import Failing
from tests.consistency.stores.reading import Reading, RowsOfOneIdentity
from tests.consistency.stores.sqlite_stand import COLUMNS, NAME, WITH_ROWID, MakeSqlite, SqliteStand, locked, unlocked
from tests.consistency.stores.stand import EVER, SECOND, START, Damage, events, opened, plain, read
from tests.consistency.stores.writing import Writing


async def _moved(stand: SqliteStand) -> None:
    stand.file.rename(stand.file.with_suffix(".moved"))


async def _moved_back(stand: SqliteStand) -> None:
    assert not stand.file.exists(), "nobody creates it"
    stand.file.with_suffix(".moved").rename(stand.file)


async def _replaced(stand: SqliteStand) -> None:
    await _moved(stand)
    stand.file.write_bytes(stand.file.with_suffix(".moved").read_bytes())


async def _put_back(stand: SqliteStand) -> None:
    stand.file.unlink()
    await _moved_back(stand)


async def _damaged(stand: SqliteStand) -> None:
    await _moved(stand)
    stand.file.write_text("this is no database, and has been none since it was written\n" * 40)


def sql(*statements: str) -> Callable[[SqliteStand], Awaitable[None]]:
    """Statements that do harm, or good."""

    async def run(stand: SqliteStand) -> None:
        stand.run(*statements)

    return run


_AFTER: Final = ("rows", "fetch")
_ALL: Final = ("open", *_AFTER)


class FailingSqlite(Failing):
    """Everything that goes wrong with a file."""

    DAMAGES: Final = {
        "locked": Damage(StoreUnreachable, ("0.3 s", "locked"), locked, unlocked, _ALL, timeout=0.3),
        "no file": Damage(StoreMissing, ("there is no file",), _moved, _moved_back, _ALL),
        "another file": Damage(StoreChanged, ("replaced",), _replaced, _put_back, _AFTER),
        "no database": Damage(StoreGarbage, ("no SQLite file",), _damaged, _put_back, ("open",)),
        "no table": Damage(
            StoreMissing,
            ("there is no table or view event",),
            sql("ALTER TABLE event RENAME TO gone"),
            sql("ALTER TABLE gone RENAME TO event"),
            _ALL,
        ),
        "no column of time": Damage(
            StoreMissing,
            ("has no column at", "whole"),
            sql("ALTER TABLE event RENAME at TO gone"),
            sql("ALTER TABLE event RENAME gone TO at"),
            ("open",),
        ),
        "a column is gone": Damage(
            StoreChanged,
            ("columns of table event changed",),
            sql("ALTER TABLE event RENAME note TO gone"),
            sql("ALTER TABLE event RENAME gone TO note"),
            _AFTER,
        ),
        "a column of another type": Damage(
            StoreChanged,
            ("columns of table event changed",),
            sql("ALTER TABLE event RENAME note TO gone", "ALTER TABLE event ADD note INTEGER"),
            sql("ALTER TABLE event DROP note", "ALTER TABLE event RENAME gone TO note"),
            _AFTER,
        ),
        "a time that is text": Damage(
            StoreGarbage,
            ("column at", "'yesterday'", "no time"),
            sql("INSERT INTO event (id, at) VALUES ('bad', 'yesterday')"),
            sql("DELETE FROM event WHERE id = 'bad'"),
            ("open", "rows"),
        ),
        "no time": Damage(
            StoreGarbage,
            ("no time", "at is NULL"),
            sql("INSERT INTO event (id) VALUES ('bad')"),
            sql("DELETE FROM event WHERE id = 'bad'"),
            ("open", "rows"),
        ),
        "no identity": Damage(
            StoreGarbage,
            ("names the event",),
            sql(f"INSERT INTO event (at) VALUES ({START})"),
            sql("DELETE FROM event WHERE id IS NULL"),
            ("rows",),
        ),
        "text that is not UTF-8": Damage(
            StoreGarbage,
            ("text in table event is not UTF-8",),
            sql("UPDATE event SET note = CAST(x'ff41' AS TEXT) WHERE whole = 3"),
            sql("UPDATE event SET note = 'note 3' WHERE whole = 3"),
            _AFTER,
        ),
    }


class TestWithRowid(Reading, RowsOfOneIdentity, Writing, FailingSqlite):
    @pytest.fixture
    def make_stand(self, make_sqlite: MakeSqlite) -> MakeSqlite:
        return make_sqlite


class TestInWalMode(Reading, RowsOfOneIdentity, Writing):
    @pytest.fixture
    def make_stand(self, make_sqlite: MakeSqlite) -> MakeSqlite:
        async def one() -> SqliteStand:
            return await make_sqlite(f"PRAGMA journal_mode = wal; {WITH_ROWID}")

        return one


class TestWithoutRowid(Reading, RowsOfOneIdentity, Writing):
    @pytest.fixture
    def make_stand(self, make_sqlite: MakeSqlite) -> MakeSqlite:
        async def one() -> SqliteStand:
            return await make_sqlite(
                f"CREATE TABLE event (id TEXT, n BLOB DEFAULT (randomblob(12)), at INTEGER, {COLUMNS}, "
                "PRIMARY KEY (id, n)) WITHOUT ROWID; CREATE INDEX event_at ON event (at)",
                columns=("whole", "ratio", "note"),
            )

        return one


class TestView(Reading, RowsOfOneIdentity):
    @pytest.fixture
    def make_stand(self, make_sqlite: MakeSqlite) -> MakeSqlite:
        async def one() -> SqliteStand:
            create = WITH_ROWID.replace("event (", "kept (")
            stand = await make_sqlite(f"{create}; CREATE VIEW event AS SELECT * FROM kept")
            stand.filled = "kept"
            stand.traits = Traits(is_writable=False)
            return stand

        return one


def _with_offset(hours: int, text: str) -> Callable[[int], str]:
    return lambda at: format_time(at + hours * 3600 * SECOND, offset=text)


FORMS: Final[tuple[Callable[[int], str], ...]] = (
    format_time,
    lambda at: format_time(at, separator=" ", offset=""),
    lambda at: format_time(at, offset="Z"),
    _with_offset(2, "+02:00"),
    _with_offset(-11, "-1100"),
    _with_offset(14, "+14"),
)
"""All that a table of several writers may hold."""


class TestTimesAsText(Reading, RowsOfOneIdentity, Writing):
    @pytest.fixture
    def make_stand(self, make_sqlite: MakeSqlite) -> MakeSqlite:
        async def one() -> SqliteStand:
            stand = await make_sqlite(
                f"CREATE TABLE event (id TEXT, at TEXT, {COLUMNS}); CREATE INDEX event_at ON event (at)"
            )
            stand.as_stored = lambda at: FORMS[at // SECOND % len(FORMS)](at)
            return stand

        return one


class TestTimesAsFractions(Reading, RowsOfOneIdentity, Writing):
    """Seconds with a fraction, in which a float is as fine as a microsecond."""

    @pytest.fixture
    def make_stand(self, make_sqlite: MakeSqlite) -> MakeSqlite:
        async def one() -> SqliteStand:
            stand = await make_sqlite(
                f"CREATE TABLE event (id TEXT, at REAL, {COLUMNS}); CREATE INDEX event_at ON event (at)", time_unit="s"
            )
            stand.as_stored = lambda at: number_of_time(at, SECOND)
            stand.traits = Traits(precision=1000)
            return stand

        return one


class TestTimesInWholeMilliseconds(Reading, RowsOfOneIdentity, Writing):
    @pytest.fixture
    def make_stand(self, make_sqlite: MakeSqlite) -> MakeSqlite:
        async def one() -> SqliteStand:
            stand = await make_sqlite(time_unit="ms")
            stand.as_stored = lambda at: at // 10**6
            stand.traits = Traits(precision=10**6)
            return stand

        return one


@pytest.mark.asyncio
async def test_a_file_is_never_created(tmp_path: Path) -> None:
    for file, error in ((tmp_path / "none.db", StoreMissing), (tmp_path, StoreDenied)):
        values = {"file": str(file), "table": "event", "identity": ("id",), "time": "at"}
        store = SqliteStore(NAME, Settings.model_validate(values))
        with pytest.raises(error):
            await store.open()
        with pytest.raises(StoreUnreachable, match="it is not open"):
            await store.write([])
        await store.close()
    assert os.listdir(tmp_path) == []


@pytest.mark.asyncio
async def test_a_question_that_takes_too_long_is_given_up(make_sqlite: MakeSqlite) -> None:
    """Not waiting for a lock but reading: a view that has no end."""
    stand = await make_sqlite()
    stand.run(
        "ALTER TABLE event RENAME TO kept",
        "CREATE VIEW event AS WITH RECURSIVE n(at) AS (SELECT 1 UNION ALL SELECT at + 1 FROM n) "
        "SELECT 'x' || at AS id, at FROM n",
    )
    with pytest.raises(StoreUnreachable, match=r"no answer within 0.3 s"):
        async with asyncio.timeout(5):
            await stand.store(timeout=0.3).open()


@pytest.mark.asyncio
async def test_a_writer_in_wal_mode_keeps_nobody_from_reading(make_sqlite: MakeSqlite) -> None:
    stand = await make_sqlite(f"PRAGMA journal_mode = wal; {WITH_ROWID}")
    rows = events(stand, 3)
    store = await opened(stand, rows, timeout=0.5)
    await locked(stand)
    assert plain(await read(store)) == plain(rows)
    with pytest.raises(StoreUnreachable, match="locked"):
        await store.write(events(stand, 4))
    await unlocked(stand)
    assert await store.write(events(stand, 4)) == 1


@pytest.mark.asyncio
async def test_nothing_is_held_between_two_chunks(make_sqlite: MakeSqlite) -> None:
    """A writer in rollback mode needs the file for itself, if only for a moment."""
    stand = await make_sqlite()
    store = await opened(stand, events(stand, 6000))
    reader = store.rows(EVER)
    await anext(reader)
    connection = apsw.Connection(str(stand.file))
    connection.execute("DELETE FROM event WHERE whole < 5900")
    connection.close()
    assert [row.fields["whole"] for row in await anext(reader)] == list(range(5900, 6000))


def test_columns_are_named_once_each() -> None:
    values = {"file": "x.db", "table": "event", "identity": ("id", "id"), "time": "at"}
    with pytest.raises(ValueError, match="column id is named twice"):
        Settings.model_validate(values)
