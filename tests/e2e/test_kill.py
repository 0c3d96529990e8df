"""kill -9 of any process, again and again under load: stores, ledger and the client's record still agree."""

from __future__ import annotations

import asyncio
import os
import random
import signal

import pytest

from proxy.demo.admin import Status
from proxy.demo.load import until_accepted, wait_until
from tests.harness.scene import NEVER_REVERT, Scene, scene

IS_SOAK = os.environ.get("CROSSFADE_SOAK") == "1"
KILLS = 400 if IS_SOAK else 12
SEED = 20
ROLES = ("worker", "ledger", "supervisor", "launcher")


def plan(kills: int, seed: int) -> list[str]:
    """Roles to kill: every role equally often, in a seeded order."""
    roles = [ROLES[n % len(ROLES)] for n in range(kills)]
    random.Random(seed).shuffle(roles)
    return roles


async def kill(opened: Scene, role: str, chosen: random.Random) -> None:
    """End one process of this role by force, and wait until the instance is whole again."""
    if role == "launcher":
        launcher = opened.instance.launcher
        assert launcher is not None
        launcher.signal(signal.SIGKILL)
        await launcher.ended(10)
        await opened.instance.start()
    else:
        before = set(opened.instance.pids(role))
        victim = chosen.choice(sorted(before))
        os.kill(victim, signal.SIGKILL)
        opened.instance.check()
        await wait_until(lambda: has_successor(opened, role, victim, len(before)), 30, f"a new {role}")
    await opened.admin.until(is_whole, 30, f"the recovery from the end of a {role}")


def has_successor(opened: Scene, role: str, victim: int, wanted: int) -> bool:
    """Are there as many processes of this role again, and the victim not among them?"""
    pids = opened.instance.pids(role)
    return victim not in pids and len(pids) == wanted


def is_whole(status: Status) -> bool:
    alive = [worker.alive and worker.epoch == status.epoch for worker in status.workers]
    return status.ready and status.ledger.alive and alive == [True, True]


@pytest.mark.asyncio
@pytest.mark.timeout(14_400 if IS_SOAK else 240)
async def test_no_kill_loses_an_event() -> None:
    chosen = random.Random(SEED)
    async with scene(stage="live", weight=50, trigger=NEVER_REVERT) as opened:
        load = opened.load(rate=250.0, keys=400, connections=16)
        await until_accepted(load, 100)
        for role in plan(KILLS, SEED):
            await kill(opened, role, chosen)
            await until_accepted(load, 40)
            await asyncio.sleep(chosen.random() * 0.2)  # so that the next kill hits any moment
        record = await load.stop()
        assert set(record.statuses) <= {201, 202, 503}, record.statuses
        await opened.verify(record)
