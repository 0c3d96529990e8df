"""What InfluxDB refuses: partial writes, unknown credentials; who hears of it and what is owed then."""

from __future__ import annotations

import aiohttp
import pytest

from deploy.influxdb import DATABASE, InfluxDB
from proxy.demo.admin import SideLedger
from tests.influxdb.stand import stand
from tests.influxdb.writers import START, Point, body, home_assistant, one_sensor, stored

pytestmark = pytest.mark.asyncio

CONFLICT = Point("power", (("meter", "m001"),), {"watts": "many"}, START + 7)
"""Its field is a number everywhere else."""
TEXT = [Point("power", (), {"watts": "text"}, START)]
"""Where this is, the number of all others is refused."""
GOOD = [one_sensor(2, number) for number in range(20, 23)]


async def write_directly(influx: InfluxDB, points: list[Point], authorization: str = "") -> int:
    """Past the proxy; the status."""
    headers = {"Authorization": authorization} if authorization else {}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{influx.url}/write?db={DATABASE}&precision=ns", data=body(points), headers=headers) as answer,
    ):
        return answer.status


def states(side: SideLedger) -> tuple[int, ...]:
    """delivered, pending, refused, discarded, lost."""
    return tuple(getattr(side, name) for name in ("delivered", "pending", "refused", "discarded", "lost"))


async def test_a_partial_write_is_a_refusal_with_influxdbs_own_words() -> None:
    first = [one_sensor(1, 0)]
    async with stand() as opened:
        assert (await opened.post(body(first))).status == 204
        await opened.settled(1)
        said = await opened.post(body([CONFLICT, *GOOD]))
        assert said.status == 400
        assert said.error.startswith("partial write: field type conflict")
        assert said.error.endswith("dropped=1")
        assert said.error.encode().replace(b'"', b'\\"') in said.body
        said = await opened.post(body(GOOD[:1]) + b"power,meter=m002 watts= 3\n")
        assert (said.status, "unable to parse" in said.error) == (400, True)
        await opened.settled(3)
        # InfluxDB keeps the points that it liked, here at both.
        assert await opened.old.points() == await opened.new.points() == stored([*first, *GOOD])
        balance = await opened.balance()
        assert states(balance["old"]) == (1, 0, 2, 0, 0)
        assert states(balance["new"]) == (1, 0, 2, 0, 0)


async def test_what_new_alone_refuses_is_counted_and_holds_nothing_up() -> None:
    """Live it is refused as a copy, and from the ledger too; the client's answer is old's."""
    later = [*home_assistant(2), *home_assistant(3)]
    async with stand() as opened:
        assert await write_directly(opened.new, TEXT) == 204
        for points in (GOOD[:1], home_assistant(1)):
            assert (await opened.post(body(points))).status == 204
        await opened.settled(2)
        balance = await opened.balance()
        assert states(balance["old"]) == (2, 0, 0, 0, 0)
        assert states(balance["new"]) == (1, 0, 1, 0, 0)
        await opened.new.stop()
        for points in (GOOD[1:2], home_assistant(2), GOOD[2:], home_assistant(3)):
            assert (await opened.post(body(points))).status == 204
        await opened.new.start()
        await opened.settled(6)
        balance = await opened.balance()
        assert states(balance["old"]) == (6, 0, 0, 0, 0)
        assert states(balance["new"]) == (3, 0, 3, 0, 0)
        assert await opened.old.points() == stored([*GOOD, *home_assistant(1), *later])
        assert await opened.new.points() == stored([*TEXT, *home_assistant(1), *later])
        refused = await opened.admin.ask("GET", "/api/v1/ledger/events?state=refused")
        assert [(each["key"], each["new"]["status"]) for each in refused["events"]] == [("power,meter=m002", 400)] * 3


async def test_each_side_gets_its_own_credential_live_and_from_the_ledger() -> None:
    async with stand(passwords=("of old", "of new")) as opened:
        points = [point for number in range(3) for point in home_assistant(number)]
        theirs = aiohttp.encode_basic_auth("nobody", "knows")
        assert (await opened.post(body(points[:3]), Authorization=theirs)).status == 204
        await opened.settled(1)
        await opened.new.stop()
        assert (await opened.post(body(points[3:6]), Authorization=theirs)).status == 204
        assert (await opened.post(body(points[6:]))).status == 204
        await opened.new.start()
        await opened.settled(3)
        assert await opened.old.points() == await opened.new.points() == stored(points)
        on_disk = [path.read_bytes() for path in opened.instance.state_dir.rglob("*") if path.is_file()]
        assert any("°C".encode() in data for data in on_disk), "the backlog was there"
        for influx in (opened.old, opened.new):
            assert not any(influx.authorization.encode() in data for data in on_disk)
        # As the example says: this version takes Basic alone, "Token user:password" came with 1.8.
        assert await write_directly(opened.old, GOOD, "Token admin:of old") == 401
        assert await write_directly(opened.old, GOOD, opened.old.authorization) == 204


async def test_a_credential_that_new_does_not_know_yet_empties_no_backlog() -> None:
    """Its user is created later: what came until then is delivered, and nothing became a dead letter."""
    known = {"authorization": aiohttp.encode_basic_auth("writer", "secret")}
    async with stand(passwords=("", "of new"), backend={"new": known}) as opened:
        points = [point for number in range(4) for point in home_assistant(number)]
        for number in range(4):
            assert (await opened.post(body(home_assistant(number)))).status == 204
        found = await opened.status_when(lambda found: found["routes"][0]["sides"]["new"]["paused"] == "status 401")
        assert any("mend its address or its credentials" in warning for warning in found["warnings"])
        assert states((await opened.balance())["new"]) == (0, 4, 0, 0, 0)
        await opened.new.query("CREATE USER writer WITH PASSWORD 'secret'")
        await opened.new.query(f"GRANT WRITE ON {DATABASE} TO writer")
        await opened.settled(4)
        assert states((await opened.balance())["new"]) == (4, 0, 0, 0, 0)
        assert await opened.new.points() == stored(points)
