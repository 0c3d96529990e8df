"""A real Prometheus sees that new fails, a real Alertmanager says so, and the weight goes back to 0 and stays there."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from deploy.packages import program
from proxy.demo.admin import AdminError
from proxy.demo.children import free_port
from proxy.demo.load import until_accepted
from tests.harness.prometheus import EXAMPLES, watchers
from tests.harness.receiver import Server
from tests.harness.scene import NEVER_REVERT, Scene, scene

RULES = [
    {"labels": {"alertname": "CrossfadeNewFails", "severity": "critical"}, "route": "events", "action": "revert"},
    {"labels": {"alertname": "CrossfadeNewBehind"}, "route": "events", "action": "pause"},
]


def test_the_examples_are_what_their_programs_take(tmp_path: Path) -> None:
    for name in ("prometheus.yml", "rules.yml", "alertmanager.yml"):
        (tmp_path / name).write_text((EXAMPLES / name).read_text())
    (tmp_path / "crossfade.token").write_text("x")
    for words in (
        [program("promtool", "prometheus"), "check", "config", str(tmp_path / "prometheus.yml")],
        [program("amtool", "prometheus-alertmanager"), "check-config", str(tmp_path / "alertmanager.yml")],
    ):
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def names(alerts: list[dict[str, Any]]) -> set[str]:
    return {each["labels"]["alertname"] for each in alerts}


@pytest_asyncio.fixture
async def chat() -> AsyncIterator[Server]:
    made = Server()
    await made.start()
    yield made
    await made.stop()


async def entry(opened: Scene, action: str, seconds: float) -> dict[str, Any]:
    """The newest entry of the audit trail with this action, once there is one."""
    deadline = time.monotonic() + seconds
    while True:
        history = await opened.admin.ask("GET", "/api/v1/history")
        for each in history["entries"]:
            if each["action"] == action:
                return dict(each)
        assert time.monotonic() < deadline, (action, [each["action"] for each in history["entries"]])
        await asyncio.sleep(0.2)


@pytest.mark.asyncio
@pytest.mark.timeout(600)
async def test_an_alert_reverts_and_its_end_raises_nothing(chat: Server) -> None:
    address, prometheus = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    query = {"url": f"http://{prometheus}", "query": 'up{job="crossfade"}', "above": 0.0}

    def configure(config: dict[str, Any]) -> None:
        config["admin"] = {"tcp": address}
        config["hooks"] = {"alertmanager": {"rules": RULES}}
        config["instance"] = "edge-1"
        config["gates"] = [{"name": "scraped", "prometheus": query, "every": "500ms"}]
        config["notifications"] = [{"name": "chat", "kind": "slack", "url": chat.url, "events": ["revert", "alert-*"]}]

    async with scene(configure, stage="dualwrite", trigger=NEVER_REVERT) as opened:
        load = opened.load(rate=100.0)
        await until_accepted(load, 50)
        made = await opened.admin.ask("POST", "/api/v1/tokens", {"name": "alertmanager", "role": "hook"})
        plan = {"steps": [{"weight": 25.0, "hold": 600.0, "before": ["scraped"]}]}
        with pytest.raises(AdminError, match="does not answer"):
            await opened.admin.ask("POST", "/api/v1/routes/-/rollout", plan)
        async with watchers(opened.directory, address, made["token"], prometheus) as both:
            await opened.admin.ask("POST", "/api/v1/routes/-/rollout", plan)
            assert (await entry(opened, "rollout-step", 60))["evidence"]["gates"]["scraped"]["answer"] == "yes"
            await opened.new.fault("errors", every=3)
            await entry(opened, "revert", 90)
            why = await opened.admin.ask("GET", "/api/v1/why")
            assert why["latched"] is True
            assert "the alert CrossfadeNewFails is firing (severity=critical)" in why["text"]
            assert "of what new answered for events failed" in why["text"]
            assert why["entry"]["actor"] == "token alertmanager"
            evidence = why["entry"]["evidence"]
            assert (evidence["trigger"], evidence["labels"]["route"]) == ("alert", "events")
            status = (await opened.admin.status()).routes[0]
            assert (status.weight_target, status.latched) == (0, True)

            await opened.new.fault("none")
            resolved = await entry(opened, "alert-resolved", 150)
            assert resolved["evidence"]["fingerprint"] == evidence["fingerprint"]
            await both.until(lambda alerts: "CrossfadeNewFails" not in names(alerts), 30)
            assert "CrossfadeReverted" in names(await both.alerts())
            status = (await opened.admin.status()).routes[0]
            assert (status.weight_target, status.latched) == (0, True)
        history = await opened.admin.ask("GET", "/api/v1/history")
        assert [each["action"] for each in history["entries"]].count("revert") == 1
        record = await load.stop()
        said = [each["text"] for each in chat.got]
        assert len(said) == 2
        assert said[0].startswith(
            "Crossfade at edge-1: revert of events, live 25 % to dualwrite 0 %, latched (epoch 3)"
        )
        assert said[1].startswith("Crossfade at edge-1: alert-resolved of events (epoch 3) by token alertmanager")
        await opened.verify(record)
