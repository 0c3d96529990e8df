"""A new that comes and goes, with a real supervisor: no outage is long enough for the probe's own patience."""

from __future__ import annotations

from typing import Any

import pytest

from tests.control.conftest import MakePlane
from tests.control.fakes import Plane, requests
from tests.control.helpers import eventually
from tests.control.test_guard import say, weight

pytestmark = pytest.mark.asyncio


class Seconds:
    """Reports of a worker, one a second, while the probes find what the test says."""

    def __init__(self, plane: Plane) -> None:
        self.plane = plane
        self.answers = 0
        self.passed = 0

    async def pass_by(self, seconds: int, *, new: bool, old: bool = True, every: int = 1) -> None:
        """every: seconds between two probes."""
        probes = self.plane.supervisor.instance.probes
        for _ in range(seconds):
            if self.passed % every == 0:
                probes.answered("old", old)
                probes.answered("new", new)
            self.passed += 1
            self.plane.clock.now += 1
            self.answers += 10
            await say(self.plane, requests=[requests(ok=self.answers)])

    async def flap(self, times: int, *, down: int = 2, up: int = 8, old: bool = True) -> None:
        for _ in range(times):
            await self.pass_by(down, new=False, old=old)
            await self.pass_by(up, new=True)


async def live(plane: Plane) -> Seconds:
    await plane.change("stage", stage="live", weight=50)
    seconds = Seconds(plane)
    await seconds.pass_by(2, new=True)
    return seconds


async def verdict(plane: Plane) -> tuple[str, list[str]]:
    found = (await plane.get("/api/v1/status"))["routes"][0]["verdict"]
    return found["name"], found["reasons"]


async def test_a_new_that_comes_and_goes_is_held_and_then_reverted(plane: Plane) -> None:
    seconds = await live(plane)
    await seconds.flap(7)
    assert await verdict(plane) == ("pass", [])
    await seconds.flap(1)
    assert await verdict(plane) == (
        "inconclusive",
        ["the health probe of new failed for 16 s of the 81 s watched at this weight"],
    )
    await seconds.flap(6)
    assert weight(plane) == 50
    await seconds.pass_by(3, new=False)
    await eventually(lambda: weight(plane) == 0, "the revert")
    why = await plane.get("/api/v1/why")
    assert (
        why["entry"]["reason"]
        == "the health probe of new failed for 30 s of the 144 s watched at this weight (limit 30 s)"
    )
    assert why["seconds_to_detect"] == 142.0
    evidence = why["entry"]["evidence"]
    wanted = {"trigger": "availability", "down": 30.0, "down_alone": 30.0, "limit": 30.0, "window": 144.0}
    wanted["failed_probes"] = 31
    assert {name: evidence[name] for name in wanted} == wanted
    await plane.supervisor._guard.settle()
    assert 'crossfade_reverts_total{reason="availability"} 1.0' in await plane.get("/metrics")


async def test_one_probe_that_fails_is_no_downtime_however_rare_they_are(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it found holds for half a minute; three of them are as good as they are in a row."""
    monkeypatch.setattr(plane.supervisor.instance.probes, "patience", {"new": 3}.__getitem__)
    seconds = await live(plane)
    seconds.passed = 0
    for _ in range(2):
        await seconds.pass_by(30, new=False, every=30)
        await seconds.pass_by(30, new=True, every=30)
    await plane.supervisor._guard.settle()
    assert weight(plane) == 50
    assert await verdict(plane) == (
        "inconclusive",
        ["the health probe of new failed for 60 s of the 121 s watched at this weight"],
    )
    await seconds.pass_by(2, new=False, every=30)
    await eventually(lambda: weight(plane) == 0, "the revert")


async def test_what_is_rare_enough_slides_out_of_the_window(plane: Plane) -> None:
    seconds = await live(plane)
    await seconds.flap(14, up=30)
    await plane.supervisor._guard.settle()
    assert weight(plane) == 50


async def test_where_old_is_down_at_the_same_time_nothing_is_reverted(plane: Plane) -> None:
    seconds = await live(plane)
    await seconds.flap(16, old=False)
    await plane.supervisor._guard.settle()
    assert weight(plane) == 50
    text = "the health probe of new failed for 32 s of the 161 s watched at this weight (limit 30 s)"
    assert await verdict(plane) == ("inconclusive", [f"{text}; that of old failed as well, so nothing is reverted"])


async def test_the_window_is_what_was_watched_of_it(make_plane: MakePlane) -> None:
    trigger = {"downtime": "20s", "downtime_window": "60s"}
    plane = make_plane(routes=[{"name": "events", "match": {"path": "/e"}, "trigger": trigger}])
    await plane.start()
    seconds = await live(plane)
    await seconds.pass_by(60, new=True)
    await seconds.pass_by(12, new=False)
    assert (await verdict(plane))[1] == ["the health probe of new failed for 11 s of the last 60 s"]
    await plane.change("weight", weight=60)
    await seconds.pass_by(12, new=False)
    said = "the health probe of new failed for 11 s of the 11 s watched at this weight"
    assert (await verdict(plane))[1] == [said]


async def test_a_change_of_the_weight_begins_anew(plane: Plane) -> None:
    seconds = await live(plane)
    await seconds.flap(14)
    await plane.change("weight", weight=60)
    await seconds.flap(5)
    await plane.supervisor._guard.settle()
    assert weight(plane) == 60
    assert (await verdict(plane))[0] == "pass"


@pytest.mark.parametrize(
    ("trigger", "reverts"),
    [
        ({"downtime": "10s"}, True),
        ({"downtime": "0s"}, False),
        ({"downtime": "10s", "downtime_window": "20s"}, False),
        ({"downtime": "10s", "on_health": False}, False),
    ],
)
async def test_limit_and_window_are_the_routes(make_plane: MakePlane, trigger: dict[str, Any], reverts: bool) -> None:
    plane = make_plane(routes=[{"name": "events", "match": {"path": "/e"}, "trigger": trigger}])
    await plane.start()
    seconds = await live(plane)
    await seconds.flap(20)
    await plane.supervisor._guard.settle()
    assert weight(plane) == (0 if reverts else 50)
