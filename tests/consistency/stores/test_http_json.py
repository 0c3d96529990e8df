"""JSON APIs: the suite against one in memory, in both ways of paging, and what is special about them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import orjson
import pytest
import pytest_asyncio

from config.stores import HttpStore as Settings
from consistency.rows import Key, Row, Span
from consistency.stores.errors import (
    StoreDenied,
    StoreError,
    StoreGarbage,
    StoreMissing,
    StoreRefused,
    StoreUnreachable,
)
from consistency.stores.http_json import HttpStore
from consistency.stores.protocol import Traits
from consistency.stores.table import format_time
from tests.consistency.stores.events_api import TOKEN, EventsApi, cut, hang, saying
from tests.consistency.stores.failing import Failing
from tests.consistency.stores.reading import Reading, RowsOfOneIdentity
from tests.consistency.stores.scripted import answer, scripted
from tests.consistency.stores.stand import EVER, SECOND, START, VALUES, Damage, events, opened, plain, read
from tests.consistency.stores.writing import Writing

SPAN: Final = Span(START, START + 60 * SECOND)


class ApiStand:
    """See `stand.Stand`."""

    traits = Traits(is_writable=True)
    values: Sequence[tuple[str, Any]] = (
        *VALUES,
        ("whole", 2**64),
        ("whole", -(10**30)),
        ("note", ""),
        ("nested", {"list": [1, 1.0, None, {"deep": "°C"}], "null": None, "": 0}),
        ("list", []),
    )
    secrets = (TOKEN,)
    damages: ClassVar[Mapping[str, Damage]] = {}

    def __init__(self, *, is_ordered: bool) -> None:
        self.api = EventsApi(is_ordered=is_ordered)
        self._settings: dict[str, Any] = {
            "url": f"{self.api.url}/events?from={{start}}&to={{end}}&limit={{limit}}",
            "event_url": f"{self.api.url}/events?id={{identity}}",
            "write_url": f"{self.api.url}/events",
            "events": "/data/events",
            "identity": ("/id",),
            "time": "/at",
            "fields": "/data",
            "authorization": f"Bearer {TOKEN}",
        }
        if not is_ordered:
            self._settings["url"] += "&after={cursor}"
            self._settings["cursor"] = "/data/next"
        self._stores: list[HttpStore] = []

    def identity(self, name: str) -> str:
        return name

    async def fill(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self.api.add({"id": row.identity, "at": format_time(row.at, offset="Z"), "data": row.fields})

    def store(self, timeout: float = 10.0, **changes: Any) -> HttpStore:
        values = {"timeout": f"{timeout:g}s"} | self._settings | changes
        store = HttpStore("new", Settings.model_validate(values))
        self._stores.append(store)
        return store

    async def close(self) -> None:
        for store in self._stores:
            await store.close()
        await self.api.stop()

    async def mend(self) -> None:
        self.api.broken = None


MakeStand = Callable[..., Awaitable[ApiStand]]


@pytest_asyncio.fixture
async def make_any() -> AsyncIterator[MakeStand]:
    stands = []

    async def make(*, is_ordered: bool) -> ApiStand:
        stand = ApiStand(is_ordered=is_ordered)
        await stand.api.start()
        stands.append(stand)
        return stand

    yield make
    for stand in stands:
        await stand.close()


class TestByCursor(Reading, RowsOfOneIdentity, Writing):
    """Pages in the order that events came in."""

    @pytest_asyncio.fixture
    async def make_stand(self, make_any: MakeStand) -> MakeStand:
        return lambda: make_any(is_ordered=False)


class TestByTime(Reading, RowsOfOneIdentity, Writing):
    """Pages that go on by time. More events at one time than a page has are an error, so pages are longer here."""

    @pytest_asyncio.fixture
    async def make_stand(self, make_any: MakeStand) -> MakeStand:
        async def make() -> ApiStand:
            stand = await make_any(is_ordered=True)
            stand._settings["page_size"] = 7000
            return stand

        return make


def _broken(error: type[StoreError], words: str, handler: Any, timeout: float = 10.0) -> Damage:
    async def damage(stand: ApiStand) -> None:
        stand.api.broken = handler

    return Damage(error, (words,), damage, ApiStand.mend, ("open", "rows", "fetch"), timeout)


def _listing(event: str) -> bytes:
    return f'{{"data":{{"events":[{event}],"next":null}}}}'.encode()


async def _stop(stand: ApiStand) -> None:
    await stand.api.stop()


async def _start(stand: ApiStand) -> None:
    await stand.api.start()


DAMAGES: Final[dict[str, Damage]] = {
    "stopped": Damage(StoreUnreachable, ("no connection",), _stop, _start, ("open", "rows", "fetch")),
    "hanging": _broken(StoreUnreachable, "no answer within 0.2 s", hang, 0.2),
    "cut": _broken(StoreUnreachable, "in the middle of an answer", cut),
    "failing": _broken(StoreUnreachable, "status 500", saying(b"oops", 500)),
    "overloaded": _broken(StoreUnreachable, "asks to wait 3 s", saying(b"", 429, **{"Retry-After": "3"})),
    "unknown": _broken(StoreDenied, "status 401: ***?", saying(f"Bearer {TOKEN}?".encode(), 401)),
    "forbidden": _broken(StoreDenied, "status 403", saying(b"", 403)),
    "redirecting": _broken(StoreGarbage, "redirects are not followed", saying(b"", 302, Location="/other")),
    "a page": _broken(StoreGarbage, "not JSON", saying(b"<html>")),
    "half": _broken(StoreGarbage, "not JSON", saying(b'{"data":{"events":[')),
    "NaN": _broken(StoreGarbage, "not JSON", saying(_listing('{"id":"1","at":"2025-11-13","data":{"a":NaN}}'))),
    "NaN among long numbers": _broken(
        StoreGarbage, "not JSON", saying(_listing('{"id":12345678901234567890,"at":"2025-11-13","data":{"a":NaN}}'))
    ),
    "too large among long numbers": _broken(
        StoreGarbage, "not JSON", saying(_listing('{"id":12345678901234567890,"at":"2025-11-13","data":{"a":1e999}}'))
    ),
    "no name": _broken(StoreGarbage, "nothing at /id", saying(_listing('{"at":"2025-11-13","data":{}}'))),
    "no text for a name": _broken(StoreGarbage, "null at /id", saying(_listing('{"id":null,"data":{}}'))),
    "no time": _broken(StoreGarbage, "its time is nothing", saying(_listing('{"id":"1","data":{}}'))),
    "another time": _broken(StoreGarbage, "'noon' is no time", saying(_listing('{"id":"1","at":"noon","data":{}}'))),
    "a number": _broken(StoreGarbage, "set time_format", saying(_listing('{"id":"1","at":5,"data":{}}'))),
    "no fields": _broken(StoreGarbage, "not an object", saying(_listing('{"id":"1","at":"2025-11-13","data":[]}'))),
}


class TestFailing(Failing):
    """What an API may say instead."""

    DAMAGES = DAMAGES

    @pytest_asyncio.fixture
    async def make_stand(self, make_any: MakeStand) -> MakeStand:
        return lambda: make_any(is_ordered=False)


class TestListFailing(Failing):
    """Of lists alone: by its name, an event may be answered without one."""

    DAMAGES: ClassVar = {
        name: damage._replace(is_seen=("open", "rows"))
        for name, damage in {
            "not there": _broken(StoreMissing, "status 404", saying(b"", 404)),
            "no list": _broken(StoreGarbage, "no list at '/data/events'", saying(b'{"data":{"events":{}}}')),
        }.items()
    }

    @pytest_asyncio.fixture
    async def make_stand(self, make_any: MakeStand) -> MakeStand:
        return lambda: make_any(is_ordered=False)


@pytest_asyncio.fixture
async def stand(make_any: MakeStand) -> ApiStand:
    """By time."""
    return await make_any(is_ordered=True)


async def store_of(stand: ApiStand, **changes: Any) -> HttpStore:
    store = stand.store(**changes)
    await store.open()
    return store


# pages


@pytest.mark.asyncio
@pytest.mark.parametrize("is_ordered", [True, False])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 24, 25, 26, 100])
async def test_pages_of_every_size(make_any: MakeStand, is_ordered: bool, size: int) -> None:
    """Up to four events have one time, wherever a page ends."""
    stand = await make_any(is_ordered=is_ordered)
    times = [number for number in range(10) for _ in range(1 + number % 4)]
    rows = [Row(f"event {number}", START + at * SECOND, {"n": number}) for number, at in enumerate(times)]
    await stand.fill(rows)
    store = await store_of(stand, page_size=size)
    if is_ordered and size <= 4:
        with pytest.raises(StoreGarbage, match=r"a page of . events does not get beyond 2025.*raise page_size"):
            await read(store, SPAN)
        return
    found = await read(store, SPAN)
    assert [row.at for row in found] == [row.at for row in rows]
    assert plain(found) == plain(rows)


@pytest.mark.asyncio
async def test_a_cursor_that_leads_back_is_no_endless_loop(make_any: MakeStand) -> None:
    stand = await make_any(is_ordered=False)
    store = await opened(stand, events(stand, 3))
    for following, words in (
        ('"again"', "pages would never end"),
        ("{}", "neither text nor a whole number but an object"),
        ("true", "a truth value"),
        ("1.5", "a number"),
    ):
        stand.api.broken = saying(f'{{"data":{{"events":[],"next":{following}}}}}'.encode())
        with pytest.raises(StoreGarbage, match=words):
            await read(store, SPAN)
    assert len(stand.api.requests) < 20


@pytest.mark.asyncio
@pytest.mark.parametrize("last", ["null", '""', None])
async def test_where_pages_end(make_any: MakeStand, last: str | None) -> None:
    stand = await make_any(is_ordered=False)
    store = await opened(stand)
    event = '{"id":1,"at":"2025-11-13T02:13:21Z","data":{"n":1}}'
    following = "" if last is None else f',"next":{last}'
    stand.api.broken = saying(f'{{"data":{{"events":[{event}]{following}}}}}'.encode())
    assert plain(await read(store, SPAN)) == plain([Row("1", START + SECOND, {"n": 1})])


@pytest.mark.asyncio
async def test_events_in_another_order_than_that_of_time_are_not_paged_by_time(stand: ApiStand) -> None:
    store = await opened(stand)
    listed = ",".join(f'{{"id":"{second}","at":"2025-11-13T02:13:{second}Z","data":{{}}}}' for second in (22, 21))
    stand.api.broken = saying(_listing(listed))
    with pytest.raises(StoreGarbage, match="not in order of time"):
        await read(store, SPAN)


@pytest.mark.asyncio
async def test_an_api_that_takes_no_heed_of_the_start_is_no_endless_loop(stand: ApiStand) -> None:
    store = await store_of(stand, page_size=2)
    listed = ",".join(f'{{"id":"{second}","at":"2025-11-13T02:13:{second}Z","data":{{}}}}' for second in (21, 22))
    stand.api.broken = saying(_listing(listed))
    with pytest.raises(StoreGarbage, match="does not get beyond 2025-11-13T02:13:22Z"):
        await read(store, SPAN)
    stand.api.broken = saying(_listing(listed.replace("2025", "2024")))
    with pytest.raises(StoreGarbage, match="does not get beyond"):
        await read(store, SPAN)


@pytest.mark.asyncio
async def test_what_is_out_of_the_span_is_left_out_whatever_the_api_thinks(stand: ApiStand) -> None:
    store = await opened(stand)
    listed = ",".join(f'{{"id":"{at}","at":"2025-11-13T02:13:{at}Z","data":{{}}}}' for at in (19, 20, 21, 22))
    stand.api.broken = saying(_listing(listed))
    assert [row.identity for row in await read(store, Span(START, START + 2 * SECOND))] == ["20", "21"]


# times and names


@pytest.mark.asyncio
async def test_times_in_numbers_are_exact_and_asked_for_as_coarse_as_they_are(stand: ApiStand) -> None:
    body = b'{"rows":[{"k":[7,"a b"],"t":1763000000.1},{"k":[8.0,"c"],"t":"1763000000.2"},{"k":[9,""],"t":1763000001}]}'
    async with scripted(answer(body)) as server:
        store = stand.store(
            url=f"{server.url}/list?{{start}}/{{end}}",
            events="/rows", identity=("/k/0", "/k/1"), time="/t", fields="/", time_format="s",
        )  # fmt: skip
        with pytest.raises(StoreGarbage, match="its fields are nothing, not an object"):
            await store.open()
        store = stand.store(
            url=f"{server.url}/list?{{start}}/{{end}}",
            events="/rows", identity=("/k/0", "/k/1"), time="/t", fields="", time_format="s",
        )  # fmt: skip
        await store.open()
        found = await read(store, Span(START + 1, START + SECOND + 1))
        assert [(row.identity, row.at) for row in found] == [
            ('["7","a b"]', START + SECOND // 10),
            ('["8","c"]', START + SECOND // 5),
            ('["9",""]', START + SECOND),
        ]
        assert found[0].fields == {"k": [7, "a b"], "t": 1763000000.1}
        assert "GET /list?1763000000/1763000002 HTTP" in server.requests[-1][0]


@pytest.mark.asyncio
async def test_what_goes_into_an_address_is_encoded_as_a_whole(stand: ApiStand) -> None:
    """And nothing else of the address is touched."""
    async with scripted(answer(b'{"data":{"events":[]}}')) as server:
        store = stand.store(
            url=f"{server.url}/a%2Fb/events?from={{start}}&to={{end}}&q=%2B+x",
            event_url=f"{server.url}/events/{{identity}}",
        )
        await store.open()
        assert "GET /a%2Fb/events?from=1970-01-01T00%3A00%3A00Z&to=1970" in server.requests[0][0]
        assert "&q=%2B+x HTTP" in server.requests[0][0]
        await store.fetch([Key("a/b?c=d&e #{start}%41 °", START)])
        path = "/events/a%2Fb%3Fc%3Dd%26e%20%23%7Bstart%7D%2541%20%C2%B0"
        assert f"GET {path} HTTP" in server.requests[-1][0]


# rows under keys


@pytest.mark.asyncio
async def test_one_event_by_its_own_address(stand: ApiStand) -> None:
    rows = events(stand, 30)
    await stand.fill(rows)
    store = await store_of(stand, event_url=f"{stand.api.url}/events/{{identity}}")
    keys = [Key("nobody", START), *(row.key for row in rows[:20])]
    assert plain(await store.fetch(keys)) == plain(rows[:20])
    stand.api.broken = saying(orjson.dumps(stand.api.events[0]))
    with pytest.raises(StoreGarbage, match="gives another event than the one asked for, 'event 000001'"):
        await store.fetch([rows[1].key])


@pytest.mark.asyncio
async def test_without_an_address_for_one_events_are_looked_for_near_their_time(stand: ApiStand) -> None:
    rows = events(stand, 300)
    far = [row._replace(identity=f"far {row.identity}", at=row.at + 10**6 * SECOND) for row in rows[:3]]
    await stand.fill([*rows, *far])
    store = await store_of(stand, event_url=None)
    before = len(stand.api.requests)
    keys = [row.key for row in (*rows[100:280:2], *far)]
    assert plain(await store.fetch([*keys, *keys, Key("nobody", START)])) == plain([*rows[100:280:2], *far])
    assert len(stand.api.requests) - before == 5, "near times are asked for together"
    assert plain(await store.fetch([Key(rows[7].identity, rows[7].at + SECOND)])) == plain([rows[7]])
    assert await store.fetch([Key(rows[7].identity, rows[7].at + 3 * SECOND)]) == []


# what is written


@pytest.mark.asyncio
async def test_put_spares_what_came_in_between(stand: ApiStand, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was not there when it was looked for."""
    rows = events(stand, 3)
    await stand.fill(rows[:1])
    store = await store_of(stand, write_url=f"{stand.api.url}/events/{{identity}}", write_method="PUT")

    async def nothing(keys: Sequence[Key], step: int = 1) -> list[Row]:
        return []

    monkeypatch.setattr(store, "fetch", nothing)
    assert await store.write([rows[0]._replace(fields={"whole": 99}), *rows[1:]]) == 2
    monkeypatch.undo()
    assert plain(await read(store)) == plain(rows)


