"""Is new slower than old, at the same time? By how many of its answers take longer than old's quantile allows.

    limit of a quantile q = what old's q is at most (by its last WINDOW), times 1 + ratio, and at least `floor` more
    of new's answers, 1 - q may take longer; ShareTest says when more do
    of old's latest as well; where more of them do, it is not new's doing

Comparing two quantiles would need a test of its own and many answers; this one is always valid and never deaf. A p99
needs more answers than there are while something is wrong, so it is not judged.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from proxy.core.sequential import OF_LATENCY, ShareTest, Suspicion
from proxy.core.sketch import Sketch

QUANTILES: Final = (0.5, 0.95)
WINDOW: Final = 60.0
"""Seconds of old's answers that new's are held against."""
LEAST: Final = 100
"""Answers of old without which nothing is known of its quantiles."""
LEAST_SINCE: Final = 20
"""The same since new became slower: without them nobody knows whether old did, too."""
PORTIONS: Final = 10
"""Looks that it takes at least: a pause delays everything that it meets, and is over then."""
_SURE: Final = 3.0
"""Standard deviations by which old's quantile may be underrated."""


class Slower(NamedTuple):
    """What was found at a quantile. limit: seconds that 1 - quantile of new's answers may take longer than, last."""

    quantile: float
    limit: float
    suspicion: Suspicion


class SlowerTest:
    """Holds new's answers against old's. ratio: by how much a quantile may be above old's, above 0; floor: seconds by
    which it may be in any case.

    It takes cumulative sketches, so that a lost report loses nothing.
    """

    def __init__(self, ratio: float, floor: float) -> None:
        self._ratio = ratio
        self._floor = floor
        budget = OF_LATENCY / len(QUANTILES)
        self._tests = [
            (q, ShareTest(1.0 - q, PORTIONS, budget=budget), ShareTest(1.0 - q, PORTIONS, budget=budget))
            for q in QUANTILES
        ]
        """Of old, of new."""
        self._old: deque[tuple[float, Sketch]] = deque()
        self._new: Sketch | None = None

    def reset(self) -> None:
        """The traffic is another one."""
        self._old.clear()
        self._new = None
        for _, *tests in self._tests:
            for test in tests:
                test.reset()

    def observe(self, old: Sketch, new: Sketch, now: float) -> Slower | None:
        """Take the latencies counted so far; what is an alarm. now: monotonic seconds."""
        last, self._new = self._new, new
        before = self._old[-1][1] if self._old else old
        self._old.append((now, old))
        while len(self._old) > 2 and self._old[1][0] <= now - WINDOW:
            self._old.popleft()
        lately = old.since(self._old[0][1])
        if last is None or lately.count < LEAST:
            return None
        latest_old, latest_new = old.since(before), new.since(last)
        found = None
        for quantile, of_old, of_new in self._tests:
            most = lately.quantile_at_most(quantile, _SURE)
            limit = max(most * (1.0 + self._ratio), most + self._floor)
            of_old.observe(latest_old.count, latest_old.above(limit), now)
            suspicion = of_new.observe(latest_new.count, latest_new.above(limit), now)
            if suspicion is None or found is not None or of_old.is_suspected:
                continue
            if self._answers_of_old(suspicion.since) >= LEAST_SINCE:
                found = Slower(quantile, limit, suspicion)
        return found

    def _answers_of_old(self, since: float) -> int:
        earlier = next((sketch for at, sketch in reversed(self._old) if at < since), self._old[0][1])
        return self._old[-1][1].since(earlier).count
