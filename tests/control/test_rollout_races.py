"""Rollouts when two things happen at once, or what happened cannot be written: nothing is undone, lost or stale."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from config.gates import Gate
from proxy.control import rollouts
from proxy.control.audit import Audit
from proxy.control.files import write_whole
from proxy.core.gate import NO, NO_ANSWER, YES, Said
from tests.control.conftest import MakePlane
from tests.control.fakes import Plane
from tests.control.helpers import eventually
from tests.control.test_rollouts import PATH, Gated, Traffic, look, start, tick, weight

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def ticks_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollouts, "TICK", 3600.0)


async def ready(plane: Plane) -> Traffic:
    """Started, with copies and some answers."""
    if plane.ledger is None:
        await plane.start()
    traffic = Traffic(plane)
    await plane.change("stage", stage="dualwrite")
    await traffic(ok=50)
    return traffic


async def actions(plane: Plane) -> list[str]:
    return [entry["action"] for entry in (await plane.get("/api/v1/history"))["entries"]]


async def test_a_rollback_during_a_step_back_is_not_undone(
    make_plane: MakePlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Gated(make_plane)
    traffic = await scene.begin()
    await scene.at_step(traffic, 10)
    scene.answers = {"back": NO}
    await scene.at_step(traffic, 50)
    write = Audit.write

    async def interrupted(self: Audit, entry: Any) -> Any:
        found = await write(self, entry)
        if entry.action == "rollout-step-back":
            monkeypatch.setattr(Audit, "write", write)
            await scene.plane.change("rollback", reason="at once")
        return found

    monkeypatch.setattr(Audit, "write", interrupted)
    await tick(scene.plane)
    assert (weight(scene.plane), (await look(scene.plane))[0]) == (0, "moving")
    await tick(scene.plane)
    assert await look(scene.plane) == ("paused", 1, "the weight was set to 0 % meanwhile")


async def test_a_weight_that_goes_up_and_down_is_given_to_a_person(make_plane: MakePlane) -> None:
    scene = Gated(make_plane)
    traffic = await scene.begin()
    scene.answers = {"back": NO}
    for _ in range(2):
        await scene.at_step(traffic, 10)
        await scene.at_step(traffic, 50)
        await tick(scene.plane)
        await eventually(lambda: weight(scene.plane) == 10, "the step back")
        await traffic()
    await scene.at_step(traffic, 10)
    await scene.at_step(traffic, 50)
    await tick(scene.plane)
    said = "gate back: no (so they say); it was taken back 2 times already"
    assert await look(scene.plane) == ("paused", 2, said)
    assert weight(scene.plane) == 50
    await scene.plane.ask("POST", f"{PATH}/resume", {})
    await scene.at_step(traffic, 50)
    await tick(scene.plane)
    await eventually(lambda: weight(scene.plane) == 10, "whoever resumes it lets it go back again")


async def test_what_a_person_promotes_is_told_and_in_the_trail(make_plane: MakePlane) -> None:
    scene = Gated(make_plane)
    await ready(scene.plane)
    await start(scene.plane, steps=[{"weight": 10, "hold": 1000, "after": ["told"]}], auto_promote=False)
    await tick(scene.plane)
    await eventually(lambda: weight(scene.plane) == 10, "the weight")
    await tick(scene.plane)
    assert (await scene.plane.ask("POST", f"{PATH}/promote", {}))[1]["phase"] == "done"
    await eventually(lambda: ("told", "after", 1) in scene.asked, "who is told")
    assert (await actions(scene.plane))[:2] == ["rollout-done", "rollout-promote"]


async def test_a_new_rollout_asks_its_gates_itself(make_plane: MakePlane) -> None:
    scene = Gated(make_plane)
    scene.answers = {"smoke": NO_ANSWER}
    await ready(scene.plane)
    steps = [{"weight": 10, "hold": 1, "before": ["warm", "smoke"]}]
    await start(scene.plane, steps=steps)
    await tick(scene.plane)
    await tick(scene.plane)
    await scene.plane.ask("POST", f"{PATH}/abort", {})
    scene.answers = {"warm": NO}
    await start(scene.plane, steps=steps)
    await tick(scene.plane)
    await tick(scene.plane)
    assert (await look(scene.plane))[2] == "gate warm: no (so they say)", "not the yes of the one before"
    assert weight(scene.plane) == 0


@pytest.mark.parametrize("how", ["abort", "latch"])
async def test_gates_of_what_is_over_are_asked_no_more(how: str, make_plane: MakePlane) -> None:
    scene = Gated(make_plane)
    ended: list[str] = []

    async def ask(gate: Gate, question: Any) -> Said:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(gate.name)
        return Said(YES)

    scene.plane.supervisor._rollouts._gates._calls.ask = ask  # type: ignore[method-assign]
    await ready(scene.plane)
    await scene.plane.change("weight", weight=5)
    await start(scene.plane, steps=[{"weight": 10, "hold": 1, "before": ["warm"]}])
    await tick(scene.plane)
    if how == "abort":
        await scene.plane.ask("POST", f"{PATH}/abort", {})
    else:
        found = scene.plane.supervisor._rollouts.of("events")
        assert found is not None
        await scene.plane.supervisor._rollouts._revert("events", found)
        await eventually(lambda: weight(scene.plane) == 0, "the revert")
        await tick(scene.plane)
        await tick(scene.plane)
    await eventually(lambda: ended == ["warm"], "the end of the question")


async def test_what_happened_is_told_when_the_trail_can_be_written_again(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    traffic = await ready(plane)
    await start(plane, steps=[{"weight": 10, "hold": 1}])
    await tick(plane)
    await eventually(lambda: weight(plane) == 10, "the weight")
    await traffic()
    await tick(plane)
    await traffic(ok=50)

    async def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Audit, "write", full)
        await tick(plane, 2)
    assert (await look(plane))[0] == "holding"
    await tick(plane, 2)
    assert (await look(plane))[0] == "done"
    assert (await actions(plane))[0] == "rollout-done"


async def test_the_loop_goes_on_while_a_rollout_is_kept(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    await ready(plane)
    real, beats = write_whole, [0]

    def slow(*words: Any, **more: Any) -> None:
        time.sleep(0.3)
        real(*words, **more)

    async def beat() -> None:
        while True:
            await asyncio.sleep(0.01)
            beats[0] += 1

    monkeypatch.setattr(rollouts, "write_whole", slow)
    beating = asyncio.create_task(beat())
    await start(plane, steps=[{"weight": 10, "hold": 1}])
    assert beats[0] > 5
    beating.cancel()


async def test_a_gates_revert_says_how_long_it_took(make_plane: MakePlane) -> None:
    scene = Gated(make_plane)
    traffic = await scene.begin()
    await scene.at_step(traffic, 10)
    scene.answers = {"guard": NO}
    await scene.at_step(traffic, 50)
    await tick(scene.plane)
    await eventually(lambda: weight(scene.plane) == 0, "the revert")
    assert (await scene.plane.get("/api/v1/why"))["seconds_to_recover"] is not None


async def test_a_gates_revert_at_0_latches_and_is_explained(make_plane: MakePlane) -> None:
    scene = Gated(make_plane)
    traffic = await ready(scene.plane)
    scene.answers = {"guard": NO}
    steps = [{"weight": 0, "hold": 1, "gates": ["guard"]}, {"weight": 50, "hold": 1}]
    await start(scene.plane, steps=steps)
    await tick(scene.plane)
    await tick(scene.plane)
    await traffic(ok=50)
    for _ in range(4):
        await tick(scene.plane, 2)
    assert await look(scene.plane) == ("reverted", 1, "gate guard: no (so they say)")
    why = await scene.plane.get("/api/v1/why")
    assert (why["latched"], why["entry"]["reason"]) == (True, "gate guard: no (so they say)")


async def test_one_answer_is_no_p95(plane: Plane) -> None:
    traffic = await ready(plane)
    await start(plane, steps=[{"weight": 10, "hold": 1}, {"weight": 100, "hold": 1}], latency={"p95": 0.5})
    await tick(plane)
    await eventually(lambda: weight(plane) == 10, "the weight")
    await traffic()
    await tick(plane)
    await traffic(ok=19)
    await tick(plane, 5)
    assert (await look(plane))[2] == "p95 of new is not known and has to be at most 500 ms"
    await traffic(ok=1)
    await tick(plane)
    await eventually(lambda: weight(plane) == 100, "the next step")


async def test_a_route_that_was_dropped_is_not_gone_on_with(make_plane: MakePlane) -> None:
    plane = make_plane()
    await ready(plane)
    await start(plane, steps=[{"weight": 10, "hold": 1}])
    found = plane.supervisor.instance.rollouts
    found["gone"] = found["events"]
    await tick(plane)
    assert found["gone"].progress.phase == "aborted"
    assert "rollout-abort" in await actions(plane)
