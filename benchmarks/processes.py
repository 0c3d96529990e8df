"""Processes of the benchmark: started on one core, measured with all their children, ended by their own ids.

CPU time is utime + stime of /proc/PID/stat (proc(5)): what the kernel charged, whatever else the machine does.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
PAGE_SIZE: Final = os.sysconf("SC_PAGE_SIZE")
STOP_TIMEOUT: Final = 30.0
_ROLES: Final = (
    ("ledger_process", "ledger"),
    ("control.supervisor", "supervisor"),
    ("proxy.worker", "worker"),
    ("proxyctl", "launcher"),
    ("nginx: worker", "worker"),
    ("nginx: master", "master"),
    ("dual_websockets", "proxy"),
    ("aiohttp_proxy", "proxy"),
    ("relay.py", "proxy"),
    ("haproxy", "proxy"),
    ("envoy", "proxy"),
)


class BenchmarkFailed(Exception):
    """The run cannot be judged: something did not start, died, or answered wrongly. The text says what."""


class Stat(NamedTuple):
    """What of /proc/PID/stat is used here. ticks: utime + stime; rss_pages: resident pages."""

    parent: int
    ticks: int
    rss_pages: int


def parse_stat(text: str) -> Stat:
    """Read a line of /proc/PID/stat; the name in parentheses may itself have spaces and parentheses."""
    fields = text[text.rindex(")") + 2 :].split()
    return Stat(parent=int(fields[1]), ticks=int(fields[11]) + int(fields[12]), rss_pages=int(fields[21]))


def read_stat(pid: int) -> Stat | None:
    """The process's figures, or None when it is gone."""
    try:
        return parse_stat(Path(f"/proc/{pid}/stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None


def tree(root: int) -> frozenset[int]:
    """The process and all of its descendants that are alive."""
    parents = {
        int(name): stat.parent for name in os.listdir("/proc") if name.isdigit() and (stat := read_stat(int(name)))
    }
    found, wanted = {root} & parents.keys(), [root]
    while wanted:
        parent = wanted.pop()
        children = {pid for pid, its_parent in parents.items() if its_parent == parent} - found
        found |= children
        wanted += children
    return frozenset(found)


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time of these processes since they started; raises BenchmarkFailed when one of them is gone."""
    return sum(_alive(pid).ticks for pid in pids) / TICKS_PER_SECOND


def role(pid: int) -> str:
    """What a process is for, by its command line: worker, ledger, supervisor, launcher, or nginx's master."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    for mark, name in _ROLES:
        if mark in words:
            return name
    return "other"


def rss_bytes(pids: Iterable[int]) -> int:
    """Resident memory of these processes together; pages that they share are counted in each."""
    return sum(_alive(pid).rss_pages for pid in pids) * PAGE_SIZE


def _alive(pid: int) -> Stat:
    stat = read_stat(pid)
    if stat is None:
        raise BenchmarkFailed(f"process {pid} ended while it was measured")
    return stat


class Started:
    """A process that we started, its children included. `log` holds what it wrote to stdout and stderr.

    environ: variables beside our own
    """

    def __init__(
        self, name: str, command: list[str], *, core: int, log: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                ["taskset", "--cpu-list", str(core), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=None if environ is None else os.environ | environ,
            )

    @property
    def pid(self) -> int:
        """The root of its processes: taskset replaces itself by the command."""
        return self._process.pid

    def pids(self) -> frozenset[int]:
        """All of its processes; raises BenchmarkFailed with its log when it has ended."""
        if self._process.poll() is not None:
            raise BenchmarkFailed(f"{self.name} ended with {self._process.returncode}:\n{self.tail()}")
        return tree(self.pid)

    def tail(self, size: int = 4000) -> str:
        """The end of its log."""
        return self.log.read_bytes()[-size:].decode(errors="replace")

    def signal_all(self, number: signal.Signals) -> None:
        """Signal every one of its processes, the root first."""
        for pid in sorted(self.pids()):
            os.kill(pid, number)

    def stop(self) -> None:
        """End it and its children; raises BenchmarkFailed when it had to be killed."""
        if self._process.poll() is not None:
            return
        pids = tree(self.pid)
        for pid in pids:
            _signal(pid, signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            for pid in pids:
                _signal(pid, signal.SIGKILL)
            self._process.wait()
            raise BenchmarkFailed(f"{self.name} did not stop within {STOP_TIMEOUT:g} s:\n{self.tail()}") from None


def _signal(pid: int, number: signal.Signals) -> None:
    """A child may have gone in the moment since it was seen."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that were free a moment ago, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def wait_until(condition: Callable[[], bool], what: str, *, timeout: float = 20.0) -> None:
    """Poll `condition` until it holds; raises BenchmarkFailed naming `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise BenchmarkFailed(f"waited {timeout:g} s for {what}")
        time.sleep(0.02)


def is_listening(port: int) -> bool:
    """Whether somebody accepts connections at this port of the loopback."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True
