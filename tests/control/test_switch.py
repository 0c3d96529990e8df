"""Ways back of a switch that real processes take too seldom."""

from __future__ import annotations

import asyncio
import errno
from typing import Any, cast

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
