"""Drills over the admin API: when they are refused, what workers are told, what the guard makes of it, how they end."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.control import drills, rollouts
from proxy.core.drill import Fault
from tests.control.fakes import Plane, requests
from tests.control.helpers import eventually
from tests.control.test_guard import OPEN, say, weight

pytestmark = pytest.mark.asyncio
PATH = "/api/v1/routes/-/drill"
STEPS = [{"weight": 50, "hold": 60.0}]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drills, "LAST_REPORTS", 0.01)
    monkeypatch.setattr(rollouts, "TICK", 3600.0)


async def begin(plane: Plane, **body: Any) -> Any:
    status, answer = await plane.ask(
        "POST", PATH, {"fault": "dead", "seconds": 60, "reason": "monthly"} | body, X_Actor="ann@host"
    )
    assert status == 201, answer
    return answer


async def refused(plane: Plane, status: int, **body: Any) -> str:
    found, problem = await plane.ask("POST", PATH, {"fault": "dead", "seconds": 60} | body)
    assert found == status, problem
    assert await plane.get("/api/v1/status")
    assert all(not worker.faults[-1] for worker in plane.workers), "nothing was begun"
    return str(problem["detail"])


async def over(plane: Plane) -> Any:
    """Wait for the end; the drill."""
    await eventually(lambda: plane.supervisor.instance.drills.running("events") is None, "its end")
    return await plane.get(PATH)


async def history(plane: Plane) -> list[Any]:
    """The audit trail, oldest first, without the route's beginning."""
    return list(reversed((await plane.get("/api/v1/history"))["entries"]))[1:]


async def test_copies_fail_until_somebody_ends_it(plane: Plane) -> None:
    await plane.change("stage", stage="dualwrite")
    assert (await plane.ask("GET", PATH))[0] == 404
    begun = await begin(plane, fault="slow", delay=0.25)
    assert (begun["running"], begun["fault"], begun["delay_s"], begun["actor"]) == (True, "slow", 0.25, "ann@host")
    assert (begun["noticed_s"], begun["reverted_epoch"], begun["ended_at"]) == (None, None, None)
    fault = {"events": Fault("slow", 60.0, 0.25)}
    assert plane.ledger is not None
    told = (*plane.workers, plane.ledger)
    await eventually(lambda: all(each.faults[-1] == fault for each in told), "the fault's arrival")
    status = await plane.get("/api/v1/status")
    assert status["routes"][0]["drill"] == begun
    assert "a drill of ann@host fails the copies of events (slow) until" in " ".join(status["warnings"])
    assert 'crossfade_drilled{route="events"} 1.0' in await plane.get("/metrics")
    status_, ended = await plane.ask("DELETE", PATH, {}, X_Actor="bob@host")
    assert (status_, ended["running"]) == (200, True)
    assert (await over(plane))["ended_at"] is not None
    await eventually(lambda: all(each.faults[-1] == {} for each in told), "the end's arrival")
    assert (await plane.get("/api/v1/status"))["routes"][0]["drill"] is None
    assert 'crossfade_drilled{route="events"} 0.0' in await plane.get("/metrics")
    assert (await plane.ask("DELETE", PATH, {}))[1]["running"] is False
    await eventually(lambda: not plane.supervisor.instance.drills._tasks, "the last line")
    first, last = (await history(plane))[-2:]
    assert (first["action"], first["actor"], first["reason"]) == ("drill", "ann@host", "monthly")
    assert first["evidence"] == {"fault": "slow", "seconds": 60.0, "delay": 0.25}
    assert (last["action"], last["actor"], last["evidence"]["cause"]) == ("drill-ended", "bob@host", None)
    assert last["reason"].endswith(", and the guard saw no cause for a revert")


async def test_it_ends_by_itself_and_then_there_may_be_another(plane: Plane) -> None:
    await plane.change("stage", stage="dualwrite")
    await begin(plane, seconds=0.2)
    status, problem = await plane.ask("POST", PATH, {"fault": "dead"})
    assert (status, "already" in problem["detail"]) == (422, True)
    assert (await over(plane))["running"] is False
    await eventually(lambda: plane.workers[0].faults[-1] == {}, "the end's arrival")
    await eventually(lambda: not plane.supervisor.instance.drills._tasks, "the last line")
    assert (await history(plane))[-1]["actor"] == "crossfade"
    await begin(plane)


