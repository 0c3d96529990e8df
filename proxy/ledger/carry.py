"""Carry-over: which deferred events are old's now, and the marks that keep later events behind them.

    weight falls --> turn() --> marks of the buckets that are old's again --> Applied --> workers
                        |
                        +--> Due: rows to be made pending, then the marks follow the backlog alone

What is deferred is only remembered by bucket, so that a turn costs the same however much it is. Until
the first routing is known after a start, every bucket that has deferred events is marked: a ledger
before this one may have died while it carried them over.
"""

from __future__ import annotations

from typing import NamedTuple

from proxy.core.choose import BUCKETS, keeps_deferred_below
from proxy.core.event import OLD
from proxy.core.routing import Routing
from proxy.ledger.backlog import Backlog


class Due(NamedTuple):
    """Deferred events of a route in buckets from `from_bucket` on are to be pending. buckets: those marked for it."""

    route: str
    from_bucket: int
    buckets: list[int]


class Carry:
    """Buckets with deferred events at old, by route. A bucket may be noted whose events were released meanwhile."""

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog
        self._epoch = 0
        self._keeps: dict[str, int] = {}
        self._noted: dict[str, bytearray] = {}
        self._unsure: list[tuple[str, int]] = []

    def is_due(self, route: str, bucket: int, epoch: int) -> bool:
        """Is an event that a worker deferred under an older epoch old's by the routing that we know?"""
        return epoch < self._epoch and bucket >= self._keeps.get(route, BUCKETS)

    def note(self, route: str, bucket: int) -> None:
        """An event of this bucket is deferred."""
        noted = self._noted.get(route)
        if noted is None:
            noted = self._noted[route] = bytearray(BUCKETS)
        if not noted[bucket]:
            noted[bucket] = 1
            if not self._epoch:
                self._backlog.enter(route, OLD, bucket)
                self._unsure.append((route, bucket))

    def unsure(self) -> set[str]:
        """Routes of which deferred events were found before a routing was known."""
        return {route for route, _ in self._unsure}

    def turn(self, routing: Routing) -> list[Due]:
        """A new epoch: mark what is old's again. When this returns, workers may be told of the epoch."""
        self._epoch = routing.epoch
        found = []
        for route, dials in routing.routes.items():
            keeps = self._keeps[route] = keeps_deferred_below(dials)
            noted = self._noted.get(route)
            if noted is None or 1 not in noted[keeps:]:
                continue
            buckets = [bucket for bucket in range(keeps, BUCKETS) if noted[bucket]]
            for bucket in buckets:
                noted[bucket] = 0
            self.mark(route, buckets)
            found.append(Due(route, keeps, buckets))
        for route, bucket in self._unsure:
            self._backlog.leave(route, OLD, bucket)
        self._unsure.clear()
        return found

    def mark(self, route: str, buckets: list[int]) -> None:
        """Mark buckets of old until `unmark`, or longer if they have a backlog then."""
        for bucket in buckets:
            self._backlog.enter(route, OLD, bucket)

    def unmark(self, route: str, buckets: list[int]) -> None:
        """All their deferred events are pending: those hold the marks now."""
        for bucket in buckets:
            self._backlog.leave(route, OLD, bucket)
