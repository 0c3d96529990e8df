"""How much one connection may say in the test of failures: so many outcomes a second, its failures in proportion.

    a connection's outcomes since the last report: n, of which f failed
        counted: at most what it has left of PER_SECOND, and up to SAVED of earlier seconds; and the same share of f
        left out: the rest of both

A client whose every event fails would otherwise be heard as often as it sends. Both are cut alike, or a busy connection
would look better or worse than it is; and by share, not in their order, for what comes first in a burst need not be
like the rest.
"""

from __future__ import annotations

from typing import Final

PER_SECOND: Final = 10.0
"""Outcomes of a connection at one side of a route that count in a second."""
SAVED: Final = 5.0
"""That count at once after it was quiet, or of one that is new; more where the last report was longer ago."""


class Contribution:
    """Of one connection, to one side of a route. total, failed: outcomes since the last report; room: how many may
    count, as of `at` (monotonic seconds).
    """

    __slots__ = ("at", "failed", "room", "total")

    def __init__(self) -> None:
        self.total = 0
        self.failed = 0
        self.room = SAVED
        self.at = 0.0


class Contributions:
    """Of all connections, to one side of a route."""

    __slots__ = ("_failed", "_heard", "_settled_at", "_total")

    def __init__(self) -> None:
        self._heard: list[Contribution] = []
        """Those with outcomes since the last report."""
        self._settled_at: float | None = None
        self._total = 0.0
        self._failed = 0.0

    def count(self, by: Contribution, total: int, failed: int) -> None:
        """A connection has so many outcomes more, of which so many failed."""
        if not by.total:
            self._heard.append(by)
        by.total += total
        by.failed += failed

    def settle(self, now: float) -> tuple[int, int]:
        """A report is due: how many outcomes were ever left out, and how many failures among them. now: monotonic
        seconds.
        """
        since = 0.0 if self._settled_at is None else now - self._settled_at
        self._settled_at = now
        most = max(SAVED, PER_SECOND * since)
        for each in self._heard:
            room = min(most, each.room + PER_SECOND * (now - each.at))
            counted = min(float(each.total), room)
            self._total += each.total - counted
            self._failed += each.failed * (1.0 - counted / each.total)
            each.room, each.at = room - counted, now
            each.total = each.failed = 0
        self._heard.clear()
        return int(self._total), int(self._failed)


def pair() -> list[Contribution]:
    """A connection's, by side."""
    return [Contribution(), Contribution()]
