"""What the launcher takes before anything starts, and what it refuses."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from config.model import Settings
from proxy.control.holdings import Holdings, prepare_directories
from proxy.control.inherit import places_of, read_all
from proxy.control.sealed import unseal
from proxy.control.sockets import address_text
from proxy.core.errors import RefuseToStart
from tests.control.helpers import make_settings


def take(settings: Settings, **more: object) -> Holdings:
    return Holdings(settings, Path("crossfade.yaml"), **more)  # type: ignore[arg-type]


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0
        self.on_sleep: Callable[[], None] = lambda: None

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.on_sleep()


def test_takes_everything_with_tight_modes(state_dir: Path) -> None:
    root = state_dir / "state"
    settings = make_settings(root)
    holdings = take(settings)
    try:
        assert root.stat().st_mode & 0o777 == 0o700
        assert (root / "run").stat().st_mode & 0o777 == 0o700
        assert (root / "lock").stat().st_mode & 0o777 == 0o600
        assert (root / "lock").read_text() == f"{os.getpid()}\n"
        assert unseal(read_all(holdings.config_fd)) == settings
        with socket.create_connection(holdings.sockets[0].getsockname()[:2]):
            pass
        assert sorted(os.listdir(root)) == ["lock", "run", "salt.json"]
    finally:
        holdings.close()


def test_two_instances_cannot_share_a_state_directory(state_dir: Path) -> None:
    first = take(make_settings(state_dir))
    clock = Clock()
    try:
        with pytest.raises(RefuseToStart, match=f"in use by another instance \\(process {os.getpid()}\\)"):
            take(make_settings(state_dir), wait=1.0, clock=clock, sleep=clock.sleep)
        assert clock.now >= 1.0
    finally:
        first.close()


@pytest.mark.parametrize("ending", ["alive", "not reaped", "gone"])
def test_a_living_launcher_is_not_waited_for(state_dir: Path, ending: str) -> None:
    launcher = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    lock = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.write(lock, f"{launcher.pid}\n".encode())
    clock = Clock()
    try:
        if ending != "alive":
            launcher.kill()
            os.waitid(os.P_PID, launcher.pid, os.WEXITED | os.WNOWAIT)
        if ending == "gone":
            launcher.wait()
        with pytest.raises(RefuseToStart, match=f"in use by another instance \\(process {launcher.pid}\\)"):
            take(make_settings(state_dir), wait=1.0, clock=clock, sleep=clock.sleep)
        assert (clock.now == 0.0) is (ending == "alive")
    finally:
        os.close(lock)
        launcher.kill()
        launcher.communicate()


def test_waits_for_a_dying_instance_and_its_port(state_dir: Path) -> None:
    blocker = socket.socket()
    blocker.bind(("127.0.0.1", 0))
    blocker.listen()
    address = address_text(blocker)
    lock = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    clock = Clock()

    def pass_by() -> None:
        if clock.now > 0.5:
            fcntl.flock(lock, fcntl.LOCK_UN)
        if clock.now > 1.0:
            blocker.close()

    clock.on_sleep = pass_by
    holdings = take(make_settings(state_dir, listen=[address]), wait=5.0, clock=clock, sleep=clock.sleep)
    try:
        assert holdings.addresses == [address]
        assert clock.now > 1.0
    finally:
        holdings.close()
        os.close(lock)


@pytest.mark.parametrize("killed", [True, False])
def test_a_port_is_waited_for_after_a_killed_instance_alone(state_dir: Path, killed: bool) -> None:
    before = take(make_settings(state_dir))
    if not killed:
        before.stopped_cleanly()
    before.close()
    blocker = socket.create_server(("127.0.0.1", 0))
    address = address_text(blocker)
    clock = Clock()
    clock.on_sleep = lambda: blocker.close() if clock.now > 0.5 else None
    try:
        if killed:
            take(make_settings(state_dir, listen=[address]), clock=clock, sleep=clock.sleep).close()
            assert clock.now > 0.5
            return
        with pytest.raises(RefuseToStart, match="cannot listen on"):
            take(make_settings(state_dir, listen=[address]), clock=clock, sleep=clock.sleep)
        assert clock.now == 0.0
    finally:
        blocker.close()


def test_a_taken_port_is_refused_at_once_by_name(state_dir: Path) -> None:
    clock = Clock()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = address_text(taken)
        with pytest.raises(RefuseToStart, match=f"cannot listen on {address}: Address already in use; .* `listen`"):
            take(make_settings(state_dir, listen=["127.0.0.1:0", address]), clock=clock, sleep=clock.sleep)
    assert clock.now == 0.0
    take(make_settings(state_dir)).close()  # the refusal let go of the lock


def test_an_unknown_host_is_refused(state_dir: Path) -> None:
    with pytest.raises(RefuseToStart, match="cannot listen on"):
        take(make_settings(state_dir, listen=["host.invalid:80"]))


def test_a_long_path_is_refused_before_anything_is_made(state_dir: Path) -> None:
    root = state_dir / ("d" * 100)
    with pytest.raises(RefuseToStart, match="too long for a Unix socket"):
        take(make_settings(root))
    assert not root.exists()


def test_a_state_directory_that_cannot_be_made_is_refused(state_dir: Path) -> None:
    (state_dir / "file").write_text("mine")
    with pytest.raises(RefuseToStart, match="cannot write in the state directory"):
        prepare_directories(places_of(make_settings(state_dir / "file" / "below")))
    assert (state_dir / "file").read_text() == "mine"


def test_a_directory_of_somebody_else_is_refused_and_left_alone(state_dir: Path) -> None:
    (state_dir / "run").mkdir()
    (state_dir / "letter").write_text("mine")
    state_dir.chmod(0o755)
    with pytest.raises(RefuseToStart, match=f"{state_dir} holds files that are not Crossfade's"):
        take(make_settings(state_dir))
    assert sorted(os.listdir(state_dir)) == ["letter", "run"]
    assert state_dir.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    "mark", [None, "lost+found", "run", "ledger", "lock", "salt.json", "routing.json", "tokens.json"]
)
def test_an_empty_directory_and_one_of_ours_keep_their_mode(
    state_dir: Path, mark: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    if mark in ("run", "ledger", "lost+found"):
        (state_dir / mark).mkdir(mode=0o700)
    elif mark is not None:
        (state_dir / mark).touch()
        if mark == "tokens.json":  # put there before the first start, perhaps on a new file system
            (state_dir / "lost+found").mkdir()
        else:
            (state_dir / "notes.txt").touch()
    for mode in (0o755, 0o700):
        state_dir.chmod(mode)
        caplog.clear()
        prepare_directories(places_of(make_settings(state_dir)))
        assert state_dir.stat().st_mode & 0o777 == mode
        assert (f"{state_dir} may be used by others (mode 755)" in caplog.text) is (mode == 0o755)
    assert (state_dir / "run").stat().st_mode & 0o777 == 0o700


def test_the_lifeline_breaks_when_let_go(state_dir: Path) -> None:
    holdings = take(make_settings(state_dir))
    child_end = os.dup(holdings.lifeline_fd)
    os.set_blocking(child_end, False)
    with pytest.raises(BlockingIOError):
        os.read(child_end, 1)
    holdings.close()
    assert os.read(child_end, 1) == b""
    os.close(child_end)


@pytest.mark.asyncio
async def test_who_is_connected_already_is_accepted_before_others_are_refused(
    state_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    holdings = take(make_settings(state_dir))
    listener = holdings.sockets[0]
    with closing(holdings), socket.create_connection(listener.getsockname()[:2]) as client:
        assert holdings.listeners[0].queued == 1
        begun = time.monotonic()
        await holdings.emptied(0.05)
        assert time.monotonic() - begun >= 0.05, "nobody accepts"
        assert "1 clients were not accepted in time" in caplog.text
        waiting = asyncio.create_task(holdings.emptied(10.0))
        await asyncio.sleep(0.02)
        accepted, _ = listener.accept()
        await waiting
        holdings.stop_listening()
        with accepted:
            accepted.sendall(b"x")
            assert client.recv(1) == b"x"


def test_stop_listening_refuses_clients_although_others_hold_the_socket(state_dir: Path) -> None:
    holdings = take(make_settings(state_dir))
    address = holdings.sockets[0].getsockname()[:2]
    inherited = os.dup(holdings.sockets[0].fileno())
    try:
        holdings.stop_listening()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        holdings.stop_listening()
    finally:
        os.close(inherited)
        holdings.close()
