"""`python -m benchmarks`: measure, print, keep, judge.

Exit codes: 0 measured · 1 the run failed, or a target was missed under --strict · 2 usage.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NoReturn

from benchmarks import attacked, commands, compiled, measure_wrk, rounds, stalled
from benchmarks.peers import Backend, Peers, Proxy, cores, nginx_binary
from benchmarks.processes import BenchmarkFailed
from benchmarks.report import Report
from benchmarks.websocket import cost, idle, unread
from benchmarks.websocket.stand import SessionBackend, SessionPeers

RESULTS: Final = Path(__file__).parent / "results"
CASES: Final = ("split", "dual", "stalled", "weight", "help", "websocket", "idle", "unread", "attacked")
OF_SESSIONS: Final = ("websocket", "idle", "unread")
WINDOWS: Final = (32, 1)
"""Messages of each client that are on their way."""


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line; argparse ends the process with 2 for a wrong one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What an event costs, beside nginx.")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 2 s instead of 5 of 6 s: a smoke test")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds per proxy")
    parser.add_argument("--seconds", type=int, metavar="S", help="length of a round")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), help="some of the cases")
    parser.add_argument("--peers", action="store_true", help="nginx alone: what this machine makes of the harness")
    parser.add_argument("--plain", action="store_true", help="the checkout, not the compiled wheel")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a target is missed")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where the files go")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (3 if options.quick else 5)
    options.seconds = options.seconds or (2 if options.quick else 6)
    return options


class Run:
    """One run of the chosen cases on two given cores, with its files below `directory`."""

    def __init__(self, options: argparse.Namespace, directory: Path) -> None:
        self._options = options
        self._directory = directory
        self._proxy_core, self._load_core = cores()
        # The generator runs in this process: beside wrk and the backends, never beside a proxy.
        os.sched_setaffinity(0, {self._load_core})
        self.report = Report(machine(is_plain=options.plain), options.rounds, options.seconds)

    def __call__(self) -> Report:
        """Measure everything that was asked for."""
        for number, case in enumerate(self._options.only):
            say(case)
            if case == "help":
                self.report.help_seconds = None if self._options.peers else commands.help_seconds(times=20)
                continue
            if case == "attacked":
                self._attacked()
                continue
            around = self._with_session_backends if case in OF_SESSIONS else self._with_backends
            around(case, self._directory / str(number))
        return self.report

    def _with_backends(self, case: str, directory: Path) -> None:
        """Fresh backends and proxies for each case, so that none inherits the other's connections or backlog."""
        old = Backend("old", self._load_core, directory / "old")
        try:
            new = Backend("new", self._load_core, directory / "new")
            peers = Peers(directory, old, new, self._proxy_core)
            try:
                getattr(self, f"_{case}")(peers, old, new)
            finally:
                try:
                    peers.stop()
                finally:
                    new.started.stop()
        finally:
            old.started.stop()

    def _split(self, peers: Peers, old: Backend, new: Backend) -> None:
        proxies = [peers.nginx_split()]
        if not self._options.peers:
            proxies.append(peers.crossfade("crossfade split", stage="split", weight=25))
            proxies.append(peers.crossfade("crossfade split, carry-over", stage="split", weight=25, carry_over=True))
        self.report.split = self._alternate(proxies, old, new)

    def _dual(self, peers: Peers, old: Backend, new: Backend) -> None:
        proxies = [peers.nginx_mirror(empty=False)]
        if not self._options.peers:
            proxies.append(peers.crossfade("crossfade dual write", stage="dualwrite"))
            proxies.append(peers.crossfade("crossfade dual write, durability off", stage="dualwrite", durability="off"))
            proxies.append(peers.crossfade("crossfade dual write, answers 204", stage="dualwrite", empty=True))
        proxies.append(peers.nginx_mirror(empty=True))
        self.report.dual = self._alternate(proxies, old, new)

    def _alternate(self, proxies: list[Proxy], old: Backend, new: Backend) -> list[rounds.Summary]:
        options = self._options

        def measure(proxy: Proxy, seconds: float) -> rounds.Round:
            return rounds.measure(proxy, old, new, seconds=seconds, core=self._load_core)

        return rounds.alternate(proxies, measure, rounds=options.rounds, seconds=options.seconds)

    def _stalled(self, peers: Peers, old: Backend, new: Backend) -> None:
        if self._options.peers:
            return
        proxy = peers.crossfade("crossfade dual write", stage="dualwrite")
        full = rounds.measure(proxy, old, new, seconds=self._options.seconds, core=self._load_core)
        rate = full.rate / 2
        self.report.stalled = stalled.run(proxy, old, new, rate=rate, seconds=self._options.seconds * 2)

    def _weight(self, peers: Peers, old: Backend, new: Backend) -> None:
        if self._options.peers:
            return
        proxy = peers.crossfade("crossfade live", stage="live", weight=50)
        self.report.weight = commands.change_weights(proxy, changes=50, core=self._load_core)
        rounds.settle(proxy, self.report.weight.requests)

    def _attacked(self) -> None:
        """On both cores: whatever takes time from one proxy takes it from the one beside it."""
        if self._options.peers:
            return
        os.sched_setaffinity(0, {self._proxy_core, self._load_core})
        try:
            options = self._options
            self.report.attacked = asyncio.run(attacked.compare(rounds=options.rounds, seconds=options.seconds))
        finally:
            os.sched_setaffinity(0, {self._load_core})

    def _with_session_backends(self, case: str, directory: Path) -> None:
        """As `_with_backends`, with backends and proxies of sessions."""
        with ExitStack() as stack:
            old = SessionBackend("old", self._load_core, directory / "old", writes_ids=case == "unread")
            stack.callback(old.started.stop)
            new = SessionBackend("new", self._load_core, directory / "new", writes_ids=case == "unread")
            stack.callback(new.started.stop)
            peers = SessionPeers(directory, old, new, self._proxy_core)
            stack.callback(peers.stop)
            getattr(self, f"_{case}")(peers, old, new, directory)

    def _websocket(self, peers: SessionPeers, old: SessionBackend, new: SessionBackend, directory: Path) -> None:
        proxies = [peers.nginx_tunnel()]
        if not self._options.peers:
            proxies.append(peers.crossfade("crossfade dual write"))
        proxies.append(peers.dual_websockets())
        options, core = self._options, self._load_core
        for window in WINDOWS:

            def measure(proxy: Proxy, seconds: float, window: int = window) -> rounds.Round:
                return cost.measure(proxy, old, new, window=window, seconds=seconds, core=core, directory=directory)

            taken = rounds.alternate(proxies, measure, rounds=options.rounds, seconds=options.seconds)
            self.report.websocket[window] = taken

    def _idle(self, peers: SessionPeers, old: SessionBackend, new: SessionBackend, directory: Path) -> None:
        if self._options.peers:
            return
        with ExitStack() as stack:
            ports = {}
            for name in ("old", "new"):
                backend = Backend(name, self._load_core, directory / f"http-{name}")
                stack.callback(backend.started.stop)
                ports[f"HTTP_{name.upper()}"] = backend.body
            proxy = peers.crossfade("crossfade dual write", "idle.yaml", **ports)
            stack.callback(peers.stop)
            options, core = self._options, self._load_core
            self.report.idle = idle.run(
                proxy, old, new, rounds=options.rounds, seconds=options.seconds, core=core, directory=directory
            )

    def _unread(self, peers: SessionPeers, old: SessionBackend, new: SessionBackend, directory: Path) -> None:
        if self._options.peers:
            return
        proxy = peers.crossfade("crossfade dual write")
        seconds = self._options.seconds * 2
        self.report.unread = unread.run(proxy, old, new, seconds=seconds, core=self._load_core, directory=directory)


