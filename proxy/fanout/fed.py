"""The connection that a consumer's events go out on.

give --> waiting --> underway --Pong--> DELIVERED
             ^           |
             |           +-- lost: UNREACHABLE, the ledger's again; RETRY for one that was alone because of that
             first: what was kept of the connections before this one
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Final

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from proxy.core.event import DELIVERED, RETRY, UNREACHABLE, Outcome
from proxy.fanout.commands import Commands, event_message
from proxy.fanout.home_event import HomeEvent

if TYPE_CHECKING:
    from proxy.fanout.feed import Feed

log = logging.getLogger(__name__)

SETTLE: Final = 2.0
"""Seconds after its last subscription until a consumer is believed to have named all types that it wants."""
_BATCH: Final = 8
"""Events in front of one Ping."""
_BATCH_BYTES: Final = 256 * 1024
"""Bytes after which a batch ends: a slow consumer shows with each Pong that it is there."""
AWAY: Final = Outcome(UNREACHABLE, 0, "no consumer is connected")


class _Given:
    """An event on its way. is_sent: it is being written, or was, so the consumer may have it."""

    __slots__ = ("event", "is_sent", "outcome")

    def __init__(self, event: HomeEvent, outcome: asyncio.Future[Outcome]) -> None:
        self.event = event
        self.outcome = outcome
        self.is_sent = False

    def end(self, outcome: Outcome) -> None:
        """This became of it, unless nobody waits for it any more."""
        if not self.outcome.done():
            self.outcome.set_result(outcome)


class FedConnection:
    """The connection that events go out on: written by one task, which waits while the consumer takes nothing.

    awaited: batches that were begun and have no Pong; heard_at: when the last Pong came, or the first of them was begun
    ponged_at: when the last Pong came, or the connection subscribed
    kept_until: the last event that was kept when it began; has_sent: any event at all
    is_one_alone: that is the first of the kept ones, and nothing else
    """

    def __init__(self, feed: Feed, socket: ServerConnection, commands: Commands) -> None:
        self.socket = socket
        self.awaited = 0
        self.began_at = self.heard_at = self.ponged_at = self.subscribed_at = monotonic()
        self.kept_until = 0
        self.has_sent = self.is_one_alone = False
        self._has_sent_kept = False
        self._again_awaited = 0
        self._feed = feed
        self._commands = commands
        self._is_over = False
        self._is_asked = False
        self._ready = asyncio.Event()
        self._quiet = asyncio.Event()
        """No Pong is awaited."""
        self._quiet.set()
        self._waiting: deque[_Given] = deque()
        self._underway: deque[_Given] = deque()
        self._task = asyncio.create_task(self._write(), name=f"feed {feed.name}")

    @property
    def is_resending(self) -> bool:
        """Are kept events still without a receipt, so that none may be forgotten?"""
        return not self._has_sent_kept or self._again_awaited > 0

    async def wants(self, event_type: str) -> bool:
        """Has it subscribed to this type, or does it within the time in which it says what it wants?"""
        while not self._commands.wanted(event_type):
            left = self.subscribed_at + SETTLE - monotonic()
            if left <= 0 or self._is_over:
                return False
            await asyncio.sleep(min(left, 0.1))
        return True

    async def give(self, event: HomeEvent) -> Outcome:
        """Send an event behind those before it, and wait for its receipt."""
        if self._is_over:
            return AWAY
        given = _Given(event, asyncio.get_running_loop().create_future())
        self._waiting.append(given)
        self._ready.set()
        return await given.outcome

    def ask(self) -> None:
        """A Ping alone: is it there?"""
        self._is_asked = True
        self._ready.set()

    def end(self, why: str, *, is_lost: bool) -> bool:
        """Nothing more goes out; what has no receipt is the ledger's again. True when it was lost for one event."""
        self._is_over = True
        self._task.cancel()
        failed = self._failed() if is_lost else None
        if failed is not None:
            failed.end(Outcome(RETRY, 0, why, is_own=True))
        for given in (*self._underway, *self._waiting):
            given.end(Outcome(UNREACHABLE, 0, why, int(given.is_sent)))
        self._underway.clear()
        self._waiting.clear()
        return failed is not None

    def _failed(self) -> _Given | None:
        """What it was lost for: the one event on its way, if that was alone because of an earlier loss."""
        sent, blame = [given for given in self._underway if given.is_sent], self._feed.blame
        if len(sent) == 1 and self._again_awaited == 0 and blame.is_suspect(sent[0].event.id):
            return sent[0]
        blame.suspect(given.event.id for given in sent)
        return None

    # writing

    async def _write(self) -> None:
        try:
            await self._feed.read_kept(self._send_kept)
            self._has_sent_kept = True
            while True:
                while self._waiting:
                    await self._send_waiting()
                await self._ping_if_asked()
                await self._ready.wait()
                self._ready.clear()
        except ConnectionClosed:
            self._feed.left(self.socket, "its connection was lost")
        except Exception as error:
            log.exception("consumer %s cannot be fed", self._feed.name)
            self._feed.left(self.socket, f"an error of our own: {error!r}")
            self.socket.transport.abort()

    async def _send_kept(self) -> None:
        """What the consumer had for a moment only when its last connection ended."""
        feed = self._feed
        _, self.kept_until, count = feed.told.span(feed.name)
        if not count:
            feed.blame.lived()
        elif feed.blame.is_cautious:
            await self._send_kept_apart(feed.blame.size(count))
        else:
            await self._send_some(0, count)

    async def _send_kept_apart(self, size: int) -> None:
        """Some of them at a time, each time with a window to live through: which one does it die of?"""
        feed, after = self._feed, 0
        await self._live_for(feed.settings.redeliver_window)
        while after < self.kept_until:
            self.is_one_alone = size == 1
            after = await self._send_some(after, size)
            await self._quiet.wait()
            await self._live_for(feed.settings.redeliver_window)
            feed.told.lived_through(feed.name, after)
            size *= 2
        self.is_one_alone = False
        feed.blame.lived()

    async def _live_for(self, seconds: float) -> None:
        """Send nothing, and hear at the end that it lives."""
        until = monotonic() + seconds
        while (left := until - monotonic()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._ready.wait()
            self._ready.clear()
            await self._ping_if_asked()
        self._is_asked = True
        await self._ping_if_asked()
        await self._quiet.wait()

    async def _ping_if_asked(self) -> None:
        if self._is_asked:
            self._is_asked = False
            self._begin()
            await self._ping(self._answered)

    async def _send_some(self, after: int, most: int) -> int:
        """So many of the kept events behind this one; the last of them."""
        name, told = self._feed.name, self._feed.told
        while most > 0 and (rows := told.kept(name, after, self.kept_until, min(most, _BATCH))):
            most -= len(rows)
            after = rows[-1].n
            for event_type in {row.type for row in rows}:
                await self.wants(event_type)
            self._begin()
            self._again_awaited += 1
            for row in rows:
                await self._send(row.type, row.body)
            await self._ping(partial(self._answered_again, [row.n for row in rows]))
        return after

    async def _send_waiting(self) -> None:
        if self._feed.blame.is_suspect(self._waiting[0].event.id):
            await self._quiet.wait()
            await self._send_batch([self._waiting.popleft()])
            await self._quiet.wait()
        else:
            await self._send_batch(self._next_batch())

    def _next_batch(self) -> list[_Given]:
        batch: list[_Given] = []
        size, blame = 0, self._feed.blame
        while self._waiting and len(batch) < _BATCH and size < _BATCH_BYTES:
            if blame.is_suspect(self._waiting[0].event.id):
                break
            batch.append(self._waiting.popleft())
            size += len(batch[-1].event.body)
        return batch

    async def _send_batch(self, batch: list[_Given]) -> None:
        self._begin()
        self._underway.extend(batch)
        for given in batch:
            # Before it is written: a consumer may close for its length alone.
            given.is_sent = bool(self._commands.wanted(given.event.type))
            await self._send(given.event.type, given.event.body)
        await self._ping(partial(self._answered_for, batch))

    async def _send(self, event_type: str, body: bytes) -> None:
        """To every subscription that wants it."""
        self.has_sent = True
        for number in self._commands.wanted(event_type):
            await self.socket.send(event_message(number, body), text=True)

    def _begin(self) -> None:
        if not self.awaited:
            self.heard_at = monotonic()
        self.awaited += 1
        self._quiet.clear()

    async def _ping(self, answered: Callable[[], None]) -> None:
        pong = asyncio.ensure_future(await self.socket.ping())
        pong.add_done_callback(partial(self._ponged, answered))

    # receipts

    def _ponged(self, answered: Callable[[], None], pong: asyncio.Future[float]) -> None:
        if pong.cancelled() or pong.exception() is not None or self._is_over:
            return  # who ends the connection says what becomes of what was on its way
        self.awaited -= 1
        self.heard_at = self.ponged_at = monotonic()
        if not self.awaited:
            self._quiet.set()
        answered()

    def _answered(self) -> None:
        """A Ping alone."""

    def _answered_for(self, batch: list[_Given]) -> None:
        for _ in batch:
            self._underway.popleft()
        sent = [given for given in batch if given.is_sent]
        self._feed.received([given.event for given in sent])
        for given in batch:
            self._feed.blame.clear(given.event.id)
            # It may have unsubscribed just before the event was written.
            given.end(Outcome(DELIVERED, 0) if given.is_sent else AWAY)

    def _answered_again(self, numbers: list[int]) -> None:
        self._again_awaited -= 1
        self._feed.received_again(numbers)
