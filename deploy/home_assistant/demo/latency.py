"""How long a change takes from Home Assistant to the process that writes it to its store.

A point has the time of the change as its own, and as its `id` a UUID of version 1 (RFC 9562, section 5.1), in which is
the time when its writer was about to write it; both are of this machine's clock. The same changes go to a second
monolith at the same time, without a proxy between. What the proxy adds is, for each change, the difference of the two.
"""

from __future__ import annotations

import statistics
import uuid
from typing import Any, Final, NamedTuple

from deploy.home_assistant.demo.compared import Change
from deploy.influxdb import Points

_SINCE_1582: Final = 0x01B21DD213814000
"""1970 in steps of 100 ns, as the UUID counts them."""
LEAST: Final = 20
"""Changes that a p95 takes."""
ADDED_BOUND: Final = 0.020
"""Seconds that the proxy may add to p95 of the way to a store."""
PROCESSES: Final = 3
"""On the way through the proxy, where the other one has one: on a busy machine each of them waits its turn."""


class Latency(NamedTuple):
    """Of the changes that went both ways. rate: of them, per second; the others are seconds: p95 of the way without a
    proxy and of the one through it, and p50 and p95 of what each change took longer through it.
    """

    changes: int
    rate: float
    direct: float
    proxied: float
    added_median: float
    added: float

    @property
    def bound(self) -> float:
        """What may be added, seconds. Where the machine is so busy that the way without a proxy shows it, as many times
        that as there are processes on the way: what is measured then is the machine.
        """
        return max(ADDED_BOUND, PROCESSES * self.direct)

    def problems(self) -> list[str]:
        """What is wrong, one line each."""
        if self.added < self.bound:
            return []
        return [
            f"the proxy adds p95 {self.added * 1e3:.1f} ms to the way to a store, not less than {self.bound * 1e3:.1f}"
        ]

    def text(self) -> str:
        """For a person."""
        return (
            f"p95 from source to store {self.proxied * 1e3:.1f} ms, {self.direct * 1e3:.1f} ms without a proxy; "
            f"added by it p50 {self.added_median * 1e3:.1f} ms, p95 {self.added * 1e3:.1f} ms "
            f"({self.changes:,} changes at {self.rate:.0f}/s)"
        )

    def as_dict(self) -> dict[str, Any]:
        """Milliseconds, for `-o json`."""
        return {
            "changes": self.changes,
            "rate": round(self.rate, 1),
            "direct_p95_ms": round(self.direct * 1e3, 2),
            "proxied_p95_ms": round(self.proxied * 1e3, 2),
            "added_p50_ms": round(self.added_median * 1e3, 2),
            "added_p95_ms": round(self.added * 1e3, 2),
        }


def delays(points: Points) -> dict[Change, float]:
    """By change, the seconds until it was written."""
    return {
        (dict(tags)["entity_id"], at // 1000): _written(fields["id"]) - at / 1e9
        for (_, tags), rows in points.items()
        for at, fields in rows.items()
    }


def compared(direct: dict[Change, float], proxied: dict[Change, float]) -> Latency:
    """Both ways of the changes that went both. Raises ValueError when these are too few."""
    both = sorted(direct.keys() & proxied.keys(), key=lambda change: change[1])
    if len(both) < LEAST:
        raise ValueError(f"only {len(both)} changes went both ways, not {LEAST}")
    added = [proxied[change] - direct[change] for change in both]
    seconds = (both[-1][1] - both[0][1]) / 1e6
    return Latency(
        changes=len(both),
        rate=len(both) / max(seconds, 1e-6),
        direct=_p95([direct[change] for change in both]),
        proxied=_p95([proxied[change] for change in both]),
        added_median=statistics.median(added),
        added=_p95(added),
    )


def _p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20, method="inclusive")[-1]


def _written(id: str) -> float:
    """Seconds since 1970."""
    return (uuid.UUID(hex=id).time - _SINCE_1582) / 1e7
