"""What a client is told of its messages: the Pong to its Ping, the backend's reply, the answer to its Close.

    taken, oldest first:   m1  m2  m3 (Ping)  m4  m5 (Close)
                           safe    |              |
                                   +-- Pong when m1..m3 are safe; the close frame when all are

A message is safe when each side that it is owed to has it, or the ledger has it on disk for that side. A reply goes out
when its own message is. When somebody waits, a copy that takes longer than `copy_wait` is left to the ledger.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Final

from mypy_extensions import mypyc_attr

from proxy.websocket.exchange import Exchange

if TYPE_CHECKING:
    from proxy.websocket.session import Session

_HURRY_AGAIN: Final = 0.1
"""Seconds until the next look at what keeps a client from its answer."""
_SOON: Final = 0.001
"""Seconds that a wait may be cut short: a timer is no more exact."""
_READ_FIRST: Final = 0.001
"""Seconds after which the loop has read what was there to be read."""
_MOST_OUTSTANDING: Final = 10_000
"""Messages that are not safe, before no more are read."""
_MOST_PINGS: Final = 1_000
"""Pings of a client that wait for their answer."""


@mypyc_attr(acyclic=True)
class Waiting:
    """A frame for the client. messages: it is due when so many of the first are safe; at: since when it waits."""

    __slots__ = ("at", "data", "messages")

    def __init__(self, messages: int, data: bytes, at: float) -> None:
        self.messages = messages
        self.data = data
        self.at = at


class Acknowledgements:
    """Of one session."""

    __slots__ = ("_is_more", "_outstanding", "_pings", "_replies", "_safe", "_session", "_taken", "_timer", "_waited")

    def __init__(self, session: Session) -> None:
        self._session = session
        self._outstanding: deque[Exchange] = deque()
        """What is not safe yet, oldest first."""
        self._taken = 0
        """How many messages were taken, and how many of the first of them are safe."""
        self._safe = 0
        self._pings: deque[Waiting] = deque()
        self._replies: list[tuple[Exchange, float]] = []
        """Messages whose replies are here since then, and wait for their being safe."""
        self._is_more = False
        self._timer: asyncio.TimerHandle | None = None
        self._waited = 0
        """The last frame for whose being durable we wait."""

    # what is to be told

    def took(self, exchange: Exchange) -> None:
        """A message was taken."""
        self._taken += 1
        self._outstanding.append(exchange)

    @property
    def is_full(self) -> bool:
        """Are so many messages not safe that no more is to be read?"""
        if len(self._outstanding) < _MOST_OUTSTANDING:
            return False
        self.settle()
        return len(self._outstanding) >= _MOST_OUTSTANDING

    def when_safe(self, data: bytes, *, is_last: bool = False) -> bool:
        """Write a frame once every message before it is safe. False when too many wait for that; the last one may."""
        if self._safe >= self._taken and not self._pings:
            self._session.write(data)
            return True
        if len(self._pings) >= _MOST_PINGS and not is_last:
            return False
        self._pings.append(Waiting(self._taken, data, monotonic()))
        if self._timer is None:  # looked at here as well, for most Pings come while another waits
            self._begin_to_wait(self._session.route.settings.copy_wait)
        return True

    def reply(self, exchange: Exchange) -> None:
        """Write the reply to a message once that is safe."""
        if exchange.is_safe(self._session.ledger.durable):
            self._session.write(exchange.reply)
            exchange.reply = b""
        else:
            self._session.plane.budget.add(len(exchange.reply))
            self._replies.append((exchange, monotonic()))
            self._begin_to_wait(self._session.route.settings.copy_wait)

    @property
    def is_awaited(self) -> bool:
        """Does the client wait for a Pong, or for the answer to its Close?"""
        return bool(self._pings)

    @property
    def is_still(self) -> bool:
        """Is every message safe, and the client told of it?"""
        self.settle()
        return not (self._outstanding or self._pings or self._replies)

    # when it is due

    def settle(self) -> None:
        """Write what is due by now."""
        outstanding, durable = self._outstanding, self._session.ledger.durable
        if self._replies:
            self._release_replies(durable)
        while outstanding and outstanding[0].is_safe(durable):
            exchange = outstanding.popleft()
            if exchange.trace is not None:
                self._tell(exchange)
            self._safe += 1
        pings = self._pings
        if pings:
            due: list[bytes] = []
            while pings and pings[0].messages <= self._safe:
                due.append(pings.popleft().data)
            if due:
                self._session.write(b"".join(due) if len(due) > 1 else due[0])
            if not pings:
                self._session.all_told()

    def _tell(self, exchange: Exchange) -> None:
        """A message that is traced is safe."""
        session, trace = self._session, exchange.trace
        assert trace is not None
        name, epoch = session.route.name, session.plane.epoch
        trace.message_safe(name, epoch, exchange.event_id, exchange.authority, session.trace)

    def _release_replies(self, durable: int) -> None:
        waiting: list[tuple[Exchange, float]] = []
        for each in self._replies:
            exchange = each[0]
            if exchange.is_safe(durable):
                self._session.write(exchange.reply)
                self._drop_reply(exchange)
            else:
                waiting.append(each)
        self._replies = waiting

    def _drop_reply(self, exchange: Exchange) -> None:
        self._session.plane.budget.add(-len(exchange.reply))
        exchange.reply = b""

    def _begin_to_wait(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = self._session.service.loop.call_later(seconds, self._soon)

    def _soon(self) -> None:
        """It is time. But a busy loop is late itself, and receipts may be here that it has not read: let it, first."""
        self._timer = self._session.service.loop.call_later(_READ_FIRST, self._hurry)

    def _hurry(self) -> None:
        """Somebody has waited: what copies still keep from being safe goes to the ledger, and that commits now."""
        self._timer = None
        self.settle()
        if not self._pings and not self._replies:
            return
        session, ledger, now = self._session, self._session.ledger, monotonic()
        is_on_its_way = is_missing = False
        for exchange in self._overdue(now - session.route.settings.copy_wait):
            copy = 1 - exchange.authority
            if exchange.missing == 1 << copy:
                session.links[copy].park(exchange)
                session.service.count("parked")
                exchange.hand(copy, ledger.frame)
            is_missing = is_missing or exchange.missing != 0
            is_on_its_way = is_on_its_way or exchange.frame > ledger.durable
        if is_on_its_way and self._waited != ledger.frame:
            self._waited = ledger.frame
            ledger.wait_durable(self)
            session.service.tick.schedule()
        if is_missing or self._is_more:
            self._begin_to_wait(_HURRY_AGAIN if is_missing else session.route.settings.copy_wait)

    def _overdue(self, until: float) -> list[Exchange]:
        """What is not safe, and for which somebody waits since before then; `_is_more`: somebody waits for others."""
        safe = self._safe
        until += _SOON
        waits = [ping.messages for ping in self._pings if ping.at <= until]
        found = list(islice(self._outstanding, waits[-1] - safe)) if waits else []
        replies = [exchange for exchange, at in self._replies if at <= until]
        self._is_more = len(waits) < len(self._pings) or len(replies) < len(self._replies)
        return found + replies

    # as who waits for the ledger

    def record_durable(self) -> None:
        """Everything said before we waited is on disk. What was handed since then is not, and is waited for anew."""
        self.settle()
        if self._pings or self._replies:
            self._begin_to_wait(_READ_FIRST)

    def turn_came(self) -> None:
        """Messages take no turns."""

    def record_unsafe(self) -> None:
        """The ledger is away: what waits for it goes on waiting, and the client without an answer."""
        if self._pings or self._replies:
            self._session.service.count("websocket_answers_delayed", len(self._pings) + len(self._replies))

    # the end

    def stop(self) -> None:
        """Hurry nobody, and tell nobody anything."""
        self._pings.clear()
        for exchange, _ in self._replies:
            self._drop_reply(exchange)
        self._replies = []
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
