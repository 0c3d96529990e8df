"""InfluxDB 2.x: the suite against the documented protocol, and what influxdb-client writes against VictoriaMetrics."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from config.stores import InfluxDB2Store as Settings
from consistency.rows import Key, Row, Span
from consistency.stores import flux_client, influxdb2, slices
from consistency.stores.errors import (
    StoreChanged,
    StoreDenied,
    StoreError,
    StoreGarbage,
    StoreMissing,
    StoreRefused,
    StoreUnreachable,
)
from consistency.stores.influxdb2 import InfluxDB2Store
from consistency.stores.points import line_of, series_text
from consistency.stores.protocol import Traits
from deploy.influxdb import InfluxDB
from tests.consistency.stores.annotated_csv import ORG, TOKEN, Influx2
from tests.consistency.stores.events_api import cut, hang, saying
from tests.consistency.stores.failing import Failing
from tests.consistency.stores.reading import Points, Reading
from tests.consistency.stores.scripted import scripted
from tests.consistency.stores.stand import SECOND, START, VALUES, Damage, events, opened, plain, read
from tests.consistency.stores.writing import Writing
from tests.harness.victoria import VictoriaMetrics

SPAN: Final = Span(START, START + 60 * SECOND)
_numbers = itertools.count()


class Influx2Stand:
    """See `stand.Stand`: a bucket of its own."""

    # The InfluxDB 1.x behind it says -0.0 as -0, and CSV takes carriage returns out.
    values: Sequence[tuple[str, Any]] = (
        *(each for each in VALUES if repr(each[1]) != "-0.0" and "\r" not in str(each[1])),
        ("note", ""),
        ("note", 'two\nlines, "quoted" ${r._value} $'),
    )
    secrets = (TOKEN,)
    damages: ClassVar[dict[str, Damage]] = {}

    def __init__(self, server: Influx2, precision: str = "ns") -> None:
        self.server = server
        self.bucket = f"bucket ${{{next(_numbers)}}}"
        self.traits = Traits(True, {"ns": 1, "s": 10**9}[precision], "", True)
        self._precision = precision
        self._stores: list[InfluxDB2Store] = []

    def identity(self, name: str) -> str:
        return series_text("event", {"name": f"{name}.", "of": "stand"})

    async def fill(self, rows: Sequence[Row]) -> None:
        await self.write(b"\n".join(line_of(row) for row in rows))

    async def write(self, lines: bytes) -> None:
        words = {"db": self.bucket, "precision": "ns"}
        text = lines.decode()

        async def parts() -> AsyncIterator[bytes]:
            yield text.encode()

        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.server.influx.url}/write", params=words, data=parts()) as answer,
        ):
            assert answer.status == 204, await answer.text()

    def store(self, timeout: float = 10.0, **changes: Any) -> InfluxDB2Store:
        values = {
            "url": self.server.url, "org": ORG, "bucket": self.bucket, "token": TOKEN,
            "precision": self._precision, "timeout": f"{timeout:g}s",
        }  # fmt: skip
        store = InfluxDB2Store("new", Settings.model_validate(values | changes))
        self._stores.append(store)
        return store

    async def create(self) -> None:
        await self.server.start()
        await self.server.influx.query(f'CREATE DATABASE "{self.bucket}"')

    async def close(self) -> None:
        for store in self._stores:
            await store.close()
        await self.server.stop()
        await self.server.influx.query(f'DROP DATABASE "{self.bucket}"')

    async def mend(self) -> None:
        self.server.broken = None


MakeStand = Callable[..., Awaitable[Influx2Stand]]


@pytest.fixture(scope="module")
def influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxDB]:
    server = InfluxDB("behind", tmp_path_factory.mktemp("influxdb"))
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())


@pytest_asyncio.fixture
async def make_stand(influx: InfluxDB) -> AsyncIterator[MakeStand]:
    stands = []

    async def make(precision: str = "ns") -> Influx2Stand:
        stand = Influx2Stand(Influx2(influx), precision)
        await stand.create()
        stands.append(stand)
        return stand

    yield make
    for stand in stands:
        await stand.close()


class TestInfluxDB2(Reading, Points, Writing):
    """To the nanosecond."""


class TestInSeconds(Points, Writing):
    """Its writers send whole seconds."""

    @pytest_asyncio.fixture
    async def make_stand(self, make_stand: MakeStand) -> MakeStand:
        return lambda: make_stand("s")


def table(*rows: str, kind: str = "double") -> bytes:
    """Annotated CSV of one series."""
    head = (
        f"#datatype,string,long,dateTime:RFC3339,{kind},string,string",
        "#group,false,false,false,false,true,true",
        "#default,_result,,,,,",
        ",result,table,_time,_value,_field,_measurement",
    )
    return "\r\n".join([*head, *rows, "", ""]).encode()


ROW: Final = ",,0,2025-11-13T02:13:20.000000001Z,1.5,v,m"
FAILED: Final = b"#datatype,string,string\r\n#group,true,true\r\n#default,,\r\n,error,reference\r\n,"


async def _endless(request: web.Request) -> web.StreamResponse:
    """As HTTP/1.0 has it: the end of the connection is the end of the answer."""
    assert request.transport is not None
    request.transport.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/csv\r\n\r\n" + table(ROW))
    request.transport.close()
    await asyncio.Event().wait()
    raise AssertionError("never")


def _broken(error: type[StoreError], words: str, handler: Any, timeout: float = 10.0) -> Damage:
    async def damage(stand: Influx2Stand) -> None:
        stand.server.broken = handler

    return Damage(error, (words,), damage, Influx2Stand.mend, ("open", "rows", "fetch"), timeout)


async def _stop(stand: Influx2Stand) -> None:
    await stand.server.stop()


async def _start(stand: Influx2Stand) -> None:
    await stand.server.start()


def _said(status: int, code: str, message: str, **headers: str) -> Any:
    return saying(f'{{"code":"{code}","message":"{message}"}}'.encode(), status, **headers)


DAMAGES: Final[dict[str, Damage]] = {
    "stopped": Damage(StoreUnreachable, ("no connection",), _stop, _start, ("open", "rows", "fetch")),
    "hanging": _broken(StoreUnreachable, "no answer within 0.2 s", hang, 0.2),
    "cut": _broken(StoreUnreachable, "in the middle of an answer", cut),
    "endless": _broken(StoreGarbage, "says nowhere where it ends", _endless),
    "unknown": _broken(StoreDenied, "401: unauthorized ***", _said(401, "unauthorized", f"unauthorized {TOKEN}")),
    "no bucket": _broken(StoreMissing, "could not find bucket", _said(404, "not found", "could not find bucket")),
    "not understood": _broken(StoreGarbage, "400: compilation failed", _said(400, "invalid", "compilation failed")),
    "too many": _broken(
        StoreUnreachable, "429: rate limit (it asks to wait 30 s)",
        _said(429, "too many requests", "rate limit", **{"Retry-After": "30"}),
    ),
    "unavailable": _broken(StoreUnreachable, "503: later", _said(503, "unavailable", "later", **{"Retry-After": "3"})),
    "redirecting": _broken(StoreGarbage, "redirects are not followed", saying(b"", 307, Location="/other")),
    "failing in the middle": _broken(
        StoreUnreachable, "failed to answer: engine is closed", saying(table(ROW) + FAILED + b"engine is closed,\r\n")
    ),
    "failing at once": _broken(StoreUnreachable, "failed to answer: oops", saying(FAILED + b"oops,897\r\n")),
    "failing without a text": _broken(StoreUnreachable, "an error without a text", saying(FAILED[:-1])),
    "failing without annotations": _broken(
        StoreUnreachable, "failed to answer: oops", saying(table(ROW) + b",error,reference\r\n,oops,\r\n")
    ),
    "several types": _broken(
        StoreChanged, "schema collision", saying(FAILED + b"schema collision: cannot group float and integer,\r\n")
    ),
}  # fmt: skip
"""Seen whatever is asked."""

ANSWERS: Final[dict[str, tuple[bytes, str]]] = {
    "a page": (b"<html>\n<body>", "no annotations"),
    "no annotations": (table(ROW).partition(b"#default,_result,,,,,\r\n")[2], "no annotations"),
    "half a row": (table(",,0,2025-11-13"), "4 cells under 7 columns"),
    "half a text": (table(',,0,2025-11-13T02:13:20Z,"half', kind="string").rstrip(), "not CSV"),
    "not UTF-8": (table(ROW).replace(b"1.5", b"\xff"), "not CSV"),
    "columns amiss": (table(ROW).replace(b"#default,_result,", b"#default,"), "differ in the number of columns"),
    "no time": (table(ROW).replace(b"_time", b"_when"), "no column '_time'"),
    "no number": (table(ROW.replace("1.5", "many")), "cannot be read"),
    "no value": (table(ROW.replace("1.5", "")), "cannot be read"),
    "NaN": (table(ROW.replace("1.5", "NaN")), "NaN is no value"),
    "no truth": (table(ROW.replace("1.5", "yes"), kind="boolean"), "no truth value"),
    "another type": (table(ROW, kind="duration"), "'duration', which no field has"),
    "another time": (table(ROW.replace("2025-11-13T", "noon ")), "cannot be read"),
}


class TestFailing(Failing):
    """What a server may say instead."""

    DAMAGES = DAMAGES


class TestBadTables(Failing):
    """Tables that are none."""

    DAMAGES: ClassVar = {
        name: _broken(StoreGarbage, words, saying(body))._replace(is_seen=("rows", "fetch"))
        for name, (body, words) in ANSWERS.items()
    }


@pytest_asyncio.fixture
async def stand(make_stand: MakeStand) -> Influx2Stand:
    return await make_stand()


async def store_of(stand: Influx2Stand, **changes: Any) -> InfluxDB2Store:
    store = stand.store(**changes)
    await store.open()
    return store


# what is read


@pytest.mark.asyncio
async def test_the_documented_example_and_all_types(stand: Influx2Stand) -> None:
    """Several tables, with and without new annotations between them; defaults; nanoseconds; exact integers."""
    store = await opened(stand)
    answer = b"""\
