"""The demo's load over HTTP: a careful client, and its own record of what it was promised.

A lane sends one event at a time. Keys are dealt out to the lanes, so that an event is answered before
the next one of its key is sent; `shared` keys are drawn by all of them, so that events of one key are
on their way at the same time.

An event that is not answered with 2xx counts as a client error and is sent again under the same id,
as a careful client would.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

import orjson

from config.units import Address
from proxy.demo.record import Promise, Record
from proxy.demo.store import digest_of
from proxy.load.generator import DONE, Generator, Lane
from proxy.load.requests import LOAD_HEADER, Event, Requests, default_body
from proxy.load.schedule import OpenLoop
from proxy.load.target import plain

_LATE = 1.0  # a lane that is behind by more seconds forgets what it missed: no burst after a stall
_RETRY_WAIT = 0.1
_HEADERS = ("Content-Type: application/json", "X-Event-Id: {{id}}", f"{LOAD_HEADER}: demo")


class Load:
    """Sends events until `stop`; `record` grows meanwhile.

    rate: events per second over all connections; timeout: seconds an answer may take; patience: seconds
    for which one event is tried; pad: bytes added to each body; shared: every connection sends events of
    every key; seed: of the choice of keys.
    """

    def __init__(
        self,
        address: Address,
        *,
        rate: float,
        keys: int = 1_200,
        connections: int = 24,
        seed: int = 1,
        timeout: float = 20.0,
        patience: float = 60.0,
        pad: int = 0,
        shared: bool = False,
    ) -> None:
        self.record = Record()
        self.rate = rate
        self._patience = patience
        every = range(keys)
        self._keys = [every if shared else every[lane::connections] for lane in range(connections)]
        self._chosen = [random.Random(seed * 1_000 + lane) for lane in range(connections)]
        self._again: dict[str, float] = {}
        """When events that failed are tried again, by id."""
        target = plain(address)
        self._requests = Requests(
            target, default_body(pad), keys=keys, headers=_HEADERS, key_of=lambda _n, lane: self._choose(lane)
        )
        self._generator = Generator(
            target, self._make, self, connections=connections, timeout=timeout, patience=_LATE, is_sticky=True
        )
        self._schedule = OpenLoop(rate)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; a connection is opened when it is needed."""
        self._generator.start()
        self._task = asyncio.create_task(self._schedule.run(self._generator))

    async def stop(self) -> Record:
        """Send nothing new, wait for the answers that are due; the record."""
        self._schedule.stop()
        if self._task is not None:
            await self._task
        self._generator.forget_waiting()
        await self._generator.finish()
        self._generator.close()
        return self.record

    async def cancel(self) -> None:
        """End at once, whatever is in flight."""
        self._generator.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def check(self) -> None:
        """Raise what stopped the load, if something did."""
        task = self._task
        if task is not None and task.done() and not task.cancelled() and (error := task.exception()) is not None:
            raise error

    def _choose(self, lane: int) -> int:
        return self._chosen[lane].choice(self._keys[lane])

    def _make(self, n: int, lane: int) -> Event:
        event = self._requests.make(n, lane)
        self.record.digests[event.id] = digest_of(event.body)
        return event

    # as the generator's listener

    def ended(self, lane: Lane, now: float) -> float:
        """An attempt has ended; when the event is to be sent again."""
        record, event = self.record, lane.event
        assert event is not None
        if lane.is_untouched:
            record.reopened += 1
            return 0.0
        if lane.failure:
            record.failures[lane.failure] += 1
        else:
            record.statuses[lane.status] += 1
            record.retry_after += lane.status == 503 and lane.has_header(b"retry-after")
        if (lane.failure or lane.status >= 500) and now <= lane.sent_at + self._patience:
            self._again[event.id] = now + _RETRY_WAIT
            return _RETRY_WAIT
        tried = self._again.pop(event.id, 0.0)
        if 200 <= lane.status < 300:
            by = _answerer(lane.body)
            record.promises.append(Promise(event.id, event.key, by, lane.status, lane.sent_at, now, tried=tried))
        return DONE

    def dropped(self, due: float) -> None:
        """It was behind, and forgets."""

    def closed(self) -> None:
        """An idle connection was closed: no request was hurt."""


def _answerer(body: bytes) -> str:
    try:
        return str(orjson.loads(body)["by"])
    except (orjson.JSONDecodeError, TypeError, KeyError):
        return ""


async def until_accepted(load: Load, more: int, seconds: float = 60.0) -> None:
    """Wait until so many more events were accepted; raises TimeoutError, or what a sender raised."""
    wanted = load.record.accepted + more

    def are_accepted() -> bool:
        load.check()
        return load.record.accepted >= wanted

    await wait_until(are_accepted, seconds, f"{more} more events")


async def wait_until(true: Callable[[], bool], seconds: float, what: str) -> None:
    """Poll until `true()`; raises TimeoutError naming `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {seconds:g} s")
        await asyncio.sleep(0.02)
