"""InfluxDB 1.x: the suite and what is special about it, against Debian's InfluxDB 1.6.7.

What that one says only in ways that cannot be brought about at will comes from a server that says it word by word.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
import pytest_asyncio

from config.stores import InfluxDB1Store as Settings
from consistency.rows import Row, Span
from consistency.stores import influxdb1, slices
from consistency.stores.errors import (
    StoreChanged,
    StoreDenied,
    StoreError,
    StoreGarbage,
    StoreMissing,
    StoreRefused,
    StoreUnreachable,
)
from consistency.stores.influxdb1 import InfluxDB1Store
from consistency.stores.points import series_text
from consistency.stores.protocol import Segment
from deploy.influxdb import InfluxDB
from tests.consistency.stores.failing import Failing
from tests.consistency.stores.fingerprinting import Fingerprinting, differing
from tests.consistency.stores.influx_stand import DAMAGES, DAMAGES_WITH_USERS, PASSWORD, USER, InfluxStand
from tests.consistency.stores.reading import Points, Reading
from tests.consistency.stores.scripted import answer, cut, scripted
from tests.consistency.stores.stand import EVER, SECOND, START, events, opened, plain, read
from tests.consistency.stores.writing import Writing

MAX_ROWS: Final = 100
"""What the server cuts its answers at, unless they are chunked."""
SPAN: Final = Span(START, START + 60 * SECOND)
MakeStand = Callable[..., Awaitable[InfluxStand]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxDB]:
    """Open to all."""
    influx = InfluxDB("open", tmp_path_factory.mktemp("influxdb"), max_rows=MAX_ROWS)
    asyncio.run(influx.start())
    yield influx
    asyncio.run(influx.stop())


@pytest.fixture(scope="module")
def locked_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxDB]:
    """Users alone get in."""

    async def start() -> None:
        await influx.start()
        await influx.prepare()
        await influx.query(f"CREATE USER {USER} WITH PASSWORD '{PASSWORD.replace(chr(39), chr(92) + chr(39))}'")

    influx = InfluxDB("locked", tmp_path_factory.mktemp("influxdb"), "of the administrator")
    asyncio.run(start())
    yield influx
    asyncio.run(influx.stop())


@pytest_asyncio.fixture
async def make_stand(server: InfluxDB) -> AsyncIterator[MakeStand]:
    stands = []

    async def make(precision: str = "ns") -> InfluxStand:
        stand = InfluxStand(server, precision)
        await stand.create()
        stands.append(stand)
        return stand

    yield make
    for stand in stands:
        await stand.close()
        await stand.drop()


class TestInfluxDB1(Reading, Points, Fingerprinting, Writing):
    """To the nanosecond."""


class TestInSeconds(Reading, Points, Fingerprinting, Writing):
    """Its writers send whole seconds."""

    @pytest_asyncio.fixture
    async def make_stand(self, make_stand: MakeStand) -> MakeStand:
        async def make() -> InfluxStand:
            return await make_stand("s")

        return make


class TestFailing(Failing):
    """Open to all."""

    DAMAGES = DAMAGES


class TestFailingWithUsers(Failing):
    """With a user that may read one database."""

    DAMAGES = DAMAGES_WITH_USERS

    @pytest_asyncio.fixture
    async def make_stand(self, locked_server: InfluxDB) -> AsyncIterator[MakeStand]:
        stands = []

        async def make() -> InfluxStand:
            stand = InfluxStand(locked_server, has_user=True)
            await stand.create()
            stands.append(stand)
            return stand

        yield make
        for stand in stands:
            await stand.close()
            await stand.drop()


@pytest_asyncio.fixture
async def stand(make_stand: MakeStand) -> InfluxStand:
    return await make_stand()


async def store_of(stand: InfluxStand, **changes: Any) -> InfluxDB1Store:
    store = stand.store(**changes)
    await store.open()
    return store


# what is read


@pytest.mark.asyncio
async def test_a_server_that_cuts_its_answers_is_read_in_full(stand: InfluxStand) -> None:
    identity = series_text("event", {})
    rows = [Row(identity, START + number, {"whole": number}) for number in range(3 * MAX_ROWS)]
    store = await opened(stand, rows)
    (cut_short,) = await stand.query("SELECT * FROM event")
    assert (len(cut_short["values"]), cut_short["partial"]) == (MAX_ROWS, True)
    assert plain(await read(store)) == plain(rows)


@pytest.mark.asyncio
async def test_numbers_keep_their_type_whatever_they_look_like(stand: InfluxStand) -> None:
    await stand.write(b"m,kind=x a=5,b=5i,c=1e20,d=9007199254740993i,e=0.1 5\nm,kind=x a=6.5 6")
    (first, second) = await read(await opened(stand))
    values = {name: (type(value), value) for name, value in first.fields.items()}
    assert values == {
        "a": (float, 5.0),
        "b": (int, 5),
        "c": (float, 1e20),
        "d": (int, 9007199254740993),
        "e": (float, 0.1),
    }
    assert second == Row("m,kind=x", 6, {"a": 6.5})


@pytest.mark.asyncio
async def test_names_of_every_sort(stand: InfluxStand) -> None:
    """A field named like a tag, like a tag of another series, like a column of ours; reserved words and quotes."""
    lines = [
        b'one,name=tag name="field",name_1=1 5',
        b'one,other=tag name="a" 5',
        b'one name="b",time_1=2 5',
        b"select,from=where group=1,by=2i 5",
        rb'quo"te\,s\ and\ so,a\'b\,\ \=c=d\'e"f\,\ \=g fi"e\,\ \=ld=1 5'.replace(rb"\'", b"'"),
        "Größe,ä=°C ö=1.5 5".encode(),
        rb"back\slash,c\d=e\f g\h=1 5",
    ]
    await stand.write(b"\n".join(lines))
    store = await opened(stand)
    found = await read(store)
    assert plain(found) == plain(
        [
            Row("one,name=tag", 5, {"name": "field", "name_1": 1.0}),
            Row("one,other=tag", 5, {"name": "a"}),
            Row("one", 5, {"name": "b", "time_1": 2.0}),
            Row("select,from=where", 5, {"group": 1.0, "by": 2}),
            Row(r"""quo"te\,s\ and\ so,a'b\,\ \=c=d'e"f\,\ \=g""", 5, {'fi"e, =ld': 1.0}),
            Row("Größe,ä=°C", 5, {"ö": 1.5}),
            Row(r"back\slash,c\d=e\f", 5, {r"g\h": 1.0}),
        ]
    )
    for row in found:
        assert plain(await store.fetch([row.key])) == plain([row]), "with the tags of others empty"
        assert plain(await read(store, series=frozenset({row.identity}))) == plain([row])
    said = await store.fingerprints(Span(0, 10), 10)
    assert {segment.series for segment in said.segments} == {row.identity for row in found}
    assert said.unread == {"one", "one,name=tag", "one,other=tag"}


@pytest.mark.asyncio
async def test_some_measurements_and_a_retention_policy(stand: InfluxStand) -> None:
    await stand.query(f'CREATE RETENTION POLICY "long time" ON "{stand.database}" DURATION INF REPLICATION 1')
    await stand.write(b"a v=1 5\nb v=2 5\nc v=3 5")
    await stand.write(b'a v="of another type" 5\nonly v=4 6', "long time")
    some = await store_of(stand, measurements=("a", "c"))
    assert [(row.identity, row.fields) for row in await read(some)] == [("a", {"v": 1.0}), ("c", {"v": 3.0})]
    assert await some.fetch([row.key for row in await read(await store_of(stand)) if row.identity == "b"]) == []
    other = await store_of(stand, retention_policy="long time")
    rows = [Row("a", 5, {"v": "of another type"}), Row("only", 6, {"v": 4.0})]
    assert plain(await read(other)) == plain(rows)
    assert plain(await other.fetch([row.key for row in rows])) == plain(rows)
    assert {segment.series for segment in (await other.fingerprints(Span(0, 10), 10)).segments} == {"a", "only"}
    new = Row("only", 7, {"v": 5.0})
    assert await other.write([*rows, new]) == 1
    assert plain(await read(other)) == plain([*rows, new])
    assert len(await read(await store_of(stand))) == 3


@pytest.mark.parametrize(
    ("lasts", "seconds"), [("0s", 0), ("168h0m0s", 604_800), ("1h30m5s", 5405), ("1m0.5s", 60.5), ("2ms", 0.002)]
)
def test_durations_as_influxdb_writes_them(lasts: str, seconds: float) -> None:
    assert influxdb1.seconds_of(lasts) == pytest.approx(seconds)


@pytest.mark.asyncio
async def test_how_long_it_keeps_what_is_in_it(stand: InfluxStand) -> None:
    await stand.query(f'CREATE RETENTION POLICY "week" ON "{stand.database}" DURATION 7d REPLICATION 1')
    await stand.write(b"a v=1 5")
    assert await (await store_of(stand)).keeps() is None, "for ever"
    assert await (await store_of(stand, retention_policy="week")).keeps() == 604_800


@pytest.mark.asyncio
async def test_what_the_configuration_names_and_is_not_there(stand: InfluxStand) -> None:
    await stand.write(b"a v=1 5")
    cases: list[tuple[dict[str, Any], type[StoreError], str]] = [
        ({"database": "nowhere"}, StoreMissing, "database not found: nowhere"),
        ({"retention_policy": "nowhere"}, StoreMissing, "no retention policy 'nowhere', it has 'autogen'"),
        ({"measurements": ("a", "nothing")}, StoreMissing, "no measurement 'nothing'"),
        ({"url": f"{stand.server.url}/nowhere"}, StoreMissing, "status 404"),
        ({"username": USER, "password_file": "/nowhere/password"}, StoreDenied, "cannot read the file"),
    ]
    for changes, error, words in cases:
        with pytest.raises(error, match=words):
            await store_of(stand, **changes)


@pytest.mark.asyncio
async def test_a_password_from_a_file(locked_server: InfluxDB, tmp_path: Path) -> None:
    stand = InfluxStand(locked_server, has_user=True)
    await stand.create()
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\n")
    rows = events(stand, 2)
    await stand.fill(rows)
    store = await store_of(stand, password=None, password_file=str(file))
    assert plain(await read(store)) == plain(rows)
    with pytest.raises(StoreDenied, match="not authorized") as caught:
        await store.write(events(stand, 3))
    assert PASSWORD not in str(caught.value)
    await stand.close()
    await stand.drop()


@pytest.mark.asyncio
async def test_slices_are_cut_until_they_hold_little_enough(
    stand: InfluxStand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten series, dense and sparse by turns, and one instant that holds more than a slice may."""
    monkeypatch.setattr(influxdb1, "MAX_ROWS", 40)
    monkeypatch.setattr(slices, "CHUNK", 15)
    monkeypatch.setattr(influxdb1, "CHUNK", 15)
    rows = [
        Row(f"event,name={name}", at, {"whole": at % 1000})
        for name in range(10)
        for at in (*range(START, START + 20), START + 90 * SECOND, START + 10**6 * SECOND)
    ]
    rows += [Row(f"event,name=same{name}", START + 100 * SECOND, {"whole": name}) for name in range(100)]
    store = await opened(stand, rows)
    chunks = [chunk async for chunk in store.rows(EVER)]
    assert max(len(chunk) for chunk in chunks) <= 15
    found = [row for chunk in chunks for row in chunk]
    assert [row.at for row in found] == sorted(row.at for row in rows)
    assert plain(found) == plain(rows)


