"""Real processes: a Home Assistant, two consumers, and kill -9 of worker, ledger and consumer while states change."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from proxy.demo.instance import Instance
from proxy.demo.load import wait_until
from tests.conftest import SOAK
from tests.fanout.rig import TOKENS, Service, fanout_config
from tests.sources.fake_home import TOKEN, FakeHome

ROUNDS = 30 if SOAK else 3
ENTITIES = [f"sensor.s{n}" for n in range(10)]


@asynccontextmanager
async def scene() -> AsyncIterator[tuple[FakeHome, Instance, dict[str, Service]]]:
    directory = Path(tempfile.mkdtemp(prefix="cf-"))
    home, services = FakeHome(), dict[str, Service]()
    await home.start()
    (directory / "token").write_text(TOKEN)
    instance = Instance(directory, fanout_config(home.url, "token"))
    try:
        await instance.start()
        for side in TOKENS:
            services[side] = Service(instance.address.port, side)
        yield home, instance, services
    except BaseException:
        print(instance.log.read_text(errors="replace")[-20_000:] if instance.log.exists() else "no log")
        raise
    finally:
        for service in services.values():
            await service.stop()
        await instance.stop()
        await home.stop()
        shutil.rmtree(directory)


def is_complete(home: FakeHome, service: Service) -> bool:
    """Has it the last state of each entity, and each entity's states in their order?"""
    consumer = service.consumer
    for entity in ENTITIES:
        values = consumer.distinct(entity)
        assert values == sorted(values), (entity, values)
        if not values or values[-1] != int(home.states[entity]["state"]):
            return False
    return True


@pytest.mark.asyncio
@pytest.mark.timeout(1200 if SOAK else 180)
async def test_both_consumers_have_everything_whoever_is_killed() -> None:
    chosen = random.Random(7)
    async with scene() as (home, instance, services):
        await wait_until(lambda: bool(home.sessions), 30, "the source is connected")
        n = 0
        for turn in range(ROUNDS * 3):
            for number in range(60):
                n += 1
                home.change(ENTITIES[number % 10], str(n))
                await asyncio.sleep(chosen.random() * 0.004)
                if number == 30:
                    match turn % 3:
                        case 0:
                            os.kill(chosen.choice(instance.pids("worker")), signal.SIGKILL)
                        case 1:
                            os.kill(instance.pids("ledger")[0], signal.SIGKILL)
                        case _:
                            await services[chosen.choice(["old", "new"])].kill()
            for service in services.values():
                await wait_until(partial(is_complete, home, service), 40, f"everything after turn {turn}")
            await wait_until(lambda: bool(home.sessions), 30, "the source is connected")
        told = [{(e, v) for e in ENTITIES for v in service.consumer.values(e)} for service in services.values()]
        assert told[0] == told[1]
        assert len(told[0]) > n / 2, "most states were told one by one, not by a snapshot behind a gap"
        counts: list[dict[str, int]] = []
        status: dict[str, Any] = {}
        for _ in range(100):
            status = await instance.admin.ask("GET", "/api/v1/status")
            counts = [status["routes"][0]["sides"][side]["ledger"] or {} for side in TOKENS]
            if all(each.get("delivered") == len(told[0]) for each in counts):
                break
            await asyncio.sleep(0.1)
        assert all(each["owed"] == each["delivered"] == len(told[0]) for each in counts), (counts, len(told[0]))
        assert status["ledger"]["balanced"]
        sides = [status["routes"][0]["sides"][side] for side in TOKENS]
        assert {side["breaker"] for side in sides} == {"closed"}
        assert [side["consumer"]["connected"] for side in sides] == [True, True]
        assert all(0 < side["consumer"]["told"] <= len(told[0]) for side in sides)
