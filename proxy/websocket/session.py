r"""One client's session: its messages become events, each with its sides, and what backends say goes back to it.

    client --frames--> data_received --Message--> choose --> record, Link of each side, or the ledger
                                     --Ping-----> answered when all messages before it are safe
           <--runs---- from_backend <-- the answering side's link (in split: of both)

While the session is being opened the client's connection is still the HTTP one; it is taken over with the 101.

Backends come and go, and the client does not see it: what a link has not got goes to the ledger, which opens a
session of its own for it. A client is held up, by not reading on, while there is no room for records.

Long, because it is one owner of one session's state: what is read, held up, answered and closed is decided by the same
dozen fields.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Final

from proxy.core.authority_down import Remedy, remedy
from proxy.core.choose import Choice
from proxy.core.event import BOTH, NEW, OLD, Event
from proxy.core.owed import LOST
from proxy.http.head import RequestHead
from proxy.http.route import EventRoute
from proxy.http.tick import End
from proxy.http.values import MAX_VALUE, Reader, is_safe_id
from proxy.ledger.protocol import PARKED
from proxy.ledger.shape import as_protocol
from proxy.websocket.context import SessionMessage, pack_context
from proxy.websocket.exchange import Exchange
from proxy.websocket.frames import (
    GOING_AWAY,
    NO_CODE,
    NORMAL,
    PING,
    POLICY,
    PONG,
    TOO_BIG,
    TRY_AGAIN,
    Broken,
    Closing,
    FrameReader,
    Item,
    Message,
    Ping,
    Run,
    close_frame,
    frame,
)
from proxy.websocket.opening import Agreed, Opening, switching, with_protocol
from proxy.websocket.prologue import Prologue, Rules
from proxy.websocket.upstream import DOWN, OPEN, OPENING, Link
from proxy.websocket.wire import CLOSE_WAIT

if TYPE_CHECKING:
    from proxy.http.downstream import Client
    from proxy.websocket.service import Sessions

_HOLD: Final = 0.02
"""Seconds until a client that is held up is looked at again."""
_WRITE_HIGH: Final = 64 * 1024
"""Bytes that a client may leave unread before its backends are not read on."""
_LAST_WORDS: Final = 5.0
"""Seconds that a client which closes waits for its last messages to be safe."""
_SMALL: Final = 4096
_HURRY_AGAIN: Final = 0.1
"""Seconds until the next look at what keeps a client's Ping from being answered."""
_MOST_OUTSTANDING: Final = 10_000
"""Messages that are not safe, before no more are read."""
_MOST_PINGS: Final = 1_000
"""Pings of a client that wait for their answer."""
SESSION: Final = 16 * 1024
"""Bytes that an open session stands for in the memory budget."""


