"""A share over its limit in a sliding window: of what the checker judged, which comes window by window.

It takes cumulative counts so that a lost report loses nothing. Answers, which are looked at several times a second, are
judged by `proxy.core.sequential`.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple


class Sample(NamedTuple):
    """Cumulative counts of events at new. at: monotonic seconds."""

    at: float
    total: int
    failed: int


class SlidingRate:
    """A sliding window over cumulative counts. window: seconds; limit: ratio 0-1."""

    def __init__(self, limit: float, min_samples: int, window: float) -> None:
        self._limit = limit
        self._min_samples = min_samples
        self._window = window
        self._samples: deque[Sample] = deque()

    def reset(self) -> None:
        """Forget what was seen: the weight changed, so the traffic is another."""
        self._samples.clear()

    def observe(self, sample: Sample) -> str | None:
        """Take a sample; the reason for a revert when the limit is breached, else None."""
        samples = self._samples
        if samples and (sample.total < samples[-1].total or sample.failed < samples[-1].failed):
            # A process whose counts were in the sum is gone: a difference across that would be a guess,
            # and could revert a healthy side.
            samples.clear()
        samples.append(sample)
        while len(samples) > 2 and samples[1].at <= sample.at - self._window:
            samples.popleft()
        total = sample.total - samples[0].total
        failed = sample.failed - samples[0].failed
        if total < self._min_samples or failed <= self._limit * total:
            return None
        share = f"{failed / total:.1%}, limit {self._limit:.1%}"
        return f"{failed} of {total} settled events differ at new within {self._window:g} s ({share})"
