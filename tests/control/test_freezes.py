"""Freezes with a real supervisor: what they stop and what never, how they end, restarts and failures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from proxy.control import freezes, rollouts
from proxy.control.freezes import Freezes
from proxy.core.errors import Frozen, RefuseToStart
from proxy.core.freeze import begin
from tests.control.conftest import MakePlane
from tests.control.fakes import Plane, worker_stats
from tests.control.helpers import eventually

pytestmark = pytest.mark.asyncio
PATH = "/api/v1/freeze"
ROUTE = "/api/v1/routes/events"
TWO = [
    {"name": "events", "match": {"path": "/api/v1/events"}},
    {"name": "orders", "match": {"path": "/api/v1/orders"}},
]


@pytest.fixture(autouse=True)
def ticks_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollouts, "TICK", 3600.0)


async def freeze(plane: Plane, seconds: float = 7200.0, **more: Any) -> Any:
    status, answer = await plane.ask("PUT", PATH, {"seconds": seconds, "reason": "release"} | more, X_Actor="ann@host")
    assert status == 200, answer
    return answer


async def unfreeze(plane: Plane, **body: Any) -> Any:
    status, answer = await plane.ask("DELETE", PATH, body)
    assert status == 200, answer
    return answer


async def live(plane: Plane) -> None:
    await plane.change("stage", stage="live", weight=50)


async def frozen(plane: Plane, route: int = 0) -> Any:
    return (await plane.get("/api/v1/status"))["routes"][route]["frozen"]


@pytest.mark.parametrize(
    ("method", "what", "body"),
    [
        ("PUT", "weight", {"weight": 60}),
        ("PUT", "weight", {"weight": 40}),
        ("PUT", "weight", {"weight": 50}),
        ("PUT", "weight", {"weight": 60, "dry_run": True}),
        ("PUT", "stage", {"stage": "complete"}),
        ("POST", "rearm", {}),
        ("POST", "rollout", {"steps": [{"weight": 60, "hold": 30}]}),
        ("POST", "rollout/resume", {}),
        ("POST", "rollout/promote", {}),
    ],
)
async def test_what_is_no_way_back_is_refused(plane: Plane, method: str, what: str, body: Any) -> None:
    await live(plane)
    await freeze(plane)
    status, problem = await plane.ask(method, f"{ROUTE}/{what}", body)
    assert (status, problem["frozen"]) == (423, "events")
    assert problem["detail"] == (
        "events is frozen until 2023-11-15T00:30:00.000Z by ann@host: release; a rollback is allowed"
    )
    assert (await plane.get("/api/v1/status"))["epoch"] == 2


async def test_the_way_back_is_always_open(plane: Plane) -> None:
    await live(plane)
    await freeze(plane)
    assert (await plane.change("rollback", weight=25))["after"]["weight"] == 25
    assert (await plane.change("rollback"))["after"]["weight"] == 0


async def test_a_part_of_the_way_back_never_raises_the_weight(plane: Plane) -> None:
    await live(plane)
    for weight in (50.01, 100, 101, "much"):
        status, _ = await plane.ask("POST", f"{ROUTE}/rollback", {"weight": weight})
        assert status == 422, weight
    assert (await plane.change("rollback", weight=50))["changed"] is False


async def test_the_guard_reverts_a_frozen_route(plane: Plane) -> None:
    await live(plane)
    await freeze(plane)
    plane.workers[0].link.send(worker_stats(epoch=2, breakers={"new": "open"}))
    await eventually(lambda: plane.supervisor.instance.state.routes["events"].latched, "the revert")  # type: ignore[union-attr]
    status, _ = await plane.ask("POST", f"{ROUTE}/rearm", {})
    assert status == 423


async def test_the_status_and_the_trail_say_who_why_and_until_when(plane: Plane) -> None:
    assert await frozen(plane) is None
    answer = await freeze(plane)
    view = {
        "since": "2023-11-14T22:30:00.000Z",
        "until": "2023-11-15T00:30:00.000Z",
        "actor": "ann@host",
        "reason": "release",
    }
    assert answer["routes"] == [{"route": "events", "before": None, "after": view, "changed": True}]
    assert (answer["changed"], answer["dry_run"], answer["epoch"], answer["notes"]) == (True, False, 1, [])
    assert await frozen(plane) == view
    assert 'crossfade_frozen{route="events"} 1.0' in await plane.get("/metrics")
    ended = await unfreeze(plane, reason="done early")
    assert ended["routes"] == [{"route": "events", "before": view, "after": None, "changed": True}]
    assert await frozen(plane) is None
    assert 'crossfade_frozen{route="events"} 0.0' in await plane.get("/metrics")
    off, on = (await plane.get("/api/v1/history?limit=2"))["entries"]
    assert (on["action"], on["actor"], on["reason"], on["route"]) == ("freeze", "ann@host", "release", "events")
    assert on["evidence"] == {"frozen_until": view["until"], "before": None}
    assert (off["action"], off["reason"], off["evidence"]) == (
        "unfreeze", "done early", {"frozen_until": None, "before": view["until"]}
    )  # fmt: skip
    assert on["epoch"] == on["previous_epoch"] == 1


async def test_it_ends_by_itself(plane: Plane) -> None:
    await freeze(plane, 60)
    plane.clock.now += 59.9
    status, _ = await plane.ask("PUT", f"{ROUTE}/stage", {"stage": "dualwrite"})
    assert status == 423
    plane.clock.now += 0.1
    assert await frozen(plane) is None
    await plane.change("stage", stage="dualwrite")


async def test_it_outlasts_the_supervisor(plane: Plane) -> None:
    await freeze(plane, 60)
    await plane.restart()
    await plane.until_ready()
    status, _ = await plane.ask("PUT", f"{ROUTE}/stage", {"stage": "dualwrite"})
    assert status == 423
    plane.clock.now += 60
    await plane.change("stage", stage="dualwrite")


async def test_nothing_to_end_and_dry_runs_change_nothing(plane: Plane) -> None:
    answer = await unfreeze(plane)
    assert (answer["changed"], answer["routes"][0]["changed"]) == (False, False)
    for _ in range(2):
        answer = await freeze(plane, dry_run=True)
        assert (answer["changed"], answer["dry_run"], answer["routes"][0]["changed"]) == (False, True, True)
    assert await frozen(plane) is None
    assert not plane.places.freezes.exists()
    entries = (await plane.get("/api/v1/history"))["entries"]
    assert [entry["action"] for entry in entries] == ["route-added"]


async def test_another_epoch_than_expected(plane: Plane) -> None:
    status, problem = await plane.ask("PUT", PATH, {"seconds": 60}, If_Match="7")
    assert (status, problem["epoch"]) == (409, 1)
    status, _ = await plane.ask("PUT", PATH, {"seconds": 60}, If_Match="1")
    assert status == 200


@pytest.mark.parametrize("body", [{"seconds": 0}, {"seconds": 2_592_001}, {"seconds": "2h"}, {}])
async def test_a_time_that_cannot_be(plane: Plane, body: Any) -> None:
    status, _ = await plane.ask("PUT", PATH, body)
    assert status == 422
    assert await frozen(plane) is None


async def test_one_route_or_all_of_them(make_plane: MakePlane) -> None:
    plane = make_plane(routes=TWO)
    await plane.start()
    await freeze(plane, 7200, route="orders")
    assert [await frozen(plane, route) is not None for route in (0, 1)] == [False, True]
    status, _ = await plane.ask("PUT", f"{ROUTE}/stage", {"stage": "dualwrite"})
    assert status == 200
    answer = await freeze(plane, 60)
    assert [each["changed"] for each in answer["routes"]] == [True, False]
    (note,) = answer["notes"]
    assert note.startswith("orders is frozen until 2023-11-15T00:30:00.000Z by ann@host: release, which is later and")
    assert note.endswith("; to end it: proxyctl freeze --off --route orders")
    await unfreeze(plane, route="orders")
    assert [await frozen(plane, route) is not None for route in (0, 1)] == [True, False]
    status, problem = await plane.ask("PUT", PATH, {"seconds": 60, "route": "gone"})
    assert (status, problem["routes"]) == (404, ["events", "orders"])


async def test_a_file_that_cannot_be_written_freezes_nothing(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(freezes, "write_whole", full)
    status, _ = await plane.ask("PUT", PATH, {"seconds": 60})
    assert status == 507
    assert await frozen(plane) is None
    entries = (await plane.get("/api/v1/history"))["entries"]
    assert [entry["action"] for entry in entries] == ["not-applied", "freeze", "route-added"]
    assert entries[0]["evidence"] == {"action": "freeze"}


async def test_no_audit_line_no_freeze(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("proxy.control.audit.append_line", full)
    status, _ = await plane.ask("PUT", PATH, {"seconds": 60})
    assert status == 507
    assert await frozen(plane) is None


async def test_a_paused_rollout_does_not_go_on_by_itself(plane: Plane) -> None:
    await plane.change("stage", stage="dualwrite")
    assert (await plane.ask("POST", f"{ROUTE}/rollout", {"steps": [{"weight": 10, "hold": 30}]}))[0] == 201
    assert (await plane.ask("POST", f"{ROUTE}/rollout/pause", {}))[0] == 200
    answer = await freeze(plane, 60)
    assert answer["notes"] == ["the rollout of events is paused, and cannot be resumed before that"]
    _, answer = await plane.ask("DELETE", PATH, {})
    resume = "proxyctl rollout resume --route events"
    assert answer["notes"] == [f"the rollout of events is paused still; to go on: {resume}"]


async def test_a_rollout_waits_says_so_and_goes_on(plane: Plane) -> None:
    await plane.change("stage", stage="dualwrite")
    plan = {"steps": [{"weight": 10, "hold": 30}]}
    status, _ = await plane.ask("POST", f"{ROUTE}/rollout", plan)
    assert status == 201
    answer = await freeze(plane, 60)
    assert answer["notes"] == ["the rollout of events waits with its next step until then"]
    for _ in range(2):
        await plane.supervisor._rollouts.tick()
        found = await plane.get(f"{ROUTE}/rollout")
        assert (found["phase"], found["reason"].split(" until")[0]) == ("moving", "events is frozen")
        assert found["notes"][0].endswith("ann@host: release; the weight does not rise before")
    assert plane.supervisor.instance.epoch == 2
    plane.clock.now += 60
    await plane.supervisor._rollouts.tick()
    assert plane.supervisor.instance.epoch == 3
    assert (await plane.get(f"{ROUTE}/rollout"))["phase"] == "applying"


async def test_a_rollout_can_be_planned_paused_and_aborted(plane: Plane) -> None:
    await plane.change("stage", stage="dualwrite")
    plan = {"steps": [{"weight": 10, "hold": 30}]}
    await plane.ask("POST", f"{ROUTE}/rollout", plan)
    await plane.supervisor._rollouts.tick()
    await freeze(plane)
    status, _ = await plane.ask("POST", f"{ROUTE}/rollout/pause", {})
    assert status == 200
    status, found = await plane.ask("POST", f"{ROUTE}/rollout/abort", {})
    assert (status, found["phase"]) == (200, "aborted")
    assert (await plane.get("/api/v1/status"))["routes"][0]["weight_target"] == 0
    status, found = await plane.ask("POST", f"{ROUTE}/rollout", plan | {"dry_run": True})
    assert status == 201
    assert "frozen until" in found["notes"][0]


async def test_what_has_ended_leaves_the_file(tmp_path: Path) -> None:
    now = 1000.0
    found = Freezes(tmp_path / "freezes.json", lambda: now)
    await found.put({"events": begin(now, 60.0, "ann")})
    with pytest.raises(Frozen):
        found.allow("events", "set-weight")
    found.allow("events", "rollback")
    found.allow("orders", "set-weight")
    now = 1060.0
    found.allow("events", "set-weight")
    await found.put({"orders": begin(now, 60.0, "ann")})
    assert list(json.loads((tmp_path / "freezes.json").read_bytes())) == ["orders"]
    assert Freezes(tmp_path / "freezes.json", lambda: now).of("orders") == found.of("orders")


@pytest.mark.parametrize("content", ["{", '{"events": {"until": "soon"}}'])
async def test_a_damaged_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "freezes.json"
    path.write_text(content)
    with pytest.raises(RefuseToStart, match=r"freezes\.json cannot be read"):
        Freezes(path, lambda: 0.0)
