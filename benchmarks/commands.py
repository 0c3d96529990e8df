"""What a person waits for: a weight change that every worker follows, and the command line's start."""

from __future__ import annotations

import statistics
import subprocess
import threading
import time
from typing import Final, NamedTuple

from benchmarks import measure_wrk
from benchmarks.peers import PROXYCTL, Proxy
from benchmarks.processes import BenchmarkFailed

PAUSE: Final = 0.05
"""Seconds between two weight changes."""


class WeightResult(NamedTuple):
    """Seconds until all workers had applied a change, under full load; requests, errors: what clients saw of it."""

    changes: int
    requests: int
    median: float
    worst: float
    errors: int


def change_weights(proxy: Proxy, *, changes: int, core: int) -> WeightResult:
    """Move the weight up and down while wrk loads the proxy with all its connections."""
    if proxy.admin is None:
        raise BenchmarkFailed(f"{proxy.name} has no weight to change")
    seconds = round(changes * PAUSE * 2) + 3
    results: list[measure_wrk.WrkResult] = []

    def load() -> None:
        results.append(measure_wrk.run(proxy.port, seconds=seconds, core=core))

    thread = threading.Thread(target=load, daemon=True)
    thread.start()
    taken = []
    for number in range(changes):
        time.sleep(PAUSE)
        if not thread.is_alive():
            raise BenchmarkFailed(f"the load ended after {number} of {changes} weight changes")
        taken.append(proxy.admin.set_weight(10.0 + number * 37 % 80))
    thread.join()
    if not results:
        raise BenchmarkFailed("wrk failed under the weight changes")
    return WeightResult(changes, results[0].requests, statistics.median(taken), max(taken), results[0].errors)


def help_seconds(*, times: int) -> float:
    """Median wall time of `proxyctl --help` once the files are in the page cache."""
    taken = []
    for number in range(times + 3):
        start = time.perf_counter()
        subprocess.run([str(PROXYCTL), "--help"], check=True, stdout=subprocess.DEVNULL)
        if number >= 3:
            taken.append(time.perf_counter() - start)
    return statistics.median(taken)