@pytest.mark.asyncio
async def test_more_series_than_one_question_names(stand: InfluxStand) -> None:
    rows = events(stand, 500)
    store = await opened(stand, rows)
    for count in (99, 100, 101, 450):
        wanted = frozenset(row.identity for row in rows[:count])
        assert plain(await read(store, series=wanted)) == plain(rows[:count])
    same_time = [row._replace(at=START + 3600 * SECOND) for row in rows]
    await stand.fill(same_time)
    assert plain(await store.fetch([row.key for row in same_time[:450]])) == plain(same_time[:450])


@pytest.mark.asyncio
async def test_points_of_a_step_that_is_coarser_than_the_precision(stand: InfluxStand) -> None:
    """The other side's writers send coarser times than those of this one."""
    rows = [Row("m", START + number * SECOND // 4, {"v": number}) for number in range(-2, 10)]
    store = await opened(stand, rows)
    key = rows[3]._replace(at=START + SECOND - 1).key
    assert plain(await store.fetch([key], SECOND)) == plain(rows[2:6])
    assert await store.fetch([key]) == []


# fingerprints


@pytest.mark.asyncio
async def test_figures_are_those_of_the_points(stand: InfluxStand) -> None:
    rows = [Row("m,a=b", START + 7 + number, {"i": 2**60 + number, "f": number / 4}) for number in range(10)]
    store = await opened(stand, rows)
    said = await store.fingerprints(Span(START + 7, START + 17), 5)
    assert said.unread == frozenset()
    assert set(said.segments) == {Segment("m,a=b", START + 7), Segment("m,a=b", START + 12)}
    first = said.segments[Segment("m,a=b", START + 7)]
    assert first.rows == 5
    assert first.figures == {
        "i int count": 5, "i int sum": 5 * 2**60 + 10, "i int min": 2**60, "i int max": 2**60 + 4,
        "f float count": 5, "f float sum": 2.5, "f float min": 0.0, "f float max": 1.0,
    }  # fmt: skip


@pytest.mark.asyncio
async def test_points_with_different_fields_are_unread_for_values_are_counted_not_points(stand: InfluxStand) -> None:
    await stand.write(
        b"m,n=1 a=1,b=1 5\nm,n=1 a=2,b=2 6\nm,n=2 a=1 5\nm,n=2 b=1 6\nm,n=2 a=1 7\nm,n=3 a=1 5\nm,n=3 b=1 15"
    )
    said = await (await opened(stand)).fingerprints(Span(0, 20), 10)
    assert said.unread == {"m,n=2"}
    assert said.segments[Segment("m,n=1", 0)].rows == 2
    assert said.segments[Segment("m,n=3", 0)].rows == said.segments[Segment("m,n=3", 10)].rows == 1


@pytest.mark.asyncio
async def test_more_fields_and_steps_than_one_question_has(make_stand: MakeStand) -> None:
    rows = [Row("wide", at * SECOND, {f"f{number}": at * number for number in range(60)}) for at in range(0, 3000, 7)]
    stand, other = await make_stand(), await make_stand()
    changed = rows.copy()
    changed[333] = rows[333]._replace(fields=rows[333].fields | {"f51": 0})
    old, new = await opened(stand, rows), await opened(other, changed)
    span = Span(3 * SECOND, 3000 * SECOND)
    first, second = await old.fingerprints(span, SECOND), await new.fingerprints(span, SECOND)
    assert len(first.segments) == len(rows) - 1
    assert all(len(each.figures) == 240 for each in first.segments.values())
    assert differing(first, second) == {Segment("wide", rows[333].at)}


# what is written


@pytest.mark.asyncio
async def test_a_partial_write_is_refused_in_influxdbs_own_words_with_what_is_stored(stand: InfluxStand) -> None:
    await stand.write(f"m,n=1 v=1 {START}".encode())
    store = await opened(stand)
    rows = [Row("m,n=2", START + number, {"v": "text" if number % 3 == 0 else 1.5}) for number in range(9)]
    with pytest.raises(
        StoreRefused, match=r"partial write: field type conflict.* already exists as type float"
    ) as caught:
        await store.write(rows)
    assert caught.value.written == 6
    assert len(await read(store)) == 7


@pytest.mark.asyncio
async def test_a_refused_write_may_leave_its_type_behind(stand: InfluxStand) -> None:
    """Of points of two types it takes none where a shard has nothing yet, does not say how many, and keeps a type."""
    await stand.write(f"m v=1 {START}".encode())
    store = await opened(stand)
    later = START + 10**8 * SECOND
    with pytest.raises(StoreRefused, match="field type conflict") as caught:
        await store.write([Row("m", later, {"v": "text"}), Row("m", later + 1, {"v": 1.5})])
    assert caught.value.written is None
    with pytest.raises(StoreChanged, match="field 'v' of measurement 'm' is float in some shards and string in others"):
        await read(store)
    assert [series["values"] for series in await stand.query("SELECT v FROM m")] == [[[START, 1]]]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("row", "words"),
    [
        (Row("m", 5, {}), "has no fields"),
        (Row("m", 5, {"v": b"bytes"}), "'v' is of a kind or size that no field can hold: bytes"),
        (Row("m", 5, {"v": 2**63}), "no field can hold: int"),
        (Row("m", 5, {"v": float("nan")}), "no field can hold: float"),
        (Row("m", 5, {"v": None}), "no field can hold: NoneType"),
        (Row("m", 2**63, {"v": 1}), "is out of what InfluxDB has"),
        (Row("#m", 5, {"v": 1}), "cannot be written"),
        (Row("m,a=b\\", 5, {"v": 1}), "cannot be written"),
        (Row("m,a=b\nc v=1", 5, {"v": 1}), "is not the text of a series"),
        (Row("m,a=b\nc", 5, {"v": 1}), "cannot be written"),
        (Row("m", 5, {"a\nb": 1}), "cannot be written"),
        (Row("", 5, {"v": 1}), "is not the text of a series"),
    ],
)
async def test_what_no_point_can_hold_is_refused_before_anything_is_written(
    stand: InfluxStand, row: Row, words: str
) -> None:
    store = await opened(stand)
    with pytest.raises(StoreRefused, match=words) as caught:
        await store.write([Row("good", 5, {"v": 1}), row])
    assert caught.value.written == 0
    assert await read(store) == []


@pytest.mark.asyncio
async def test_times_in_one_step_of_precision_are_one_key(make_stand: MakeStand) -> None:
    stand = await make_stand("s")
    store = await opened(stand, [Row("m", START + 5, {"v": 1})])
    rows = [Row("m", START, {"v": 2}), Row("m", START + SECOND, {"v": 3}), Row("m", START + SECOND + 1, {"v": 4})]
    assert await store.write(rows) == 1
    assert plain(await read(store)) == plain([Row("m", START + 5, {"v": 1}), rows[1]])


# what a server may say


def line(number: int, **series: Any) -> bytes:
    """One line of an answer that is the end of a question."""
    return orjson.dumps({"results": [{"statement_id": number, "series": [series]}]}) + b"\n"


POLICIES: Final = line(0, columns=["name"], values=[["autogen"]])
FIELDS: Final = line(0, name="m", columns=["fieldKey", "fieldType"], values=[["v", "float"]])
TAGS: Final = line(1, name="m", columns=["tagKey"], values=[["a"]])
OPEN: Final = (answer(POLICIES), answer(FIELDS + TAGS))


def part(*values: list[Any], partial: bool = False, cut_off: bool = False) -> bytes:
    """One line of an answer for rows."""
    series = {"name": "m", "tags": {"a": "b"}, "columns": ["time", "v"], "values": values} | (
        {"partial": True} if cut_off else {}
    )
    result = {"statement_id": 0, "series": [series]} | ({"partial": True} if partial else {})
    return orjson.dumps({"results": [result]}) + b"\n"


ANSWERS: Final[dict[str, tuple[bytes, type[StoreError], str]]] = {
    "an error in the middle": (
        answer(part([START, 1], partial=True) + b'{"results":[{"statement_id":0,"error":"engine is closed"}]}\n'),
        StoreUnreachable, "failed to answer: engine is closed",
    ),
    "an error of the whole in the middle": (
        answer(part([START, 1], partial=True) + b'{"error":"timeout"}\n'), StoreUnreachable, "timeout",
    ),
    "cut short by the server": (answer(part([START, 1], cut_off=True)), StoreGarbage, "max-row-limit"),
    "ended before its end": (answer(part([START, 1], partial=True)), StoreUnreachable, "ended early, with 0 of 1"),
    "nothing at all": (answer(b""), StoreUnreachable, "ended early"),
    "cut connection": (cut(part([START, 1], partial=True)), StoreUnreachable, "in the middle of an answer"),
    "cut behind a whole line": (cut(part([START, 1])), StoreUnreachable, "in the middle of an answer"),
    "closed without a word": (b"", StoreUnreachable, "no connection"),
    "half a line": (answer(part([START, 1])[:-30]), StoreGarbage, "not JSON"),
    "a page of something else": (answer(b"<html>hello</html>"), StoreGarbage, "not JSON: <html>hello"),
    "JSON of something else": (answer(b'{"data":[]}'), StoreGarbage, "none of InfluxDB 1.x"),
    "not HTTP": (b"220 mail ready\r\n\r\n", StoreGarbage, "not HTTP"),
    "a redirect": (answer(b"", "307 Temporary Redirect", "Location: http://a/"), StoreGarbage, "not followed"),
    "too many": (answer(b"slow", "429 Too Many Requests", "Retry-After: 7"), StoreUnreachable, "asks to wait 7 s"),
    "its own failure": (answer(b'{"error":"down"}', "503 Service Unavailable"), StoreUnreachable, "status 503: down"),
    "forbidden": (answer(b'{"error":"no"}', "403 Forbidden"), StoreDenied, "status 403: no"),
    "not understood": (answer(b'{"error":"parsing"}', "400 Bad"), StoreGarbage, "400: parsing"),
}  # fmt: skip


def settings_of(url: str, **changes: Any) -> Settings:
    values = {"url": url, "database": "home", "timeout": "0.5s"}
    return Settings.model_validate(values | changes)


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ANSWERS)
async def test_what_is_no_whole_answer_is_never_taken_for_one(name: str) -> None:
    said, error, words = ANSWERS[name]
    async with scripted(*OPEN, OPEN[1], said) as server:
        store = InfluxDB1Store("old", settings_of(server.url))
        await store.open()
        with pytest.raises(error, match=words):
            await read(store, SPAN)
        await store.close()


