"""How far it is to the limit: the system calls of an event, by strace, and where the rest goes, by py-spy's samples.

Both slow down what they look at, so nothing else is measured meanwhile.
"""

from __future__ import annotations

import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks import measure_wrk
from benchmarks.peers import Proxy, binary
from benchmarks.processes import BenchmarkFailed, role
from benchmarks.report import Table

PY_SPY: Final = Path(__file__).parents[1] / "build" / "benchmarks" / "bin" / "py-spy"
SHOWN: Final = 6
"""System calls by name; the others are together."""
_SAMPLES: Final = 500
"""Per second."""
_ATTACH: Final = 0.5
AROUND: Final = 2.0
"""Seconds of a load in which nobody looks yet, or any more."""

Load = Callable[[], int]
"""Loads a proxy once and returns how many events were answered, or messages acknowledged."""


class Calls(NamedTuple):
    """System calls per event, of all processes."""

    proxy: str
    by_name: dict[str, float]

    @property
    def total(self) -> float:
        """All of them."""
        return sum(self.by_name.values())


def parse_strace(text: str) -> dict[str, int]:
    """How often each was called, from the table of `strace -c`."""
    found = {}
    for line in text.splitlines():
        match = re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", line)
        if match and match[2] != "total":
            found[match[2]] = int(match[1])
    if not found:
        raise BenchmarkFailed(f"this is not what strace -c prints:\n{text}")
    return found


def events(proxy: Proxy, seconds: float, *, core: int) -> Load:
    """wrk's."""
    return lambda: measure_wrk.run(proxy.port, seconds=seconds, core=core).requests


def calls(proxy: Proxy, directory: Path, load: Load) -> Calls:
    """Count under this load."""
    out = directory / f"strace-{proxy.port}"
    words = [word for pid in sorted(proxy.started.pids()) for word in ("-p", str(pid))]
    tracer = subprocess.Popen(
        [binary("strace"), "-f", "-c", "-o", str(out), *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        time.sleep(_ATTACH)
        if tracer.poll() is not None:
            assert tracer.stderr is not None
            raise BenchmarkFailed(f"strace: {tracer.stderr.read().decode(errors='replace')}")
        done = load()
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate(timeout=30)
    if not done:
        raise BenchmarkFailed(f"{proxy.name} answered nothing while strace looked")
    return Calls(proxy.name, {name: count / done for name, count in parse_strace(out.read_text()).items()})


def flame(proxy: Proxy, directory: Path, load: Load, *, seconds: float) -> bytes:
    """An SVG of where the worker of ours spends its time under this load, compiled functions included.

    seconds: to look for; the load is to last `AROUND` longer
    """
    path = directory / f"flame-{proxy.port}.svg"
    (worker,) = [pid for pid in proxy.started.pids() if role(pid) == "worker"]
    loading = threading.Thread(target=load, daemon=True)
    loading.start()
    command = [str(PY_SPY), "record", "--native", "--rate", str(_SAMPLES), "--duration", str(round(seconds))]
    command += ["--pid", str(worker), "--output", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 120)
    loading.join()
    if done.returncode or not path.is_file():
        raise BenchmarkFailed(f"py-spy ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return path.read_bytes()


def table(found: list[Calls], event: str = "event") -> Table:
    """Each proxy's most frequent calls. event: what they are counted by."""
    rows = []
    for one in found:
        ordered = sorted(one.by_name.items(), key=lambda item: -item[1])
        shown = [f"{name} {count:.2f}" for name, count in ordered[:SHOWN]]
        rest = sum(count for _, count in ordered[SHOWN:])
        rows.append([one.proxy, f"{one.total:.2f}", ", ".join([*shown, f"others {rest:.2f}"])])
    return Table(f"System calls per {event}, of all processes", ["proxy", "calls", "of which"], rows)
