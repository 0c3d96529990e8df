"""`make bench-lifecycle`: reloads, upgrades, kills, other worker counts, drains, and the proxy put in and taken out,
all under load, and what clients noticed.
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

import msgspec

from benchmarks import compiled
from benchmarks.lifecycle import insertion
from benchmarks.lifecycle.figures import Seen, drain_targets, moved_targets, targets
from benchmarks.lifecycle.held import GRACE, HeldInstance
from benchmarks.lifecycle.measure import Traffic, measure
from benchmarks.lifecycle.switches import SWITCHES, drain
from benchmarks.processes import BenchmarkFailed
from benchmarks.report import Target
from proxy.core.errors import CrossfadeError
from proxy.demo.instance import Instance

RESULTS: Final = Path(__file__).parents[1] / "results"
TIMES: Final = {"reloads": (200, 5), "upgrades": (50, 2), "kills": (50, 3), "counts": (50, 4), "drains": (50, 2)}
"""In the full form, and quick."""
TRAFFIC: Final = (Traffic(3_000, 64, 1_000, 500), Traffic(300, 16, 50, 25))
INSERTION: Final = "insertion"
CASES: Final = (*SWITCHES, INSERTION)


async def run(cases: list[str], form: int, kept: dict[str, Any]) -> list[Target]:
    """One case after the other, each with an instance of its own. form: 1 for the quick one; kept: gets the figures."""
    found = []
    for case in cases:
        print(f"measuring {case}", file=sys.stderr, flush=True)
        kept[case], judged = await _measured(case, form)
        for target in judged:
            print(target.line(), flush=True)
            found.append(target)
    return found


async def _measured(case: str, form: int) -> tuple[dict[str, Any], list[Target]]:
    """Its figures as JSON has them, and what they are held against."""
    if case == INSERTION:
        moved = await asyncio.to_thread(insertion.apart, (insertion.FULL, insertion.QUICK)[form])
        return msgspec.structs.asdict(moved), moved_targets(moved)
    is_drain = SWITCHES[case] is drain
    seen = await measure(SWITCHES[case], TIMES[case][form], TRAFFIC[form], HeldInstance if is_drain else Instance)
    return _told(seen), drain_targets(seen, GRACE) if is_drain else targets(case, seen)


def _told(seen: Seen) -> dict[str, Any]:
    return seen._asdict() | {"spans": [span.ended - span.began for span in seen.spans]}


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line; argparse ends the process with 2 for a wrong one."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.lifecycle", description="What clients notice of switches."
    )
    parser.add_argument("--quick", action="store_true", help="fewer switches, a tenth of the events")
    parser.add_argument("--only", nargs="+", choices=CASES, metavar="NAME", help=f"some of {', '.join(CASES)}")
    parser.add_argument("--plain", action="store_true", help="the checkout, not the compiled wheel")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a target is missed")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where the file goes")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """The exit code."""
    options = parse_arguments(arguments)
    kept: dict[str, Any] = {}
    try:
        if not options.plain:
            os.environ["PYTHONPATH"] = str(compiled.build())
        found = asyncio.run(run(options.only or list(CASES), int(options.quick), kept))
    except (BenchmarkFailed, CrossfadeError, TimeoutError, subprocess.CalledProcessError) as failure:
        print(f"FAILED: {failure}", file=sys.stderr)
        return 1
    finally:
        options.results.mkdir(parents=True, exist_ok=True)
        machine = {"is_quick": options.quick, "is_compiled": not options.plain, "cores": os.cpu_count()}
        machine |= {"python": platform.python_version(), "kernel": platform.release()}
        (options.results / "lifecycle.json").write_text(json.dumps(machine | {"cases": kept}, indent=1) + "\n")
    return 1 if options.strict and not all(target.met for target in found) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
