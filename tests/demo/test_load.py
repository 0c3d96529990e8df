"""The load's record says exactly what was answered."""

from __future__ import annotations

import time

import pytest

from proxy.demo.comparison import compare
from proxy.demo.load import Load, wait_until
from proxy.demo.toy import ToyBackend


@pytest.mark.asyncio
async def test_a_healthy_backend_holds_the_record(toy: ToyBackend) -> None:
    load = Load(toy.address, rate=2_000, keys=50, connections=4)
    load.start()
    await wait_until(lambda: load.record.accepted >= 300, 20, "300 events")
    record = await load.stop()
    found = compare(record, toy.stored())
    assert record.client_errors == 0
    assert found.stored == record.accepted == found.rows
    assert found.is_complete
    assert not found.misordered
    assert found.problems() == []


@pytest.mark.asyncio
async def test_errors_are_counted_and_the_same_id_is_sent_again(toy: ToyBackend) -> None:
    await toy.fault("errors", every=5)
    load = Load(toy.address, rate=1_000, keys=20, connections=4)
    load.start()
    await wait_until(lambda: load.record.statuses[503] >= 10, 20, "ten errors")
    record = await load.stop()
    assert record.client_errors == record.statuses[503]
    assert "503" in record.errors_text()
    assert compare(record, toy.stored()).is_complete
    assert record.accepted_ids() == record.digests.keys()


@pytest.mark.asyncio
async def test_missing_answers_are_counted_by_kind(toy: ToyBackend) -> None:
    await toy.fault("half-close", every=3, seconds=0.1)
    load = Load(toy.address, rate=500, keys=20, connections=2)
    load.start()
    await wait_until(lambda: load.record.accepted >= 20, 20, "20 events")
    await toy.fault("down")
    await wait_until(lambda: load.record.failures["refused"] > 0, 20, "a refused connection")
    await toy.fault("none")
    record = await load.stop()
    found = compare(record, toy.stored())
    assert found.is_complete
    assert found.duplicates > 0
    assert record.client_errors > 0


@pytest.mark.asyncio
async def test_it_never_sends_more_than_its_rate(toy: ToyBackend) -> None:
    load = Load(toy.address, rate=50, keys=10, connections=5)
    began = time.monotonic()
    load.start()
    await wait_until(lambda: load.record.accepted >= 20, 20, "20 events")
    record = await load.stop()
    assert record.accepted <= 5 + 50 * (time.monotonic() - began)


@pytest.mark.asyncio
async def test_giving_up_leaves_the_event_out_of_the_record(toy: ToyBackend) -> None:
    await toy.fault("errors")
    load = Load(toy.address, rate=100, keys=5, connections=1, patience=0.0)
    load.start()
    await wait_until(lambda: load.record.statuses[503] > 1, 20, "two errors")
    record = await load.stop()
    assert record.accepted_ids() == set()
    assert compare(record, toy.stored()).is_complete
