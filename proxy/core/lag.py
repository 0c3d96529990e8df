"""Does a side fall behind what it is owed? By what waits for it in the ledger, now and a window ago.

    taken = owed within the window, less the rise of what waits

    taken < 80 % of owed, and some events more that wait     it falls behind
    the oldest waits for longer than the limit               it is behind ...
        and they get fewer                                     ... and works that off: never a reason to go back
        and there are few, while others are taken              ... with some keys alone: the same

What falls behind or is behind without being one of the last two is a lag. How long that lasts without a break says
whether it is more than a burst.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Final, NamedTuple

MOST_APART: Final = 10.0
"""Seconds between two looks beyond which they say nothing together."""
SHARE: Final = 0.8
"""Of what a side is owed, what it takes at least if it does not fall behind."""
LEAST: Final = 20
"""Events: fewer that wait may be those of some keys, or on their way."""
_FEWER: Final = 0.01
"""Of what is owed, by how much more a side takes if its backlog really gets smaller."""


class Waiting(NamedTuple):
    """What the ledger says of a side. owed: events, a balance that falls when receipts are dropped; pending: of these,
    the ones that wait; oldest: seconds that the first of them has waited, 0 without any.
    """

    at: float
    owed: int
    pending: int
    oldest: float


class Kind(Enum):
    """In which way a side is behind."""

    UNKNOWN = "unknown"
    """The oldest waits too long; it was not watched for long enough to say more."""
    FEWER = "fewer"
    """They get fewer."""
    FEW = "few"
    """They are few, and others are taken."""
    FALLS_BEHIND = "falls-behind"
    IS_BEHIND = "is-behind"


LAGS: Final = (Kind.FALLS_BEHIND, Kind.IS_BEHIND)


class Lag(NamedTuple):
    """A side that is behind. owed: events, within `seconds`, of which it has taken so many; pending, oldest: see
    `Waiting`; lasts: seconds for which it has been a lag.
    """

    kind: Kind
    owed: int
    taken: int
    seconds: float
    pending: int
    oldest: float
    lasts: float

    @property
    def is_lag(self) -> bool:
        """If this lasts, it is a reason to go back."""
        return self.kind in LAGS


class LagTest:
    """Watches one side. window: seconds that it looks back; limit: seconds that an event may wait."""

    def __init__(self, window: float, limit: float) -> None:
        self._window = window
        self._limit = limit
        self._seen: deque[Waiting] = deque()
        """Its `owed` are counts that never fall."""
        self._balance = 0
        self._since: float | None = None

    def reset(self) -> None:
        """What was seen says nothing of now."""
        self._seen.clear()
        self._since = None

    def observe(self, waiting: Waiting) -> Lag | None:
        """Take what the ledger says; None while the side is not behind. Times do not fall."""
        seen = self._seen
        if seen and waiting.at - seen[-1].at > MOST_APART:
            self.reset()  # this process stood still: nobody knows what was in between
        # A dropped segment of receipts lowers the balance: what rose in the same moment is not seen then.
        owed = seen[-1].owed + max(0, waiting.owed - self._balance) if seen else 0
        self._balance = waiting.owed
        seen.append(waiting._replace(owed=owed))
        while len(seen) > 2 and seen[1].at <= waiting.at - self._window:
            seen.popleft()
        first, last = seen[0], seen[-1]
        kind = self._kind(first, last)
        if kind not in LAGS:
            self._since = None
        elif self._since is None:
            self._since = last.at
        if kind is None:
            return None
        lasts = 0.0 if self._since is None else last.at - self._since
        owed, rise = last.owed - first.owed, last.pending - first.pending
        return Lag(kind, owed, max(0, owed - rise), last.at - first.at, last.pending, last.oldest, lasts)

    def _kind(self, first: Waiting, last: Waiting) -> Kind | None:
        is_old = last.pending > 0 and last.oldest > self._limit
        if last.at - first.at < self._window:
            return Kind.UNKNOWN if is_old else None
        owed, rise = last.owed - first.owed, last.pending - first.pending
        taken = owed - rise
        if rise >= LEAST and taken < SHARE * owed:
            return Kind.FALLS_BEHIND
        if not is_old:
            return None
        if -rise > _FEWER * owed:
            return Kind.FEWER
        return Kind.FEW if last.pending < LEAST and taken > 0 else Kind.IS_BEHIND
