"""Is the share of failures above a limit? Asked after every report, for as long as the traffic runs.

A share in a window is wrong sooner or later when it is looked at often enough, and a test that keeps all evidence since
the beginning goes deaf: after a long good time a jump takes as long to show. This is the e-process for a change (Shin,
Ramdas, Rinaldo: E-detectors, 2023) in its CUSUM form, averaged over shares that the failures may have risen to:

    per alternative p_i > limit:   S_i = max(0, S_i + log-likelihood ratio of p_i against the limit)
    alarm:                         mean of exp(S_i) >= THRESHOLD

S_i rises no further than an alarm needs, so that an alarm ends soon after what it was about.
While the true share is at or below the limit, alarms are at least THRESHOLD / (number of alternatives) events apart on
average, whatever the share does there; above it, the alternative that is nearest tells soon.

Several tests look at a route, and each is a chance of a false alarm. They share one budget: a test that has half of it
needs twice the likelihood ratio, and all alarms together are as far apart as those of one test alone.
"""

from __future__ import annotations

from math import exp, log
from typing import Final, NamedTuple

THRESHOLD: Final = 1e6
ALTERNATIVES: Final = 24
OF_ERRORS: Final = 0.5
OF_LATENCY: Final = 0.25
OF_MISMATCHES: Final = 0.25
"""Shares of the budget. Failed events come first: they are what most reverts are for."""
LEAST_FAILURES: Final = 3
"""Failures without which nothing is said, however unlikely they are."""
LEAST_SECONDS: Final = 2.0
"""From the first of them to the last: one moment's trouble is no share."""

SUSPECTED: Final = 1e2
"""A mean likelihood ratio that is no alarm, and no good sign either."""
_NEAREST: Final = 1.25
"""The first alternative, as a multiple of the odds at the limit."""
_FARTHEST: Final = 0.9999
_LEAST_LIMIT: Final = 1e-6
"""What a limit of 0 is: three failures within thousands of events are too many then."""


class Suspicion(NamedTuple):
    """What speaks against the limit. since: when the present run of evidence began, monotonic seconds; total, failed:
    events since then; value: the mean likelihood ratio; threshold: from which value on it is an alarm.
    """

    since: float
    total: int
    failed: int
    value: float
    threshold: float

    @property
    def share(self) -> float:
        """Of failures, 0 to 1."""
        return self.failed / self.total if self.total else 0.0


class Counts(NamedTuple):
    """Cumulative counts of events. at: monotonic seconds."""

    at: float
    total: int
    failed: int


class _Alternative:
    """One share that failures may have risen to. failure, success: what each adds to the log-likelihood ratio `sum`;
    the rest counts since `sum` was 0 last.
    """

    __slots__ = ("begun", "failed", "failure", "first_failed", "last_failed", "success", "sum", "total")

    def __init__(self, share: float, limit: float) -> None:
        self.failure = log(share / limit)
        self.success = log((1.0 - share) / (1.0 - limit))
        self.reset()

    def reset(self) -> None:
        """Nothing speaks for it."""
        self.sum = 0.0
        self.total = self.failed = 0
        self.begun = self.first_failed = self.last_failed = 0.0

    def take(self, total: int, failed: int, now: float, most: float, top: float) -> None:
        """More events, which raise `sum` by no more than `most`, and never above `top`."""
        if not self.sum:
            if not failed:
                return
            self.reset()
            self.begun = now
        if failed:
            self.first_failed = self.first_failed if self.failed else now
            self.last_failed = now
        change = min(failed * self.failure + (total - failed) * self.success, most)
        self.sum = min(max(0.0, self.sum + change), top)
        self.total += total
        self.failed += failed


class ShareTest:
    """The test of one share. limit: failures per event that are still as they should be, above 0 and below 1; portions:
    so many of them it takes for an alarm at least, where the failures of one are not independent of each other; budget:
    this test's share of the false alarms that a route may have, above 0 and at most 1.

    It takes counts of what happened since it was asked last, in any portions: within one their order is not known, and
    is taken to be the one that says least. Successes alone say the same in one portion as one by one.
    """

    __slots__ = ("_alternatives", "_enough", "_most", "_threshold", "_top")

    def __init__(self, limit: float, portions: int = 1, *, budget: float = 1.0) -> None:
        if not 0.0 < limit < 1.0:
            raise ValueError(f"a limit is a share above 0 and below 1, not {limit}")
        self._alternatives = [_Alternative(share, limit) for share in alternatives(limit)]
        self._threshold = THRESHOLD / budget
        self._enough = log(self._threshold)
        self._top = log(self._threshold * ALTERNATIVES)  # with this one alternative alone is an alarm
        self._most = self._top / portions

    def reset(self) -> None:
        """Forget everything: the traffic is another one."""
        for each in self._alternatives:
            each.reset()

    def observe(self, total: int, failed: int, now: float) -> Suspicion | None:
        """Take more events, `failed` of `total`; the suspicion if it is an alarm. now: monotonic seconds."""
        for each in self._alternatives:
            each.take(total, failed, now, self._most, self._top)
        lead = max(self._alternatives, key=lambda each: each.sum)
        if lead.sum < self._enough or (value := self.value) < self._threshold:
            return None
        if lead.failed < LEAST_FAILURES or lead.last_failed - lead.first_failed < LEAST_SECONDS:
            return None
        return Suspicion(lead.begun, lead.total, lead.failed, value, self._threshold)

    @property
    def is_suspected(self) -> bool:
        """Does more speak against the limit than for it, though it may be no alarm yet?"""
        return self.value >= SUSPECTED

    @property
    def value(self) -> float:
        """The mean likelihood ratio; 1 when nothing is suspected."""
        return sum(exp(each.sum) for each in self._alternatives) / ALTERNATIVES


class CountedTest:
    """The test of one share by cumulative counts, so that a lost report loses nothing. limit: 0 to 1; at 1 nothing is
    ever too many; budget: see `ShareTest`.
    """

    __slots__ = ("_last", "_test", "limit")

    def __init__(self, limit: float, *, budget: float = 1.0) -> None:
        self.limit = limit
        self._test = ShareTest(max(limit, _LEAST_LIMIT), budget=budget) if limit < 1.0 else None
        self._last: Counts | None = None

    def reset(self) -> None:
        """What was counted so far is of other traffic; the next counts are where this one begins."""
        self._last = None
        if self._test is not None:
            self._test.reset()

    @property
    def is_suspected(self) -> bool:
        """Does more speak against the limit than for it, though it may be no alarm yet?"""
        return self._test is not None and self._test.is_suspected

    def observe(self, counts: Counts) -> Suspicion | None:
        """Take what was counted; the suspicion if it is an alarm."""
        last, self._last = self._last, counts
        if last is None or self._test is None:
            return None
        total, failed = counts.total - last.total, counts.failed - last.failed
        if total < 0 or failed < 0:
            # A process whose counts were in the sum is gone: a difference across that would be a guess.
            return None
        return self._test.observe(total, min(failed, total), counts.at)


def alternatives(limit: float) -> list[float]:
    """Shares above the limit, evenly spread in their log odds: from near by to nearly all."""
    first = log(limit / (1.0 - limit)) + log(_NEAREST)
    last = max(log(_FARTHEST / (1.0 - _FARTHEST)), first + 1.0)
    step = (last - first) / (ALTERNATIVES - 1)
    return [1.0 / (1.0 + exp(-(first + i * step))) for i in range(ALTERNATIVES)]
