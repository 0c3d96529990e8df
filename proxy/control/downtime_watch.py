"""The watch over how long new's health probe fails, all told: a new that comes and goes is never away for long.

What a probe found holds until the next one. So where these are rare one of them is long; it takes as many failures as
make an endpoint unhealthy, only that they need not be in a row.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from config.model import Route
from proxy.control.probes import Probes
from proxy.control.watch import Cause
from proxy.core.downtime import Downtime

AVAILABILITY: Final = "availability"
_LOOK: Final = 1.0
"""Seconds between looks, as between two probes unless the configuration says otherwise."""
_HOLDS: Final = 0.5
"""Of the limit, what is no good sign."""


class DowntimeWatch:
    """What the last probe of new found, once a second: a doubt first, and a cause when it adds up."""

    def __init__(self, route: Route, probes: Probes) -> None:
        self._old, self._new = route.old, route.new
        self._limit, self._window = route.trigger.downtime, route.trigger.downtime_window
        self._probes = probes
        self._down, self._alone = Downtime(self._window), Downtime(self._window)
        """Of new; of new while old was not down as well."""
        self._failed_at: deque[float] = deque()
        """When probes of new failed, within the window."""
        self._failures = 0
        """Of all, how many were seen."""
        self._looked: float | None = None
        self._found: Cause | None = None
        self._doubt = ""

    def begin(self, epoch: int) -> None:
        """It was down before: who turns the weight has seen it, and a new that is mended is not reverted for it."""
        self._down.reset()
        self._alone.reset()
        self._failed_at.clear()
        self._failures = self._probes.failures[self._new]
        self._looked, self._found, self._doubt = None, None, ""

    def judge(self, now: float) -> Cause | None:
        """By what the probes found last."""
        if self._looked is None or now - self._looked >= _LOOK:
            self._looked = now
            self._found, self._doubt = self._judged(now)
        return self._found

    def doubts(self) -> list[str]:
        """Half of what is too much."""
        return [self._doubt] if self._doubt else []

    def _judged(self, now: float) -> tuple[Cause | None, str]:
        answers = self._probes.answers
        is_down = answers.get(self._new) is False
        down = self._down.observe(now, is_down=is_down)
        alone = self._alone.observe(now, is_down=is_down and answers.get(self._old) is not False)
        failed = self._failed(now)
        watched = self._down.watched(now)
        span = f"the last {self._window:g} s"
        if watched < self._window:  # it is watched anew after a change, a drill, and a restart of this process
            span = f"the {watched:.0f} s watched at this weight"
        text = f"the health probe of {self._new} failed for {down:.0f} s of {span}"
        if down < self._limit or failed < self._probes.patience(self._new):
            return None, text if down >= _HOLDS * self._limit else ""
        text = f"{text} (limit {self._limit:g} s)"
        evidence: dict[str, Any] = {"down": round(down, 3), "down_alone": round(alone, 3), "failed_probes": failed}
        since = self._down.since
        evidence |= {"limit": self._limit, "window": round(watched, 3), "seconds": round(now - (since or now), 3)}
        if alone < self._limit:
            text = f"{text}; that of {self._old} failed as well, so nothing is reverted"
            return Cause(AVAILABILITY, text, evidence, is_alert=True), ""
        return Cause(AVAILABILITY, text, evidence), ""

    def _failed(self, now: float) -> int:
        """How many probes of new failed within the window."""
        failures, failed_at = self._probes.failures[self._new], self._failed_at
        failed_at.extend([now] * (failures - self._failures))
        self._failures = failures
        while failed_at and failed_at[0] <= now - self._window:
            failed_at.popleft()
        return len(failed_at)
