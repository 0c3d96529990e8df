"""How many events each bucket has in the ledger's hands at each side; the marks follow these counts.

The mark of a bucket is its count. A worker that finds it set gives the next event of the bucket to the ledger too,
and that keeps the order.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import Protocol

from proxy.core.choose import BUCKETS
from proxy.ledger.marks import MOST


class MarkTable(Protocol):
    """Where marks are shown: `proxy.ledger.marks.Marks`."""

    def show(self, route: int, side: int, bucket: int, count: int) -> None:
        """Set one mark."""


class Backlog:
    """Counts of backlog events. routes: each route's slot in the marks, by its name.

    Events of a route that is not configured any more have no marks: no worker asks for them.
    """

    def __init__(self, routes: Mapping[str, int], marks: MarkTable) -> None:
        self._routes = routes
        self._marks = marks
        self._is_exact = False
        self._counts = array("l", bytes(8 * (max(routes.values(), default=-1) + 1) * 2 * BUCKETS))

    def enter(self, route: str, side: int, bucket: int, n: int = 1) -> None:
        """`n` more events of this bucket wait for this side."""
        index = self._routes.get(route)
        if index is None:
            return
        at = (index * 2 + side) * BUCKETS + bucket
        self._counts[at] += n
        self._marks.show(index, side, bucket, self._counts[at] if self._is_exact else MOST)

    def leave(self, route: str, side: int, bucket: int) -> None:
        """One event of this bucket waits no longer."""
        index = self._routes.get(route)
        if index is None:
            return
        at = (index * 2 + side) * BUCKETS + bucket
        if self._counts[at] <= 0:
            raise RuntimeError(f"bucket {bucket} of {route} has no backlog to leave")
        self._counts[at] -= 1
        if self._is_exact or not self._counts[at]:
            self._marks.show(index, side, bucket, self._counts[at])

    def show_all(self) -> None:
        """Everything that is on disk was counted: the marks say so from now on.

        Until then they are those of a ledger before this one, or `MOST`: no worker may see one missing, or too low.
        """
        self._is_exact = True
        for at, n in enumerate(self._counts):
            index, bucket = divmod(at, BUCKETS)
            self._marks.show(index // 2, index % 2, bucket, n)

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
