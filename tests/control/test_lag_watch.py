"""A new that falls behind, with a real supervisor and a fake ledger: held first, and reverted when it lasts."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.control.link import SideStats
from tests.control.conftest import MakePlane
from tests.control.fakes import Plane, balance, ledger_stats, requests, worker_stats
from tests.control.helpers import eventually

pytestmark = pytest.mark.asyncio
STEP = 10.0
"""Seconds from one report to the next."""


class Ledger:
    """What the ledger reports. Of each side: delivered, pending, and the age of the oldest."""

    def __init__(self, plane: Plane) -> None:
        self.plane = plane
        self.sides = [[0, 0, 0.0], [0, 0, 0.0]]
        self.more: dict[str, Any] = {}
        self.answers = 0
        self.paused = ""

    async def step(self, *, new: tuple[int, int, float], old: tuple[int, int, float] = (1000, 0, 0.0)) -> None:
        """Ten seconds later; each: how many were delivered more, how many wait more, how old the oldest is."""
        plane = self.plane
        plane.clock.now += STEP
        for side, (delivered, pending, age) in zip(self.sides, (old, new), strict=True):
            side[:] = side[0] + delivered, side[1] + pending, age
        sides = [
            SideStats("events", side, ("old", "new")[side], balance(delivered=int(done), pending=int(wait)), age, 0)
            for side, (done, wait, age) in enumerate(self.sides)
        ]
        sides[1].paused = self.paused
        stats = ledger_stats(sides=sides, **self.more)
        assert plane.ledger is not None
        plane.ledger.tell(stats)
        tally = plane.supervisor.instance.tally
        await plane.heard(lambda: tally.ledger is not None and tally.ledger == stats)
        self.answers += 100
        await self._worker(worker_stats(epoch=plane.workers[0].epoch, requests=[requests(ok=self.answers)]))

    async def _worker(self, stats: Any) -> None:
        plane = self.plane
        plane.workers[0].link.send(stats)

        def arrived() -> bool:
            slot = plane.supervisor.instance.tally.slot(0)
            return slot is not None and slot.latest is not None and slot.latest.requests == stats.requests

        await plane.heard(arrived)

    async def steps(self, seconds: float, **figures: Any) -> None:
        for _ in range(int(seconds / STEP)):
            await self.step(**figures)


async def live(plane: Plane) -> Ledger:
    await plane.change("stage", stage="live", weight=50)
    ledger = Ledger(plane)
    await ledger.step(new=(1000, 0, 0.0))
    return ledger


async def verdict(plane: Plane) -> tuple[str, list[str]]:
    found = (await plane.get("/api/v1/status"))["routes"][0]["verdict"]
    return found["name"], found["reasons"]


def weight(plane: Plane) -> float:
    state = plane.supervisor.instance.state
    assert state is not None
    return state.routes["events"].weight


async def test_a_new_that_falls_behind_is_held_and_then_reverted(plane: Plane) -> None:
    ledger = await live(plane)
    behind = (700, 300, 5.0)
    await ledger.steps(50, new=behind)
    assert await verdict(plane) == ("pass", [])
    await ledger.step(new=behind)
    text = "new took 4200 of the 6000 events that it was owed in 60 s; 1800 events wait for new"
    assert await verdict(plane) == ("inconclusive", [f"{text}; for 0 s now, and 300 s are too long"])
    await ledger.steps(290, new=behind)
    assert weight(plane) == 50
    assert (await verdict(plane))[0] == "inconclusive"
    await ledger.step(new=behind)
    await eventually(lambda: weight(plane) == 0, "the revert")
    why = await plane.get("/api/v1/why")
    assert why["entry"]["reason"] == (
        "new took 4200 of the 6000 events that it was owed in 60 s; 10800 events wait for new; for 300 s now"
    )
    evidence = why["entry"]["evidence"]
    assert evidence["trigger"] == "lag"
    wanted = {"owed": 6000, "taken": 4200, "seconds": 60.0, "pending": 10_800, "oldest_age": 5.0, "lasts": 300.0}
    assert {name: evidence[name] for name in wanted} == wanted
    await plane.supervisor._guard.settle()
    assert 'crossfade_reverts_total{reason="lag"} 1.0' in await plane.get("/metrics")


async def test_eighty_percent_are_enough(plane: Plane) -> None:
    ledger = await live(plane)
    await ledger.steps(500, new=(800, 200, 5.0))
    assert await verdict(plane) == ("pass", [])


async def test_the_oldest_waits_too_long(plane: Plane) -> None:
    ledger = await live(plane)
    ledger.paused = "401"
    await ledger.step(new=(0, 50, 61.0))
    text = "50 events wait for new, for deliveries are paused (401), the oldest for 61 s (limit 60 s)"
    assert await verdict(plane) == ("inconclusive", [f"{text}; whether they get fewer is not known yet"])
    await ledger.steps(60, new=(0, 0, 120.0))
    assert (await verdict(plane))[1][0].startswith("50 events wait for new, for deliveries are paused (401), the")
    await ledger.steps(310, new=(0, 0, 400.0))
    await eventually(lambda: weight(plane) == 0, "the revert")


async def test_a_backlog_that_is_worked_off_holds_and_never_reverts(plane: Plane) -> None:
    ledger = await live(plane)
    await ledger.step(new=(0, 100_000, 3600.0))
    await ledger.steps(60, new=(1500, -500, 3600.0))
    await ledger.steps(600, new=(1500, -500, 3600.0))
    name, reasons = await verdict(plane)
    assert (name, weight(plane)) == ("inconclusive", 50)
    assert reasons == ["67000 events wait for new, the oldest for 3600 s (limit 60 s); they get fewer"]


async def test_some_keys_alone_hold_and_never_revert(plane: Plane) -> None:
    ledger = await live(plane)
    await ledger.step(new=(1000, 1, 100.0))
    await ledger.steps(600, new=(1000, 0, 700.0))
    assert await verdict(plane) == (
        "inconclusive", ["1 event waits for new, the oldest for 700 s (limit 60 s); others get there"]
    )  # fmt: skip
    assert weight(plane) == 50


@pytest.mark.parametrize("where", ["worker", "ledger"])
async def test_while_a_breaker_is_not_closed_it_is_no_lag(plane: Plane, where: str) -> None:
    """Half-open: the outage is judged by the breaker's own watch, and what waits by its direction afterwards."""
    ledger = await live(plane)
    await ledger.steps(200, new=(0, 1000, 200.0))
    assert "too long" in (await verdict(plane))[1][0]
    breakers = {"old": "closed", "new": "half-open"}
    if where == "ledger":
        ledger.more = {"breakers": breakers}
        await ledger.step(new=(0, 1000, 210.0))
    else:
        plane.workers[1].say(breakers=breakers)
        slot = plane.supervisor.instance.tally.slot
        await plane.heard(lambda: (each := slot(1)) and each.latest and each.latest.breakers == breakers)
        await ledger.step(new=(0, 1000, 210.0))
    assert not [reason for reason in (await verdict(plane))[1] if "wait" in reason]
    await ledger.steps(400, new=(0, 1000, 600.0))
    assert weight(plane) == 50


