"""`python -m benchmarks.sources`: what a source loses, adds and costs, with real processes.

Exit codes: 0 measured · 1 the run failed, or a target was missed under --strict · 2 usage.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from benchmarks import compiled
from benchmarks.processes import BenchmarkFailed
from benchmarks.report import Target
from benchmarks.sources.cases import CASES, FULL, QUICK
from proxy.core.errors import CrossfadeError

RESULTS: Final = Path(__file__).parent.parent / "results"


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line; argparse ends the process with 2 for a wrong one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sources", description="What a source adds and costs.")
    parser.add_argument("--quick", action="store_true", help="a minute or two instead of nine")
    parser.add_argument("--only", nargs="+", choices=CASES, metavar="NAME", help=f"some of {', '.join(CASES)}")
    parser.add_argument("--plain", action="store_true", help="the checkout, not the compiled wheel")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a target is missed")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where the file goes")
    return parser.parse_args(arguments)


async def run(options: argparse.Namespace, targets: list[Target], figures: dict[str, Any]) -> None:
    """One case after the other, each shown as soon as it is measured."""
    for name in options.only or CASES:
        print(f"measuring {name}", file=sys.stderr, flush=True)
        measured = await CASES[name](QUICK if options.quick else FULL)
        figures[name] = measured.figures
        targets += measured.targets
        for target in measured.targets:
            print(target.line(), flush=True)


def main(arguments: list[str]) -> int:
    """The exit code."""
    options = parse_arguments(arguments)
    targets: list[Target] = []
    figures: dict[str, Any] = {}
    try:
        if not options.plain:
            os.environ["PYTHONPATH"] = str(compiled.build())
        asyncio.run(run(options, targets, figures))
    except (BenchmarkFailed, CrossfadeError, TimeoutError, subprocess.CalledProcessError) as failure:
        print(f"FAILED: {failure}", file=sys.stderr)
        return 1
    finally:
        _keep(options, figures)
    return 1 if options.strict and not all(target.met for target in targets) else 0


def _keep(options: argparse.Namespace, figures: dict[str, Any]) -> None:
    """What there is, also of a run that failed or was ended."""
    options.results.mkdir(parents=True, exist_ok=True)
    form = {"is_quick": options.quick, "is_compiled": not options.plain, "cores": os.cpu_count()}
    machine = form | {"python": platform.python_version(), "kernel": platform.release()}
    (options.results / "sources.json").write_text(json.dumps(machine | {"cases": figures}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
