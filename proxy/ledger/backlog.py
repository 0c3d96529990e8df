"""How many events each bucket has in the ledger's hands at each side; the marks follow these counts.

The mark of a bucket is set with its first event and cleared with its last. A worker that finds it set
gives the next event of the bucket to the ledger too, and that keeps the order.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import Protocol

from proxy.core.choose import BUCKETS


class MarkTable(Protocol):
    """Where marks are shown: `proxy.ledger.marks.Marks`."""

    def set(self, route: int, side: int, bucket: int, marked: bool) -> None:
        """Set or clear one mark."""


class Backlog:
    """Counts of backlog events. routes: index of each route's name in the configuration.

    Events of a route that is not configured any more have no marks: no worker asks for them.
    """

    def __init__(self, routes: Mapping[str, int], marks: MarkTable) -> None:
        self._routes = routes
        self._marks = marks
        self._counts = array("l", bytes(8 * len(routes) * 2 * BUCKETS))

    def enter(self, route: str, side: int, bucket: int, n: int = 1) -> None:
        """`n` more events of this bucket wait for this side."""
        index = self._routes.get(route)
        if index is None:
            return
        at = (index * 2 + side) * BUCKETS + bucket
        if self._counts[at] == 0:
            self._marks.set(index, side, bucket, True)
        self._counts[at] += n

    def leave(self, route: str, side: int, bucket: int) -> None:
        """One event of this bucket waits no longer."""
        index = self._routes.get(route)
        if index is None:
            return
        at = (index * 2 + side) * BUCKETS + bucket
        if self._counts[at] <= 0:
            raise RuntimeError(f"bucket {bucket} of {route} has no backlog to leave")
        self._counts[at] -= 1
        if self._counts[at] == 0:
            self._marks.set(index, side, bucket, False)

    def clear_others(self) -> None:
        """Clear the marks of all buckets without backlog: they are of a ledger before this one.

        Marks that are right were never cleared, so that no worker could see one missing meanwhile.
        """
        for at, n in enumerate(self._counts):
            if n == 0:
                index, bucket = divmod(at, BUCKETS)
                self._marks.set(index // 2, index % 2, bucket, False)

    def count(self, route: str, side: int, bucket: int) -> int:
        """How many events of this bucket wait."""
        index = self._routes.get(route)
        return 0 if index is None else self._counts[(index * 2 + side) * BUCKETS + bucket]

    def marked(self, route: str, side: int) -> int:
        """How many buckets of a route have a backlog at a side."""
        index = self._routes.get(route)
        if index is None:
            return 0
        base = (index * 2 + side) * BUCKETS
        return BUCKETS - self._counts[base : base + BUCKETS].count(0)
