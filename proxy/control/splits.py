"""The split check: whether events go to the side that their bucket says, by what each worker counted.

Every ten seconds a worker tells how its events lay over the buckets, and how many of them it gave to new. By the weight
it is known which buckets are new's, so the two numbers must be the same, event for event; a share by chance is no
matter here. An interval in which the dials were turned says nothing.
"""

from __future__ import annotations

from array import array
from collections import deque
from typing import Final, NamedTuple

from proxy.control.link import RouteSpread
from proxy.core.choose import BUCKETS, Plan

REMEMBERED: Final = 60.0
"""Seconds for which a wrong split is a doubt."""


class Wrong(NamedTuple):
    """at: when it was told, monotonic seconds; worker: its index; events: that new got too many, or if negative, too
    few; of: all in that interval.
    """

    at: float
    worker: int
    events: int
    of: int


class Splits:
    """What was found wrong lately, by route."""

    def __init__(self) -> None:
        self._wrong: dict[str, deque[Wrong]] = {}

    def take(self, worker: int, spread: RouteSpread, plan: Plan, now: float) -> int:
        """Check one interval of a worker in which the plan was this one; how many events went to the wrong side."""
        counts = array("I")
        if len(spread.counts) != counts.itemsize * BUCKETS:
            return 0  # no event, or of another form
        counts.frombytes(spread.counts)
        events = spread.chosen_new - sum(counts[: plan.threshold])
        if events:
            self._wrong.setdefault(spread.route, deque(maxlen=100)).append(Wrong(now, worker, events, sum(counts)))
        return abs(events)

    def doubt(self, route: str, now: float) -> str:
        """What stands against trusting a route's split now; empty when nothing does."""
        found = self._wrong.get(route, deque())
        while found and now - found[0].at > REMEMBERED:
            found.popleft()
        if not found:
            return ""
        last = found[-1]
        more = "too many" if last.events > 0 else "too few"
        return f"worker {last.worker} gave new {abs(last.events)} {more} of {last.of} events, by their buckets"
