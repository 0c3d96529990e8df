"""How much the hooks take: so many notifications at once, and so many a second. The rest gets 429.

Each hook counts each token by itself, so that a client in a loop shuts out nobody else.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from proxy.control.problems import Problem

AT_ONCE: Final = 16
"""Notifications that are being read, worked on, or wait for that."""
PER_SECOND: Final = 5.0
BURST: Final = 50.0
REFUSED: Final = "refused"


class Bucket:
    """A token bucket. most: tokens at the start and at most; rate: tokens a second; clock: monotonic seconds."""

    def __init__(self, most: float, rate: float, clock: Callable[[], float]) -> None:
        self._most = most
        self._rate = rate
        self._clock = clock
        self._at = clock()
        self._left = most

    def take(self) -> float:
        """Take a token: 0, or the seconds until there is one."""
        self._refill()
        if self._left < 1:
            return (1 - self._left) / self._rate
        self._left -= 1
        return 0.0

    @property
    def is_full(self) -> bool:
        """As if nobody had ever taken any."""
        self._refill()
        return self._left >= self._most

    def _refill(self) -> None:
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._at) * self._rate)
        self._at = now


class HookLimit:
    """What one hook takes of one token: a bucket and a bound of what is inside. clock: monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._bucket = Bucket(BURST, PER_SECOND, clock)
        self._inside = 0

    def enter(self) -> None:
        """One notification begins, which `leave` ends; raises Problem 429 with Retry-After."""
        if self._inside >= AT_ONCE:
            raise Problem(429, f"{AT_ONCE} notifications are being worked on: come again", retry_after=1)
        wait = self._bucket.take()
        if wait:
            detail = f"more than {PER_SECOND:g} notifications a second: come again"
            raise Problem(429, detail, retry_after=math.ceil(wait))
        self._inside += 1

    def leave(self) -> None:
        """It has ended."""
        self._inside -= 1

    @property
    def is_idle(self) -> bool:
        """It knows nothing that a new one would not."""
        return not self._inside and self._bucket.is_full


class HookLimits:
    """Those of all hooks and tokens. counts: gets `alerts:HOOK:refused`; clock: monotonic seconds."""

    def __init__(self, counts: Counter[str], clock: Callable[[], float]) -> None:
        self._counts = counts
        self._clock = clock
        self._limits: dict[tuple[str, str], HookLimit] = {}

    @contextmanager
    def entered(self, hook: str, token: str) -> Iterator[None]:
        """A notification comes to a hook with a token of this name, from before it is read; raises Problem 429."""
        self._limits = {name: each for name, each in self._limits.items() if not each.is_idle}
        limit = self._limits.setdefault((hook, token), HookLimit(self._clock))
        try:
            limit.enter()
        except Problem:
            self._counts[f"alerts:{hook}:{REFUSED}"] += 1
            raise
        try:
            yield
        finally:
            limit.leave()
