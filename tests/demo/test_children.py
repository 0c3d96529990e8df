"""Children that fail to start say why; ports given out are free."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from proxy.demo.children import Child, ChildError, free_port, python


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


def test_a_free_port_can_be_bound_and_is_not_drawn_for_outgoing_connections() -> None:
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    port = free_port()
    assert port < low
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))
