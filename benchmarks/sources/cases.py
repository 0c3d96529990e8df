"""What is measured, each with a daemon of its own, and what it is held against."""

from __future__ import annotations

import asyncio
import re
import statistics
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp

from benchmarks.processes import BenchmarkFailed, cpu_seconds
from benchmarks.report import Target
from benchmarks.sources.stand import Stand, fanned_out, stand
from proxy.demo.children import Child, python

BASELINE: Final = 17 / 60
"""Events per second."""
STEADY: Final = 200.0
BURST: Final = 2000.0
ADDED_BOUND: Final = 0.020
"""Seconds that the proxy may add to p95 of the way from the source to a store, at STEADY."""
LAG_BOUND: Final = 0.050
"""Seconds that the loop of a worker may be held up by a snapshot of STATES states."""
STATES: Final = 20_000
SHARE_BOUND: Final = 0.5
"""Of a core, for the ledger's process that feeds two consumers at STEADY."""
TOKENS: Final = {"old": "token-of-old", "new": "token-of-new"}


class Form(NamedTuple):
    """How long: seconds at the baseline and at STEADY, bursts, seconds of each, gaps with a snapshot."""

    baseline: float
    steady: float
    bursts: int
    burst: float
    gaps: int


FULL: Final = Form(300.0, 60.0, 5, 2.0, 5)
QUICK: Final = Form(21.0, 10.0, 2, 1.0, 2)


class Measured(NamedTuple):
    """figures: as JSON."""

    figures: dict[str, Any]
    targets: list[Target]


def _lost(name: str, lost: int, events: int, duplicates: int) -> Target:
    return Target(f"{name}: lost", f"{lost} of {events:,}, {duplicates} twice, balance exact", "0", lost == 0)


async def _tell(opened: Stand, rate: float, seconds: float) -> tuple[int, float]:
    """How many events, and for how long both stores were behind after the last one."""
    before = opened.house.changes
    await opened.house.run(rate, seconds)
    behind = await opened.drained(opened.house.changes)
    return opened.house.changes - before, behind


def _missing(opened: Stand) -> int:
    """Changes that are not in both stores of the proxy."""
    wanted = {f"c{n}" for n in range(1, opened.house.changes + 1)}
    return max(len(wanted - opened.stored(each).keys()) for each in opened.backends[:2])


def _twice(opened: Stand) -> int:
    return sum(len(each.stored()) for each in opened.backends[:2]) - 2 * opened.house.changes


async def baseline(form: Form) -> Measured:
    """17 events a minute."""
    async with stand() as opened:
        events, _ = await _tell(opened, BASELINE, form.baseline)
        lost, twice = _missing(opened), _twice(opened)
    return Measured({"events": events, "lost": lost, "twice": twice}, [_lost("17 events/min", lost, events, twice)])


async def steady(form: Form) -> Measured:
    """What the proxy adds, change by change, to the way that another subscriber of the same house posts it."""
    async with stand(has_direct=True) as opened:
        await _tell(opened, STEADY, 1.0)  # connections are made, code is read
        first = opened.house.changes
        events, _ = await _tell(opened, STEADY, form.steady)
        await asyncio.sleep(0.5)
        lost, twice = _missing(opened), _twice(opened)
        old, new, direct = (opened.stored(each) for each in opened.backends)
    names = [f"c{n}" for n in range(first + 1, first + events + 1) if f"c{n}" in direct]
    if len(names) < events * 0.99:
        raise BenchmarkFailed(f"only {len(names)} of {events} changes went without a proxy, too")
    figures: dict[str, Any] = {"events": events, "lost": lost, "twice": twice}
    targets = [_lost("200 events/s", lost, events, twice)]
    for side, stored in (("old", old), ("new", new)):
        added = [(stored[name] - direct[name]) / 1e9 for name in names if name in stored]
        p50, p95 = statistics.median(added), statistics.quantiles(added, n=20, method="inclusive")[-1]
        figures[side] = {"added_p50_ms": round(p50 * 1e3, 2), "added_p95_ms": round(p95 * 1e3, 2)}
        text = f"p95 {p95 * 1e3:.1f} ms, p50 {p50 * 1e3:.1f} ms"
        bound = f"< {ADDED_BOUND * 1e3:g} ms"
        targets.append(Target(f"200 events/s: added until {side} has it", text, bound, p95 < ADDED_BOUND))
    return Measured(figures, targets)


