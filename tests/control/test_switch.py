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

    def _launch(self, child: Child, outfit: Outfit) -> Life:
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
    """Processes serve; their successors are loaded, begin and hand over at once. story: what happened, in order.

    hangs: those that are never loaded, by name.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, workers: int = 2, **plan: Any) -> None:
        super().__init__(monkeypatch)
        self._monkeypatch = monkeypatch
        monkeypatch.setattr("proxy.control.switch.WATCH", 0.05)
        monkeypatch.setattr("proxy.control.switch.TRIAL", 0.01)
        monkeypatch.setattr(Life, "go", lambda life, *, after=False: self._does(life, "begins", life.serving))
        monkeypatch.setattr(Life, "relieve", lambda life: self._does(life, "hands over", life.standby))
        self.story: list[str] = []
        self.dies: set[str] = set()
        self.hangs: set[str] = set()
        for kind in ("supervisor", "ledger", *["worker"] * workers, "checker"):
            child = Child(kind, len(self.crew.of(kind)), "nothing", OUTFIT)
            child.life = Life(child.name, kind, 0, -1)
            child.life.serving.set()
            self.crew.children.append(child)
        terms = msgspec.structs.replace(TERMS, workers=workers, needs_checker=True)
        wanted = Plan("reload", terms, **({"replaces": ("worker", "checker")} | plan))
        self.switch = Switch(self.crew, OUTFIT, wanted, terms, {}, self.state, lambda: None)

    def _does(self, life: Life, what: str, event: asyncio.Event) -> None:
        self.story.append(f"{life.name}{'' if life.pid else ' before'} {what}")
        event.set()

    def _launch(self, child: Child, outfit: Outfit) -> Life:
        life = Life(child.name, child.kind, 10 + child.index, -1)
        self.story.append(f"{life.name} is loaded")
        if child.name in self.dies:
            self.end(life)
        elif child.name not in self.hangs:
            life.standby.set()
        return life

    @staticmethod
    def end(life: Life) -> None:
        life.code = 1
        life.gone.set()

    def hold_on(self, seconds: float) -> None:
        """Nobody is ever done with handing over; seconds: for which that is waited for."""
        never = asyncio.Event()
        self._monkeypatch.setattr(Life, "relieve", lambda life: self._does(life, "hands over", never))
        self._monkeypatch.setattr("proxy.control.switch._HANDOVER", seconds)

    async def until(self, told: str) -> None:
        async with asyncio.timeout(5):
            while told not in self.story:
                await asyncio.sleep(0.001)

    def young(self, name: str) -> Life:
        return next(life for life in self.crew.leaving if life.name == name)

    def pids(self, kind: str = "worker") -> list[int]:
        return [child.life.pid for child in self.crew.of(kind) if child.life is not None]


async def test_a_switch_in_which_nothing_is_replaced_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a reload of a file that has not changed, or whose certificates alone have."""
    stage = Running(monkeypatch, replaces=())
    assert await asyncio.wait_for(stage.switch.run(), 5)
    assert stage.story == []


