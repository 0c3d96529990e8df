"""Switches over the admin API: asked for once, told in the status, written down once by whoever is there."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest

from proxy.control import crew_state, switch_state, switches
from proxy.control.configuration import Asked
from proxy.control.crew_state import Deaths
from proxy.control.switch_state import ProcessState, Result, SwitchState
from tests.control.fakes import Plane
from tests.control.helpers import eventually

pytestmark = pytest.mark.asyncio
BEGAN = 1_700_000_500.0


def state(number: int = 1, result: Result = "", **changes: Any) -> SwitchState:
    phase: switch_state.Phase = "ended" if result else "replacing"
    given: dict[str, Any] = {"version_before": "1", "version_after": "2", "result": result, "ended_at": 0.0}
    if result:
        given["ended_at"] = BEGAN + 3.5
    kind = changes.pop("kind", "upgrade")
    return SwitchState(number, kind, phase, BEGAN + number, **(given | changes))


class Launcher:
    """What the supervisor signals: writes each state that it is given, one per signal."""

    def __init__(self, plane: Plane) -> None:
        self.plane = plane
        self.signals: list[signal.Signals] = []
        self.answers: list[SwitchState] = []
        plane.supervisor.instance.ask_launcher = self.take
        plane.supervisor.instance.switches._ask = self.take

    def take(self, number: signal.Signals) -> None:
        self.signals.append(number)
        if self.answers:
            self.write(self.answers.pop(0))

    def write(self, found: SwitchState) -> None:
        switch_state.write(self.plane.places.switch, found)


@pytest.fixture
def launcher(plane: Plane) -> Launcher:
    return Launcher(plane)


async def ends(plane: Plane) -> list[Any]:
    """Entries of the trail that tell of a switch's end, oldest first."""
    entries = (await plane.get("/api/v1/history"))["entries"]
    return [each for each in reversed(entries) if "switch" in each["evidence"]]


async def test_nothing_is_told_before_the_first_one(plane: Plane) -> None:
    assert (await plane.get("/api/v1/switch"))["number"] == 0
    status = await plane.get("/api/v1/status")
    assert (status["switch"], status["deaths"]) == (None, [])


async def test_an_upgrade_is_asked_for_and_told(plane: Plane, launcher: Launcher) -> None:
    launcher.answers.append(state())
    code, answer = await plane.ask("POST", "/api/v1/upgrade", {"reason": "1.3"}, X_Actor="ann@host")
    assert (code, launcher.signals) == (202, [signal.SIGUSR2])
    assert (answer["number"], answer["kind"], answer["phase"], answer["dry_run"]) == (1, "upgrade", "replacing", False)
    (entry,) = (await plane.get("/api/v1/history"))["entries"][:1]
    assert (entry["action"], entry["actor"], entry["reason"]) == ("upgrade", "ann@host", "1.3")
    launcher.write(state(result="done", processes=[ProcessState("worker 0", "done", 7)]))
    await eventually(lambda: plane.supervisor.instance.tally.own["switches:upgrade:done"])
    (end,) = await ends(plane)
    assert (end["action"], end["evidence"]["processes"]) == ("upgrade-done", {"worker 0": "done"})
    assert end["evidence"]["version_after"] == "2"
    assert (await plane.get("/api/v1/status"))["switch"]["processes"][0]["pid"] == 7
    assert 'crossfade_switches_total{kind="upgrade",result="done"} 1.0' in await plane.get("/metrics")


async def test_a_second_one_is_refused_while_the_first_runs(plane: Plane, launcher: Launcher) -> None:
    launcher.write(state(3))
    code, problem = await plane.ask("POST", "/api/v1/upgrade", {})
    assert (code, launcher.signals) == (423, [])
    assert "upgrade 3 (replacing) is running" in problem["detail"]


async def test_two_at_the_same_moment_are_one(plane: Plane, launcher: Launcher) -> None:
    answers = asyncio.gather(*(plane.ask("POST", "/api/v1/upgrade", {}) for _ in range(2)))
    await eventually(lambda: launcher.signals, "the signal")
    await asyncio.sleep(0.05)
    launcher.write(state())
    assert sorted(code for code, _ in await answers) == [202, 423]
    assert launcher.signals == [signal.SIGUSR2]


