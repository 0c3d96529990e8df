"""Counts how events ended, and times those that were answered."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from proxy.core.sketch import Sketch
from proxy.load.generator import DONE, Lane
from proxy.load.wire import TIMEOUT, UNSENT


class Moment(NamedTuple):
    """The counts at a moment."""

    ended: int
    accepted: int
    latency: Sketch


class Tally:
    """A listener that counts.

    statuses: answers by status; confirmed: messages whose Pong came; failures: events without either, by kind
    (`proxy.load.wire.FAILURES`); latency: seconds from when an event was due to the end of its answer, or until its
    answer was given up; closed_by_target: connections that it closed while they were idle, and sessions.
    """

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.failures: Counter[str] = Counter()
        self.latency = Sketch()
        self.longest = 0.0
        self.closed_by_target = 0
        self.confirmed = 0

    def ended(self, lane: Lane, now: float) -> float:
        """See `proxy.load.generator.Listener`."""
        if not lane.failure:
            statuses, seconds = self.statuses, now - lane.due
            if lane.status:
                statuses[lane.status] = statuses.get(lane.status, 0) + 1
            else:
                self.confirmed += 1
            self.latency.add(seconds)
            if seconds > self.longest:
                self.longest = seconds
        else:
            self.failures[lane.failure] += 1
            if lane.failure == TIMEOUT:
                self.latency.add(now - lane.due)
                self.longest = max(self.longest, now - lane.due)
        return DONE

    def dropped(self, due: float) -> None:
        """See `proxy.load.generator.Listener`."""
        self.failures[UNSENT] += 1

    def closed(self) -> None:
        """See `proxy.load.generator.Listener`."""
        self.closed_by_target += 1

    @property
    def answered(self) -> int:
        """Events with an answer, or a Pong."""
        return self.statuses.total() + self.confirmed

    @property
    def ended_count(self) -> int:
        """Events that have ended in whatever way."""
        return self.answered + self.failures.total()

    @property
    def accepted(self) -> int:
        """Events answered 2xx, or confirmed."""
        return self.confirmed + sum(n for status, n in self.statuses.items() if 200 <= status < 300)

    @property
    def refused(self) -> int:
        """Events answered 3xx or 4xx."""
        return sum(n for status, n in self.statuses.items() if 300 <= status < 500)

    @property
    def failed(self) -> int:
        """Events answered 5xx, or not at all."""
        return self.ended_count - self.accepted - self.refused

    def moment(self) -> Moment:
        """The present counts, to be compared with later ones."""
        return Moment(self.ended_count, self.accepted, Sketch(self.latency.buckets))
