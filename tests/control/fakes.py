"""Fakes of the processes around a supervisor: workers and a ledger that speak the control link, and a whole plane.

They use the real client end of the link, so what they prove holds for the real processes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp

from config.model import Settings
from proxy.control.inherit import Inherited, places_of
from proxy.control.link import (
    AnsweredPairs,
    Applied,
    Ask,
    BackendHealth,
    BackendRecovered,
    CheckerStats,
    Drain,
    FromSupervisor,
    LedgerStats,
    Register,
    Reply,
    Requests,
    SetFaults,
    SetRouting,
    SetSettings,
    SideStats,
    WorkerStats,
)
from proxy.control.link_client import LinkClient
from proxy.control.supervisor import Supervisor
from proxy.core.answers import AnsweredPair
from proxy.core.checked import CheckStats, Trial
from proxy.core.drill import Fault
from proxy.core.owed import STATE_NAMES
from proxy.core.sketch import Sketch
from proxy.ledger import marks
from tests.control.helpers import eventually


class Clock:
    """Time that stands still unless a test moves it."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def requests(
    side: int = 1, role: str = "authority", *, route: str = "events", latency: float = 0.004, **classes: int
) -> Requests:
    """Answers of one series; classes such as ok=90, failed=10 (503s), error=1, refused=2 (4xx)."""
    names = {"ok": "2xx", "failed": "5xx", "error": "error", "refused": "4xx"}
    sketch = Sketch()
    sketch.add(latency)
    (index,) = sketch.buckets
    counts = {names[name]: count for name, count in classes.items()}
    return Requests(route, side, ("old", "new")[side], role, counts, {index: sum(counts.values())})


def worker_stats(**changes: Any) -> WorkerStats:
    """A worker's figures, all zero unless given."""
    given: dict[str, Any] = {
        "epoch": 1,
        "accepted": {},
        "chosen": {},
        "requests": [],
        "breakers": {"old": "closed", "new": "closed"},
        "open_connections": {},
        "clients": 0,
        "in_flight": 0,
        "counters": {},
        "rss_bytes": 1,
    }
    return WorkerStats(**(given | changes))


def balance(**counts: int) -> dict[str, int]:
    """A balance that adds up."""
    return dict.fromkeys(STATE_NAMES[1:], 0) | counts | {"owed": sum(counts.values())}


def ledger_stats(old: dict[str, int] | None = None, new: dict[str, int] | None = None, **changes: Any) -> LedgerStats:
    """A ledger's figures of one route."""
    given: dict[str, Any] = {
        "epoch": 1,
        "sides": [
            SideStats("events", side, ("old", "new")[side], each or balance(), 0.0, 0)
            for side, each in enumerate((old, new))
        ],
        "receipts": 0,
        "commits": 0,
        "commit_p99": 0.001,
        "segments": 1,
        "bytes_on_disk": 4096,
        "disk_free": 10**9,
        "low_disk": False,
        "gaps": 0,
        "counters": {},
    }
    return LedgerStats(**(given | changes))


class FakeWorker:
    """Registers, applies every routing (unless told not to) and reports what it is given."""

    def __init__(
        self, path: Path, index: int, life: str = "", *, kind: str = "worker", applies: bool = True, since: float = 0.0
    ) -> None:
        self.index = index
        self.applies = applies
        self.routings: list[SetRouting] = []
        self.health: list[BackendHealth] = []
        self.recovered: list[list[str]] = []
        self.faults: list[dict[str, Fault]] = []
        self.pairs: list[AnsweredPair] = []
        self.settings: list[SetSettings] = []
        self.drains: list[Drain] = []
        self.register = Register(kind, index, os.getpid(), life or f"{kind}-{index}", since)
        self.link = LinkClient(path, self.register, self.take)

    def take(self, message: FromSupervisor) -> None:
        match message:
            case SetRouting(routing):
                self.routings.append(message)
                if self.applies:
                    self.link.send(Applied(routing.epoch))
            case BackendHealth():
                self.health.append(message)
            case SetFaults(faults):
                self.faults.append(faults)
            case BackendRecovered(backends):
                self.recovered.append(backends)
            case AnsweredPairs(pairs):
                self.pairs += pairs
            case SetSettings():
                self.settings.append(message)
            case Drain():
                self.drains.append(message)

    @property
    def epoch(self) -> int:
        return self.routings[-1].routing.epoch if self.routings else 0

    async def informed(self) -> None:
        """Wait for routing and health."""
        await eventually(lambda: self.routings and self.health, "routing and health")

    def say(self, **changes: Any) -> None:
        given = {"epoch": self.epoch, "configuration": self.register.configuration}
        assert self.link.send(worker_stats(**(given | changes)))


