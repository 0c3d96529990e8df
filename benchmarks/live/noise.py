"""A healthy new under noise: none of it is new's own, or more than what is still as it should be."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from typing import Final, NamedTuple

from benchmarks.live.figures import Revert
from benchmarks.live.reverts import BUSY, WEIGHT
from benchmarks.live.stand import ToyStand, stand
from proxy.demo.load import Load, until_accepted
from proxy.demo.record import Record, joined
from proxy.demo.toy import ToyBackend

_SEED: Final = 17
_CALM: Final = (1.0, 4.0)
"""Seconds between two disturbances, from and to."""
_PAUSE: Final = (0.1, 0.4)
"""Seconds for which a whole backend stands still."""
_BURST: Final = 3.0
"""As a multiple of the rate, on top of it."""
_JITTER: Final = ({"share": 0.2, "seconds": 0.01}, {"share": 0.02, "seconds": 0.1})
"""Answers that come later, at either backend."""
_ERRORS: Final = {"share": 0.003}
"""A third of what a trigger lets pass."""


class Healthy(NamedTuple):
    """seconds: of the noise, or until the revert; disturbances: by kind; errors: of clients."""

    seconds: float
    disturbances: Counter[str]
    events: int
    errors: int
    revert: Revert | None

    @property
    def noise(self) -> str:
        """For a person."""
        return ", ".join(f"{number} {kind}" for kind, number in sorted(self.disturbances.items()))


async def measure(seconds: float) -> Healthy:
    """So long. Raises BenchmarkFailed when a store lacks an event in the end."""
    async with stand(ToyBackend, stage="dualwrite") as opened:
        steady = Load(opened.instance.address, rate=BUSY.rate)
        noise = Noise(opened)
        steady.start()
        try:
            await opened.live(WEIGHT)
            await until_accepted(steady, BUSY.warm)
            began = time.monotonic()
            revert = await _watch(opened, noise, began, seconds)
            took = time.monotonic() - began
            record = joined([await steady.stop(), *noise.records])
        finally:
            await steady.cancel()
        await opened.drained(record.accepted)
        opened.check_stores(record)
        return Healthy(took, noise.made, record.accepted, record.client_errors, revert)


async def _watch(opened: ToyStand, noise: Noise, began: float, seconds: float) -> Revert | None:
    making = asyncio.create_task(noise.make())
    watching = asyncio.create_task(opened.reverted(began, seconds))
    try:
        await asyncio.wait((making, watching), return_when=asyncio.FIRST_COMPLETED)
        if making.done():
            making.result()  # it has no end but an error
        return await watching
    finally:
        for task in (making, watching):
            task.cancel()
        await asyncio.gather(making, watching, return_exceptions=True)
        await noise.end()


class Noise:
    """Disturbs both backends, each by itself, and sends bursts. made: how often, by kind; records: of the bursts."""

    def __init__(self, opened: ToyStand) -> None:
        self._opened = opened
        self._chance = random.Random(_SEED)
        self.made: Counter[str] = Counter()
        self.records: list[Record] = []

    async def make(self) -> None:
        """Without an end."""
        kinds = {"pauses": self._pause, "jitters": self._jitter, "times with errors": self._fail, "bursts": self._burst}
        while True:
            await asyncio.sleep(self._chance.uniform(*_CALM))
            name = self._chance.choice(sorted(kinds))
            await kinds[name](self._chance.choice((self._opened.old, self._opened.new)))
            self.made[name] += 1

    async def end(self) -> None:
        """No fault any more."""
        for backend in (self._opened.old, self._opened.new):
            await backend.fault("none")

    async def _pause(self, backend: ToyBackend) -> None:
        backend.child.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(self._chance.uniform(*_PAUSE))
        finally:
            backend.child.signal(signal.SIGCONT)

    async def _jitter(self, backend: ToyBackend) -> None:
        """Until the next one of this kind at this backend, or errors."""
        await backend.fault("slow", **self._chance.choice(_JITTER))

    async def _fail(self, backend: ToyBackend) -> None:
        await backend.fault("errors", **_ERRORS)

    async def _burst(self, _backend: ToyBackend) -> None:
        load = Load(self._opened.instance.address, rate=_BURST * BUSY.rate, seed=len(self.records) + 2)
        load.start()
        try:
            await asyncio.sleep(1.0)
            self.records.append(await load.stop())
        finally:
            await load.cancel()
