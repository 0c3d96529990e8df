"""The watch over a new that takes events and answers none; how that is told is in `proxy.core.silence`.

The breaker hears of what has failed, which takes `response_timeout`, and the health probe of a path of its own. This is
for what neither sees: a new that accepts connections and probes, and lets every event wait.
"""

from __future__ import annotations

from typing import Any, Final

from config.model import Route
from proxy.control.probes import Probes
from proxy.control.status import side_stats
from proxy.control.tally import Tally
from proxy.control.watch import Cause
from proxy.core.event import NEW, OLD
from proxy.core.silence import Asked, SilenceTest

SILENCE: Final = "silence"
LEAST: Final = 3
"""Events that wait all that time: one or two may be of the kind that takes long, or is never taken."""
_HOLDS: Final = 0.5
"""Of the limit, what is no good sign."""


class SilenceWatch:
    """New's answers: none for so long, to events that workers have sent it."""

    def __init__(self, route: Route, tally: Tally, probes: Probes) -> None:
        self._route, self._old, self._new = route.name, route.old, route.new
        self._limit = route.trigger.silence
        self._tally = tally
        self._probes = probes
        self._several, self._any, self._of_old = SilenceTest(), SilenceTest(), SilenceTest()
        """Of new while at least LEAST events wait; of new while any does; of old."""
        self._doubt = ""

    def begin(self, epoch: int) -> None:
        """What was sent before says nothing of this weight."""
        for test in (self._several, self._any, self._of_old):
            test.reset()
        self._doubt = ""

    def judge(self, now: float) -> Cause | None:
        """By what is on its way to both sides, and what has come back."""
        old, new = (self._observe(side, now) for side in (OLD, NEW))
        self._of_old.observe(old)
        due = self._balance(NEW, "pending")
        # With few keys one event is on its way, and those behind it are the ledger's.
        waiting = max(new.waiting, due) if new.waiting else 0
        lasts = self._several.observe(new._replace(waiting=waiting if waiting >= LEAST else 0))
        of_any = self._any.observe(new)
        self._doubt = ""
        if lasts is None or lasts < self._limit:
            if of_any is not None and (of_any >= self._limit or (lasts or 0.0) >= _HOLDS * self._limit):
                events = "event" if waiting == 1 else "events"
                self._doubt = f"{self._new} has answered nothing for {of_any:.0f} s, to {waiting} {events}"
            return None
        evidence: dict[str, Any] = {"lasts": round(lasts, 3), "limit": self._limit}
        evidence |= {"waiting": new.waiting, "pending": due}
        text = f"{self._new} has answered nothing for {lasts:.0f} s (limit {self._limit:g} s)"
        text = f"{text}, and {waiting} events wait for it"
        if self._is_old_silent(old, now - lasts):
            return Cause(
                SILENCE, f"{text}; old answers nothing either, so nothing is reverted", evidence, is_alert=True
            )
        return Cause(SILENCE, text, evidence)

    def doubts(self) -> list[str]:
        """One or two events that wait for as long as is too long, or more of them for half of it."""
        return [self._doubt] if self._doubt else []

    def _observe(self, side: int, now: float) -> Asked:
        answered = self._tally.replies(self._route, side)
        answered += self._balance(side, "delivered") + self._balance(side, "refused")
        return Asked(now, self._tally.outstanding(self._route, side, now), answered)

    def _balance(self, side: int, state: str) -> int:
        stats = side_stats(self._tally.ledger, self._route, side)
        return stats.balance.get(state, 0) if stats is not None else 0

    def _is_old_silent(self, old: Asked, since: float) -> bool:
        """Is it the machine or the network, rather than new? Old that is asked nothing is known by its probe alone."""
        answered_at = self._of_old.answered_at
        if answered_at is not None and answered_at > since:
            return False
        return old.waiting > 0 or self._probes.healthy.get(self._old) is False
