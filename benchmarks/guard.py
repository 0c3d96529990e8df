"""`python -m benchmarks.guard`: how soon the guard sees more failures, and how often it sees some that are not there.

Events are drawn with a seed and judged one by one; successes say the same in one portion, so only failures are drawn.
Beside it stands the rule that one would write down first: more than 1 % of the last W events. With `--live` real
processes are measured instead: `benchmarks/live`.

Exit codes: 0 measured · 1 the run failed, or a target was missed under --strict · 2 usage.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from math import log
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.live import run as live
from benchmarks.report import Target
from proxy.core.sequential import OF_ERRORS, OF_MISMATCHES, CountedTest, Counts, ShareTest

RESULTS: Final = Path(__file__).parent / "results"
LIMIT: Final = 0.01
HEALTHY: Final = {0.001: 0, 0.005: 0, 0.008: 0, 0.01: 3}
"""True shares of failures at which nothing may be seen, and in how many of 300 runs it may be all the same."""
MISMATCH_LIMIT: Final = 0.001
MISMATCHED: Final = (0.0002, 0.0005, 0.0008)
"""True shares of mismatches, all below the limit."""
SETTLED: Final = 300
"""Events that the checker has judged from one look to the next."""
MEDIANS: Final = {1.0: 4, 0.3: 17, 0.1: 96, 0.05: 337, 0.03: 1126, 0.02: 3900}
"""True shares, and the median number of events until they were seen, as the design measured it."""
SLOWER: Final = 1.2
WINDOWS: Final = (100, 1000)
"""Events that the naive rule looks back."""


def failures(share: float, chance: random.Random, events: int) -> Iterator[int]:
    """Numbers of the events that fail, of so many."""
    number = 0
    while True:
        if share < 1.0:
            number += int(log(1.0 - chance.random()) / log(1.0 - share))
        if number >= events:
            return
        yield number
        number += 1


def guard_sees(share: float, seed: int, events: int) -> int | None:
    """How many events it takes the guard; None when it sees nothing. One event a second."""
    test = ShareTest(LIMIT, budget=OF_ERRORS)
    done = 0
    for number in failures(share, random.Random(seed), events):
        test.observe(number - done, 0, float(number))
        if test.observe(1, 1, float(number)) is not None:
            return number + 1
        done = number + 1
    return None


def checker_sees(share: float, seed: int, events: int) -> bool:
    """Does it hold the checker's mismatches against new? They come with the windows that it judges."""
    test = CountedTest(MISMATCH_LIMIT, budget=OF_MISMATCHES)
    differ = list(failures(share, random.Random(seed), events))
    found = False
    for settled in range(0, events + 1, SETTLED):
        found = found or test.observe(Counts(float(settled), settled, bisect_left(differ, settled))) is not None
    return found


def rule_sees(share: float, seed: int, events: int, window: int) -> int | None:
    """The same for the rule: more than LIMIT of the last `window` events, from the first whole window on."""
    recent: deque[int] = deque()
    for number in failures(share, random.Random(seed), events):
        recent.append(number)
        while recent[0] <= number - window:
            recent.popleft()
        if number + 1 >= window and len(recent) > LIMIT * window:
            return number + 1
    return None


def measure(runs: int, events: int) -> tuple[dict[str, object], list[Target]]:
    """All figures, and what they are held against."""
    targets = []
    false: dict[str, object] = {}
    for share, most in HEALTHY.items():
        seen = {"guard": sum(guard_sees(share, seed, events) is not None for seed in range(runs))}
        for window in WINDOWS:
            found = [rule_sees(share, seed, events, window) for seed in range(runs)]
            seen[f"last {window}"] = sum(each is not None for each in found)
        false[f"{share:.1%}"] = seen
        text = f"{seen['guard']} ({', '.join(f'{seen[each]} by the {each}' for each in seen if each != 'guard')})"
        name = f"false reverts at {share:.1%}, {runs} runs of {events:,}"
        targets.append(Target(name, text, f"<= {most}", seen["guard"] <= most))
    mismatched: dict[str, object] = {}
    for share in MISMATCHED:
        reverted = sum(checker_sees(share, seed, events) for seed in range(runs))
        mismatched[f"{share:.2%}"] = reverted
        name = f"false reverts for {share:.2%} of mismatches, {runs} runs of {events:,}"
        targets.append(Target(name, str(reverted), "<= 0", not reverted))
    detected: dict[str, object] = {}
    for share, reference in MEDIANS.items():
        enough = 100 * reference + 1000
        took = median(guard_sees(share, seed, enough) or enough for seed in range(runs))
        detected[f"{share:.0%}"] = took
        bound = SLOWER * reference
        name = f"events until {share:.0%} are seen, median"
        targets.append(Target(name, f"{took:g}", f"<= {bound:g}", took <= bound))
    figures = {
        "runs": runs,
        "events": events,
        "false": false,
        "false_of_mismatches": mismatched,
        "events_to_detect": detected,
    }
    return figures | {"us_per_look": round(microseconds(), 2)}, targets


def microseconds() -> float:
    """Processor time of one look, of every report that brings failures."""
    test, count = ShareTest(LIMIT, budget=OF_ERRORS), 50_000
    begun = time.process_time()
    for number in range(count):
        test.observe(50, 1, float(number))
        test.reset()
    return (time.process_time() - begun) / count * 1e6


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line; argparse ends the process with 2 for a wrong one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guard", description="How soon, and how often wrongly.")
    parser.add_argument("--runs", type=int, default=300, metavar="N", help="runs of each share")
    parser.add_argument("--events", type=int, default=100_000, metavar="N", help="events of a healthy run")
    parser.add_argument("--live", action="store_true", help="real processes under load instead, about twenty minutes")
    parser.add_argument("--quick", action="store_true", help="with --live: fewer rounds, a tenth of the events")
    parser.add_argument("--only", nargs="+", choices=live.CASES, metavar="NAME", help=_only_help())
    parser.add_argument("--plain", action="store_true", help="with --live: the checkout, not the compiled wheel")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a target is missed")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where the file goes")
    options = parser.parse_args(arguments)
    if (options.quick or options.only or options.plain) and not options.live:
        parser.error("--quick, --only and --plain go with --live")
    return options


def _only_help() -> str:
    return f"with --live: some of {', '.join(live.CASES)}"


def main(arguments: list[str]) -> int:
    """The exit code."""
    options = parse_arguments(arguments)
    if options.live:
        return live.main(options)
    figures, targets = measure(options.runs, options.events)
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "guard.json").write_text(json.dumps(figures, indent=1) + "\n")
    width = max(len(target.name) for target in targets)
    for target in targets:
        print(target.line(width))
    print(f"{'one look':<{width}}  {figures['us_per_look']} us")
    return 1 if options.strict and not all(target.met for target in targets) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
