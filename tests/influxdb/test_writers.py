"""Every writer's points are at both InfluxDBs, and its answers are those of InfluxDB."""

from __future__ import annotations

import asyncio
import gzip
from collections import Counter
from typing import Final

import pytest

from deploy.influxdb import DATABASE, Points
from deploy.packages import library
from proxy.http.line_protocol import series_of
from tests.influxdb.stand import Stand, stand
from tests.influxdb.writers import START, TELEGRAF, Point, body, home_assistant, in_pieces, stored, telegraf

pytestmark = pytest.mark.asyncio

_LIBRARY: Final = """
import sys
from datetime import datetime, timezone
from influxdb import InfluxDBClient

port, packs, count, start = int(sys.argv[1]), sys.argv[2] == "True", int(sys.argv[3]), int(sys.argv[4])
client = InfluxDBClient("127.0.0.1", port, "user", "password", "home", timeout=10, gzip=packs)
client.write_points([])
for number in range(count):
    client.write_points([
        {
            "measurement": "gzip" if packs else "plain",
            "tags": {"domain": "light", "entity_id": "lamp_%d" % n},
            "time": datetime.fromtimestamp(start + number, timezone.utc),
            "fields": {"value": float(n), "state": "on"},
        }
        for n in range(20)
    ])
found = client.query('SELECT count("value") FROM "%s"' % ("gzip" if packs else "plain"))
print(next(found.get_points())["count"], client.ping())
"""
_BATCHES: Final = 5


async def run_library(port: int, *, packs: bool) -> str:
    """Home Assistant's own way to InfluxDB 1.x, in Debian's Python; what it printed."""
    library("influxdb", "python3-influxdb")
    words = ["/usr/bin/python3", "-I", "-c", _LIBRARY, str(port), str(packs), str(_BATCHES), str(START // 10**9)]
    child = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
    async with asyncio.timeout(30):
        out, err = await child.communicate()
    assert child.returncode == 0, err.decode()[-3000:]
    return out.decode()


def library_points(name: str) -> Points:
    return stored(
        Point(
            name,
            (("domain", "light"), ("entity_id", f"lamp_{n}")),
            {"value": float(n), "state": "on"},
            START + number * 10**9,
        )
        for number in range(_BATCHES)
        for n in range(20)
    )


async def test_points_of_every_writer_are_at_both(soak: bool) -> None:
    rounds = 300 if soak else 15
    async with stand() as opened:
        wanted, keys = await write_all(opened, rounds)
        for packs in (False, True):
            printed = await run_library(opened.instance.address.port, packs=packs)
            count, version = printed.split()
            assert int(count) == _BATCHES * 20
            assert version.startswith("1."), "the answer to /ping has it in a header"
            name = "gzip" if packs else "plain"
            wanted |= library_points(name)
            keys[f"{name},domain=light,entity_id=lamp_0"] += _BATCHES
        writes = keys.total() + 2  # the library asks with an empty batch whether it may write
        receipts = await opened.settled(writes)
        assert await opened.old.points() == wanted
        assert await opened.new.points() == wanted
        assert len(receipts) == writes
        assert {each.key: n for each in receipts if (n := keys[each.key])} == dict(keys)
        assert {(each.authority, each.old and each.old.state, each.new and each.new.state) for each in receipts} == {
            ("old", "delivered", "delivered")
        }
        assert {side.lost for side in (await opened.balance()).values()} == {0}
        assert '["°C"]'.encode() in await opened.get(f"/query?db={DATABASE}&q=SHOW+MEASUREMENTS")
        await check_that_what_neither_knows_stops_nothing(opened, writes)


async def write_all(opened: Stand, rounds: int) -> tuple[Points, Counter[str]]:
    """Write batches of each kind; what must be stored, and how many writes have which key."""
    points: list[Point] = []
    keys: Counter[str] = Counter()
    for number in range(rounds):
        for host in ("web-1", "db-1"):
            batch = telegraf(host, number)
            said = await opened.post(in_pieces(body(batch)), **TELEGRAF)
            assert said == (204, "", b"")
            points += batch
            keys[f"cpu,cpu=cpu0,host={host}"] += 1
        batch = home_assistant(number)
        plain = number % 2 == 0
        data = body(batch) if plain else gzip.compress(body(batch))
        said = await opened.post(data, Content_Encoding="identity" if plain else "gzip")
        assert said == (204, "", b"")
        points += batch
        keys[str(series_of(body(batch)))] += 1
    return stored(points), keys


async def check_that_what_neither_knows_stops_nothing(opened: Stand, before: int) -> None:
    """A path of InfluxDB 2, a database that does not exist: 404 of the authority, and nothing is owed for it."""
    for path in ("/api/v2/write?org=o&bucket=b&precision=ns", "/write?db=nowhere"):
        assert (await opened.post(b"a v=1 1", path)).status == 404
    assert (await opened.post(b"last v=1 1")).status == 204
    receipts = (await opened.settled(before + 3))[before:]
    assert {(each.route, each.old and each.old.state, each.new and each.new.state) for each in receipts} == {
        ("points-v2", "refused", "discarded"),
        ("points", "refused", "discarded"),
        ("points", "delivered", "delivered"),
    }
    assert (await opened.admin.ask("GET", "/api/v1/status"))["warnings"] == []
