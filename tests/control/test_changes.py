"""Changes of the routing: audit before effect, notes, no-ops, latches."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from proxy.control import file_store
from proxy.control.audit import Entry
from tests.control.conftest import MakePlane
from tests.control.fakes import Plane, balance, ledger_stats
from tests.control.helpers import eventually

pytestmark = pytest.mark.asyncio


async def test_a_change_reaches_every_worker_before_it_answers(plane: Plane) -> None:
    answer = await plane.change("stage", stage="live", weight=12.344, reason="trying")
    assert answer["before"] == {"weight": 0.0, "copy": "none", "stage": "off", "latched": False}
    assert answer["after"] == {"weight": 12.34, "copy": "durable", "stage": "live", "latched": False}
    assert (answer["previous_epoch"], answer["epoch"], answer["changed"]) == (1, 2, True)
    assert answer["applied"]["workers"] == answer["applied"]["of"] == 2
    assert {worker.epoch for worker in plane.workers} == {2}
    status = await plane.get("/api/v1/status")
    assert [worker["epoch"] for worker in status["workers"]] == [2, 2]
    entry = (await plane.get("/api/v1/history?limit=1"))["entries"][0]
    assert (entry["action"], entry["reason"], entry["route"]) == ("stage", "trying", "events")
    assert (entry["before"], entry["after"]) == (answer["before"], answer["after"])


async def test_the_audit_line_comes_before_the_effect(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Entry] = []

    def note(path: Path, data: bytes, **_: Any) -> None:
        lines = plane.places.audit.read_bytes().splitlines()
        seen.append(msgspec.json.decode(lines[-1], type=Entry))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(file_store, "write_whole", note)
    status, problem = await plane.ask("PUT", "/api/v1/routes/events/stage", {"stage": "dualwrite"})
    assert status == 507
    assert "No space left" in problem["detail"]
    assert (seen[0].action, seen[0].epoch) == ("stage", 2)
    monkeypatch.undo()
    # Nothing changed, and the trail says that too.
    assert (await plane.get("/api/v1/status"))["epoch"] == 1
    entries = (await plane.get("/api/v1/history"))["entries"]
    assert [each["action"] for each in entries] == ["not-applied", "stage", "route-added"]
    assert entries[0]["evidence"] == {"action": "stage"}


async def test_without_an_audit_line_there_is_no_effect(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("proxy.control.audit.append_line", full)
    status, _ = await plane.ask("PUT", "/api/v1/routes/events/stage", {"stage": "dualwrite"})
    assert status == 507
    assert {worker.epoch for worker in plane.workers} == {1}


async def test_no_change_uses_no_epoch_and_no_line(plane: Plane) -> None:
    await plane.change("stage", stage="dualwrite")
    for _ in range(3):
        answer = await plane.change("rollback")
        assert (answer["changed"], answer["epoch"], answer["previous_epoch"]) == (False, 2, 2)
        assert answer["applied"]["workers"] == 2
    assert len((await plane.get("/api/v1/history"))["entries"]) == 2


async def test_a_dry_run_changes_nothing_and_says_what_would(plane: Plane) -> None:
    answer = await plane.change("stage", stage="complete", dry_run=True)
    assert answer["after"]["stage"] == "complete"
    assert (answer["changed"], answer["dry_run"], answer["epoch"], answer["applied"]) == (False, True, 1, None)
    assert answer["notes"] == ["from now on old does not get what new answers: a rollback will leave old incomplete"]
    assert (await plane.get("/api/v1/status"))["routes"][0]["stage"] == "off"


async def test_a_worker_that_is_late_is_counted_as_such(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.control.changes.APPLY_WAIT", 0.05)
    plane.workers[1].applies = False
    answer = await plane.change("stage", stage="dualwrite")
    assert (answer["applied"]["workers"], answer["applied"]["of"]) == (1, 2)
    assert (await plane.ask("GET", "/readyz"))[0] == 200  # it is given the time to
    plane.clock.now += 2
    ready, body = await plane.ask("GET", "/readyz")
    assert ready == 503
    assert body["reasons"] == ["1 of 2 workers have applied epoch 2"]


async def test_the_weight_alone_keeps_the_copy(plane: Plane) -> None:
    await plane.change("stage", stage="dualwrite")
    assert (await plane.change("weight", weight=25))["after"]["stage"] == "live"
    assert (await plane.change("weight", weight=100))["after"]["stage"] == "rampdown"
    assert (await plane.change("rollback"))["after"]["stage"] == "dualwrite"


async def test_what_core_refuses_is_422(plane: Plane) -> None:
    await plane.change("stage", stage="shadow")
    for what, body, text in (
        ("weight", {"weight": 5}, "shadow copies are best effort"),
        ("stage", {"stage": "sideways"}, "unknown stage"),
        ("stage", {"stage": "live"}, "needs a weight"),
        ("stage", {"stage": "dualwrite", "weight": 5}, "has weight 0"),
    ):
        status, problem = await plane.ask("PUT", f"/api/v1/routes/events/{what}", body)
        assert status == 422
        assert text in problem["detail"]


async def test_routes_by_name_and_by_dash(make_plane: MakePlane) -> None:
    routes = [{"name": name, "match": {"path": f"/{name}"}} for name in ("one", "two")]
    plane = make_plane(routes=routes)
    await plane.start()
    status, problem = await plane.ask("POST", "/api/v1/routes/-/rollback")
    assert (status, problem["routes"]) == (422, ["one", "two"])
    status, problem = await plane.ask("POST", "/api/v1/routes/three/rollback")
    assert (status, problem["routes"]) == (404, ["one", "two"])
    status, answer = await plane.ask("PUT", "/api/v1/routes/two/stage", {"stage": "dualwrite"})
    assert (status, answer["route"]) == (200, "two")
    assert [each["stage"] for each in (await plane.get("/api/v1/status"))["routes"]] == ["off", "dualwrite"]


async def test_notes_of_a_rollback_from_split(plane: Plane) -> None:
    await plane.change("stage", stage="split", weight=50)
    assert plane.ledger is not None
    plane.ledger.tell(ledger_stats(old=balance(deferred=12, delivered=5, released=3)))
    await plane.heard(lambda: plane.supervisor.instance.tally.ledger)
    answer = await plane.change("rollback")
    assert answer["notes"] == [
        "12 deferred events, which new answered, are being delivered to old",
        "3 deferred events were past carry_over_for and released: old lacks them",
    ]


async def test_notes_of_a_rollback_from_complete(plane: Plane) -> None:
    await plane.change("stage", stage="complete")
    plane.workers[0].say(chosen={"events": (0, 1)})
    await plane.heard(lambda: plane.supervisor.instance.tally.old_incomplete)
    answer = await plane.change("rollback")
    assert len(answer["notes"]) == 1
    assert answer["notes"][0].startswith("old is incomplete since 20")
    assert any("old is incomplete" in each for each in (await plane.get("/api/v1/status"))["warnings"])


async def test_what_is_wrong_at_new_is_said_before_it_gets_more(plane: Plane) -> None:
    instance = plane.supervisor.instance
    assert (await plane.change("rearm"))["notes"] == []
    for index in (0, 1):
        plane.workers[index].say(breakers={"old": "closed", "new": "half-open" if index else "closed"})
    assert plane.ledger is not None
    stats = ledger_stats(new=balance(pending=7))
    stats.sides[1].oldest_pending_age, stats.sides[1].paused = 12.4, "401"
    plane.ledger.tell(stats)
    await plane.heard(lambda: instance.tally.ledger is not None and len(list(instance.tally.present())) == 2)
    answer = await plane.change("rearm")
    assert answer["notes"] == [
        "the breaker at new is half-open: the next event tries it; the trigger reverts again while new does not answer",
        "7 events wait in the ledger for new, the oldest for 12 s; later ones of their keys wait, too",
        "deliveries from the ledger to new are paused: 401",
    ]
    assert answer["next"] == "proxyctl status --wait"
    more = await plane.change("stage", stage="live", weight=20, dry_run=True)
    assert more["notes"] == answer["notes"]
    assert (await plane.change("stage", stage="live", weight=20))["notes"] == answer["notes"]
    assert (await plane.change("stage", stage="live", weight=10))["notes"] == []


async def test_a_route_that_left_the_configuration_is_dropped(make_plane: MakePlane) -> None:
    first = make_plane(routes=[{"name": name, "match": {"path": f"/{name}"}} for name in ("one", "two")])
    await first.start()
    await first.ask("PUT", "/api/v1/routes/one/stage", {"stage": "live", "weight": 25})
    await first.close()
    names = [{"name": name, "match": {"path": f"/{name}"}} for name in ("one", "three")]
    second = make_plane(routes=names)
    await second.start()
    status = await second.get("/api/v1/status")
    assert [(each["name"], each["stage"]) for each in status["routes"]] == [("one", "live"), ("three", "off")]
    assert status["epoch"] == 3
    entries = (await second.get("/api/v1/history?limit=2"))["entries"]
    assert {(each["action"], each["route"], each["epoch"]) for each in entries} == {
        ("route-added", "three", 3),
        ("route-dropped", "two", 3),
    }


async def test_epochs_are_not_used_again_when_the_state_file_is_lost(make_plane: MakePlane) -> None:
    plane = make_plane()
    await plane.start()
    for weight in (5, 10, 15):
        await plane.change("stage", stage="live", weight=weight)
    await asyncio.to_thread(plane.places.routing.unlink)
    await plane.restart()
    await eventually(lambda: {worker.epoch for worker in plane.workers} == {5}, "the new epoch")
    assert (await plane.get("/api/v1/status"))["routes"][0]["stage"] == "off"