async def test_a_launcher_that_refuses_or_says_nothing(
    plane: Plane, launcher: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher.answers.append(SwitchState(0, "", "ended", 0.0, refused_again=1))
    code, problem = await plane.ask("POST", "/api/v1/upgrade", {})
    assert (code, problem["detail"]) == (423, "the launcher refused the upgrade; its log says why")
    monkeypatch.setattr(switches, "ANSWER_WAIT", 0.01)
    code, problem = await plane.ask("POST", "/api/v1/upgrade", {})
    assert (code, "has not begun the upgrade" in problem["detail"]) == (503, True)
    launcher.answers.append(state())
    assert (await plane.ask("POST", "/api/v1/upgrade", {}))[0] == 202, "a try that failed stands in nobody's way"


async def test_a_dry_run_asks_nobody(plane: Plane, launcher: Launcher) -> None:
    code, answer = await plane.ask("POST", "/api/v1/upgrade", {"dry_run": True})
    assert (code, answer["dry_run"], launcher.signals) == (202, True, [])


async def test_an_end_is_written_once_though_the_supervisor_is_replaced(plane: Plane, launcher: Launcher) -> None:
    launcher.write(state(result="put-back", reason="worker 0 (process 7) exited with 1"))
    await eventually(lambda: plane.supervisor.instance.tally.own["switches:upgrade:put-back"])
    await plane.restart()
    await plane.supervisor.instance.switches.look()
    (end,) = await ends(plane)
    assert (end["action"], end["reason"]) == ("upgrade-put-back", "worker 0 (process 7) exited with 1")


@pytest.mark.parametrize("result", ["refused", "put-back", "failed"])
async def test_a_reload_that_came_to_nothing_is_told_though_no_supervisor_was_replaced(
    plane: Plane, launcher: Launcher, result: Result
) -> None:
    configuration = plane.supervisor.instance.configuration
    configuration.approve(Asked("another one", "ann@host", "slow disks"), "its text")
    launcher.write(state(result=result, kind="reload", reason="the ledger is not ready"))
    await eventually(lambda: plane.supervisor.instance.tally.own[f"switches:reload:{result}"])
    assert configuration.trouble is not None
    assert configuration.trouble.refused == ("it was put back: the ledger is not ready",)
    (end,) = await ends(plane)
    assert (end["action"], end["reason"]) == (f"reload-{result}", "the ledger is not ready")


async def test_a_reload_of_another_life_says_nothing_of_what_is_served_now(plane: Plane, launcher: Launcher) -> None:
    launcher.write(state(result="refused", kind="reload", reason="line 3: no such key"))
    await eventually(lambda: plane.supervisor.instance.tally.own["switches:reload:refused"])
    assert plane.supervisor.instance.configuration.trouble is None


async def test_an_end_that_another_switch_has_overwritten_is_written_once(plane: Plane, launcher: Launcher) -> None:
    ended = state(1, "done")
    launcher.write(state(2, before=ended))
    await eventually(lambda: plane.supervisor.instance.tally.own["switches:upgrade:done"])
    launcher.write(state(2, "put-back", before=ended))
    await eventually(lambda: plane.supervisor.instance.tally.own["switches:upgrade:put-back"])
    assert plane.supervisor.instance.tally.own["switches:upgrade:done"] == 1
    assert [each["action"] for each in await ends(plane)] == ["upgrade-done", "upgrade-put-back"]


async def test_somebody_elses_switch_is_not_taken_for_the_one_that_was_asked_for(
    plane: Plane, launcher: Launcher
) -> None:
    launcher.answers.append(state(1, kind="reload"))
    code, problem = await plane.ask("POST", "/api/v1/upgrade", {})
    assert (code, problem["detail"]) == (423, "reload 1 began in the same moment")


async def test_a_file_that_cannot_be_read_is_none(plane: Plane) -> None:
    plane.places.switch.write_text("{")
    plane.places.crew.write_text("{")
    assert (await plane.get("/api/v1/switch"))["number"] == 0
    assert (await plane.get("/api/v1/status"))["deaths"] == []


async def test_a_process_that_keeps_dying_is_a_warning(plane: Plane) -> None:
    died = [Deaths("worker 1", 9, 6, loops=True, last_end="exited with 1"), Deaths("ledger", 1, 1, False, "killed")]
    crew_state.write(plane.places.crew, died)
    status = await plane.get("/api/v1/status")
    assert [each["crash_loop"] for each in status["deaths"]] == [True, False]
    assert "worker 1 keeps dying: 6 short lives in a row, the last one exited with 1" in status["warnings"]
    text = await plane.get("/metrics")
    assert 'crossfade_crash_looping{process="worker-1"} 1.0' in text
    assert 'crossfade_process_deaths_total{process="ledger"} 1.0' in text
