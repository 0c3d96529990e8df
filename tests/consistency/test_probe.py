"""A probe against a proxy that these tests play, with two stores in memory: what is seen, what is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from config.consistency import Check
from config.model import Settings
from config.probe import Probe
from consistency.identity import PROBE
from consistency.probe import Outcome, Prober, url_of
from consistency.recorded import RecordsUnavailable
from consistency.rows import Row
from consistency.stores.errors import StoreUnreachable
from consistency.stores.protocol import Traits
from tests.consistency.fakes import MemoryStore

pytestmark = pytest.mark.asyncio

STORE = {"table": "event", "identity": ["id"], "time": "at"}
BODY = '{"id": "{{id}}", "at": {{time_ns}}, "state": "probe"}'
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def check(**changes: Any) -> Check:
    probe = {"path": "/events", "body": BODY, "timeout": "1s", "visible_within": "500ms", **changes}
    return Check.model_validate(
        {
            "routes": ("events",),
            "old": {"sqlite": STORE | {"file": "old.db", "identity": ("id",)}},
            "new": {"sqlite": STORE | {"file": "new.db", "identity": ("id",)}},
            "probe": {name: tuple(value) if isinstance(value, list) else value for name, value in probe.items()},
        }
    )


class Ledger:
    """Which sides an event is owed to."""

    def __init__(self, old: str | None = "delivered", new: str | None = "delivered") -> None:
        sides = {"old": old, "new": new}
        self._sides = {name: {"state": state} if state is not None else None for name, state in sides.items()}
        self.later = 0
        """Questions that are answered with nothing on record."""

    async def ask(self, path: str, **_: object) -> dict[str, Any]:
        assert path.startswith(f"ledger/events/{PROBE}")
        if self.later:
            self.later -= 1
            raise RecordsUnavailable("404: no such event")
        return {"receipts": [{"route": "events"} | self._sides]}


class Stand:
    """A proxy that stores what it gets, after `delays` in each store, unless that is None."""

    def __init__(self) -> None:
        traits = Traits()
        self.stores = MemoryStore(traits=traits), MemoryStore(name="new", traits=traits)
        self.delays: dict[int, float | None] = {0: 0.0, 1: 0.0}
        self.status = 202
        self.seen: list[tuple[str, dict[str, str], Any]] = []
        self.change: Callable[[dict[str, Any]], None] = lambda _: None
        """What new does to an event."""
        self.counter: float | None = 4.0
        self.listed: dict[str, Any] = {}
        self.is_broken = False
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        event = await request.json()
        self.seen.append((request.method, dict(request.headers), event))
        if self.status < 300:
            loop = asyncio.get_running_loop()
            for side, delay in self.delays.items():
                fields = {"state": event["state"]}
                if side:
                    self.change(fields)
                if delay is not None:
                    loop.call_later(delay, self.stores[side].put, [Row(event["id"], event["at"], fields)])
            if self.counter is not None:
                self.counter += 1
            self.listed[event["id"]] = {"status": "stored", "n": 1}
        return web.Response(status=self.status, text="as it is")

    async def metrics(self, _: web.Request) -> web.Response:
        if self.is_broken:
            return web.Response(status=503)
        lines = 'other_total 9\nenriched_total{source="x"} 5\n'
        if self.counter is not None:
            lines += f'enriched_total{{source="weather",zone="a"}} {self.counter}\n'
            lines += 'enriched_total{source="weather",zone="b"} 100\n'
        return web.Response(text=lines)

    async def show(self, request: web.Request) -> web.Response:
        id = request.match_info["id"]
        return web.json_response(self.listed[id]) if id in self.listed else web.Response(status=404)

    async def run(self, made: Check, admin: Any = None) -> Outcome:
        assert made.probe is not None
        return await Prober(made, made.probe, self.url, admin).run(self.stores)


@asynccontextmanager
async def stand() -> AsyncIterator[Stand]:
    made = Stand()
    app = web.Application()
    app.router.add_post("/events", made.take)
    app.router.add_get("/metrics", made.metrics)
    app.router.add_get("/list/{id}", made.show)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        made.url = f"http://{host}:{port}"
        yield made
    finally:
        await runner.cleanup()


def errors(outcome: Outcome) -> dict[str, str]:
    return {step.name: step.error for step in outcome.steps if step.error}


async def test_it_goes_into_both_stores() -> None:
    async with stand() as opened:
        opened.delays = {0: 0.05, 1: 0.2}
        outcome = await opened.run(check(headers={"X-Id": "{{id}}"}, expect={"/state": "probe"}), Ledger())
    assert outcome.is_passed, outcome
    assert [step.name for step in outcome.steps] == ["send", "old", "new", "content"]
    old, new = outcome.step("old"), outcome.step("new")
    assert old is not None
    assert new is not None
    assert old.seconds is not None
    assert new.seconds is not None
    assert old.seconds >= 0.05
    assert new.seconds >= 0.2
    ((method, headers, event),) = opened.seen
    assert (method, event["id"], headers["X-Id"]) == ("POST", outcome.id, outcome.id)
    assert outcome.id.startswith(PROBE)
    assert event["at"] == outcome.at
    assert outcome.as_dict()["result"] == "pass"


async def test_every_form_of_the_time_says_the_same() -> None:
    times = '"s": {{time_s}}, "ms": {{ time_ms }}, "us": {{time_us}}'
    body = '{"id": "{{id}}", "at": {{time_ns}}, "state": "{{time}}", ' + times + "}"
    async with stand() as opened:
        await opened.run(check(body=body))
        ((_, _, event),) = opened.seen
    assert event["at"] == event["s"] * 10**9 == event["ms"] * 10**6 == event["us"] * 1000
    assert event["state"].endswith(".000000Z")


async def test_what_never_comes_is_named_with_its_side() -> None:
    async with stand() as opened:
        opened.delays[1] = None
        outcome = await opened.run(check(), Ledger())
        assert errors(outcome) == {"new": "not there within 1 s"}
        assert (outcome.error, outcome.is_against_new) == ("new: not there within 1 s", True)
        assert (outcome.route, outcome.as_dict()["route"]) == ("events", "events")
        outcome = await opened.run(check())
        assert (list(errors(outcome)), outcome.is_against_new) == (["new"], False), "nobody knows that new was owed it"
        opened.delays = {0: None, 1: 0.0}
        outcome = await opened.run(check(), Ledger())
        assert (list(errors(outcome)), outcome.is_against_new) == (["old"], False)


async def test_what_comes_late_fails_and_is_timed() -> None:
    async with stand() as opened:
        opened.delays[1] = 0.6
        outcome = await opened.run(check(), Ledger())
    (error,) = errors(outcome).values()
    assert error.startswith("there after 0.")
    assert error.endswith("s, may take 0.5 s")
    assert outcome.is_against_new


@pytest.mark.parametrize("state", [None, "deferred", "discarded", "refused"])
async def test_a_side_that_is_not_owed_is_not_waited_for(state: str | None) -> None:
    async with stand() as opened:
        opened.delays[1] = None
        admin = Ledger(new=state)
        admin.later = 2
        outcome = await opened.run(check(), admin)
    assert outcome.is_passed
    new = outcome.step("new")
    assert new is not None
    assert new.is_skipped
    assert new.seconds is None
    assert outcome.step("content") is None


async def test_content_is_compared_by_the_rules_of_the_check() -> None:
    async with stand() as opened:
        opened.change = lambda fields: fields.update(state="other", more=1)
        outcome = await opened.run(check())
        assert errors(outcome) == {"content": "/state is 'probe' in old and 'other' in new"}
        outcome = await opened.run(check(expect={"/state": "probe", "/none": 1}))
        assert errors(outcome) == {
            "old": "/none is nothing, expected 1",
            "new": "/state is 'other', expected 'probe'",
            "content": "/state is 'probe' in old and 'other' in new",
        }
        assert not outcome.is_against_new, "old had no better"


@pytest.mark.parametrize(
    ("status", "said"),
    [(503, "answered 503: as it is"), (302, "answered 302: as it is"), (404, "answered 404: as it is")],
)
async def test_an_answer_that_is_no_yes_ends_it(status: int, said: str) -> None:
    async with stand() as opened:
        opened.status = status
        outcome = await opened.run(check())
    assert [step.name for step in outcome.steps] == ["send"]
    assert outcome.error == f"send: {said}"


async def test_a_proxy_that_is_not_there_ends_it() -> None:
    async with stand() as opened:
        url = opened.url
    made = Stand()
    made.url = url
    outcome = await made.run(check())
    assert outcome.error.startswith("send: no connection: ")


async def test_a_store_that_comes_back_is_asked_again() -> None:
    async with stand() as opened:
        opened.stores[1].errors = [StoreUnreachable("new", "no connection")]
        assert (await opened.run(check())).is_passed
        opened.stores[1].errors = [StoreUnreachable("new", "no connection")] * 1000
        outcome = await opened.run(check(), Ledger())
        assert errors(outcome) == {"new": "store new: no connection"}
        assert not outcome.is_against_new, "it could not be asked"


async def test_times_are_those_of_the_stores_whenever_the_record_comes() -> None:
    async with stand() as opened:
        admin = Ledger()
        admin.later = 6
        outcome = await opened.run(check(), admin)
    assert outcome.is_passed
    assert outcome.route == "events"
    old = outcome.step("old")
    assert old is not None
    assert old.seconds is not None
    assert old.seconds < 0.3, "and the record took a second"


async def test_what_nobody_foresaw_is_a_failure_and_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stand() as opened:

        async def fetch(*_: object) -> list[Row]:
            raise RuntimeError("a store of another package")

        monkeypatch.setattr(opened.stores[1], "fetch", fetch)
        outcome = await opened.run(check(), Ledger())
    assert errors(outcome) == {"send": "RuntimeError: a store of another package"}
    assert not outcome.is_against_new


async def test_a_metric_that_was_not_read_before_cannot_have_risen() -> None:
    async with stand() as opened:
        opened.is_broken = True
        task = asyncio.create_task(opened.run(check(checkpoints=[at(opened, WEATHER)]), Ledger()))
        while not opened.seen:
            await asyncio.sleep(0.01)
        opened.is_broken = False
        (error,) = errors(await task).values()
    assert error.startswith("what it was before is not known: status 503")


WEATHER = {"name": "weather", "url": "{base}/metrics", "metric": 'enriched_total{source="weather"}'}
LISTED = {"name": "listed", "url": "{base}/list/{{id}}", "pointer": "/status", "equals": "stored"}


def at(opened: Stand, checkpoint: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return checkpoint | {"url": checkpoint["url"].replace("{base}", opened.url)} | changes


async def test_checkpoints_pass_and_are_timed() -> None:
    async with stand() as opened:
        both = [at(opened, WEATHER), at(opened, LISTED)]
        outcome = await opened.run(check(checkpoints=both))
        assert outcome.is_passed, outcome
        assert all(
            (step := outcome.step(name)) is not None and step.seconds is not None for name in ("weather", "listed")
        )
        opened.counter = None
        outcome = await opened.run(check(checkpoints=[at(opened, LISTED, pointer="/n", equals=1)]))
        assert outcome.is_passed


async def test_a_metric_that_comes_to_be_has_risen_from_nothing() -> None:
    async with stand() as opened:
        opened.counter = None
        task = asyncio.create_task(opened.run(check(checkpoints=[at(opened, WEATHER, rises_by=101.0)])))
        while not opened.seen:
            await asyncio.sleep(0.01)
        opened.counter = 1.0
        assert (await task).is_passed


@pytest.mark.parametrize(
    ("checkpoint", "changes", "said"),
    [
        (WEATHER, {"rises_by": 2.0}, 'enriched_total{source="weather"} was 104 and is 105, after 1 s'),
        (WEATHER, {"metric": "none_total"}, "there is no metric none_total, after 1 s"),
        (
            WEATHER,
            {"url": "{base}/none"},
            (
                "what it was before is not known: status 404: 404: Not Found; mend its address or what is named there, "
                "after 1 s"
            ),
        ),
        (LISTED, {"equals": "enriched"}, "/status is 'stored', expected 'enriched', after 1 s"),
        (LISTED, {"equals": True, "pointer": "/n"}, "/n is 1, expected True, after 1 s"),
        (LISTED, {"pointer": "/none", "equals": None}, "/none is not there, after 1 s"),
        (LISTED, {"url": "{base}/metrics"}, "what it says is not JSON, after 1 s"),
        (LISTED, {"url": "http://127.0.0.1:1/"}, "no connection: Connect call failed ('127.0.0.1', 1), after 1 s"),
    ],
)
async def test_a_checkpoint_that_fails_is_named_with_what_was_there(
    checkpoint: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    async with stand() as opened:
        made = check(checkpoints=[at(opened, checkpoint | changes)])
        assert errors(await opened.run(made)) == {checkpoint["name"]: said}


@pytest.mark.parametrize(
    ("listen", "probe", "url"),
    [
        (["127.0.0.1:8080"], {}, "http://127.0.0.1:8080"),
        (["0.0.0.0:81"], {}, "http://127.0.0.1:81"),
        (["[::]:81"], {}, "http://[::1]:81"),
        (["127.0.0.1:8080"], {"url": "https://events.example.com/"}, "https://events.example.com"),
    ],
)
async def test_where_it_is_sent(listen: list[str], probe: dict[str, str], url: str) -> None:
    settings = Settings.model_validate(
        {
            "version": 1,
            "salt": "a salt of tests",
            "listen": tuple(listen),
            "backends": {"old": {"url": "http://127.0.0.1:1"}, "new": {"url": "http://127.0.0.1:2"}},
            "routes": ({"name": "events", "match": {"path": "/events"}},),
        }
    )
    assert url_of(settings, Probe.model_validate({"path": "/events", **probe})) == url
