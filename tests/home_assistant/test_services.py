"""The monolith and the services in its place: what they answer 201 to is in their InfluxDB, and they can be broken."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
import pytest_asyncio
import yaml
from aiohttp import web

from deploy.home_assistant.backends import Side, new_side, old_side
from deploy.home_assistant.influxdb import Database, NotStored
from deploy.influxdb import DATABASE, InfluxDB
from proxy.core.errors import CrossfadeError
from proxy.demo.children import free_port, python
from proxy.demo.instance import Instance, basic_config
from proxy.demo.toy import Breakable
from proxy.demo.verify import verify
from tests.harness.caller import Answer, Caller
from tests.harness.scene import NEVER_REVERT, settled

pytestmark = pytest.mark.asyncio

START = 1_795_980_000
"""Seconds since 1970 of the first event."""
SPAN = ((START - 86_400) * 10**9, (START + 86_400) * 10**9)
SIDES = ("old", "new")


class Stand(NamedTuple):
    """Both sides with their InfluxDBs."""

    directory: Path
    influxes: dict[str, InfluxDB]
    sides: dict[str, Side]

    def parts(self) -> list[Breakable]:
        return [part for side in self.sides.values() for part in side.parts]


@pytest_asyncio.fixture
async def stand(directory: Path, influxes: tuple[InfluxDB, InfluxDB]) -> AsyncIterator[Stand]:
    old, new = influxes
    sides = {"old": old_side(directory, old.url, DATABASE), "new": new_side(directory, new.url, DATABASE)}
    opened = Stand(directory, dict(zip(SIDES, influxes, strict=True)), sides)
    try:
        for side in sides.values():
            await side.ready()
        yield opened
    finally:
        for side in sides.values():
            await side.stop()


def event(number: int, state: str | None = "21.5", entity: str = "sensor.attic", **more: Any) -> bytes:
    """As Home Assistant's WebSocket API has it; state None: the entity was removed."""
    at = f"2026-11-29T{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}.000123+00:00"
    attributes = {"unit_of_measurement": "°C", "friendly_name": "Attic"}
    whole = {"entity_id": entity, "state": state, "attributes": attributes, "last_changed": at, "last_updated": at}
    return json.dumps(
        {
            "event_type": "state_changed",
            "data": {"entity_id": entity, "old_state": None, "new_state": None if state is None else whole},
            "origin": "LOCAL",
            "time_fired": at,
            "context": {"id": f"{number:026}", "parent_id": None, "user_id": None},
        }
        | more
    ).encode()


async def post(side: Side, body: bytes, id: str = "", seconds: float = 10.0) -> Answer:
    caller = Caller(side.address, seconds=seconds)
    try:
        return await caller.post({"X-Event-Id": id} if id else {}, body)
    finally:
        caller.close()


async def said(side: Side, body: bytes, id: str = "") -> tuple[int, str]:
    """Status and error."""
    answer = await post(side, body, id)
    return answer.status, json.loads(answer.body).get("error", "")


async def fields(influx: InfluxDB) -> list[dict[str, Any]]:
    return [values for rows in (await influx.points()).values() for _, values in sorted(rows.items())]


def configuration(opened: Stand, **check: Any) -> dict[str, Any]:
    """The proxy's between both sides, with a check of both databases."""
    stores = {
        side: {"influxdb1": {"url": influx.url, "database": DATABASE}} for side, influx in opened.influxes.items()
    }
    old, new = (opened.sides[name].url for name in SIDES)
    document = basic_config(old, new, stage="dualwrite", trigger=NEVER_REVERT)
    rules = [{"path": "/id", "compare": "ignore"}]
    document["consistency"] = [{"routes": ["events"], "identity": "none", "rules": rules} | stores | check]
    return document


async def checked(opened: Stand, **check: Any) -> dict[str, Any]:
    """What the checker says of both databases."""
    path = opened.directory / "check.yaml"
    path.write_text(yaml.safe_dump(configuration(opened, **check)))
    return await verify(path, *SPAN, 1000)


