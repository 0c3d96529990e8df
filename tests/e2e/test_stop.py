"""A graceful stop under load finishes what it took, resets nobody and loses nothing."""

from __future__ import annotations

import pytest

from proxy.demo.load import until_accepted, wait_until
from tests.harness.scene import NEVER_REVERT, paced, scene

pytestmark = pytest.mark.asyncio


async def test_stop_under_load_answers_what_was_taken_and_resets_nothing() -> None:
    async with scene(stage="live", weight=50, trigger=NEVER_REVERT) as opened:
        load = opened.load(rate=400.0, patience=0.0)
        await until_accepted(load, paced(200))
        assert await opened.instance.stop() == 0
        await wait_until(lambda: load.record.failures["refused"] > 0, 20, "refused connections")
        record = await load.stop()
        assert set(record.failures) == {"refused"}, record.errors_text()
        assert set(record.statuses) <= {201, 503}, record.statuses
        await opened.instance.start()
        await opened.verify(record)


async def test_what_is_owed_at_a_stop_is_delivered_by_the_next_start() -> None:
    async with scene(stage="dualwrite") as opened:
        await opened.new.fault("down")
        load = opened.load(rate=300.0, patience=0.0)
        await until_accepted(load, paced(300))
        assert await opened.instance.stop() == 0
        record = await load.stop()
        assert opened.new.stored() == []
        await opened.instance.start()
        status = await opened.admin.until(lambda s: s.routes[0].sides["new"].ledger.pending > 0, 10, "the backlog")
        assert status.routes[0].stage == "dualwrite"
        await opened.new.fault("none")
        await opened.verify(record)
