"""deliver(event, attempt) -> Outcome over WebSocket: how the ledger delivers messages of sessions.

    event.context --> Courier of (backend, session) --handshake, prologue--> backend
                         | message, Ping n  -->
                         | <-- Pong n, or its reply: DELIVERED

A courier is a session of the ledger's own, with the handshake, subprotocol and prologue of the client's. What it gets
back is read and dropped: the client has its own session, or has left. A message whose Pong is here may still be lost
with its connection, so a courier keeps it for `redeliver_window` and, when the connection is lost within that time,
sends it again first on the next one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from config.model import WebSocket
from proxy.core.event import DELIVERED, DENIED, REFUSED, RETRY, UNREACHABLE, Attempt, Event, Outcome
from proxy.http.leg import Leg
from proxy.http.tick import Tick
from proxy.http.upstream import Upstream
from proxy.websocket.context import SessionMessage, unpack_context
from proxy.websocket.frames import NORMAL, Broken, Closing, FrameReader, Message, Run, frame
from proxy.websocket.handshake import Handshake
from proxy.websocket.opening import Agreed, offered_in
from proxy.websocket.replies import Replies
from proxy.websocket.wire import Wire

if TYPE_CHECKING:
    from proxy.http.connection import Connection

log = logging.getLogger(__name__)

_PASSING: Final = frozenset({408, 421, 425, 429})
"""Answers to a handshake that ask to come again."""
_IDLE: Final = 2.0
"""Seconds without a delivery after which a courier says goodbye; its window comes on top."""
_KEPT_BYTES: Final = 16 * 2**20
"""Bytes of delivered messages that all couriers keep for their windows."""
_AGAIN: Final = 0.25
"""Seconds until the next try to send again what was delivered just before its connection was lost."""


class Kept(NamedTuple):
    """A message that was delivered a moment ago. data: its frame; at: when its Pong came, monotonic seconds."""

    data: bytes
    at: float


class WebSocketDelivery:
    """Delivers messages to a route's backends. sides: (old, new) by route name, as is settings; max_message: bytes."""

    def __init__(
        self,
        sides: Mapping[str, tuple[Upstream, Upstream]],
        settings: Mapping[str, WebSocket],
        max_message: int,
        tick: Tick,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._sides = sides
        self._settings = settings
        self.max_message = max_message
        self.tick = tick
        self.loop = loop
        self.kept_bytes = 0
        self._couriers: dict[tuple[str, str], Courier] = {}

    async def deliver(self, event: Event, attempt: Attempt) -> Outcome:
        """One attempt. Never raises for what the backend does."""
        upstream = self._sides[event.route][attempt.side]
        try:
            handshake, message = unpack_context(event.context)
        except (ValueError, msgspec.DecodeError) as error:
            log.error("a message has no session: %s", error, extra={"id": event.id})
            return Outcome(REFUSED, 0, "its session cannot be read")
        name = (upstream.name, message.session)
        courier = self._couriers.get(name)
        if courier is None:
            settings = self._settings.get(event.route) or WebSocket()
            replies = Replies(settings.reply) if settings.reply is not None else None
            courier = self._couriers[name] = Courier(self, upstream, handshake, settings, replies)
        return await courier.deliver(message, event.body)

    def check_times(self, now: float) -> None:
        """Every 100 ms: what was not answered, what need not be kept any more, who is idle."""
        for name, courier in tuple(self._couriers.items()):
            courier.check_time(now)
            if courier.is_done:
                del self._couriers[name]

    def close(self) -> None:
        """Close every connection; deliveries on the way fail."""
        for courier in self._couriers.values():
            courier.close("closing")
        self._couriers.clear()


class Sent(NamedTuple):
    """A message whose receipt is awaited. data: its frame; at: when it was sent, monotonic seconds."""

    data: bytes
    at: float
    outcome: asyncio.Future[Outcome]


class Courier:
    """One session of the ledger's with one backend. handshake: of the client's, each line ended by CRLF."""

    def __init__(
        self,
        delivery: WebSocketDelivery,
        upstream: Upstream,
        handshake: bytes,
        settings: WebSocket,
        replies: Replies | None,
    ) -> None:
        self._delivery = delivery
        self._upstream = upstream
        self._context = handshake
        self._settings = settings
        self._replies = replies
        self._handshake: Handshake | None = None
        self._wire: Wire | None = None
        self._opening: asyncio.Future[Outcome | None] | None = None
        self._prologue: tuple[tuple[int, bytes], ...] = ()
        self._version = 0
        self._told: tuple[tuple[int, bytes], ...] = ()
        """The prologue as this connection has got it."""
        self._number = 0
        self._awaited: deque[tuple[int, Sent]] = deque()
        """With the number of the Ping behind each."""
        self._unanswered: dict[str, Sent] = {}
        """By the id of the reply."""
        self._kept: deque[Kept] = deque()
        self._again: deque[Kept] = deque()
        """Of a connection that was lost: first on the next one."""
        self._again_at = 0.0
        self._used_at = monotonic()
        self.is_done = False

    async def deliver(self, message: SessionMessage, payload: bytes) -> Outcome:
        """Send one message and wait for its receipt."""
        self._used_at = monotonic()
        if message.version > self._version:
            self._version, self._prologue = message.version, message.prologue
        if self._wire is None:
            failed = await self._connect()
            if failed is not None:
                return failed
        if self._wire is None:
            return Outcome(RETRY, 0, "the connection was lost")
        outcome: asyncio.Future[Outcome] = self._delivery.loop.create_future()
        self._send(self._wire, message.kind, payload, outcome)
        try:
            return await outcome
        finally:
            self._used_at = monotonic()

    def _send(self, wire: Wire, kind: int, payload: bytes, outcome: asyncio.Future[Outcome]) -> None:
        sent = Sent(frame(kind, payload, is_client=True), monotonic(), outcome)
        reply_id = self._replies.id_of(payload) if self._replies is not None else ""
        if reply_id and reply_id not in self._unanswered:
            self._unanswered[reply_id] = sent
            wire.write(self._untold() + sent.data)
            return
        self._awaited.append((self._number + 1, sent))
        if self._settings.receipt == "none":
            self._number += 1
            wire.write(self._untold() + sent.data)
            self._delivery.tick.after(self._written)
        else:
            wire.write(self._untold() + sent.data + self._ping(wire))

    def _ping(self, wire: Wire) -> bytes:
        self._number += 1
        return wire.ping(self._number)

    def _untold(self) -> bytes:
        """What of the prologue this connection has not got."""
        told, self._told = self._told, self._prologue
        # It grows at its end as a rule; else a message was said again, and the last word counts.
        untold = self._prologue[len(told) :] if self._prologue[: len(told)] == told else self._prologue
        return b"".join(frame(kind, payload, is_client=True) for kind, payload in untold)

    def _written(self) -> None:
        if self._wire is not None:
            self.ponged(self._number)

    # the connection

    async def _connect(self) -> Outcome | None:
        """Shake hands; what failed instead. Whoever delivers meanwhile waits for the same handshake."""
        if self._opening is None:
            self._begin()
        assert self._opening is not None
        return await asyncio.shield(self._opening)

    def _begin(self) -> None:
        self._opening = self._delivery.loop.create_future()
        self._handshake = Handshake(self, self._upstream, offered_in(self._context))
        self._handshake.begin(0, self._context)

    def not_agreed(self, leg: Leg, reason: str) -> None:
        """No session."""
        self._handshake = None
        if leg.head is None:
            self._opened(Outcome(leg.kind if leg.kind == UNREACHABLE else RETRY, leg.status, reason or leg.reason))
        else:
            # The credentials are the client's, so what is refused is this session and not the proxy: others' messages
            # go on, and when they do and this one is refused again and again it is a dead letter.
            is_passing = leg.status >= 500 or leg.status in _PASSING
            if not is_passing:  # nobody will ever take it on such a session
                self._forget(self._again)
            self._opened(Outcome(RETRY if is_passing else DENIED, leg.status))

    def agreed(self, connection: Connection, transport: asyncio.Transport, agreed: Agreed, rest: bytes) -> None:
        """A session: first what the last connection may have lost."""
        self._handshake = None
        delivery = self._delivery
        reader = FrameReader(
            is_client=False,
            max_message=delivery.max_message,
            max_fragments=self._settings.max_fragments,
            runs=self._replies is None,
        )
        self._wire = Wire(self, connection, transport, reader, delivery.tick, delivery.loop)
        self._told = ()
        self._send_again(self._wire)
        self._opened(None)
        if rest:
            self._wire.data_received(rest)

    def _send_again(self, wire: Wire) -> None:
        again, self._again = self._again, deque()
        if again:
            now = monotonic()
            wire.write(self._untold() + b"".join(each.data for each in again) + self._ping(wire))
            self._kept.extend(Kept(each.data, now) for each in again)

    def _opened(self, failed: Outcome | None) -> None:
        opening, self._opening = self._opening, None
        if opening is not None and not opening.done():
            opening.set_result(failed)
        if failed is not None and self._again:
            self._again_at = monotonic() + _AGAIN

    def said(self, item: Run | Message) -> None:
        """The client has its own session, or has left: only a receipt is of use here."""
        if type(item) is not Message or self._replies is None:
            return
        reply = self._replies.read(item.payload)
        sent = self._unanswered.pop(reply.id, None) if reply is not None else None
        if reply is not None and sent is not None and not sent.outcome.done():
            sent.outcome.set_result(Outcome(DELIVERED if reply.is_yes else REFUSED, 0))

    def ponged(self, number: int) -> None:
        """The backend has everything before this Ping."""
        awaited, now = self._awaited, monotonic()
        while awaited and awaited[0][0] <= number:
            _, sent = awaited.popleft()
            if not sent.outcome.done():
                sent.outcome.set_result(Outcome(DELIVERED, 0))
            if self._settings.redeliver_window and self._delivery.kept_bytes + len(sent.data) <= _KEPT_BYTES:
                self._kept.append(Kept(sent.data, now))
                self._delivery.kept_bytes += len(sent.data)

    def closed_by_backend(self, closing: Closing) -> None:
        """It leaves."""
        self.close(f"it closed with {closing.code} {closing.reason}".rstrip())

    def broken(self, broken: Broken) -> None:
        """It speaks something else."""
        self.close(broken.reason)

    def pause_writing(self) -> None:
        """The backend takes nothing: the number of deliveries on their way is bounded anyway."""

    def resume_writing(self) -> None:
        """It takes more again."""

    def connection_lost(self, exc: Exception | None) -> None:
        """What was on its way is tried again by the ledger; what was just delivered, by us."""
        self._wire = None
        self._lost(f"connection lost: {exc}" if exc else "connection lost")

    def _lost(self, reason: str) -> None:
        for sent in self._underway():
            if not sent.outcome.done():
                sent.outcome.set_result(Outcome(RETRY, 0, reason))
        self._awaited.clear()
        self._unanswered = {}
        self._drop_old(monotonic())
        self._again.extend(self._kept)
        self._kept.clear()
        self._again_at = monotonic() + _AGAIN

    def _underway(self) -> list[Sent]:
        return [sent for _, sent in self._awaited] + list(self._unanswered.values())

    # time

    def _forget(self, kept: deque[Kept]) -> None:
        while kept:
            self._delivery.kept_bytes -= len(kept.popleft().data)

    def _drop_old(self, now: float) -> None:
        until = now - self._settings.redeliver_window
        while self._kept and self._kept[0].at <= until:
            self._delivery.kept_bytes -= len(self._kept.popleft().data)

    def check_time(self, now: float) -> None:
        """Fail what has no receipt for too long; send again what was lost; end what is idle."""
        self._drop_old(now)
        if self._handshake is not None:
            self._handshake.check_time(now)
        underway = self._underway()
        limit = self._upstream.settings.response_timeout
        if self._wire is None:
            if self._again and self._opening is None and now >= self._again_at:
                self._begin()
            self.is_done = not self._again and self._opening is None and now - self._used_at > _IDLE
        elif underway and now - min(sent.at for sent in underway) > limit:
            self.close(f"no receipt within {limit:g} s")
        elif not underway and not self._kept and now - self._used_at > _IDLE:
            self.close("idle")
            self.is_done = True

    def close(self, reason: str) -> None:
        """End the connection."""
        handshake, self._handshake = self._handshake, None
        if handshake is not None:
            handshake.give_up()
            self._opened(Outcome(RETRY, 0, reason))
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.say_goodbye(NORMAL)
            wire.let_go()
        self._lost(reason)
