"""The gate of one backend: how many deliveries at once, and none while it is the backend that fails.

    open --(unreachable, a credential refused, or many failures in a row)--> paused
    paused --(back-off over)--> one trial --(an answer)--> open
                                          \\--(a failure)--> paused, longer

A failure of the backend costs no event an attempt; that of one event is its lane's business. Where hardly anything else
is delivered one event alone can shut the gate: that spares it its attempts, and says nothing of the backend yet.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Protocol

from proxy.ledger.backoff import Backoff

log = logging.getLogger(__name__)

FAILURES_IN_A_ROW: Final = 8
"""Failed deliveries without a success between them that are taken for the backend's own failure."""
EVENTS_FAILED: Final = 3
"""As many different events among them, and it is certain."""
ALONE: Final = 60.0
"""Seconds for which fewer may fail, and nothing be taken, until it is certain as well: there may be one key alone."""


class Timer(Protocol):
    """What a clock gives for a call that is to come."""

    def cancel(self) -> None:
        """Do not call."""


CallLater = Callable[[float, Callable[[], None]], Timer]


class Gate:
    """One backend's gate. opened: called when a delivery may start that could not before."""

    def __init__(
        self, backend: str, concurrency: int, backoff: Backoff, call_later: CallLater, opened: Callable[[Gate], None]
    ) -> None:
        self.backend = backend
        self.concurrency = concurrency
        self.running = 0
        """Deliveries in flight."""
        self.successes = 0
        """Answers that took or refused an event, of replays and of live events."""
        self.paused = ""
        """Why no deliveries are made: a status that says that our credential is wrong. Empty otherwise."""
        self._backoff = backoff
        self._call_later = call_later
        self._opened = opened
        self._row = 0
        self._events: set[int] = set()
        """Some of the events that failed in this row, at most EVENTS_FAILED."""
        self._since = 0.0
        """When the first of them failed."""
        self._is_reached = True
        self._pauses = 0
        self._timer: Timer | None = None
        self._trial_due = False
        self._on_trial = False
        self._trials = 0
        self._live_since_pause = False
        self.is_open = True

    def is_failing(self, now: float) -> bool:
        """Shut, and certainly by the backend: it is not reached, or several events failed, or one for long."""
        if self.is_open:
            return False
        is_for_long = bool(self._events) and now - self._since >= ALONE
        return not self._is_reached or len(self._events) >= EVENTS_FAILED or is_for_long

    def may_start(self) -> bool:
        """May one more delivery start now?"""
        if self.is_open:
            return self.running < self.concurrency
        return self._trial_due and not self._on_trial

    def started(self) -> int:
        """A delivery starts; the number of the trial that it is, or 0."""
        self.running += 1
        if self.is_open:
            return 0
        self._trial_due = False
        self._on_trial = True
        self._trials += 1
        return self._trials

    def ended(self) -> None:
        """It ended, whatever it showed; say first what that was."""
        self.running -= 1

    def succeeded(self, n: int = 1) -> bool:
        """The backend gave answers that settle events; true when that opened the gate again."""
        self.successes += n
        self._forget_row()
        if self.is_open:
            return False
        self._open()
        return True

    def saw_live(self, n: int) -> None:
        """Workers got so many answers that settle events: the backend works, whatever single events show."""
        self.successes += n
        self._forget_row()
        if not self.is_open:
            self._live_since_pause = True
            self.try_now()

    def _forget_row(self) -> None:
        self._row = 0
        self._events.clear()

    def _open(self) -> None:
        log.warning("deliveries to %s go on", self.backend)
        self._cancel()
        self._is_reached = True
        self.is_open = True
        self._on_trial = False
        self._trial_due = False
        self._pauses = 0
        self.paused = ""

    def told_nothing(self, trial: int) -> None:
        """What was shown is of the event alone: if it was the trial, another event is to be one.

        trial: what `started` said of it
        """
        if self._on_trial and trial == self._trials:
            self._on_trial = False
            self._trial_due = True

    def failed(self, seq: int, now: float) -> None:
        """One event failed in a way that may be its own. now: monotonic seconds, as all of this class."""
        if not self._events:
            self._since = now
        self._row += 1
        if len(self._events) < EVENTS_FAILED:
            self._events.add(seq)
        if self._on_trial and self._live_since_pause:
            # The trial met an event that fails by itself: live ones were taken since the pause.
            self._row = 1
            self._open()
            return
        if self._on_trial or self._row >= FAILURES_IN_A_ROW:
            self._pause(f"{self._row} failures in a row", shown=False, is_reached=True)

    def pause(self, why: str, *, shown: bool) -> None:
        """It is the backend that fails. shown: a person must mend it, so say it in the statistics."""
        self._pause(why, shown=shown, is_reached=False)

    def _pause(self, why: str, *, shown: bool, is_reached: bool) -> None:
        self._is_reached = is_reached
        if not self.is_open and not self._on_trial:
            return
        self._pauses += 1
        self._on_trial = False
        wait = self._backoff.delay(self._pauses)
        if self.is_open or (shown and not self.paused):
            log.warning("deliveries to %s are paused: %s", self.backend, why)
        self.is_open = False
        self._live_since_pause = False
        self.paused = why if shown else ""
        self._timer = self._call_later(wait, self._trial)

    def try_now(self) -> None:
        """There is a sign that the backend is back: do not wait any longer."""
        if not self.is_open and not self._on_trial and not self._trial_due and not self.paused:
            self._cancel()
            self._trial()

    def _trial(self) -> None:
        self._timer = None
        self._trial_due = True
        self._opened(self)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """No more trials."""
        self._cancel()
        self._trial_due = False
