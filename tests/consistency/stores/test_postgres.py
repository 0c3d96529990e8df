"""PostgreSQL: the suite, and what is special about its credentials, connections and constraints."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

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
from tests.consistency.stores.failing import Failing
from tests.consistency.stores.fingerprinting import Fingerprinting, Hashing
from tests.consistency.stores.postgres_stand import (
    COLUMNS,
    EVENT,
    GOOD_PASSWORD,
    READER_PASSWORD,
    TURNED,
    MakePostgres,
    PostgresStand,
)
from tests.consistency.stores.reading import Reading, RowsOfOneIdentity
from tests.consistency.stores.stand import EVER, SECOND, START, Damage, events, opened, plain, read
from tests.consistency.stores.writing import Writing


class Way:
    """A way to a port that can be blocked: nothing passes then, and nobody is told."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._gate = asyncio.Event()
        self.port = 0

    @property
    def is_open(self) -> bool:
        return self._gate.is_set()

    @is_open.setter
    def is_open(self, value: bool) -> None:
        if value:
            self._gate.set()
        else:
            self._gate.clear()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.is_open = True

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        for one, other in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._pass(one, other))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self._gate.wait()
                writer.write(data)
        except ConnectionError:
            pass  # an end that is gone is closed
        finally:
            writer.close()

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def way_to(port: int) -> AsyncIterator[Way]:
    """A way that is open."""
    way = Way(port)
    await way.start()
    try:
        yield way
    finally:
        await way.stop()


async def _terminated(stand: PostgresStand) -> None:
    """Whoever is connected to the database is put out."""
    await stand.server.run(
        f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{stand.database}'"
    )


async def _no_database(stand: PostgresStand) -> None:
    await _terminated(stand)
    await stand.server.run(f'ALTER DATABASE "{stand.database}" RENAME TO gone')


async def _database_again(stand: PostgresStand) -> None:
    await stand.server.run(f'ALTER DATABASE gone RENAME TO "{stand.database}"')


async def _locked(stand: PostgresStand) -> None:
    stand.lock = await stand.server.connect(stand.database)
    await stand.lock.execute("BEGIN; LOCK TABLE event IN ACCESS EXCLUSIVE MODE")


async def _unlocked(stand: PostgresStand) -> None:
    assert stand.lock is not None
    await stand.lock.close()


async def _stopped(stand: PostgresStand) -> None:
    await stand.server.stop()


async def _started(stand: PostgresStand) -> None:
    await stand.server.start()


def sql(*statements: str) -> Callable[[PostgresStand], Awaitable[None]]:
    """Statements that do harm, or good."""

    async def run(stand: PostgresStand) -> None:
        await stand.run(*statements)

    return run


_AFTER: Final = ("rows", "fetch", "fingerprints")
_ALL: Final = ("open", *_AFTER)


