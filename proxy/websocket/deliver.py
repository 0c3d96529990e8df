"""deliver(event, attempt) -> Outcome over WebSocket: how the ledger delivers messages of sessions.

    event.context --> Courier of (backend, session) --handshake, prologue--> backend
                         | message, Ping n  -->
                         | <-- Pong n, or its reply: DELIVERED

A courier is a session of the ledger's own, with the handshake, subprotocol and prologue of the client's; to a backend
with `deliver.websocket` one for each route, with a handshake of ours, see `wrapping`. What it gets back is read and
dropped: the client has its own session, or has left. A message whose Pong is here may still be lost
with its connection, so a courier keeps it for `redeliver_window` and, when the connection is lost within that time,
sends it again first on the next one. What it has to give up of that, for want of room or of a backend that takes its
handshake, is counted.

A backend that closes for what it got refuses the message on its way, or fails it; of several nobody can tell which it
was, so each of them goes alone the next time.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from config.model import WebSocket
from proxy.core.event import (
    DELIVERED,
    DENIED,
    PAUSE,
    REFUSED,
    RETRY,
    UNFIT,
    UNFIT_STATUS,
    UNREACHABLE,
    Attempt,
    Event,
    Outcome,
)
from proxy.core.template import Unfit
from proxy.http.leg import Leg
from proxy.http.room import Room
from proxy.http.tick import Tick
from proxy.http.upstream import Upstream
from proxy.websocket.context import SessionMessage, unpack_context
from proxy.websocket.frames import (
    GOING_AWAY,
    NO_CLOSE,
    NO_CODE,
    NORMAL,
    SERVICE_RESTART,
    TOO_BIG,
    TRY_AGAIN,
    Broken,
    Closing,
    FrameReader,
    Message,
    Run,
    frame,
)
from proxy.websocket.handshake import Handshake
from proxy.websocket.opening import Agreed, offered_in
from proxy.websocket.replies import Replies
from proxy.websocket.turns import Turns
from proxy.websocket.wire import Wire
from proxy.websocket.wrapping import Wrapping

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
_AGAIN_MOST: Final = 10.0
"""Such seconds while handshakes fail: each time twice as many."""
_REFUSED_FOR: Final = 60.0
"""Seconds of refused handshakes (404 of a load balancer whose backend starts) until nobody counts as taking them."""
_OF_NO_MESSAGE: Final = frozenset({NORMAL, GOING_AWAY, NO_CODE, NO_CLOSE, SERVICE_RESTART, TRY_AGAIN})
"""Codes with which a backend closes whatever it got."""
_MOST_SUSPECTS: Final = 1000
"""Messages of one session that go alone, of which so many are remembered."""


class Kept(NamedTuple):
    """A message that was delivered a moment ago. data: its frame; at: when its Pong came, monotonic seconds."""

    data: bytes
    at: float


class WebSocketDelivery:
    """Delivers messages to a route's backends. sides: (old, new) by route name, as is settings.

    max_message: of what a backend says, bytes; max_decoded: of a compressed body, bytes
    """

    def __init__(
        self,
        sides: Mapping[str, tuple[Upstream, Upstream]],
        settings: Mapping[str, WebSocket],
        max_message: int,
        max_decoded: int,
        tick: Tick,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._sides = sides
        self._settings = settings
        self.max_message = max_message
        self._max_decoded = max_decoded
        self.tick = tick
        self.loop = loop
        self.kept_bytes = 0
        self.counters: Counter[str] = Counter()
        self._rooms: defaultdict[str, Room] = defaultdict(Room)
        """By backend, of all sessions with it."""
        self._couriers: dict[tuple[str, str], Courier] = {}
        self._wrappings: dict[str, Wrapping] = {}
        """By backend, of those that have one."""
        for old, new in sides.values():
            for upstream in (old, new):
                form = upstream.settings.deliver.websocket
                if form is not None and upstream.name not in self._wrappings:
                    self._wrappings[upstream.name] = Wrapping(form, upstream.settings.url[0])

    async def deliver(self, event: Event, attempt: Attempt) -> Outcome:
        """One attempt. Never raises for what the backend does."""
        upstream = self._sides[event.route][attempt.side]
        wrapping = self._wrappings.get(upstream.name)
        if wrapping is not None:
            return await self._deliver_wrapped(upstream, wrapping, event)
        try:
            handshake, message = unpack_context(event.context)
        except (ValueError, msgspec.DecodeError) as error:
            log.error("a message has no session: %s", error, extra={"id": event.id})
            return Outcome(REFUSED, 0, "its session cannot be read")
        room, size = self._rooms[upstream.name], len(event.body)
        await room.enter()
        room.take(size)
        try:
            # Not before: one that is idle while others fill the room is thrown away.
            courier = self._courier_of_client(upstream, event.route, message.session, handshake)
            return await courier.deliver(event.id, message, event.body)
        finally:
            room.give(size)

    def _courier_of_client(self, upstream: Upstream, route: str, session: str, handshake: bytes) -> Courier:
        """Who delivers messages of a client's session."""
        name = (upstream.name, session)
        courier = self._couriers.get(name)
        if courier is None:
            settings = self._settings.get(route) or WebSocket()
            replies = Replies(settings.reply) if settings.reply is not None else None
            courier = self._couriers[name] = Courier(self, upstream, handshake, settings, replies, is_ours=False)
        return courier

    async def _deliver_wrapped(self, upstream: Upstream, wrapping: Wrapping, event: Event) -> Outcome:
        """By the session of ours that takes this route's events to this backend."""
        room = self._rooms[upstream.name]
        await room.enter()
        try:
            made = wrapping.wrap(event, self._max_decoded)
        except BaseException:
            room.pass_on()
            raise
        size = 0 if isinstance(made, Unfit) else len(made.payload)
        room.take(size)
        try:
            if isinstance(made, Unfit):
                return Outcome(UNFIT, UNFIT_STATUS, made.reason)
            courier = self._courier_of_route(upstream, wrapping, f"route {event.route}")
            return await courier.deliver(event.id, SessionMessage(f"route {event.route}", made.kind), made.payload)
        finally:
            room.give(size)

    def _courier_of_route(self, upstream: Upstream, wrapping: Wrapping, session: str) -> Courier:
        """Who delivers a route's events in a session of ours."""
        name = (upstream.name, session)
        courier = self._couriers.get(name)
        if courier is None:
            courier = self._couriers[name] = Courier(
                self, upstream, wrapping.handshake, wrapping.settings, wrapping.replies, is_ours=True
            )
        return courier

    def check_times(self, now: float) -> None:
        """Every 100 ms: what was not answered, what need not be kept any more, who is idle."""
        for name, courier in tuple(self._couriers.items()):
            courier.check_time(now)
            if courier.is_done:
                del self._couriers[name]

    def close(self) -> None:
        """Close every connection; deliveries on the way fail."""
        for courier in self._couriers.values():
            courier.is_done = True
            courier.close("closing")
        self._couriers.clear()


