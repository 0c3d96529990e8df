"""A consumer's connection goes from one worker to another while it is fed, and neither it nor the ledger notices."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from proxy.fanout.relay import Consumers
from proxy.worker.adopting import Adopting
from proxy.worker.retiring import Retiring
from tests.fanout.rig import fanning_out
from tests.http.wire import until

pytestmark = pytest.mark.asyncio


async def test_a_consumer_moves_and_is_fed_on() -> None:
    async with fanning_out() as rig:
        consumer = await rig.consumer("new").connect()
        await rig.post(range(20))
        first = rig.consumers
        path = first.path.with_name("h.sock")
        rig.consumers = Consumers(rig.service, first.path)  # of the worker that comes next
        adopting = Adopting(path, rig.service, rig.sessions, rig.consumers)
        adopting.start()
        retiring = Retiring(rig.service, rig.sessions, first, lambda: [path], lambda: False)
        moving = asyncio.create_task(retiring.run(monotonic() + 10))
        feeding = asyncio.create_task(rig.post(range(20, 60)))
        await until(lambda: rig.consumers.open and not first.open, "it has moved")
        await feeding
        await consumer.has(60)
        assert consumer.values() == [*range(60)]
        assert consumer.close_code == 0
        assert rig.plane.counters["moved_out_consumer"] == rig.plane.counters["moved_in_consumer"] == 1
        assert rig.plane.counters["consumer_connections"] == 1
        moving.cancel()
        await asyncio.gather(moving, return_exceptions=True)
        retiring.close()
        adopting.close()
        await adopting.end()
        assert rig.service.others == 1
