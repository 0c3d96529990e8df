"""wrk: run it, read what it printed. Its format is that of wrk 4 with --latency."""

from __future__ import annotations

import re
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.processes import BenchmarkFailed

SCRIPT: Final = Path(__file__).parent / "wrk" / "events.lua"
CONNECTIONS: Final = 64
SIZE: Final = 290
"""Bytes of a body."""
_UNITS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


class WrkResult(NamedTuple):
    """One run. seconds: as wrk measured it; p50, p99: seconds; errors: socket errors and answers above 399."""

    requests: int
    seconds: float
    p50: float
    p99: float
    errors: int

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds


def parse(text: str) -> WrkResult:
    """Read wrk's output; raises BenchmarkFailed when it is not what wrk prints after a run."""
    total = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m)\b", text)
    latencies = {
        percent: float(number) * _UNITS[unit]
        for percent, number, unit in re.findall(r"^\s+(\d+)%\s+([\d.]+)(us|ms|s|m)\s*$", text, re.MULTILINE)
    }
    if total is None or not {"50", "99"} <= latencies.keys():
        raise BenchmarkFailed(f"this is not what wrk prints after a run:\n{text}")
    errors = sum(int(count) for count in re.findall(r"Non-2xx or 3xx responses: (\d+)", text))
    for sockets in re.findall(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text):
        errors += sum(int(count) for count in sockets)
    return WrkResult(int(total[1]), float(total[2]) * _UNITS[total[3]], latencies["50"], latencies["99"], errors)


class Load(NamedTuple):
    """What is asked of a proxy. size: of a body, in bytes."""

    connections: int = CONNECTIONS
    size: int = SIZE


USUAL: Final = Load()


def run(port: int, *, seconds: float, core: int, load: Load = USUAL, tls: bool = False) -> WrkResult:
    """Load the proxy at this port for so many whole seconds, with ids that were never used before."""
    words = ["-t1", f"-c{load.connections}", f"-d{round(seconds)}s", "--latency", "-s", str(SCRIPT)]
    url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/api/v1/events"
    command = ["taskset", "--cpu-list", str(core), "wrk", *words, url, "--", secrets.token_hex(4), str(load.size)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    if done.returncode != 0:
        raise BenchmarkFailed(f"wrk ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return parse(done.stdout)


def check_installed() -> None:
    """Raise BenchmarkFailed, saying what to do, when wrk is not there."""
    if shutil.which("wrk") is None:
        raise BenchmarkFailed("wrk is missing; benchmarks/install.sh installs it")
