"""The daemon's admin API over its Unix socket, and the part of its status that the demo and the tests read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from proxy.core.errors import CrossfadeError

ONLY = "-"
"""Names the route of an instance that has one."""
_TIMEOUT = aiohttp.ClientTimeout(total=15)


class AdminError(CrossfadeError):
    """The admin API refused a request; the message is its problem's."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        super().__init__(f"{status}: {problem.get('detail') or problem.get('title')}")
        self.status = status


class AdminDownError(CrossfadeError):
    """The admin API did not answer."""


class LedgerUnknownError(AdminDownError):
    """The ledger has not told the supervisor of itself yet, or is away."""


class SideLedger(msgspec.Struct):
    """One side's balance in the ledger."""

    owed: int
    pending: int
    deferred: int
    delivered: int
    refused: int
    dead: int
    discarded: int
    lost: int
    released: int

    @property
    def in_states(self) -> int:
        """The sum of all states, which must be `owed`."""
        settled = self.refused + self.dead + self.discarded + self.lost + self.released
        return self.delivered + self.pending + self.deferred + settled


class Side(msgspec.Struct):
    """One side of a route. rate: events/s; error_rate: 0-1, None without events; p99: seconds; healthy: None without a
    verdict of its probe.
    """

    breaker: str
    rate: float
    error_rate: float | None
    p99: float | None
    told: SideLedger | None = msgspec.field(name="ledger")
    healthy: bool | None = None

    @property
    def ledger(self) -> SideLedger:
        """Its balance. Raises LedgerUnknownError."""
        if self.told is None:
            raise LedgerUnknownError("the ledger has not told of itself")
        return self.told


class RouteStatus(msgspec.Struct):
    """One route. weights in percent."""

    name: str
    stage: str
    weight_target: float
    weight_observed: float | None
    latched: bool
    latch_reason: str | None
    accepted_total: int
    sides: dict[str, Side]

    @property
    def pending(self) -> int:
        """Events owed to either side and not settled."""
        return sum(side.ledger.pending for side in self.sides.values())


class WorkerStatus(msgspec.Struct):
    """One worker process."""

    index: int
    pid: int
    epoch: int
    alive: bool


class LedgerStatus(msgspec.Struct):
    """The ledger process. gaps: spans of time whose record may be incomplete. None: not known while it is away."""

    alive: bool
    balanced: bool | None
    pending: int | None
    dead: int | None
    gaps: int | None


class ProbeStatus(msgspec.Struct):
    """The probes of a live check. passed: None before the first; visible: by side, seconds of the last one."""

    passed: bool | None
    error: str | None
    visible: dict[str, float]


class CheckStatus(msgspec.Struct):
    """One live check. checked_until: ISO 8601, empty before the first window; classes: identities by class, ever;
    pending, late: windows.
    """

    alive: bool
    checked_until: str
    classes: dict[str, int]
    checked: int
    mismatches: int
    pending: int
    late: int
    trouble: str | None
    probe: ProbeStatus | None = None


class AnswersStatus(msgspec.Struct):
    """Answers of a route that were compared. fields: by path, shares of events that differ, of old from itself, too."""

    compared: int
    different: int
    beyond_noise: int
    fields: dict[str, dict[str, float | None]]


class SourceStatus(msgspec.Struct):
    """A source. rate: accepted events/s; unaccepted: read and not accepted yet; the others are totals, of which
    recovered are those that a snapshot told.
    """

    name: str
    state: str
    trouble: str | None
    rate: float
    unaccepted: int
    accepted: int
    recovered: int
    refused: int
    retried: int
    gaps: int
    unreadable: int


class Status(msgspec.Struct):
    """GET /api/v1/status, as far as it is used here."""

    epoch: int
    ready: bool
    routes: list[RouteStatus]
    workers: list[WorkerStatus]
    ledger: LedgerStatus
    consistency: list[CheckStatus] = []
    answers: list[AnswersStatus] = []
    sources: list[SourceStatus] = []

    def pending(self, side: str) -> int:
        """Events of all routes that a side is still owed."""
        return sum(route.sides[side].ledger.pending for route in self.routes)

    def owed(self, side: str) -> int:
        """Events of all routes that a side was ever owed."""
        return sum(route.sides[side].ledger.owed for route in self.routes)


class Admin:
    """The admin API over its Unix socket."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket

    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """One request; the JSON answer. Raises AdminError for a refusal, AdminDownError without an answer."""
        connector = aiohttp.UnixConnector(str(self.socket))
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as session,
                session.request(method, f"http://localhost{path}", json=body) as answer,
            ):
                result = await answer.json(content_type=None)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise AdminDownError(f"{method} {path}: {error}") from error
        if answer.status >= 300:
            raise AdminError(answer.status, result)
        return result

    async def is_ready(self) -> bool:
        """Does /readyz say so? False too when nothing answers."""
        try:
            await self.ask("GET", "/readyz")
        except (AdminError, AdminDownError):
            return False
        return True

    async def status(self) -> Status:
        """The present state."""
        return msgspec.convert(await self.ask("GET", "/api/v1/status"), Status)

    async def stage(
        self, stage: str, weight: float | None = None, reason: str = "", route: str = ONLY
    ) -> dict[str, Any]:
        """Set both dials of a route."""
        body: dict[str, Any] = {"stage": stage, "reason": reason}
        if weight is not None:
            body["weight"] = weight
        return await self._change("PUT", route, "stage", body)

    async def weight(self, weight: float, reason: str = "", route: str = ONLY) -> dict[str, Any]:
        """Turn the weight of a route."""
        return await self._change("PUT", route, "weight", {"weight": weight, "reason": reason})

    async def rollback(self, reason: str = "", route: str = ONLY) -> dict[str, Any]:
        """Weight 0 at once."""
        return await self._change("POST", route, "rollback", {"reason": reason})

    async def rearm(self, reason: str = "", route: str = ONLY) -> dict[str, Any]:
        """Open the latch."""
        return await self._change("POST", route, "rearm", {"reason": reason})

    async def _change(self, method: str, route: str, what: str, body: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = await self.ask(method, f"/api/v1/routes/{route}/{what}", body)
        return result

    async def until(self, true: Callable[[Status], bool], seconds: float, what: str) -> Status:
        """Poll the status until `true(status)`; raises TimeoutError naming `what` and the last status."""
        deadline = time.monotonic() + seconds
        last: object = "no answer"
        while time.monotonic() < deadline:
            try:
                last = status = await self.status()
                if true(status):
                    return status
            except (AdminDownError, AdminError) as error:
                last = error  # while the supervisor or the ledger restarts
            await asyncio.sleep(0.05)
        raise TimeoutError(f"{what} did not happen within {seconds:g} s; last: {last}")
