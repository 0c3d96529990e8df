"""Children that fail to start say why; ports given out are free."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from proxy.control import processes
from proxy.demo.children import Child, ChildError, free_port, python

ROOT = Path(__file__).parents[2]


async def never() -> bool:
    return False


@pytest.mark.asyncio
async def test_a_child_that_ends_at_once_shows_its_log(directory: Path) -> None:
    child = Child("toy", [*python("timeit"), "-n", "1", "raise SystemExit('no such port')"], directory / "log")
    with pytest.raises(ChildError, match=r"(?s)toy ended with 1.*no such port"):
        await child.until(never, 20)
    await child.stop()


@pytest.mark.asyncio
async def test_a_child_that_is_never_ready_is_given_up(directory: Path) -> None:
    child = Child("toy", ["/bin/sleep", "100"], directory / "log")
    with pytest.raises(ChildError, match=r"not ready after 0\.1 s"):
        await child.until(never, 0.1)
    assert await child.stop() == -signal.SIGTERM


@pytest.mark.asyncio
async def test_a_child_that_ignores_sigterm_is_killed(directory: Path) -> None:
    child = Child("toy", ["/bin/sh", "-c", "trap '' TERM; echo set; while :; do sleep 0.05; done"], directory / "log")

    async def trapped() -> bool:
        return "set" in child.log.read_text()

    await child.until(trapped, 10)
    assert await child.stop(0.2) == -signal.SIGKILL


def test_no_port_is_given_out_twice() -> None:
    assert len({free_port() for _ in range(1_000)}) == 1_000


def test_a_free_port_can_be_bound_and_is_not_drawn_for_outgoing_connections() -> None:
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    port = free_port()
    assert port < low
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))


PARENT = """
import asyncio, pathlib, sys
from proxy.demo.children import Child
child = Child("sleeper", ["/bin/sleep", "1000"], pathlib.Path(sys.argv[1]))
print(child.pid, flush=True)
asyncio.run(child.ended(1000))
"""


def test_a_child_ends_with_its_parent_even_when_that_is_killed(directory: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(directory / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 10
    while processes.started(pid) != processes.GONE:
        assert time.monotonic() < deadline, "the child outlived its parent"
        time.sleep(0.01)
