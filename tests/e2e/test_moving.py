"""Workers are replaced under load, and the connections that they had go on: real processes, descriptors and kills."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

import pytest

from proxy.control import switch_state
from proxy.control.switch_state import SwitchState
from proxy.demo.load import until_accepted, wait_until
from tests.e2e.test_websocket import ROUTE, settled_stores
from tests.harness.scene import NEVER_REVERT, Scene, scene
from tests.harness.talkers import Talkers

pytestmark = pytest.mark.asyncio

SWITCH_SECONDS = 60.0


def begin_upgrade(opened: Scene) -> None:
    assert opened.instance.launcher is not None
    os.kill(opened.instance.launcher.pid, signal.SIGUSR2)


def state_of(opened: Scene) -> SwitchState | None:
    return switch_state.read(opened.instance.state_dir / "run" / "switch.json")


async def upgraded(opened: Scene, number: int) -> None:
    """Let every process be replaced, and wait until the upgrade of this number is over and done."""
    begin_upgrade(opened)
    await over(opened, number)
    state = state_of(opened)
    assert state is not None
    assert state.result == "done", state


async def over(opened: Scene, number: int) -> None:
    def is_over() -> bool:
        state = state_of(opened)
        return state is not None and state.number == number and not state.runs

    await wait_until(is_over, SWITCH_SECONDS, f"the end of upgrade {number}")


async def counted(opened: Scene, *names: str) -> int:
    counters: dict[str, int] = (await opened.admin.ask("GET", "/api/v1/status"))["counters"]
    return sum(counters.get(name, 0) for name in names)


async def test_sessions_outlive_the_workers_that_took_them() -> None:
    async with scene(stage="dualwrite", **ROUTE) as opened:
        talkers = Talkers(opened.instance.address, sessions=8, rate=200)
        talkers.start()
        await asyncio.sleep(1)
        before = opened.instance.pids("worker")
        await upgraded(opened, 1)
        await asyncio.sleep(1)
        await talkers.stop()
        assert await settled_stores(opened, talkers) == []
        assert [talk.close_code for talk in talkers.talks] == [None] * 8
        assert not set(before) & set(opened.instance.pids("worker"))
        assert await counted(opened, "moved_in_websocket") == 8
        assert await counted(opened, "moves_refused_websocket", "drained_websocket") == 0


async def test_clients_get_every_answer_while_workers_are_replaced() -> None:
    async with scene(stage="dualwrite", trigger=NEVER_REVERT) as opened:
        load = opened.load(rate=200.0, patience=0.0)
        await until_accepted(load, 100)
        await upgraded(opened, 1)
        await asyncio.sleep(0.5)
        record = await load.stop()
        assert not record.failures, record.errors_text()
        assert set(record.statuses) == {201}
        await opened.verify(record)
        assert await counted(opened, "moved_in_http") > 0
        assert await counted(opened, "moves_refused_http", "drained_http") == 0


@pytest.mark.parametrize(
    "choose", [pytest.param(min, id="predecessor"), pytest.param(max, id="successor", marks=pytest.mark.soak)]
)
async def test_a_worker_that_is_killed_as_connections_move_takes_nothing_that_was_acknowledged(
    choose: Callable[[list[int]], int],
) -> None:
    async with scene(stage="dualwrite", **ROUTE) as opened:
        talkers = Talkers(opened.instance.address, sessions=8, rate=200)
        talkers.start()
        await asyncio.sleep(1)
        begin_upgrade(opened)
        await wait_until(lambda: "worker retires" in opened.instance.log.read_text(), SWITCH_SECONDS, "one retires")
        os.kill(choose(opened.instance.pids("worker")), signal.SIGKILL)
        await over(opened, 1)
        await asyncio.sleep(1)
        await talkers.stop()
        assert await settled_stores(opened, talkers) == []
        assert {talk.close_code for talk in talkers.talks} <= {None, 1006}, "no worse than a worker that is killed"
