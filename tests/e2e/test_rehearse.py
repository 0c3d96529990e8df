"""A fault drill on real processes: the guard sees it, no client does, and new gets everything afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

import orjson
import pytest

from proxy.demo.children import python
from proxy.demo.load import until_accepted
from tests.harness.scene import Scene, scene

pytestmark = pytest.mark.asyncio
PATH = "/api/v1/routes/-/drill"
# Toy backends share two cores with everything else: what is judged here is failures, not milliseconds.
TRIGGER = {"slower": "0%"}


async def rehearse(opened: Scene, *words: str, code: int = 0) -> dict[str, Any]:
    """`proxyctl rehearse` as an operator types it; its JSON."""
    command = python(
        "proxy.cli.main", "--admin", f"unix:{opened.instance.state_dir}/admin.sock", "rehearse", "-o", "json", *words
    )
    process = await asyncio.create_subprocess_exec(
        *command, cwd=opened.directory, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(120):
        out, err = await process.communicate()
    assert process.returncode == code, (out, err)
    found: dict[str, Any] = orjson.loads(out or err.splitlines()[-1])
    return found


async def actions(opened: Scene) -> list[str]:
    history = await opened.admin.ask("GET", "/api/v1/history")
    return [entry["action"] for entry in reversed(history["entries"])]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("fault", ["dead", pytest.param("errors", marks=pytest.mark.soak)])
async def test_copies_fail_the_guard_reverts_and_everything_is_as_before(fault: str) -> None:
    async with scene(stage="live", weight=25, trigger=TRIGGER) as opened:
        load = opened.load(rate=200.0, keys=200)
        await until_accepted(load, 50)
        found = await rehearse(opened, "--fault", fault, "--hold", "1s", "--reason", "monthly")
        assert (found["result"], found["delivered"]["lost"], found["delivered"]["dead"]) == ("pass", 0, 0)
        assert found["noticed_s"] < 10
        assert found["revert"]["recover"] is not None
        status = await opened.admin.status()
        assert status.routes[0].weight_target == 25
        why = await opened.admin.ask("GET", "/api/v1/why")
        assert why["entry"]["evidence"]["drill"]["fault"] == fault
        assert "a drill of" in why["entry"]["reason"]
        said = await actions(opened)
        said.remove("revert-applied")  # it may come before the end of the drill, or after it
        assert said[1:] == ["drill", "revert", "drill-ended", "rearm", "set-weight"]
        record = await load.stop()
        assert record.client_errors == 0, record.errors_text()
        await opened.verify(record)


@pytest.mark.timeout(240)
async def test_at_weight_0_the_guard_sees_it_and_its_verdict_is_of_the_drill_alone() -> None:
    async with scene(stage="dualwrite", trigger=TRIGGER) as opened:
        load = opened.load(rate=200.0, keys=200)
        await until_accepted(load, 50)
        found = await rehearse(opened, "--fault", "errors", "--hold", "1s")
        assert (found["result"], found["revert"], found["up"]) == ("pass", None, None)
        assert found["delivered"]["lost"] == 0
        await asyncio.sleep(1.0)
        verdict = (await opened.admin.ask("GET", "/api/v1/status"))["routes"][0]["verdict"]
        assert (verdict["name"] != "fail", verdict["failed"]) == (True, 0), verdict
        record = await load.stop()
        assert record.client_errors == 0, record.errors_text()
        await opened.verify(record)


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "victim",
    ["supervisor", pytest.param("ledger", marks=pytest.mark.soak), pytest.param("worker", marks=pytest.mark.soak)],
)
async def test_a_drill_that_nobody_ends_ends_by_itself_whoever_is_killed(victim: str) -> None:
    async with scene(stage="dualwrite", trigger=TRIGGER) as opened:
        load = opened.load(rate=200.0, keys=200)
        await until_accepted(load, 50)
        begun = time.monotonic()
        await opened.admin.ask("POST", PATH, {"fault": "dead", "seconds": 6.0})
        await opened.admin.until(lambda status: status.routes[0].pending > 50, 30, "copies that fail")
        os.kill(opened.instance.pids(victim)[0], signal.SIGKILL)
        await asyncio.sleep(max(0.0, begun + 7.0 - time.monotonic()))
        record = await load.stop()
        await opened.verify(record)
