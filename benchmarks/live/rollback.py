"""A person's rollback from 50 % while requests and messages come as fast as promised, or as this machine can."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, Final

from benchmarks.live.client import MESSAGES, REQUESTS, Client
from benchmarks.live.figures import ENOUGH, RATE_BOUND, Turned
from benchmarks.live.stand import NEVER_REVERT, WORKERS, ToyStand, is_everywhere, stand
from benchmarks.processes import BenchmarkFailed
from proxy.demo.comparison import compare
from proxy.demo.record import Record, joined
from proxy.demo.toy import ToyBackend

WEIGHT: Final = 50.0
_SHARES: Final = {REQUESTS: 0.2, MESSAGES: 0.8}
"""Of the events: clients, proxy and toys share a machine, and a request costs each of them several times as much."""
_LESS: Final = 0.7
"""Of what the machine did, where that was less than was asked: at its limit, it would measure queues."""
_TRIES: Final = 3
_BETWEEN: Final = 2.0
"""Seconds with either weight."""
_APPLY_SECONDS: Final = 30.0
_OPEN_SECONDS: Final = 2.0
"""Until clients are started and sessions open."""


async def measure(rollbacks: int) -> Turned:
    """So many rollbacks under one load of both kinds, which is less and less until the machine keeps up with it.

    Client errors are of the last load alone: where more is asked than done, the last Pongs of a session come too late.
    Both stores are held against all of them.
    """
    async with stand(ToyBackend, has_sessions=True, stage="live", weight=WEIGHT, trigger=NEVER_REVERT) as opened:
        whole, asked, reached, number = Record(), RATE_BOUND, 0.0, 0
        while True:
            number += 1
            applied: list[float] = []
            record = await _load(opened, asked, number, _turn(opened, rollbacks, applied))
            whole = joined((whole, record))
            await opened.drained(whole.accepted)
            done = answered(record, rollbacks * 2 * _BETWEEN)
            reached = max(reached, done)
            if done >= ENOUGH * asked or number == _TRIES:
                break
            asked = _LESS * done
        found = [compare(whole, backend.stored()) for backend in (opened.old, opened.new)]
        return Turned(
            events=record.accepted,
            reached=reached,
            asked=asked,
            answered=done,
            applied=applied,
            errors=record.client_errors,
            lost=sum(len(each.lost) + len(each.different) + len(each.unknown) for each in found),
            misordered=sum(len(each.misordered) for each in found),
        )


async def _load(opened: ToyStand, rate: float, number: int, meanwhile: Coroutine[Any, Any, None]) -> Record:
    """The record of both clients, who send (events/s, together) while something is done."""
    address, directory = opened.instance.address, opened.directory
    clients = [Client(kind, address, rate * share, directory, number) for kind, share in _SHARES.items()]
    try:
        await asyncio.sleep(_OPEN_SECONDS)
        await meanwhile
        return joined(await asyncio.gather(*(client.stop() for client in clients)))
    finally:
        meanwhile.close()
        for client in clients:
            await client.cancel()


async def _turn(opened: ToyStand, rollbacks: int, applied: list[float]) -> None:
    """Back, and forth again. applied: gets the seconds from the first request until both routes' workers are there."""
    routes = [route.name for route in (await opened.admin.status()).routes]
    for _ in range(rollbacks):
        await asyncio.sleep(_BETWEEN)
        began = time.monotonic()
        for route in routes:
            changed = await opened.admin.rollback("a benchmark", route)
            if changed["applied"]["workers"] < WORKERS:  # it waits for 2 s alone
                await opened.admin.until(is_everywhere, _APPLY_SECONDS, "the rollback on every worker")
        applied.append(time.monotonic() - began)
        await asyncio.sleep(_BETWEEN)
        for route in routes:
            await opened.admin.stage("live", WEIGHT, "once more", route)


def answered(record: Record, seconds: float) -> float:
    """Events per second that were promised in the last so many seconds in which clients sent."""
    if not record.promises:
        raise BenchmarkFailed(f"not one event was accepted: {record.errors_text()}")
    until = max(promise.sent for promise in record.promises)
    return sum(until - seconds < promise.answered <= until for promise in record.promises) / seconds