class TestPostgres(Reading, RowsOfOneIdentity, Fingerprinting, Hashing, Writing, Failing):
    DAMAGES: Final = {
        "stopped": Damage(StoreUnreachable, (), _stopped, _started, _ALL),
        "put out": Damage(StoreUnreachable, (), _terminated, sql(), _AFTER),
        "locked": Damage(StoreUnreachable, ("no answer within 0.4 s",), _locked, _unlocked, _ALL, timeout=0.4),
        "another password": Damage(
            StoreDenied,
            ("password authentication failed", "reader"),
            sql("ALTER ROLE reader PASSWORD 'another'"),
            sql(f"ALTER ROLE reader PASSWORD '{GOOD_PASSWORD}'"),
            ("open",),
        ),
        "no such user": Damage(
            StoreDenied,
            ("reader",),
            sql("ALTER ROLE reader NOLOGIN"),
            sql("ALTER ROLE reader LOGIN"),
            ("open",),
        ),
        "may not read": Damage(
            StoreDenied,
            ("permission denied for table event",),
            sql("REVOKE SELECT ON event FROM reader"),
            sql("GRANT SELECT ON event TO reader"),
            _ALL,
        ),
        "no database": Damage(StoreMissing, ("does not exist",), _no_database, _database_again, ("open",)),
        "no table": Damage(
            StoreMissing,
            ("no table or view event",),
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
        "the column of time is gone": Damage(
            StoreChanged,
            ("has no column at",),
            sql("ALTER TABLE event RENAME at TO gone"),
            sql("ALTER TABLE event RENAME gone TO at"),
            _AFTER,
        ),
        "a column is gone": Damage(
            StoreChanged,
            ("event", "changed"),
            sql("ALTER TABLE event RENAME note TO gone"),
            sql("ALTER TABLE event RENAME gone TO note"),
            _AFTER,
        ),
        "a column of another type": Damage(
            StoreChanged,
            ("event", "changed"),
            sql("ALTER TABLE event ALTER whole TYPE numeric"),
            sql("ALTER TABLE event ALTER whole TYPE bigint"),
            _AFTER,
        ),
        "a time that is text": Damage(
            StoreGarbage,
            ("column at is text",),
            sql("ALTER TABLE event ALTER at TYPE text"),
            sql("ALTER TABLE event ALTER at TYPE timestamptz USING at::timestamptz"),
            ("open",),
        ),
        "no time": Damage(
            StoreGarbage,
            ("no time", "at is NULL"),
            sql("INSERT INTO event (id) VALUES ('bad')"),
            sql("DELETE FROM event WHERE id = 'bad'"),
            ("open",),
        ),
        "no time in sight": Damage(
            StoreGarbage,
            ("no time", "infinite"),
            sql("INSERT INTO event (id, at) VALUES ('bad', 'infinity')"),
            sql("DELETE FROM event WHERE id = 'bad'"),
            ("open",),
        ),
        "no identity": Damage(
            StoreGarbage,
            ("names the event",),
            sql(f"INSERT INTO event (at) VALUES (to_timestamp({START // SECOND}))"),
            sql("DELETE FROM event WHERE id IS NULL"),
            ("rows",),
        ),
    }

    @pytest.fixture
    def make_stand(self, make_postgres: MakePostgres) -> MakePostgres:
        return make_postgres


@pytest.mark.asyncio
async def test_a_view_that_takes_no_rows_is_read_alone(make_postgres: MakePostgres) -> None:
    view = "CREATE VIEW counted AS SELECT id, max(at) AS at, count(*) AS copies FROM event GROUP BY id"
    stand = await make_postgres(EVENT, view)
    stand.settings["table"] = "counted"
    store = await opened(stand, events(stand, 2))
    assert (store.traits.is_writable, len(await read(store))) == (False, 2)
    with pytest.raises(StoreRefused, match="cannot insert into view"):
        await store.write([Row("new", START, {})])


@pytest.mark.asyncio
async def test_rows_that_do_not_fit_are_refused_all_together(make_postgres: MakePostgres) -> None:
    stand = await make_postgres(
        "CREATE TABLE event (id varchar(8), at timestamptz, whole smallint, note text NOT NULL CHECK (note <> 'bad'))"
    )
    store = await opened(stand)
    good = Row("good", START, {"whole": 1, "note": "text"})
    for row, words in [
        (Row("long" * 3, START, {"note": "text"}), "too long"),
        (Row("one", START, {"note": "bad"}), "violates check constraint"),
        (Row("one", START, {}), "null value"),
        (Row("one", START, {"note": "text", "whole": 2**40}), "out of range"),
        (Row("one", START, {"note": "text", "whole": "many"}), "invalid input syntax"),
        (Row("one", START, {"note": "zero\x00"}), "0x00"),
        (Row("one", START, {"note": "\ud800"}), "invalid input for query argument"),
        (Row("one", START, {"note": "text", "other": 1}), "no column other"),
        (Row("one", START, {"note": "text", "whole": object()}), "field whole cannot be written"),
    ]:
        with pytest.raises(StoreRefused, match=words) as caught:
            await store.write([good, row])
        assert caught.value.written == 0
        assert await read(store) == []
    assert await store.write([good]) == 1


@pytest.mark.asyncio
async def test_a_unique_constraint_on_something_else_is_no_error_and_writes_nothing(
    make_postgres: MakePostgres,
) -> None:
    stand = await make_postgres(f"CREATE TABLE event (id text, at timestamptz, {COLUMNS}, UNIQUE (whole))")
    store = await opened(stand)
    assert await store.write([Row("one", START, {"whole": 1}), Row("two", START, {"whole": 1})]) == 1


@pytest.mark.asyncio
async def test_columns_that_the_server_makes(make_postgres: MakePostgres) -> None:
    """A generated column is compared and not written; a column GENERATED ALWAYS AS IDENTITY takes what is given."""
    create = (
        "CREATE TABLE event (id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz, whole bigint, "
        "twice bigint GENERATED ALWAYS AS (2 * whole) STORED)"
    )
    store = await opened(await make_postgres(create))
    row = Row("77", START, {"whole": 4, "twice": 8})
    assert await store.write([row]) == 1
    assert plain(await read(store)) == plain([row])


@pytest.mark.asyncio
async def test_who_may_only_read_may_not_write(make_postgres: MakePostgres) -> None:
    stand = await make_postgres()
    await stand.run("REVOKE INSERT ON event FROM reader")
    store = await opened(stand)
    with pytest.raises(StoreDenied, match="permission denied for table event"):
        await store.write(events(stand, 1))


@pytest.mark.asyncio
async def test_fingerprints_of_other_columns_have_another_name(make_postgres: MakePostgres) -> None:
    stands = [
        await make_postgres(),
        await make_postgres(TURNED),
        await make_postgres(EVENT.replace("whole bigint", "whole integer")),
        await make_postgres(EVENT.replace("note text", "note text, more text")),
        await make_postgres(columns=("whole",)),
    ]
    names = [(await opened(stand)).traits.fingerprint for stand in stands]
    assert names[0] == names[1], "the order of columns does not matter"
    assert len(set(names)) == 4
    assert "postgres 15 UTF8" in names[0]


@pytest.mark.asyncio
async def test_the_order_of_columns_does_not_matter_for_fingerprints(make_postgres: MakePostgres) -> None:
    one = await make_postgres()
    other = await make_postgres(TURNED)
    rows = events(one, 50)
    first, second = await opened(one, rows), await opened(other, rows)
    span = Span(START, START + 50 * SECOND)
    assert await first.fingerprints(span, SECOND) == await second.fingerprints(span, SECOND)


@pytest.mark.asyncio
async def test_bytes_that_are_no_text(make_postgres: MakePostgres) -> None:
    """A database without an encoding holds what no text is."""
    stand = await make_postgres()
    await stand.server.run("CREATE DATABASE ascii ENCODING SQL_ASCII TEMPLATE template0")
    stand.settings["url"] = stand.server.url("ascii", "reader")
    try:
        await stand.server.run(
            EVENT,
            "GRANT SELECT ON event TO reader",
            f"INSERT INTO event (id, at, note) VALUES ('one', to_timestamp({START // SECOND}), E'\\xff\\x41')",
            database="ascii",
        )
        store = await opened(stand)
        with pytest.raises(StoreGarbage, match=r"encoding|UTF-8"):
            await read(store)
        await stand.server.run("UPDATE event SET note = 'text'", database="ascii")
        assert len(await read(store)) == 1
    finally:
        await stand.close()
        await stand.server.run("DROP DATABASE ascii WITH (FORCE)")


@pytest.mark.asyncio
async def test_the_password_may_stand_in_a_file(make_postgres: MakePostgres, tmp_path: Path) -> None:
    """It is read whenever the store is opened; a newline at its end does not count."""
    stand = await make_postgres()
    file = tmp_path / "password"
    file.write_text(f"{READER_PASSWORD}\n")
    stand.settings["password_file"] = str(file)
    del stand.settings["password"]
    store = await opened(stand, events(stand, 1))
    file.write_text("another one")
    with pytest.raises(StoreDenied) as caught:
        await store.open()
    assert "another one" not in str(caught.value)
    file.unlink()
    with pytest.raises(StoreDenied, match=f"password_file {file} cannot be read: No such file"):
        await store.open()
    file.write_bytes(b"\xff")
    with pytest.raises(StoreDenied, match="cannot be read: it is not UTF-8"):
        await store.open()
    file.write_text(READER_PASSWORD)
    await store.open()
    assert len(await read(store)) == 1


@pytest.mark.asyncio
async def test_a_server_that_falls_silent_is_given_up(make_postgres: MakePostgres) -> None:
    """Its machine or the way to it is gone, so that it cannot end the statement itself."""
    stand = await make_postgres()
    async with way_to(stand.server.port) as way:
        url = stand.server.url(stand.database, "reader")
        stand.settings["url"] = url.replace(f":{stand.server.port}", f":{way.port}")
        store = await opened(stand, events(stand, 3), timeout=0.5)
        for ask in (lambda: read(store), lambda: store.fetch([Key("x", 0)]), store.open):
            way.is_open = False
            with pytest.raises(StoreUnreachable, match=r"no answer within 0.5 s"):
                async with asyncio.timeout(5):
                    await ask()
            way.is_open = True
            await store.open()
            assert len(await read(store)) == 3


@pytest.mark.asyncio
async def test_whoever_is_no_postgres(make_postgres: MakePostgres) -> None:
    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    stand = await make_postgres()
    async with await asyncio.start_server(babble, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        stand.settings["url"] = f"postgresql://reader@127.0.0.1:{port}/x"
        with pytest.raises((StoreGarbage, StoreUnreachable)):
            await stand.store().open()


@pytest.mark.asyncio
async def test_a_reader_keeps_nobody_from_writing(make_postgres: MakePostgres) -> None:
    """Neither while it stands between two chunks, nor after it was left there."""
    stand = await make_postgres()
    store = await opened(stand, events(stand, 6000))
    reader = store.rows(EVER)
    await anext(reader)
    await stand.run("SET lock_timeout = '1s'; DELETE FROM event; INSERT INTO event (id, at) VALUES ('new', now())")
    rest = [row async for chunk in reader for row in chunk]
    assert len(rest) == 1000, "it reads what was there when it began"
    assert [row.identity for row in await read(store)] == ["new"]


@pytest.mark.asyncio
async def test_what_is_not_open_says_so(make_postgres: MakePostgres) -> None:
    store = (await make_postgres()).store()
    with pytest.raises(StoreUnreachable, match="it is not open"):
        await store.fetch([])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"url": "mysql://reader@host/db"}, "postgresql://"),
        ({"url": "postgresql://reader:secret@host/db"}, "password or password_file"),
        ({"url": "postgresql://reader@host/db?password=secret"}, "password or password_file"),
        ({"password": "secret", "password_file": "/x"}, "keep one"),
        ({"identity": ("id", "id")}, "twice"),
        ({"columns": ("a", "a")}, "twice"),
    ],
)
def test_settings_that_are_refused(change: dict[str, Any], words: str) -> None:
    url = "postgresql://reader@host/db"
    good = {"url": url, "table": "event", "identity": ("id",), "time": "at"}
    Settings.model_validate(good)
    with pytest.raises(ValueError, match=words) as caught:
        Settings.model_validate(good | change)
    assert "secret" not in str(caught.value)
