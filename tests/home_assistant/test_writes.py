"""Home Assistant's own `influxdb` integration writes through the proxy, and both InfluxDBs have what it recorded."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

import pytest

from deploy.home_assistant.core import HomeAssistant
from deploy.home_assistant.recorded import Recorded
from deploy.home_assistant.settings import BURST, followers, writes_to
from deploy.influxdb import DATABASE, InfluxDB, Points
from proxy.demo.verify import verify
from tests.home_assistant.started import running
from tests.influxdb.stand import Stand, stand, with_check

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(300)]

ENTITIES = 5
FOLLOWERS = 100
LEFT_OUT = (None, "", "unknown", "unavailable")
"""States that the integration does not write."""


class House:
    """Sensors that change; counts how often."""

    def __init__(self, core: HomeAssistant) -> None:
        self._core = core
        self._is_stopping = False
        self.changes = 0
        self.bursts = 0

    async def run(self) -> None:
        """Until `stop`: numbers, words, and now and then nothing that is known."""
        while not self._is_stopping:
            number = self.changes
            entity = f"sensor.room_{number % ENTITIES}"
            if number % 11 == 7:
                state, attributes = "unavailable", {}
            elif number % 3 == 2:
                state, attributes = f'wört {number}, "x"', {"friendly_name": "Words"}
            else:
                state, attributes = str(number / 8), {"unit_of_measurement": "°C", "battery": f"{number % 100} %"}
            await self._core.api.set_state(entity, state, attributes)
            self.changes += 1
            await asyncio.sleep(0.005)

    async def burst(self) -> None:
        """All followers at once."""
        self.bursts += 1
        await self._core.api.call("input_number", "set_value", entity_id=BURST, value=self.bursts)

    def stop(self) -> None:
        """After the change that is under way."""
        self._is_stopping = True

    async def more(self, count: int) -> None:
        """Wait for so many more changes."""
        wanted = self.changes + count
        async with asyncio.timeout(60):
            while self.changes < wanted:
                await asyncio.sleep(0.02)


async def test_what_it_recorded_is_in_both_stores_after_outages_of_each(soak: bool) -> None:
    async with stand() as opened, running(opened.directory, settings(opened)) as core:
        begun = time.time_ns() // 1000 * 1000
        house = House(core)
        async with asyncio.TaskGroup() as group:
            group.create_task(house.run())
            for _ in range(10 if soak else 1):
                for influx in (opened.new, opened.old):
                    await outage(house, influx)
            house.stop()
        assert await core.stop() == 0
        recorded = [each for each in core.recorded() if each.entity.startswith("sensor.") and each.at * 1000 >= begun]
        assert len(recorded) == house.changes + FOLLOWERS * house.bursts >= 1000
        await opened.settled()

        wanted = expected(recorded)
        assert len(wanted) < len(recorded), "some are left out"
        for influx in (opened.old, opened.new):
            assert written(await influx.points(), begun) == wanted, influx.name
        answer = await verify(with_check(opened), begun, time.time_ns(), 100)
        assert (answer["result"], answer["mismatches"]) == ("pass", 0), answer
        assert answer["classes"]["equal"] >= len(wanted)
        for side in (await opened.balance()).values():
            assert (side.lost, side.dead, side.refused, side.discarded) == (0, 0, 0, 0)
        assert "Cannot connect" not in core.log.read_text(), "the outages were none for Home Assistant"


def settings(opened: Stand) -> dict[str, Any]:
    return writes_to(opened.instance.address.port, DATABASE) | followers(FOLLOWERS)


async def outage(house: House, influx: InfluxDB) -> None:
    """Kill it, and start it again while changes go on: longer than Home Assistant collects a batch."""
    await house.more(150)
    await influx.kill()
    await house.burst()
    await house.more(200)
    await asyncio.sleep(1.5)
    await influx.start()
    await house.more(50)


def expected(recorded: list[Recorded]) -> dict[tuple[str, int], str | float]:
    """By entity and time (microseconds), what the integration has to have written of it: a number where it is one."""
    return {(each.entity, each.at): value_of(each.state) for each in recorded if each.state not in LEFT_OUT}


def value_of(state: str | None) -> str | float:
    assert state is not None
    try:
        value = float(state)
    except ValueError:
        return state
    assert math.isfinite(value)
    return value


def written(points: Points, begun: int) -> dict[tuple[str, int], str | float]:
    """The same of what is stored since then. Times come through a float of nanoseconds, of which 256 are one step."""
    found: dict[tuple[str, int], str | float] = {}
    for (_, tags), rows in points.items():
        named: dict[str, Any] = dict(tags)
        if named.get("domain") == "sensor":
            for at, fields in ((round(at / 1000), fields) for at, fields in rows.items() if at + 500 >= begun):
                key = (f"sensor.{named['entity_id']}", at)
                assert key not in found
                found[key] = fields["value"] if "value" in fields else fields["state"]
    return found