async def test_where_old_is_behind_as_well_nothing_is_reverted(plane: Plane) -> None:
    ledger = await live(plane)
    await ledger.steps(500, new=(500, 500, 100.0), old=(500, 500, 100.0))
    name, reasons = await verdict(plane)
    assert (name, weight(plane)) == ("inconclusive", 50)
    assert reasons[0].endswith("; old is behind as well, so nothing is reverted")
    assert reasons[0] in "".join((await plane.get("/api/v1/status"))["warnings"])


async def test_a_change_of_the_weight_begins_it_anew(plane: Plane) -> None:
    ledger = await live(plane)
    await ledger.steps(300, new=(500, 500, 5.0))
    await plane.change("weight", weight=60)
    await ledger.steps(60, new=(500, 500, 5.0))
    assert await verdict(plane) == ("pass", [])
    await ledger.steps(280, new=(500, 500, 5.0))
    assert weight(plane) == 60


async def test_without_the_ledger_nothing_is_known(plane: Plane) -> None:
    ledger = await live(plane)
    await ledger.steps(300, new=(500, 500, 5.0))
    plane.supervisor.instance.tally.ledger_left()
    plane.clock.now += STEP
    await ledger._worker(worker_stats(epoch=2, requests=[requests(ok=10_000)]))
    assert await verdict(plane) == ("pass", [])
    await ledger.steps(60, new=(500, 500, 5.0))
    assert await verdict(plane) == ("pass", [])


async def test_it_can_be_turned_off_and_set(make_plane: MakePlane) -> None:
    trigger = {"lag_age": "0s"}
    plane = make_plane(routes=[{"name": "events", "match": {"path": "/api/v1/events"}, "trigger": trigger}])
    await plane.start()
    ledger = await live(plane)
    await ledger.steps(500, new=(0, 1000, 500.0))
    assert (await verdict(plane), weight(plane)) == (("pass", []), 50)


async def test_window_limit_and_patience_are_those_of_the_route(make_plane: MakePlane) -> None:
    trigger = {"lag_age": "200s", "lag_window": "20s", "lag_revert": "0s"}
    plane = make_plane(routes=[{"name": "events", "match": {"path": "/api/v1/events"}, "trigger": trigger}])
    await plane.start()
    ledger = await live(plane)
    await ledger.steps(40, new=(0, 5, 199.0))
    assert await verdict(plane) == ("pass", [])
    await ledger.step(new=(0, 0, 201.0))
    await eventually(lambda: weight(plane) == 0, "the revert")


async def test_at_weight_0_a_lag_is_known_before_the_first_percent(plane: Plane) -> None:
    await plane.change("stage", stage="dualwrite")
    ledger = Ledger(plane)
    await ledger.steps(400, new=(500, 500, 5.0))
    assert (await verdict(plane))[0] == "fail"
    assert (await plane.get("/api/v1/status"))["epoch"] == 2
