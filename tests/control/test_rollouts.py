"""Rollouts with a real supervisor and fake workers: weights by plan, on evidence, across restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any, NoReturn

import pytest

from config.gates import Gate
from proxy.control import rollouts
from proxy.control.baselines import Baseline
from proxy.control.changes import Changes, Who
from proxy.control.file_store import FileStore
from proxy.control.gate_calls import Question
from proxy.control.rollouts import MOST_ELAPSED, Rollouts
from proxy.core.errors import BadChange, RefuseToStart
from proxy.core.gate import NO, YES, Said
from tests.control.conftest import MakePlane
from tests.control.fakes import Plane, requests
from tests.control.helpers import CHECK, eventually
from tests.control.test_checked import find

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
        await asyncio.sleep(0)  # gates answer
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


async def test_at_17_events_a_minute_a_healthy_new_says_what_it_lacks_and_passes(plane: Plane) -> None:
    await plane.change("stage", stage="dualwrite")
    traffic = Traffic(plane)
    await traffic(ok=50)
    await start(plane, steps=[{"weight": 10, "hold": 600, "samples": 200}, {"weight": 50, "hold": 600}])
    await tick(plane)
    await eventually(lambda: weight(plane) == 10, "the first step")
    await traffic()
    await tick(plane)
    answers = 0
    while weight(plane) == 10:
        assert answers < 200
        assert (await look(plane))[0] == "holding"
        await traffic(ok=1)
        await tick(plane, 60 / 17)
        answers += 1
        if answers == 180:
            assert await look(plane) == ("holding", 1, "lacks 20 of 200 answers of new")
        if answers == 200:
            await eventually(lambda: weight(plane) == 50, "the next step")
    assert answers == 200
    assert not (await plane.get("/api/v1/status"))["routes"][0]["latched"]


async def test_limits_of_latency_are_typed_or_come_from_the_baseline(plane: Plane) -> None:
    await plane.change("stage", stage="dualwrite")
    steps = [{"weight": 10, "hold": 1}]
    status, problem = await plane.ask("POST", PATH, {"steps": steps, "improvement": {"p95": 0.1}})
    assert (status, "there is no baseline of events" in problem["detail"]) == (422, True)
    plane.supervisor.instance.baselines._found["events"] = Baseline("", 60.0, 100, 1.0, 0.0, 0.2, 0.5, 0.9)
    both = {"improvement": {"p95": 0.1}, "latency": {"p95": 1.0}}
    for wrong, said in ((both, "two ways"), ({"improvement": {"p50": 1.0}}, "less than 100 %")):
        status, problem = await plane.ask("POST", PATH, {"steps": steps} | wrong)
        assert (status, said in problem["detail"]) == (422, True)
    better = {"improvement": {"p50": -0.5, "p95": 0.1}}
    found = await start(plane, steps=steps, dry_run=True, **better)
    assert found["latency"] == {"p50": pytest.approx(0.3), "p95": pytest.approx(0.45)}
    traffic = Traffic(plane)
    await traffic(ok=50)
    await start(plane, steps=steps, latency={"p95": 1e-6})
    await tick(plane)
    await eventually(lambda: weight(plane) == 10, "the step")
    await traffic()
    await tick(plane)
    await tick(plane, 5)
    assert "p95 of new is not known and has to be at most 0.001 ms" in (await look(plane))[2]
    await traffic(ok=50)
    await tick(plane)
    phase, _, reason = await look(plane)
    assert (phase, " ms and has to be at most 0.001 ms" in reason) == ("holding", True)


async def test_a_route_may_have_its_plan_in_the_configuration(make_plane: MakePlane) -> None:
    made = {"name": "events", "match": {"path": "/e"}}
    plan = {"steps": ({"weight": 5, "hold": "1m"}, {"weight": 100, "samples": 7}), "latency": {"p95": "1s"}}
    plane = make_plane(routes=(made | {"rollout": plan}, made | {"name": "other", "match": {"path": "/o"}}))
    await plane.start()
    paths = [f"/api/v1/routes/{name}/rollout" for name in ("events", "other")]
    status, own = await plane.ask("POST", paths[0], {"from_step": 2})
    assert status == 201, own
    assert [(step["weight"], step["hold_s"], step["samples"]) for step in own["steps"]] == [(5, 60, 0), (100, 300, 7)]
    assert (own["step"], own["latency"]) == (2, {"p50": None, "p95": 1.0})
    status, usual = await plane.ask("POST", paths[1], {})
    assert [step["weight"] for step in usual["steps"]] == [10, 25, 50, 75, 90, 100]


async def test_without_copies_nothing_is_analysed_at_0(plane: Plane) -> None:
    steps = [{"weight": 0, "hold": 1}, {"weight": 100, "hold": 1}]
    status, problem = await plane.ask("POST", PATH, {"steps": steps})
    assert (status, "proxyctl stage dualwrite" in problem["detail"]) == (422, True)
    await plane.change("stage", stage="dualwrite")
    await start(plane, steps=steps)


# --- gates --------------------------------------------------------------------------------------------------


class Gated:
    """A plane whose gates answer as `answers` says: yes where it says nothing."""

    def __init__(self, make_plane: MakePlane) -> None:
        gates = tuple({"name": name, "command": ("true",), "on_fail": on_fail} for name, on_fail in GATES.items())
        self.plane = make_plane(gates=gates)
        self.answers: dict[str, str] = {}
        self.asked: list[tuple[str, str, int]] = []
        self.plane.supervisor._rollouts._gates._calls.ask = self.ask  # type: ignore[method-assign]

    async def ask(self, gate: Gate, question: Question) -> Said:
        self.asked.append((gate.name, question.phase, question.step))
        return Said(self.answers.get(gate.name, YES), "so they say", gate.on_fail)

    async def begin(self) -> Traffic:
        await self.plane.start()
        traffic = Traffic(self.plane)
        await self.plane.change("stage", stage="dualwrite")
        await traffic(ok=50)
        steps = [
            {"weight": 10, "hold": 10, "before": ["warm"], "gates": ["smoke"], "after": ["told"]},
            {"weight": 50, "hold": 10, "gates": ["back", "guard"]},
        ]
        await start(self.plane, steps=steps, on_revert=["told"])
        return traffic

    async def at_step(self, traffic: Traffic, weight_: float) -> None:
        """Go on until this weight is reached and has held, and the gates behind it are asked."""
        await tick(self.plane)  # asks
        await tick(self.plane)  # turns
        await eventually(lambda: weight(self.plane) == weight_, "the weight")
        await traffic()
        await tick(self.plane)
        await traffic(ok=50)
        await tick(self.plane, 10)
        await tick(self.plane)  # asks


GATES = {"warm": "hold", "smoke": "pause", "back": "step-back", "guard": "revert", "told": "hold"}


async def test_gates_are_asked_before_a_step_and_before_it_goes_on(make_plane: MakePlane) -> None:
    scene = Gated(make_plane)
    scene.answers = {"warm": NO}
    traffic = await scene.begin()
    await tick(scene.plane)
    await tick(scene.plane)
    assert await look(scene.plane) == ("preparing", 1, "gate warm: no (so they say)")
    assert weight(scene.plane) == 0
    assert (await scene.plane.get(PATH))["gates"] == [
        {"name": "warm", "answer": "no", "text": "so they say", "on_fail": "hold"}
    ]
    scene.answers = {}
    scene.plane.clock.now += 10
    await scene.at_step(traffic, 10)
    assert await look(scene.plane) == ("holding", 1, "gate smoke: no answer (it is being asked)")
    await scene.at_step(traffic, 50)
    await tick(scene.plane)
    assert (await look(scene.plane))[0] == "done"
    assert scene.asked == [
        ("warm", "before", 1), ("warm", "before", 1), ("smoke", "gates", 1), ("told", "after", 1),
        ("back", "gates", 2), ("guard", "gates", 2),
    ]  # fmt: skip
    entries = (await scene.plane.get("/api/v1/history"))["entries"]
    evidence = [entry["evidence"].get("gates") for entry in entries if entry["action"] == "rollout-step"]
    assert evidence == [{name: {"answer": "yes", "said": "so they say"}} for name in ("smoke", "warm")]


async def test_a_gates_no_pauses(make_plane: MakePlane) -> None:
    scene = Gated(make_plane)
    scene.answers = {"smoke": NO}
    await scene.at_step(await scene.begin(), 10)
    await tick(scene.plane)
    assert await look(scene.plane) == ("paused", 1, "gate smoke: no (so they say)")
    assert weight(scene.plane) == 10


async def test_a_gates_no_takes_the_weight_back_by_a_step(make_plane: MakePlane) -> None:
    scene = Gated(make_plane)
    traffic = await scene.begin()
    await scene.at_step(traffic, 10)
    scene.answers = {"back": NO}
    await scene.at_step(traffic, 50)
    await tick(scene.plane)
    await eventually(lambda: weight(scene.plane) == 10, "the step back")
    entries = (await scene.plane.get("/api/v1/history"))["entries"]
    assert [entry["action"] for entry in entries[:2]] == ["rollout-step", "rollout-step-back"]
    assert entries[1]["evidence"]["gates"]["back"]["answer"] == "no"
    scene.answers = {}
    await traffic()
    await tick(scene.plane)
    await traffic(ok=50)
    await tick(scene.plane, 10)
    await scene.at_step(traffic, 50)
    await tick(scene.plane)
    assert (await look(scene.plane))[0] == "done"


def ruled(make_plane: MakePlane, act: str) -> Plane:
    """An instance that does this when too many events fail at new."""
    route = {"name": "events", "match": {"path": "/api/v1/events"}, "trigger": {"on_fail": {"error-rate": act}}}
    return make_plane(routes=[route])


async def fail(plane: Plane, traffic: Traffic) -> None:
    """More events fail at new than may."""
    plane.clock.now += 1
    await traffic(failed=20)
    plane.clock.now += 3
    await traffic(failed=20)
    await plane.supervisor._guard.settle()


async def test_what_the_guard_finds_pauses_where_the_configuration_says_so(make_plane: MakePlane) -> None:
    plane = ruled(make_plane, "pause")
    await plane.start()
    traffic = await begun(plane)
    await fail(plane, traffic)
    await tick(plane)
    phase, step, reason = await look(plane)
    assert (phase, step, weight(plane)) == ("paused", 1, 10)
    assert reason.startswith("40 of 40 events failed at new")


async def failing_at_its_second_step(make_plane: MakePlane) -> tuple[Plane, Traffic]:
    """A rollout that is to go back by a step for it."""
    plane = ruled(make_plane, "step-back")
    await plane.start()
    traffic = await begun(plane)
    await plane.change("rollout/promote")
    await tick(plane)
    await eventually(lambda: weight(plane) == 50, "the second step")
    await traffic()
    await tick(plane)
    await fail(plane, traffic)
    return plane, traffic


async def test_what_the_guard_finds_takes_the_weight_back_by_a_step(make_plane: MakePlane) -> None:
    plane, traffic = await failing_at_its_second_step(make_plane)
    assert weight(plane) == 50, "it is the rollout's to go back"
    await tick(plane)
    await eventually(lambda: weight(plane) == 10, "the step back")
    entries = (await plane.get("/api/v1/history"))["entries"]
    assert [entry["action"] for entry in entries[:2]] == ["rollout-step", "rollout-step-back"]
    await traffic()
    await tick(plane)
    await fail(plane, traffic)
    await eventually(lambda: weight(plane) == 0, "the revert: there is no step to go back to")
    await tick(plane)
    assert (await look(plane))[0] == "reverted"


async def test_while_the_weight_is_on_its_way_back_nobody_reverts(
    make_plane: MakePlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane, traffic = await failing_at_its_second_step(make_plane)
    running, turn = plane.supervisor._rollouts, plane.supervisor._rollouts._turn

    async def slowly(*arguments: Any) -> None:  # a report comes before the weight is turned
        await traffic(failed=5)
        assert not [each for each in plane.supervisor._guard._watched if each.reverting is not None]
        await turn(*arguments)

    monkeypatch.setattr(running, "_turn", slowly)
    await tick(plane)
    await eventually(lambda: weight(plane) == 10, "the step back")


async def test_who_resumes_what_the_checker_paused_has_seen_what_it_found(make_plane: MakePlane) -> None:
    route = {"name": "events", "match": {"path": "/api/v1/events"}, "trigger": {"on_fail": {"lost": "pause"}}}
    plane = make_plane(routes=[route], consistency=[CHECK])
    await plane.start()
    traffic = await begun(plane)
    checker = plane.checker
    assert checker is not None
    await eventually(lambda: checker.epoch == plane.supervisor.instance.epoch, "the checker's routing")
    await find(plane, checker, 2000, 1, 1)
    await tick(plane)
    assert (await look(plane))[::2] == ("paused", "1 event that new acknowledged is not in its store, says the checker")
    await plane.change("rollout/resume")
    await find(plane, checker, 2001, 1, 1)
    for _ in range(4):
        await traffic()
        await tick(plane)
    assert (await look(plane))[0] == "holding"
    await find(plane, checker, 2002, 2, 2)
    await tick(plane)
    assert (await look(plane))[0] == "paused", "that is another one"


async def test_a_gates_no_takes_the_weight_back_while_the_route_is_frozen(make_plane: MakePlane) -> None:
    scene = Gated(make_plane)
    traffic = await scene.begin()
    await scene.at_step(traffic, 10)
    scene.answers = {"back": NO}
    await scene.at_step(traffic, 50)
    assert (await scene.plane.ask("PUT", "/api/v1/freeze", {"seconds": 600}))[0] == 200
    await tick(scene.plane)
    await eventually(lambda: weight(scene.plane) == 10, "the step back")
    await traffic()
    await tick(scene.plane)
    await traffic(ok=50)
    await tick(scene.plane, 100)
    phase, step, reason = await look(scene.plane)
    assert (phase, step, weight(scene.plane)) == ("holding", 1, 10)
    assert reason.startswith("events is frozen until ")


async def test_a_frozen_rollout_stays_at_its_step_and_is_judged_when_the_freeze_ends(plane: Plane) -> None:
    traffic = await begun(plane)
    await plane.ask("PUT", "/api/v1/freeze", {"seconds": 600, "reason": "release"}, X_Actor="ann")
    await traffic(ok=500, failed=3)
    await tick(plane, 590)
    phase, step, reason = await look(plane)
    assert (phase, step, weight(plane)) == ("holding", 1, 10)
    assert reason.startswith("events is frozen until ")
    assert "by ann: release, the verdict is inconclusive" in reason
    await tick(plane, 20)
    assert (await look(plane))[2].startswith("the verdict is inconclusive")
    assert weight(plane) == 10


async def test_a_gates_no_reverts_and_latches(make_plane: MakePlane) -> None:
    scene = Gated(make_plane)
    traffic = await scene.begin()
    await scene.at_step(traffic, 10)
    scene.answers = {"guard": NO}
    await scene.at_step(traffic, 50)
    await tick(scene.plane)
    await eventually(lambda: weight(scene.plane) == 0, "the revert")
    await tick(scene.plane)
    assert await look(scene.plane) == ("reverted", 2, "gate guard: no (so they say)")
    why = await scene.plane.get("/api/v1/why")
    assert why["entry"]["evidence"]["trigger"] == "gate"
    assert why["entry"]["evidence"]["gates"]["guard"] == {"answer": "no", "said": "so they say"}
    assert (why["entry"]["evidence"]["step"], why["entry"]["evidence"]["of"]) == (2, 2)
    assert why["entry"]["evidence"]["held_s"] >= 0
    await eventually(lambda: ("told", "revert", 2) in scene.asked, "who is told of a revert")
    assert 'crossfade_reverts_total{reason="gate"} 1.0' in await scene.plane.get("/metrics")


async def test_a_gates_revert_that_cannot_be_written_is_tried_again(
    make_plane: MakePlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(GATES, "smoke", "revert")
    scene = Gated(make_plane)
    scene.answers = {"smoke": NO}
    traffic = await scene.begin()
    await scene.at_step(traffic, 10)
    real, fails = FileStore.compare_and_set, [True]

    async def fail(self: FileStore, *args: Any) -> Any:
        if fails:
            fails.clear()
            raise OSError(28, "No space left on device")
        return await real(self, *args)

    monkeypatch.setattr(FileStore, "compare_and_set", fail)
    await tick(scene.plane)
    assert (weight(scene.plane), (await look(scene.plane))[0]) == (10, "reverting")
    await tick(scene.plane)
    await eventually(lambda: weight(scene.plane) == 0, "the revert")
    assert scene.plane.supervisor.instance.tally.own["reverts_failed"] == 1


async def test_a_plan_with_a_gate_that_is_not_there_is_refused_with_its_place(make_plane: MakePlane) -> None:
    scene = Gated(make_plane)
    await scene.plane.start()
    for dry_run in (True, False):
        body = {"steps": [{"weight": 10, "hold": 1, "gates": ["smoke", "smok"]}], "dry_run": dry_run}
        status, problem = await scene.plane.ask("POST", PATH, body)
        assert (status, problem["at"]) == (422, ["steps", 0, "gates", 1])
        assert problem["detail"] == "there is no gate 'smok'; there is warm, smoke, back, guard, told"
    assert (await scene.plane.ask("GET", PATH))[0] == 404


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


async def test_it_says_who_paused_it_and_since_when(make_plane: MakePlane) -> None:
    plane = make_plane()
    await plane.start()
    traffic = await begun(plane)
    await traffic(ok=200)
    assert (await plane.get(PATH))["paused_by"] is None
    _, first = await plane.ask("POST", f"{PATH}/pause", {"reason": "lunch"})
    by, at = first["paused_by"], first["paused_at"]
    assert by
    assert datetime.fromisoformat(at).timestamp() == pytest.approx(plane.supervisor.instance.wall(), abs=60)
    await plane.supervisor._rollouts.pause("events", Who("bob", "incident"))
    await tick(plane, 100)
    found = await plane.get(PATH)
    assert (found["reason"], found["paused_by"], found["paused_at"]) == ("lunch; bob: incident", f"{by}, bob", at)
    glance = (await plane.get("/api/v1/status"))["routes"][0]["rollout"]
    assert (glance["paused_by"], glance["paused_at"]) == (f"{by}, bob", at)
    kept = Rollouts(plane.supervisor.instance, plane.supervisor._rollouts._path).of("events")
    assert kept is not None
    assert (kept.progress.reason, kept.paused_by) == ("lunch; bob: incident", f"{by}, bob"), "after a restart, too"
    await plane.ask("POST", f"{PATH}/resume", {})
    assert (await plane.get(PATH))["paused_at"] is None
    await plane.change("weight", weight=5)
    await tick(plane)
    found = await plane.get(PATH)
    assert (found["phase"], found["paused_by"]) == ("paused", "crossfade")


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


async def test_steps_that_are_too_short_to_show_anything_are_noted(make_plane: MakePlane) -> None:
    soak = {"name": "hour", "soak": {"lasts": "1h"}}
    plane = make_plane(gates=[soak])
    await plane.start()
    await plane.change("stage", stage="dualwrite")
    steps: list[dict[str, Any]] = [
        {"weight": 10, "hold": 10},
        {"weight": 50, "hold": 30},
        {"weight": 75, "hold": 10, "gates": ["hour"]},
        {"weight": 100, "hold": 29},
    ]
    _, found = await plane.ask("POST", PATH, {"steps": steps, "dry_run": True})
    short = "may take less than 30 s, in which the guard sees little but outright failure"
    assert found["notes"][0] == f"steps 1, 4 {short}: a longer hold, or more samples, show more"
    _, found = await plane.ask("POST", PATH, {"steps": steps, "dry_run": True, "from_step": 2})
    assert found["notes"][0].startswith(f"step 4 {short}")
    _, found = await plane.ask("POST", PATH, {"steps": steps[:3], "dry_run": True, "from_step": 2})
    assert not any("outright failure" in note for note in found["notes"])
    await plane.close()


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
