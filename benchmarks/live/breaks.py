"""How new is broken, and mended again."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import Final, NamedTuple, Protocol

from benchmarks.live.stand import ToyStand
from benchmarks.processes import BenchmarkFailed

_FIRST_SECONDS: Final = 60.0
"""Until an event meets a fault; with few of them it takes a while."""


class Break(Protocol):
    """One way to be broken."""

    async def begin(self, stand: ToyStand) -> float:
        """Break new; from when on the time counts, monotonic seconds."""

    async def end(self, stand: ToyStand) -> None:
        """Mend it."""


class Dead:
    """kill -9. The time counts from the kill: what is on its way fails with it, the next event is refused."""

    async def begin(self, stand: ToyStand) -> float:
        """See `Break`."""
        began = time.monotonic()
        stand.new.child.signal(signal.SIGKILL)
        await stand.new.child.ended(5.0)
        return began

    async def end(self, stand: ToyStand) -> None:
        """Start it again, with the same store."""
        await stand.new.restart()


class Faulty(NamedTuple):
    """A fault of `proxy.demo.faults`. share: of new's events, 0 to 1. The time counts from the first that met it."""

    kind: str
    share: float = 1.0
    seconds: float = 0.5

    async def begin(self, stand: ToyStand) -> float:
        """See `Break`."""
        await stand.new.fault(self.kind, share=self.share, seconds=self.seconds)
        deadline = time.monotonic() + _FIRST_SECONDS
        while (met_at := (await stand.new.state())["met_at"]) is None:
            if time.monotonic() > deadline:
                raise BenchmarkFailed(f"no event met the fault {self.kind} within {_FIRST_SECONDS:g} s")
            await asyncio.sleep(0.01)
        return float(met_at)

    async def end(self, stand: ToyStand) -> None:
        """No fault any more."""
        await stand.new.fault("none")
