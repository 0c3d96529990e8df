"""`make test` and `make soak`: all tests, in two processes; with arguments, pytest with these.

    the machine's network       everything but BESIDE, one test after another: most of them are about time
    a network of its own        BESIDE, at a low priority: they wait for databases, or say little of time

Two suites on one network would take each other's ports, of servers that a test has stopped and starts again. Where no
network can be made (that needs root) they run one after the other.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from typing import IO, Final

from benchmarks import compiled
from tests.conftest import SOAK
from tests.harness import packages, postgres

BESIDE: Final = (
    "tests/cli",
    "tests/config",
    "tests/consistency",
    "tests/control",
    "tests/core",
    "tests/influxdb",
    "tests/ledger",
    "tests/project",
    "tests/report",
    "tests/e2e/test_checker.py",
    "tests/e2e/test_compiled.py",
)
NETWORK: Final = ("unshare", "--net", "--", "sh", "-c", 'ip link set lo up && exec nice -n 10 "$@"', "sh")
PYTEST: Final = (sys.executable, "-m", "pytest", *(["--timeout=900"] if SOAK else []))
"""Fifty times as many examples take their time, beside something else above all."""
_COUNT: Final = re.compile(r"(\d+) (passed|failed|skipped|errors?|xfailed|xpassed|warnings?|deselected)")


def main(arguments: list[str]) -> int:
    """The exit code: 0 when all passed."""
    if arguments:
        return subprocess.run([*PYTEST, *arguments]).returncode
    begun = time.monotonic()
    network = own_network()
    if network:
        prepare()  # there is no way out of a network of one's own
    with tempfile.TemporaryFile("w+") as said:
        beside = start([*network, *PYTEST, "-p", "no:cacheprovider", *BESIDE], said) if network else None
        try:
            alone = told([*PYTEST, *(f"--ignore={path}" for path in BESIDE)])
            beside = beside or start([*PYTEST, *BESIDE], said)
            code = beside.wait()
        finally:
            if beside is not None and beside.poll() is None:
                beside.terminate()
                beside.wait()
        said.seek(0)
        print(f"\n{', '.join(BESIDE)}:")
        lines = said.readlines()
        sys.stdout.writelines(lines)
    counts = counted(alone.lines) + counted(lines)
    names = ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))
    print(f"==== both: {names or 'no tests ran'} in {time.monotonic() - begun:.0f}s ====", flush=True)
    return alone.code or code


class Told:
    """What a process said, which was shown as it came, and how it ended."""

    def __init__(self, lines: list[str], code: int) -> None:
        self.lines = lines
        self.code = code


def told(command: list[str]) -> Told:
    """Run a process to its end."""
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace", bufsize=1) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            print(line, end="", flush=True)
    return Told(lines, process.returncode)


def start(command: list[str], said: IO[str]) -> subprocess.Popen[bytes]:
    """Begin a process whose words are kept."""
    return subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)


def own_network() -> list[str]:
    """The beginning of a command that runs in a network of its own; empty when there is no way to make one."""
    try:
        can_be_made = subprocess.run([*NETWORK, "true"], capture_output=True).returncode == 0
    except OSError:
        return []
    return list(NETWORK) if can_be_made else []


def prepare() -> None:
    """Install what the tests beside need. Raises RuntimeError when that cannot be done."""
    packages.program("influxd", "influxdb")
    packages.program("victoria-metrics", "victoria-metrics")
    postgres.prepare()
    compiled.prepare()


def counted(lines: list[str]) -> Counter[str]:
    """The figures of pytest's last line."""
    last = next((line for line in reversed(lines) if _COUNT.search(line) and " in " in line), "")
    return Counter({name: int(number) for number, name in _COUNT.findall(last)})


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