async def test_the_guard_reverts_and_says_that_it_was_a_drill(plane: Plane) -> None:
    await plane.change("stage", stage="live", weight=25)
    await begin(plane)
    plane.clock.now += 0.75
    await say(plane, 1, breakers=OPEN, requests=[requests(role="copy", error=5)])
    await eventually(lambda: weight(plane) == 0, "the revert")
    await plane.supervisor._guard.settle()
    found = await plane.get(PATH)
    assert (found["noticed_s"], found["reverted_epoch"]) == (0.75, 3)
    assert found["cause"] == "the breaker of new is open in worker 1"
    why = await plane.get("/api/v1/why")
    assert why["seconds_to_detect"] == 0.75
    assert why["entry"]["evidence"]["drill"] == {"fault": "dead", "actor": "ann@host"}
    assert "new is open in worker 1; a drill of ann@host failed the copies of events (dead): monthly" in why["text"]
    await plane.ask("DELETE", PATH, {})
    await over(plane)
    await eventually(lambda: not plane.supervisor.instance.drills._tasks, "the last line")
    ended = (await history(plane))[-1]
    assert (ended["action"], ended["epoch"], ended["previous_epoch"]) == ("drill-ended", 3, 3), "as the revert's"
    assert ended["reason"].startswith("the copies failed (dead) for ")
    said = "the guard saw it after 0.75 s, and reverted (epoch 3): the breaker of new is open in worker 1"
    assert ended["reason"].endswith(said)
    await plane.change("rearm")


async def test_at_weight_0_it_is_noticed_and_forgotten_when_it_is_over(plane: Plane) -> None:
    await plane.change("stage", stage="dualwrite")
    await say(plane, requests=[requests(role="copy", ok=100)])
    await begin(plane)
    for failed in range(100, 601, 100):
        plane.clock.now += 1
        await say(plane, requests=[requests(role="copy", ok=100, failed=failed)])
    assert plane.supervisor.instance.tally.verdicts["events"].name == "fail"
    found = await plane.get(PATH)
    assert (found["noticed_s"] is not None, found["reverted_epoch"], weight(plane)) == (True, None, 0)
    assert "failed at new" in found["cause"]
    await plane.ask("DELETE", PATH, {})
    await over(plane)
    plane.clock.now += 1
    await say(plane, requests=[requests(role="copy", ok=200, failed=600)])
    plane.clock.now += 1
    await say(plane, requests=[requests(role="copy", ok=300, failed=600)])
    verdict = plane.supervisor.instance.tally.verdicts["events"]
    assert (verdict.name, verdict.samples, verdict.failed) == ("pass", 100, 0)


@pytest.mark.parametrize("copy_of", ["worker", "ledger"])
async def test_who_comes_later_is_told_too_and_a_new_supervisor_ends_it(plane: Plane, copy_of: str) -> None:
    await plane.change("stage", stage="dualwrite")
    await begin(plane)
    peer = plane.workers[0] if copy_of == "worker" else plane.ledger
    assert peer is not None
    await eventually(lambda: "events" in peer.faults[-1], "the fault's arrival")
    await plane.restart()
    await eventually(lambda: peer.faults[-1] == {}, "its end")
    assert (await plane.ask("GET", PATH))[0] == 404
    await plane.until_ready()


async def test_meanwhile_the_routing_only_goes_back(plane: Plane) -> None:
    await plane.change("stage", stage="live", weight=25)
    await begin(plane)
    for method, what, body in (
        ("PUT", "weight", {"weight": 50}),
        ("PUT", "stage", {"stage": "complete"}),
        ("POST", "rollout", {"steps": STEPS}),
    ):
        status, problem = await plane.ask(method, f"/api/v1/routes/-/{what}", body)
        assert (status, problem["drilled"]) == (423, "events"), what
        assert "a drill of ann@host fails the copies of events (dead) until" in problem["detail"]
        assert "a rollback is allowed" in problem["detail"]
    assert (await plane.change("rollback"))["after"]["weight"] == 0
    await plane.ask("DELETE", PATH, {})
    await over(plane)
    await plane.change("weight", weight=50)


