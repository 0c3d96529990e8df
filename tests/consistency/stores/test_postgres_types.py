"""PostgreSQL: values, times and identities of every type, and names of all sorts."""

from __future__ import annotations

from typing import Final

import pytest

from consistency.rows import Key, Row, Span
from consistency.stores.errors import (
    StoreGarbage,
    StoreRefused,
)
from tests.consistency.stores.postgres_stand import (
    COLUMNS,
    MakePostgres,
    PostgresStand,
)
from tests.consistency.stores.stand import SECOND, START, opened, plain, read

TYPES: Final = {
    "small": ("smallint", "-7", -7),
    "single": ("real", "0.1", 0.1),
    "exact": ("numeric(12,4)", "12.5", "12.5000"),
    "huge": ("numeric", "123456789012345678901234567890.10", "123456789012345678901234567890.10"),
    "document": ("jsonb", '{"b": [1, 2.5, null, "é"], "a": {"c": true}}', {"a": {"c": True}, "b": [1, 2.5, None, "é"]}),
    "source": ("json", "[12345678901234567890123, 1]", [12345678901234567890123, 1]),
    "word": ("json", '"text"', "text"),
    "number": ("uuid", "6F9619FF-8B86-D011-B42D-00CF4FC964FF", "6f9619ff-8b86-d011-b42d-00cf4fc964ff"),
    "octets": ("bytea", "\\x00ff5c", b"\x00\xff\\"),
    "numbers": ("integer[]", "{1,NULL}", [1, None]),
    "texts": ("text[]", '{"a,b","c\\"d","back\\\\slash",NULL,"NULL"}', ["a,b", 'c"d', "back\\slash", None, "NULL"]),
    "table": ("double precision[]", "{{1,2},{3,0.1}}", [[1.0, 2.0], [3.0, 0.1]]),
    "exacts": ("numeric[]", "{1.10,2}", ["1.10", "2"]),
    "instant": ("timestamptz", "2025-11-13 04:13:20.5+02", "2025-11-13T02:13:20.500000+00:00"),
    "local": ("timestamp", "2025-11-13 04:13:20", "2025-11-13T04:13:20.000000+00:00"),
    "never": ("timestamptz", "infinity", "infinity"),
    "day": ("date", "2025-11-13", "2025-11-13"),
    "lasting": ("interval", "1 day 02:00:00.5", "1 day 02:00:00.5"),
    "address": ("inet", "10.0.0.0/8", "10.0.0.0/8"),
    "code": ("char(4)", "ab", "ab"),
    "name": ("varchar(9)", "größer", "größer"),
    "kind": ("mood", "glad", "glad"),
    "degree": ("celsius", "21.5", 21.5),
    "span": ("int4range", "[1,5)", "[1,5)"),
}  # fmt: skip
"""By column: its type, a value as PostgreSQL reads it, what we make of it."""


async def typed(make_postgres: MakePostgres, *, is_filled: bool) -> PostgresStand:
    """A stand with a table of all types."""
    columns = ", ".join(f'"{name}" {type}' for name, (type, _, _) in TYPES.items())
    values = ", ".join("'" + text.replace("'", "''") + "'" for _, text, _ in TYPES.values())
    fill = f"INSERT INTO event VALUES ('one', to_timestamp({START // SECOND}), {values})"
    return await make_postgres(
        "CREATE TYPE mood AS ENUM ('glad', 'sad')",
        "CREATE DOMAIN celsius AS double precision CHECK (VALUE > -274)",
        f"CREATE TABLE event (id text, at timestamptz, {columns})",
        *([fill] if is_filled else []),
    )


@pytest.mark.asyncio
async def test_values_of_every_type_come_in_a_form_that_loses_nothing_and_go_back(make_postgres: MakePostgres) -> None:
    wanted = Row("one", START, {name: value for name, (_, _, value) in TYPES.items()})
    store = await opened(await typed(make_postgres, is_filled=True))
    (row,) = await read(store)
    for name, value in wanted.fields.items():
        assert (name, row.fields[name], type(row.fields[name])) == (name, value, type(value))
    assert plain(await store.fetch([row.key])) == plain([wanted])
    second = await opened(await typed(make_postgres, is_filled=False))
    assert await second.write([row]) == 1
    assert plain(await read(second)) == plain([wanted])
    span = Span(START, START + SECOND)
    assert second.traits == store.traits
    old, new = await store.fingerprints(span, SECOND), await second.fingerprints(span, SECOND)
    # `json` keeps the text that it was given, which is ours now: what else was another would show as well.
    assert old.segments.keys() == new.segments.keys()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("column", "unit", "precision"),
    [
        ("timestamp", "s", 1000),
        ("date", "s", 86400 * SECOND),
        ("bigint", "ns", 1),
        ("bigint", "ms", 10**6),
        ("integer", "s", SECOND),
        ("numeric", "s", 1),
        ("numeric(20,3)", "ms", 1),
        ("double precision", "s", 1000),
        ("double precision", "us", 1000),
    ],
)
async def test_times_of_every_type(make_postgres: MakePostgres, column: str, unit: str, precision: int) -> None:
    """Rows a step apart that a float of seconds can hold; each is in its own span and in no other."""
    step = max(precision, 10**6 if column == "numeric(20,3)" else 1000)
    start = START - START % precision
    create = f"CREATE TABLE event (id text, at {column}, whole bigint)"
    store = await opened(await make_postgres(create, time_unit=unit))
    assert store.traits.precision == precision
    rows = [Row(f"{number}", start + number * step, {"whole": number}) for number in range(20)]
    assert await store.write(rows[::-1]) == 20
    assert plain(await read(store)) == plain(rows)
    for row in rows:
        assert plain(await read(store, Span(row.at, row.at + 1))) == plain([row])
        assert await read(store, Span(row.at + 1, row.at + step)) == []
    said = await store.fingerprints(Span(start - 1, start + 20 * step), step)
    assert sum(fingerprint.rows for fingerprint in said.segments.values()) == 20
    assert {segment.start for segment in said.segments} == {start - 1 + number * step for number in range(20)}


