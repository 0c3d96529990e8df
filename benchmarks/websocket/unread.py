"""The copy's backend stops reading: how late are acknowledgements, what does it cost in memory, and what is missing?

    healthy rate   ->   SIGSTOP to new   ->   the same rate   ->   SIGCONT   ->   the ledger drains
       p99                                     p99, memory                         every id at both backends?

An acknowledgement is the Pong to a Ping behind a message, and late from when the message was due.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Final

from benchmarks.peers import Proxy
from benchmarks.processes import BenchmarkFailed, rss_bytes, wait_until
from benchmarks.rounds import Cpu
from benchmarks.stalled import StalledResult, compare, drain
from benchmarks.websocket.cost import CONNECTIONS, START_AND_END
from benchmarks.websocket.stand import Done, SessionBackend, clients

RATE: Final = 4_000.0
"""Messages per second, few enough that lateness is not about queues."""
_WATCH_EVERY: Final = 0.25


def run(
    proxy: Proxy, old: SessionBackend, new: SessionBackend, *, seconds: float, core: int, directory: Path
) -> StalledResult:
    """Play the story above with `seconds` of load in each of its two parts."""
    pids = proxy.started.pids()
    parts = Parts(proxy, pids, seconds, core, directory)
    healthy, healthy_cpu, rss_healthy, healthy_ids = parts.load("healthy")
    # A session that new stops in the middle of its end is another story: what it had within its window is sent again.
    wait_until(lambda: not new.sessions(), "the end of the first sessions", timeout=30)
    new.started.signal_all(signal.SIGSTOP)
    try:
        stopped, stopped_cpu, rss_stopped, stopped_ids = parts.load("stopped")
    finally:
        new.started.signal_all(signal.SIGCONT)
    accepted = healthy_ids + stopped_ids
    drain(proxy)
    lost, duplicates = compare(accepted, old.ids_log, new.ids_log)
    return StalledResult(
        RATE,
        len(accepted),
        healthy.p50,
        healthy.p99,
        stopped.p50,
        stopped.p99,
        healthy_cpu,
        stopped_cpu,
        rss_healthy,
        rss_stopped,
        failed=0,  # a session that ends, or a message without its Pong, fails the clients and so the run
        lost=lost,
        duplicates=duplicates,
    )


class Parts:
    """Loads the proxy at a constant rate, once for each part of the story."""

    def __init__(self, proxy: Proxy, pids: frozenset[int], seconds: float, core: int, directory: Path) -> None:
        self._proxy, self._pids = proxy, pids
        self._seconds, self._core, self._directory = seconds, core, directory

    def load(self, name: str) -> tuple[Done, dict[str, float], int, list[str]]:
        """One part; also the CPU time per message, the most memory that was seen, and the acknowledged ids."""
        ids = self._directory / f"{name}.ids"
        cpu, most = Cpu(self._pids), rss_bytes(self._pids)
        arguments = ("--connections", CONNECTIONS, "--rate", RATE, "--seconds", self._seconds, "--ids", ids)
        log = self._directory / f"{name}.log"
        with clients(self._proxy.port, *arguments, core=self._core, log=log) as loading:
            deadline = time.monotonic() + self._seconds + START_AND_END
            while not loading.is_done():
                if time.monotonic() > deadline:
                    raise BenchmarkFailed(f"{self._proxy.name}: the clients did not finish:\n{loading.started.tail()}")
                time.sleep(_WATCH_EVERY)
                most = max(most, rss_bytes(self._pids))
            done = loading.wait(1.0)
            spent = cpu.per_event(max(done.messages, 1))
        return done, spent, most, ids.read_text().split()