async def test_what_is_answered_is_stored_alike_but_for_ids_and_enrichment(stand: Stand) -> None:
    states = ["20.5", "heating", "nan", "1e400", "-3", 'küche, "links"\\ = 1', None]
    for number, state in enumerate(states):
        for side in stand.sides.values():
            assert await said(side, event(number * 3600, state)) == (201, "")
    found = {name: await stand.influxes[name].points() for name in SIDES}
    (series,) = found["old"]
    assert series == ("sensor", (("entity_id", "sensor.attic"),))
    olds, news = (list(found[name][series].values()) for name in SIDES)
    assert [each.get("state") for each in olds] == states
    assert [each.get("value") for each in olds] == [20.5, None, None, None, -3.0, None, None]
    assert [each.get("removed") for each in olds] == [None] * 6 + [True]
    assert list(found["old"][series])[1] % 10**9 == 123_000, "its microseconds"
    assert not {each["id"] for each in olds} & {each["id"] for each in news}
    assert [each["weather"] for each in news] == ["clear"] * 6 + ["rain"]
    enrichment = ("id", "weather", "outdoor_temperature")
    assert [{name: value for name, value in each.items() if name not in enrichment} for each in news] == [
        {name: value for name, value in each.items() if name != "id"} for each in olds
    ]
    answer = await checked(stand)
    assert (answer["result"], answer["mismatches"], answer["classes"]["equal"]) == ("pass", 0, 7), answer
    answer = await checked(stand, rules=[])
    assert answer["classes"]["different"] == 7, "each has ids of its own"
    await stand.influxes["new"].query('DELETE FROM "sensor" WHERE time < 1795910400000000000 + 2h')
    answer = await checked(stand)
    assert (answer["result"], answer["mismatches"]) == ("fail", 2), answer


async def test_the_same_event_again_is_the_same_point(stand: Stand) -> None:
    for _ in range(3):
        for side in stand.sides.values():
            assert await said(side, event(1)) == (201, "")
    for influx in stand.influxes.values():
        assert len(await fields(influx)) == 1
    assert (await checked(stand))["classes"]["equal"] == 1


NO_EVENTS = (
    (b"", "truncated"),
    (b"{", "truncated"),
    (b"[]", "Expected `object`, got `array`"),
    (event(1, event_type="call_service"), "Invalid enum value 'call_service' - at `$.event_type`"),
    (event(1, entity="Attic"), "matching regex"),
    (event(1, time_fired="2026-11-29T00:00:00"), "`datetime` with a timezone component - at `$.time_fired`"),
    (event(1, data={"entity_id": "sensor.a"}), "missing required field `new_state` - at `$.data`"),
)


async def test_what_is_no_event_is_refused_with_the_place(stand: Stand) -> None:
    for body, text in NO_EVENTS:
        for side in stand.sides.values():
            status, error = await said(side, body)
            assert (status, error.partition(": ")[0]) == (400, side.parts[0].name)
            assert text in error, error
    for influx in stand.influxes.values():
        assert await fields(influx) == []


async def test_a_point_that_influxdb_never_takes_is_refused_by_whoever_asks(stand: Stand) -> None:
    for name, side in stand.sides.items():
        await stand.influxes[name].query('CREATE RETENTION POLICY "short" ON "home" DURATION 1h REPLICATION 1 DEFAULT')
        status, error = await said(side, event(1))
        assert status == 422, error
        assert "points beyond retention policy" in error, error


async def test_an_influxdb_that_is_killed_is_503_until_it_is_back(stand: Stand) -> None:
    for name, side in stand.sides.items():
        influx = stand.influxes[name]
        await influx.kill()
        status, error = await said(side, event(1))
        assert (status, "InfluxDB: " in error) == (503, True), error
        assert (await health(side), (await side.parts[0].state())["stored"]) == (503, 0)
        await influx.start()
        assert await said(side, event(1)) == (201, "")
        assert (await health(side), (await side.parts[0].state())["stored"]) == (200, 1)
        assert len(await fields(influx)) == 1


async def health(side: Side) -> int:
    async with aiohttp.ClientSession() as session, session.get(f"{side.url}/health") as answer:
        return answer.status


