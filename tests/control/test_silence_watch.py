"""A new that takes events and answers none, with a real supervisor and fake workers."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from proxy.control.probes import Standing
from tests.control.conftest import MakePlane
from tests.control.fakes import Plane, balance, ledger_stats, requests
from tests.control.helpers import eventually
from tests.control.test_guard import say, weight

pytestmark = pytest.mark.asyncio
STEP = 1.0


class Traffic:
    """What the first worker reports, a second after the other. old, new: answers so far."""

    def __init__(self, plane: Plane, index: int = 0) -> None:
        self.plane = plane
        self.index = index
        self.old = self.new = 100

    async def seconds(
        self, seconds: int, *, waiting: tuple[int, int], old: int = 0, new: int = 0, **figures: Any
    ) -> None:
        """waiting: events without an answer of (old, new); old, new: answers of each second."""
        for _ in range(seconds):
            self.plane.clock.now += STEP
            self.old += old
            self.new += new
            answered = [requests(0, "copy", ok=self.old), requests(ok=self.new)]
            await say(self.plane, self.index, requests=answered, outstanding={"events": waiting}, **figures)


async def live(plane: Plane) -> Traffic:
    await plane.change("stage", stage="live", weight=50)
    traffic = Traffic(plane)
    await traffic.seconds(2, waiting=(0, 0), old=5, new=5)
    return traffic


async def verdict(plane: Plane) -> tuple[str, list[str]]:
    found = (await plane.get("/api/v1/status"))["routes"][0]["verdict"]
    return found["name"], found["reasons"]


async def test_a_new_that_answers_nothing_is_reverted(plane: Plane) -> None:
    traffic = await live(plane)
    await traffic.seconds(5, waiting=(0, 7), old=5)
    assert await verdict(plane) == ("pass", [])
    await traffic.seconds(1, waiting=(0, 7), old=5)
    assert await verdict(plane) == ("inconclusive", ["new has answered nothing for 5 s, to 7 events"])
    await traffic.seconds(4, waiting=(0, 7), old=5)
    assert weight(plane) == 50
    await traffic.seconds(1, waiting=(0, 8), old=5)
    await eventually(lambda: weight(plane) == 0, "the revert")
    why = await plane.get("/api/v1/why")
    reason = "new has answered nothing for 10 s (limit 10 s), and 8 events wait for it"
    assert why["entry"]["reason"] == reason
    assert why["seconds_to_detect"] == 10.0
    evidence = why["entry"]["evidence"]
    wanted = {"trigger": "silence", "lasts": 10.0, "limit": 10.0, "waiting": 8, "pending": 0}
    assert {name: evidence[name] for name in wanted} == wanted
    await plane.supervisor._guard.settle()
    assert 'crossfade_reverts_total{reason="silence"} 1.0' in await plane.get("/metrics")


async def test_it_is_known_before_the_first_percent(plane: Plane) -> None:
    await plane.change("stage", stage="dualwrite")
    await Traffic(plane).seconds(12, waiting=(0, 7), old=5)
    name, reasons = await verdict(plane)
    assert (name, len(reasons)) == ("fail", 1)


@pytest.mark.parametrize("answer", [{"new": 1}, {"waiting": (0, 0)}], ids=["an answer", "nothing that waits"])
async def test_it_begins_anew_with(plane: Plane, answer: dict[str, Any]) -> None:
    traffic = await live(plane)
    for _ in range(3):
        await traffic.seconds(9, waiting=(0, 7), old=5)
        await traffic.seconds(1, waiting=answer.get("waiting", (0, 7)), old=5, new=answer.get("new", 0))
    assert weight(plane) == 50


async def test_failures_are_answers_and_timeouts_are_none(make_plane: MakePlane) -> None:
    never = {"on_breaker": False, "error_rate": "100%"}
    plane = make_plane(routes=[{"name": "events", "match": {"path": "/e"}, "trigger": never}])
    await plane.start()
    await plane.change("stage", stage="live", weight=50)
    for number in range(30):
        plane.clock.now += 1
        answered = [requests(0, "copy", ok=number), requests(failed=number)]
        await say(plane, requests=answered, outstanding={"events": (0, 5)})
    assert weight(plane) == 50
    for number in range(12):
        plane.clock.now += 1
        answered = [requests(0, "copy", ok=30 + number), requests(failed=29, error=number)]
        await say(plane, requests=answered, outstanding={"events": (0, 5)})
    await eventually(lambda: weight(plane) == 0, "the revert")


async def test_where_old_is_silent_as_well_nothing_is_reverted(plane: Plane) -> None:
    traffic = await live(plane)
    await traffic.seconds(12, waiting=(4, 7))
    assert weight(plane) == 50
    name, (reason,) = await verdict(plane)
    assert name == "inconclusive"
    assert reason == (
        "new has answered nothing for 11 s (limit 10 s), and 7 events wait for it; old answers nothing either, so "
        "nothing is reverted"
    )
    await traffic.seconds(1, waiting=(4, 7), old=1)
    await eventually(lambda: weight(plane) == 0, "the revert, once old answers")


@pytest.mark.parametrize("is_well", [True, False])
async def test_old_that_is_asked_nothing_is_known_by_its_probe(plane: Plane, is_well: bool) -> None:
    standing = Standing(1, 1)
    standing.take(is_well)
    plane.supervisor.instance.probes.standings["old"] = {"127.0.0.1:9": standing}
    traffic = await live(plane)
    await traffic.seconds(11, waiting=(0, 7))
    if is_well:
        await eventually(lambda: weight(plane) == 0, "the revert")
    else:
        await plane.supervisor._guard.settle()
        assert weight(plane) == 50


async def test_one_or_two_events_that_are_never_answered_only_hold(plane: Plane) -> None:
    traffic = await live(plane)
    await traffic.seconds(30, waiting=(0, 2), old=5)
    assert weight(plane) == 50
    assert await verdict(plane) == ("inconclusive", ["new has answered nothing for 29 s, to 2 events"])


async def test_events_that_have_just_come_have_not_waited(plane: Plane) -> None:
    """Beside one that hangs; here and in the ledger."""
    traffic = await live(plane)
    assert plane.ledger is not None
    await traffic.seconds(12, waiting=(0, 1), old=5)
    await traffic.seconds(1, waiting=(0, 9), old=5)
    plane.ledger.tell(ledger_stats(new=balance(pending=9)))
    await traffic.seconds(1, waiting=(0, 1), old=5)
    await traffic.seconds(8, waiting=(0, 9), old=5)
    assert weight(plane) == 50
    assert await verdict(plane) == ("inconclusive", ["new has answered nothing for 21 s, to 9 events"])
    await traffic.seconds(1, waiting=(0, 9), old=5)
    await eventually(lambda: weight(plane) == 0, "the revert")


async def test_what_waits_in_the_ledger_counts_and_what_it_delivers_is_an_answer(plane: Plane) -> None:
    """With few keys one event is on its way, and those behind it are the ledger's."""
    traffic = await live(plane)
    assert plane.ledger is not None
    tally = plane.supervisor.instance.tally
    for delivered in range(3):
        stats = ledger_stats(new=balance(pending=20, delivered=delivered))
        plane.ledger.tell(stats)
        await plane.heard(partial(lambda told: tally.ledger == told, stats))
        await traffic.seconds(9, waiting=(0, 1), old=5)
    assert weight(plane) == 50
    await traffic.seconds(3, waiting=(0, 1), old=5)
    await eventually(lambda: weight(plane) == 0, "the revert")


async def test_a_worker_that_hangs_says_nothing_of_new(plane: Plane) -> None:
    """Its last report is of events that may long have been answered."""
    traffic = await live(plane)
    await traffic.seconds(1, waiting=(0, 50), old=5)
    other = Traffic(plane, 1)
    await other.seconds(30, waiting=(0, 0), old=5)
    assert weight(plane) == 50


@pytest.mark.parametrize(("silence", "reverts"), [("0s", False), ("3s", True), ("1m", False)])
async def test_the_limit_is_the_routes(make_plane: MakePlane, silence: str, reverts: bool) -> None:
    plane = make_plane(routes=[{"name": "events", "match": {"path": "/e"}, "trigger": {"silence": silence}}])
    await plane.start()
    traffic = await live(plane)
    await traffic.seconds(15, waiting=(0, 7), old=5)
    await plane.supervisor._guard.settle()
    assert weight(plane) == (0 if reverts else 50)
