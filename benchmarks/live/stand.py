"""The daemon as a user gets it, between two toy backends, with its files in a directory of its own."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar

from benchmarks.live.figures import Revert
from benchmarks.processes import BenchmarkFailed
from proxy.core.event import SIDES
from proxy.demo.admin import Admin, AdminDownError, RouteStatus, Status
from proxy.demo.comparison import compare
from proxy.demo.instance import Instance, add_sessions, basic_config
from proxy.demo.record import Record
from proxy.demo.store import Stored
from proxy.demo.toy import ToyBackend

WORKERS: Final = 2
LOOK_EVERY: Final = 0.02
"""Seconds between two looks at the status: what is measured is at most so much too long, and one answer's time."""
_HEALTHY_SECONDS: Final = 60.0
_DRAIN_SECONDS: Final = 120.0
"""Without progress; how long a backlog takes is the machine's business."""

NEVER_REVERT: Final = {
    "on_breaker": False,
    "on_health": False,
    "silence": "0s",
    "error_rate": "100%",
    "slower": "0%",
    "lost": 0,
    "mismatch_rate": "100%",
}
"""A trigger for what is about a person's rollback alone."""


def settings(old: str, new: str, *, has_sessions: bool = False, **route: Any) -> dict[str, Any]:
    """A configuration with the defaults of triggers, breakers, probes and ledger. old, new: URLs; route: its keys."""
    config = basic_config(old, new, **route)
    health = {"health": {"path": "/health"}}
    config["backends"] = {"old": {"url": old} | health, "new": {"url": new} | health}
    del config["ledger"]
    if has_sessions:
        add_sessions(config)
        config["routes"][1] |= route
    return config


class Storing(Protocol):
    """A backend, seen from outside."""

    name: str
    url: str

    async def ready(self) -> None:
        """Wait until it serves; raises ChildError."""

    async def stop(self) -> None:
        """End the process."""

    def stored(self) -> list[Stored]:
        """Every row, in order of arrival."""


BackendT = TypeVar("BackendT", bound=Storing)
ToyStand: TypeAlias = "Stand[ToyBackend]"


class Stand(Generic[BackendT]):
    """Everything that runs but the load."""

    def __init__(self, directory: Path, old: BackendT, new: BackendT, instance: Instance) -> None:
        self.directory = directory
        self.old = old
        self.new = new
        self.instance = instance

    @property
    def admin(self) -> Admin:
        """The daemon's admin API."""
        return self.instance.admin

    async def start(self) -> None:
        """Start it and wait until it is ready."""
        await self.old.ready()
        await self.new.ready()
        await self.instance.start()

    async def stop(self) -> None:
        """Stop all of it."""
        try:
            await self.instance.stop()
        finally:
            await self.old.stop()
            await self.new.stop()

    async def live(self, weight: float) -> None:
        """Both sides are well, nothing of a former failure is left, and new answers so many percent of the keys."""
        await self.admin.until(_is_well, _HEALTHY_SECONDS, "new is well again")
        if (await self.admin.status()).routes[0].latched:
            await self.admin.rearm("the next round")
        await self.admin.stage("live", weight, "a benchmark")

    async def reverted(self, began: float, seconds: float) -> Revert | None:
        """Wait until every worker has weight 0 by a revert, so many seconds from `began` (monotonic); None when not."""
        while time.monotonic() < began + seconds:
            try:
                status = await self.admin.status()
            except AdminDownError as error:
                raise BenchmarkFailed(f"the supervisor does not answer: {error}") from None
            now = time.monotonic()
            if status.routes[0].latched and is_everywhere(status):
                entry = (await self.admin.ask("GET", "/api/v1/why"))["entry"]
                return Revert(now - began, entry["evidence"]["trigger"], entry["reason"], entry["evidence"])
            await asyncio.sleep(LOOK_EVERY)
        return None

    async def drained(self, accepted: int) -> Status:
        """Wait until the ledger knows of so many events, and then, while it gets less, until nothing is pending or
        deferred.
        """
        await self.admin.until(lambda status: status.owed("old") >= accepted, _DRAIN_SECONDS, "the record")
        least = 2**62
        while True:

            def has_news(status: Status, least: int = least) -> bool:
                return _owed(status) < least

            status = await self.admin.until(has_news, _DRAIN_SECONDS, "the drain of the ledger")
            least = _owed(status)
            if not least:
                return status

    def check_stores(self, record: Record, sides: Iterable[str] = SIDES) -> None:
        """Raises BenchmarkFailed unless each of these stores has all that was promised, in its order."""
        for backend in (self.old, self.new):
            found = compare(record, backend.stored()).problems() if backend.name in sides else []
            if found:
                raise BenchmarkFailed(f"{backend.name}: {'; '.join(found)}")


def is_everywhere(status: Status) -> bool:
    """Has every worker said that it uses the present routing?"""
    using = [worker for worker in status.workers if worker.alive and worker.epoch == status.epoch]
    return len(using) == len(status.workers) == WORKERS


def _is_well(status: Status) -> bool:
    return all(_is_route_well(route) for route in status.routes)


def _is_route_well(route: RouteStatus) -> bool:
    sides: Mapping[str, Any] = route.sides
    are_well = all(side.breaker == "closed" and side.healthy for side in sides.values())
    return are_well and not sum(side.ledger.pending for side in sides.values())


def _owed(status: Status) -> int:
    sides = [side.ledger for route in status.routes for side in route.sides.values()]
    return sum(each.pending + each.deferred for each in sides)


@asynccontextmanager
async def stand(
    backend: Callable[[str, Path], BackendT],
    *,
    has_sessions: bool = False,
    instance: Callable[[Path, dict[str, Any]], Instance] = Instance,
    **route: Any,
) -> AsyncIterator[Stand[BackendT]]:
    """A running one. backend: makes one of its name and a directory; instance: of a directory and its configuration;
    route: keys of its route, or of both.
    """
    directory = Path(tempfile.mkdtemp(prefix="cf-live-"))
    old, new = backend("old", directory), backend("new", directory)
    config = settings(old.url, new.url, has_sessions=has_sessions, **route)
    opened = Stand(directory, old, new, instance(directory, config))
    try:
        await opened.start()
        yield opened
    finally:
        try:
            await opened.stop()
        finally:
            shutil.rmtree(directory)
