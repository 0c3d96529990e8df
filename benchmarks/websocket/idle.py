"""Many sessions in which nothing happens: what memory do they take, and do requests beside them feel it?

requests at a fixed rate:  alone  ->  beside the sessions  ->  beside as many connections  ->  and again, the last
                                                               that are not the proxy's        two in another order

Connections cost the kernel, and whatever looks over all of a machine's sockets now and then (an exporter, an agent), no
matter whose they are. So what the proxy's own do to requests shows beside the same number of others, and in the CPU
time that a request takes with them and without.
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
from benchmarks.processes import BenchmarkFailed, cpu_seconds, rss_bytes, wait_until
from benchmarks.websocket.stand import Clients, SessionBackend, clients

RATE: Final = 2_000.0
"""Requests per second beside them: a tenth of what a core can do, so that p99 is not about queues."""
_PER_SESSION: Final = 3
"""Connections: the client's, and one to each backend."""
_OPEN_TIMEOUT: Final = 120.0
_REST: Final = 2.0
"""Seconds after connections were opened, or have ended, in which nothing is measured."""


class Requests(NamedTuple):
    """Those of one part of a round. p50, p99: seconds; cpu: seconds of all of the proxy's processes, of each."""

    p50: float
    p99: float
    cpu: float
    failed: int


class IdleResult(NamedTuple):
    """What was seen, by round. rss: bytes of all processes, in the first one; others: beside connections of others."""

    sessions: int
    rate: float
    alone: list[Requests]
    others: list[Requests]
    beside: list[Requests]
    rss_without: int
    rss_with: int

    @property
    def bytes_per_session(self) -> float:
        """Resident memory of all processes that a session takes."""
        return (self.rss_with - self.rss_without) / self.sessions

    @property
    def later(self) -> float:
        """Seconds by which p99 is later beside the sessions than beside connections of others: median of the rounds."""
        return statistics.median(
            beside.p99 - others.p99 for beside, others in zip(self.beside, self.others, strict=True)
        )

    @property
    def dearer(self) -> float:
        """CPU time of a request beside the sessions, over that of one alone: median of the rounds."""
        return statistics.median(beside.cpu / alone.cpu for beside, alone in zip(self.beside, self.alone, strict=True))

    @property
    def failed(self) -> int:
        """Requests."""
        return sum(part.failed for part in (*self.alone, *self.others, *self.beside))


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
    _load(proxy, pids, seconds)  # for warmth
    alone: list[Requests] = []
    others: list[Requests] = []
    beside: list[Requests] = []
    rss: list[int] = []

    def with_others(number: int) -> None:
        with stand.others(_PER_SESSION * sessions, number):
            others.append(_load(proxy, pids, seconds))

    def with_sessions(number: int) -> None:
        with stand.sessions(sessions, number):
            rss.append(rss_bytes(pids))
            beside.append(_load(proxy, pids, seconds))

    for number in range(rounds):
        rss.append(rss_bytes(pids))
        alone.append(_load(proxy, pids, seconds))
        parts = (with_sessions, with_others) if number % 2 == 0 else (with_others, with_sessions)
        for part in parts:
            part(number)
    return IdleResult(sessions, RATE, alone, others, beside, rss_without=rss[0], rss_with=rss[1])


def _load(proxy: Proxy, pids: frozenset[int], seconds: float) -> Requests:
    work: Any = load.run(proxy.port, rate=RATE, seconds=seconds)
    before = cpu_seconds(pids)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found: load.LoadResult = runner.run(work)
    cpu = (cpu_seconds(pids) - before) / max(1, found.answers)
    return Requests(found.quantile(0.5), found.quantile(0.99), cpu, len(found.failed))
