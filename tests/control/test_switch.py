"""Ways back of a switch that real processes take too seldom."""

from __future__ import annotations

import asyncio
import errno
import signal
from typing import Any, cast

import msgspec
import pytest

from proxy.control.code_place import NAMED
from proxy.control.crew import Child, Crew, Life
from proxy.control.outfit import Outfit
from proxy.control.plan import Plan, Terms
from proxy.control.switch import Step, Switch, SwitchFailed
from proxy.control.switch_state import SwitchState

pytestmark = pytest.mark.asyncio
OUTFIT = Outfit(NAMED, {}, (), (), -1)
TERMS = Terms(
    workers=1,
    needs_checker=False,
    listen=(),
    state_dir="",
    admin_socket=None,
    stop_grace=20.0,
    drain_timeout=60.0,
    upgrade_timeout=30.0,
)


class Stage:
    """A switch among lives that are no processes, and what was done with them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.signals: list[tuple[Life, int]] = []
        monkeypatch.setattr(Life, "signal", lambda life, number: self.signals.append((life, number)))
        self.crew = Crew(cast(Any, None), -1)
        self.started: list[str] = []
        monkeypatch.setattr(self.crew, "start", lambda child: self.started.append(child.name))
        monkeypatch.setattr(self.crew, "launch", self._launch)
        self.state = SwitchState(1, "upgrade", "replacing", 1.0)
        plan = Plan("upgrade", TERMS)
        self.switch = Switch(self.crew, OUTFIT, plan, TERMS, {}, self.state, lambda: None)

    def _launch(self, child: Child, outfit: Outfit, *, after: bool = False) -> Life:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    def place(self, kind: str, index: int = 0, *, serves: bool = True, runs: bool = True) -> Step:
        """A place that was given to a successor."""
        child = Child(kind, index, "nothing", OUTFIT)
        before, after = Life(child.name, kind, 1, -1), Life(child.name, kind, 2, -1)
        child.life, after.code = after, None if runs else 1
        if serves:
            after.serving.set()
        self.crew.children.append(child)
        step = Step(child, before, OUTFIT, after)
        self.switch._steps.append(step)
        return step


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(monkeypatch)


async def test_the_place_that_nobody_serves_is_given_back_first(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.place("supervisor")
    stage.place("ledger", runs=False)
    stage.place("worker")
    undone: list[str] = []

    async def undo(step: Step) -> None:
        undone.append(step.child.name)

    monkeypatch.setattr(stage.switch, "_undo", undo)
    await stage.switch._put_back()
    assert undone == ["ledger", "worker 0", "supervisor"]


async def test_nothing_further_is_replaced_where_a_successor_has_died(stage: Stage) -> None:
    stage.place("ledger", runs=False)
    with pytest.raises(SwitchFailed, match=r"ledger .* exited with 1 after it had begun to serve"):
        stage.switch._check_placed()


async def test_what_is_waited_for_is_given_up_when_one_beside_it_dies(stage: Stage) -> None:
    ledger = stage.place("ledger").after
    assert ledger is not None
    young = Life("worker 0", "worker", 3, -1)
    waiting = asyncio.create_task(stage.switch._until(young, young.serving, "serve", beside=[ledger]))
    await asyncio.sleep(0)
    ledger.code = 1
    ledger.gone.set()
    with pytest.raises(SwitchFailed, match=r"ledger .* exited with 1"):
        await asyncio.wait_for(waiting, 5)


async def test_the_only_worker_serves_on_until_its_predecessor_has_drained(stage: Stage) -> None:
    step = stage.place("worker")
    assert (step.before, step.after) != (None, None)
    assert step.before is not None
    undoing = asyncio.create_task(stage.switch._undo(step))
    await asyncio.sleep(0.05)
    assert (stage.started, stage.signals) == ([], []), "nobody is started, and the successor is not relieved yet"
    step.before.serving.set()
    await asyncio.wait_for(undoing, 5)
    assert [life for life, _ in stage.signals] == [step.after]
    assert step.child.life is step.before


async def test_a_successor_serves_until_somebody_serves_again_where_its_predecessor_does_not(stage: Stage) -> None:
    step = stage.place("worker")
    stage.switch._timeout, stage.switch._drain_timeout = 0.2, 0.0
    undoing = asyncio.create_task(stage.switch._undo(step))
    await asyncio.sleep(0.3)
    assert [life for life, _ in stage.signals] == [step.before], "which is killed; the crew starts another one"
    step.child.life = another = Life("worker 0", "worker", 3, -1)
    another.serving.set()
    with pytest.raises(SwitchFailed, match=r"did not serve again within"):
        await asyncio.wait_for(undoing, 5)
    assert [life for life, _ in stage.signals] == [step.before, step.after]


async def test_a_place_that_could_not_be_filled_is_tried_again(stage: Stage) -> None:
    """It waited to be started again when its turn came, and the system has no process left."""
    child = Child("worker", 0, "nothing", OUTFIT)
    child.restart = asyncio.get_running_loop().call_later(60, lambda: None)
    stage.crew.children.append(child)
    with pytest.raises(SwitchFailed, match=r"worker 0 could not be started: .*Resource temporarily unavailable"):
        await stage.switch._beside(child, None)
    assert stage.started == ["worker 0"]


class Running(Stage):
    """Two workers serve; their successors are loaded, begin and hand over at once. story: what happened, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(monkeypatch)
        monkeypatch.setattr("proxy.control.switch.WATCH", 0.05)
        monkeypatch.setattr("proxy.control.switch.TRIAL", 0.01)
        monkeypatch.setattr(Life, "go", lambda life, *, after=False: self._does(life, "begins", life.serving))
        monkeypatch.setattr(Life, "relieve", lambda life: self._does(life, "hands over", life.standby))
        self.story: list[str] = []
        self.dies: set[int] = set()
        self._pid = 10
        for kind, index in (("supervisor", 0), ("ledger", 0), ("worker", 0), ("worker", 1)):
            child = Child(kind, index, "nothing", OUTFIT)
            child.life = Life(child.name, kind, index, -1)
            child.life.serving.set()
            self.crew.children.append(child)
        terms = msgspec.structs.replace(TERMS, workers=2)
        plan = Plan("reload", terms, replaces=("worker",))
        self.switch = Switch(self.crew, OUTFIT, plan, terms, {}, self.state, lambda: None)

    def _does(self, life: Life, what: str, event: asyncio.Event) -> None:
        self.story.append(f"{life.pid} {what}")
        event.set()

    def _launch(self, child: Child, outfit: Outfit, *, after: bool = False) -> Life:
        life = Life(child.name, child.kind, self._pid + child.index, -1)
        self.story.append(f"{life.pid} is loaded")
        life.standby.set()
        if child.index in self.dies:
            life.code = 1
            life.gone.set()
        return life


