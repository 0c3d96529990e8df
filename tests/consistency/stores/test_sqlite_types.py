"""SQLite: identities, values and times of every type, and names of all sorts."""

from __future__ import annotations

from typing import Any

import apsw
import pytest

from consistency.rows import Key, Row, Span
from consistency.stores.errors import (
    StoreGarbage,
    StoreRefused,
)
from consistency.stores.table import format_time
from tests.consistency.stores.sqlite_stand import COLUMNS, WITH_ROWID, MakeSqlite
from tests.consistency.stores.stand import SECOND, START, events, opened, plain, read


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("INTEGER PRIMARY KEY", {"7": 7, "-1": -1, str(2**62): 2**62}),
        ("INTEGER", {"7": 7, "abc": "abc", "1.5": 1.5}),
        ("REAL", {"7": 7.0, "0.1": 0.1, "1e+300": 1e300}),
        ("NUMERIC", {"7": 7, "1.5": 1.5, "2025-11-13": "2025-11-13"}),
        ("TEXT", {"7": "7", "007": "007", "1.50": "1.50", "ab": "ab"}),
        ("BLOB", {"00ff": b"\x00\xff", "ab": b"\xab"}),
        ("", {"7": 7, "8": 8}),
        ("", {"7": "7", "007": "007"}),
    ],
)
async def test_identities_of_every_type(make_sqlite: MakeSqlite, column: str, values: dict[str, Any]) -> None:
    """Each has its text, is found by it, and is written as others are."""
    create = f"CREATE TABLE event (id {column}, at INTEGER, {COLUMNS})"
    stand, second = await make_sqlite(create), await make_sqlite(create)
    rows = [Row(name, START + number, {"whole": number}) for number, name in enumerate(values)]
    stand.put(list(zip(values.values(), rows, strict=True)))
    store = await opened(stand)
    assert plain(await read(store)) == plain(rows)
    keys = [Key(each, 0) for each in (*values, "nobody", "0x7", "7.0", " 7", "NaN", "1_0", "AB")]
    assert plain(await store.fetch(keys)) == plain(rows)
    assert await store.write(rows) == 0
    # One row as it is there tells how others are written.
    second.put([(next(iter(values.values())), rows[0])])
    other = await opened(second)
    assert await other.write(rows) == len(rows) - 1
    query = "SELECT typeof(id), id FROM event ORDER BY at"
    stored = [list(apsw.Connection(str(each.file)).execute(query)) for each in (stand, second)]
    assert stored[0] == stored[1]


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["007", "7.0", " 7", "1e3"])
async def test_an_identity_that_would_become_another_one_is_refused(make_sqlite: MakeSqlite, name: str) -> None:
    stand = await make_sqlite(WITH_ROWID.replace("id TEXT", "id INTEGER"))
    store = await opened(stand)
    with pytest.raises(StoreRefused, match="cannot stand in column id as it is"):
        await store.write([Row("7", START, {}), Row(name, START, {})])
    assert await read(store) == []


@pytest.mark.asyncio
async def test_an_identity_of_several_columns(make_sqlite: MakeSqlite) -> None:
    stand = await make_sqlite(
        f"CREATE TABLE event (id TEXT, part INTEGER, at INTEGER, {COLUMNS}, PRIMARY KEY (id, part))",
        identity=("id", "part"),
    )
    names = ['["a","1"]', '["a","2"]', '["a\\"b, c","1"]', '["ü","-5"]']
    rows = [Row(name, START + number, {"whole": number}) for number, name in enumerate(names)]
    store = await opened(stand)
    assert await store.write(rows) == 4
    assert plain(await read(store)) == plain(rows)
    strange = ["a", '["a"]', '["a","x"]', '["a","1","1"]', "[1,2]", "[[]]"]
    assert plain(await store.fetch([Key(each, 0) for each in (*strange, *names[1:])])) == plain(rows[1:])
    with pytest.raises(StoreRefused, match="'a' is not the name of 2 values"):
        await store.write([Row("a", START, {})])


