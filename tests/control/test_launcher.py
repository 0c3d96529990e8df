"""The launcher, with tiny stand-ins for the processes that it starts."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from proxy.control import processes, switch_state
from proxy.control.holdings import Holdings
from proxy.control.launcher import Launcher, reap_strangers
from proxy.control.sockets import address_text
from proxy.control.switch_state import SwitchState
from tests.control.helpers import make_settings, wait_for

ROOT = Path(__file__).parents[2]
MAIN = """
import sys
from pathlib import Path
from proxy.control.launcher import launch
from tests.control.helpers import CHECK, make_settings
settings = make_settings(
    sys.argv[1], listen=[sys.argv[2]], stop_grace=sys.argv[3], consistency=[CHECK], drain={"accept_for": sys.argv[4]}
)
sys.exit(launch(settings, Path("crossfade.yaml"), modules=MODULES))
""".replace(
    "MODULES", repr({name: f"tests.control.standin_{name}" for name in ("ledger", "supervisor", "worker", "checker")})
)


CHILDREN = ("ledger", "supervisor", "worker0", "worker1", "checker")


class Instance:
    """One launcher in a process of its own, with its journal and its stderr."""

    def __init__(
        self,
        state_dir: Path,
        address: str = "127.0.0.1:0",
        grace: str = "5s",
        accept_for: str = "0s",
        **behaviour: str,
    ) -> None:
        self.journal_path = state_dir / "journal"
        self.stderr_path = state_dir / "stderr"
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "STANDIN_JOURNAL": str(self.journal_path),
            **{f"STANDIN_{name.upper()}": what for name, what in behaviour.items()},
        }
        with self.stderr_path.open("ab") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-c", MAIN, str(state_dir / "state"), address, grace, accept_for],
                env=environment,
                stderr=stderr,
                cwd=state_dir,
            )

    @property
    def stderr(self) -> str:
        return self.stderr_path.read_text()

    @property
    def journal(self) -> list[str]:
        """`name event` of each line, in order."""
        text = self.journal_path.read_text() if self.journal_path.exists() else ""
        return [line.rsplit(" ", 1)[0] for line in text.splitlines()]

    def pids(self, name: str) -> list[int]:
        lines = self.journal_path.read_text().splitlines()
        return [int(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{name} started ")]

    def wait_ready(self) -> None:
        everyone = {f"{name} started" for name in CHILDREN}
        wait_for(lambda: self.process.poll() is not None or everyone <= set(self.journal), "the start")
        wait_for(lambda: self.process.poll() is not None or "crossfade is ready" in self.stderr, "readiness")
        assert self.process.poll() is None, self.stderr

    def wait_starts(self, name: str, count: int) -> None:
        wait_for(lambda: len(self.pids(name)) == count, f"start {count} of {name}")

    def wait_gone(self, name: str) -> None:
        wait_for(lambda: not any(map(is_alive, self.pids(name))), f"the end of {name}")

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        # The lifeline's end stops the children; wait until nobody writes here any more.
        if self.journal_path.exists():
            for name in CHILDREN:
                self.wait_gone(name)


def is_alive(pid: int) -> bool:
    return processes.started(pid) != processes.GONE


@pytest.fixture
def instances() -> Iterator[list[Instance]]:
    started: list[Instance] = []
    yield started
    with ExitStack() as ends:  # one that fails to end must not keep the others alive
        for each in started:
            ends.callback(each.end)


def test_starts_everything_and_stops_in_order(state_dir: Path, instances: list[Instance]) -> None:
    instance = Instance(state_dir)
    instances.append(instance)
    instance.wait_ready()
    assert "crossfade is ready: http://127.0.0.1:" in instance.stderr
    assert f"(admin unix:{state_dir}/state/admin.sock, http://127.0.0.1:1)" in instance.stderr
    instance.process.terminate()
    assert instance.process.wait(20) == 0
    journal = instance.journal
    assert journal.index("supervisor SIGUSR1") < journal.index("ledger SIGTERM")
    assert max(journal.index(f"{each} stopped") for each in CHILDREN[2:]) < journal.index("ledger SIGTERM")
    assert journal.index("ledger stopped") < journal.index("supervisor SIGTERM")


def test_restarts_what_dies_and_keeps_the_rest(state_dir: Path, instances: list[Instance]) -> None:
    instance = Instance(state_dir)
    instances.append(instance)
    instance.wait_ready()
    for name in ("worker1", "ledger", "supervisor", "checker"):
        os.kill(instance.pids(name)[0], signal.SIGKILL)
        instance.wait_starts(name, 2)
    assert len(instance.pids("worker0")) == 1
    assert "worker 1 killed by SIGKILL unexpectedly" in instance.stderr
    assert instance.stderr.count("crossfade is ready") == 1


def test_backs_off_while_a_child_keeps_crashing(state_dir: Path, instances: list[Instance]) -> None:
    instance = Instance(state_dir, worker0="crash:3")
    instances.append(instance)
    wait_for(lambda: instance.journal.count("worker0 started") == 4, "the fourth start")
    assert "starting worker 0 again in 0.05 s" in instance.stderr
    assert "starting worker 0 again in 0.2 s" in instance.stderr


@pytest.mark.parametrize("name", ["ledger", "supervisor", "worker1"])
def test_a_child_that_refuses_stops_the_instance(state_dir: Path, instances: list[Instance], name: str) -> None:
    # A worker that crashes for ever keeps the instance from being ready before the refusal is seen.
    instance = Instance(
        state_dir, **({name: "refuse"} if name == "supervisor" else {name: "refuse", "supervisor": "crash:99"})
    )
    instances.append(instance)
    assert instance.process.wait(20) == 2
    assert instance.stderr.splitlines()[-1] == "crossfade refuses to start: this cannot be"


def test_a_refusal_after_readiness_is_a_crash(state_dir: Path, instances: list[Instance]) -> None:
    instance = Instance(state_dir, worker0="refuse-later")
    instances.append(instance)
    instance.wait_ready()
    (state_dir / "refuse-now").touch()
    wait_for(lambda: "worker 0 exited with 78 unexpectedly" in instance.stderr, "the refusal")
    instance.wait_starts("worker0", 2)
    assert instance.process.poll() is None


def test_an_exit_with_success_is_unexpected_too(state_dir: Path, instances: list[Instance]) -> None:
    instance = Instance(state_dir)
    instances.append(instance)
    instance.wait_ready()
    os.kill(instance.pids("worker0")[0], signal.SIGTERM)
    instance.wait_starts("worker0", 2)
    assert "worker 0 exited with 0 unexpectedly" in instance.stderr


def test_children_notice_the_launchers_death(state_dir: Path, instances: list[Instance]) -> None:
    instance = Instance(state_dir)
    instances.append(instance)
    instance.wait_ready()
    instance.process.kill()
    instance.process.wait()
    wait_for(lambda: sum("lifeline" in line for line in instance.journal) == len(CHILDREN), "the end of the lifeline")


def test_a_stubborn_child_is_killed_by_a_later_second_signal(state_dir: Path, instances: list[Instance]) -> None:
    instance = Instance(state_dir, worker0="stubborn")
    instances.append(instance)
    instance.wait_ready()
    instance.process.terminate()
    wait_for(lambda: "worker0 SIGTERM" in instance.journal, "the first signal")

    def ask_again() -> bool:
        instance.process.terminate()
        return "SIGTERM again" in instance.stderr

    wait_for(ask_again, "the second signal's effect")
    assert instance.process.wait(20) == 1
    assert "worker 0 did not stop in time: killing it" in instance.stderr
    # No clean stop: a successor waits for what the killed ones may still hold.
    assert (state_dir / "state" / "lock").read_text() == f"{instance.process.pid}\n"


def test_a_graceful_stop_leaves_no_name_in_the_lock(state_dir: Path, instances: list[Instance]) -> None:
    instance = Instance(state_dir)
    instances.append(instance)
    instance.wait_ready()
    instance.process.terminate()
    assert instance.process.wait(20) == 0
    assert (state_dir / "state" / "lock").read_text() == ""


def test_signals_within_a_second_are_one_request(state_dir: Path) -> None:
    now = 100.0
    holdings = Holdings(make_settings(state_dir), Path("crossfade.yaml"))
    try:
        launcher = Launcher(holdings, clock=lambda: now)
        launcher._on_stop("SIGINT")
        now += 0.9
        launcher._on_stop("SIGTERM")
        assert launcher._stop.is_set()
        assert not launcher._kill.is_set()
        now += 0.2
        launcher._on_stop("SIGTERM")
        assert launcher._kill.is_set()
    finally:
        holdings.close()


def last_switch(state_dir: Path) -> SwitchState | None:
    return switch_state.read(state_dir / "state" / "run" / "switch.json")


def looked_at(state_dir: Path, number: int) -> bool:
    state = last_switch(state_dir)
    return state is not None and state.number == number and not state.runs


def test_a_hangup_has_the_file_looked_at(state_dir: Path, instances: list[Instance]) -> None:
    instance = Instance(state_dir)
    instances.append(instance)
    instance.wait_ready()
    os.kill(instance.process.pid, signal.SIGHUP)
    wait_for(lambda: looked_at(state_dir, 1), "the look")
    state = last_switch(state_dir)
    assert state is not None
    assert (state.kind, state.result) == ("reload", "refused")
    assert "the supervisor could not be asked" in state.reason  # the stand-in hears no proposals
    assert [len(instance.pids(name)) for name in CHILDREN] == [1] * len(CHILDREN), "nobody was replaced"


def test_a_hangup_while_the_file_is_looked_at_has_it_looked_at_again(
    state_dir: Path, instances: list[Instance]
) -> None:
    instance = Instance(state_dir)
    instances.append(instance)
    instance.wait_ready()
    os.kill(instance.process.pid, signal.SIGHUP)
    wait_for(lambda: "reload 1 begins" in instance.stderr, "the first look")
    os.kill(instance.process.pid, signal.SIGHUP)
    wait_for(lambda: instance.stderr.count("SIGHUP: looking") == 2, "the second signal")
    wait_for(lambda: looked_at(state_dir, 2), "the second look")


def test_a_hangup_during_the_start_is_not_lost(state_dir: Path, instances: list[Instance]) -> None:
    (state_dir / "supervisor.does").write_text("never-serve")
    instance = Instance(state_dir)
    instances.append(instance)
    wait_for(lambda: "supervisor started" in instance.journal, "its start")
    for _ in range(3):
        os.kill(instance.process.pid, signal.SIGHUP)
    wait_for(lambda: "SIGHUP: looking" in instance.stderr, "the signals")
    assert last_switch(state_dir) is None, "there is nobody yet who could be asked"
    (state_dir / "supervisor.does").unlink()
    os.kill(instance.pids("supervisor")[0], signal.SIGKILL)
    instance.wait_ready()
    wait_for(lambda: looked_at(state_dir, 1), "the look")


def test_a_terminated_instance_takes_clients_for_a_while(state_dir: Path, instances: list[Instance]) -> None:
    instance = Instance(state_dir, accept_for="60s")
    instances.append(instance)
    instance.wait_ready()
    instance.process.terminate()
    wait_for(lambda: "supervisor SIGUSR1" in instance.journal, "readiness is withdrawn")
    os.kill(instance.pids("worker0")[0], signal.SIGKILL)
    instance.wait_starts("worker0", 2)  # clients still come
    assert "worker1 SIGTERM" not in instance.journal

    def ask_again() -> bool:
        instance.process.terminate()
        return "no further clients" in instance.stderr

    wait_for(ask_again, "the second signal's effect")
    wait_for(lambda: "worker1 SIGTERM" in instance.journal, "the end of the workers")
    assert instance.process.wait(20) == 0, "in order, and nobody was killed"


def test_nobody_sends_clients_to_a_terminal(state_dir: Path, instances: list[Instance]) -> None:
    instance = Instance(state_dir, accept_for="60s")
    instances.append(instance)
    instance.wait_ready()
    instance.process.send_signal(signal.SIGINT)
    assert instance.process.wait(20) == 0


def test_the_lock_outlives_the_launcher_with_the_ledger(state_dir: Path, instances: list[Instance]) -> None:
    first = Instance(state_dir, ledger="linger")
    instances.append(first)
    first.wait_ready()
    first.process.kill()
    first.process.wait()
    second = Instance(state_dir)
    instances.append(second)
    wait_for(lambda: f"is held by process {first.process.pid}" in second.stderr, "the wait for the lock")
    (state_dir / "let-go").touch()
    wait_for(lambda: second.stderr.count("crossfade is ready") == 2, "the successor")


def test_a_taken_port_is_refused_before_anything_starts(state_dir: Path, instances: list[Instance]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        instance = Instance(state_dir, address=address_text(taken))
        instances.append(instance)
        assert instance.process.wait(20) == 2
        assert instance.stderr.startswith(f"crossfade refuses to start: cannot listen on {address_text(taken)}")
    assert instance.journal == []


def test_a_folder_named_like_ours_does_not_shadow_it(state_dir: Path, instances: list[Instance]) -> None:
    for name in ("proxy", "config", "standin"):
        (state_dir / f"{name}.py").write_text("raise SystemExit(1)")
    environment_root = Instance(state_dir)
    instances.append(environment_root)
    wait_for(lambda: environment_root.process.poll() is not None or environment_root.journal, "a start")


def test_process_one_reaps_strangers_but_not_its_children() -> None:
    stranger = subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.DEVNULL)
    os.waitid(os.P_PID, stranger.pid, os.WEXITED | os.WNOWAIT)
    reap_strangers({stranger.pid})
    assert os.waitid(os.P_PID, stranger.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    reap_strangers(set())
    with pytest.raises(ChildProcessError):
        os.waitid(os.P_PID, stranger.pid, os.WEXITED | os.WNOHANG)
    stranger.returncode = 0
