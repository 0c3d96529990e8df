"""Waiting for an instance: until every worker has applied an epoch, until nothing is pending.

What is waited for is a function from a status to the reasons why it is not so yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from proxy.cli.failure import ROLLED_BACK, TIMEOUT, UNREACHABLE, Failure

if TYPE_CHECKING:
    from proxy.cli.client import Admin, Json

POLL = 0.2
"""Seconds from one look to the next."""
Missing = Callable[["Json"], list[str]]


class Clock:
    """Time and sleep, so that tests need neither."""

    def now(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()

    def sleep(self, duration: float) -> None:
        """Wait; duration in seconds."""
        time.sleep(duration)


def behind(status: Json, epoch: int) -> list[str]:
    """Workers that have not applied this epoch, in words."""
    workers = status.get("workers", [])
    late = [w for w in workers if not w.get("alive") or (w.get("epoch") or 0) < epoch]
    words = [
        f"worker {w.get('index')} is at epoch {w.get('epoch')}, not {epoch}"
        if w.get("alive")
        else f"worker {w.get('index')} is down"
        for w in late
    ]
    return words if workers else ["no worker has reported"]


def unsettled(status: Json) -> list[str]:
    """Why an instance is not at rest: workers behind, a ledger that is down, events pending or to be carried over."""
    words = behind(status, status.get("epoch", 0))
    ledger = status.get("ledger") or {}
    if not ledger.get("alive"):
        return [*words, "the ledger is down"]
    if ledger.get("pending") is None:
        return [*words, "the ledger has not told of itself yet"]
    for route in status.get("routes", []):
        for name, side in route.get("sides", {}).items():
            pending = (side.get("ledger") or {}).get("pending", 0)
            if pending:
                words.append(f"{pending:,} events of {route.get('name')} are pending at {name}")
            deferred = (side.get("ledger") or {}).get("deferred", 0)
            if deferred and name == "old" and route.get("weight_target") == 0:
                words.append(f"{deferred:,} events of {route.get('name')} are to be carried over to old")
    if ledger.get("pending") and not any("pending at" in word for word in words):
        words.append(f"{ledger['pending']:,} events are pending")
    return words


def latched_routes(status: Json) -> set[str]:
    """Names of the routes that a revert has latched."""
    return {route["name"] for route in status.get("routes", []) if route.get("latched")}


def until(
    admin: Admin,
    missing: Missing,
    timeout: float,
    *,
    show: Callable[[Json], None] | None = None,
    clock: Clock | None = None,
) -> Json:
    """Ask for the status until nothing is missing; that status.

    An instance that answered once may be away for a while: its supervisor restarts. Raises Failure: exit 4
    with what is missing after `timeout` seconds, 3 when a route reverts and latches meanwhile.
    """
    clock = clock or Clock()
    end = clock.now() + timeout
    first = admin.get("/api/v1/status")
    latched = latched_routes(first)
    status: Json | None = first
    while True:
        words: list[str] = []
        if status is not None:
            if show:
                show(status)
            _check_latches(latched, status)
            words = missing(status)
            if not words:
                return status
        if clock.now() >= end:
            what = "; ".join(words) or f"{admin.address} is away"
            raise Failure(TIMEOUT, f"not there after {timeout:g} s: {what}", missing=words)
        clock.sleep(min(POLL, max(0.0, end - clock.now())))
        status = look(admin)


def _check_latches(before: set[str], status: Json) -> None:
    reverted = sorted(latched_routes(status) - before)
    if reverted:
        raise Failure(
            ROLLED_BACK,
            f"reverted and latched meanwhile: {', '.join(reverted)}",
            hint=f"see why: proxyctl why --route {reverted[0]}",
            routes=reverted,
        )


def look(admin: Admin) -> Json | None:
    """The status, or None while the instance is away."""
    try:
        return admin.get("/api/v1/status")
    except Failure as failure:
        if failure.code in (UNREACHABLE, TIMEOUT):
            return None
        raise
