"""A backend that breaks costs no event and no client an error, on whichever side it is."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from proxy.demo.admin import Status
from proxy.demo.load import Load, until_accepted, wait_until
from proxy.demo.store import digest_of
from proxy.demo.toy import ToyBackend
from tests.harness.caller import Caller
from tests.harness.scene import NEVER_REVERT, Scene, paced, scene

pytestmark = pytest.mark.asyncio

_OFTEN = 8
"""Deliveries of one event; five open a breaker."""
FAULTS: dict[str, tuple[str, dict[str, float]]] = {
    "errors": ("errors", {}),
    "every third fails": ("errors", {"status": 500, "every": 3}),
    "stall": ("stall", {}),
    "down": ("down", {}),
    "flap": ("flap", {"seconds": 0.3}),
    "half-close": ("half-close", {"every": 3}),
    "slow": ("slow", {"seconds": 0.2}),
}


async def suffer(opened: Scene, load: Load, backend: ToyBackend, fault: str) -> None:
    """Break one backend while the load goes on, mend it, and wait until events reach it again."""
    kind, fields = FAULTS[fault]
    await backend.fault(kind, **fields)
    await asyncio.sleep(1.2)  # the outage's length: nothing is waited for
    await backend.fault("none")
    await opened.admin.until(lambda status: is_caught_up(status, backend), 30, f"the recovery from {fault}")
    load.check()
    assert load.record.client_errors == 0, (fault, load.record.errors_text())


def is_caught_up(status: Status, backend: ToyBackend) -> bool:
    side = status.routes[0].sides[backend.name]
    return side.breaker == "closed" and side.ledger.pending <= 20


@pytest.mark.parametrize("name", ["old", "new"])
async def test_no_fault_of_a_backend_costs_an_event_or_a_client_error(name: str) -> None:
    async with scene(stage="live", weight=50, trigger=NEVER_REVERT) as opened:
        backend = opened.new if name == "new" else opened.old
        load = opened.load(rate=200.0)
        for fault in FAULTS:
            await until_accepted(load, 40)
            await suffer(opened, load, backend, fault)
        await opened.verify(await load.stop())


@pytest.mark.timeout(300)
async def test_a_backend_that_answers_before_it_has_read_the_body() -> None:
    # Larger than what the kernel's buffers take, so that the answer comes while most of the body is still to be sent.
    def large(config: dict[str, Any]) -> None:
        config["limits"] = {"max_event_size": "16MiB"}

    async with scene(large, stage="live", weight=50, trigger=NEVER_REVERT) as opened:
        await opened.new.fault("early")
        # A worker keeps 64 MiB of records for a slow disk: ten of these, which must not come within one commit.
        load = opened.load(rate=8.0, pad=6_000_000, connections=3)
        await until_accepted(load, 12)
        record = await load.stop()
        assert record.client_errors == 0, record.errors_text()
        # Such a backend stores an event after it has answered for it.
        answered, missing = {promise.id: promise.by for promise in record.promises}, {"": ""}
        deadline = time.monotonic() + 120
        while missing:
            assert time.monotonic() < deadline, (missing, (await opened.admin.status()).routes)
            await asyncio.sleep(0.2)
            stored = {row.id for row in opened.new.stored()}
            missing = {id: by for id, by in answered.items() if id not in stored}
        await opened.verify(record)


async def test_an_early_refusal_reaches_the_client() -> None:
    async with scene(stage="off") as opened:
        await opened.old.fault("early", status=413)
        load = opened.load(rate=60.0, pad=900_000)
        await wait_until(lambda: load.record.statuses[413] >= 40, 40, "40 refusals")
        record = await load.stop()
        assert set(record.statuses) == {413}, record.statuses
        assert not record.failures
        assert opened.old.stored() == []


async def test_the_proxy_reverts_by_itself_and_old_answers_on() -> None:
    async with scene(stage="live", weight=50) as opened:
        load = opened.load()
        await until_accepted(load, 40)
        await opened.new.fault("errors")
        status = await opened.admin.until(lambda status: status.routes[0].latched, 15, "the revert")
        assert status.routes[0].weight_target == 0
        assert status.routes[0].latch_reason
        reverted_at = load.record.accepted
        await until_accepted(load, paced(200))
        await opened.new.fault("none")
        record = await load.stop()
        assert {promise.by for promise in record.promises[reverted_at + paced(50) :]} == {"old"}
        assert record.client_errors == 0, record.errors_text()
        await opened.verify(record)


async def test_one_event_that_new_never_takes_reverts_nothing() -> None:
    async with scene(stage="live", weight=50) as opened:
        load = opened.load(rate=100.0)
        await until_accepted(load, 40)
        await opened.new.fault("errors", only="odd")
        caller, body = Caller(opened.instance.address), b'{"entity_id": "odd"}'
        assert (await caller.post({"X-Event-Id": "odd"}, body)).status == 201
        caller.close()
        load.record.digests["odd"] = digest_of(body)
        deadline = time.monotonic() + 30
        while (await opened.admin.ask("GET", "/api/v1/status"))["counters"].get("ledger_retries", 0) < _OFTEN:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        await until_accepted(load, 100)
        route = (await opened.admin.status()).routes[0]
        assert not route.latched, route.latch_reason
        await opened.new.fault("none")
        await opened.verify(await load.stop())


async def test_with_a_single_key_the_ledger_sees_that_new_is_down() -> None:
    async with scene(stage="live", weight=1) as opened:
        load = opened.load(rate=20.0, keys=1, connections=1)
        await until_accepted(load, 5)
        await opened.new.fault("errors")
        status = await opened.admin.until(lambda status: status.routes[0].latched, 30, "the revert")
        assert status.routes[0].latch_reason == "the breaker of new is open in the ledger: status 503"
        await opened.new.fault("none")
        await opened.verify(await load.stop())