async def test_each_part_can_fail_hang_be_slow_and_forget(stand: Stand) -> None:
    new = stand.sides["new"]
    for number, part in enumerate(new.parts):
        await part.fault("errors", status=500, only="bad")
        status, error = await said(new, event(1), "bad" if part.name == "ingest" else "")
        wanted = 500 if part.name == "ingest" else 201
        assert status == wanted, (part.name, error)
        await part.fault("errors", status=500)
        status, error = await said(new, event(1))
        assert (status, f"{part.name}: injected fault" in error) == (500 if number == 0 else 503, True), error
        await part.fault("forget")
        assert await said(new, event(100 + number)) == (201, "")
        await part.fault("stall")
        waiting = asyncio.create_task(said(new, event(200 + number)))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        await part.fault("slow", seconds=0.2)
        assert await waiting == (201, "")
        begun = asyncio.get_running_loop().time()
        assert await said(new, event(300 + number)) == (201, "")
        assert asyncio.get_running_loop().time() - begun >= 0.2
        await part.fault("none")
    times = {at // 10**9 % 86_400 for rows in (await stand.influxes["new"].points()).values() for at in rows}
    assert times == {1, 200, 201, 202, 300, 301, 302}, "what is forgotten is answered and not there"


async def test_a_part_that_is_killed_is_503_and_the_event_can_be_sent_again(stand: Stand) -> None:
    new = stand.sides["new"]
    for number, name in enumerate(("enrich", "store")):
        await new.part(name).kill()
        status, error = await said(new, event(number))
        assert (status, new.part(name).url in error) == (503, True), error
        await new.part(name).restart()
        assert await said(new, event(number)) == (201, "")
    assert len(await fields(stand.influxes["new"])) == 2


async def test_behind_the_proxy_both_are_alike_whatever_was_killed_or_failed(stand: Stand) -> None:
    instance = Instance(stand.directory, configuration(stand))
    caller = Caller(instance.address, seconds=20)
    sent = 0

    async def send(count: int) -> None:
        nonlocal sent
        for _ in range(count):
            sent += 1
            answer = await caller.post({}, event(sent, str(sent), f"sensor.s{sent % 7}"))
            assert answer.status // 100 == 2, answer

    try:
        await instance.start()
        await send(20)
        for part in stand.parts():
            await part.fault("errors", share=0.5)
            await send(20)
            await part.kill()
            await send(20)
            await part.restart()
        await stand.influxes["new"].kill()
        await send(20)
        await stand.influxes["new"].start()
        await send(20)
        status, _ = await settled(instance.admin, sent)
        assert {side.ledger.lost for side in status.routes[0].sides.values()} == {0}
        answer = await verify(instance.config_path, *SPAN, 1000)
        assert (answer["result"], answer["mismatches"], answer["classes"]["equal"]) == ("pass", 0, sent), answer
        for influx in stand.influxes.values():
            assert {each["state"] for each in await fields(influx)} == {str(number) for number in range(1, sent + 1)}
    finally:
        caller.close()
        await instance.stop()


async def test_faults_that_it_cannot_have_are_refused(stand: Stand) -> None:
    for part in stand.parts():
        with pytest.raises(CrossfadeError, match="early is none of none, errors, stall, down, slow, flap, forget"):
            await part.fault("early")
        with pytest.raises(CrossfadeError, match="share above 0"):
            await part.fault("errors", share=0)


async def test_a_role_without_what_it_needs_does_not_start(directory: Path) -> None:
    for role, missing in (("store", "--influxdb and --database"), ("ingest", "--next")):
        words = python("deploy.home_assistant.services", role, "--port", str(free_port()), "--control-port", "0")
        child = await asyncio.create_subprocess_exec(*words, stderr=asyncio.subprocess.PIPE)
        _, error = await child.communicate()
        assert (child.returncode, f"{role} needs {missing}" in error.decode()) == (2, True), error


async def test_a_bucket_of_an_influxdb_2_is_written_to_with_a_token() -> None:
    """InfluxDB 2.x is in no package: this is what its documentation says that it takes."""
    asked: list[tuple[str, dict[str, str], str, bytes]] = []

    async def take(request: web.Request) -> web.Response:
        said = request.headers.get("Authorization", "")
        asked.append((request.path, dict(request.query), said, await request.read()))
        return web.Response(status=204) if said == "Token t0ken" else web.json_response({"code": "no"}, status=401)

    app = web.Application()
    app.add_routes([web.post("/api/v2/write", take), web.get("/ping", take)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    let_in, kept_out = Database(url, "events", "home", "t0ken"), Database(url, "events", "home")
    try:
        await let_in.write(b"sensor value=1 1")
        assert asked == [
            (
                "/api/v2/write",
                {"org": "home", "bucket": "events", "precision": "ns"},
                "Token t0ken",
                b"sensor value=1 1",
            )
        ]
        assert await let_in.is_there()
        with pytest.raises(NotStored) as caught:
            await kept_out.write(b"sensor value=1 1")
        assert caught.value.status == 503
    finally:
        await let_in.close()
        await kept_out.close()
        await runner.cleanup()
