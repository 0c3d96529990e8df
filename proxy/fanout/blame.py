"""What a consumer may have died of, and how that is found out. No I/O.

    lost, some without a Pong    each of them goes alone the next time; lost again: that one has failed, and by the
                                 ledger's rule for dead letters it may become one
    lost, some within the        all of them again, PATIENCE times; then first nothing at all for a window, so that a
    window behind their Pong     consumer which dies by itself is told from one that dies of an event; then a half, a
                                 quarter ... of them, each with a window to live through, until it is one event

What it lives through for a window is behind it. Who dies of something else a hundred times loses nothing: before it
has lived for a window without an event, none is held against it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

PATIENCE: Final = 3
"""Connections in a row that all of the window is sent to, before it is looked for what they die of."""
TRIES: Final = 2
"""Times that a consumer dies of one event alone until that is given up."""
_MOST_SUSPECTS: Final = 1000


class Blame:
    """Of one consumer, in memory: a new process begins with all of the window again."""

    def __init__(self) -> None:
        self.losses = 0
        """Connections in a row that were lost before the consumer had lived through what they were sent again."""
        self._suspects: dict[str, None] = {}

    # without a Pong

    def is_suspect(self, event_id: str) -> bool:
        """Is it to go alone?"""
        return event_id in self._suspects

    def suspect(self, event_ids: Iterable[str]) -> None:
        """These were on their way when the connection was lost."""
        self._suspects |= dict.fromkeys(event_ids)
        while len(self._suspects) > _MOST_SUSPECTS:
            del self._suspects[next(iter(self._suspects))]

    def clear(self, event_id: str) -> None:
        """It has its Pong, or is not this consumer's any more."""
        self._suspects.pop(event_id, None)

    # within the window

    @property
    def is_cautious(self) -> bool:
        """Is all of the window too much at a time?"""
        return self.losses > PATIENCE

    def size(self, n: int) -> int:
        """How many of n events to send first."""
        return max(1, n >> (self.losses - PATIENCE))

    def lost(self, *, again: bool, any_kept: bool) -> None:
        """The connection was lost. again: with something within the window that an earlier one had had already"""
        self.losses = self.losses + 1 if again else int(any_kept)

    def lived(self) -> None:
        """It has lived through all that it was sent again."""
        self.losses = 0
