"""Rollouts with a real supervisor and fake workers: weights by plan, on evidence, across restarts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from proxy.control import rollouts
from proxy.control.changes import Changes
from proxy.control.file_store import FileStore
from proxy.control.rollouts import MOST_ELAPSED
from proxy.core.errors import BadChange, RefuseToStart
from tests.control.conftest import MakePlane
from tests.control.fakes import Plane, requests
from tests.control.helpers import eventually

pytestmark = pytest.mark.asyncio
PATH = "/api/v1/routes/-/rollout"
STEPS = [{"weight": 10, "hold": 60, "samples": 100}, {"weight": 50, "hold": 30}, {"weight": 100, "hold": 30}]


@pytest.fixture(autouse=True)
def ticks_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollouts, "TICK", 3600.0)


class Traffic:
    """Answers of new, of which each call brings more."""

    def __init__(self, plane: Plane) -> None:
        self.plane = plane
        self.ok = self.failed = 0

    async def __call__(self, ok: int = 0, failed: int = 0) -> None:
        self.ok, self.failed = self.ok + ok, self.failed + failed
        slot = self.plane.supervisor.instance.tally.slot(0)
        before = slot.latest if slot is not None else None
        self.plane.workers[0].say(requests=[requests(ok=self.ok, failed=self.failed)])

        def arrived() -> bool:
            slot = self.plane.supervisor.instance.tally.slot(0)
            return slot is not None and slot.latest is not before

        await self.plane.heard(arrived)


async def tick(plane: Plane, seconds: float = 0.0) -> None:
    """So much later, and everybody has applied what was due."""
    while True:
        plane.clock.now += min(seconds, MOST_ELAPSED)
        seconds -= MOST_ELAPSED
        await plane.supervisor._rollouts.tick()
        if seconds <= 0:
            break
    epoch = plane.supervisor.instance.epoch
    await eventually(lambda: {worker.epoch for worker in plane.workers} >= {epoch}, "the workers")


def weight(plane: Plane) -> float:
    state = plane.supervisor.instance.state
    assert state is not None
    return state.routes["events"].weight


async def start(plane: Plane, **body: Any) -> dict[str, Any]:
    status, found = await plane.ask("POST", PATH, {"steps": STEPS} | body)
    assert status == 201, found
    return dict(found)


async def look(plane: Plane) -> tuple[str, int, str]:
    found = await plane.get(PATH)
    return found["phase"], found["step"], found["reason"]


async def begun(plane: Plane) -> Traffic:
    """A rollout at its first step."""
    traffic = Traffic(plane)
    await plane.change("stage", stage="dualwrite")
    await traffic(ok=50)
    await start(plane, reason="first")
    await tick(plane)
    await eventually(lambda: weight(plane) == 10, "the first step")
    await traffic()
    await tick(plane)
    assert (await look(plane))[:2] == ("holding", 1)
    glance = (await plane.get("/api/v1/status"))["routes"][0]["rollout"]
    assert (glance["phase"], glance["step"], glance["of"], glance["weight"]) == ("holding", 1, 3, 10)
    return traffic


async def test_it_goes_to_the_end_on_evidence(plane: Plane) -> None:
    traffic = await begun(plane)
    await traffic(ok=40)
    await tick(plane, 60)
    assert await look(plane) == ("holding", 1, "lacks 60 of 100 answers of new")
    await traffic(ok=60)
    for expected in (50, 100):
        await tick(plane)
        await eventually(lambda: weight(plane) == expected, "the next step")  # noqa: B023 - asked before the next
        await traffic()
        await tick(plane)
        await traffic(ok=10)
        await tick(plane, 30)
    assert (await look(plane))[0] == "done"
    entries = (await plane.get("/api/v1/history"))["entries"]
    assert [entry["action"] for entry in reversed(entries)][2:] == [
        "rollout-start", "rollout-step", "rollout-step", "rollout-step", "rollout-done",
    ]  # fmt: skip
    assert entries[1]["reason"] == "step 3 of 3 of the rollout"


async def test_failures_below_the_limit_hold_it(plane: Plane) -> None:
    traffic = await begun(plane)
    await traffic(ok=500, failed=3)
    await tick(plane, 600)
    phase, step, reason = await look(plane)
    assert (phase, step, weight(plane)) == ("holding", 1, 10)
    assert reason.startswith("the verdict is inconclusive; 3 of 503 events failed at new since")


async def test_a_revert_ends_it_and_it_begins_again_from_a_step(plane: Plane) -> None:
    traffic = await begun(plane)
    plane.clock.now += 1
    await traffic(failed=20)
    plane.clock.now += 3
    await traffic(failed=20)
    await eventually(lambda: weight(plane) == 0, "the revert")
    await plane.supervisor._guard.settle()
    await tick(plane)
    phase, _, reason = await look(plane)
    assert phase == "reverted"
    assert reason.startswith("40 of 40 events failed at new")
    status, problem = await plane.ask("POST", PATH, {"steps": STEPS, "from_step": 2})
    assert (status, "re-arm" in problem["detail"]) == (423, True)
    await plane.change("rearm")
    await start(plane, from_step=2)
    await tick(plane)
    await eventually(lambda: weight(plane) == 50, "the second step")


async def test_who_turns_the_weight_stops_it_until_it_is_resumed(plane: Plane) -> None:
    await begun(plane)
    await plane.change("weight", weight=5)
    await tick(plane, 1)
    assert await look(plane) == ("paused", 1, "the weight was set to 5 % meanwhile")
    await tick(plane, 1000)
    assert weight(plane) == 5
    assert (await plane.ask("POST", f"{PATH}/resume", {}))[0] == 200
    await tick(plane)
    await eventually(lambda: weight(plane) == 10, "the step again")


async def test_a_person_pauses_promotes_and_aborts(plane: Plane) -> None:
    traffic = await begun(plane)
    await traffic(ok=200)
    assert (await plane.ask("POST", f"{PATH}/pause", {"reason": "lunch"}))[0] == 200
    await tick(plane, 1000)
    assert await look(plane) == ("paused", 1, "lunch")
    assert (await plane.ask("POST", f"{PATH}/promote", {}))[0] == 422
    assert (await plane.ask("POST", f"{PATH}/resume", {}))[0] == 200
    await tick(plane)
    await tick(plane)
    assert (await plane.ask("POST", f"{PATH}/promote", {}))[0] == 200
    await tick(plane)
    await eventually(lambda: weight(plane) == 50, "the next step")
    assert (await plane.ask("POST", PATH, {"steps": STEPS, "from_step": 2, "dry_run": True}))[0] == 201
    status, problem = await plane.ask("POST", PATH, {"steps": STEPS})
    assert (status, "abort it first" in problem["detail"]) == (422, True)
    assert (await plane.ask("POST", f"{PATH}/abort", {"dry_run": True}))[0] == 200
    assert weight(plane) == 50
    assert (await plane.ask("POST", f"{PATH}/abort", {"reason": "enough"}))[1]["phase"] == "aborted"
    await eventually(lambda: weight(plane) == 0, "the way back")
    assert (await plane.ask("POST", f"{PATH}/pause", {}))[0] == 422


async def test_it_waits_for_a_person_where_that_is_asked_for(plane: Plane) -> None:
    traffic = Traffic(plane)
    await plane.change("stage", stage="dualwrite")
    await traffic(ok=1)
    await start(plane, auto_promote=False)
    await tick(plane)
    await eventually(lambda: weight(plane) == 10, "the first step")
    await traffic()
    await tick(plane)
    await traffic(ok=200)
    await tick(plane, 60)
    await tick(plane, 600)
    assert await look(plane) == ("waiting", 1, "a person is to promote it")


async def test_a_dry_run_predicts_and_changes_nothing(plane: Plane) -> None:
    await plane.change("stage", stage="dualwrite")
    status, found = await plane.ask("POST", PATH, {"steps": STEPS, "dry_run": True})
    assert (status, found["dry_run"]) == (201, True)
    assert [step["predicted_s"] for step in found["steps"]] == [None, None, None]
    assert found["notes"] == []
    await plane.change("stage", stage="off")
    _, found = await plane.ask("POST", PATH, {"steps": STEPS, "dry_run": True})
    assert found["notes"][0].startswith("copy is none: old does not get what new answers")
    assert (await plane.ask("GET", PATH))[0] == 404


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"steps": []}, "at least one step"),
        ({"steps": [{"weight": 10, "hold": 0}]}, "hold is above 0"),
        ({"steps": [{"weight": 50, "hold": 1}, {"weight": 25, "hold": 1}]}, "does not rise"),
        ({"steps": STEPS, "from_step": 9}, "there is no step 9"),
        ({"steps": STEPS, "from_step": 0}, "there is no step 0"),
        ({"steps": [{"weight": 10, "hold": 1, "sampels": 1}]}, "sampels"),
    ],
)
async def test_bad_plans_are_refused(plane: Plane, body: dict[str, Any], why: str) -> None:
    status, problem = await plane.ask("POST", PATH, body)
    assert status in (400, 422)
    assert why in problem["detail"]


async def test_in_shadow_there_is_nothing_to_begin(plane: Plane) -> None:
    await plane.change("stage", stage="shadow")
    status, problem = await plane.ask("POST", PATH, {"steps": STEPS})
    assert (status, "best effort" in problem["detail"]) == (422, True)


async def test_a_restart_begins_the_step_anew(make_plane: MakePlane) -> None:
    """What failed at it is forgotten by a restart, so what was held counts no more."""
    plane = make_plane()
    await plane.start()
    traffic = await begun(plane)
    await traffic(ok=500, failed=3)
    await tick(plane, 600)
    assert (await look(plane))[0] == "holding"
    await plane.restart()
    await eventually(lambda: len(plane.supervisor.instance.peers.workers) == 2, "the workers")
    await traffic(ok=500)
    await tick(plane)
    await tick(plane)
    assert (await look(plane))[:2] == ("holding", 1)
    await traffic(ok=500)
    await tick(plane, 55)
    assert weight(plane) == 10
    await tick(plane, 5)
    await eventually(lambda: weight(plane) == 50, "the next step")


async def test_time_in_which_nobody_looked_does_not_count(plane: Plane) -> None:
    traffic = await begun(plane)
    await traffic(ok=500)
    plane.clock.now += 10_000
    await plane.supervisor._rollouts.tick()
    assert (await look(plane))[:2] == ("holding", 1)
    assert (await plane.get(PATH))["held_s"] == MOST_ELAPSED


async def test_a_rollback_right_after_a_step_is_not_undone(plane: Plane) -> None:
    await plane.change("stage", stage="dualwrite")
    await Traffic(plane)(ok=50)
    await start(plane)
    await tick(plane)
    await eventually(lambda: weight(plane) == 10, "the first step")
    await plane.change("rollback")
    for _ in range(3):
        await tick(plane, 1)
    assert (weight(plane), await look(plane)) == (0, ("paused", 1, "the weight was set to 0 % meanwhile"))


async def begin_a_step(plane: Plane, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], Any]) -> None:
    """Somebody does something in the moment in which a step is made."""
    await plane.change("stage", stage="dualwrite")
    await Traffic(plane)(ok=50)
    await start(plane)
    turn = Changes.turn

    async def overtaken(self: Changes, *args: Any, **values: Any) -> Any:
        monkeypatch.setattr(Changes, "turn", turn)
        await meanwhile()
        return await turn(self, *args, **values)

    monkeypatch.setattr(Changes, "turn", overtaken)
    await plane.supervisor._rollouts.tick()


async def test_who_is_first_in_a_race_is_not_overruled(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    await begin_a_step(plane, monkeypatch, lambda: plane.change("weight", weight=3))
    assert weight(plane) == 3
    await tick(plane, 1)
    assert (weight(plane), await look(plane)) == (3, ("paused", 1, "the weight was set to 3 % meanwhile"))


async def test_a_step_that_is_refused_pauses_it_and_says_why(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    await begin_a_step(plane, monkeypatch, lambda: no_step(plane, monkeypatch))
    phase, step, reason = await look(plane)
    assert (weight(plane), phase, step, reason) == (0, "paused", 1, "not now")
    assert (await plane.get("/api/v1/history"))["entries"][0]["action"] == "rollout-paused"


async def no_step(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> NoReturn:
        raise BadChange("not now")

    monkeypatch.setattr(rollouts, "with_weight", refuse)


async def test_a_step_that_was_kept_and_not_done_is_done_after_a_restart(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    traffic = await begun(plane)
    await traffic(ok=500)
    await tick(plane, 55)

    async def dies(*_: Any, **__: Any) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(FileStore, "compare_and_set", dies)
        plane.clock.now += 5
        with pytest.raises(SystemExit):
            await plane.supervisor._rollouts.tick()
    assert weight(plane) == 10
    again = rollouts.Rollouts(plane.supervisor.instance, plane.supervisor._rollouts._path)
    await again.tick()
    await eventually(lambda: weight(plane) == 50, "the step")


async def test_an_abort_that_dies_half_way_raises_nothing(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    await plane.change("stage", stage="dualwrite")
    await Traffic(plane)(ok=50)
    await start(plane)
    await tick(plane)
    await eventually(lambda: weight(plane) == 10, "the first step")

    async def dies(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(rollouts.Rollouts, "_tell", dies)
        assert (await plane.ask("POST", f"{PATH}/abort", {}))[0] == 507
    again = rollouts.Rollouts(plane.supervisor.instance, plane.supervisor._rollouts._path)
    for _ in range(3):
        plane.clock.now += 1
        await again.tick()
    found = again.of("events")
    assert found is not None
    assert (weight(plane), found.progress.phase, found.progress.reason) == (0, "paused", "it is being aborted")


async def test_what_cannot_be_kept_is_not_done(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    traffic = await begun(plane)
    await traffic(ok=500)
    await tick(plane, 55)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(rollouts, "write_whole", full)
        await tick(plane, 30)
        assert weight(plane) == 10
        assert plane.supervisor.instance.tally.own["rollouts_not_kept"] > 0
    await tick(plane, 5)
    await eventually(lambda: weight(plane) == 50, "the step, once it could be kept")


async def test_a_damaged_file_refuses_to_start(plane: Plane) -> None:
    path = plane.supervisor._rollouts._path
    path.write_bytes(b'{"events": {"plan"')
    with pytest.raises(RefuseToStart, match="move it away"):
        rollouts.Rollouts(plane.supervisor.instance, path)
