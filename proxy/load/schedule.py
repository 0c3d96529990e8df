"""When events are due: at a constant rate whatever the answers do, or as soon as the one before has ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol

from proxy.core.sketch import Sketch
from proxy.load.generator import Generator

TICK: Final = 0.001
"""Seconds between two looks at what is due, at least."""
_LONGEST: Final = 0.05
"""Seconds between two looks, at most: a stop is noticed within it."""


class Schedule(Protocol):
    """Offers events to a generator. started: perf_counter seconds, 0 before; late, latest: see `OpenLoop`."""

    started: float
    late: Sketch
    latest: float

    async def run(self, generator: Generator) -> None:
        """Offer events until there are enough, or `stop`; does not wait for their answers."""

    def stop(self) -> None:
        """Offer no more."""


class OpenLoop:
    """A constant rate. rate: events per second; count: how many, None for no end.

    late: how long after it was due the first event of each look was offered, seconds: the generator's own delay;
    latest: the longest of these. each_tick: called with every look.
    """

    def __init__(self, rate: float, count: int | None = None, *, each_tick: Callable[[], None] | None = None) -> None:
        self.rate = rate
        self.count = count
        self.started = 0.0
        self.late = Sketch()
        self.latest = 0.0
        self._each_tick = each_tick
        self._is_stopping = False

    async def run(self, generator: Generator) -> None:
        """See `Schedule`."""
        self.started = start = time.perf_counter()
        rate, count, offered = self.rate, self.count, 0
        while not self._is_stopping and (count is None or offered < count):
            now = time.perf_counter()
            wanted = int((now - start) * rate) + 1
            if count is not None:
                wanted = min(count, wanted)
            if offered < wanted:
                late = now - (start + offered / rate)
                self.late.add(late)
                self.latest = max(self.latest, late)
            for number in range(offered, wanted):
                generator.offer(number, start + number / rate)
            offered = max(offered, wanted)
            if self._each_tick is not None:
                self._each_tick()
            await asyncio.sleep(min(max(start + offered / rate - time.perf_counter(), TICK), _LONGEST))

    def stop(self) -> None:
        """See `Schedule`."""
        self._is_stopping = True


class ClosedLoop:
    """Each lane sends its next event when its last one has ended. count, seconds: whichever is reached first."""

    def __init__(self, count: int | None, seconds: float | None) -> None:
        self._count = count
        self._seconds = seconds
        self._offered = 0
        self.started = 0.0
        self.late = Sketch()
        self.latest = 0.0
        self._stopped = asyncio.Event()
        self._generator: Generator | None = None

    async def run(self, generator: Generator) -> None:
        """See `Schedule`."""
        self.started = time.perf_counter()
        self._generator = generator
        generator.on_free = self._offer
        for _ in generator.lanes:
            self._offer()
        try:
            async with asyncio.timeout(self._seconds):
                await self._stopped.wait()
        except TimeoutError:
            self.stop()

    def _offer(self) -> None:
        if self._stopped.is_set() or self._generator is None:
            return
        if self._count is not None and self._offered >= self._count:
            self._stopped.set()
            return
        self._offered += 1
        self._generator.offer(self._offered - 1, time.perf_counter())

    def stop(self) -> None:
        """See `Schedule`."""
        self._stopped.set()