#group,false,false,true,true,false,false,true,true,true,true\r
#datatype,string,long,dateTime:RFC3339,dateTime:RFC3339,dateTime:RFC3339,double,string,string,string,string\r
#default,mean,,,,,,,,,\r
,result,table,_start,_stop,_time,_value,_field,_measurement,host,region\r
,,0,2022-12-31T05:41:24Z,2023-01-31T05:41:24.001Z,2023-01-01T00:52:00Z,15.43,mem,m,A,east\r
,,1,2022-12-31T05:41:24Z,2023-01-31T05:41:24.001Z,2023-01-01T00:52:00Z,5,mem,m,B,east\r
\r
#group,false,false,false,false,true,true,true\r
#datatype,string,long,dateTime:RFC3339Nano,long,string,string,string\r
#default,_result,,,,,,of all\r
,result,table,_time,_value,_field,_measurement,host\r
,,2,1970-01-01T00:00:00.000000005Z,-9223372036854775808,i,m,\r
,,3,1970-01-01T00:00:00.000000005Z,9007199254740993,j,m,\r
\r
#group,false,false,false,false,true,true\r
#datatype,string,long,dateTime:RFC3339,unsignedLong,string,string\r
#default,_result,,,,,\r
,result,table,_time,_value,_field,_measurement\r
,,4,1970-01-01T00:00:01+00:00,18446744073709551615,u,m\r
\r
#group,false,false,false,false,true,true\r
#datatype,string,long,dateTime:RFC3339,boolean,string,string\r
#default,_result,,,,,\r
,result,table,_time,_value,_field,_measurement\r
,,5,1970-01-01T00:00:01Z,true,b,m\r
\r
#group,false,false,false,false,true,true\r
#datatype,string,long,dateTime:RFC3339,string,string,string\r
#default,_result,,,,,\r
,result,table,_time,_value,_field,_measurement\r
,,6,1970-01-01T00:00:01Z,,empty,m\r
,,7,1970-01-01T00:00:01Z,"a ""b"",
c",s,m\r
\r
"""
    stand.server.broken = saying(answer)
    mem = 1672534320 * SECOND
    assert plain(await read(store, SPAN)) == plain(
        [
            Row("m,host=of\\ all", 5, {"i": -(2**63), "j": 9007199254740993}),
            Row("m", SECOND, {"u": 2**64 - 1, "b": True, "empty": "", "s": 'a "b",\nc'}),
            Row("m,host=A,region=east", mem, {"mem": 15.43}),
            Row("m,host=B,region=east", mem, {"mem": 5.0}),
        ]
    )


@pytest.mark.asyncio
async def test_some_measurements_and_what_is_not_there(stand: Influx2Stand) -> None:
    await stand.write(b"a v=1 5\nb v=2 5\nc,x=y v=3i 6")
    some = await store_of(stand, measurements=("a", "c"))
    rows = [Row("a", 5, {"v": 1.0}), Row("c,x=y", 6, {"v": 3})]
    assert plain(await read(some)) == plain(rows)
    assert plain(await some.fetch([row.key for row in rows] + [Key("b", 5)])) == plain(rows)
    assert await read(some, series=frozenset({"b"})) == []
    assert plain(await read(some, series=frozenset({"b", "a"}))) == plain(rows[:1])
    cases: list[tuple[dict[str, Any], type[StoreError], str]] = [
        ({"bucket": "nowhere"}, StoreMissing, 'could not find bucket "nowhere"'),
        ({"org": "nobody"}, StoreMissing, 'organization name "nobody" not found'),
        ({"measurements": ("a", "nothing")}, StoreMissing, "no measurement 'nothing'"),
        ({"url": f"{stand.server.url}/nowhere"}, StoreMissing, "status 404"),
        ({"token": "another one"}, StoreDenied, "status 401: unauthorized access"),
        ({"token": None, "token_file": "/nowhere/token"}, StoreDenied, "cannot read the file"),
        ({"token": None}, StoreDenied, "status 401"),
    ]
    for changes, error, words in cases:
        with pytest.raises(error, match=words):
            await store_of(stand, **changes)


@pytest.mark.asyncio
async def test_a_token_from_a_file(stand: Influx2Stand, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    rows = events(stand, 2)
    await stand.fill(rows)
    assert plain(await read(await store_of(stand, token=None, token_file=str(file)))) == plain(rows)


@pytest.mark.asyncio
async def test_slices_are_cut_by_rows_and_by_bytes(stand: Influx2Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        Row(f"event,name={name}", at, {"whole": at % 1000, "note": "x" * 100})
        for name in range(10)
        for at in (*range(START, START + 12), START + 90 * SECOND)
    ]
    store = await opened(stand, rows)
    for module, name, value in ((influxdb2, "MAX_ROWS", 40), (flux_client, "MAX_ANSWER", 8000)):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            patch.setattr(slices, "CHUNK", 15)
            chunks = [chunk async for chunk in store.rows(Span(START - 5, START + 200 * SECOND))]
        assert max(len(chunk) for chunk in chunks) <= 15
        found = [row for chunk in chunks for row in chunk]
        assert [row.at for row in found] == sorted(row.at for row in rows)
        assert plain(found) == plain(rows)
    monkeypatch.setattr(flux_client, "MAX_ANSWER", 400)
    with pytest.raises(StoreGarbage, match="for an instant or few keys: name measurements"):
        await read(store)
    with pytest.raises(StoreGarbage, match="for an instant or few keys"):
        await store.fetch([row.key for row in rows])


@pytest.mark.asyncio
async def test_more_series_than_one_question_names(stand: Influx2Stand) -> None:
    rows = events(stand, 300)
    store = await opened(stand, rows)
    for count in (99, 100, 101, 250):
        wanted = frozenset(row.identity for row in rows[:count])
        assert plain(await read(store, series=wanted)) == plain(rows[:count])
        assert (stand.server.questions[-1].count("event 0") > 0) == (count <= 100)


@pytest.mark.asyncio
async def test_points_of_a_step_that_is_coarser_than_the_precision(stand: Influx2Stand) -> None:
    rows = [Row("m", START + number * SECOND // 4, {"v": number}) for number in range(-2, 10)]
    store = await opened(stand, rows)
    key = rows[3]._replace(at=START + SECOND - 1).key
    assert plain(await store.fetch([key], SECOND)) == plain(rows[2:6])
    assert await store.fetch([key]) == []


# what is written


@pytest.mark.asyncio
async def test_a_partial_write_is_refused_in_influxdbs_own_words_with_what_is_stored(stand: Influx2Stand) -> None:
    await stand.write(f"m,n=1 v=1 {START}".encode())
    store = await opened(stand)
    rows = [Row("m,n=2", START + number, {"v": "text" if number % 3 == 0 else 1.5}) for number in range(9)]
    with pytest.raises(
        StoreRefused, match=r"partial write: field type conflict.* already exists as type float"
    ) as caught:
        await store.write(rows)
    assert caught.value.written == 6
    assert len(await read(store)) == 7
    with pytest.raises(StoreRefused, match="has no fields") as caught:
        await store.write([Row("m", 5, {})])
    assert caught.value.written == 0


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("handler", "error", "words"),
    [
        (_said(400, "invalid", "unable to parse"), StoreRefused, "unable to parse"),
        (_said(413, "request too large", "too large"), StoreRefused, "too large"),
        (_said(422, "unprocessable entity", "no"), StoreRefused, "no"),
        (_said(401, "unauthorized", "no"), StoreDenied, "status 401: no"),
        (_said(403, "forbidden", "no write"), StoreDenied, "status 403: no write"),
        (_said(404, "not found", "bucket"), StoreMissing, "status 404: bucket"),
        (
            _said(429, "too many requests", "slow", **{"Retry-After": "9"}),
            StoreUnreachable,
            r"slow \(it asks to wait 9 s",
        ),
        (_said(503, "unavailable", "later"), StoreUnreachable, "status 503: later"),
        (hang, StoreUnreachable, "no answer within 0.2 s"),
        (cut, StoreUnreachable, "in the middle of an answer"),
    ],
)
async def test_what_a_write_may_meet(
    stand: Influx2Stand, monkeypatch: pytest.MonkeyPatch, handler: Any, error: type[StoreError], words: str
) -> None:
    async def nothing(keys: Sequence[Key], step: int = 1) -> list[Row]:
        return []

    store = stand.store(0.2)
    await store.open()
    monkeypatch.setattr(store, "fetch", nothing)
    stand.server.broken = handler
    with pytest.raises(error, match=words):
        await store.write(events(stand, 2))


@pytest.mark.asyncio
async def test_what_influxdb_client_sends_is_what_victoriametrics_takes(stand: Influx2Stand, tmp_path: Path) -> None:
    victoria = VictoriaMetrics(tmp_path)
    await victoria.start()
    try:
        stand.server.write_elsewhere = victoria.url
        rows = [
            Row("weather,city=Linz,room=living\\ room", START, {"temperature": 21.5, "humidity": 40, "ok": True}),
            Row("weather,city=Linz,room=living\\ room", START + SECOND, {"temperature": 3.0}),
            Row("größe,ort=Wien\\,\\ 1.", START, {"wert": 2**53}),
        ]
        store = await opened(stand)
        assert await store.write(rows) == 3
        assert await store.write(rows) == 0
        (words, body) = stand.server.writes[0]
        assert words == {"org": ORG, "bucket": stand.bucket, "precision": "ns"}
        assert body.splitlines()[0].endswith(b"temperature=21.5,humidity=40i,ok=true 1763000000000000000")
        at = START // 10**6
        labels = (("city", "Linz"), ("room", "living room"))
        assert await victoria.samples() == {
            tuple(sorted({"__name__": "weather_temperature", **dict(labels)}.items())): [
                (at, 21.5), (at + 1000, 3),
            ],
            tuple(sorted({"__name__": "weather_humidity", **dict(labels)}.items())): [(at, 40)],
            tuple(sorted({"__name__": "weather_ok", **dict(labels)}.items())): [(at, 1)],
            tuple(sorted({"__name__": "größe_wert", "ort": "Wien, 1."}.items())): [(at, 2**53)],
        }  # fmt: skip
    finally:
        await victoria.stop()


@pytest.mark.asyncio
async def test_what_was_not_opened_says_so() -> None:
    async with scripted(b"") as server:
        settings = {"url": server.url, "org": ORG, "bucket": "b", "token": TOKEN}
        store = InfluxDB2Store("new", Settings.model_validate(settings))
        with pytest.raises(StoreUnreachable, match="not opened"):
            await read(store, SPAN)
        with pytest.raises(StoreUnreachable, match="no connection: it was closed"):
            await store.open()
        await store.close()
