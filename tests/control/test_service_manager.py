"""systemd's protocol: sockets that are passed, and what it is told."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.control import service_manager
from proxy.control.holdings import Holdings
from proxy.control.service_manager import Notifier, passed_sockets, without
from proxy.control.sockets import address_text, is_at
from proxy.core.errors import RefuseToStart
from tests.control.helpers import make_settings, wait_for
from tests.control.test_launcher import MAIN, Instance


class Manager:
    """A service manager's notification socket, at `address`."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0"))
        self._socket.setblocking(False)
        self._told: list[str] = []

    @property
    def told(self) -> list[str]:
        while True:
            try:
                self._told.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return self._told

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(state_dir: Path) -> Iterator[Manager]:
    made = Manager(str(state_dir / "notify"))
    yield made
    made.close()


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def environ(count: int = 1, **more: str) -> dict[str, str]:
    return {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(count), "HOME": "/"} | more


def test_a_passed_socket_is_taken_once(listening: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_manager, "FIRST_DESCRIPTOR", os.dup(listening.fileno()))
    given = environ()
    (found,) = passed_sockets(given)
    assert found.getsockname() == listening.getsockname()
    assert not found.get_inheritable()
    assert given == {"HOME": "/"}, "a child of ours has no number of ours"
    assert passed_sockets(given) == []
    found.close()


@pytest.mark.parametrize("given", [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}])
def test_sockets_of_somebody_else_are_left_alone(given: dict[str, str]) -> None:
    assert passed_sockets(given) == []


def test_what_is_no_listening_tcp_socket_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        passed = socket.socket(socket.AF_INET, kind)
        monkeypatch.setattr(service_manager, "FIRST_DESCRIPTOR", passed.detach())
        with pytest.raises(RefuseToStart, match="something else than a listening TCP socket as descriptor"):
            passed_sockets(environ())


def test_passed_sockets_are_matched_to_listen_by_their_addresses(state_dir: Path, listening: socket.socket) -> None:
    address = address_text(listening)
    assert (is_at(listening, address), is_at(listening, "127.0.0.1:1"), is_at(listening, "[::1]:1")) == (
        True,
        False,
        False,
    )
    passed = listening.dup()
    settings = make_settings(state_dir, listen=["127.0.0.1:0", address])
    holdings = Holdings(settings, Path("crossfade.yaml"), activated=[passed])
    try:
        assert [each.is_ours for each in holdings.listeners] == [True, False]
        assert holdings.sockets[1] is passed
        ours = holdings.sockets[0].getsockname()
        holdings.stop_listening()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(ours)
        socket.create_connection(listening.getsockname()).close()  # it waits for the next start
    finally:
        holdings.close()


def test_a_passed_socket_that_listen_does_not_name_is_refused(state_dir: Path, listening: socket.socket) -> None:
    with pytest.raises(RefuseToStart, match=f"`listen` does not name: {address_text(listening)}"):
        Holdings(make_settings(state_dir), Path("crossfade.yaml"), activated=[listening.dup()])


def test_children_do_not_speak_to_the_service_manager() -> None:
    names = {"NOTIFY_SOCKET": "x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "LISTEN_FDNAMES": "a"}
    assert without(environ() | names) == {"HOME": "/"}


@pytest.mark.parametrize("form", ["{}/n", "@{}/abstract"])
def test_it_is_told_of_every_phase(state_dir: Path, form: str) -> None:
    manager = Manager(form.format(state_dir))
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": manager.address})
    notifier.ready("serving http://127.0.0.1:8080")
    notifier.reloading()
    notifier.ready("")
    notifier.stopping()
    ready, reloading, again, stopping = manager.told
    assert (ready, again, stopping) == ("READY=1\nSTATUS=serving http://127.0.0.1:8080", "READY=1", "STOPPING=1")
    assert reloading.startswith("RELOADING=1\nMONOTONIC_USEC=")
    manager.close()


def test_nobody_is_told_without_a_socket_and_one_that_is_gone_stops_nothing(
    manager: Manager, caplog: pytest.LogCaptureFixture
) -> None:
    Notifier().ready("")
    assert manager.told == []
    Notifier("/nowhere/notify").ready("")
    assert "could not be told READY" in caplog.text


@pytest.mark.asyncio
async def test_the_watchdog_is_fed_in_half_its_time(manager: Manager) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "20000"})
    notifier.start(asyncio.get_running_loop())
    while len(manager.told) < 3:
        await asyncio.sleep(0.005)
    assert set(manager.told) == {"WATCHDOG=1"}


def test_a_watchdog_of_another_process_is_not_ours() -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": "x", "WATCHDOG_USEC": "20000", "WATCHDOG_PID": "1"})
    assert notifier._watchdog == 0.0


ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.execve(sys.argv[2], sys.argv[2:], os.environ | {"LISTEN_PID": str(os.getpid())})
"""


class Activated(Instance):
    """One that a service manager starts: a socket as descriptor 3, and somebody to tell."""

    def __init__(self, state_dir: Path, listening: socket.socket, manager: Manager) -> None:
        self.journal_path, self.stderr_path = state_dir / "journal", state_dir / "stderr"
        root = str(Path(__file__).parents[2])
        names = {"PYTHONPATH": root, "STANDIN_JOURNAL": str(self.journal_path), "NOTIFY_SOCKET": manager.address}
        words = [sys.executable, "-c", MAIN, str(state_dir / "state"), address_text(listening), "5s", "0s"]
        with self.stderr_path.open("ab") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-c", ACTIVATE, str(listening.fileno()), *words],
                env=os.environ | names | {"WATCHDOG_USEC": "1000000", "LISTEN_FDS": "1"},
                stderr=stderr,
                cwd=state_dir,
                pass_fds=[listening.fileno()],
            )


def test_an_activated_instance_upgrades_and_leaves_the_socket_to_the_next(
    state_dir: Path, listening: socket.socket, manager: Manager
) -> None:
    instance = Activated(state_dir, listening, manager)
    try:
        instance.wait_ready()
        wait_for(lambda: any(each.startswith("READY=1\nSTATUS=serving") for each in manager.told), "READY")
        os.kill(instance.process.pid, signal.SIGUSR2)
        wait_for(lambda: any("RELOADING=1" in each for each in manager.told), "RELOADING")
        wait_for(lambda: "READY=1" in manager.told, "READY again", patience=90)
        before = manager.told.count("WATCHDOG=1")
        wait_for(lambda: manager.told.count("WATCHDOG=1") > before, "the new launcher's sign of life")
        instance.process.terminate()
        assert instance.process.wait(20) == 0
        assert "STOPPING=1" in manager.told
    finally:
        instance.end()
    client = socket.create_connection(listening.getsockname())  # nobody refuses it
    client.close()
