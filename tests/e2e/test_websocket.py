"""Sessions through the real daemon: backends that restart, a weight that flips, workers that are killed."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest

from proxy.demo.backends import STREAM_PATH
from proxy.demo.toy import ToyBackend
from tests.harness.scene import NEVER_REVERT, Scene, scene
from tests.harness.talkers import Talkers, problems

pytestmark = pytest.mark.asyncio

ROUTE: dict[str, Any] = {
    "match": {"path": STREAM_PATH},
    "event_id": ["json:/id"],
    "identities": [],
    "websocket": {"redeliver_window": "2s"},
    "trigger": NEVER_REVERT,
}


async def settled_stores(opened: Scene, talkers: Talkers) -> list[str]:
    """What is wrong once everything is delivered."""
    await opened.settled()
    found = []
    for backend in (opened.old, opened.new):
        found += problems(talkers.talks, backend.name, backend.stored())
    return found


async def test_dual_write_with_both_backends_up() -> None:
    async with scene(stage="dualwrite", **ROUTE) as opened:
        talkers = Talkers(opened.instance.address, sessions=4, rate=200)
        talkers.start()
        await asyncio.sleep(2)
        await talkers.stop()
        assert await settled_stores(opened, talkers) == []
        assert [talk.close_code for talk in talkers.talks] == [None] * 4
        assert all(talk.safe == len(talk.sent) == talk.answers > 50 for talk in talkers.talks)
        for backend in (opened.old, opened.new):
            rows = backend.stored()
            assert len(rows) == len({row.id for row in rows}) == sum(len(talk.sent) for talk in talkers.talks)


async def restarts(backends: tuple[ToyBackend, ...], over: asyncio.Event) -> None:
    """Kill a backend, now with, now without a goodbye, and start it again; the other one next."""
    n = 0
    while not over.is_set():
        backend = backends[n % 2]
        os.kill(backend.child.pid, signal.SIGKILL if n % 4 < 2 else signal.SIGTERM)
        await backend.stop()
        await asyncio.sleep(0.2)
        await backend.restart()
        n += 1
        await asyncio.sleep(0.3)


@pytest.mark.timeout(1200)
async def test_backends_that_restart_while_the_weight_flips(soak: bool) -> None:
    seconds, rate = (600, 2000.0) if soak else (8, 400.0)
    async with scene(stage="live", weight=50, **ROUTE) as opened:
        talkers = Talkers(opened.instance.address, sessions=10, rate=rate)
        talkers.start()
        over = asyncio.Event()
        restarting = asyncio.create_task(restarts((opened.old, opened.new), over))
        for n in range(seconds):
            await asyncio.sleep(1)
            await opened.admin.weight((10.0, 90.0)[n % 2])
        over.set()
        await restarting
        await talkers.stop()
        assert await settled_stores(opened, talkers) == []
        assert [talk.close_code for talk in talkers.talks] == [None] * 10
        assert sum(talk.safe for talk in talkers.talks) > seconds * rate / 4


@pytest.mark.timeout(600)
async def test_killed_workers_take_their_own_clients_alone(soak: bool) -> None:
    async with scene(stage="dualwrite", **ROUTE) as opened:
        kept = 0
        for _ in range(20 if soak else 2):
            talkers = Talkers(opened.instance.address, sessions=12, rate=400)
            talkers.start()
            await asyncio.sleep(1.5)
            os.kill(opened.instance.pids("worker")[0], signal.SIGKILL)
            await asyncio.sleep(1)
            await talkers.stop()
            kept += sum(talk.close_code is None for talk in talkers.talks)
            assert await settled_stores(opened, talkers) == []
            await opened.admin.until(lambda status: len(status.workers) == 2, 10, "two workers")
        assert kept > 0


async def test_a_killed_ledger_is_not_noticed(soak: bool) -> None:
    async with scene(stage="dualwrite", **ROUTE) as opened:
        talkers = Talkers(opened.instance.address, sessions=6, rate=200)
        talkers.start()
        for _ in range(10 if soak else 2):
            await asyncio.sleep(1)
            os.kill(opened.instance.pids("ledger")[0], signal.SIGKILL)
        await asyncio.sleep(1)
        await talkers.stop()
        assert await settled_stores(opened, talkers) == []
        assert [talk.close_code for talk in talkers.talks] == [None] * 6
