"""How long it takes from a failure of new until every worker has weight 0, by the triggers that are the default."""

from __future__ import annotations

from typing import Final, NamedTuple

from benchmarks.live.breaks import Break
from benchmarks.live.figures import Revert, Reverts
from benchmarks.live.stand import ToyStand, stand
from benchmarks.processes import BenchmarkFailed
from proxy.demo.load import Load, until_accepted
from proxy.demo.toy import ToyBackend

WEIGHT: Final = 50.0
_LONGER: Final = 2.0
"""As a multiple of the bound: how long a revert is waited for, so that a miss has a figure, too."""


class Traffic(NamedTuple):
    """rate: events per second; warm: events at the weight before new is broken; connections: of the clients."""

    rate: float
    warm: int
    connections: int = 24


BUSY: Final = Traffic(200.0, 1_000)
SPARSE: Final = Traffic(17 / 60, 2, connections=2)
"""One event in 3.5 seconds."""


async def measure(broken: Break, traffic: Traffic, bound: float, rounds: int) -> Reverts:
    """So many times: a weight, a failure, a revert. Raises BenchmarkFailed when a store lacks an event in the end."""
    async with stand(ToyBackend, stage="dualwrite") as opened:
        load = Load(opened.instance.address, rate=traffic.rate, connections=traffic.connections)
        load.start()
        try:
            found = [await _round(opened, load, broken, traffic, bound) for _ in range(rounds)]
            record = await load.stop()
        finally:
            await load.cancel()
        await opened.drained(record.accepted)
        opened.check_stores(record)
        return Reverts(found, record.accepted, record.client_errors)


async def _round(opened: ToyStand, load: Load, broken: Break, traffic: Traffic, bound: float) -> Revert | None:
    await opened.live(WEIGHT)
    await until_accepted(load, traffic.warm, seconds=30.0 + 3 * traffic.warm / traffic.rate)
    if (await opened.admin.status()).routes[0].latched:
        raise BenchmarkFailed(f"reverted before anything was broken: {await _why(opened)}")
    began = await broken.begin(opened)
    try:
        revert = await opened.reverted(began, _LONGER * bound + 5.0)
    finally:
        await broken.end(opened)
    if revert is None:
        await opened.admin.rollback("it was not reverted")
    return revert


async def _why(opened: ToyStand) -> str:
    return str((await opened.admin.ask("GET", "/api/v1/why"))["text"])
