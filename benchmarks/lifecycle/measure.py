"""Switches of one kind while requests and messages come at a fixed rate: what clients saw, what both stores have."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.lifecycle.figures import Seen, Span, quantile, split
from benchmarks.lifecycle.held import HeldInstance
from benchmarks.lifecycle.switches import Switch, timed
from benchmarks.live.backend import Backend
from benchmarks.live.client import MESSAGES, REQUESTS, Client
from benchmarks.live.stand import NEVER_REVERT, Stand, stand
from benchmarks.processes import BenchmarkFailed
from proxy.demo.comparison import compare
from proxy.demo.instance import Instance
from proxy.demo.record import Record, joined
from proxy.load.wire import GARBLED, REFUSED

_PAUSE: Final = 0.5
"""Seconds between two switches, in which answers are as usual."""
_BEFORE: Final = 5.0
"""Seconds of usual answers at either end."""
_SETTLE: Final = 2.0
"""Seconds until clients are started and sessions open."""
_GOING_AWAY: Final = 1001


class Traffic(NamedTuple):
    """requests: events per second over HTTP, on so many connections; messages: of all sessions together."""

    requests: float
    connections: int
    messages: float
    sessions: int


async def measure(
    switch: Switch, times: int, traffic: Traffic, instance: Callable[[Path, dict[str, Any]], Instance] = Instance
) -> Seen:
    """Raises BenchmarkFailed, or what else made it impossible to measure."""
    both = {"stage": "dualwrite", "trigger": NEVER_REVERT}
    async with stand(Backend, has_sessions=True, instance=instance, **both) as opened:
        spans: list[Span] = []
        began, excused, record = await _load(opened, traffic, switch, times, spans)
        await opened.drained(record.accepted)
        found = [compare(record, backend.stored()) for backend in (opened.old, opened.new)]
        outside, inside, again = split(record.promises, spans)
        refused = record.failures[REFUSED] + record.failures[GARBLED] + record.refusals
        answered, unsent = _rates(record, began)
        return Seen(
            spans=spans,
            events=record.accepted,
            asked=traffic.requests + traffic.messages,
            answered=answered,
            unsent=unsent,
            again=quantile(again, 0.99),
            away=quantile(record.away, 0.99),
            errors=record.errors_text(),
            refused=refused,
            broken=record.client_errors - refused - record.closed,
            closed=record.closed,
            excused=excused,
            lost=sum(len(each.lost) + len(each.different) + len(each.unknown) for each in found),
            misordered=sum(len(each.misordered) for each in found),
            normal=quantile(outside, 0.99),
            switching=quantile(inside, 0.99),
            told_to_go=record.failures[f"session closed ({_GOING_AWAY})"],
            exits=list(opened.instance.exits) if isinstance(opened.instance, HeldInstance) else [],
        )


async def _load(
    opened: Stand[Backend], traffic: Traffic, switch: Switch, times: int, spans: list[Span]
) -> tuple[float, int, Record]:
    """When everything was open, the connections that may have ended, and what both clients know."""
    address, directory = opened.instance.address, opened.directory
    clients = [
        Client(REQUESTS, address, traffic.requests, directory, 1, traffic.connections),
        Client(MESSAGES, address, traffic.messages, directory, 2, traffic.sessions),
    ]
    try:
        await asyncio.sleep(_SETTLE)
        began = time.perf_counter()
        await asyncio.sleep(_BEFORE)
        excused = 0
        for number in range(times):
            span, ended = await timed(switch, opened, number)
            spans.append(span)
            excused += ended
            await asyncio.sleep(_PAUSE)
            for child in (*(client.child for client in clients), opened.old.child, opened.new.child):
                child.check()
        await asyncio.sleep(_BEFORE)
        return began, excused, joined(await asyncio.gather(*(client.stop() for client in clients)))
    finally:
        for client in clients:
            await client.cancel()


def _rates(record: Record, began: float) -> tuple[float, float]:
    """Events per second that were promised, from when everything was open until the last was sent; and unsent ones."""
    if not record.promises:
        raise BenchmarkFailed(f"not one event was accepted: {record.errors_text()}")
    until = max(promise.sent for promise in record.promises)
    promised = sum(began < promise.answered <= until for promise in record.promises)
    return promised / (until - began), record.unsent / (until - began)
