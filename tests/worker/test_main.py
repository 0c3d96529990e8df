"""A worker that retires is told to stop: before, meanwhile, or as it has ended."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from proxy.control.inherit import RELIEVED, Stops
from proxy.worker.__main__ import _retire
from proxy.worker.worker import Worker

pytestmark = pytest.mark.asyncio


class FakeStops:
    """Reasons as they are given."""

    def __init__(self, *given: str) -> None:
        self.given: asyncio.Queue[str] = asyncio.Queue()
        for each in given:
            self.given.put_nowait(each)

    async def next(self) -> str:
        return await self.given.get()


class FakeWorker:
    """Retires until it is let go."""

    def __init__(self, *, has_ended: bool = False) -> None:
        self.end = asyncio.Event()
        if has_ended:
            self.end.set()
        self.was_cancelled = False
        self.stops: list[bool] = []

    async def retire(self) -> None:
        try:
            await self.end.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise

    async def stop(self, *, is_relieved: bool = False) -> None:
        self.stops.append(is_relieved)


async def retired(worker: FakeWorker, stops: FakeStops) -> str:
    async with asyncio.timeout(5):
        return await _retire(cast(Worker, worker), cast(Stops, stops))


async def test_one_that_nobody_stops_is_relieved() -> None:
    worker = FakeWorker(has_ended=True)
    assert await retired(worker, FakeStops()) == RELIEVED
    assert worker.stops == []


async def test_what_was_said_before_it_began_stops_it() -> None:
    worker = FakeWorker()
    assert await retired(worker, FakeStops("SIGTERM")) == "SIGTERM"
    assert (worker.was_cancelled, worker.stops) == (True, [False])


async def test_what_is_said_as_it_ends_is_the_reason() -> None:
    worker = FakeWorker(has_ended=True)
    assert await retired(worker, FakeStops("the launcher died")) == "the launcher died"
