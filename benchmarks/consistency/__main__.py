"""`python -m benchmarks.consistency`: measure, print, keep, judge.

Exit codes: 0 measured · 1 the run failed, or a target was missed under --strict · 2 usage.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.consistency import children, inputs, points, windows
from benchmarks.consistency.children import Took
from benchmarks.consistency.inputs import Inputs
from benchmarks.processes import BenchmarkFailed
from benchmarks.report import MIB, Target

RESULTS: Final = Path(__file__).parents[1] / "results"
CASES: Final = ("bulk", "peer", "windows", "spill", "points")
BULK_BOUND: Final = 2e6
RSS_BOUND: Final = 2**30
PEER_BOUND: Final = 5.0
WINDOWS_BOUND: Final = 100_000
POINTS_BOUND: Final = 1e6


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line; argparse ends the process with 2 for a wrong one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.consistency", description="What checking costs.")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything: a smoke test")
    parser.add_argument("--rows", type=int, default=10_000_000, metavar="N", help="rows of each side in bulk")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="rounds of each")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), help="some of the cases")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a target is missed")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where the file goes")
    options = parser.parse_args(arguments)
    options.scale = 10 if options.quick else 1
    return options


class Run:
    """One run of the chosen cases. figures: everything that was measured, for the file."""

    def __init__(self, options: argparse.Namespace, directory: Path) -> None:
        self._options = options
        self._directory = directory
        self.targets: list[Target] = []
        self.figures: dict[str, Any] = {}

    def __call__(self) -> None:
        """Measure all that was asked for."""
        for case in self._options.only:
            print(f"measuring {case}", file=sys.stderr, flush=True)
            getattr(self, f"_{case}")()

    def _bulk(self) -> None:
        """Two files of ten columns, from the command to the named rows."""
        made = inputs.make(self._directory / "bulk", self._options.rows // self._options.scale)
        rounds = [_sound(children.checker(made), made) for _ in range(self._options.rounds)]
        rate = median(made.rows / each.seconds for each in rounds)
        rss = max(each.rss for each in rounds)
        self.figures["bulk"] = {
            "rows": made.rows,
            "columns": 10,
            "mebibytes": round(made.mebibytes, 1),
            "rows_per_second_and_side": [round(made.rows / each.seconds) for each in rounds],
            "processor_us_per_row": round(median(each.processor for each in rounds) / made.rows * 1e6, 3),
            "rss_mebibytes": round(rss / MIB),
        }
        self._target(f"bulk, {made.rows:,} x 10", f"{rate / 1e6:.2f} M rows/s per side", ">= 2 M", rate >= BULK_BOUND)
        self._target("bulk, memory", f"{rss / MIB:.0f} MiB", "< 1 GiB", rss < RSS_BOUND)
        self._target(f"one lost of {made.rows:,}", f"named, and {inputs.DIFFERENT} different", "named", True)

    def _peer(self) -> None:
        """datacompy with polars, on the same files, in turns: without its reading, and without the start of either."""
        made = inputs.make(self._directory / "peer", self._options.rows // 2 // self._options.scale)
        ours: list[float] = []
        theirs: list[float] = []
        processor: list[float] = []
        for _ in range(self._options.rounds):
            our, their = _sound(children.checker(made), made), children.datacompy(made)
            if (their.said["lost"], set(their.said["different"])) != ([made.lost], set(made.different)):
                raise BenchmarkFailed(f"datacompy found something else: {their.said}")
            ours.append(our.said["duration_s"])
            theirs.append(their.said["compare_s"])
            processor.append(their.processor / our.processor)
        ratio = median(their / our for our, their in zip(ours, theirs, strict=True))
        self.figures["peer"] = {
            "rows": made.rows,
            "our_seconds_with_reading": [round(each, 2) for each in ours],
            "datacompy_seconds_without_reading": [round(each, 2) for each in theirs],
            "processor_ratio": round(median(processor), 1),
        }
        self._target("beside datacompy (polars)", f"{ratio:.1f} x its rate", ">= 5 x", ratio >= PEER_BOUND)

    def _windows(self) -> None:
        """Live windows, by processor time of the one core."""
        events = 100_000 // self._options.scale
        rates = [windows.pairs_per_second(events) for _ in range(self._options.rounds)]
        rate = median(rates)
        self.figures["windows"] = {"events": events, "pairs_per_second": [round(each) for each in rates]}
        self._target("live windows", f"{rate:,.0f} pairs/s of a core", f">= {WINDOWS_BOUND:,}", rate >= WINDOWS_BOUND)

    def _spill(self) -> None:
        """One window that is too large for memory, row by row."""
        made = inputs.make(self._directory / "spill", self._options.rows // 10 // self._options.scale)
        took = _sound(children.checker(made, is_full=True), made)
        self.figures["spill"] = {
            "rows": made.rows,
            "rows_per_second_and_side": round(made.rows / took.seconds),
            "rss_mebibytes": round(took.rss / MIB),
        }
        rate = f"{took.rss / MIB:.0f} MiB at {made.rows / took.seconds / 1e3:.0f} k rows/s per side"
        self._target(f"one window of {made.rows:,} x 10, row by row", rate, "< 1 GiB", took.rss < RSS_BOUND)

    def _points(self) -> None:
        """Fingerprints of InfluxDB."""
        found = [
            points.measure(self._directory / f"points {number}", 1_000_000 // self._options.scale)
            for number in range(self._options.rounds)
        ]
        rate = median(each.fingerprints for each in found)
        self.figures["points"] = {
            "points": found[0].points,
            "fingerprints_per_second": [round(each.fingerprints) for each in found],
            "rows_per_second": [round(each.rows) for each in found],
        }
        text = f"{rate / 1e6:.2f} M points/s, row by row {median(each.rows for each in found) / 1e6:.2f} M"
        self._target("InfluxDB 1.6.7, fingerprints", text, ">= 1 M points/s", rate >= POINTS_BOUND)

    def _target(self, name: str, measured: str, bound: str, met: bool) -> None:
        self.targets.append(Target(name, measured, bound, met))


def _sound(took: Took, made: Inputs) -> Took:
    """What was found must be what was done to the files, or the time says nothing."""
    found = {each["identity"]: each["class"] for each in took.said["findings"]}
    if found != {made.lost: "unrecorded"} | dict.fromkeys(made.different, "different"):
        raise BenchmarkFailed(f"the checker found something else: {took.said}")
    return took


def main(arguments: list[str]) -> int:
    """The exit code."""
    options = parse_arguments(arguments)
    with tempfile.TemporaryDirectory(prefix="cf-") as directory:
        run = Run(options, Path(directory))
        try:
            run()
        except BenchmarkFailed as error:
            print(f"FAILED: {error}", file=sys.stderr)
            return 1
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "consistency.json").write_text(json.dumps(run.figures, indent=1) + "\n")
    width = max(len(target.name) for target in run.targets)
    for target in run.targets:
        print(
            f"{target.name:<{width}}  {target.measured}  (target {target.bound}: {'met' if target.met else 'MISSED'})"
        )
    return 1 if options.strict and not all(target.met for target in run.targets) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