class Sent(NamedTuple):
    """A message whose receipt is awaited. data: its frame; at: when it was sent, monotonic seconds."""

    event_id: str
    data: bytes
    at: float
    outcome: asyncio.Future[Outcome]

    def settle(self, outcome: Outcome) -> None:
        """Say what came of it, unless that is known, or nobody waits for it any more."""
        if not self.outcome.done():
            self.outcome.set_result(outcome)


class Courier:
    """One session of the ledger's with one backend. handshake: of the client's, each line ended by CRLF, or ours."""

    def __init__(
        self,
        delivery: WebSocketDelivery,
        upstream: Upstream,
        handshake: bytes,
        settings: WebSocket,
        replies: Replies | None,
        *,
        is_ours: bool,
    ) -> None:
        self._is_ours = is_ours
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
        self._answered_at = 0.0
        """When the latest message that has its reply was sent."""
        self._turns = Turns()
        self._suspects: dict[str, None] = {}
        """Events one of which the backend may have closed for."""
        self._is_full = False
        """The backend takes nothing."""
        self._kept: deque[Kept] = deque()
        self._again: deque[Kept] = deque()
        """Of a connection that was lost: first on the next one."""
        self._resent: deque[Kept] = deque()
        """On this one, without the Pong behind them; its number, and since when."""
        self._resent_number, self._resent_at = 0, 0.0
        self._again_at, self._again_wait = 0.0, _AGAIN
        self._refused_since = 0.0
        """Since when handshakes are refused as long as there is something to be sent again; 0 while they are not."""
        self._used_at = monotonic()
        self.is_done = False

    async def deliver(self, event_id: str, message: SessionMessage, payload: bytes) -> Outcome:
        """Send one message and wait for its receipt."""
        self._used_at = monotonic()
        await self._turns.enter(alone=event_id in self._suspects)
        try:
            outcome = await self._attempt(event_id, message, payload)
        finally:
            self._turns.leave()
            self._used_at = monotonic()
        if outcome.kind in (DELIVERED, REFUSED):
            self._suspects.pop(event_id, None)
        return outcome

    async def _attempt(self, event_id: str, message: SessionMessage, payload: bytes) -> Outcome:
        if message.version > self._version:
            self._version, self._prologue = message.version, message.prologue
        if self._wire is None and not self.is_done:
            failed = await self._connect()
            if failed is not None:
                return failed
        if self._wire is None:
            return Outcome(RETRY, 0, "the connection was lost")
        outcome: asyncio.Future[Outcome] = self._delivery.loop.create_future()
        data = frame(message.kind, payload, is_client=True)
        self._send(self._wire, Sent(event_id, data, monotonic(), outcome), payload)
        return await outcome

    def _send(self, wire: Wire, sent: Sent, payload: bytes) -> None:
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
        """`receipt: none`: what was written is delivered, as far as the backend takes it."""
        if self._wire is not None and not self._is_full:
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
        is_refused = leg.head is not None and leg.status < 500 and leg.status not in _PASSING
        if not is_refused:
            self._refused_since = 0.0  # a minute of refusals is one with nothing else in between
        elif not self._is_ours and self._again:
            self._refused(leg.status, monotonic())
        if leg.head is None:
            self._opened(Outcome(leg.kind if leg.kind == UNREACHABLE else RETRY, leg.status, reason or leg.reason))
        elif not is_refused:
            self._opened(Outcome(RETRY, leg.status))
        else:
            # The credentials are the client's, so what is refused is this session and not the proxy: others' messages
            # go on, and when they do and this one is refused again and again it is a dead letter. Of a handshake of
            # ours the same is about our right to ask, or where.
            self._opened(Outcome(PAUSE if self._is_ours else DENIED, leg.status))

    def _refused(self, status: int, now: float) -> None:
        """What was delivered just before the connection was lost finds the door shut: not for ever."""
        self._refused_since = self._refused_since or now
        if now - self._refused_since < _REFUSED_FOR:
            return
        self._refused_since = 0.0
        self._delivery.counters["courier_resends_given_up"] += len(self._again)
        extra = {"backend": self._upstream.name, "status": status, "messages": len(self._again)}
        log.warning(
            "received just before its connection was lost, and not sent again: handshakes are refused", extra=extra
        )
        self._forget(self._again)

    def agreed(self, connection: Connection, transport: asyncio.Transport, agreed: Agreed, rest: bytes) -> None:
        """A session: first what the last connection may have lost."""
        self._handshake = None
        delivery = self._delivery
        reader = FrameReader(
            is_client=False,
            max_message=delivery.max_message,
            max_fragments=self._settings.max_fragments,
            runs=self._replies is None,
            checks_text=False,
        )
        self._wire = Wire(self, connection, transport, reader, delivery.tick, delivery.loop)
        self._told = ()
        self._is_full = False
        self._again_wait, self._refused_since = _AGAIN, 0.0
        self._send_again(self._wire)
        self._opened(None)
        if rest:
            self._wire.data_received(rest)

    def _send_again(self, wire: Wire) -> None:
        again, self._again = self._again, deque()
        if again:
            wire.write(self._untold() + b"".join(each.data for each in again) + self._ping(wire))
            self._resent, self._resent_number, self._resent_at = again, self._number, monotonic()
            if self._settings.receipt == "none":
                self._delivery.tick.after(self._written)

    def _opened(self, failed: Outcome | None) -> None:
        opening, self._opening = self._opening, None
        if opening is not None and not opening.done():
            opening.set_result(failed)
        if failed is not None and self._again:
            self._again_at = monotonic() + self._again_wait
            self._again_wait = min(2 * self._again_wait, _AGAIN_MOST)

    def said(self, item: Run | Message) -> None:
        """The client has its own session, or has left: only a receipt is of use here."""
        if type(item) is not Message or self._replies is None:
            return
        reply = self._replies.read(item.payload)
        sent = self._unanswered.pop(reply.id, None) if reply is not None else None
        if reply is not None and sent is not None:
            self._answered_at = max(self._answered_at, sent.at)
            sent.settle(Outcome(DELIVERED if reply.is_yes else REFUSED, 0))

    def ponged(self, number: int) -> None:
        """The backend has everything before this Ping."""
        awaited, now = self._awaited, monotonic()
        if number >= self._resent_number:
            # Since when it had them does not change: else each lost connection would send them once more, for ever.
            self._kept.extend(self._resent)
            self._resent.clear()
        while awaited and awaited[0][0] <= number:
            _, sent = awaited.popleft()
            sent.settle(Outcome(DELIVERED, 0))
            if self._settings.redeliver_window:
                self._keep(sent.data, now)

    def _keep(self, data: bytes, now: float) -> None:
        """Until its window is over, if there is room for it."""
        delivery = self._delivery
        if delivery.kept_bytes + len(data) > _KEPT_BYTES:
            if not delivery.counters["courier_windows_cut"]:
                log.warning("no room to keep what backends have received for `redeliver_window`: some is not kept")
            delivery.counters["courier_windows_cut"] += 1
            return
        self._kept.append(Kept(data, now))
        delivery.kept_bytes += len(data)

    def closed_by_backend(self, closing: Closing) -> None:
        """It leaves, perhaps because of what it got."""
        reason = f"it closed with {closing.code} {closing.reason}".rstrip()
        underway = self._underway()
        if closing.code not in _OF_NO_MESSAGE:
            if len(underway) == 1:
                is_final = closing.code == TOO_BIG
                underway[0].settle(Outcome(REFUSED if is_final else RETRY, 0, reason, is_own=not is_final))
            else:
                self._suspect(underway)
        self.close(reason)

    def _suspect(self, some: list[Sent]) -> None:
        """One of these was why it closed."""
        self._suspects |= dict.fromkeys(sent.event_id for sent in some)
        while len(self._suspects) > _MOST_SUSPECTS:
            del self._suspects[next(iter(self._suspects))]

    def broken(self, broken: Broken) -> None:
        """It speaks something else."""
        self.close(broken.reason)

    def pause_writing(self) -> None:
        """The backend takes nothing. Nothing gets a receipt meanwhile, so what waits to be written is bounded."""
        self._is_full = True

    def resume_writing(self) -> None:
        """It takes more again."""
        self._is_full = False
        if self._settings.receipt == "none":
            self._delivery.tick.after(self._written)

    def connection_lost(self, exc: Exception | None) -> None:
        """What was on its way is tried again by the ledger; what was just delivered, by us."""
        self._wire = None
        self._lost(f"connection lost: {exc}" if exc else "connection lost")

    def _lost(self, reason: str) -> None:
        for sent in self._underway():
            sent.settle(Outcome(RETRY, 0, reason))
        self._awaited.clear()
        self._unanswered = {}
        self._answered_at = 0.0
        self._drop_old(monotonic())
        self._again.extend(self._resent)
        self._again.extend(self._kept)
        self._resent.clear()
        self._kept.clear()
        self._again_at = monotonic() + self._again_wait

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
        if self._wire is None:
            if self._again and self._opening is None and now >= self._again_at:
                self._begin()
            self.is_done = not self._again and self._opening is None and now - self._used_at > _IDLE
            return
        if not (self._underway() or self._resent or self._kept) and now - self._used_at > _IDLE:
            self.close("idle")
            self.is_done = True
            return
        self._check_receipts(now)

    def _check_receipts(self, now: float) -> None:
        limit = self._upstream.settings.response_timeout
        reason, until = f"no receipt within {limit:g} s", now - limit
        for id, sent in tuple(self._unanswered.items()):
            if sent.at < until and sent.at < self._answered_at:  # one that was sent later has its reply
                del self._unanswered[id]
                sent.settle(Outcome(RETRY, 0, reason, is_own=True))
        underway = self._underway()
        if any(sent.at < until for sent in underway):
            if len(underway) == len(self._unanswered) == 1:
                underway[0].settle(Outcome(RETRY, 0, reason, is_own=True))
            self.close(reason)
        elif self._resent and self._resent_at < until:
            self.close(reason)

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