@pytest.mark.asyncio
@pytest.mark.parametrize("value", ["'NaN'", "'Infinity'", "NULL"])
async def test_numbers_that_are_no_time(make_postgres: MakePostgres, value: str) -> None:
    stand = await make_postgres(
        "CREATE TABLE event (id text, at double precision, whole bigint)", f"INSERT INTO event VALUES ('x', {value}, 1)"
    )
    with pytest.raises(StoreGarbage, match="a row has no time: its column at is NULL or infinite"):
        await stand.store().open()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("column", "good", "bad"),
    [
        ("bigint", "12", ["x", "012", "12.0", "99999999999999999999", " 12"]),
        ("uuid", "6f9619ff-8b86-d011-b42d-00cf4fc964ff", ["nobody", "6F9619FF-8B86-D011-B42D-00CF4FC964FF"]),
        ("date", "2025-11-13", ["2025-02-31", "13.11.2025", "today"]),
        ("varchar(20)", "text", ["text ", "TEXT"]),
    ],
)
async def test_identities_that_are_no_text(make_postgres: MakePostgres, column: str, good: str, bad: list[str]) -> None:
    """What cannot stand in the column is not there, and does not keep others from being found."""
    stand = await make_postgres(f"CREATE TABLE event (id {column} UNIQUE, at timestamptz, whole bigint)")
    row = Row(good, START, {"whole": 1})
    store = await opened(stand)
    assert await store.write([row]) == 1
    assert plain(await store.fetch([Key(each, START) for each in (*bad, good, *bad)])) == plain([row])
    assert await store.fetch([Key(each, START) for each in bad]) == []
    assert await store.write([row]) == 0


@pytest.mark.asyncio
async def test_an_identity_of_several_columns(make_postgres: MakePostgres) -> None:
    stand = await make_postgres(
        f"CREATE TABLE event (id text, part integer, at timestamptz, {COLUMNS}, PRIMARY KEY (id, part))",
        identity=("id", "part"),
    )
    names = ['["a","1"]', '["a","2"]', '["a\\"b, c","1"]', '["ü","-5"]']
    rows = [Row(name, START + number * SECOND, {"whole": number}) for number, name in enumerate(names)]
    store = await opened(stand)
    assert await store.write(rows) == 4
    assert plain(await read(store)) == plain(rows)
    strange = ["a", '["a"]', '["a","x"]', '["a","1","1"]', "[1,2]"]
    keys = [Key(each, START) for each in (*strange, *names[1:])]
    assert plain(await store.fetch(keys)) == plain(rows[1:])
    with pytest.raises(StoreRefused, match="is not the name of 2 values"):
        await store.write([Row("a", START, {})])


@pytest.mark.asyncio
async def test_names_of_all_sorts(make_postgres: MakePostgres) -> None:
    """A table in a schema, names with quotes, dots and capitals, a view, and columns that are left out."""
    odd = 'it\'s "odd" %s'
    column = odd.replace('"', '""')
    stand = await make_postgres(
        "CREATE SCHEMA my",
        f'CREATE TABLE my."Event ""x"".y" ("{column}" text, "At" timestamptz, "a.b" bigint, other text)',
        f"""INSERT INTO my."Event ""x"".y" VALUES ('one', to_timestamp({START // SECOND}), 5, 'left out')""",
        'CREATE VIEW "a.view" AS SELECT * FROM my."Event ""x"".y"',
        "GRANT USAGE ON SCHEMA my TO reader",
        'GRANT SELECT ON my."Event ""x"".y", "a.view" TO reader',
    )
    for table in ('my.Event "x".y', "a.view"):
        stand.settings |= {"table": table, "identity": (odd,), "time": "At", "columns": ("a.b",)}
        store = await opened(stand)
        wanted = Row("one", START, {"a.b": 5})
        assert plain(await read(store)) == plain(await store.fetch([wanted.key])) == plain([wanted])
