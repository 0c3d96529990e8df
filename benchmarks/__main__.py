"""`python -m benchmarks`: measure, print, keep, judge.

Exit codes: 0 measured · 1 the run failed, or a target was missed under --strict · 2 usage.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, NoReturn

from benchmarks import compiled, measure_wrk
from benchmarks.bench import FULL, QUICK, SMOKE, Amounts, Bench, say
from benchmarks.cases import CASES, WITH_PEERS
from benchmarks.cases import QUICK as QUICK_CASES
from benchmarks.peers import binary, envoy_binary
from benchmarks.processes import BenchmarkFailed
from benchmarks.report import Report

RESULTS: Final = Path(__file__).parent / "results"


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line; argparse ends the process with 2 for a wrong one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What an event costs, beside the peers.")
    much = parser.add_mutually_exclusive_group()
    much.add_argument("--quick", action="store_true", help="the main cases, 3 rounds of 1 s: less than three minutes")
    much.add_argument("--smoke", action="store_true", help="as little as possible of each: whether they work")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds per proxy")
    parser.add_argument("--seconds", type=int, metavar="S", help="length of a round")
    parser.add_argument("--only", nargs="+", choices=list(CASES), metavar="CASE", help=f"some of: {', '.join(CASES)}")
    parser.add_argument("--peers", action="store_true", help="the peers alone: what this machine makes of the harness")
    parser.add_argument("--plain", action="store_true", help="the checkout, not the compiled wheel")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a target is missed")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where the files go")
    options = parser.parse_args(arguments)
    options.only = options.only or list(QUICK_CASES if options.quick else CASES)
    options.amounts = _amounts(options)
    return options


def _amounts(options: argparse.Namespace) -> Amounts:
    usual = SMOKE if options.smoke else QUICK if options.quick else FULL
    return usual._replace(rounds=options.rounds or usual.rounds, seconds=options.seconds or usual.seconds)


def measure(options: argparse.Namespace, directory: Path) -> Report:
    """All cases that were asked for."""
    bench = Bench(directory, options.amounts, with_ours=not options.peers, is_plain=options.plain)
    # The generator runs in this process: beside wrk and the backends, never beside a proxy.
    os.sched_setaffinity(0, {bench.load_core})
    report = Report(machine(is_plain=options.plain), options.amounts.rounds, options.amounts.seconds)
    for case in options.only:
        if options.peers and case not in WITH_PEERS:
            continue
        say(case)
        try:
            report.parts[case] = CASES[case](bench)
        except BenchmarkFailed as failure:  # the others may have their say
            say(f"{case} failed: {failure}")
            report.failed[case] = str(failure).partition("\n")[0]
    return report


def machine(*, is_plain: bool = False) -> dict[str, str]:
    """What the figures depend on."""
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
        "nginx": version(binary("nginx"), "-v"),
        "HAProxy": version(binary("haproxy"), "-v"),
        "Envoy": version(envoy_binary(), "--version"),
    }


def version(*command: str) -> str:
    """The first number with dots that it says of itself."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"\d+\.\d+[.\d]*", (done.stdout + done.stderr).replace(command[0], ""))
    return found[0] if found else "unknown"


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
            report = measure(options, Path(directory))
        except (BenchmarkFailed, subprocess.CalledProcessError) as failure:
            say(f"failed: {failure}")
            return 1
    path = report.write(options.results, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()))
    print(report.as_markdown())
    say(f"kept in {path}")
    missed = [target for target in report.targets() if not target.met]
    return 1 if report.failed or (missed and options.strict) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
