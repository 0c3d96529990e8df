"""How the demo went: judged, as one line and as one JSON object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from proxy.demo.admin import Status
from proxy.demo.comparison import Comparison
from proxy.demo.verify import classes, lines


@dataclass(frozen=True)
class Injection:
    """Damage done to new's store at weight 100, to show that it is found and what comes of that."""

    lost: int = 0
    different: int = 0

    @property
    def total(self) -> int:
        """Events that are damaged."""
        return self.lost + self.different


def parse_injection(text: str | None) -> Injection:
    """Read `lost:3,different:2`; raises ValueError for anything else."""
    counts: dict[str, int] = {}
    for part in (text or "").split(",") if text else ():
        kind, _, count = part.partition(":")
        if kind not in ("lost", "different") or kind in counts or not count.isdecimal():
            raise ValueError(f"expected lost:N,different:N, not {text!r}")
        counts[kind] = int(count)
    return Injection(**counts)


@dataclass(frozen=True)
class Outcome:
    """How it went: the figures of the summary line and of the JSON object.

    requests, messages: events accepted over HTTP and over WebSocket; sessions: how many there were at a time; closed:
    that ended before their client ended them; injected: ids of events that were spoiled in new's store, by class;
    verification: what the consistency checker says.
    """

    requests: int
    messages: int
    sessions: int
    closed: int
    client_errors: int
    errors_text: str
    old: Comparison
    new: Comparison
    reverts: int
    time_to_revert: float
    weights: list[float]
    injected: dict[str, list[str]]
    status: Status
    verification: dict[str, Any]
    duration: float

    @property
    def accepted(self) -> int:
        """Events that were promised to a client, both ways."""
        return self.requests + self.messages

    @property
    def lost(self) -> int:
        """Accepted events that a store lacks."""
        return sum(len(side.lost) for side in (self.old, self.new))

    @property
    def different(self) -> int:
        """Events that a store holds with another body than was sent."""
        return sum(len(side.different) for side in (self.old, self.new))

    @property
    def is_ok(self) -> bool:
        """Everything that the demo promises."""
        sides = (self.old, self.new)
        return (
            min(self.requests, self.messages) > 0
            and all(side.is_complete and not side.misordered for side in sides)
            and self.client_errors == 0
            and self.reverts >= 1
            and self.pending == 0
            and self.is_balanced
            and self.verification["result"] == "pass"
        )

    @property
    def pending(self) -> int:
        """Events of either side that are not settled."""
        return sum(route.pending for route in self.status.routes)

    @property
    def is_balanced(self) -> bool:
        """The ledger's own word for it, and our sum over its states."""
        sides = [side for route in self.status.routes for side in route.sides.values()]
        return self.status.ledger.balanced is True and all(side.ledger.owed == side.ledger.in_states for side in sides)

    def as_dict(self) -> dict[str, Any]:
        """The object of `-o json`."""
        return {
            "result": "ok" if self.is_ok else "failed",
            "accepted": self.accepted,
            "http": {"accepted": self.requests},
            "websocket": {"accepted": self.messages, "sessions": self.sessions, "closed": self.closed},
            "old": {"stored": self.old.stored, "duplicates": self.old.duplicates},
            "new": {"stored": self.new.stored, "duplicates": self.new.duplicates},
            "lost": self.lost,
            "client_errors": self.client_errors,
            "reverts": self.reverts,
            "time_to_revert_s": round(self.time_to_revert, 3),
            "injected": self.injected,
            "weights": [int(weight) if weight == int(weight) else weight for weight in self.weights],
            "ledger": {"pending": self.pending, "dead": self.status.ledger.dead, "balanced": self.is_balanced},
            "verify": {name: self.verification[name] for name in ("result", "record", "classes", "findings")},
            "duration_s": round(self.duration, 1),
        }

    def problems(self) -> list[str]:
        """What is wrong, one line each."""
        found = [f"{name}: {line}" for name in ("old", "new") for line in getattr(self, name).problems()]
        if self.client_errors:
            found.append(f"client errors: {self.errors_text}")
        if self.pending or not self.is_balanced:
            found.append(f"ledger: {self.pending} pending, balanced: {self.is_balanced}")
        if self.verification["result"] != "pass":
            found += lines(self.verification)
        return found

    def summary(self) -> str:
        """The last line."""
        balance = "balanced" if self.is_balanced else "NOT BALANCED"
        stores = ", ".join(
            f"{name} stored {side.stored:,} (+{side.duplicates} duplicates)"
            for name, side in (("old", self.old), ("new", self.new))
        )
        return (
            f"{'ok' if self.is_ok else 'FAILED'}: lost {self.lost} of {self.accepted:,} accepted"
            f"{f', different {self.different}' if self.different else ''} "
            f"({self.requests:,} over HTTP, {self.messages:,} over WebSocket in {self.sessions} sessions, "
            f"{self.closed} closed); {stores}; "
            f"client errors {self.client_errors}; reverts {self.reverts} "
            f"(after {self.time_to_revert:.1f} s); "
            f"ledger pending {self.pending}, {balance}; "
            f"verify {self.verification['result']}: {classes(self.verification)}; {self.duration:.0f} s"
        )
