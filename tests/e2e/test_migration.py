"""MIGRATION.md walked, each section from its top: real instances, real traffic, the commands as they stand."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import aiohttp
import pytest
import yaml

from deploy.lists import sections
from proxy.demo.children import free_port
from proxy.demo.load import until_accepted
from proxy.demo.verify import consistency_of
from tests.deploy.walk import Walker
from tests.harness.scene import Scene, scene

pytestmark = pytest.mark.timeout(600)

STEPS = sections()
ORDERS = "orders.example.com"
CALM = {"slower": "0%", "silence": "0s", "error_rate": "50%", "lag_age": "1h"}
"""What a busy machine does to latencies is nothing to go back for."""
SHORTER = {
    "sleep 10": "sleep 6",
    "--for 5m": "--for 1s",
    "--hold 1h": "--hold 500ms",
    "--hold 10s": "--hold 0s",
    "--analysis 5m": "--analysis 1s",
    "--keep-old 1h": "--keep-old 1s",
    "--quiet 1h": "--quiet 1s",
    "--since 1h": "--since 1m",
    # What it says of stores takes the live checker half a minute; here they are read in the end, event by event.
    "--since 24h": "--since 1m --without performance --without integrity",
    "--after-rollback --since 2h": "--after-rollback --since 1m --without performance",
    "--since 2h": "--since 1m",
}


@asynccontextmanager
async def walking(
    configure: Callable[[dict[str, Any]], None] = lambda _: None,
    stage: str = "off",
    changes: Mapping[str, str] = MappingProxyType({}),
) -> AsyncIterator[tuple[Scene, Walker]]:
    """A scene with stores that are checked, and someone who walks beside its traffic."""

    def settings(config: dict[str, Any]) -> None:
        config["consistency"] = [consistency_of(Path()) | {"routes": ["events"]}]
        configure(config)

    async with scene(settings, stage=stage, trigger=CALM) as opened:
        walker = Walker(opened.directory, f"unix:{opened.instance.state_dir}/admin.sock", SHORTER | dict(changes))
        try:
            yield opened, walker
        finally:
            await walker.close()


@pytest.mark.asyncio
async def test_the_phases_of_a_migration() -> None:
    async with walking() as (opened, walker):
        steps = STEPS["The phases of a migration"]
        load = opened.load(rate=100.0)
        await until_accepted(load, 30)
        await walker.walk(steps[:-1])
        record = await load.stop()
        assert record.client_errors == 0, record.errors_text()
        last = steps[-1]
        assert "decommission" in last.command
        code, said = await walker._run(last.command)
        assert (code, "reads old's store" in said) == (1, True), said
        # What the list says of that: the check goes from the configuration.
        assert await opened.instance.stop() == 0
        config = yaml.safe_load(opened.instance.config_path.read_text())
        del config["consistency"]
        opened.instance.config_path.write_text(yaml.safe_dump(config))
        await opened.instance.start()
        await walker.walk([last])
        new = {row.id for row in opened.new.stored()}
        assert {promise.id for promise in record.promises} <= new


@pytest.mark.asyncio
async def test_blue_green_and_the_emergency_rollback() -> None:
    async with walking() as (opened, walker):
        load = opened.load(rate=100.0)
        await until_accepted(load, 30)
        await walker.walk(STEPS["Blue-green"])
        await walker.walk(STEPS["Emergency rollback"])
        record = await load.stop()
        assert record.client_errors == 0, record.errors_text()
        assert "## " in (opened.directory / "incident.md").read_text()


@pytest.mark.asyncio
async def test_strangler_by_routes_and_removal() -> None:
    def two_routes(config: dict[str, Any]) -> None:
        (events,) = config["routes"]
        orders = events | {"name": "orders", "match": events["match"] | {"host": ORDERS}}
        config["routes"] = [orders, events]
        config["default"] = "old"
        config["consistency"] = []

    async with walking(two_routes) as (opened, walker):
        load = opened.load(rate=100.0)
        await until_accepted(load, 20)
        sent = asyncio.create_task(_orders(opened))
        try:
            await walker.walk(STEPS["Strangler, route by route"][:2])
        finally:
            sent.cancel()
            await asyncio.gather(sent, return_exceptions=True)
        await walker.walk(STEPS["Strangler, route by route"][2:])
        record = await load.stop()
        assert record.client_errors == 0, record.errors_text()
        await walker.walk([step for step in STEPS["Removal"] if step.kind != "root"])
        assert await opened.instance.launcher.ended(10) == 0  # type: ignore[union-attr]


async def _orders(opened: Scene) -> None:
    """Events of the other route, until cancelled: a plan goes on by answers."""
    address = opened.instance.address
    async with aiohttp.ClientSession() as session:
        for number in range(10_000):
            headers = {"X-Event-Id": f"order-{number}", "Host": ORDERS}
            body = {"entity_id": f"order.{number}"}
            async with session.post(f"http://{address.host}:{address.port}/api/v1/events", json=body, headers=headers):
                await asyncio.sleep(0.01)


@pytest.mark.asyncio
async def test_break_glass_with_an_offline_drain() -> None:
    away = f"127.0.0.1:{free_port()}"
    async with walking(stage="dualwrite", changes={"127.0.0.1:18080": away}) as (opened, walker):
        await opened.new.fault("down")
        load = opened.load(rate=200.0)
        await until_accepted(load, 100)
        record = await load.stop()
        launcher = opened.instance.launcher
        assert launcher is not None
        launcher.signal(signal.SIGKILL)
        await launcher.ended(10)
        await opened.instance.gone(30)
        opened.instance.launcher = None
        # Clients are led past it: they give to old directly what nobody records.
        async with aiohttp.ClientSession() as session:
            for number in range(20):
                body = {"entity_id": "light.direct", "context": {"id": f"direct-{number}"}}
                headers = {"X-Event-Id": f"direct-{number}"}
                async with session.post(f"{opened.old.url}/api/v1/events", json=body, headers=headers) as answer:
                    assert answer.status == 201
        await opened.new.fault("none")
        config = yaml.safe_load(opened.instance.config_path.read_text())
        config["listen"] = [f"${{CROSSFADE_LISTEN:-{config['listen'][0]}}}"]
        opened.instance.config_path.write_text(yaml.safe_dump(config))
        await walker.walk(STEPS["Break glass: past the proxy, and its ledger drained offline"])
        wanted = {promise.id for promise in record.promises} | {f"direct-{number}" for number in range(20)}
        assert wanted <= {row.id for row in opened.old.stored()}
        assert wanted <= {row.id for row in opened.new.stored()}


@pytest.mark.asyncio
async def test_insertion_but_for_the_network() -> None:
    async with walking() as (opened, walker):
        walker._changes = SHORTER | {"127.0.0.1:8080": f"{opened.instance.address.host}:{opened.instance.address.port}"}
        await walker.walk([step for step in STEPS["Insertion"] if not step.kind])
        assert [row.id for row in opened.old.stored()] == ["insertion-1"]
        assert opened.new.stored() == []


def test_no_step_is_left_out() -> None:
    """Every section has a test here, and root's and Kubernetes' steps have one elsewhere."""
    text = Path(__file__).read_text()
    for title in STEPS:
        assert f'STEPS["{title}"]' in text, title
    assert {step.kind for steps in STEPS.values() for step in steps} == {"", "until", "root", "kubernetes"}
