"""Sends what is offered, over a fixed number of lanes, and tells a listener how each event ended."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from proxy.core.errors import CrossfadeError
from proxy.http.response_head import ResponseHead, ResponseHeads
from proxy.load.requests import Event
from proxy.load.target import Target
from proxy.load.wire import REFUSED, TIMEOUT, Wire

DONE: Final = -1.0
"""What a listener says of an event that is not to be sent again."""
_CHECK_EVERY: Final = 0.05
CONNECTIONS: Final = 64
ANSWER_TIMEOUT: Final = 20.0

Make = Callable[[int, int], Event]
Connect = Callable[["Lane"], Awaitable["Connection"]]
"""Opens what a lane sends by; raises OSError."""


class Connection(Protocol):
    """What a lane sends by. It tells the lane how its event ended, and when it is gone."""

    def send(self, request: bytes) -> None:
        """Send an event; nothing else of the lane's is under way."""

    def close(self) -> None:
        """Close it without a word."""


class UnreachableError(CrossfadeError):
    """Not one connection to the target could be opened."""


class Listener(Protocol):
    """Hears how events end."""

    def ended(self, lane: Lane, now: float) -> float:
        """The lane's event has an answer, or will have none; seconds until it is sent again, or `DONE`."""

    def dropped(self, due: float) -> None:
        """An event waited longer than the generator's patience and is not sent."""

    def closed(self) -> None:
        """An idle connection was closed by the target."""


class Lane:
    """One event at a time on a connection.

    event: under way, or None; due, sent_at: of its first try; tried_at: of the present one; status: of its answer, 0
    without one, as a message is that was confirmed; failure: why there is none (`proxy.load.wire.FAILURES`);
    is_untouched: the connection had served before and ended without a byte of an answer; head, body: of the answer.
    """

    __slots__ = (
        "_generator", "_opening", "_wire", "body", "due", "event", "failure", "head", "index", "is_untouched", "queue",
        "sent_at", "status", "tried_at",
    )  # fmt: skip

    def __init__(self, generator: Generator, index: int, queue: deque[tuple[int, float]]) -> None:
        self._generator = generator
        self._wire: Connection | None = None
        self._opening: asyncio.Task[None] | None = None
        self.index = index
        self.queue = queue
        self.event: Event | None = None
        self.due = 0.0
        self.sent_at = 0.0
        self.tried_at = math.inf
        self.status = 0
        self.failure = ""
        self.is_untouched = False
        self.head: ResponseHead | None = None
        self.body = b""

    def start(self, n: int, due: float) -> None:
        """Make event `n` and send it."""
        self.event = self._generator.make(n, self.index)
        self.due = due
        self._generator.last_due = due
        self.sent_at = self._generator.last_sent_at = time.perf_counter()
        self._try(self.sent_at)

    def _try(self, now: float) -> None:
        self.tried_at = now
        if self._wire is not None:
            assert self.event is not None
            self._wire.send(self.event.request)
        else:
            self._opening = asyncio.get_running_loop().create_task(self._open_and_send())

    def again(self) -> None:
        """Send the same event once more."""
        if self.event is not None:
            self._try(time.perf_counter())

    async def open(self) -> None:
        """Open the connection; raises OSError."""
        self._wire = await self._generator.connect(self)

    async def _open_and_send(self) -> None:
        try:
            await self.open()
        except OSError:
            self._fail(REFUSED)
            return
        if self._wire is not None and self.event is not None:  # else it was closed again at once
            self._wire.send(self.event.request)
        else:
            self._fail(REFUSED)

    def answered(self, head: ResponseHead, body: bytes, *, is_open: bool) -> None:
        """The whole answer is here. is_open: the connection can be used again."""
        if not is_open:
            self._wire = None
        self.head, self.body = head, body
        self.status, self.failure, self.is_untouched = head.status, "", False
        self._end()

    def confirmed(self) -> None:
        """The message is safe: its Pong is here."""
        self.head, self.body = None, b""
        self.status, self.failure, self.is_untouched = 0, "", False
        self._end()

    def leave(self) -> None:
        """The connection is gone, and whoever has to hear of it was told."""
        self._wire = None

    def broke(self, kind: str, *, is_untouched: bool) -> None:
        """The connection is gone. kind: why there will be no answer; empty when none was due."""
        self._wire = None
        if kind:
            self._fail(kind, is_untouched=is_untouched)
        else:
            self._generator.listener.closed()

    def _fail(self, kind: str, *, is_untouched: bool = False) -> None:
        self.head, self.body = None, b""
        self.status, self.failure, self.is_untouched = 0, kind, is_untouched
        self._end()

    def _end(self) -> None:
        self.tried_at = math.inf
        generator = self._generator
        now = time.perf_counter()
        wait = generator.listener.ended(self, now)
        if wait == DONE or generator.is_closed:
            self.event = None
            generator.has_room(self, now)
        elif wait <= 0.0:
            self.again()
        else:
            asyncio.get_running_loop().call_later(wait, self.again)

    def has_header(self, name: bytes) -> bool:
        """Does the answer have a header? name: in lower case."""
        return self.head is not None and b"\r\n%b:" % name in self.head.start.lower()

    def time_out(self) -> None:
        """The answer takes too long."""
        self.close()
        self._fail(TIMEOUT)

    def close(self) -> None:
        """Close the connection, whatever is under way."""
        if self._opening is not None:
            self._opening.cancel()
        if self._wire is not None:
            self._wire.close()
            self._wire = None


