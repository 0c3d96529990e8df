"""Back from split: old gets what new answered before anything that was answered later, at every turn of the dial."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from proxy.core.choose import BUCKETS
from proxy.demo.comparison import compare
from proxy.demo.load import Load, until_accepted
from tests.harness.ledger import all_receipts
from tests.harness.scene import NEVER_REVERT, PACE, Scene, paced, scene

pytestmark = pytest.mark.asyncio


async def test_a_rollback_under_load_lets_nothing_overtake_what_was_deferred() -> None:
    async with scene(stage="split", weight=50, trigger=NEVER_REVERT) as opened:
        load = start(opened)
        await until_accepted(load, paced(3_000))
        changed = await opened.admin.rollback("a test")
        assert changed["applied"]["workers"] == 2
        await until_accepted(load, paced(1_500))
        await everything_is_at_old(opened, load)
        counters = (await opened.admin.ask("GET", "/api/v1/status"))["counters"]
        assert counters["ledger_carried_over"] > 0
        assert "control_routings_before_ledger" not in counters


async def test_each_fall_of_the_weight_carries_over_the_buckets_that_fell() -> None:
    async with scene(stage="split", weight=50, trigger=NEVER_REVERT) as opened:
        load = start(opened)
        await until_accepted(load, paced(2_000))
        await opened.admin.weight(25)
        await until_accepted(load, paced(1_000))
        await until_only_low_buckets_are_deferred(opened, BUCKETS // 4)
        await opened.admin.weight(0)
        await until_accepted(load, paced(1_000))
        await everything_is_at_old(opened, load)


async def test_a_ledger_that_dies_while_it_carries_over_goes_on_in_order() -> None:
    async with scene(stage="split", weight=50, trigger=NEVER_REVERT) as opened:
        load = start(opened, 700.0 / PACE)  # as many in either form: the kill is to find some that wait
        await until_accepted(load, 3_000)
        (ledger,) = opened.instance.pids("ledger")
        await opened.admin.rollback("a test")
        os.kill(ledger, signal.SIGKILL)
        await until_accepted(load, paced(1_500))
        await everything_is_at_old(opened, load)


def start(opened: Scene, rate: float = 700.0) -> Load:
    """Events of each key come through all connections, hence through both workers."""
    return opened.load(rate=rate, keys=150, shared=True)


async def until_only_low_buckets_are_deferred(opened: Scene, limit: int) -> None:
    """Those of buckets from `limit` on were carried over, and the others were not."""
    deadline = time.monotonic() + 30
    while True:
        found = [each.bucket for each in await all_receipts(opened.admin) if each.old and each.old.state == "deferred"]
        assert found, "what is new's at this weight stays deferred"
        if max(found) < limit:
            return
        assert time.monotonic() < deadline, f"still deferred: {sorted(set(found))[-5:]}"
        await asyncio.sleep(0.1)


async def everything_is_at_old(opened: Scene, load: Load) -> None:
    await opened.admin.until(lambda s: s.routes[0].sides["old"].ledger.deferred == 0, 45, "the carry-over")
    record = await load.stop()
    await opened.settled()
    found = compare(record, opened.old.stored())
    assert not found.misordered, found.problems()
    assert found.is_complete, found.problems()
