"""`verify` between two real InfluxDBs, fed through the proxy: exactly the differences that were made are found."""

from __future__ import annotations

import asyncio
import io
import json
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from consistency.__main__ import main
from deploy.influxdb import DATABASE, InfluxDB
from tests.influxdb.stand import stand, with_check
from tests.influxdb.writers import SECOND, START, Point, body, home_assistant, telegraf

pytestmark = pytest.mark.asyncio

MINUTE = 60 * SECOND


async def verify(path: Path, begin: int, end: int, **more: Any) -> dict[str, Any]:
    request = {"do": "verify", "config": str(path), "from_ns": begin, "to_ns": end, "top": 1000} | more
    return await asyncio.to_thread(in_a_loop_of_its_own, json.dumps(request))


def in_a_loop_of_its_own(request: str) -> dict[str, Any]:
    return main(request)


def named(answer: dict[str, Any]) -> dict[str, str]:
    return {each["identity"]: each["class"] for each in answer["findings"]}


async def write(influx: InfluxDB, *points: Point) -> None:
    """Behind the proxy's back."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{influx.url}/write?db={DATABASE}", data=io.BytesIO(body(points))) as answer,
    ):
        assert answer.status == 204, await answer.text()


async def drop(influx: InfluxDB, point: Point) -> None:
    tags = " AND ".join(f"\"{name}\" = '{value}'" for name, value in point.tags)
    await influx.query(f'DELETE FROM "{point.measurement}" WHERE {tags} AND time = {point.at}')


async def test_exactly_the_differences_that_were_made_are_found_and_what_is_missing_is_mended() -> None:
    batches = [home_assistant(number) for number in range(20)] + [telegraf("web-1", number) for number in range(10)]
    points = [point for batch in batches for point in batch]
    begin = min(point.at for point in points) // MINUTE * MINUTE
    end = max(point.at for point in points) + MINUTE
    async with stand() as opened:
        for batch in batches:
            assert (await opened.post(body(batch))).status == 204
        await opened.settled(len(batches))
        path = with_check(opened)
        answer = await verify(path, begin, end)
        assert (answer["result"], answer["mismatches"]) == ("pass", 0)
        assert answer["classes"]["equal"] == sum(len(found) for found in (await opened.old.points()).values())

        numbers = [point for point in points if any(type(value) is float for value in point.fields.values())]
        gone, changed, lacking, theirs = numbers[0], numbers[5], numbers[9], numbers[12]
        await drop(opened.new, gone)
        field = next(name for name, value in changed.fields.items() if type(value) is float)
        await write(opened.new, changed._replace(fields={field: float(changed.fields[field]) + 0.5}))
        await drop(opened.new, lacking)
        await write(opened.new, lacking._replace(at=lacking.at // 10**6 * 10**6 + 10**6))
        await drop(opened.old, theirs)
        answer = await verify(path, begin, end)
        series = {
            name: point.series().decode()
            for name, point in {"gone": gone, "lacking": lacking, "theirs": theirs}.items()
        }
        found = [(each["identity"], each["class"], tuple(each["by"])) for each in answer["findings"]]
        assert sorted(found) == sorted(
            [
                (series["gone"], "unrecorded", ("new",)),
                (changed.series().decode(), "different", ()),
                (series["lacking"], "unrecorded", ("new",)),
                (series["lacking"], "unrecorded", ("old",)),
                (series["theirs"], "unrecorded", ("old",)),
            ]
        )
        different = next(each for each in answer["findings"] if each["class"] == "different")
        assert [each["path"] for each in different["differences"]] == [f"/{field}"]

        answer = await verify(path, begin, end, repair=True, two_way=True)
        assert answer["repair"] == {
            "dry_run": False,
            "written": {"old": 2, "new": 2},
            "in_no_store": 0,
            "broke_off": "",
            "not_looked_at": 0,
        }
        assert (answer["result"], answer["mismatches"]) == ("fail", 1), "what is different is a person's"
        answer = await verify(path, begin, end, repair=True, two_way=True)
        assert answer["repair"]["written"] == {"old": 0, "new": 0}


async def test_jitter_enrichment_and_types() -> None:
    """Last digits of floats are let pass by rule; what new has more is counted; an integer is no float."""
    sensor = (("entity_id", "attic"),)
    olds = [Point("°C", sensor, {"value": 21.5 + n / 8, "count": n}, START + n * SECOND) for n in range(30)]
    news = [
        point._replace(fields=point.fields | {"value": float(point.fields["value"]) * (1 + 1e-12), "weather": "rain"})
        for point in olds
    ]
    async with stand() as opened:
        await write(opened.old, *olds)
        await write(opened.new, *news)
        rules = [{"path": "/value", "compare": "tolerance", "rel": 1e-9}]
        answer = await verify(with_check(opened, rules=rules), START, START + MINUTE)
        assert (answer["result"], answer["classes"]["tolerated"], answer["enriched_fields"]) == ("pass", 30, 30)
        answer = await verify(with_check(opened, only_new="compare"), START, START + MINUTE)
        assert answer["fields"]["different"] == {"/value": 30, "/weather": 30}
        await write(opened.old, Point("watts", sensor, {"value": 5}, START))
        await write(opened.new, Point("watts", sensor, {"value": 5.0}, START))
        answer = await verify(with_check(opened, rules=rules), START, START + MINUTE)
        assert answer["classes"]["different"] == 0, "the rule is about numbers of any type"
        answer = await verify(with_check(opened), START, START + MINUTE)
        typed = [each for each in answer["findings"] if each["identity"].startswith("watts")]
        assert [each["differences"][0]["reason"] for each in typed] == ["type"]


async def test_a_store_that_stops_is_inconclusive_and_says_the_same_later() -> None:
    points = home_assistant(1)
    begin = min(point.at for point in points)
    async with stand() as opened:
        for influx in (opened.old, opened.new):
            await write(influx, *points)
        path = with_check(opened)
        await opened.new.stop()
        answer = await verify(path, begin, begin + MINUTE)
        assert (answer["result"], answer["settled"]) == ("inconclusive", 0)
        assert "store new" in answer["inconclusive"][0]["reason"]
        await opened.new.start()
        assert (await verify(path, begin, begin + MINUTE))["result"] == "pass"


async def test_a_probe_goes_through_the_proxy_into_both_and_is_in_no_count() -> None:
    """A point whose series is marked; what new stores is spoiled behind the proxy's back the second time."""
    probe = {
        "path": f"/write?db={DATABASE}",
        "body": "state,entity_id={{id}} value=21.5 {{time_ns}}",
        "identity": ["state,entity_id={{id}}"],
        "expect": {"/value": 21.5},
        "timeout": "5s",
        "visible_within": "5s",
    }
    async with stand() as opened:
        begin = time.time_ns()
        path = with_check(opened, probe=probe)
        answer = await probed(path)
        assert answer["result"] == "pass", answer
        assert [step["name"] for step in answer["steps"]] == ["send", "old", "new", "content"]
        answer = await verify(path, begin - MINUTE, time.time_ns(), settle_ns=0)
        assert (answer["result"], answer["classes"]["equal"], answer["mismatches"]) == ("nodata", 0, 0), answer
        answer = await verify(path, begin - MINUTE, time.time_ns(), settle_ns=0, full=True)
        assert (answer["result"], answer["classes"]["equal"]) == ("nodata", 0)
        answer = await probed(with_check(opened, probe=probe | {"expect": {"/value": 22}}))
        assert answer["error"] == "old: /value is 21.5, expected 22"
        answer = await probed(with_check(opened, probe=probe | {"body": "state,entity_id={{id}} value=oops 1"}))
        assert (answer["result"], answer["steps"][0]["name"]) == ("fail", "send")
        assert answer["error"].startswith("send: answered 400")


async def probed(path: Path) -> dict[str, Any]:
    return await asyncio.to_thread(in_a_loop_of_its_own, json.dumps({"do": "probe", "config": str(path)}))
