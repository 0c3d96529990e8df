"""For how long has a side said nothing at all, though something waits for an answer of it all that time?

waits, no answer     silent since the first look at which it was so
an answer, or nothing waits any more     not silent
"""

from __future__ import annotations

from typing import Final, NamedTuple

MOST_APART: Final = 5.0
"""Seconds between two looks beyond which they say nothing together: whoever looks stood still."""


class Asked(NamedTuple):
    """A side at a moment (monotonic seconds). waiting: events it was sent that have no answer; answered: answers ever,
    a count that falls when records of them are dropped.
    """

    at: float
    waiting: int
    answered: int


class SilenceTest:
    """Watches one side. answered_at: when it was last seen to have answered, None if never since the reset."""

    def __init__(self) -> None:
        self._last: Asked | None = None
        self.since: float | None = None
        """Since when it is silent."""
        self.answered_at: float | None = None

    def reset(self) -> None:
        """What was seen says nothing of now."""
        self._last = self.since = self.answered_at = None

    def observe(self, asked: Asked) -> float | None:
        """Take a look; the seconds for which it has been silent, None while it is not. Times do not fall."""
        last, self._last = self._last, asked
        if last is not None and asked.at - last.at > MOST_APART:
            self.since = self.answered_at = None
        elif last is not None and asked.answered > last.answered:
            self.since, self.answered_at = None, asked.at
        if not asked.waiting:
            self.since = None
            return None
        if self.since is None:
            self.since = asked.at
        return asked.at - self.since
