"""Batches: the ledger's deliveries to one backend that come within a short time, in one request.

    deliver, deliver, deliver --> Batch --size or linger--> request --answer--> an Outcome for each

The ledger delivers one event of a key at a time, so a batch holds at most one, and order stays. What a batch did not
bring through is delivered by itself the next time; a batch that is refused as a whole, at once, event by event.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from config.deliver import Batch as Settings
from proxy.core.batch import Results, joined
from proxy.core.event import DELIVERED, DENIED, PAUSE, REFUSED, RETRY, Outcome, classify
from proxy.http.rendering import Rendered

log = logging.getLogger(__name__)

AnswerTo = Callable[[bytes, bytes], Awaitable[tuple[Outcome, bytes]]]
"""Sends method and whole request; what came of it, and the answer's body."""
_UNCLEAR: Final = "its answer does not say what became of each event"
_LONGEST: Final = 4 * 2**20
"""Bytes of bodies in one request; one event alone may have more."""


class Entry(NamedTuple):
    """One event in a batch. event_id: for when it goes alone; number: of the attempt."""

    event_id: bytes
    body: bytes
    number: int
    outcome: asyncio.Future[Outcome]


class Filling:
    """A batch that waits for others. timer: until when; size: bytes of its bodies."""

    __slots__ = ("entries", "size", "timer")

    def __init__(self, timer: asyncio.TimerHandle) -> None:
        self.entries: list[Entry] = []
        self.timer = timer
        self.size = 0


class Batching:
    """Of one backend. send: to it."""

    def __init__(self, settings: Settings, send: AnswerTo, loop: asyncio.AbstractEventLoop) -> None:
        self._settings = settings
        self._results = Results(settings.results) if settings.results is not None else None
        self._send = send
        self._loop = loop
        self._open: dict[tuple[bytes, bytes], Filling] = {}
        """By method and head."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def deliver(self, rendered: Rendered, event_id: bytes, number: int) -> Outcome:
        """One attempt for one event; number: of it, from 1. After the first one it goes alone."""
        entry = Entry(event_id, rendered.body, number, self._loop.create_future())
        head = (rendered.method, rendered.context)
        if number > 1:
            self._begin(head, [entry])
        else:
            self._add(head, entry)
        return await entry.outcome

    def _add(self, head: tuple[bytes, bytes], entry: Entry) -> None:
        filling = self._open.get(head)
        if filling is not None and filling.size + len(entry.body) > _LONGEST:
            self._flush(head)
            filling = None
        if filling is None:
            timer = self._loop.call_later(self._settings.linger, self._flush, head)
            filling = self._open[head] = Filling(timer)
        filling.entries.append(entry)
        filling.size += len(entry.body)
        if len(filling.entries) >= self._settings.size or filling.size >= _LONGEST:
            self._flush(head)

    def _flush(self, head: tuple[bytes, bytes]) -> None:
        filling = self._open.pop(head)
        filling.timer.cancel()
        self._begin(head, [entry for entry in filling.entries if not entry.outcome.done()])

    def _begin(self, head: tuple[bytes, bytes], entries: list[Entry]) -> None:
        if entries:
            task = self._loop.create_task(self._deliver(head, entries))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _deliver(self, head: tuple[bytes, bytes], entries: list[Entry]) -> None:
        outcomes = [Outcome(RETRY, 0, "closing")] * len(entries)
        try:
            outcomes = await self._outcomes(head, entries)
        except Exception as error:
            log.exception("a batch failed")
            outcomes = _failed(Outcome(RETRY, 0, repr(error)), len(entries))
        finally:  # nobody may wait for ever
            for entry, outcome in zip(entries, outcomes, strict=True):
                if not entry.outcome.done():
                    entry.outcome.set_result(outcome)

    async def _outcomes(self, head: tuple[bytes, bytes], entries: Sequence[Entry]) -> list[Outcome]:
        n = len(entries)
        outcome, answer = await self._send(head[0], self._request(head[1], entries))
        if outcome.kind == DELIVERED:
            return self._of_each(outcome, answer, n)
        if n > 1 and outcome.kind == REFUSED:
            # One of them is what it does not want: nobody can tell which, so each is asked for by itself.
            found = await asyncio.gather(*(self._outcomes(head, [entry]) for entry in entries))
            return [outcome for [outcome] in found]
        if n > 1 and outcome.kind == RETRY:
            reason = outcome.reason or f"status {outcome.status} to a batch of {n}"
            return _failed(outcome._replace(reason=reason), n)
        return [outcome] * n

    def _of_each(self, outcome: Outcome, answer: bytes, n: int) -> list[Outcome]:
        if self._results is None:
            return [outcome] * n
        statuses = self._results.read(answer, n)
        if statuses is None:
            return _failed(Outcome(RETRY, outcome.status, _UNCLEAR, outcome.lost), n)
        return [Outcome(_kind_of(status), status, "", outcome.lost) for status in statuses]

    def _request(self, context: bytes, entries: Sequence[Entry]) -> bytes:
        body = joined([entry.body for entry in entries], self._settings.form)
        name = b"X-Event-Id: %b\r\n" % entries[0].event_id if len(entries) == 1 else b""
        return b"%b%bX-Crossfade-Role: replay\r\nX-Crossfade-Attempt: %d\r\nX-Crossfade-Events: %d\r\n%b%b" % (
            context,
            name,
            entries[0].number,
            len(entries),
            b"Content-Length: %d\r\n\r\n" % len(body),
            body,
        )

    def close(self) -> None:
        """Deliveries on their way fail."""
        for filling in self._open.values():
            filling.timer.cancel()
            for entry in filling.entries:
                if not entry.outcome.done():
                    entry.outcome.set_result(Outcome(RETRY, 0, "closing"))
        self._open.clear()
        for task in self._tasks:
            task.cancel()


def _kind_of(status: int) -> int:
    """What the status of one event of a batch says. The request was taken, so it says nothing of our right to ask."""
    kind = classify(status)
    return DENIED if kind == PAUSE else kind


def _failed(outcome: Outcome, n: int) -> list[Outcome]:
    """Of n events by one failure, which the gate hears of once."""
    return [outcome, *[outcome._replace(is_echo=True)] * (n - 1)]
