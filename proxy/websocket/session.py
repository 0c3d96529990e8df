r"""One client's session, from its handshake to its end: its parts, and what they have in common.

    client --frames--> Intake ----Event----> ledger
                         | \------message--> Link of old, Link of new --frames--> backends
           <-- Pongs, replies: Acknowledgements <--receipts-- |
           <-------- messages of the answering side <---------+

`Reception` shakes hands; the client's connection is still the HTTP one until the 101.

Backends come and go, and the client does not see it: what a link has not got goes to the ledger, which opens a
session of its own for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Final

from proxy.core.contribution import pair
from proxy.core.event import NEW, OLD
from proxy.http.head import RequestHead
from proxy.http.route import EventRoute
from proxy.http.tick import End
from proxy.ledger.shape import as_protocol
from proxy.websocket.acknowledgements import Acknowledgements
from proxy.websocket.choosing import Choosing
from proxy.websocket.exchange import Exchange
from proxy.websocket.frames import GOING_AWAY, NORMAL, PING, POLICY, TRY_AGAIN, Closing, Message, close_frame, frame
from proxy.websocket.intake import Intake
from proxy.websocket.opening import Agreed, Opening
from proxy.websocket.prologue import Prologue
from proxy.websocket.upstream import DOWN, OTHER_PROTOCOL, Left, Link
from proxy.websocket.wire import CLOSE_WAIT

if TYPE_CHECKING:
    from proxy.http.tracing import Trace
    from proxy.websocket.reception import Reception
    from proxy.websocket.service import Rules, Sessions

_WRITE_HIGH: Final = 64 * 1024
"""Bytes that a client may leave unread before its backends are not read on."""
_LAST_WORDS: Final = 5.0
"""Seconds that a client which closes waits for its last messages to be safe."""
SESSION: Final = 16 * 1024
"""Bytes that an open session stands for in the memory budget."""


class Session:
    """One session. Once it is open it is the client's connection's `StreamProtocol`."""

    __slots__ = (
        "_clock", "_farewell", "_is_ending", "_is_frozen", "_is_full", "_pinged_at", "_prologue_held", "_since",
        "_transport", "_unread", "acknowledgements", "answering", "awaited_replies", "choosing", "contributions",
        "handshake", "heard_at", "intake", "is_over", "ledger", "links", "marks", "ping_interval", "plane", "prologue",
        "protocols", "reception", "redeliver_window", "replies", "route", "service", "settings", "trace", "wants_pongs",
    )  # fmt: skip

    def __init__(
        self, service: Sessions, peer: str, route: EventRoute, head: RequestHead, params: Mapping[str, str],
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
        self.wants_pongs = settings.receipt != "none"
        self.replies = rules.replies
        self.handshake = opening.context
        self.protocols = opening.protocols
        self.prologue = Prologue(settings.broadcast_first, rules.broadcast)
        self.links = [Link(self, side, route.sides[side]) for side in (OLD, NEW)]
        self.choosing = Choosing(self, head, params, peer, name)
        self.intake = Intake(self)
        self.contributions = pair()
        """By side, what this connection contributes to the test of the route's failures."""
        self.acknowledgements = Acknowledgements(self)
        self.reception: Reception | None = None
        """While it is being opened."""
        self.answering = OLD
        """Whose messages the client gets, where only one side's are for it."""
        self.awaited_replies: dict[str, int] = {}
        """What is awaited to be replied to by name, with the mask of the sides that have not."""
        self.trace: Trace | None = None
        """What is told of it; None when it is not drawn."""
        self.is_over = False
        self.heard_at = monotonic()
        self._transport: asyncio.Transport | None = None
        self._is_full = False
        self._is_ending = False
        self._is_frozen = False
        self._since = 0.0
        self._clock: asyncio.TimerHandle | None = None
        self._farewell = 0
        """The code with which the client closes, once it does."""
        self._pinged_at = 0.0
        self._unread = 0
        """Bytes that the budget knows to wait for the client."""
        self._prologue_held = 0
        """Bytes that it knows to be kept of the prologue."""

    # the beginning

    def begin(self, transport: asyncio.Transport, answer: bytes) -> None:
        """The client's connection is ours from its 101 on."""
        self.reception = None
        self._take(transport)
        self.service.count("websocket_sessions")
        self.service.tick.write(transport, answer)
        self.heard_at = monotonic()

    def _take(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.plane.budget.connected(SESSION)
        self.service.http.others += 1
        self.count_prologue()
        transport.set_protocol(as_protocol(self))
        transport.set_write_buffer_limits(_WRITE_HIGH)

    def takes(self, agreed: Agreed) -> str:
        """A backend agrees. Why its handshake does not count; empty when it does."""
        if self._transport is not None and agreed.protocol != (self.protocols[0] if self.protocols else ""):
            self.service.count("websocket_protocols_differ")
            return OTHER_PROTOCOL
        return ""

    def opened(self, link: Link) -> None:
        """A backend is connected."""
        if self.reception is not None and not self.is_over:
            self.reception.opened(link)

    def not_opened(self, link: Link) -> None:
        """A backend cannot be reached, or will not."""
        if self.is_over:
            return
        if self.reception is not None:
            self.reception.not_opened(link)
        else:
            self.refused(link)

    def refused(self, link: Link) -> None:
        """A side is not connected that is no client's answer. Who is only away is not told of here."""
        if link.refusal:
            self.service.refused(link.upstream.name, link.refusal)

    # between the client and its backends

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It was made when it was an HTTP connection."""

    def data_received(self, data: bytes) -> None:
        if self.is_over or self._farewell:
            return
        self.heard_at = now = monotonic()
        self.intake.feed(data, now)

    def took(self, exchange: Exchange, message: Message) -> None:
        """A message has become an event."""
        self.route.accepted += 1
        self.acknowledgements.took(exchange)
        if self.replies is not None and exchange.missing:
            id = self.replies.id_of(message.payload)
            if id and id not in self.awaited_replies:
                self.awaited_replies[id] = exchange.missing
                exchange.reply_id, exchange.raw = id, message.raw
                self.plane.budget.add(len(message.raw))

    def replied(self, side: int, exchange: Exchange, raw: bytes) -> None:
        """A backend has answered a message: the client's answer, when it is the authority's and that is safe."""
        self._no_more_from(side, exchange)
        if side == exchange.authority and not self.is_over:
            self.service.count("websocket_messages_to_clients")
            exchange.reply = raw
            self.acknowledgements.reply(exchange)
        else:
            self.service.count("websocket_messages_dropped")
        self.acknowledgements.settle()

    def no_reply(self, side: int, exchange: Exchange) -> None:
        """The ledger has it now, and hears what the backend says to it."""
        self._no_more_from(side, exchange)
        if side == exchange.authority:
            self.service.count("websocket_replies_missed")

    def _no_more_from(self, side: int, exchange: Exchange) -> None:
        left = self.awaited_replies[exchange.reply_id] & ~(1 << side)
        if left:
            self.awaited_replies[exchange.reply_id] = left
        else:
            del self.awaited_replies[exchange.reply_id]
            self.plane.budget.add(-len(exchange.raw))
            exchange.raw = b""

    def from_backend(self, side: int, raw: bytes, messages: int) -> None:
        """Messages that a backend sends of itself: the client's, if that side answers; else they are dropped."""
        if self._hears(side) and not self.is_over:
            self.service.count("websocket_messages_to_clients", messages)
            self.write(raw)
            if self._is_full:  # it was not for the client yet when that became so
                self.links[side].pause_reading()
        else:
            self.service.count("websocket_messages_dropped", messages)

    def has_room_for(self, link: Link) -> bool:
        """May what this backend says be read? What is for the client waits for it, and for its 101."""
        return self._transport is not None and not (self._is_full and self._hears(link.side))

    def _hears(self, side: int) -> bool:
        """Are the messages of this side for the client?"""
        if side == self.answering:
            return True
        is_split = not self.route.has_copy and 0 < self.route.dials.weight < 100
        return is_split and self.choosing.fixed is None

    def write(self, data: bytes) -> None:
        """Write frames to the client at the end of this iteration; nothing once its connection is being ended."""
        if self._transport is not None and not self._is_ending:
            self.service.tick.write(self._transport, data)

    # holding up

    def pause_client(self) -> None:
        """Read no more from the client, until `read_on`."""
        if self._transport is not None:
            self._transport.pause_reading()

    def read_on(self) -> None:
        """Read on, if nothing speaks against it."""
        if self._transport is not None and not self.intake.is_held and not self._is_full:
            self.heard_at = now = monotonic()
            self.intake.resumed(now)
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        """The client reads slowly: so is it read, and so are the backends whose messages are for it."""
        self._is_full = True
        self._since = monotonic()
        self.watch()
        self._count_unread()
        self.pause_client()
        for link in self.links:
            if self._hears(link.side):
                link.pause_reading()

    def resume_writing(self) -> None:
        """It reads on."""
        self._is_full = False
        self._count_unread()
        self.read_on()
        for link in self.links:
            link.resume_reading()

    def _count_unread(self) -> None:
        """Tell the budget what waits for the client."""
        unread = self._transport.get_write_buffer_size() if self._is_full and self._transport is not None else 0
        if unread != self._unread:
            self.plane.budget.add(unread - self._unread)
            self._unread = unread

    def count_prologue(self) -> None:
        """Tell the budget what is kept of the prologue: itself, and with the context of messages once more."""
        held = 2 * self.prologue.size if self._transport is not None else 0
        self.plane.budget.add(held - self._prologue_held)
        self._prologue_held = held

    # the end

    def eof_received(self) -> bool:
        """The client's half is closed without a close frame."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        transport, self._transport = self._transport, None
        if transport is not None:
            self.service.tick.drop_writes(transport)
            self.plane.budget.connected(-SESSION)
            self.service.http.others -= 1
            self._count_unread()
            self.count_prologue()
        self.client_gone()
        self.link_ended()

    def client_gone(self) -> None:
        """Nobody is there who could be told anything."""
        self.intake.forget()
        self.acknowledgements.stop()
        self.finish(self._farewell or GOING_AWAY)

    def close(self, code: int, reason: str) -> None:
        """End the session from our side."""
        if self.reception is not None:
            self.reception.refuse(reason)
        elif self._transport is not None:
            if not self._farewell:  # else it would be taken for the answer to the client's own
                self.write(close_frame(code, reason, is_client=False))
            self._end(End.LINGER)
        self.finish(code if code in (NORMAL, GOING_AWAY) else GOING_AWAY)

    def sent_away(self, side: int, closing: Closing) -> None:
        """A backend ends the session on purpose. The authority's word is the client's; what is owed stays so."""
        if side == self.answering and not (self.is_over or self._farewell):
            self.service.count("websocket_closed_by_authority")
            self.close(closing.code, closing.reason)

    def close_after(self, code: int) -> None:
        """The client closes: it is told the same once its messages are safe, or after a while."""
        self._farewell = code
        if not self.acknowledgements.is_awaited:
            self._end_now()
        else:
            self._clock = self.service.loop.call_later(_LAST_WORDS, self._end_now)

    def all_told(self) -> None:
        """Nothing that the client waits for is missing."""
        if self._farewell:
            self._end_now()

    def _end_now(self) -> None:
        code, self._farewell = self._farewell, 0
        self._end(End.CLOSE)
        self.finish(code)

    def _end(self, how: End) -> None:
        """Close the client's connection after what was written. LINGER: for it may be sending, and is to read that."""
        transport = self._transport
        if transport is not None:
            self._is_ending = True
            if how is End.LINGER:
                transport.resume_reading()
            is_tls = transport.get_extra_info("sslcontext") is not None
            self.service.tick.end(transport, End.CLOSE if is_tls else how)
            self.service.loop.call_later(CLOSE_WAIT, transport.abort)

    def finish(self, code: int) -> None:
        """Nothing more comes from the client: let the backends go in order."""
        if self.is_over:
            return
        self.is_over = True
        if self.trace is not None:
            self.trace.session_ended(self.route.name, self.plane.epoch, 101 if self.reception is None else 0)
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
        if self.reception is not None:
            self.reception.stop()
        self.acknowledgements.stop()
        self.intake.count()
        for link in self.links:
            link.say_goodbye(code)

    def link_ended(self) -> None:
        """A link is over for good, or the client's connection is."""
        if self.is_over and self._transport is None and all(link.state == DOWN for link in self.links):
            self.service.ended(self)

    # another worker

    @property
    def is_plain(self) -> bool:
        """Does none of its ends speak TLS, as far as it has any yet? Keys cannot be moved."""
        if self._transport is not None and self._transport.get_extra_info("sslcontext") is not None:
            return False
        return self.links[OLD].upstream.tls is None and self.links[NEW].upstream.tls is None

    @property
    def is_movable(self) -> bool:
        """Is it open, and nobody about to end it?"""
        return self._transport is not None and not (self.is_over or self._farewell or self._is_ending)

    @property
    def is_frozen(self) -> bool:
        """Is it left alone, because another worker may have it soon, or has it?"""
        return self._is_frozen

    @property
    def is_still(self) -> bool:
        """Does nothing wait for anything: no message for its receipt, no byte to be written?"""
        if self._transport is None or self._is_full or not self.intake.is_still or not self.acknowledgements.is_still:
            return False
        is_written = self.service.tick.has_written(self._transport)
        return is_written and self.links[OLD].is_still and self.links[NEW].is_still

    def freeze(self) -> None:
        """Read nothing and do nothing until `thaw`."""
        self._is_frozen = True
        self.pause_client()
        for link in self.links:
            link.freeze()

    def thaw(self) -> None:
        """It stays: go on where it was frozen."""
        self._is_frozen = False
        if self.is_over:
            return
        for link in self.links:
            link.thaw()
        self.read_on()

    @property
    def transport(self) -> asyncio.Transport | None:
        """The client's connection."""
        return self._transport

    @property
    def pinged_at(self) -> float:
        """When the client was asked last whether it is there."""
        return self._pinged_at

    def depart(self) -> list[Left]:
        """Another worker has it, with its connections. What stays here, by side."""
        transport, self._transport = self._transport, None
        self.is_over = True
        self.acknowledgements.stop()
        self.intake.count()
        self.plane.budget.connected(-SESSION)
        self.service.http.others -= 1
        self.count_prologue()
        left = [link.depart() for link in self.links]
        self.service.ended(self)
        if transport is not None:
            transport.abort()
        return left

    def arrive(self, transport: asyncio.Transport, heard_at: float, pinged_at: float) -> None:
        """Go on with a session that another worker has begun. Its links are there, and are read from now on."""
        self._take(transport)
        self.heard_at, self._pinged_at = heard_at, pinged_at
        if self.intake.is_amid:
            self.watch()
        for link in self.links:
            link.resume_reading()

    def watch(self) -> None:
        """Something must happen within a short time."""
        self.service.watched.add(self)

    @property
    def is_waiting(self) -> bool:
        """Must something happen within a short time?"""
        if self.intake.is_amid or self.intake.is_held or self._is_full:
            return True
        return self.links[OLD].is_waiting or self.links[NEW].is_waiting

    def check_time(self, now: float) -> None:
        """What is due at the backends; a client that says nothing or reads nothing."""
        if self._is_frozen:
            return
        for link in self.links:
            link.check_time(now)
        if self._is_full:
            self._count_unread()
        if self._transport is None or self.is_over:
            return
        wanted = self.choosing.wanted_sides
        for link in self.links:
            if wanted >> link.side & 1:
                link.open()  # once more, for the dials may have been turned
        silent = now - self.heard_at
        if self._is_full and now - self._since > self.service.http.limits.keepalive_timeout:
            self.service.count("clients_not_reading")
            self.close(TRY_AGAIN, "too slow a reader")
        elif self._is_full or self.intake.is_held:
            return
        elif self.intake.is_too_slow(now):
            self.service.count("websocket_slow_messages")
            self.close(POLICY, "the rest of a message took too long")
        elif silent > 2 * self.ping_interval:
            self.service.count("websocket_silent")
            self.close(GOING_AWAY, "no answer to a Ping")
        elif silent > self.ping_interval and now - self._pinged_at > self.ping_interval:
            self._pinged_at = now
            self.write(frame(PING, b"", is_client=False))
