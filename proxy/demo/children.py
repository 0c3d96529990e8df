"""Child processes with a log file, and free ports for them."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from proxy.core.errors import CrossfadeError

_STOP_SECONDS = 30.0
_TAIL_LINES = 20


class ChildError(CrossfadeError):
    """A child did not start, or ended on its own; the message has its log's last lines."""


_given: set[int] = set()
"""Ports that were handed out: who got one may not listen yet."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that is free now and stays so; never the same twice.

    Taken from below the range that outgoing connections draw from: a listener that is closed and
    opened again (a backend that is down, a daemon that restarts) must find its port still free.
    """
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    chosen = random.SystemRandom()
    while True:
        port = chosen.randrange(min(10_000, low // 2), low)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port


_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def _die_with_parent() -> None:
    """Runs in the child before its program: Linux sends it SIGTERM at our end (prctl(2))."""
    if _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM) != 0:
        raise OSError(ctypes.get_errno(), "prctl failed")


class Child:
    """One process of its own process group, so that Ctrl-C reaches us alone and we stop it in order."""

    def __init__(
        self,
        name: str,
        arguments: list[str],
        log: Path,
        *,
        environ: dict[str, str] | None = None,
        descriptors: Sequence[int] = (),
    ) -> None:
        """Start it. Its output is appended to `log`; it gets SIGTERM when we end, even by force.

        descriptors: of ours, that it has as well, under the same numbers.
        """
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - one system call, and we have no threads
                env=os.environ | (environ or {}),
                pass_fds=descriptors,
            )
        self.pid = self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.poll()

    def tail(self) -> str:
        """The log's last lines."""
        lines = self.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        return "\n".join(f"    {line}" for line in lines) or "    (its log is empty)"

    def check(self) -> None:
        """Raise ChildError when it has ended."""
        if self.exit_code is not None:
            raise ChildError(f"{self.name} ended with {self.exit_code}; the last lines of {self.log}:\n{self.tail()}")

    async def until(self, ready: Callable[[], Awaitable[bool]], seconds: float) -> None:
        """Wait for `ready`; raises ChildError when the process ends first or it takes longer."""
        deadline = time.monotonic() + seconds
        while not await ready():
            self.check()
            if time.monotonic() > deadline:
                raise ChildError(
                    f"{self.name} was not ready after {seconds:g} s; the last lines of {self.log}:\n{self.tail()}"
                )
            await asyncio.sleep(0.02)

    def signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        self._process.send_signal(number)

    async def ended(self, seconds: float) -> int:
        """Wait for its end; the exit code. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while (code := self.exit_code) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} (pid {self.pid}) still runs after {seconds:g} s")
            await asyncio.sleep(0.01)
        return code

    async def stop(self, seconds: float = _STOP_SECONDS) -> int:
        """SIGTERM, and SIGKILL to its group when that does not end it in time; the exit code."""
        self.signal(signal.SIGTERM)
        try:
            return await self.ended(seconds)
        except TimeoutError:
            self.kill_group()
            return await self.ended(5)

    def kill_group(self) -> None:
        """SIGKILL to the process and all it started."""
        with contextlib.suppress(ProcessLookupError):  # nobody of the group is left, as wanted
            os.killpg(self.pid, signal.SIGKILL)


def python(*arguments: str) -> list[str]:
    """The command that runs a module with this interpreter; folders where the user stands must not shadow ours."""
    return [sys.executable, "-P", "-m", *arguments]