class FakeLedger(FakeWorker):
    """Answers questions from a table of operation to answer; a function is called with the arguments."""

    def __init__(self, path: Path, life: str = "ledger-1") -> None:
        super().__init__(path, 0, life, kind="ledger")
        self.answers: dict[str, Any] = {}
        self.asked: list[Ask] = []

    def take(self, message: FromSupervisor) -> None:
        if not isinstance(message, Ask):
            super().take(message)
            return
        self.asked.append(message)
        answer = self.answers.get(message.op)
        if isinstance(answer, str):
            self.link.send(Reply(message.id, None, answer))
        elif answer is not None:
            self.link.send(Reply(message.id, answer(message.args) if callable(answer) else answer))

    def tell(self, stats: LedgerStats) -> None:
        assert self.link.send(stats)


class FakeChecker(FakeWorker):
    """Goes by every routing and reports one check of the route."""

    def __init__(self, path: Path, life: str = "checker-1") -> None:
        super().__init__(path, 0, life, kind="checker")

    def find(
        self,
        settled: int = 0,
        mismatches: int = 0,
        lost: int = 0,
        *,
        epoch: int = -1,
        trial_epoch: int = -1,
        **changes: Any,
    ) -> None:
        """Report what was judged since the weight was changed. epoch: that it goes by, the last one it got if -1."""
        samples = [{"identity": "e1", "class": "lost"}] * bool(lost)
        epoch = self.epoch if epoch < 0 else epoch
        trial = Trial(epoch if trial_epoch < 0 else trial_epoch, {}, settled, mismatches, lost, samples)
        stats = CheckStats(["events"], epoch, "three-way", trial=trial, **changes)
        assert self.link.send(CheckerStats([stats]))


class Plane:
    """A real supervisor with fakes around it, in this process's loop."""

    def __init__(
        self,
        settings: Settings,
        *,
        started_ns: int = 1_700_000_000_000_000_000,
        config_path: Path = Path("crossfade.yaml"),
    ) -> None:
        self.settings = settings
        self.config_path = config_path
        self.places = places_of(settings)
        self.places.control_socket.parent.mkdir(parents=True, exist_ok=True)
        self.clock = Clock()
        self.started_ns = started_ns
        self._descriptors = [marks.create(len(settings.routes)), *os.pipe(), *os.pipe()]
        self.ready_read_fd = self._descriptors[3]
        os.set_blocking(self.ready_read_fd, False)
        self.supervisor = self._make()
        self.workers: list[FakeWorker] = []
        self.ledger: FakeLedger | None = None
        self.checker: FakeChecker | None = None
        self._session: aiohttp.ClientSession | None = None

    def _make(self) -> Supervisor:
        marks_fd, lifeline_fd, _, _, ready_fd = self._descriptors
        inherited = Inherited(
            settings=self.settings,
            places=self.places,
            config_path=self.config_path,
            marks_fd=marks_fd,
            listen_fds=(),
            lifeline_fd=lifeline_fd,
            ready_fd=ready_fd,
            launcher_pid=0,
            started_ns=self.started_ns,
        )
        return Supervisor(inherited, clock=self.clock, wall=lambda: 1_700_000_000.0 + self.clock.now)

    async def start(self, *, everybody: bool = True) -> None:
        """Start the supervisor and, if wanted, all workers and the ledger, and wait until it is ready."""
        await self.supervisor.start()
        if not everybody:
            return
        self.ledger = FakeLedger(self.places.control_socket)
        self.workers = [FakeWorker(self.places.control_socket, index) for index in range(self.settings.workers)]
        for each in (self.ledger, *self.workers):
            each.link.start()
        if self.settings.consistency:
            self.checker = FakeChecker(self.places.control_socket)
            self.checker.link.start()
            await eventually(lambda: self.checker is not None and self.checker.epoch, "the checker's routing")
        await self.until_ready()

    async def until_ready(self) -> None:
        await eventually(lambda: not self.supervisor.instance.not_ready(), "readiness")

    async def restart(self, between: Callable[[], object] = lambda: None) -> None:
        """Another supervisor takes over; workers and ledger stay. between: done while there is none."""
        await self.supervisor.close()
        between()
        self.supervisor = self._make()
        await self.supervisor.start()

    async def close(self) -> None:
        if not self._descriptors:
            return
        for each in (*self.workers, *(each for each in (self.ledger, self.checker) if each is not None)):
            await each.link.close()
        await self.supervisor.close()
        if self._session is not None:
            await self._session.close()
            self._session = None
        while self._descriptors:
            os.close(self._descriptors.pop())

    async def heard(self, condition: Callable[[], Any]) -> None:
        """Wait until what was sent has arrived."""
        await eventually(condition, "the report's arrival")

    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self.places.admin_socket)))
        return self._session

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """One request over the Unix socket; status and decoded body. Names such as if_match become headers."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session().request(method, f"http://localhost{path}", json=body, headers=named) as answer:
            if "json" in answer.content_type:
                return answer.status, await answer.json(content_type=None)
            return answer.status, await answer.text()

    async def get(self, path: str) -> Any:
        status, answer = await self.ask("GET", path)
        assert status == 200, answer
        return answer

    async def change(self, what: str, **body: Any) -> Any:
        """A change of the only route."""
        method = "PUT" if what in ("weight", "stage") else "POST"
        status, answer = await self.ask(method, f"/api/v1/routes/-/{what}", body)
        assert status == 200, answer
        return answer
