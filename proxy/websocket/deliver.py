"""deliver(event, attempt) -> Outcome over WebSocket: how the ledger delivers messages of sessions.

    event.context --> Courier of (backend, session) --handshake, prologue--> backend
                         | message, Ping n  -->
                         | <-- Pong n: DELIVERED

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
from proxy.http.response_head import ResponseHead
from proxy.http.tick import Tick
from proxy.http.upstream import Upstream
from proxy.websocket.context import SessionMessage, unpack_context
from proxy.websocket.frames import (
    NORMAL,
    PING,
    PONG,
    Broken,
    Closing,
    FrameReader,
    Ping,
    Pong,
    close_frame,
    frame,
)
from proxy.websocket.opening import Agreed, backend_request, new_key, offered_in, read_backend_answer
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
            courier = self._couriers[name] = Courier(self, upstream, handshake, settings)
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


class Courier:
    """One session of the ledger's with one backend. handshake: of the client's, each line ended by CRLF."""

    def __init__(self, delivery: WebSocketDelivery, upstream: Upstream, handshake: bytes, settings: WebSocket) -> None:
        self._delivery = delivery
        self._upstream = upstream
        self._handshake = handshake
        self._settings = settings
        self._leg: Leg | None = None
        self._key = b""
        self._wire: Wire | None = None
        self._reader: FrameReader | None = None
        self._opening: asyncio.Future[Outcome | None] | None = None
        self._prologue: tuple[tuple[int, bytes], ...] = ()
        self._version = 0
        self._told: tuple[tuple[int, bytes], ...] = ()
        """The prologue as this connection has got it."""
        self._number = 0
        self._awaited: deque[tuple[int, float, bytes, asyncio.Future[Outcome]]] = deque()
        self._kept: deque[Kept] = deque()
        self._again: deque[Kept] = deque()
        """Of a connection that was lost: first on the next one."""
        self._again_at = 0.0
        self._used_at = monotonic()
        self.is_done = False

    async def deliver(self, message: SessionMessage, payload: bytes) -> Outcome:
        """Send one message and wait for its Pong."""
        self._used_at = monotonic()
        if message.version > self._version:
            self._version, self._prologue = message.version, message.prologue
        if self._wire is None:
            failed = await self._connect()
            if failed is not None:
                return failed
        wire = self._wire
        if wire is None:
            return Outcome(RETRY, 0, "the connection was lost")
        outcome: asyncio.Future[Outcome] = self._delivery.loop.create_future()
        self._send(wire, message.kind, payload, outcome)
        try:
            return await outcome
        finally:
            self._used_at = monotonic()

    def _send(self, wire: Wire, kind: int, payload: bytes, outcome: asyncio.Future[Outcome]) -> None:
        data = frame(kind, payload, is_client=True)
        self._number += 1
        ping = frame(PING, b"%d" % self._number, is_client=True)
        self._delivery.tick.write(wire.transport, self._untold() + data + ping)
        self._awaited.append((self._number, monotonic(), data, outcome))
        if self._settings.receipt == "none":
            self._delivery.tick.after(self._written)

    def _untold(self) -> bytes:
        """What of the prologue this connection has not got."""
        told, self._told = self._told, self._prologue
        # It grows at its end as a rule; else a message was said again, and the last word counts.
        untold = self._prologue[len(told) :] if self._prologue[: len(told)] == told else self._prologue
        return b"".join(frame(kind, payload, is_client=True) for kind, payload in untold)

    def _written(self) -> None:
        if self._wire is not None:
            self._take_pong(self._number)

    # the connection

    async def _connect(self) -> Outcome | None:
        """Shake hands; what failed instead. Whoever delivers meanwhile waits for the same handshake."""
        if self._opening is None:
            self._opening = self._delivery.loop.create_future()
            self._begin()
        return await asyncio.shield(self._opening)

    def _begin(self) -> None:
        upstream, context = self._upstream, self._handshake
        if upstream.rewrite is not None:
            context = upstream.rewrite.apply(context)
        self._key = new_key()
        leg = Leg(self, upstream, 0, 1, b"GET", backend_request(context, self._key), False)
        leg.upgrade = self
        self._leg = leg
        upstream.send(leg)

    def leg_interim(self, leg: Leg, head: ResponseHead) -> None:
        """Nobody is there to hear of it."""

    def leg_started(self, leg: Leg) -> None:
        """A long answer that is no 101: its status is what counts."""
        leg.is_started = leg.is_unwanted = True
        self.leg_done(leg)

    def leg_data(self, leg: Leg, data: bytes) -> None:
        """Nobody reads it."""

    def leg_done(self, leg: Leg) -> None:
        """No handshake."""
        if leg is not self._leg:
            return
        self._leg = None
        if leg.head is None:
            self._opened(Outcome(leg.kind if leg.kind == UNREACHABLE else RETRY, leg.status, leg.reason))
        else:
            # The credentials are the client's, so what is refused is this session and not the proxy: others' messages
            # go on, and when they do and this one is refused again and again it is a dead letter.
            self._opened(Outcome(RETRY if leg.status >= 500 or leg.status in _PASSING else DENIED, leg.status))

    def switched(self, connection: Connection, raw: bytes, head: ResponseHead, rest: bytes) -> None:
        """The backend says that it speaks WebSocket."""
        leg, self._leg = self._leg, None
        transport = connection.transport
        if leg is None or transport is None:
            connection.abort()
            return
        agreed = read_backend_answer(raw, head, self._key, offered_in(self._handshake))
        if not isinstance(agreed, Agreed):
            connection.abort()
            self._opened(Outcome(RETRY, 502, agreed.reason))
            return
        delivery = self._delivery
        self._wire = Wire(self, connection, transport, delivery.tick, delivery.loop)
        most = self._settings.max_fragments
        self._reader = FrameReader(is_client=False, max_message=delivery.max_message, max_fragments=most, runs=True)
        self._told = ()
        self._send_again(self._wire)
        self._opened(None)
        if rest:
            self.data_received(rest)

    def _send_again(self, wire: Wire) -> None:
        """First what the last connection may have lost."""
        again, self._again = self._again, deque()
        if not again:
            return
        self._number += 1
        now = monotonic()
        data = b"".join(each.data for each in again)
        ping = frame(PING, b"%d" % self._number, is_client=True)
        self._delivery.tick.write(wire.transport, self._untold() + data + ping)
        self._kept.extend(Kept(each.data, now) for each in again)

    def _opened(self, failed: Outcome | None) -> None:
        opening, self._opening = self._opening, None
        if opening is not None and not opening.done():
            opening.set_result(failed)
        if failed is not None and self._again:
            self._again_at = monotonic() + _AGAIN

    def data_received(self, data: bytes) -> None:
        """What the backend sends: Pongs count."""
        if self._reader is None or self._wire is None:
            return
        for item in self._reader.feed(data):
            if type(item) is Pong:
                if item.payload.isdigit() and len(item.payload) <= 18:
                    self._take_pong(int(item.payload))
            elif type(item) is Ping:
                self._delivery.tick.write(self._wire.transport, frame(PONG, item.payload, is_client=True))
            elif type(item) is Closing:
                self.close(f"it closed with {item.code} {item.reason}".rstrip())
                return
            elif type(item) is Broken:
                self.close(item.reason)
                return

    def _take_pong(self, number: int) -> None:
        awaited, now = self._awaited, monotonic()
        while awaited and awaited[0][0] <= number:
            _, _, data, outcome = awaited.popleft()
            if not outcome.done():
                outcome.set_result(Outcome(DELIVERED, 0))
            if self._settings.redeliver_window and self._delivery.kept_bytes + len(data) <= _KEPT_BYTES:
                self._kept.append(Kept(data, now))
                self._delivery.kept_bytes += len(data)

    def pause_writing(self) -> None:
        """The backend takes nothing: the number of deliveries on their way is bounded anyway."""

    def resume_writing(self) -> None:
        """It takes more again."""

    def connection_lost(self, exc: Exception | None) -> None:
        """What was on its way is tried again by the ledger; what was just delivered, by us."""
        self._wire = None
        self._lost(f"connection lost: {exc}" if exc else "connection lost")

    def _lost(self, reason: str) -> None:
        self._reader = None
        awaited, self._awaited = self._awaited, deque()
        for _, _, _, outcome in awaited:
            if not outcome.done():
                outcome.set_result(Outcome(RETRY, 0, reason))
        self._drop_old(monotonic())
        self._again.extend(self._kept)
        self._kept.clear()
        self._again_at = monotonic() + _AGAIN

    # time

    def _drop_old(self, now: float) -> None:
        until = now - self._settings.redeliver_window
        while self._kept and self._kept[0].at <= until:
            self._delivery.kept_bytes -= len(self._kept.popleft().data)

    def check_time(self, now: float) -> None:
        """Fail what has no Pong for too long; send again what was lost; end what is idle."""
        self._drop_old(now)
        limit = self._upstream.settings.response_timeout
        if self._wire is None:
            if self._again and self._opening is None and now >= self._again_at:
                self._opening = self._delivery.loop.create_future()
                self._begin()
            self.is_done = not self._again and self._opening is None and now - self._used_at > _IDLE
        elif self._awaited and now - self._awaited[0][1] > limit:
            self.close(f"no Pong within {limit:g} s")
        elif not self._awaited and not self._kept and now - self._used_at > _IDLE:
            self.close("idle")
            self.is_done = True

    def close(self, reason: str) -> None:
        """End the connection."""
        leg, self._leg = self._leg, None
        if leg is not None:
            leg.abandon()
            self._opened(Outcome(RETRY, 0, reason))
        wire, self._wire = self._wire, None
        if wire is not None:
            self._delivery.tick.write(wire.transport, close_frame(NORMAL, is_client=True))
            wire.let_go()
        self._lost(reason)
