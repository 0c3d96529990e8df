"""`make test` and `make soak`: all tests, in some processes; with arguments, pytest with these.

    the machine's network       everything but BESIDE, one test after another: most of them are about time
    networks of their own       each lane of BESIDE, at a low priority: they wait for databases, or say little of time

Two suites on one network would take each other's ports, of servers that a test has stopped and starts again. Where no
network can be made (that needs root) they run one after the other.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import IO, Final

from benchmarks import compiled
from deploy import checks, packages
from deploy.home_assistant import install
from tests.conftest import SOAK
from tests.harness import postgres

BESIDE: Final = (
    (
        "tests/cli",
        "tests/config",
        "tests/control",
        "tests/core",
        "tests/deploy",
        "tests/ledger",
        "tests/project",
        "tests/report",
        "tests/e2e/test_compiled.py",
    ),
    (
        "tests/consistency",
        "tests/influxdb",
        "tests/e2e/test_alerts.py",
        "tests/e2e/test_checker.py",
        "tests/e2e/test_console.py",
        "tests/e2e/test_dashboards.py",
        "tests/e2e/test_migration.py",
        "tests/e2e/test_rollout.py",
        "tests/home_assistant",
    ),
)
"""Lanes, each about as long as what runs alone. All of them wait often; with that, one more than there are cores."""
PROGRAMS: Final = {
    "amtool": "prometheus-alertmanager",
    "chromedriver": "chromium-driver",
    "chromium": "chromium",
    "fish": "fish",
    "influxd": "influxdb",
    "node": "nodejs",
    "npm": "npm",
    "promtool": "prometheus",
    "systemd-analyze": "systemd",
    "victoria-metrics": "victoria-metrics",
    "yamllint": "yamllint",
    "zsh": "zsh",
}
LIBRARIES: Final = {"influxdb": "python3-influxdb"}
"""Of Debian's Python. Both: what tests install where it is missing, and its package."""
NETWORK: Final = ("unshare", "--net", "--", "sh", "-c", 'ip link set lo up && exec nice -n 5 "$@"', "sh")
PATIENCE: Final = "240"
"""Seconds for which tests of the control plane wait for what must happen: at that priority a start takes its time."""
PYTEST: Final = (sys.executable, "-m", "pytest", *(["--timeout=900"] if SOAK else []))
"""Twenty times as many examples take their time, beside something else above all."""
OF_LANES: Final = ("--timeout=900", "-p", "no:cacheprovider")
"""What lanes are told besides: the bound of tests that have none of their own; and one cache is not written by all."""
_COUNT: Final = re.compile(r"(\d+) (passed|failed|skipped|errors?|xfailed|xpassed|warnings?|deselected)")


def main(arguments: list[str]) -> int:
    """The exit code: 0 when all passed."""
    if arguments:
        return subprocess.run([*PYTEST, *arguments]).returncode
    begun = time.monotonic()
    network = own_network()
    if network:
        prepare()  # there is no way out of a network of one's own
    with contextlib.ExitStack() as running:
        running.callback(compiled.end)
        begin = [partial(running.enter_context, lane(network, paths)) for paths in BESIDE]
        lanes = [each() for each in begin] if network else []
        ends = [told([*PYTEST, *(f"--ignore={path}" for paths in BESIDE for path in paths)])]
        for index, paths in enumerate(BESIDE):
            ended = (lanes[index] if network else begin[index]()).ended()
            print(f"\n{', '.join(paths)}:")
            sys.stdout.writelines(ended.lines)
            ends.append(ended)
    counts = sum((counted(each.lines) for each in ends), Counter[str]())
    names = ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))
    print(f"==== all: {names or 'no tests ran'} in {time.monotonic() - begun:.0f}s ====", flush=True)
    return next((each.code for each in ends if each.code), 0)


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


class Lane:
    """A process whose words are kept until it has ended."""

    def __init__(self, command: list[str], said: IO[str]) -> None:
        self._said = said
        self.process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)

    def ended(self) -> Told:
        """What it said, once it has ended."""
        code = self.process.wait()
        self._said.seek(0)
        return Told(self._said.readlines(), code)


@contextlib.contextmanager
def lane(network: list[str], paths: Sequence[str]) -> Iterator[Lane]:
    """Tests under these paths, begun; ended by force when it is left before them. network: see `own_network`."""
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        running = Lane([*network, "env", f"CROSSFADE_PATIENCE={PATIENCE}", *PYTEST, *OF_LANES, *paths], said)
        try:
            yield running
        finally:
            if running.process.poll() is None:
                running.process.terminate()
                running.process.wait()


def own_network() -> list[str]:
    """The beginning of a command that runs in a network of its own; empty when there is no way to make one."""
    try:
        can_be_made = subprocess.run([*NETWORK, "true"], capture_output=True).returncode == 0
    except OSError:
        return []
    return list(NETWORK) if can_be_made else []


def prepare() -> None:
    """Install what tests need that is no package of Python, while the wheel is made.

    Raises RuntimeError, InstallError or CalledProcessError when that fails.
    """
    compiled.prepare()
    compiled.begin()
    for name, package in PROGRAMS.items():
        packages.program(name, package)
    for name, package in LIBRARIES.items():
        packages.library(name, package)
    checks.prepare()
    postgres.prepare()
    if install.runs_here():
        install.prepare()


def counted(lines: list[str]) -> Counter[str]:
    """The figures of pytest's last line."""
    last = next((line for line in reversed(lines) if _COUNT.search(line) and " in " in line), "")
    return Counter({name: int(number) for number, name in _COUNT.findall(last)})


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
