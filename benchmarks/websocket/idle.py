"""Many sessions in which nothing happens: what memory do they take, and do requests beside them feel it?

requests at a fixed rate   ->   the sessions are opened      ->   the same rate   ->   they end; and again
    p99, memory                                                   p99, memory
"""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import uvloop

from benchmarks import load
from benchmarks.peers import Proxy
from benchmarks.processes import BenchmarkFailed, rss_bytes, wait_until
from benchmarks.websocket.stand import SessionBackend, clients

RATE: Final = 2_000.0
"""Requests per second beside them: a tenth of what a core can do, so that p99 is not about queues."""
_OPEN_TIMEOUT: Final = 120.0
_REST: Final = 2.0
"""Seconds after the sessions were opened, or have ended, in which nothing is measured."""


class IdleResult(NamedTuple):
    """Latencies of requests in seconds, medians of the rounds; rss: bytes of all processes, in the first round."""

    sessions: int
    rate: float
    rounds: int
    p50_without: float
    p99_without: float
    p50_with: float
    p99_with: float
    rss_without: int
    rss_with: int
    failed: int

    @property
    def bytes_per_session(self) -> float:
        """Resident memory of all processes that a session takes."""
        return (self.rss_with - self.rss_without) / self.sessions


def run(
    proxy: Proxy,
    old: SessionBackend,
    new: SessionBackend,
    *,
    sessions: int,
    rounds: int,
    seconds: float,
    core: int,
    directory: Path,
) -> IdleResult:
    """Play the story above so many times, with `seconds` of load in each part."""
    pids = proxy.started.pids()
    _load(proxy, seconds)  # for warmth
    without, beside, rss = [], [], []
    for number in range(rounds):
        rss.append(rss_bytes(pids))
        without.append(_load(proxy, seconds))
        log = directory / f"clients{number}.log"
        with clients(proxy.port, "--connections", sessions, core=core, log=log) as waiting:
            done = waiting.wait(_OPEN_TIMEOUT)
            _wait_for_sessions((old, new), done.sessions)
            time.sleep(_REST)
            rss.append(rss_bytes(pids))
            beside.append(_load(proxy, seconds))
            if not waiting.is_done() or min(old.sessions(), new.sessions()) < sessions:
                raise BenchmarkFailed(f"{proxy.name} did not keep {sessions} sessions open")
        _wait_for_sessions((old, new), 0)
        time.sleep(_REST)

    def median(parts: list[load.LoadResult], share: float) -> float:
        return statistics.median(part.quantile(share) for part in parts)

    return IdleResult(
        sessions,
        RATE,
        rounds,
        median(without, 0.5),
        median(without, 0.99),
        median(beside, 0.5),
        median(beside, 0.99),
        rss[0],
        rss[1],
        failed=sum(len(part.failed) for part in without + beside),
    )


def _wait_for_sessions(backends: tuple[SessionBackend, SessionBackend], count: int) -> None:
    def are_there() -> bool:
        return all(backend.sessions() == count for backend in backends)

    wait_until(are_there, f"{count} sessions at both backends", timeout=60)


def _load(proxy: Proxy, seconds: float) -> load.LoadResult:
    work: Any = load.run(proxy.port, rate=RATE, seconds=seconds)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result: load.LoadResult = runner.run(work)
    return result
