"""The watch over what new is owed and does not take; how that is told is in `proxy.core.lag`."""

from __future__ import annotations

from typing import Any, Final

from config.model import Route
from proxy.control.status import side_stats
from proxy.control.tally import Tally
from proxy.control.watch import Cause
from proxy.core.event import NEW, OLD
from proxy.core.lag import Kind, Lag, LagTest, Waiting

LAG: Final = "lag"
_LOOK: Final = 1.0
"""Seconds between looks."""


class LagWatch:
    """What new is owed and does not take: a doubt first, and a cause once it has lasted.

    Only while new's breakers are closed: what waits because new was away is its outage, which has a watch of its own.
    """

    def __init__(self, route: Route, tally: Tally) -> None:
        trigger = route.trigger
        self._route, self._new = route.name, route.new
        self._limit, self._revert = trigger.lag_age, trigger.lag_revert
        self._tests = {side: LagTest(trigger.lag_window, trigger.lag_age) for side in (OLD, NEW)}
        self._tally = tally
        self._looked = 0.0
        self._found: Cause | None = None
        self._doubt = ""

    def begin(self, epoch: int) -> None:
        """What waited before says nothing of this weight."""
        self._reset()

    def judge(self, now: float) -> Cause | None:
        """By what the ledger says of both sides."""
        if not self._is_closed():
            self._reset()
        elif now - self._looked >= _LOOK:
            self._looked = now
            found = {side: self._observe(side, now) for side in (OLD, NEW)}
            self._found, self._doubt = self._judged(found[NEW], found[OLD])
        return self._found

    def doubts(self) -> list[str]:
        """Events that wait, and have not done so for long enough, or are getting fewer."""
        return [self._doubt] if self._doubt else []

    def _is_closed(self) -> bool:
        ledger = self._tally.ledger
        reports = [stats.breakers for _, stats in self._tally.present()] + ([ledger.breakers] if ledger else [])
        return all(breakers.get(self._new, "closed") == "closed" for breakers in reports)

    def _reset(self) -> None:
        for test in self._tests.values():
            test.reset()
        self._found, self._doubt = None, ""

    def _observe(self, side: int, now: float) -> Lag | None:
        stats = side_stats(self._tally.ledger, self._route, side)
        if stats is None:
            self._tests[side].reset()
            return None
        balance = stats.balance
        waiting = Waiting(now, balance.get("owed", 0), balance.get("pending", 0), stats.oldest_pending_age)
        return self._tests[side].observe(waiting)

    def _judged(self, new: Lag | None, old: Lag | None) -> tuple[Cause | None, str]:
        if new is None:
            return None, ""
        text = self._text(new)
        if not new.is_lag or new.lasts < self._revert:
            so_far = f"; for {new.lasts:.0f} s now, and {self._revert:g} s are too long" if new.is_lag else ""
            return None, text + so_far
        evidence: dict[str, Any] = {"owed": new.owed, "taken": new.taken, "seconds": round(new.seconds, 3)}
        evidence |= {"pending": new.pending, "oldest_age": round(new.oldest, 3), "lasts": round(new.lasts, 3)}
        cause = Cause(LAG, f"{text}; for {new.lasts:.0f} s now", evidence)
        if old is not None and old.is_lag:
            text = f"{cause.text}; old is behind as well, so nothing is reverted"
            cause = cause._replace(text=text, is_alert=True)
        return cause, ""

    def _text(self, lag: Lag) -> str:
        stats = side_stats(self._tally.ledger, self._route, NEW)
        paused = f", for deliveries are paused ({stats.paused})" if stats is not None and stats.paused else ""
        wait = f"{lag.pending} {'event waits' if lag.pending == 1 else 'events wait'} for new{paused}"
        if lag.kind is Kind.FALLS_BEHIND:
            return f"new took {lag.taken} of the {lag.owed} events that it was owed in {lag.seconds:.0f} s; {wait}"
        more = {
            Kind.UNKNOWN: "; whether they get fewer is not known yet",
            Kind.FEWER: "; they get fewer",
            Kind.FEW: "; others get there",
        }.get(lag.kind, "")
        return f"{wait}, the oldest for {lag.oldest:.0f} s (limit {self._limit:g} s){more}"
