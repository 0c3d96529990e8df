"""A staged plan on real processes: back for a fault with the evidence, on from where it was, and to the end."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from proxy.demo.children import python
from proxy.demo.load import until_accepted
from proxy.demo.verify import consistency_of
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


@pytest.mark.timeout(600)
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
        await opened.admin.until(lambda status: status.routes[0].sides["new"].breaker == "closed", 90, "new is well")
        await opened.admin.rearm("mended")
        await opened.admin.ask("POST", PATH, {"steps": STEPS, "from_step": 2, "reason": "second try"})
        await until(opened, "done")
        assert await weight(opened) == 100
        history = await opened.admin.ask("GET", "/api/v1/history")
        actions = [entry["action"] for entry in reversed(history["entries"])]
        actions.remove("revert-applied")  # it may come before the rollout's own line, or after it
        assert actions[1:] == [
            "rollout-start", "rollout-step", "revert", "rollout-reverted", "rearm",
            "rollout-start", "rollout-step", "rollout-step", "rollout-done",
        ]  # fmt: skip
        record = await load.stop()
        assert record.client_errors == 0, record.errors_text()
        await opened.verify(record)


SMOKE = """#!/bin/sh
echo "$CROSSFADE_PHASE $CROSSFADE_STEP $CROSSFADE_TARGET" >> smoke.log
test -f go || { echo 'nobody said go'; exit 1; }
"""


def gated(config: dict[str, Any]) -> None:
    config["consistency"] = [consistency_of(Path()) | {"routes": ["events"]}]
    config["gates"] = [{"name": "smoke", "command": ["./smoke.sh"], "every": "200ms"}]


async def ctl(opened: Scene, *words: str) -> tuple[int, str]:
    """A command as an operator types it; exit code and output."""
    command = python("proxy.cli.main", "--admin", f"unix:{opened.instance.state_dir}/admin.sock", *words)
    process = await asyncio.create_subprocess_exec(
        *command, cwd=opened.directory, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(60):
        said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


async def read_metrics(opened: Scene) -> None:
    """As Prometheus does."""
    connector = aiohttp.UnixConnector(str(opened.instance.state_dir / "admin.sock"))
    async with aiohttp.ClientSession(connector=connector) as session, session.get("http://localhost/metrics") as answer:
        assert answer.status == 200


@pytest.mark.timeout(600)
async def test_gates_have_their_say_and_in_the_end_everything_is_validated() -> None:
    async with scene(gated, stage="dualwrite", trigger=TRIGGER) as opened:
        smoke = opened.directory / "smoke.sh"
        plan = opened.directory / "plan.yaml"
        steps = "steps:\n  - {weight: 50}\n  - {weight: 100, gates: [smok]}\n"
        plan.write_text(f"version: 1\nhold: 1s\nbefore: [smoke]\n{steps}")
        code, said = await ctl(opened, "rollout", "plan", "-f", "plan.yaml")
        assert (code, "plan.yaml:6:27: there is no gate 'smok'; there is smoke" in said) == (2, True), said
        plan.write_text(plan.read_text().replace("smok]}", "smoke]}"))
        code, said = await ctl(opened, "rollout", "start", "-f", "plan.yaml")
        assert (code, "plan.yaml:3:10: gate 'smoke': there is no program ./smoke.sh" in said) == (2, True), said
        smoke.write_text(SMOKE)
        smoke.chmod(0o700)
        load = opened.load(rate=200.0, keys=200)
        await until_accepted(load, 50)
        code, said = await ctl(opened, "record-baseline", "--for", "1s", "--wait")
        assert (code, "answers" in said) == (0, True), said
        code, said = await ctl(opened, "rollout", "start", "-f", "plan.yaml")
        assert code == 0, said
        async with asyncio.timeout(30):
            while "nobody said go" not in (await opened.admin.ask("GET", PATH))["reason"]:
                await asyncio.sleep(0.1)
        assert (await until(opened, "preparing"))["gates"][0]["answer"] == "no"
        assert await weight(opened) == 0
        (opened.directory / "go").touch()
        await until(opened, "done")
        assert await weight(opened) == 100
        asked = (opened.directory / "smoke.log").read_text().splitlines()
        assert sorted(set(asked)) == ["before 1 50.0", "before 2 100.0", "gates 2 100.0"]

        wanted = ("--slower", "100%", "--p99", "5s", "--availability", "90%", "--since", "10m")
        code, said = await ctl(opened, "validate", *wanted)
        assert (code, "NOT KNOWN  monitoring" in said) == (1, True), said  # nobody has read the metrics yet
        for _ in range(8):  # on a loaded machine some second is always slow
            await read_metrics(opened)
            code, said = await ctl(opened, "validate", *wanted)
            if code == 0:
                break
            await asyncio.sleep(1)
        assert code == 0, said
        assert "pass: 22 of 22 criteria hold" in said
        record = await load.stop()
        assert record.client_errors == 0, record.errors_text()


@pytest.mark.timeout(600)
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
