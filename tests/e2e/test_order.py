"""Order per key through an outage, with two workers."""

from __future__ import annotations

import asyncio
from itertools import groupby

import pytest

from proxy.demo.load import until_accepted
from proxy.demo.record import Record
from proxy.demo.store import Stored
from tests.harness.scene import NEVER_REVERT, Scene, paced, scene

pytestmark = pytest.mark.asyncio


async def outage_of_new(opened: Scene, fault: str) -> Record:
    """Hot keys, an outage of new in their midst."""
    load = opened.load(rate=300.0, keys=16, connections=16, shared=True)
    await until_accepted(load, paced(100))
    await opened.new.fault(fault)
    await asyncio.sleep(1.5)  # the outage's length
    await opened.new.fault("none")
    await until_accepted(load, paced(200))
    return await load.stop()


def order_by_key(record: Record, rows: list[Stored]) -> dict[str, list[str]]:
    """First occurrences of each key's accepted events, in the order in which they were stored."""
    keys = {promise.id: promise.key for promise in record.promises}
    first = dict.fromkeys(row.id for row in rows if row.id in keys)
    ordered = sorted(first, key=lambda id: keys[id])  # stable: the stored order stays within a key
    return {key: list(ids) for key, ids in groupby(ordered, key=lambda id: keys[id])}


@pytest.mark.parametrize(
    "fault", ["stall", pytest.param("errors", marks=pytest.mark.soak), pytest.param("down", marks=pytest.mark.soak)]
)
async def test_answered_order_holds_through_an_outage(fault: str) -> None:
    # At half the weight new is the authority of some keys, and gets the copies of the others.
    async with scene(stage="live", weight=50, ordering="answered", trigger=NEVER_REVERT) as opened:
        record = await outage_of_new(opened, fault)
        assert record.client_errors == 0, record.errors_text()
        await opened.verify(record)


async def test_strict_order_is_the_same_at_both_sides() -> None:
    async with scene(stage="live", weight=50, ordering="strict", trigger=NEVER_REVERT) as opened:
        record = await outage_of_new(opened, "errors")
        assert record.client_errors == 0, record.errors_text()
        await opened.verify(record)
        assert order_by_key(record, opened.old.stored()) == order_by_key(record, opened.new.stored())