@pytest.mark.asyncio
async def test_a_whole_answer_in_parts() -> None:
    lines = part([START, 1], partial=True) + part([START + 1, 2], [START + 2, None])
    async with scripted(*OPEN, OPEN[1], answer(lines)) as server:
        store = InfluxDB1Store("old", settings_of(server.url))
        await store.open()
        assert await read(store, SPAN) == [Row("m,a=b", START, {"v": 1.0}), Row("m,a=b", START + 1, {"v": 2.0})]
        await store.close()


@pytest.mark.asyncio
async def test_a_type_that_changed_since_it_was_asked_for() -> None:
    async with scripted(*OPEN, OPEN[1], answer(part([START, "text"]))) as server:
        store = InfluxDB1Store("old", settings_of(server.url))
        await store.open()
        with pytest.raises(StoreError, match="field 'v' of measurement 'm' was float and has another type now"):
            await read(store, SPAN)
        await store.close()


@pytest.mark.asyncio
async def test_a_credential_is_in_a_header_alone_and_in_no_text() -> None:
    secret = "of the checker"
    async with scripted(answer(f'{{"error":"who is checker:{secret}?"}}'.encode(), "401 Unauthorized")) as server:
        store = InfluxDB1Store("old", settings_of(server.url, username="checker", password=secret))
        with pytest.raises(StoreDenied, match=r"who is checker:\*\*\*\?") as caught:
            await store.open()
        assert secret not in str(caught.value)
        (head, body) = server.requests[0]
        assert "Authorization: Basic " in head
        assert secret not in head + body.decode()
        await store.close()


@pytest.mark.asyncio
async def test_what_was_not_opened_says_so() -> None:
    store = InfluxDB1Store("old", settings_of("http://127.0.0.1:1"))
    with pytest.raises(StoreUnreachable, match="not opened"):
        await read(store, SPAN)
    with pytest.raises(StoreUnreachable, match="no connection: Connect"):
        await store.open()
    await store.close()
