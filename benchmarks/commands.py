"""What a person waits for: a weight change that every worker follows, and the command line's start."""

from __future__ import annotations

import http.client
import os
import statistics
import subprocess
import sysconfig
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks import measure_wrk
from benchmarks.compiled import COMPILED, ROOT
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


class StartResult(NamedTuple):
    """Medians in seconds.

    ready, first_answer: from `proxyctl run` on; help, help_cold: of `proxyctl --help`, its files in memory or not.
    """

    starts: int
    ready: float
    first_answer: float
    help: float
    help_cold: float


def start(begin: Callable[[], Proxy], *, starts: int) -> StartResult:
    """Start so many instances one after the other. begin: starts one and returns as soon as it answers an event."""
    ready, answered = [], []
    for _ in range(starts):
        begun = time.perf_counter()
        proxy = begin()
        ready.append(time.perf_counter() - begun)
        _first_event(proxy.port)
        answered.append(time.perf_counter() - begun)
        proxy.started.stop()
    return StartResult(
        starts, statistics.median(ready), statistics.median(answered), _help(times=20), _help_cold(times=starts)
    )


def _first_event(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", "/api/v1/events", b'{"entity_id":"a","context":{"id":"first"}}')
        status = connection.getresponse().status
    finally:
        connection.close()
    if status != 200:
        raise BenchmarkFailed(f"the first event was answered {status}")


def _help_once() -> float:
    begun = time.perf_counter()
    subprocess.run([str(PROXYCTL), "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def _help(*, times: int) -> float:
    """Median wall time once the files are in the page cache."""
    return statistics.median([_help_once() for _ in range(times + 3)][3:])


def _help_cold(*, times: int) -> float:
    """As after a boot: Python's and the environment's files are read from the disk again."""
    taken = []
    for _ in range(times):
        for folder in (
            Path(sysconfig.get_path("stdlib")),
            Path(sysconfig.get_path("purelib")),
            COMPILED,
            ROOT / "proxy",
        ):
            forget(folder)
        taken.append(_help_once())
    return statistics.median(taken)


def forget(folder: Path) -> None:
    """Let the kernel forget what it holds of the files below; what somebody runs from stays."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)
