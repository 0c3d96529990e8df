"""The plain automatic revert: a share of failures over its limit, of answers or of what the checker judged.

The sequential tests that judge small differences come on top of this; the plain trigger catches the
failures that need no statistics. It takes cumulative counts so that a lost report loses nothing.
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
    """A sliding window over cumulative counts. window: seconds; limit: ratio 0-1; what: happened to events that failed,
    in words.
    """

    def __init__(self, limit: float, min_samples: int, window: float, what: str = "events failed at new") -> None:
        self._what = what
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
        return f"{failed} of {total} {self._what} within {self._window:g} s ({share})"
