"""Since when old lacks events: from the first one that new answered at a position where old is not owed it.

Workers say how often each side was chosen, and under which epoch. A position holds for a span of epochs:

    epoch     4 live        5 complete                  6 live
    reports      |----------------|--------|---------------|-->    new was chosen in one that touches the span: date it
                          from here on

The date is that of the report before, hence up to one interval too early and never too late. What a worker
answered in its last interval before it was killed is known to nobody; the next event dates it then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from config.model import Route
from proxy.control.audit import iso
from proxy.control.link import WorkerStats
from proxy.control.state import LiveState, leaves_old_incomplete
from proxy.control.tally import Tally
from proxy.core.event import NEW

log = logging.getLogger(__name__)


@dataclass
class Span:
    """The epochs of one position, `until` excluded (None: it holds still). began: seconds since 1970."""

    since: int
    began: float
    until: int | None = None

    def touches(self, before: int, now: int) -> bool:
        """May a report at epoch `now`, after one at `before`, tell of events of this position?"""
        return now >= self.since and (self.until is None or before < self.until)


class Completeness:
    """Dates each route once, in the tally. wall: seconds since 1970."""

    def __init__(self, routes: Mapping[str, Route], tally: Tally, wall: Callable[[], float]) -> None:
        self._routes = routes
        self._tally = tally
        self._wall = wall
        self._spans: dict[str, Span] = {}
        self._reported: dict[int, float] = {}
        self._is_first = True
        for name in tally.old_incomplete.keys() - routes.keys():
            del tally.old_incomplete[name]

    def take(self, state: LiveState) -> None:
        """This is the live state from now on."""
        for name, route in self._routes.items():
            span = self._spans.get(name)
            holds = span is not None and span.until is None
            if leaves_old_incomplete(state.routes[name].dials, carry_over=route.carry_over):
                if not holds:
                    # The state that a new supervisor finds may be older than its epoch.
                    self._spans[name] = Span(0 if self._is_first else state.revision, self._wall())
            elif span is not None and holds:
                span.until = state.revision
        self._is_first = False

    def heard(self, index: int, before: WorkerStats | None, stats: WorkerStats) -> bool:
        """A worker's report, and the one before it of the same life; true when a route was dated by it."""
        now = self._wall()
        last = self._reported.get(index, 0.0)
        self._reported[index] = now
        dated = False
        for name, span in self._spans.items():
            known = before.chosen.get(name, (0, 0))[NEW] if before is not None else 0
            if name in self._tally.old_incomplete or stats.chosen.get(name, (0, 0))[NEW] <= known:
                continue
            if span.touches(before.epoch if before is not None else stats.epoch, stats.epoch):
                since = iso(max(span.began, last))
                self._tally.old_incomplete[name] = since
                log.warning("old is incomplete since %s: it is not owed what new answers", since, extra={"route": name})
                dated = True
        return dated
