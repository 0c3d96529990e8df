"""A staged plan on real processes: back for a fault with the evidence, on from where it was, and to the end."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest

from proxy.demo.load import until_accepted
from tests.harness.scene import Scene, scene

pytestmark = pytest.mark.asyncio
PATH = "/api/v1/routes/-/rollout"
STEPS = [{"weight": weight, "hold": 1.0, "samples": 100} for weight in (25.0, 50.0, 100.0)]
# Toy backends share two cores with everything else: what is judged here is failures, not milliseconds.
TRIGGER = {"slower": "0%"}


async def until(opened: Scene, *phases: str, seconds: float = 60.0) -> dict[str, Any]:
    async with asyncio.timeout(seconds):
        while True:
            found: dict[str, Any] = await opened.admin.ask("GET", PATH)
            if found["phase"] in phases:
                return found
            await asyncio.sleep(0.1)


async def weight(opened: Scene) -> float:
    return (await opened.admin.status()).routes[0].weight_target


@pytest.mark.timeout(240)
async def test_it_reverts_for_a_fault_and_finishes_once_that_is_mended() -> None:
    async with scene(stage="dualwrite", trigger=TRIGGER) as opened:
        load = opened.load(rate=200.0, keys=200)
        await until_accepted(load, 50)
        await opened.admin.ask("POST", PATH, {"steps": STEPS, "reason": "first try"})
        while await weight(opened) < 25:
            await asyncio.sleep(0.05)
        await opened.new.fault("errors", every=3)
        reverted = await until(opened, "reverted")
        assert await weight(opened) == 0
        why = await opened.admin.ask("GET", "/api/v1/why")
        assert why["entry"]["reason"] == reverted["reason"]
        assert why["entry"]["evidence"]["trigger"] in ("error-rate", "breaker")
        await opened.new.fault("none")
        await opened.admin.until(lambda status: status.routes[0].sides["new"].breaker == "closed", 30, "new is well")
        await opened.admin.rearm("mended")
        await opened.admin.ask("POST", PATH, {"steps": STEPS, "from_step": 2, "reason": "second try"})
        await until(opened, "done")
        assert await weight(opened) == 100
        history = await opened.admin.ask("GET", "/api/v1/history")
        assert [entry["action"] for entry in reversed(history["entries"])][1:] == [
            "rollout-start", "rollout-step", "revert", "rollout-reverted", "rearm",
            "rollout-start", "rollout-step", "rollout-step", "rollout-done",
        ]  # fmt: skip
        record = await load.stop()
        assert record.client_errors == 0, record.errors_text()
        await opened.verify(record)


@pytest.mark.timeout(240)
async def test_it_survives_a_supervisor_that_dies_in_mid_step() -> None:
    async with scene(stage="dualwrite", trigger=TRIGGER) as opened:
        load = opened.load(rate=200.0, keys=200)
        await until_accepted(load, 50)
        slow = [step | {"hold": 6.0} for step in STEPS]
        await opened.admin.ask("POST", PATH, {"steps": slow})
        await until(opened, "holding")
        await asyncio.sleep(1.0)
        [supervisor] = opened.instance.pids("supervisor")
        os.kill(supervisor, signal.SIGKILL)
        while opened.instance.pids("supervisor") in ([], [supervisor]) or not await opened.admin.is_ready():
            await asyncio.sleep(0.1)
        await until(opened, "done", seconds=120)
        assert await weight(opened) == 100
        record = await load.stop()
        assert record.client_errors == 0, record.errors_text()
        await opened.verify(record)
