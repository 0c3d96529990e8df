"""The memory that a worker may hold for its clients: one budget, counted where something is held.

    partial heads and bodies, pipelined bytes ----+
    large requests, as often as they are held ----+
    large answers that wait or are not read ------+--> held + others --> is_full --> 503 before dispatch
    each connection, a flat sum ------------------+         ^
    frames for the ledger, legs of small events ------------+  looked at ten times a second and before a large request

Large things are counted to the byte and for as long as they live. Small ones (up to `SMALL`) are bounded by their
number: each connection and each leg stands for a flat sum, so an event of a few hundred bytes costs one test.

What is accepted goes on when the budget is used up; nothing new is taken until a fifth of it is free again.
"""

from __future__ import annotations

from typing import Final

SMALL: Final = 4096
"""Bytes. What is not longer is in the flat sum of its connection or leg."""
PIECE: Final = 64
"""Bytes that a piece of something takes beside what is in it."""
CONNECTION: Final = 6 * 1024
TLS_CONNECTION: Final = 64 * 1024
"""Bytes that an open connection stands for: its objects, the buffers of TLS (measured: 1.3 and 40 KiB), and `SMALL`."""
LEG: Final = 8 * 1024
"""Bytes that an event on its way stands for, per leg."""
TIMES_HELD: Final = 4
"""How often a large body is held while its event is on its way: as it came, in the requests to both sides, in a frame.

The frame is counted once more while the ledger has not confirmed it: several events of one iteration have none yet.
"""
_AGAIN: Final = 0.8
"""Share of the budget below which requests are taken again, and slow clients have all of their time."""
_CONNECTIONS: Final = 0.5
"""Share of it that connections may take by being open: else idle ones could keep everybody from being served."""


class Budget:
    """One worker's budget. limit: bytes."""

    __slots__ = ("_again", "connections", "held", "is_full", "limit", "most", "others")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        """Bytes that are counted as they come and go."""
        self.others = 0
        """Bytes that are looked at now and then."""
        self.connections = 0
        """The part of `held` that connections stand for by being open."""
        self.is_full = False
        """New requests are refused."""
        self.most = 0
        """The most that it ever was."""
        self._again = int(limit * _AGAIN)

    @property
    def used(self) -> int:
        """All bytes that are held."""
        return self.held + self.others

    def add(self, size: int) -> None:
        """So many bytes more are held; fewer when negative."""
        self.held += size
        self._judge()

    def see_others(self, size: int) -> None:
        """So many bytes are held in places that do not count here by themselves."""
        self.others = size
        self._judge()

    def _judge(self) -> None:
        used = self.held + self.others
        if used > self.most:
            self.most = used
        if used > self.limit:
            self.is_full = True
        elif self.is_full and used < self._again:
            self.is_full = False

    @property
    def is_short(self) -> bool:
        """Is so much held that what lies idle should go? Bodies that do not fit are refused before it is used up."""
        return self.held + self.others >= self._again

    def has_room(self, size: int) -> bool:
        """May something that needs so many bytes be begun?"""
        return not self.is_full and self.held + self.others + size <= self.limit

    def connected(self, size: int) -> None:
        """A connection that stands for so many bytes was opened; negative: closed."""
        self.connections += size
        self.add(size)

    @property
    def takes_connections(self) -> bool:
        """May one more client come?"""
        return not self.is_full and self.connections < self.limit * _CONNECTIONS


class Charge:
    """Bytes that are held for as long as this object lives: who holds them keeps it."""

    __slots__ = ("_budget", "_size")

    def __init__(self, budget: Budget, size: int) -> None:
        self._budget = budget
        self._size = size
        budget.add(size)

    def __del__(self) -> None:
        self._budget.add(-self._size)

    def another(self, size: int) -> Charge:
        """One of so many bytes, in the same budget."""
        return Charge(self._budget, size)


def charge(budget: Budget, size: int) -> Charge | None:
    """A charge for something of so many bytes; None when it is small."""
    return Charge(budget, size) if size > SMALL else None
