"""Many sessions in which nothing happens: what memory do they take, and do requests beside them feel it?

requests at a fixed rate:   alone   ->   beside as many connections   ->   beside the sessions   ->   and again
                                         that are not the proxy's

Connections cost the kernel, and whatever looks over all of a machine's sockets now and then (an exporter, an agent), no
matter whose they are. So what the proxy's own do to requests shows beside the same number of others.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import uvloop

from benchmarks import load
from benchmarks.peers import Proxy
from benchmarks.processes import BenchmarkFailed, rss_bytes, wait_until
from benchmarks.websocket.stand import Clients, SessionBackend, clients

RATE: Final = 2_000.0
"""Requests per second beside them: a tenth of what a core can do, so that p99 is not about queues."""
_PER_SESSION: Final = 3
"""Connections: the client's, and one to each backend."""
_OPEN_TIMEOUT: Final = 120.0
_REST: Final = 2.0
"""Seconds after connections were opened, or have ended, in which nothing is measured."""


class Latency(NamedTuple):
    """Latencies of requests in seconds, medians of the rounds; failed: requests, of all rounds."""

    p50: float
    p99: float
    failed: int

    @classmethod
    def of(cls, parts: list[load.LoadResult]) -> Latency:
        """Of one load per round."""
        p50, p99 = (statistics.median(part.quantile(share) for part in parts) for share in (0.5, 0.99))
        return cls(p50, p99, sum(len(part.failed) for part in parts))


class IdleResult(NamedTuple):
    """What was seen. rss: bytes of all processes, in the first round; others: beside connections of others."""

    sessions: int
    rate: float
    rounds: int
    alone: Latency
    others: Latency
    beside: Latency
    rss_without: int
    rss_with: int

    @property
    def bytes_per_session(self) -> float:
        """Resident memory of all processes that a session takes."""
        return (self.rss_with - self.rss_without) / self.sessions

    @property
    def failed(self) -> int:
        """Requests."""
        return self.alone.failed + self.others.failed + self.beside.failed


class _Stand(NamedTuple):
    """What stands around the proxy; each clients' process is on `core` and has its log in `directory`."""

    proxy: Proxy
    backends: tuple[SessionBackend, SessionBackend]
    core: int
    directory: Path

    @contextmanager
    def sessions(self, count: int, number: int) -> Iterator[None]:
        """So many through the proxy, as long as this lasts; number: of the round."""
        with self._open({self.proxy.port: count}, f"sessions{number}"):
            self._wait_for((count, count))
            time.sleep(_REST)
            yield
            if min(backend.sessions() for backend in self.backends) < count:
                raise BenchmarkFailed(f"{self.proxy.name} did not keep {count} sessions open")
        self._rest()

    @contextmanager
    def others(self, count: int, number: int) -> Iterator[None]:
        """So many connections past the proxy, half of them to each backend."""
        halves = (count // 2, count - count // 2)
        ports = (backend.port for backend in self.backends)
        with self._open(dict(zip(ports, halves, strict=True)), f"others{number}"):
            self._wait_for(halves)
            time.sleep(_REST)
            yield
        self._rest()

    @contextmanager
    def _open(self, counts: dict[int, int], name: str) -> Iterator[None]:
        with ExitStack() as stack:
            waiting: list[Clients] = []
            for port, count in counts.items():
                log = self.directory / f"{name}-{port}.log"
                waiting.append(stack.enter_context(clients(port, "--connections", count, core=self.core, log=log)))
            for one in waiting:
                one.wait(_OPEN_TIMEOUT)
            yield
            if not all(one.is_done() for one in waiting):
                raise BenchmarkFailed(f"the clients of {name} did not stay")

    def _rest(self) -> None:
        self._wait_for((0, 0))
        time.sleep(_REST)

    def _wait_for(self, counts: tuple[int, int]) -> None:
        def are_there() -> bool:
            return tuple(backend.sessions() for backend in self.backends) == counts

        wait_until(are_there, f"{counts} sessions at the backends", timeout=60)


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
    stand, pids = _Stand(proxy, (old, new), core, directory), proxy.started.pids()
    _load(proxy, seconds)  # for warmth
    alone, others, beside, rss = [], [], [], []
    for number in range(rounds):
        rss.append(rss_bytes(pids))
        alone.append(_load(proxy, seconds))
        with stand.others(_PER_SESSION * sessions, number):
            others.append(_load(proxy, seconds))
        with stand.sessions(sessions, number):
            rss.append(rss_bytes(pids))
            beside.append(_load(proxy, seconds))
    latencies = Latency.of(alone), Latency.of(others), Latency.of(beside)
    return IdleResult(sessions, RATE, rounds, *latencies, rss_without=rss[0], rss_with=rss[1])


def _load(proxy: Proxy, seconds: float) -> load.LoadResult:
    work: Any = load.run(proxy.port, rate=RATE, seconds=seconds)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result: load.LoadResult = runner.run(work)
    return result