def machine(*, is_plain: bool = False) -> dict[str, str]:
    """What the figures depend on."""
    nginx = subprocess.run([nginx_binary(), "-v"], capture_output=True, text=True, check=True).stderr
    model = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    return {
        "CPU": model[0] if model else platform.machine(),
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "crossfade": "plain Python" if is_plain else "compiled wheel",
        "nginx": nginx.rpartition("/")[2].strip(),
    }


def say(text: str) -> None:
    """Progress, for a person who waits."""
    print(f"benchmarks: {text}", file=sys.stderr, flush=True)


def _end(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def main(arguments: list[str]) -> int:
    """Run the benchmark; the exit code."""
    options = parse_arguments(arguments)
    # As an exception, so that everything that was started is ended on the way out.
    signal.signal(signal.SIGTERM, _end)
    with tempfile.TemporaryDirectory(prefix="cf-bench-", ignore_cleanup_errors=True) as directory:
        try:
            measure_wrk.check_installed()
            if not (options.plain or options.peers):
                os.environ["PYTHONPATH"] = str(compiled.build())
            report = Run(options, Path(directory))()
        except (BenchmarkFailed, subprocess.CalledProcessError) as failure:
            say(f"failed: {failure}")
            return 1
    path = report.write(options.results, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()))
    print(report.as_markdown())
    say(f"kept in {path}")
    missed = [target for target in report.targets() if not target.met]
    return 1 if missed and options.strict else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