async def test_a_rollout_that_was_paused_waits_for_its_end(plane: Plane) -> None:
    await plane.change("stage", stage="dualwrite")
    assert (await plane.ask("POST", "/api/v1/routes/-/rollout", {"steps": STEPS}))[0] == 201
    assert await refused(plane, 422) == "a rollout of events is moving: pause it first"
    await plane.change("rollout/pause")
    await begin(plane)
    await plane.change("rollout/resume")
    await plane.supervisor._rollouts.tick()
    found = await plane.get("/api/v1/routes/-/rollout")
    assert (found["phase"], "a drill of ann@host" in found["reason"], weight(plane)) == ("moving", True, 0)
    await plane.ask("DELETE", PATH, {})
    await over(plane)
    await plane.supervisor._rollouts.tick()
    assert weight(plane) == 50


@pytest.mark.parametrize(
    ("stage", "status", "said"),
    [
        ({"stage": "off"}, 423, "copies of events are none"),
        ({"stage": "shadow"}, 423, "copies of events are best-effort"),
        ({"stage": "split", "weight": 25}, 423, "copies of events are none"),
        ({"stage": "complete"}, 423, "copies of events are none"),
        ({"stage": "rampdown"}, 422, "the weight of events is 100 %"),
    ],
)
async def test_where_there_is_none(stage: dict[str, Any], status: int, said: str, plane: Plane) -> None:
    await plane.change("stage", **stage)
    assert said in await refused(plane, status)


async def test_what_else_stands_against_it(plane: Plane) -> None:
    await plane.change("stage", stage="dualwrite")
    assert "there is no fault 'broken'" in await refused(plane, 422, fault="broken")
    assert "at most 300 seconds" in await refused(plane, 422, seconds=301)
    assert "more than 0" in await refused(plane, 422, fault="slow", delay=0)
    status, problem = await plane.ask("POST", PATH, {"fault": "dead"}, If_Match="1")
    assert (status, problem["epoch"]) == (409, 2)
    assert (await plane.ask("POST", "/api/v1/routes/nowhere/drill", {"fault": "dead"}))[0] == 404
    assert (await plane.ask("PUT", "/api/v1/freeze", {"seconds": 60}))[0] == 200
    assert "events is frozen until" in await refused(plane, 423)


async def test_a_revert_that_would_leave_old_incomplete_is_not_rehearsed(plane: Plane) -> None:
    await plane.change("stage", stage="live", weight=50)
    plane.supervisor.instance.tally.old_incomplete["events"] = "2026-01-31T12:00:00Z"
    assert "old is incomplete since" in await refused(plane, 423)
    await plane.change("rollback")
    await begin(plane)


async def test_a_dry_run_begins_nothing(plane: Plane) -> None:
    await plane.change("stage", stage="dualwrite")
    before = await history(plane)
    status, planned = await plane.ask("POST", PATH, {"fault": "errors", "seconds": 30, "dry_run": True})
    assert (status, planned["dry_run"], planned["running"], planned["seconds"]) == (201, True, False, 30.0)
    assert (await plane.ask("GET", PATH))[0] == 404
    assert await history(plane) == before
    await plane.change("stage", stage="off")
    await refused(plane, 423, dry_run=True)


async def test_an_end_that_cannot_be_written_is_an_end_all_the_same(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    await plane.change("stage", stage="dualwrite")
    await begin(plane)

    async def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plane.supervisor.instance.audit, "write", full)
    await plane.ask("DELETE", PATH, {})
    await over(plane)
    await eventually(lambda: plane.supervisor.instance.tally.own["drills_not_kept"] == 1, "it is counted")
    status, problem = await plane.ask("POST", PATH, {"fault": "dead"})
    assert (status, "nothing was changed" in problem["detail"]) == (507, True)
    assert plane.supervisor.instance.drills.running("events") is None
