"""Every query of every dashboard, asked of a real Prometheus that scraped a real instance through a migration."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from proxy.cli.monitoring import DASHBOARDS
from proxy.demo.children import free_port
from proxy.demo.instance import add_sessions
from proxy.demo.load import until_accepted
from proxy.demo.verify import consistency_of
from tests.harness.grafana import Query, label_values, queries
from tests.harness.prometheus import EXAMPLES, Watchers, promtool, watchers
from tests.harness.receiver import Server
from tests.harness.scene import Scene, scene

FOLDER = EXAMPLES.parent / "grafana"
JUDGED = 90.0
"""Seconds within which a window is judged on a busy machine."""


@pytest_asyncio.fixture
async def chat() -> AsyncIterator[Server]:
    made = Server()
    await made.start()
    yield made
    await made.stop()


def asked() -> list[Query]:
    return [query for name in DASHBOARDS for query in queries(json.loads((FOLDER / name).read_text()))]


async def has_data(both: Watchers, query: Query, start: float) -> bool:
    """Did Prometheus answer with a number at some time since the start?"""
    if query.is_variable:
        metric, label = label_values(query.asked)
        return bool(await both.ask(f"label/{label}/values", **{"match[]": metric}))
    span = {"start": f"{start:.3f}", "end": f"{time.time():.3f}", "step": "1"}
    data = await both.ask("query_range", query=query.asked, **span)
    return any(not math.isnan(float(value)) for series in data["result"] for _, value in series["values"])


async def scraped(both: Watchers, query: str) -> None:
    """Wait until Prometheus has something for this."""
    deadline = time.monotonic() + JUDGED
    while not (await both.ask("query", query=query))["result"]:
        assert time.monotonic() < deadline, f"{query}\n{both.logs()}"
        await asyncio.sleep(0.5)


async def evaluated(both: Watchers) -> None:
    """Wait until Prometheus has looked at every rule, and had no error with any."""
    deadline = time.monotonic() + 90
    while True:
        rules = [rule for group in (await both.ask("rules"))["groups"] for rule in group["rules"]]
        assert [rule for rule in rules if rule["health"] == "err"] == []
        if all(rule["health"] == "ok" for rule in rules):
            return
        assert time.monotonic() < deadline, both.logs()
        await asyncio.sleep(0.5)


async def stall(opened: Scene, both: Watchers, role: str) -> None:
    """Stop a process for a moment, and see that its loop was late by that."""
    pid = opened.instance.pids(role)[0]
    os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(1.0)
    os.kill(pid, signal.SIGCONT)
    await scraped(both, f'crossfade_loop_lag_seconds{{process=~"{role}.*"}} > 0.7')


async def migrate(opened: Scene, both: Watchers) -> None:
    """A rollout to 25 %, long enough for a window to be judged, a fault, and the revert."""
    await scraped(both, "crossfade_weight_target_ratio == 0")  # a change is one of what was seen before
    plan = {"steps": [{"weight": 25.0, "hold": 600.0, "before": ["smoke"]}]}
    await opened.admin.ask("POST", "/api/v1/routes/events/rollout", plan)
    await opened.admin.until(lambda status: status.routes[0].weight_target == 25, 60, "the step")
    await scraped(both, "crossfade_weight_target_ratio == 0.25")  # seen before it is taken back
    await scraped(both, "sum(crossfade_judged_events_total) > 0")
    await opened.new.fault("errors")
    await opened.admin.until(lambda status: status.routes[0].latched, 60, "the revert")


@pytest.mark.asyncio
@pytest.mark.timeout(400)
async def test_every_query_has_data(chat: Server) -> None:
    address, prometheus = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"

    def configure(config: dict[str, Any]) -> None:
        config["admin"] = {"tcp": address}
        config["gates"] = [{"name": "smoke", "command": ["true"]}]
        config["notifications"] = [{"name": "chat", "kind": "slack", "url": chat.url}]
        config["consistency"] = [consistency_of(Path()) | {"routes": ["events"]}]
        add_sessions(config)

    begun = time.time()
    async with scene(configure, stage="dualwrite", dedupe="1m") as opened:
        load = opened.load(rate=100.0)
        await until_accepted(load, 50)
        async with watchers(opened.directory, address, "none", prometheus) as both:
            await stall(opened, both, "worker")
            await stall(opened, both, "ledger")
            os.kill(opened.instance.pids("worker")[-1], signal.SIGKILL)  # for those who count deaths
            await migrate(opened, both)
            assert not await has_data(both, Query("a name that nobody exports", {}, "crossfade_nothing"), begun)
            left, deadline = asked(), time.monotonic() + 60
            assert len(left) > 70
            while left := [query for query in left if not await has_data(both, query, begun)]:
                assert time.monotonic() < deadline, [(query.where, query.asked) for query in left]
                await asyncio.sleep(1)
            await evaluated(both)
            await both.until(lambda alerts: "CrossfadeReverted" in {a["labels"]["alertname"] for a in alerts}, 30)
        async with aiohttp.ClientSession() as session, session.get(f"http://{address}/metrics") as answer:
            text = await answer.text()
        assert await asyncio.to_thread(promtool, "check", "metrics", text=text) == (0, "")
        await opened.new.fault("none")
        await opened.verify(await load.stop())
