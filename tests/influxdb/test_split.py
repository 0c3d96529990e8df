"""Split by series: each series is whole on the side that its bucket says, and at old after a rollback."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from deploy.influxdb import InfluxDB
from proxy.core.choose import bucket_of, seed_of
from proxy.demo.admin import Status
from tests.harness.ledger import Receipt
from tests.influxdb.stand import SALT, Stand, stand
from tests.influxdb.writers import Point, body, one_sensor, stored, telegraf

pytestmark = pytest.mark.asyncio


def is_news(key: str, weight: float = 50.0) -> bool:
    return bucket_of(key, seed_of(SALT)) < weight * 100


async def write_each(opened: Stand, batches: list[list[Point]]) -> None:
    """Each batch in a request of its own, some at a time."""
    gate = asyncio.Semaphore(16)

    async def one(batch: list[Point]) -> None:
        async with gate:
            assert (await opened.post(body(batch))).status == 204

    async with asyncio.TaskGroup() as group:
        for batch in batches:
            group.create_task(one(batch))


async def test_each_series_is_whole_on_one_side_and_at_old_after_a_rollback(soak: bool) -> None:
    """A batch of many series goes as a whole where its first point's series says."""
    sensors, rounds = (400, 40) if soak else (120, 5)
    batches = [[one_sensor(sensor, number)] for number in range(rounds) for sensor in range(sensors)]
    batches += [telegraf(f"host-{n}", 0) for n in range(40)]
    by_side = [[batch for batch in batches if is_news(batch[0].series().decode()) == side] for side in (False, True)]
    olds, news, points = flat(by_side[0]), flat(by_side[1]), flat(batches)
    assert min(len(news), len(olds)) > len(points) // 4
    async with stand(stage="split", weight=50) as opened:
        await write_each(opened, batches)
        receipts = await opened.settled(len(batches))
        assert Counter((each.authority, states(each)) for each in receipts) == {
            ("new", ("deferred", "delivered")): len(by_side[1]),
            ("old", ("delivered", "")): len(by_side[0]),
        }
        assert await differences(opened.new, news) == []
        assert await differences(opened.old, olds) == []
        await opened.admin.ask("POST", "/api/v1/routes/points/rollback", {"reason": "a test"})
        await opened.admin.until(_nothing_is_deferred, 30, "the carry-over")
        await opened.settled(len(batches))
        assert await differences(opened.old, points) == []
        assert await differences(opened.new, news) == []
        balance = await opened.balance()
        assert (balance["old"].delivered, balance["old"].lost) == (len(batches), 0)
        assert (balance["new"].delivered, balance["new"].lost) == (len(by_side[1]), 0)


def flat(batches: list[list[Point]]) -> list[Point]:
    return [point for batch in batches for point in batch]


def states(receipt: Receipt) -> tuple[str, str]:
    """At old and at new."""
    old, new = (side.state if side is not None else "" for side in (receipt.old, receipt.new))
    return old, new


async def differences(influx: InfluxDB, points: list[Point]) -> list[str]:
    """What it has too much and too little, each with what a second look says: one server may show late what it has."""
    expected = stored(points)
    first = await influx.points()
    if first == expected:
        return []
    second = await influx.points()
    rows = {(series, at) for each in (expected, first, second) for series, found in each.items() for at in found}
    told = {row: [each.get(row[0], {}).get(row[1]) for each in (expected, first, second)] for row in rows}
    return [f"{row}: expected, seen, seen again: {fields}" for row, fields in told.items() if fields[0] != fields[1]]


def _nothing_is_deferred(status: Status) -> bool:
    return status.routes[0].sides["old"].ledger.deferred == 0


async def test_a_tag_that_all_points_of_a_writer_have_keeps_it_whole() -> None:
    """Telegraf's batches begin with any series; the tag `host` is the same in all of them."""
    hosts = [f"host-{n}" for n in range(40)]
    batches = [telegraf(host, number) for host in hosts for number in range(6)]
    batches = [batch[n % len(batch) :] + batch[: n % len(batch)] for n, batch in enumerate(batches)]
    points = flat(batches)
    news = [point for point in points if is_news(dict(point.tags)["host"])]
    async with stand(stage="split", weight=50, key="line:tag.host") as opened:
        await write_each(opened, batches)
        await opened.settled(len(batches))
        assert await differences(opened.new, news) == []
        assert await differences(opened.old, [point for point in points if point not in news]) == []