class Generator:
    """Events over lanes.

    timeout: seconds for an answer, from sending; patience: seconds that an event waits for a lane, from when it was
    due; is_sticky: event n goes by lane n modulo their number, and waits for that one; else by any that is free;
    connect: what lanes send by, else HTTP.
    """

    def __init__(
        self,
        target: Target,
        make: Make,
        listener: Listener,
        *,
        connections: int = CONNECTIONS,
        timeout: float = ANSWER_TIMEOUT,
        patience: float = ANSWER_TIMEOUT,
        is_sticky: bool = False,
        connect: Connect | None = None,
    ) -> None:
        self.target = target
        self.connect = connect if connect is not None else self._open_wire
        self.make = make
        self.listener = listener
        self.outstanding = 0
        self.offered = 0
        self.last_due = 0.0
        self.last_sent_at = 0.0
        """Of the event that left last, perf_counter seconds."""
        self.is_closed = False
        self.on_free: Callable[[], None] | None = None
        """Called when a lane has nothing to send."""
        self._heads = ResponseHeads()
        self._timeout = timeout
        self._patience = patience
        self._is_sticky = is_sticky
        shared: deque[tuple[int, float]] = deque()
        self.lanes = [Lane(self, index, deque() if is_sticky else shared) for index in range(connections)]
        self._idle = list(self.lanes)
        self._queues = [lane.queue for lane in self.lanes] if is_sticky else [shared]
        self._all_ended = asyncio.Event()
        self._all_ended.set()
        self._timer: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Open the connections; raises UnreachableError when not one could be."""
        self.start()
        try:
            async with asyncio.timeout(self._timeout):
                ends = await asyncio.gather(*(lane.open() for lane in self.lanes), return_exceptions=True)
        except TimeoutError:
            raise UnreachableError(f"{self.target.url} took no connection within {self._timeout:g} s") from None
        failures = [end for end in ends if end is not None]
        if len(failures) == len(ends):
            reason = getattr(failures[0], "strerror", None) or failures[0]
            raise UnreachableError(f"{self.target.url} cannot be reached: {reason}")

    async def _open_wire(self, lane: Lane) -> Wire:
        target = self.target
        name = target.address.host if target.tls is not None else None
        _, wire = await asyncio.get_running_loop().create_connection(
            lambda: Wire(lane, self._heads), *target.address, ssl=target.tls, server_hostname=name
        )
        return wire

    def start(self) -> None:
        """Begin without a connection: each is opened when it is needed."""
        self._timer = asyncio.get_running_loop().call_later(_CHECK_EVERY, self._check)

    def offer(self, n: int, due: float) -> None:
        """Event number `n` is due; `due` is not in the future."""
        self.offered += 1
        self.outstanding += 1
        if self._is_sticky:
            lane = self.lanes[n % len(self.lanes)]
            if lane.event is None:
                lane.start(n, due)
            else:
                lane.queue.append((n, due))
        elif self._idle:
            self._idle.pop().start(n, due)
        else:
            self._queues[0].append((n, due))

    def has_room(self, lane: Lane, now: float) -> None:
        """A lane is free: it takes what waits for it, or rests."""
        self.outstanding -= 1
        queue = lane.queue
        if queue:
            self._drop_old(queue, now)
        if queue and not self.is_closed:
            lane.start(*queue.popleft())
            return
        if not self.outstanding:
            self._all_ended.set()
        if not self._is_sticky:
            self._idle.append(lane)
        if self.on_free is not None:
            self.on_free()

    def _drop_old(self, queue: deque[tuple[int, float]], now: float) -> None:
        oldest = now - self._patience
        while queue and queue[0][1] < oldest:
            _, due = queue.popleft()
            self.outstanding -= 1
            self.listener.dropped(due)
        if not self.outstanding:
            self._all_ended.set()

    def _check(self) -> None:
        now = time.perf_counter()
        for lane in self.lanes:
            if now - lane.tried_at > self._timeout:
                lane.time_out()
        for queue in self._queues:
            self._drop_old(queue, now)
        self._timer = asyncio.get_running_loop().call_later(_CHECK_EVERY, self._check)

    @property
    def waiting(self) -> int:
        """Events that wait for a lane."""
        return sum(len(queue) for queue in self._queues)

    def forget_waiting(self) -> int:
        """Drop what waits for a lane without a word; how many."""
        count = self.waiting
        for queue in self._queues:
            queue.clear()
        self.outstanding -= count
        if not self.outstanding:
            self._all_ended.set()
        return count

    async def finish(self, seconds: float | None = None) -> None:
        """Wait until every event has ended; raises TimeoutError after `seconds`."""
        async with asyncio.timeout(seconds):
            while self.outstanding:
                self._all_ended.clear()
                await self._all_ended.wait()

    def close(self) -> None:
        """Close all connections, whatever is under way."""
        self.is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        for lane in self.lanes:
            lane.close()