async def test_a_worker_is_loaded_before_the_connections_of_the_one_before_it_move(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Running(monkeypatch)
    assert await asyncio.wait_for(stage.switch.run(), 5)
    assert stage.story == [
        "worker 0 is loaded", "worker 0 begins", "worker 1 is loaded", "worker 0 before hands over",
        "worker 1 begins", "worker 1 before hands over",
        "checker is loaded", "checker before hands over", "checker begins",
    ]  # fmt: skip
    assert (stage.pids(), stage.pids("checker")) == ([10, 11], [10])
    assert [(each.name, each.state, each.pid) for each in stage.state.processes] == [
        ("worker 0", "done", 10), ("worker 1", "done", 11), ("checker", "done", 10),
    ]  # fmt: skip


async def test_nothing_is_loaded_beside_a_handover(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Running(monkeypatch, workers=3)
    stage.hold_on(60.0)
    running = asyncio.create_task(stage.switch.run())
    await stage.until("worker 1 begins")
    await asyncio.sleep(0.3)
    assert stage.story[-2:] == ["worker 0 before hands over", "worker 1 begins"]
    first = stage.switch._steps[0].before
    assert first is not None
    first.standby.set()
    await stage.until("worker 2 is loaded")
    running.cancel()


async def test_a_handover_that_takes_long_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Running(monkeypatch)
    stage.hold_on(0.05)
    running = asyncio.create_task(stage.switch.run())
    await stage.until("worker 1 before hands over")
    running.cancel()


@pytest.mark.parametrize("last", ["worker 0", "ledger"])
async def test_what_serves_is_watched_while_the_next_one_is_loaded(monkeypatch: pytest.MonkeyPatch, last: str) -> None:
    stage = Running(monkeypatch)
    stage.hangs.add("worker 1")
    dying = stage.place("ledger").after if last == "ledger" else None
    running = asyncio.create_task(stage.switch.run())
    await stage.until("worker 1 is loaded")
    await asyncio.sleep(0.1)  # the watch is over
    stage.end(dying or stage.young("worker 0"))
    monkeypatch.setattr(stage.switch, "_put_back", lambda: asyncio.sleep(0))
    assert not await asyncio.wait_for(running, 5)
    assert stage.state.reason.startswith(f"{last} (process ")
    assert "worker 0 before hands over" not in stage.story


async def test_what_serves_is_watched_while_another_one_hands_over(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Running(monkeypatch)
    stage.hold_on(60.0)
    running = asyncio.create_task(stage.switch.run())
    await stage.until("worker 1 begins")
    stage.end(stage.young("worker 1"))
    monkeypatch.setattr(stage.switch, "_put_back", lambda: asyncio.sleep(0))
    assert not await asyncio.wait_for(running, 5)
    assert "worker 1 before hands over" not in stage.story


@pytest.mark.parametrize(
    ("how", "reason"), [("dies", "exited with 1"), ("hangs", "did not start within 0.2 s")], ids=["dies", "hangs"]
)
async def test_nothing_moves_for_a_worker_whose_neighbour_cannot_be_loaded(
    monkeypatch: pytest.MonkeyPatch, how: str, reason: str
) -> None:
    stage = Running(monkeypatch)
    getattr(stage, how).add("worker 1")
    stage.switch._timeout = 0.2
    assert not await asyncio.wait_for(stage.switch.run(), 5)
    assert stage.state.reason == f"worker 1 (process 11) {reason}"
    assert stage.story == ["worker 0 is loaded", "worker 0 begins", "worker 1 is loaded"]
    killed = {life.name for life, number in stage.signals if number == signal.SIGKILL}
    assert killed == {"worker 0", "worker 1"}
    assert stage.pids() == [0, 0]
    assert [(each.name, each.state) for each in stage.state.processes] == [
        ("worker 0", "kept"), ("worker 1", "failed"), ("checker", "kept"),
    ]  # fmt: skip


async def test_a_checker_is_not_loaded_beside_a_handover(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Running(monkeypatch, workers=1)
    stage.hold_on(60.0)
    running = asyncio.create_task(stage.switch.run())
    await stage.until("worker 0 before hands over")
    await asyncio.sleep(0.1)
    assert "checker is loaded" not in stage.story
    relieved = stage.switch._steps[0].before
    assert relieved is not None
    relieved.standby.set()
    await stage.until("checker is loaded")
    running.cancel()


async def test_what_serves_is_watched_while_a_predecessor_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Running(monkeypatch, workers=1)
    slow = asyncio.Event()

    def relieve(life: Life) -> None:
        stage._does(life, "makes room", slow if life.kind == "checker" else life.standby)

    monkeypatch.setattr(Life, "relieve", relieve)
    running = asyncio.create_task(stage.switch.run())
    await stage.until("checker before makes room")
    young = stage.crew.of("worker")[0].life
    assert young is not None
    stage.end(young)
    undone: list[str] = []

    async def undo(step: Step) -> None:
        undone.append(step.child.name)

    monkeypatch.setattr(stage.switch, "_undo", undo)
    assert not await asyncio.wait_for(running, 5)
    assert stage.state.reason.startswith("worker 0 (process 10) exited with 1")
    assert undone == ["worker 0", "checker"]
