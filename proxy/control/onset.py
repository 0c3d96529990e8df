"""Since when there was the trouble for which a route is reverted, as far as it is known: for "seconds to detect".

An alarm of a test says it itself, as do a lag, a silence and a downtime. An open breaker and a failed health probe know
when the first of their failures in a row was sent: one that is no answer is told long after that. Before them there may
be a run of failed events as well. What the checker confirms has a time of its own, but none before the weight was
changed last. A report tells of the time since the one before it, so what it tells first counts from there: the seconds
are at most so many. A test counts from when failures were told.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from config.model import Route
from proxy.control.downtime_watch import AVAILABILITY
from proxy.control.lag_watch import LAG
from proxy.control.link import STATS_INTERVAL
from proxy.control.silence_watch import SILENCE
from proxy.control.tally import Tally
from proxy.control.watch import Cause
from proxy.control.watches import BREAKER, DEPENDENCY, ERROR_RATE, HEALTH, SLOWER
from proxy.core.event import NEW

RUN_ENDS: Final = 10.0
"""Seconds without a failure after which the next one begins another run."""


class Onset:
    """Of one route, since its weight or copy was changed last."""

    def __init__(self, route: Route, tally: Tally) -> None:
        self._route = route.name
        self._tally = tally
        self._changed_at = self._run_at = self._last_at = 0.0
        self._failed = -1
        """Failures of new ever, when it was looked at last; below 0 before."""
        self._has_run = False

    def begin(self, now: float) -> None:
        """The traffic is another one from now on (monotonic seconds)."""
        self._changed_at = now
        self._failed = -1
        self._has_run = False

    def look(self, now: float) -> None:
        """There are new figures."""
        _, failed = self._tally.answered(self._route, NEW)
        if self._failed >= 0 and failed > self._failed:
            if not self._has_run or now - self._last_at > RUN_ENDS:
                self._run_at, self._has_run = max(self._changed_at, now - STATS_INTERVAL), True
            self._last_at = now
        self._failed = failed

    def seconds(self, cause: Cause, now: float, wall: float) -> float | None:
        """How long there was cause for a revert that is decided now, at most; None where nobody knows.

        wall: seconds since 1970.
        """
        if cause.kind in (ERROR_RATE, SLOWER):
            return float(cause.evidence["test"]["seconds"])
        if cause.kind == AVAILABILITY:
            return float(cause.evidence["seconds"])
        if cause.kind in (LAG, SILENCE):
            return float(cause.evidence["lasts"])
        if cause.kind in (BREAKER, HEALTH, DEPENDENCY):
            return self._of_a_run(cause, now)
        times = [at for each in cause.evidence.get("samples", []) if (at := _moment(each.get("time"))) is not None]
        if not times:
            return None
        return round(min(max(0.0, wall - min(times)), now - self._changed_at), 3)

    def _of_a_run(self, cause: Cause, now: float) -> float | None:
        """By the failures in a row that the cause knows of, and by the present run of failed events."""
        known = []
        if "lasts" in cause.evidence:
            known.append(min(float(cause.evidence["lasts"]), now - self._changed_at))
        if self._has_run and now - self._last_at <= RUN_ENDS:
            known.append(now - self._run_at)
        return round(max(known), 3) if known else None


def _moment(text: object) -> float | None:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None