@pytest.mark.asyncio
async def test_names_of_all_sorts(make_sqlite: MakeSqlite) -> None:
    """Quotes and spaces, a column for each name that a rowid has, and columns that are left out."""
    odd = 'it\'s "odd" ?'
    column = odd.replace('"', '""')
    stand = await make_sqlite(
        f'CREATE TABLE "a ""table""" ("{column}" TEXT, "AT" INTEGER, rowid INTEGER, oid, _rowid_, other TEXT)',
        table='main.a "table"', identity=(odd,), time="AT", columns=("rowid",),
    )  # fmt: skip
    stand.run(f"INSERT INTO \"a \"\"table\"\"\" VALUES ('one', {START}, 5, 'x', 'y', 'left out')")
    store = await opened(stand)
    wanted = Row("one", START, {"rowid": 5})
    assert plain(await read(store)) == plain(await store.fetch([wanted.key])) == plain([wanted])
    second = Row("two", START, {"rowid": 6})
    assert await store.write([wanted, second]) == 1
    assert plain(await read(store)) == plain([wanted, second])


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"note": None, "whole": "many"}, "does not fit table event"),
        ({"note": ""}, "does not fit table event"),
        ({"other": 1}, "no column other"),
        ({"ratio": float("nan")}, "ratio is not a number"),
        ({"whole": 2**64}, "more than 64 bits"),
        ({"note": "\ud800"}, "text in table event is not UTF-8"),
        ({"note": {"set": {1}}}, "note cannot be written as JSON"),
        ({"note": object()}, "note is a object, which SQLite cannot store"),
    ],
)
async def test_rows_that_do_not_fit_are_refused_all_together(
    make_sqlite: MakeSqlite, fields: dict[str, Any], words: str
) -> None:
    stand = await make_sqlite(
        "CREATE TABLE event (id TEXT, at INTEGER, whole INTEGER, ratio REAL, note TEXT CHECK (note <> '')) STRICT"
    )
    store = await opened(stand)
    good = Row("good", START, {"whole": 1, "note": "text"})
    with pytest.raises(StoreRefused, match=words) as caught:
        await store.write([good, Row("bad", START, fields)])
    assert caught.value.written == 0
    assert await read(store) == []
    assert await store.write([good, Row("json", START, {"note": {"a": [1, True, None]}})]) == 2
    assert (await store.fetch([Key("json", START)]))[0].fields == {"note": '{"a":[1,true,null]}'}


@pytest.mark.asyncio
async def test_a_generated_column_is_compared_and_not_written(make_sqlite: MakeSqlite) -> None:
    stand = await make_sqlite(
        "CREATE TABLE event (id TEXT, at INTEGER, whole INTEGER, twice INTEGER AS (2 * whole) STORED)"
    )
    store = await opened(stand)
    row = Row("one", START, {"whole": 4, "twice": 8})
    assert await store.write([row]) == 1
    assert plain(await read(store)) == plain([row])


@pytest.mark.asyncio
async def test_a_default_is_not_put_where_a_row_has_nothing(make_sqlite: MakeSqlite) -> None:
    create = "CREATE TABLE event (id TEXT, at INTEGER, note TEXT DEFAULT 'none', whole INTEGER)"
    store = await opened(await make_sqlite(create))
    row = Row("one", START, {"whole": 4})
    assert await store.write([row]) == 1
    assert plain(await read(store)) == plain([row])


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("sample", "written"),
    [
        (None, "2025-11-13T02:13:20+00:00"),
        ("2025-11-13 04:00:00", "2025-11-13 02:13:20"),
        ("2025-11-13T04:00:00Z", "2025-11-13T02:13:20Z"),
        ("2025-11-13 04:00:00.123+02:00", "2025-11-13 02:13:20+00:00"),
        (1_763_000_007, START // SECOND),
        (1_763_000_007.25, START // SECOND),
    ],
)
async def test_a_time_is_written_as_others_are(make_sqlite: MakeSqlite, sample: Any, written: Any) -> None:
    stand = await make_sqlite("CREATE TABLE event (id TEXT, at DATETIME, whole INTEGER)", time_unit="s")
    if sample is not None:
        stand.run(f"INSERT INTO event VALUES ('sample', {sample!r}, 1)")
    store = await opened(stand)
    assert await store.write([Row("one", START, {})]) == 1
    assert apsw.Connection(str(stand.file)).execute("SELECT at FROM event WHERE id = 'one'").get == written


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("'2025-11-13T02:13:99Z'", "'2025-11-13T02:13:99Z', which is no time"),
        ("'2025-11-13T02:13:20 in the morning'", "no time"),
        ("x'00'", "no time"),
        ("1763000000", "numbers in some rows and text in others"),
        ("''", "no time"),
    ],
)
async def test_text_that_is_no_time(make_sqlite: MakeSqlite, value: str, words: str) -> None:
    """Also in the middle of others: it is found when its span is read."""
    stand = await make_sqlite(f"CREATE TABLE event (id TEXT, at, {COLUMNS}); CREATE INDEX event_at ON event (at)")
    stand.as_stored = format_time
    store = await opened(stand, events(stand, 3, step=86400 * SECOND))
    stand.run(f"INSERT INTO event (id, at) VALUES ('bad', {value})")
    with pytest.raises(StoreGarbage, match=words):
        await read(store, Span(START, START + 60 * SECOND))