class Session:
    """One session. Once it is open it is the client's connection's `StreamProtocol`."""

    __slots__ = (
        "_buckets",
        "_clock",
        "_client",
        "_contexts",
        "_farewell",
        "_fixed",
        "_counted",
        "_head",
        "_hurrying",
        "_is_full",
        "_is_held",
        "_name",
        "_opening",
        "_outstanding",
        "_params",
        "_peer",
        "_pinged_at",
        "_pings",
        "_reader",
        "_safe",
        "_since",
        "_taken",
        "_transport",
        "_waited",
        "_waiting",
        "_began_at",
        "answering",
        "handshake",
        "heard_at",
        "is_over",
        "ledger",
        "links",
        "marks",
        "ping_interval",
        "plane",
        "prologue",
        "protocols",
        "redeliver_window",
        "route",
        "service",
        "settings",
        "wants_pongs",
    )

    def __init__(
        self, service: Sessions, client: Client, route: EventRoute, head: RequestHead, params: Mapping[str, str],
        opening: Opening, name: str, rules: Rules,
    ) -> None:  # fmt: skip
        settings = route.settings.websocket
        assert settings is not None
        self.service = service
        self.settings = settings
        self.plane = service.plane
        self.ledger = service.plane.ledger
        self.marks = service.plane.marks
        self.route = route
        self.redeliver_window = settings.redeliver_window
        self.ping_interval = settings.ping_interval
        self.wants_pongs = settings.receipt == "pong"
        self._client: Client | None = client
        self._opening = opening
        self._head = head
        self._params = params
        self._peer = client.peer
        self._name = name
        self.handshake = opening.context
        self.protocols = opening.protocols
        self.prologue = Prologue(head, settings.broadcast_first, rules)
        self.links = [Link(self, side, route.sides[side]) for side in (OLD, NEW)]
        self.answering = OLD
        """Whose messages the client gets, where only one side's are for it."""
        self.is_over = False
        self.heard_at = monotonic()
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader(
            is_client=True, max_message=service.max_message, max_fragments=settings.max_fragments
        )
        self._buckets: dict[str, int] = {}
        self._contexts: dict[int, bytes] = {}
        # What is not safe yet, oldest first; how many messages were taken, and how many of the first of them are safe.
        self._outstanding: deque[Exchange] = deque()
        self._taken = 0
        self._safe = 0
        self._pings: deque[tuple[int, bytes]] = deque()
        """Frames for the client, each due when so many messages are safe."""
        self._hurrying: asyncio.TimerHandle | None = None
        self._waiting: list[Item] = []
        """What was read and cannot be taken yet."""
        self._is_held = False
        self._is_full = False
        self._since = 0.0
        self._counted = 0
        self._waited = 0
        """The last frame for whose being durable we wait."""
        self._began_at = 0.0
        """When the message began that is not whole yet; 0 without one."""
        self._clock: asyncio.TimerHandle | None = None
        self._farewell = 0
        """The code with which the client closes, once it does."""
        self._pinged_at = 0.0
        self._fixed: int | None = None
        """The side that was chosen once, with `unit: connection`."""

    # opening

    def begin(self) -> None:
        """Shake hands with the backends that its messages may go to."""
        choice = self._first_choice()
        self.answering = choice.authority
        if self.settings.unit == "connection":
            self._fixed = choice.authority
        dials = self.route.dials
        both = choice.owed == BOTH or choice.shadow or 0 < dials.weight < 100
        self.links[choice.authority].open()
        if both and not self.is_over:
            self.links[1 - choice.authority].open()

    def _first_choice(self) -> Choice:
        """Where a message would go whose key is that of the handshake."""
        key, _ = self.route.read_key_and_id(self._head, b"", self._params, self._peer)
        bucket = self._bucket(key or self._name)
        if self.route.steering is not None:
            steered = self.route.steer(self._head, self._params, bucket, key)
            if steered is not None:
                return steered.choice
        return self.route.plan.choose(bucket)

    def _bucket(self, key: str) -> int:
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) > 64:
                self._buckets.clear()
            bucket = self._buckets[key] = self.plane.bucket(key)
        return bucket

    def takes(self, link: Link, agreed: Agreed) -> str:
        """A backend agrees. Why its handshake does not count; empty when it does."""
        if self._transport is not None and agreed.protocol != (self.protocols[0] if self.protocols else ""):
            self.service.count("websocket_protocols_differ")
            return "it chose another subprotocol than the authority"
        link.agreed = agreed
        return ""

    def opened(self, link: Link) -> None:
        """A backend is connected."""
        if self._transport is not None or self.is_over:
            return
        other = self.links[1 - link.side]
        authority = self.links[self.answering]
        if authority.state != OPEN:
            return
        if link is authority and other.state == OPENING and self._clock is None:
            self._clock = self.service.loop.call_later(self.route.settings.copy_wait, self._switch)
        else:
            self._switch()

    def not_opened(self, link: Link) -> None:
        """A backend cannot be reached, or will not."""
        if link.side != self.answering or self._transport is not None or self.is_over:
            if not self.is_over:
                self.service.count("websocket_handshakes_refused")
            return
        other = self.links[1 - link.side]
        answer, link.answer = link.answer, None
        is_down = answer is None or answer.head is None or answer.status >= 500
        if is_down and other.state in (OPENING, OPEN) and self._may_fail_over(link.side):
            self.service.count("failovers")
            self.answering = other.side
            if other.state == OPEN:
                self._switch()
            return
        client, self._client = self._client, None
        self._finish(NORMAL)
        if client is not None:
            client.let_go_of(self)
            if answer is not None and answer.head is not None and not answer.is_overfull:
                client.answer_kept(answer)
            else:
                status = answer.status if answer is not None and answer.head is None else 502
                client.answer_problem(status, (answer.reason if answer is not None else "") or "the backend failed")

    def has_room_for(self, link: Link) -> bool:
        """May what this backend says be read? What is for the client waits for it, and for its 101."""
        return self._transport is not None and not (self._is_full and self._hears(link.side))

    def _hears(self, side: int) -> bool:
        """Are the messages of this side for the client?"""
        weight = self.route.dials.weight
        return side == self.answering or (not self.route.has_copy and 0 < weight < 100)

    def _may_fail_over(self, side: int) -> bool:
        dials, settings = self.route.dials, self.route.settings
        chosen = remedy(
            settings.on_authority_down,
            authority=side,
            weight=dials.weight,
            latched=dials.latched,
            copy_on=True,
            sent=False,
            client_id=False,
        )
        return chosen is Remedy.FAILOVER

    def _switch(self) -> None:
        """The authority has agreed: the client's connection is ours now."""
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
        client, self._client = self._client, None
        if client is None or self.is_over or self._transport is not None:
            return
        if client.has_more:
            self._finish(NORMAL)
            self.service.count("refused_400")
            client.let_go_of(self)
            client.last_call()
            client.answer_problem(400, "bytes behind a WebSocket handshake, before its answer")
            return
        agreed = self.links[self.answering].agreed
        self.protocols = (agreed.protocol,) if agreed.protocol else ()
        self.handshake = with_protocol(self._opening.context, agreed.protocol)
        transport = client.hand_over()
        self._transport = transport
        self.service.plane.budget.connected(SESSION)
        self.service.http.others += 1
        self.service.count("websocket_sessions")
        transport.set_protocol(as_protocol(self))
        transport.set_write_buffer_limits(_WRITE_HIGH)
        self.service.tick.write(transport, switching(self._opening, agreed))
        self.heard_at = monotonic()
        other = self.links[1 - self.answering]
        if other.state == OPEN and other.agreed.protocol != agreed.protocol:
            self.service.count("websocket_protocols_differ")
            other.drop(NORMAL, "it chose another subprotocol than the authority")
        for link in self.links:
            link.resume_reading()

    def client_gone(self) -> None:
        """The client left before its session was open."""
        self._client = None
        self._finish(GOING_AWAY)

    # from the client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It was made when it was an HTTP connection."""

    def data_received(self, data: bytes) -> None:
        if self.is_over or self._farewell:
            return
        self.heard_at = monotonic()
        items = self._reader.feed(data)
        if self._reader.is_between:
            self._began_at = 0.0
        elif not self._began_at:
            self._began_at = self.heard_at
        if self._waiting:
            self._waiting += items
        else:
            self._take(items)
        if self._reader.held > _SMALL or self._counted:
            self._count()

    def _take(self, items: list[Item]) -> None:
        """Act on what was read; what there is no room for waits, and the client with it."""
        for i, item in enumerate(items):
            if self.is_over:
                return
            if type(item) is Message:
                if not self._message(item):
                    self._waiting = items[i:]
                    self._hold()
                    break
            elif type(item) is Ping:
                self._answer_when_safe(frame(PONG, item.payload, is_client=False))
            elif type(item) is Closing:
                code = NORMAL if item.code == NO_CODE else item.code
                self._answer_when_safe(close_frame(code, is_client=False))
                self._close_after(code)
                break
            elif type(item) is Broken:
                self.service.count(f"websocket_closed_{item.code}")
                self.close(item.code, item.reason)
                break
        for link in self.links:
            link.flush()

    def _message(self, message: Message) -> bool:
        """Make an event of a message and send it; false when there is no room for it now."""
        plane = self.plane
        if self.ledger.is_full or plane.has_low_disk or plane.budget.is_full:
            return False
        if len(self._outstanding) >= _MOST_OUTSTANDING:
            self.settle()
            return False
        if self.prologue.takes(message):
            return self._broadcast(message)
        route, payload = self.route, message.payload
        key, event_id = route.read_key_and_id(self._head, payload, self._params, self._peer)
        if key is None or len(key) > MAX_VALUE:
            self.service.count("key_missing")
            if route.settings.key_missing == "reject":
                self.close(POLICY, f"no key: {route.settings.key} is missing"[:120])
                return True
            has_key, key = False, self._name
        else:
            has_key = True
        bucket = self._bucket(key)
        choice = self._choose(bucket, key, has_key)
        link = self.links[choice.authority]
        if link.is_full and link.can_take(bucket):
            return False
        wall = time.time_ns()
        is_clients_id = event_id is not None and is_safe_id(event_id)
        if event_id is None or not is_clients_id:
            event_id = plane.ids.make(wall)
        self._launch(message, choice, Event(
            0, event_id, route.name, key, bucket, plane.epoch, choice.authority, choice.owed, 0, choice.deferred, False,
            wall, "websocket", self._context(message.kind), payload,
            self._read(route.time_reader, payload) if route.time_reader else "",
            tuple([self._read(each, payload) for each in route.identity_readers]) if route.identity_readers else (),
            is_clients_id,
        ))  # fmt: skip
        if has_key:
            route.chosen[choice.authority] += 1
            route.spread.count(bucket, key)
        return True

    def _read(self, source: Reader, payload: bytes) -> str:
        return source(self._head, payload, self._params, self._peer) or ""

    def _choose(self, bucket: int, key: str, has_key: bool) -> Choice:
        route = self.route
        if route.steering is not None:
            steered = route.steer(self._head, self._params, bucket, key if has_key else None)
            if steered is not None:
                return steered.choice
        if self._fixed is not None and route.dials.weight > 0:
            return route.plan.new if self._fixed == NEW else route.plan.old
        return route.plan.choose(bucket)

    def _launch(self, message: Message, choice: Choice, event: Event) -> None:
        """Record an event and send it to the sides that can have it now; the ledger delivers to the others."""
        bucket, authority = event.bucket, choice.authority
        links, ledger = self.links, self.ledger
        if not links[authority].can_take(bucket):
            links[authority].open()
            if not self._without_authority(event, bucket):
                return
            authority = event.authority
        self.answering = authority
        sent = 0
        for side in (OLD, NEW):
            bit = 1 << side
            if not event.owed & bit or event.deferred & bit or event.handed & bit:
                continue
            link = links[side]
            if link.can_take(bucket) and not link.is_full:
                sent |= bit
            else:
                link.open()
                event.handed |= bit
        event.n = ledger.next_number()
        self.service.count("websocket_messages")
        self._taken += 1
        exchange = Exchange(event.n, bucket, authority, sent, ledger.frame if event.handed or event.deferred else 0)
        lost = 0
        if event.handed and self.route.settings.durability == "off":
            lost, event.handed = event.handed & ~(1 << authority), event.handed & 1 << authority
        ledger.add(event)
        self.service.tick.schedule()
        self.route.accepted += 1
        self._outstanding.append(exchange)
        for side in (OLD, NEW):
            bit = 1 << side
            if sent & bit:
                links[side].send(exchange, message.raw)
            elif event.handed & bit:
                links[side].park(bucket)
                links[side].handed_frame = ledger.frame
                self.service.count("handed")
            elif lost & bit:
                ledger.report(event.n, side, LOST, 0)
                self.service.count("copies_lost")
            elif choice.shadow:
                self._shadow(side, message)

    def _shadow(self, side: int, message: Message) -> None:
        """A copy that nobody counts on."""
        link = self.links[side]
        if link.state == OPEN and not link.is_full:
            link.pass_on(message.raw)
        else:
            link.open()
            self.service.count("shadow_copies_skipped")

    def _without_authority(self, event: Event, bucket: int) -> bool:
        """The authority cannot have it now: apply `on_authority_down`. False when the session ends for it."""
        route, side = self.route, event.authority
        other = 1 - side
        copy_on = event.owed == BOTH and not event.deferred
        chosen = remedy(
            route.settings.on_authority_down,
            authority=side,
            weight=route.dials.weight,
            latched=route.dials.latched,
            copy_on=copy_on,
            sent=False,
            client_id=event.client_id,
        )
        if chosen is Remedy.FAILOVER:
            link = self.links[other]
            if not link.can_take(bucket) or link.is_full:
                link.open()
                chosen = Remedy.ACCEPT
        if chosen is Remedy.FAIL:
            self.service.count("authority_failures")
            self.close(TRY_AGAIN, "the backend is away")
            return False
        event.handed |= 1 << side
        if chosen is Remedy.ACCEPT:
            self.service.count("accepted_for_authority")
            return True
        self.service.count("failovers")
        event.authority = other
        if not copy_on:
            # As for HTTP: what new answers instead of old is kept for old, behind what that has not got yet.
            keeps = side == OLD and route.settings.carry_over
            event.owed = BOTH if keeps else 1 << other
            event.handed = 1 << OLD if keeps else 0
            event.deferred = 0
        return True

    def _context(self, kind: int) -> bytes:
        context = self._contexts.get(kind)
        if context is None:
            message = SessionMessage(self._name, kind, self.prologue.messages, self.prologue.version)
            context = self._contexts[kind] = pack_context(self.handshake, message)
        return context

    def _broadcast(self, message: Message) -> bool:
        """A message of the prologue: to both sides, now and first on every connection that is made later."""
        if not self.prologue.keep(message):
            self.close(TOO_BIG, "too much that both sides must have")
            return True
        self._contexts.clear()
        self.service.count("websocket_broadcasts")
        for link in self.links:
            if link.is_full and link.state == OPEN:
                link.drop(TRY_AGAIN, "it does not take what both sides must have")  # it gets it first, next time
            else:
                link.pass_on(message.raw)
        return True

    # holding the client up

    def _hold(self) -> None:
        """Read no more until there is room."""
        self.service.count("websocket_held")
        if not self._is_held and self._transport is not None:
            self._is_held = True
            self._transport.pause_reading()
        self.service.loop.call_later(_HOLD, self._go_on)

    def _go_on(self) -> None:
        if self.is_over:
            return
        items, self._waiting = self._waiting, []
        self._take(items)
        if not self._waiting:
            self._is_held = False
            self._read_on()

    def _read_on(self) -> None:
        if self._transport is not None and not self._is_held and not self._is_full:
            self.heard_at = monotonic()
            self._transport.resume_reading()

    # answers

    def _answer_when_safe(self, data: bytes) -> None:
        """Write a frame once every message before it is safe."""
        if self._safe >= self._taken and not self._pings:
            self._write(data)
            return
        if len(self._pings) >= _MOST_PINGS:
            self.close(POLICY, "too many Pings")
            return
        self._pings.append((self._taken, data))
        if self._hurrying is None:
            self._hurrying = self.service.loop.call_later(self.route.settings.copy_wait, self._hurry)

    def _hurry(self) -> None:
        """Somebody waits: what copies still keep from being safe goes to the ledger, and that commits now."""
        self._hurrying = None
        self.settle()
        if not self._pings:
            return
        ledger, waits = self.ledger, False
        for exchange in self._outstanding:
            copy = 1 << (1 - exchange.authority)
            if exchange.missing == copy:
                if not exchange.parked & copy:
                    exchange.parked |= copy
                    ledger.report(exchange.n, 1 - exchange.authority, PARKED, 0)
                    self.service.count("parked")
                exchange.hand(1 - exchange.authority, ledger.frame)
            waits = waits or exchange.frame > ledger.durable
        if waits and self._waited != ledger.frame:
            self._waited = ledger.frame
            ledger.wait_durable(self)
            self.service.tick.schedule()
        if any(exchange.missing for exchange in self._outstanding):
            self._hurrying = self.service.loop.call_later(_HURRY_AGAIN, self._hurry)

    def record_durable(self) -> None:
        """Everything said before we waited is on disk."""
        self.settle()

    def turn_came(self) -> None:
        """Messages take no turns."""

    def record_unsafe(self) -> None:
        """The ledger is away; what waits for it goes on waiting, and the client without an answer."""

    def settle(self) -> None:
        """Answer Pings whose messages are safe."""
        outstanding, durable = self._outstanding, self.ledger.durable
        while outstanding and outstanding[0].is_safe(durable):
            outstanding.popleft()
            self._safe += 1
        pings = self._pings
        while pings and pings[0][0] <= self._safe:
            self._write(pings.popleft()[1])
        if self._farewell and not pings:
            self._end_now()

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self.service.tick.write(self._transport, data)

    def from_backend(self, link: Link, run: Run) -> None:
        """Messages of a backend: the client's, if that side answers; else they are dropped."""
        if self._hears(link.side) and self._transport is not None and not self.is_over:
            self.service.count("websocket_messages_to_clients", run.messages)
            self.service.tick.write(self._transport, run.raw)
        else:
            self.service.count("websocket_messages_dropped", run.messages)

    def pause_writing(self) -> None:
        """The client reads slowly: so is it read, and so are the backends whose messages are for it."""
        self._is_full = True
        self._since = monotonic()
        if self._transport is not None:
            self._transport.pause_reading()
        for link in self.links:
            if self._hears(link.side):
                link.pause_reading()

    def resume_writing(self) -> None:
        """It reads on."""
        self._is_full = False
        self._read_on()
        for link in self.links:
            link.resume_reading()

    # the end

    def eof_received(self) -> bool:
        """The client's half is closed without a close frame."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        transport, self._transport = self._transport, None
        if transport is not None:
            self.service.tick.drop_writes(transport)
            self.service.plane.budget.connected(-SESSION)
            self.service.http.others -= 1
        self._waiting = []
        self._pings.clear()
        self._finish(GOING_AWAY)
        self.link_ended()

    def close(self, code: int, reason: str) -> None:
        """End the session from our side."""
        client, self._client = self._client, None
        if client is not None:
            client.let_go_of(self)
            client.last_call()
            client.answer_problem(503, reason)
        elif self._transport is not None:
            self._write(close_frame(code, reason, is_client=False))
            self._end()
        self._finish(code if code in (NORMAL, GOING_AWAY) else GOING_AWAY)

    def _close_after(self, code: int) -> None:
        """The client closes: it is told the same once its messages are safe, or after a while."""
        self._farewell = code
        if not self._pings:
            self._end_now()
        else:
            self._clock = self.service.loop.call_later(_LAST_WORDS, self._end_now)

    def _end_now(self) -> None:
        code, self._farewell = self._farewell, 0
        self._end()
        self._finish(code)

    def _end(self) -> None:
        """Close the client's connection after what was written."""
        transport = self._transport
        if transport is not None:
            self.service.tick.end(transport, End.CLOSE)
            self.service.loop.call_later(CLOSE_WAIT, transport.abort)

    def _finish(self, code: int) -> None:
        """Nothing more comes from the client: let the backends go in order."""
        if self.is_over:
            return
        self.is_over = True
        for timer in (self._hurrying, self._clock):
            if timer is not None:
                timer.cancel()
        self._hurrying = self._clock = None
        self._count()
        for link in self.links:
            link.say_goodbye(code)

    def link_ended(self) -> None:
        """A link is over for good, or the client's connection is."""
        if self.is_over and self._transport is None and all(link.state == DOWN for link in self.links):
            self.service.ended(self)

    def check_time(self, now: float) -> None:
        """Ten times a second: what is due at the backends, a client that says nothing or reads nothing."""
        for link in self.links:
            link.check_time(now)
        transport = self._transport
        if transport is None or self.is_over:
            return
        silent = now - self.heard_at
        if self._is_full and now - self._since > self.service.http.limits.keepalive_timeout:
            self.service.count("clients_not_reading")
            self.close(TRY_AGAIN, "too slow a reader")
        elif self._is_full or self._is_held:
            return
        elif self._began_at and self._waits_too_long(now - self._began_at):
            self.service.count("websocket_slow_messages")
            self.close(POLICY, "the rest of a message took too long")
        elif silent > 2 * self.ping_interval:
            self.service.count("websocket_silent")
            self.close(GOING_AWAY, "no answer to a Ping")
        elif silent > self.ping_interval and now - self._pinged_at > self.ping_interval:
            self._pinged_at = now
            self._write(frame(PING, b"", is_client=False))

    def _waits_too_long(self, waited: float) -> bool:
        """May a message take so long? As the body of a request: while memory is short it has a tenth of the time."""
        if self.plane.budget.is_short:
            waited *= 10
        return waited > self.service.http.limits.body_timeout

    def _count(self) -> None:
        """Tell the budget what is held of unfinished messages."""
        held = 0 if self.is_over else self._reader.held
        if held <= _SMALL:
            held = 0
        if held != self._counted:
            self.service.plane.budget.add(held - self._counted)
            self._counted = held
