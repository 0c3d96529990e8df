"""Back from split: what new answered is carried over to old, while clients go on."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from benchmarks.live.client import REQUESTS, Client
from benchmarks.live.figures import Carried
from benchmarks.live.stand import LOOK_EVERY, NEVER_REVERT, ToyStand, stand
from benchmarks.processes import BenchmarkFailed
from proxy.demo.comparison import Comparison, compare
from proxy.demo.load import Load
from proxy.demo.record import Record, joined
from proxy.demo.toy import ToyBackend

WEIGHT: Final = 99.0
"""The most that is still split: nearly every event is one to carry over."""
_FILL_RATE: Final = 2_000.0
"""Events per second until there are enough; what a slower machine does not get done is left out."""
_LIVE_RATE: Final = 50.0
"""Of those that come while older ones of their keys are carried over."""
_SECONDS_OF_ONE: Final = 0.02
"""So long it may take for each event before it has failed."""


async def measure(events: int) -> Carried:
    """At least so many."""
    async with stand(ToyBackend, stage="split", weight=WEIGHT, trigger=NEVER_REVERT) as opened:
        filled = await _fill(opened, events)
        deferred = await _deferred(opened, filled.accepted)
        live = Load(opened.instance.address, rate=_LIVE_RATE, seed=2)
        live.start()
        try:
            began = time.monotonic()
            await opened.admin.rollback("a benchmark")
            seconds = await _carried(opened, began, deferred)
            record = await live.stop()
        finally:
            await live.cancel()
        whole = joined((filled, record))
        await opened.drained(whole.accepted)
        old, new = compare(whole, opened.old.stored()), compare(whole, opened.new.stored())
        return Carried(
            events=deferred,
            seconds=seconds,
            missing=_missing(whole, old, new),
            misordered=len(old.misordered) + len(new.misordered),
            live=record.accepted,
            errors=whole.client_errors,
        )


async def _fill(opened: ToyStand, events: int) -> Record:
    """Clients send until new has answered so many."""
    client = Client(REQUESTS, opened.instance.address, _FILL_RATE, opened.directory, 1)
    try:
        deadline = time.monotonic() + 30.0 + events * _SECONDS_OF_ONE
        while (await opened.new.state())["stored"] < events:
            client.child.check()
            if time.monotonic() > deadline:
                raise BenchmarkFailed(f"new has not answered {events} events in time")
            await asyncio.sleep(0.1)
        return await client.stop()
    finally:
        await client.cancel()


async def _deferred(opened: ToyStand, accepted: int) -> int:
    """How many the ledger keeps for old, once it knows of all."""

    status = await opened.admin.until(lambda status: status.owed("old") >= accepted, 60.0, "the record")
    return status.routes[0].sides["old"].ledger.deferred


async def _carried(opened: ToyStand, began: float, events: int) -> float:
    """Seconds until old is owed nothing from before."""
    deadline = began + 30.0 + events * _SECONDS_OF_ONE
    while True:
        old = (await opened.admin.status()).routes[0].sides["old"].ledger
        if not old.deferred and not old.pending:
            return time.monotonic() - began
        if time.monotonic() > deadline:
            left = old.deferred + old.pending
            raise BenchmarkFailed(f"old is still owed {left} events {time.monotonic() - began:.0f} s later")
        await asyncio.sleep(LOOK_EVERY)


def _missing(whole: Record, old: Comparison, new: Comparison) -> int:
    """What old lacks, of everything; what new lacks, of what it has answered; and what either has otherwise."""
    by_new = {promise.id for promise in whole.promises if promise.by == "new"}
    others = sum(len(each.different) + len(each.unknown) for each in (old, new))
    return len(old.lost) + len(by_new & set(new.lost)) + others
