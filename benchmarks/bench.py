"""What the cases share: how much is asked for, which cores, and the stands between which proxies are put."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import uvloop

from benchmarks import rounds
from benchmarks.measure_wrk import USUAL, Load
from benchmarks.peers import Backend, Peers, Proxy, cores
from benchmarks.rounds import Round, Summary
from benchmarks.websocket.stand import SessionBackend, SessionPeers

T = TypeVar("T")


class Amounts(NamedTuple):
    """How much of everything.

    seconds: of a round; stall: seconds that a copy's backend is away; outage: events that it is owed; sparse: seconds
    of 17 events a minute; rows: of each side that the checker compares; pairs: how often a healthy load and one in
    trouble are measured beside each other, and how often what a fresh instance takes; is_quick: the main groups of a
    case alone.
    """

    rounds: int
    seconds: int
    stall: int
    outage: int
    clients: int
    sessions: int
    connections: tuple[int, ...]
    sizes: tuple[int, ...]
    changes: int
    sparse: int
    starts: int
    rows: int
    pairs: int
    is_quick: bool


FULL: Final = Amounts(
    rounds=5, seconds=6, stall=10, outage=1_000_000, clients=10_000, sessions=5_000, connections=(1, 64, 1_000, 10_000),
    sizes=(290, 4_096, 65_536), changes=50, sparse=60, starts=5, rows=5_000_000, pairs=5,
    is_quick=False,
)  # fmt: skip
QUICK: Final = FULL._replace(
    rounds=3, seconds=1, stall=3, outage=50_000, changes=20, starts=3, sparse=8, pairs=1, is_quick=True,
)  # fmt: skip
SMOKE: Final = QUICK._replace(
    rounds=1, seconds=2, stall=2, outage=2_000, clients=500, sessions=200, connections=(1, 500), sizes=(290, 65_536),
    changes=5, sparse=4, starts=1, rows=20_000, is_quick=False,
)  # fmt: skip


class Bench:
    """One run. with_ours: whether our proxy takes part; is_plain: whether it is the checkout."""

    def __init__(self, directory: Path, amounts: Amounts, *, with_ours: bool = True, is_plain: bool = False) -> None:
        self.amounts = amounts
        self.with_ours = with_ours
        self.is_plain = is_plain
        self.proxy_core, self.load_core = cores()
        self._directory = directory
        self._made = 0

    @property
    def has_time(self) -> bool:
        """May a case measure more than its main group?"""
        return not self.amounts.is_quick

    def folder(self) -> Path:
        """A new directory."""
        self._made += 1
        made = self._directory / str(self._made)
        made.mkdir()
        return made

    @contextmanager
    def peers(self) -> Iterator[tuple[Peers, Backend, Backend]]:
        """Fresh backends and proxies for each case: none inherits the other's connections or backlog."""
        directory = self.folder()
        with ExitStack() as stack:
            old = Backend("old", self.load_core, directory / "old")
            stack.callback(old.stop)
            new = Backend("new", self.load_core, directory / "new")
            stack.callback(new.stop)
            peers = Peers(directory, old, new, self.proxy_core)
            stack.callback(peers.stop)
            yield peers, old, new

    @contextmanager
    def collector(self) -> Iterator[Backend]:
        """What takes traces and forgets them: an nginx that answers 204."""
        collector = Backend("collector", self.load_core, self.folder() / "collector")
        try:
            yield collector
        finally:
            collector.stop()

    @contextmanager
    def session_peers(
        self, *, writes_ids: bool = False
    ) -> Iterator[tuple[SessionPeers, SessionBackend, SessionBackend, Path]]:
        """As `peers`, with backends and proxies of sessions; also a directory for what the clients write."""
        directory = self.folder()
        with ExitStack() as stack:
            old = SessionBackend("old", self.load_core, directory / "old", writes_ids=writes_ids)
            stack.callback(old.started.stop)
            new = SessionBackend("new", self.load_core, directory / "new", writes_ids=writes_ids)
            stack.callback(new.started.stop)
            peers = SessionPeers(directory, old, new, self.proxy_core)
            stack.callback(peers.stop)
            yield peers, old, new, directory

    def alternate(self, proxies: Sequence[Proxy], old: Backend, new: Backend, load: Load = USUAL) -> list[Summary]:
        """All of them in turn, so many rounds."""

        def measure(proxy: Proxy, seconds: float) -> Round:
            return rounds.measure(proxy, old, new, seconds=seconds, core=self.load_core, load=load)

        return self.in_turn(proxies, measure)

    def in_turn(self, proxies: Sequence[Proxy], measure: Callable[[Proxy, float], Round]) -> list[Summary]:
        """As `rounds.alternate`, as much as is asked for."""
        return rounds.alternate(proxies, measure, rounds=self.amounts.rounds, seconds=self.amounts.seconds)

    def full_rate(self, proxy: Proxy, old: Backend, new: Backend) -> float:
        """Events per second that it takes."""
        return rounds.measure(proxy, old, new, seconds=self.amounts.seconds, core=self.load_core).rate


def on_uvloop(work: Coroutine[Any, Any, T]) -> T:
    """Run it to its end."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def say(text: str) -> None:
    """Progress, for a person who waits."""
    print(f"benchmarks: {text}", file=sys.stderr, flush=True)
