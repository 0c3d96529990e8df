"""kill -9 of any process, again and again under load: stores, ledger and the client's record still agree."""

from __future__ import annotations

import asyncio
import os
import random
import signal

import pytest

from proxy.demo.admin import Status
from proxy.demo.load import until_accepted, wait_until
from tests.harness.scene import NEVER_REVERT, Scene, paced, scene

IS_SOAK = os.environ.get("CROSSFADE_SOAK") == "1"
KILLS = 400 if IS_SOAK else 8
ROUNDS_TOGETHER = 20 if IS_SOAK else 1
SEED = int(os.environ.get("CROSSFADE_SEED", "20"))
ROLES = ("worker", "ledger", "supervisor", "launcher")
TOGETHER = (
    ("ledger", "worker"),
    ("worker", "worker"),
    ("ledger", "launcher"),
    ("supervisor", "ledger"),
    ("launcher", "supervisor", "ledger", "worker", "worker"),
)


def plan(kills: int, seed: int) -> list[str]:
    """Roles to kill: every role equally often, in a seeded order."""
    roles = [ROLES[n % len(ROLES)] for n in range(kills)]
    random.Random(seed).shuffle(roles)
    return roles


async def kill(opened: Scene, roles: tuple[str, ...], chosen: random.Random) -> None:
    """End one process of each of these roles by force at once, and wait until the instance is whole again."""
    launcher = opened.instance.launcher
    assert launcher is not None
    victims: set[int] = set()
    for role in roles:
        alive = [launcher.pid] if role == "launcher" else opened.instance.pids(role)
        victims.add(chosen.choice([pid for pid in alive if pid not in victims]))
    for pid in sorted(victims, key=lambda _: chosen.random()):
        os.kill(pid, signal.SIGKILL)
    if "launcher" in roles:
        assert await launcher.ended(10) == -signal.SIGKILL
        await opened.instance.start()
    else:
        opened.instance.check()
    await wait_until(lambda: is_staffed(opened, victims), 30, f"new processes in place of {roles}")
    await opened.admin.until(is_whole, 30, f"the recovery from the end of {roles}")


def is_staffed(opened: Scene, victims: set[int]) -> bool:
    opened.instance.check()
    processes = opened.instance.processes()
    return not victims & processes.keys() and sorted(processes.values()) == ["ledger", "supervisor", "worker", "worker"]


def is_whole(status: Status) -> bool:
    alive = [worker.alive and worker.epoch == status.epoch for worker in status.workers]
    return status.ready and status.ledger.alive and alive == [True, True]


@pytest.mark.asyncio
@pytest.mark.timeout(14_400 if IS_SOAK else 240)
async def test_no_kill_loses_an_event() -> None:
    chosen = random.Random(SEED)
    async with scene(stage="live", weight=50, trigger=NEVER_REVERT) as opened:
        load = opened.load(rate=250.0, keys=400, connections=16)
        await until_accepted(load, paced(100))
        for role in plan(KILLS, SEED):
            await kill(opened, (role,), chosen)
            await until_accepted(load, paced(40))
            await asyncio.sleep(chosen.random() * 0.2)  # so that the next kill hits any moment
        record = await load.stop()
        assert set(record.statuses) <= {201, 202, 503}, record.statuses
        await opened.verify(record)


@pytest.mark.asyncio
@pytest.mark.timeout(3_600 if IS_SOAK else 240)
async def test_no_kill_of_several_at_once_loses_an_event() -> None:
    chosen = random.Random(SEED)
    async with scene(stage="live", weight=50, trigger=NEVER_REVERT) as opened:
        load = opened.load(rate=250.0, keys=400, connections=16)
        await until_accepted(load, paced(100))
        for roles in TOGETHER * ROUNDS_TOGETHER if IS_SOAK else TOGETHER[::2]:
            await kill(opened, roles, chosen)
            await until_accepted(load, paced(40))
        record = await load.stop()
        assert set(record.statuses) <= {201, 202, 503}, record.statuses
        await opened.verify(record, may_have_gaps=True)
