"""What a run came to, and whether that was good enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from proxy.core.event import SIDES
from proxy.load.stores import Holding
from proxy.load.tally import Tally
from proxy.load.wire import UNSENT

QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
LONGEST: Final = "max"
MAX_ERRORS: Final = "errors"

BEHIND_SECONDS: Final = 0.5
BEHIND_SHARE: Final = 0.01
"""A rate is kept when the last event left at most so many seconds late, and this share of the run's time beside them.

Without the seconds a short run would fail for one slow answer; `proxyctl load --help` has both figures.
"""
_BELOW: Final = 0.95
"""Share of the wanted rate below which what was reached is said, of a rate that counts as kept, too."""
_BUSY: Final = 0.9
"""Share of a core from which on the generator itself is the bottleneck."""
_LATE: Final = 0.05
"""Seconds: a generator that looks this late at what is due makes the target look worse than it is."""


class Threshold(NamedTuple):
    """name: p50 to p99 or max (limit in seconds), or errors (a share 0-1 of the events that were sent)."""

    name: str
    limit: float


class Missed(NamedTuple):
    """A threshold that was missed. value: the figure."""

    name: str
    limit: float
    value: float


class Pace(NamedTuple):
    """How the generator kept up.

    wanted, achieved: events/s, wanted being None in a closed loop; behind: seconds that the last event left late;
    late_p99, late_max: seconds that the generator itself looked late at what was due; cpu: share of a core.
    """

    wanted: float | None
    achieved: float
    behind: float
    late_p99: float
    late_max: float
    cpu: float


@dataclass(frozen=True)
class Summary:
    """One run. seconds: from the first event to the last answer; unanswered: on their way when it was cut short."""

    target: str
    connections: int
    seconds: float
    tally: Tally
    pace: Pace
    thresholds: tuple[Threshold, ...] = ()
    unanswered: int = 0
    is_interrupted: bool = False
    stored: Mapping[str, Holding | str] = field(default_factory=dict)
    """By store, what it holds, or why it could not be asked."""
    side: str | None = None
    """The side that all events were forced to."""
    is_session: bool = False
    """The connections are sessions."""

    @property
    def _connections(self) -> str:
        return "sessions" if self.is_session else "connections"

    @property
    def sent(self) -> int:
        """Events that should have left and whose end is known, or that are still on their way."""
        return self.tally.ended_count + self.unanswered

    @property
    def error_share(self) -> float:
        """0-1: events that were sent and not accepted."""
        ended = self.tally.ended_count
        return (ended - self.tally.accepted) / ended if ended else 0.0

    def quantile(self, name: str) -> float:
        """p50 to p99 or max, seconds; to 1 %, and never beyond the longest."""
        longest = self.tally.longest
        return longest if name == LONGEST else min(longest, self.tally.latency.quantile(QUANTILES[name]))

    def missed(self) -> list[Missed]:
        """The thresholds that were missed; a latency's also when no event was answered."""
        found = []
        for name, limit in self.thresholds:
            value = self.error_share if name == MAX_ERRORS else self.quantile(name)
            if value > limit or (name != MAX_ERRORS and not self.tally.latency.buckets):
                found.append(Missed(name, limit, value))
        return found

    def rate_problem(self) -> str:
        """Why the wanted rate was not kept; empty when it was."""
        pace, wanted = self.pace, self.pace.wanted
        if wanted is None:
            return ""
        unsent = self.tally.failures[UNSENT]
        if not unsent and pace.behind <= BEHIND_SECONDS + BEHIND_SHARE * self.sent / wanted:
            return ""
        what = f"{pace.achieved:,.1f} of {wanted:,.1f} events/s were sent, the last one {pace.behind:.2f} s late"
        if pace.cpu >= _BUSY:
            return f"{what}: this generator took {pace.cpu:.0%} of a core and cannot keep the rate"
        if pace.late_p99 >= _LATE:
            return f"{what}: this generator got too little of the processor (up to {pace.late_max:.2f} s late)"
        return f"{what}: all {self.connections} {self._connections} waited for answers (more: --connections)"

    def store_problems(self) -> list[str]:
        """What the stores called old and new do not hold as they should, or do not say, where a side was forced."""
        found = []
        for name, held in self.stored.items():
            if self.side is None or name not in SIDES:
                continue
            if isinstance(held, str):
                found.append(f"{name} cannot be asked whether events were forced to {self.side}: {held}")
            elif name == self.side and held.events < self.tally.accepted:
                found.append(f"{name} holds {held.events:,} of {self.tally.accepted:,} accepted events")
            elif name != self.side and held.events:
                found.append(f"{name} holds {held.events:,} events that were forced to {self.side}")
        return found

    def notes(self) -> list[str]:
        """What a reader should know of the figures."""
        found, pace = [], self.pace
        if pace.wanted is not None and pace.achieved < _BELOW * pace.wanted and not self.rate_problem():
            found.append(
                f"{pace.achieved:,.1f} of {pace.wanted:,.1f} events/s were reached, for the last one left "
                f"{pace.behind:.2f} s late; that counts as kept"
            )
        if pace.wanted is not None and pace.late_p99 >= _LATE:
            found.append(f"the generator itself was up to {pace.late_max:.2f} s late, which the latencies include")
        if self.tally.closed_by_target:
            what = "sessions, which were opened anew" if self.is_session else "idle connections"
            found.append(f"the target closed {self.tally.closed_by_target} {what}")
        return found

    @property
    def is_ok(self) -> bool:
        """Every threshold was met, the rate kept, something accepted unless nothing was asked for, stored as forced."""
        is_served = self.tally.accepted > 0 or self.is_interrupted
        return is_served and not (self.missed() or self.rate_problem() or self.store_problems())

    def as_dict(self) -> dict[str, Any]:
        """For JSON: times in seconds, shares 0-1."""
        tally, pace = self.tally, self.pace
        return {
            "result": "ok" if self.is_ok else "failed",
            "interrupted": self.is_interrupted,
            "target": self.target,
            "transport": "websocket" if self.is_session else "http",
            "connections": self.connections,
            "duration_s": round(self.seconds, 3),
            "rate": {"wanted": pace.wanted, "achieved": round(pace.achieved, 3), "problem": self.rate_problem()},
            "sent": self.sent,
            "accepted": tally.accepted,
            "refused": tally.refused,
            "failed": tally.failed,
            "unanswered": self.unanswered,
            "statuses": {str(status): count for status, count in sorted(tally.statuses.items())},
            "failures": dict(sorted(tally.failures.items())),
            "error_share": round(self.error_share, 6),
            "latency_s": {name: self._rounded(name) for name in (*QUANTILES, LONGEST)},
            "generator": {
                "late_p99_s": round(pace.late_p99, 6),
                "late_max_s": round(pace.late_max, 6),
                "cpu_share": round(pace.cpu, 3),
            },
            "stored": {
                name: {"error": found} if isinstance(found, str) else found._asdict()
                for name, found in self.stored.items()
            },
            "thresholds": [each._asdict() for each in self.thresholds],
            "side": self.side,
            "store_problems": self.store_problems(),
            "missed": [each._asdict() for each in self.missed()],
            "notes": self.notes(),
        }

    def _rounded(self, name: str) -> float | None:
        return round(self.quantile(name), 6) if self.tally.latency.buckets else None
