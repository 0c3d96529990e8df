"""Upgrades with stand-ins for the processes: what takes over, what is put back, and what is left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from proxy.control import crew_state, switch_state
from proxy.control.switch_state import SwitchState
from tests.control.helpers import PATIENCE, wait_for
from tests.control.test_launcher import CHILDREN, ROOT, Instance, is_alive

pytestmark = pytest.mark.timeout(300 + 8 * PATIENCE)
MAIN = """
import sys
from pathlib import Path
from proxy.control import switch
from proxy.control.launcher import launch
from tests.control.helpers import CHECK, make_settings
switch.WATCH, switch.TRIAL = 0.5, 0.1
settings = make_settings(
    sys.argv[1], listen=["127.0.0.1:0"], stop_grace="5s", consistency=[CHECK], upgrade_timeout=sys.argv[2]
)
modules = {name: "new_" + name for name in ("ledger", "supervisor", "worker", "checker")}
sys.exit(launch(settings, Path("crossfade.yaml"), modules=modules))
"""
MODULE = """
import sys
from tests.control.standin import main
if __name__ == "__main__":
    main("NAME" + (sys.argv[2] if "NAME" == "worker" else ""))
"""


class Upgraded(Instance):
    """One whose processes are started by modules in a folder of its own, which a test may replace."""

    def __init__(self, state_dir: Path, timeout: str = "60s") -> None:
        self.folder = state_dir
        self.journal_path, self.stderr_path = state_dir / "journal", state_dir / "stderr"
        for name in ("ledger", "supervisor", "worker", "checker"):
            self.install(name)
        environment = os.environ | {
            "PYTHONPATH": f"{ROOT}{os.pathsep}{state_dir}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "STANDIN_JOURNAL": str(self.journal_path),
        }
        with self.stderr_path.open("ab") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-c", MAIN, str(state_dir / "state"), timeout],
                env=environment,
                stderr=stderr,
                cwd=state_dir,
            )

    def install(self, name: str, text: str = MODULE) -> None:
        """Put another version in the place of a module, as an installer does."""
        young = self.folder / "young"
        young.write_text(text.replace("NAME", name))
        young.rename(self.folder / f"new_{name}.py")

    def does(self, name: str, what: str) -> None:
        """What a process does that is started from now on; nothing special when empty."""
        (self.folder / f"{name}.does").write_text(what)

    @property
    def switch(self) -> SwitchState | None:
        return switch_state.read(self.folder / "state" / "run" / "switch.json")

    def ask(self) -> None:
        os.kill(self.process.pid, signal.SIGUSR2)

    def ended(self, number: int) -> SwitchState:
        """The state at the end of an upgrade."""

        def end() -> SwitchState | None:
            state = self.switch
            return state if state is not None and state.number == number and not state.runs else None

        found: SwitchState = wait_for(end, f"the end of upgrade {number}", patience=90 + PATIENCE)
        return found

    def upgrade(self, number: int = 1) -> SwitchState:
        self.ask()
        return self.ended(number)

    def living(self, name: str) -> list[int]:
        return [pid for pid in self.pids(name) if is_alive(pid)]

    def everybody(self) -> dict[str, list[int]]:
        return {name: self.living(name) for name in CHILDREN}

    def has_one_each(self) -> bool:
        return all(len(pids) == 1 for pids in self.everybody().values())


@pytest.fixture
def instances() -> Iterator[list[Upgraded]]:
    started: list[Upgraded] = []
    yield started
    with ExitStack() as ends:
        for each in started:
            ends.callback(each.end)


@pytest.fixture
def instance(state_dir: Path, instances: list[Upgraded]) -> Upgraded:
    made = Upgraded(state_dir)
    instances.append(made)
    made.wait_ready()
    wait_for(made.has_one_each, "everybody")
    return made


def test_every_process_is_replaced_and_the_launcher_becomes_new(instance: Upgraded) -> None:
    before = instance.everybody()
    state = instance.upgrade()
    assert (state.result, state.reason) == ("done", "")
    assert {each.state for each in state.processes} == {"done"}
    wait_for(instance.has_one_each, "one of each")
    assert [name for name in CHILDREN if instance.living(name) == before[name]] == []
    # One number, another program: it was replaced in place, and goes on with the same children.
    assert b"proxy.control.relaunch" in Path(f"/proc/{instance.process.pid}/cmdline").read_bytes()
    os.kill(instance.living("worker1")[0], signal.SIGKILL)
    instance.wait_starts("worker1", 3)
    instance.process.terminate()
    assert instance.process.wait(20) == 0
    assert (instance.folder / "state" / "lock").read_text() == "", "the new launcher held the lock, and let go of it"


BROKEN = [
    ("supervisor", "refuse", "refused: this cannot be"),
    ("ledger", "die:0.2", "exited with 1 after it had begun to serve"),
    ("worker0", "fail", "exited with 1"),
    ("worker1", "die:0.4", "exited with 1 after it had begun to serve"),
]
MORE = [
    ("supervisor", "fail", "exited with 1"),
    ("worker0", "die:0.2", "exited with 1 after it had begun to serve"),
    ("worker1", "refuse", "refused: this cannot be"),
    ("checker", "fail", "exited with 1"),
]


def test_a_broken_version_is_put_back_as_if_nothing_had_happened(instance: Upgraded, soak: bool) -> None:
    before, cases = instance.everybody(), [*BROKEN, *(MORE if soak else [])]
    for number, (name, what, reason) in enumerate(cases, 1):
        instance.does(name, what)
        state = instance.upgrade(number)
        instance.does(name, "")
        assert (state.result, state.reason.endswith(reason)) == ("put-back", True), (name, what, state)
        assert state.reason.startswith(name.replace("worker", "worker ")), (name, what, state)
        wait_for(instance.has_one_each, "the end of the others")
        assert instance.everybody() == before, (name, what)
        if name == "ledger":
            assert instance.journal.count("worker0 relieved") == 0, "seen at once, and no worker stopped for it"
    assert instance.journal.count("ledger relieved") >= 3
    assert b"relaunch" not in Path(f"/proc/{instance.process.pid}/cmdline").read_bytes()
    os.kill(before["worker0"][0], signal.SIGKILL)  # who was put back is looked after as ever
    wait_for(lambda: instance.living("worker0") not in ([], before["worker0"]), "another worker")
    assert instance.upgrade(len(cases) + 1).result == "done"


def test_what_hangs_is_put_back_although_its_code_is_gone(state_dir: Path, instances: list[Upgraded]) -> None:
    instance = Upgraded(state_dir, timeout="8s")
    instances.append(instance)
    instance.wait_ready()
    wait_for(instance.has_one_each, "everybody")
    before = instance.everybody()
    instance.does("ledger", "never-serve")
    for name in ("ledger", "supervisor"):  # what runs cannot be started again from the disk
        instance.install(
            name, MODULE.replace("from tests", "if __name__ == '__main__': from tests") + "# another one\n"
        )
    state = instance.upgrade()
    assert (state.result, "did not serve within 8 s" in state.reason) == ("put-back", True)
    wait_for(instance.has_one_each, "the end of the new one")
    assert instance.everybody() == before
    assert {each.name: each.state for each in state.processes} == {
        "supervisor": "put-back",
        "ledger": "put-back",
        "worker 0": "kept",
        "worker 1": "kept",
        "checker": "kept",
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [("def broken(:", "new_worker cannot be loaded: SyntaxError"), ("import nowhere", "No module named 'nowhere'")],
)
def test_code_that_cannot_be_loaded_touches_nobody(instance: Upgraded, text: str, reason: str) -> None:
    before = instance.everybody()
    instance.install("worker", text)
    state = instance.upgrade()
    assert (state.result, reason in state.reason, state.processes) == ("refused", True, [])
    assert instance.everybody() == before


def test_two_at_once_are_one(instance: Upgraded) -> None:
    instance.ask()
    wait_for(lambda: (state := instance.switch) is not None and state.number == 1, "the first one's beginning")
    instance.ask()
    wait_for(lambda: "upgrade refused: upgrade 1 is still running" in instance.stderr, "the refusal")
    assert (instance.ended(1).result, instance.ended(1).refused_again) == ("done", 1)
    assert len(instance.pids("ledger")) == 2


def test_signals_while_it_starts_do_no_harm(state_dir: Path, instances: list[Upgraded]) -> None:
    instance = Upgraded(state_dir)
    instances.append(instance)
    wait_for((state_dir / "state" / "lock").exists, "the launcher's first step")
    for _ in range(20):
        for number in (signal.SIGUSR2, signal.SIGHUP):
            os.kill(instance.process.pid, number)
    instance.wait_ready()
    wait_for(instance.has_one_each, "everybody")
    assert {len(instance.pids(name)) for name in CHILDREN} == {1}, (
        "nobody was killed by a signal that it did not expect"
    )
    assert instance.ended(1).kind == "reload", "SIGHUP is kept until it can be looked at the file"
    assert instance.upgrade(2).result == "done"


def test_a_reload_that_is_asked_for_meanwhile_comes_after_it(instance: Upgraded) -> None:
    instance.ask()
    wait_for(lambda: (state := instance.switch) is not None and state.phase == "replacing", "the replacement")
    os.kill(instance.process.pid, signal.SIGHUP)
    assert instance.ended(2).kind == "reload", "the launcher of the new code knows of it"
    assert "upgrade 1: done" in instance.stderr


@pytest.mark.parametrize("when", ["checking", "replacing", "watching"])
def test_a_stop_ends_an_upgrade_and_leaves_nobody(instance: Upgraded, when: str) -> None:
    instance.ask()
    wait_for(lambda: (state := instance.switch) is not None and state.phase == when, when)
    instance.process.terminate()
    assert instance.process.wait(30) == 0
    assert [name for name in CHILDREN if instance.living(name)] == []


def test_a_launcher_that_is_killed_within_an_upgrade_takes_all_with_it(instance: Upgraded) -> None:
    instance.ask()
    wait_for(lambda: (state := instance.switch) is not None and state.phase == "watching", "two of each")
    instance.process.kill()
    for name in CHILDREN:
        wait_for(partial(lambda name: not instance.living(name), name), f"the end of {name}")


def test_a_process_that_was_crashing_is_mended_by_an_upgrade(instance: Upgraded) -> None:
    instance.does("worker0", "fail")
    os.kill(instance.living("worker0")[0], signal.SIGKILL)
    wait_for(lambda: "worker 0 keeps dying: 5 short lives in a row" in instance.stderr, "the crash loop")
    (looping,) = [each for each in crew_state.read(instance.folder / "state" / "run" / "crew.json") if each.loops]
    assert (looping.name, looping.last_end) == ("worker 0", "exited with 1")
    instance.does("worker0", "")
    assert instance.upgrade().result == "done"
    wait_for(instance.has_one_each, "one of each")


def descriptors(pid: int) -> list[str]:
    """What a process has open, without the numbers of pipes and sockets."""
    folder = Path(f"/proc/{pid}/fd")
    return sorted(os.readlink(each).partition(":[")[0] for each in folder.iterdir())


def test_switches_leak_no_descriptor(instance: Upgraded, soak: bool) -> None:
    instance.upgrade(1)  # a launcher that was started by hand has one or two more or less
    wait_for(instance.has_one_each, "one of each")
    before = descriptors(instance.process.pid)
    for number in range(2, 102 if soak else 4):
        broken = number % 3 == 0
        instance.does("worker1", "fail" if broken else "")
        assert instance.upgrade(number).result == ("put-back" if broken else "done")
        wait_for(instance.has_one_each, "one of each")
    assert descriptors(instance.process.pid) == before
    for name in CHILDREN:
        assert len(descriptors(instance.living(name)[0])) < 20