async def bursts(form: Form) -> Measured:
    """2,000 events/s for a while, again and again."""
    async with stand() as opened:
        told = [await _tell(opened, BURST, form.burst) for _ in range(form.bursts)]
        lost, twice = _missing(opened), _twice(opened)
    events, behind = sum(each for each, _ in told), max(each for _, each in told)
    name = f"{form.bursts} bursts of 2,000 events/s for {form.burst:g} s"
    figures = {"events": events, "lost": lost, "twice": twice, "behind_s": round(behind, 2)}
    target = _lost(name, lost, events, twice)
    behind_text = f"{target.measured}, at most {behind:.1f} s behind"
    return Measured(figures, [Target(target.name, behind_text, target.bound, target.met)])


async def snapshot(form: Form) -> Measured:
    """20,000 states are read behind each gap: for how long does that hold up the worker that has the source?"""
    worst = 0.0
    async with stand() as opened:
        opened.house.others = STATES
        for _ in range(form.gaps):
            opened.house.cut()
            opened.house.change()
            reading = asyncio.create_task(opened.drained(opened.house.changes + STATES))
            while not reading.done():
                worst = max(worst, await _loop_lag(opened))
                await asyncio.sleep(0.1)
            await reading
            await opened.connected()
    text = f"{worst * 1e3:.0f} ms at most"
    bound = f"< {LAG_BOUND * 1e3:g} ms"
    name = f"{STATES:,} states: a worker's loop is late"
    return Measured(
        {"states": STATES, "loop_lag_ms": round(worst * 1e3, 1)}, [Target(name, text, bound, worst < LAG_BOUND)]
    )


async def _loop_lag(opened: Stand) -> float:
    connector = aiohttp.UnixConnector(str(opened.instance.admin.socket))
    async with aiohttp.ClientSession(connector=connector) as http, http.get("http://localhost/metrics") as answer:
        text = await answer.text()
    found = re.findall(r'^crossfade_loop_lag_seconds\{process="worker-\d+"\} (\S+)$', text, re.MULTILINE)
    return max(map(float, found), default=0.0)


async def consumers(form: Form) -> Measured:
    """Two consumers are fed: CPU time of the ledger's process, which has their connections, for each event."""
    async with fanned_out(TOKENS) as opened:
        address = opened.instance.address
        url = f"ws://{address.host}:{address.port}/api/websocket"
        children = [
            Child(
                f"consumer {side}", python("benchmarks.sources.consumer", url, token), opened.directory / f"{side}.log"
            )
            for side, token in TOKENS.items()
        ]
        try:
            await _all_connected(opened)
            await _tell(opened, STEADY, 1.0)
            ledger = opened.instance.pids("ledger")
            before, began = cpu_seconds(ledger), time.monotonic()
            events, _ = await _tell(opened, STEADY, form.steady)
            used, seconds = cpu_seconds(ledger) - before, time.monotonic() - began
            burst, behind = await _tell(opened, BURST, form.burst)
            await asyncio.sleep(0.3)
            had = [int(_log(opened, side).read_text().split()[-1]) for side in TOKENS]
        finally:
            for child in children:
                await child.stop()
    lost, each = max(opened.house.changes - n for n in had), used / events * 1e6
    figures = {"events": events + burst, "lost": lost, "us_per_event": round(each, 1), "behind_s": round(behind, 2)}
    share = used / seconds
    return Measured(
        figures | {"core_share": round(share, 4)},
        [
            _lost("two consumers", lost, opened.house.changes, 0),
            Target(
                "two consumers at 200 events/s: CPU of the ledger",
                f"{share:.1%} of a core, {each:.0f} us per event",
                f"< {SHARE_BOUND:.0%}",
                share < SHARE_BOUND,
            ),
        ],
    )


def _log(opened: Stand, side: str) -> Path:
    return opened.directory / f"{side}.log"


async def _all_connected(opened: Stand) -> None:
    for _ in range(300):
        sides = (await opened.sides()).values()
        if all(side["consumer"] and side["consumer"]["connected"] for side in sides):
            return
        await asyncio.sleep(0.1)
    raise BenchmarkFailed("the consumers are not fed")


CASES: Final = {
    "baseline": baseline,
    "steady": steady,
    "bursts": bursts,
    "snapshot": snapshot,
    "consumers": consumers,
}
