"""Marks: one byte in shared memory for each (route, side, bucket): how many of its events the ledger knows as owed.

The launcher makes the memory (a memfd) and every process inherits it, so it outlives each of them.
Only the ledger writes; a worker reads one byte before it sends an event. A mark that is not 0 means: events of
this bucket that this side has not got yet are in the ledger, so hand it the next one too. How many, up to `MOST`, tells
a worker whether they are all on their way through its own connection, which keeps their order by itself.

    offset 0   flags: LOW_DISK, FAILED, RESTORED        offset 64 + (route * 2 + side) * 10,000 + bucket: the mark
"""

from __future__ import annotations

import mmap
import os
from typing import Final

from proxy.core.choose import BUCKETS

_HEADER: Final = 64
LOW_DISK: Final = 0
"""Flag: the disk is nearly full; new events get 503 before dispatch."""
FAILED: Final = 1
"""Flag: the ledger could not make its records durable and is restarting."""
RESTORED: Final = 2
"""Flag: a ledger has shown here what it found on disk; until then no mark means nothing."""

MOST: Final = 255
"""A mark of this value: so many, or more."""


def create(routes: int) -> int:
    """Make the shared memory for so many routes; the file descriptor, inheritable."""
    descriptor = os.memfd_create("crossfade-marks", 0)
    grow(descriptor, routes)
    os.set_inheritable(descriptor, True)
    return descriptor


def grow(descriptor: int, routes: int) -> None:
    """Make room for so many routes, where there is not; who mapped it before sees as much of it as then."""
    size = _HEADER + routes * 2 * BUCKETS
    if os.fstat(descriptor).st_size < size:
        os.ftruncate(descriptor, size)


class Marks:
    """The table, mapped. `memory[base(route, side) + bucket]` is the hot path's one byte access."""

    __slots__ = ("memory",)

    def __init__(self, descriptor: int) -> None:
        self.memory = mmap.mmap(descriptor, os.fstat(descriptor).st_size)

    @staticmethod
    def base(route: int, side: int) -> int:
        """Offset of bucket 0 of a route (its slot, `proxy.control.carried`) and a side."""
        return _HEADER + (route * 2 + side) * BUCKETS

    def show(self, route: int, side: int, bucket: int, count: int) -> None:
        """So many events of this bucket wait for this side."""
        self.memory[self.base(route, side) + bucket] = min(count, MOST)

    def is_set(self, route: int, side: int, bucket: int) -> bool:
        """Has this bucket a backlog at this side?"""
        return self.memory[self.base(route, side) + bucket] != 0

    def count(self, route: int, side: int) -> int:
        """How many buckets of a route are marked at a side."""
        base = self.base(route, side)
        return BUCKETS - self.memory[base : base + BUCKETS].count(0)

    def set_flag(self, flag: int, on: bool) -> None:
        """Raise or lower LOW_DISK or FAILED."""
        self.memory[flag] = on

    def flag(self, flag: int) -> bool:
        """Is the flag raised?"""
        return self.memory[flag] != 0
