"""`python -m benchmarks.paired BASE`: is this checkout cheaper than another one, by how much?

    git worktree add ../base COMMIT && make -C ../base wheel
    python -m benchmarks.paired ../base/build/compiled

Both wheels in turn, A B A B, with the same load on the same cores. What is compared are the pairs: each round of ours
with the round of the base beside it, so that a slow minute of the machine takes part in both.

Exit codes: 0 measured · 1 the run failed · 2 usage.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks import compiled, rounds
from benchmarks.bench import FULL, Bench, say
from benchmarks.peers import Proxy
from benchmarks.processes import BenchmarkFailed
from benchmarks.rounds import Round
from benchmarks.websocket import cost
from benchmarks.websocket.cost import Window

WORKS: Final[dict[str, dict[str, Any]]] = {
    "split": {"stage": "split", "weight": 25},
    "split-carried": {"stage": "split", "weight": 25, "carry_over": True},
    "dual": {"stage": "dualwrite"},
    "dual-204": {"stage": "dualwrite", "empty": True},
}
WINDOWS: Final = {"window-32": Window(32), "window-1": Window(1)}


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line; argparse ends the process with 2 for a wrong one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paired", description="This checkout beside another.")
    parser.add_argument("base", type=Path, metavar="BASE", help="the other one's build/compiled")
    parser.add_argument("--only", nargs="+", choices=[*WORKS, *WINDOWS], default=["split", "dual"], metavar="WORK")
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="pairs of rounds")
    parser.add_argument("--seconds", type=int, default=3, metavar="S", help="length of a round")
    return parser.parse_args(arguments)


def measure(bench: Bench, work: str, codes: dict[str, Path]) -> dict[str, list[Round]]:
    """The rounds of each, in the same order."""
    if work in WINDOWS:
        return _measure_messages(bench, WINDOWS[work], codes)
    with bench.peers() as (peers, old, new):
        proxies = [peers.crossfade(name, code=code, **WORKS[work]) for name, code in codes.items()]

        def one(proxy: Proxy, seconds: float) -> Round:
            return rounds.measure(proxy, old, new, seconds=seconds, core=bench.load_core)

        return rounds.in_turn(proxies, one, rounds=bench.amounts.rounds, seconds=bench.amounts.seconds)


def _measure_messages(bench: Bench, window: Window, codes: dict[str, Path]) -> dict[str, list[Round]]:
    with bench.session_peers() as (peers, old, new, directory):
        proxies = [peers.crossfade(name, code=code) for name, code in codes.items()]
        one = cost.measuring(old, new, window, core=bench.load_core, directory=directory)
        return rounds.in_turn(proxies, one, rounds=bench.amounts.rounds, seconds=bench.amounts.seconds)


def line(work: str, base: list[Round], ours: list[Round]) -> str:
    """What a person wants to know of it: the median of the pairs' ratios, and where most of them lie."""
    ratios = sorted(our.cpu_us / its.cpu_us for our, its in zip(ours, base, strict=True))
    quarter = len(ratios) // 4
    spread = f"{ratios[quarter] - 1:+.1%} to {ratios[-1 - quarter] - 1:+.1%}"
    roles = ", ".join(f"{name} {_role(base, name):.1f} -> {_role(ours, name):.1f}" for name in base[0].by_role)
    return f"{work}: {median(ratios) - 1:+.1%} CPU time per event (half of the pairs: {spread}); {roles} µs"


def _role(taken: list[Round], name: str) -> float:
    return median(one.by_role[name] for one in taken)


def main(arguments: list[str]) -> int:
    """The exit code."""
    options = parse_arguments(arguments)
    amounts = FULL._replace(rounds=options.rounds, seconds=options.seconds)
    with tempfile.TemporaryDirectory(prefix="cf-bench-", ignore_cleanup_errors=True) as directory:
        bench = Bench(Path(directory), amounts)
        try:
            codes = {"base": options.base.resolve(strict=True), "ours": compiled.build()}
            # Clients and backends of sessions read frames by the compiled reader, too.
            os.environ["PYTHONPATH"] = str(codes["ours"])
            os.sched_setaffinity(0, {bench.load_core})
            for work in options.only:
                say(work)
                taken = measure(bench, work, codes)
                print(line(work, taken["base"], taken["ours"]), flush=True)
        except (BenchmarkFailed, OSError) as failure:
            say(f"failed: {failure}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
