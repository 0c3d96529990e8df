"""Circuit breaker of one backend: closed, open, and one trial at a time in between.

    closed --(failures in a row)--> open --(reset time)--> half open --success--> closed
                                     ^                          |
                                     +---------- failure -------+

Time is given by the caller (monotonic seconds). `is_closed` is a plain attribute so that the hot
path reads a flag. pybreaker was measured at 830 ns per guarded call against 40 ns here, and its
half-open state lets every waiting call through; DECISIONS.md has the entry.
"""

from __future__ import annotations

import msgspec


class BreakerTrouble(msgspec.Struct, frozen=True, array_like=True):
    """Why a breaker is not closed. reason: its last failure; failures: so many in a row; lasts: seconds since the first
    of them was sent.
    """

    reason: str
    failures: int
    lasts: float


class Breaker:
    """Counts failures in a row. failures: how many open it; reset: seconds until a trial."""

    __slots__ = ("_failures", "_opened_at", "_reason", "_reset", "_since", "_trial_at", "is_closed", "opened", "row")

    def __init__(self, failures: int, reset: float) -> None:
        self._failures = failures
        self._reset = reset
        self.row = 0
        """Failures in a row; while it is 0 a success changes nothing."""
        self._opened_at = 0.0
        self._trial_at: float | None = None
        self.is_closed = True
        self.opened = 0
        """How often it has opened."""
        self._reason = ""
        self._since: float | None = None

    def allows(self, now: float) -> bool:
        """May an event be sent now? While open, one trial per reset time."""
        if self.is_closed:
            return True
        since = self._opened_at if self._trial_at is None else self._trial_at
        if now - since < self._reset:
            return False
        self._trial_at = now
        return True

    def succeeded(self) -> None:
        """The backend answered; any answer below 500 counts."""
        self.row = 0
        self.is_closed = True
        self._trial_at = self._since = None

    def note(self, now: float, reason: str, sent_at: float = 0.0) -> None:
        """The last failure, if this is the last. sent_at: when what failed had been sent, 0 where it never was."""
        self._reason = reason
        if self._since is None:
            self._since = sent_at or now

    def failed(self, now: float, reason: str = "", sent_at: float = 0.0) -> bool:
        """The backend failed, as `note` takes it; true when this very failure opened the breaker."""
        self.note(now, reason, sent_at)
        self.row += 1
        if not self.is_closed:
            self._opened_at = now
            self._trial_at = None
            return False
        if self.row < self._failures:
            return False
        self.is_closed = False
        self._opened_at = now
        self._trial_at = None
        self.opened += 1
        return True

    def state(self, now: float) -> str:
        """closed, open, or half-open when a trial is due or under way."""
        if self.is_closed:
            return "closed"
        return "half-open" if self._trial_at is not None or now - self._opened_at >= self._reset else "open"

    def trouble(self, now: float) -> BreakerTrouble | None:
        """Why it is not closed; None while it is."""
        if self.is_closed:
            return None
        return BreakerTrouble(self._reason, self.row, round(now - (now if self._since is None else self._since), 3))
