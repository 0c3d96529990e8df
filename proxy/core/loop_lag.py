"""How late an event loop runs what is due: the sign of a process that has no time, or that something blocks.

A timer that runs anyway, the one of the figures, is looked at. A stall that is shorter than its interval (250 ms) is
seen in part, or by chance; a longer one is seen always.
"""

from __future__ import annotations

from collections import deque
from typing import Final

WINDOW: Final = 15.0
"""Seconds for which a lag is told: at least as long as from one scrape to the next."""


class LoopLag:
    """Of one loop. All times are monotonic seconds."""

    def __init__(self) -> None:
        self._due: float | None = None
        self._seen: deque[tuple[float, float]] = deque()

    def expect(self, due: float) -> None:
        """The timer is to run then."""
        self._due = due

    def ran(self, now: float) -> float:
        """It runs now: the most, in seconds, that it was late within the window."""
        if self._due is not None:
            self._seen.append((now, max(0.0, now - self._due)))
            self._due = None
        while self._seen and self._seen[0][0] <= now - WINDOW:
            self._seen.popleft()
        return max((late for _, late in self._seen), default=0.0)
