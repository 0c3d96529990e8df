"""From what a source brought to what the route has accepted: bounded, in order per key, nothing dropped.

put() --> line of its key --> lane --> 2xx             accepted
          (oldest first)           --> refusal for good  counted, and behind us
                                   --> anything else     again after a while; its key waits
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from proxy.core.event import DELIVERED, REFUSED, classify
from proxy.ledger.backoff import Backoff
from proxy.sources.event import SourceEvent
from proxy.sources.lane import Lane
from proxy.sources.share import Share

log = logging.getLogger(__name__)

LANES: Final = 32
"""Events of a source, of as many keys, that are on their way at a time."""
_CONFLICT: Final = 422
"""What a route with `dedupe` says to an id that it has accepted with another body."""


class _Waiting(NamedTuple):
    event: SourceEvent
    accepted: Callable[[], None]


class Admission:
    """The events of one source. share: of all sources; key_of: reads an event's key; most: that may be unaccepted.

    new_id: for an event without one; count: things by name.
    """

    def __init__(
        self,
        lanes: Sequence[Lane],
        share: Share,
        key_of: Callable[[bytes], str | None],
        backoff: Backoff,
        most: int,
        new_id: Callable[[], str],
        count: Callable[[str], None],
    ) -> None:
        self._share = share
        self._lanes = lanes
        self._key_of = key_of
        self._backoff = backoff
        self._most = most
        self._new_id = new_id
        self._count = count
        self._lines: dict[str | int, deque[_Waiting]] = {}
        self._ready: asyncio.Queue[str | int] = asyncio.Queue()
        self._serial = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._failing: dict[str | int, int] = {}
        """The last status of each key's event that is to be tried again."""
        self.unaccepted = 0

    def start(self) -> None:
        """Begin to post."""
        self._tasks = [asyncio.create_task(self._serve(lane)) for lane in self._lanes]

    @property
    def trouble(self) -> str:
        """Why events wait, or empty."""
        status = next(iter(self._failing.values()), None)
        if status is None:
            return ""
        return f"events are answered {status}, and tried again" if status else "events have no answer"

    async def put(self, event: SourceEvent, accepted: Callable[[], None]) -> None:
        """One more; waits while there is no room. accepted: called once it is. For one caller at a time."""
        if not event.id:
            event = event._replace(id=self._new_id())  # the same one however often it is tried
        size = len(event.body)
        while self.unaccepted and (self.unaccepted >= self._most or not self._share.has_room(size)):
            await self._share.changed()
        self.unaccepted += 1
        self._share.add(size)
        self._serial += 1
        key = self._key_of(event.body) or self._serial
        line = self._lines.setdefault(key, deque())
        line.append(_Waiting(event, accepted))
        if len(line) == 1:
            self._ready.put_nowait(key)

    async def close(self, wait: float) -> None:
        """Post what is here, for `wait` seconds at most, and drop the rest, with every key that fails."""
        try:
            async with asyncio.timeout(wait):
                while any(key not in self._failing for key in self._lines):
                    await asyncio.sleep(0.01)
        except TimeoutError:
            log.warning("%d events were not accepted in time", self.unaccepted)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for lane in self._lanes:
            lane.abort()
        self._share.add(-sum(len(each.event.body) for line in self._lines.values() for each in line))
        self._lines.clear()

    async def _serve(self, lane: Lane) -> None:
        while True:
            key = await self._ready.get()
            await self._deliver(lane, key, self._lines[key][0].event)
            self._leave(key)

    def _leave(self, key: str | int) -> None:
        """The first of this line is behind us."""
        line = self._lines[key]
        event, accepted = line.popleft()
        if line:
            self._ready.put_nowait(key)
        else:
            del self._lines[key]
        self.unaccepted -= 1
        self._share.add(-len(event.body))
        accepted()

    async def _deliver(self, lane: Lane, key: str | int, event: SourceEvent) -> None:
        failures = 0
        while not self._settle(event, status := await lane.post(event.id, event.body)):
            failures += 1
            self._count("retried")
            self._failing[key] = status
            await asyncio.sleep(self._backoff.delay(failures))
        self._failing.pop(key, None)

    def _settle(self, event: SourceEvent, status: int) -> bool:
        """Is this answer the last word on the event?"""
        kind = classify(status)
        if kind == DELIVERED:
            self._count("accepted")
            if event.is_recovered:
                self._count("recovered")
        elif kind == REFUSED and status == _CONFLICT and event.is_recovered:
            self._count("repeated")  # its state was told before, by the source itself
        elif kind == REFUSED:
            self._count("refused")
            log.warning("an event of a source was refused for good", extra={"event": event.id, "status": status})
        else:
            return False
        return True