@pytest.mark.asyncio
async def test_what_it_refuses_is_said_with_what_was_written(stand: ApiStand) -> None:
    rows = events(stand, 20)
    rows[10] = rows[10]._replace(fields={"note": "unwelcome"})
    store = await opened(stand)
    with pytest.raises(StoreRefused, match=r"event 'event 000010': status 422: .*not that note") as caught:
        await store.write(rows)
    assert caught.value.written == len(stand.api.events) == 15, "none is begun after the eight with the refusal"
    stand.api.broken = saying(b"", 503)
    with pytest.raises(StoreUnreachable):
        await store.write(rows)


@pytest.mark.asyncio
@pytest.mark.parametrize("value", [b"bytes", float("nan"), float("inf"), "\ud800", {1, 2}])
async def test_what_json_has_no_word_for_is_refused_before_anything_is_written(stand: ApiStand, value: Any) -> None:
    store = await opened(stand)
    with pytest.raises(StoreRefused, match="cannot be sent as JSON") as caught:
        await store.write([*events(stand, 2), Row("bad", START, {"note": value})])
    assert caught.value.written == 0
    assert stand.api.events == []
    reader = await store_of(stand, write_url=None)
    assert not reader.traits.is_writable
    with pytest.raises(StoreRefused, match="has no write_url"):
        await reader.write(events(stand, 1))


