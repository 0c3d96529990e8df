"""Figures of one route over some time: what is kept of the past, and added up when a longer time is asked for.

    counted since the first start --since(an earlier one)--> of a span --merged(the next one)--> of a longer one

Counts and latencies add up exactly. What has a value at each moment and no sum (a weight, a backlog) is told by its
last value or by its worst, as the fields say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

from proxy.core.sketch import Sketch

_Number = TypeVar("_Number", int, float)
_WORST: Final = ("", "nodata", "pass", "inconclusive", "fail")


class SideFigures(msgspec.Struct, array_like=True):
    """One side.

    answers, failed: of the backend to events of the route, and those that were failures; chosen: events whose authority
    it was; body_bytes: of events that it has accepted, from workers and ledger; latency: a `proxy.core.sketch.Sketch`'s
    buckets; pending, oldest_age (seconds): the most that the ledger had for it, None while it was not connected
    """

    answers: int = 0
    failed: int = 0
    chosen: int = 0
    body_bytes: int = 0
    latency: dict[int, int] = {}
    pending: int | None = None
    oldest_age: float | None = None

    @property
    def sketch(self) -> Sketch:
        """The latencies, in seconds."""
        return Sketch(self.latency)

    def since(self, before: SideFigures) -> SideFigures:
        """What was counted after `before`."""
        return msgspec.structs.replace(
            self,
            answers=max(0, self.answers - before.answers),
            failed=max(0, self.failed - before.failed),
            chosen=max(0, self.chosen - before.chosen),
            body_bytes=max(0, self.body_bytes - before.body_bytes),
            latency=self.sketch.since(before.sketch).buckets,
        )

    def merged(self, later: SideFigures) -> SideFigures:
        """Of both times together."""
        return SideFigures(
            self.answers + later.answers,
            self.failed + later.failed,
            self.chosen + later.chosen,
            self.body_bytes + later.body_bytes,
            _added(self.latency, later.latency),
            _most(self.pending, later.pending),
            _most(self.oldest_age, later.oldest_age),
        )


class Figures(msgspec.Struct, array_like=True):
    """A route over `seconds`.

    epoch, weight (percent): at the end; verdict: the worst, empty before there was one; accepted: events
    mismatches: identities by class, of all routes whose stores are checked together, None while no checker was heard
    sessions: open WebSocket sessions of all routes, the most
    """

    seconds: float = 0.0
    epoch: int = 0
    weight: float = 0.0
    verdict: str = ""
    accepted: int = 0
    sides: tuple[SideFigures, SideFigures] = msgspec.field(default_factory=lambda: (SideFigures(), SideFigures()))
    mismatches: dict[str, int] | None = None
    sessions: int = 0

    def since(self, before: Figures, seconds: float) -> Figures:
        """What was counted after `before`. A count that fell, because an account was lost, begins anew here."""
        mismatches = None
        if self.mismatches is not None:
            # What a checker had found before it was first heard is not of this time.
            known = self.mismatches if before.mismatches is None else before.mismatches
            mismatches = {name: n for name, number in self.mismatches.items() if (n := number - known.get(name, 0)) > 0}
        return msgspec.structs.replace(
            self,
            seconds=seconds,
            accepted=max(0, self.accepted - before.accepted),
            sides=(self.sides[0].since(before.sides[0]), self.sides[1].since(before.sides[1])),
            mismatches=mismatches,
        )

    def merged(self, later: Figures) -> Figures:
        """Of both times together."""
        heard = [each.mismatches for each in (self, later) if each.mismatches is not None]
        return Figures(
            seconds=self.seconds + later.seconds,
            epoch=later.epoch,
            weight=later.weight,
            verdict=max(self.verdict, later.verdict, key=_badness),
            accepted=self.accepted + later.accepted,
            sides=(self.sides[0].merged(later.sides[0]), self.sides[1].merged(later.sides[1])),
            mismatches=dict(sum((Counter(each) for each in heard), Counter())) if heard else None,
            sessions=max(self.sessions, later.sessions),
        )


def _badness(verdict: str) -> int:
    return _WORST.index(verdict) if verdict in _WORST else 0


def _added(one: Mapping[int, int], other: Mapping[int, int]) -> dict[int, int]:
    sketch = Sketch(one)
    sketch.merge(Sketch(other))
    return sketch.buckets


def _most(one: _Number | None, other: _Number | None) -> _Number | None:
    known = [each for each in (one, other) if each is not None]
    return max(known) if known else None
