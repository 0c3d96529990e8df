"""Latency quantiles from a dict of logarithmic buckets: mergeable, and within 1 % of the true value.

Bucket i holds the values in (1.02^(i-1), 1.02^i] seconds. The idea is DDSketch's (Masson, Rim, Lee,
VLDB 2019) without its bound on the number of buckets: 1 us to 1,000 s are about 1,050 of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, log, sqrt
from typing import Final

_GROWTH: Final = 1.02
_SCALE: Final = 1 / log(_GROWTH)
_LEAST: Final = 1e-6


class Sketch:
    """Counts of durations in seconds."""

    __slots__ = ("buckets",)

    def __init__(self, buckets: Mapping[int, int] | None = None) -> None:
        self.buckets: dict[int, int] = dict(buckets or {})

    def add(self, seconds: float, times: int = 1) -> None:
        """Count a duration so many times."""
        index = ceil(log(seconds) * _SCALE) if seconds > _LEAST else ceil(log(_LEAST) * _SCALE)
        buckets = self.buckets
        buckets[index] = buckets.get(index, 0) + times

    def merge(self, other: Sketch) -> None:
        """Add another sketch's counts to this one."""
        for index, count in other.buckets.items():
            self.buckets[index] = self.buckets.get(index, 0) + count

    def since(self, earlier: Sketch) -> Sketch:
        """What was counted after `earlier`, an earlier copy of this sketch."""
        grown = {i: n - earlier.buckets.get(i, 0) for i, n in self.buckets.items()}
        return Sketch({i: n for i, n in grown.items() if n > 0})

    @property
    def count(self) -> int:
        """How many durations were counted."""
        return sum(self.buckets.values())

    def quantile(self, q: float) -> float:
        """The duration in seconds below which a share `q` (0-1) lies; 0 when nothing was counted."""
        rank = q * (self.count - 1)
        seen = 0
        for index in sorted(self.buckets):
            seen += self.buckets[index]
            if seen > rank:
                return float(_GROWTH ** (index - 0.5))
        return 0.0

    def quantile_at_most(self, q: float, deviations: float) -> float:
        """What the quantile of where these durations come from is at most: by the durations that many standard
        deviations of its rank above. 0 when nothing was counted.
        """
        count = self.count
        rank = min(q * count + deviations * sqrt(q * (1.0 - q) * count), count - 1)
        seen = 0
        for index in sorted(self.buckets):
            seen += self.buckets[index]
            if seen > rank:
                return float(_GROWTH**index)
        return 0.0

    def above(self, seconds: float) -> int:
        """How many durations were longer for sure."""
        return sum(count for index, count in self.buckets.items() if _GROWTH ** (index - 1) >= seconds)