@pytest.mark.asyncio
async def test_an_event_is_put_together_again_from_its_row(stand: ApiStand) -> None:
    """Its name and time where they were, unless its fields have them."""
    posted = []
    async with scripted(answer(b"[]")) as server:
        cases: tuple[dict[str, Any], ...] = (
            {"identity": ("/meta/id", "/meta/part"), "time": "/meta/at", "fields": "/body/data", "time_format": "ms"},
            {"identity": ("/id",), "time": "/at", "fields": ""},
        )
        for settings in cases:
            store = stand.store(
                url=f"{server.url}/?{{start}}{{end}}", event_url=None, write_url=f"{server.url}/", events="", **settings
            )
            await store.open()
            name = '["a","b"]' if len(settings["identity"]) == 2 else "7"
            fields = {"whole": 1} if len(settings["identity"]) == 2 else {"id": 7, "whole": 2**70}
            assert await store.write([Row(name, START, fields)]) == 1
            posted.append(json.loads(server.requests[-1][1]))
    assert posted == [
        {"body": {"data": {"whole": 1}}, "meta": {"id": "a", "part": "b", "at": START // 10**6}},
        {"id": 7, "whole": 2**70, "at": "2025-11-13T02:13:20Z"},
    ]


# bounds, credentials


@pytest.mark.asyncio
async def test_an_answer_that_is_too_long(stand: ApiStand, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await opened(stand)
    stand.api.broken = saying(_listing('"' + "x" * 70 * 2**20 + '"'))
    with pytest.raises(StoreGarbage, match="longer than 64 MiB"):
        await read(store, SPAN)


@pytest.mark.asyncio
async def test_credentials_from_files_and_in_addresses(stand: ApiStand, tmp_path: Path) -> None:
    file = tmp_path / "authorization"
    file.write_text(f"Bearer {TOKEN}\n")
    await stand.fill(events(stand, 1))
    store = await store_of(stand, authorization=None, authorization_file=str(file))
    assert len(await read(store, EVER)) == 1
    for text, words in (("a\nb", "one line"), ("", "one line")):
        file.write_text(text)
        with pytest.raises(StoreDenied, match=words):
            await store.open()
    with pytest.raises(StoreDenied, match="cannot read the file"):
        await store_of(stand, authorization=None, authorization_file=str(tmp_path / "nowhere"))
    echo = answer(b"key=a-long-secret of header-secret", "403 Forbidden")
    async with scripted(echo) as server:
        store = stand.store(
            url=f"{server.url}/?key=a-long-secret&f={{start}}&t={{end}}", headers={"X-Key": "header-secret"}
        )
        with pytest.raises(StoreDenied, match=r"key=\*\*\* of \*\*\*"):
            await store.open()
        assert "X-Key: header-secret" in server.requests[0][0]