async def test_a_worker_is_loaded_before_the_connections_of_the_one_before_it_move(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Running(monkeypatch)
    assert await asyncio.wait_for(stage.switch.run(), 5)
    assert stage.story == [
        "10 is loaded", "10 begins", "11 is loaded", "0 hands over", "11 begins", "1 hands over",
    ]  # fmt: skip
    assert [child.life.pid for child in stage.crew.of("worker") if child.life is not None] == [10, 11]
    assert [(each.name, each.state, each.pid) for each in stage.state.processes] == [
        ("worker 0", "done", 10), ("worker 1", "done", 11),
    ]  # fmt: skip


async def test_a_worker_waits_for_a_moment_until_the_one_before_it_has_handed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Running(monkeypatch)
    stands_by = asyncio.Event()
    monkeypatch.setattr(Life, "relieve", lambda life: stage._does(life, "hands over", stands_by))
    monkeypatch.setattr("proxy.control.switch._HANDOVER", 60.0)
    running = asyncio.create_task(stage.switch.run())
    await asyncio.sleep(0.3)
    assert stage.story[-2:] == ["0 hands over", "11 begins"]
    first = stage.switch._steps[0].before
    assert first is not None
    first.standby.set()
    assert await asyncio.wait_for(running, 5)
    assert stage.story[-1] == "1 hands over"


async def test_one_that_was_loaded_ahead_ends_where_the_switch_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Running(monkeypatch)
    running = asyncio.create_task(stage.switch.run())
    async with asyncio.timeout(5):
        while "11 is loaded" not in stage.story:
            await asyncio.sleep(0.001)
    first = next(life for life in stage.crew.leaving if life.pid == 10)
    first.code = 1
    first.gone.set()
    assert not await asyncio.wait_for(running, 5)
    killed = [life.pid for life, number in stage.signals if number == signal.SIGKILL]
    assert sorted(killed) == [10, 11]
    assert [(each.name, each.state) for each in stage.state.processes] == [("worker 0", "failed"), ("worker 1", "kept")]
    assert [child.life.pid for child in stage.crew.of("worker") if child.life is not None] == [0, 1]


async def test_one_that_dies_as_it_is_loaded_ahead_is_found_in_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Running(monkeypatch)
    stage.dies.add(1)
    assert not await asyncio.wait_for(stage.switch.run(), 5)
    assert stage.state.reason == "worker 1 (process 11) exited with 1"
    assert [child.life.pid for child in stage.crew.of("worker") if child.life is not None] == [0, 1]
