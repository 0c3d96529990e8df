"""A session's connection to one backend: messages out, receipts and messages back; made anew when it is lost.

    DOWN --open()--> OPENING --101--> OPEN --lost--> DOWN, and again after a back-off, as long as it is wanted
                        |                     |
                        +-- no handshake -----+--> what has no receipt goes to the ledger

A message goes out here only if everything older of its key is with the backend: no mark of its bucket, and nothing
that was handed to the ledger is unconfirmed. Receipts come with numbered Pings, one behind each batch that is
written: Pong n says that the backend has everything before Ping n. It may still lose what it has not processed, so a
message counts as delivered only when the connection has lived on for `redeliver_window`.

Long, because the handshake, receipts and loss of a connection are states of one link.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from random import random
from time import monotonic
from typing import TYPE_CHECKING, Final

from proxy.core.owed import DELIVERED
from proxy.http.leg import Leg
from proxy.http.response_head import ResponseHead
from proxy.http.upstream import Upstream
from proxy.ledger.protocol import HANDED, PARKED
from proxy.websocket.frames import (
    NO_CLOSE,
    NO_CODE,
    NORMAL,
    PING,
    PONG,
    Broken,
    Closing,
    FrameReader,
    Ping,
    Pong,
    Run,
    close_frame,
    frame,
)
from proxy.websocket.opening import Agreed, backend_request, new_key, read_backend_answer
from proxy.websocket.wire import CLOSE_WAIT, Wire

if TYPE_CHECKING:
    from proxy.http.connection import Connection
    from proxy.websocket.exchange import Exchange
    from proxy.websocket.session import Session

log = logging.getLogger(__name__)

DOWN: Final = 0
OPENING: Final = 1
OPEN: Final = 2
CLOSING: Final = 3
"""We have said that we close, and wait for the backend to say so."""
_FIRST_WAIT: Final = 0.05
_LONGEST_WAIT: Final = 5.0
"""Seconds until the next try; doubled each time, and up to as much again by chance."""
_WRITE_HIGH: Final = 256 * 1024
"""Bytes that a backend may leave untaken before it is given no more."""


class Batch:
    """Messages before one Ping. number: the Ping's; exchanges: those messages; at: when it was sent, then ponged."""

    __slots__ = ("at", "exchanges", "number")

    def __init__(self, number: int, exchanges: list[Exchange], at: float) -> None:
        self.number = number
        self.exchanges = exchanges
        self.at = at


class Link:
    """One side of a session."""

    __slots__ = (
        "_awaited",
        "_batch",
        "_key",
        "_goodbye",
        "_is_paused",
        "_leg",
        "_opened_at",
        "_parked",
        "_rest",
        "_number",
        "_out",
        "_ponged",
        "_reader",
        "_timer",
        "_wait",
        "_wire",
        "agreed",
        "answer",
        "handed_frame",
        "heard_at",
        "is_full",
        "reason",
        "session",
        "side",
        "state",
        "upstream",
    )

    def __init__(self, session: Session, side: int, upstream: Upstream) -> None:
        self.session = session
        self.side = side
        self.upstream = upstream
        self.state = DOWN
        self.answer: Leg | None = None
        """The backend's own answer to the handshake, when that was no 101."""
        self.agreed = Agreed("", b"")
        self.reason = ""
        """Why we have cut the connection, for people; empty when we have not."""
        self.handed_frame = 0
        """The last frame in which something of this side was handed to the ledger."""
        self.is_full = False
        self.heard_at = 0.0
        self._leg: Leg | None = None
        self._key = b""
        self._wire: Wire | None = None
        self._reader: FrameReader | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._wait = _FIRST_WAIT
        self._goodbye = 0
        """The code with which we close."""
        self._is_paused = False
        self._rest = b""
        """What came before the client had its 101."""
        self._opened_at = 0.0
        self._parked: set[int] = set()
        """Buckets of which the ledger knows everything that is on its way here."""
        # Out: what this iteration writes, and its messages; then batches until their Pong, then until they are settled.
        self._out: list[bytes] = []
        self._batch: list[Exchange] = []
        self._number = 0
        self._awaited: deque[Batch] = deque()
        self._ponged: deque[Batch] = deque()

    # the handshake

    def open(self) -> None:
        """Begin a handshake with the backend, unless one is on its way."""
        if self.state != DOWN or self._timer is not None:
            return
        self.state = OPENING
        self._opened_at = monotonic()
        self._key = new_key()
        upstream, context = self.upstream, self.session.handshake
        if upstream.rewrite is not None:
            context = upstream.rewrite.apply(context)
        leg = Leg(self, upstream, self.side, 0, b"GET", backend_request(context, self._key), False)
        leg.upgrade = self
        self._leg = leg
        upstream.send(leg)

    def leg_interim(self, leg: Leg, head: ResponseHead) -> None:
        """An answer before the answer: nobody waits for it."""

    def leg_started(self, leg: Leg) -> None:
        """A long answer that is no 101: the client may want it, whole."""

    def leg_data(self, leg: Leg, data: bytes) -> None:
        """A piece of it; of an answer that is too long the client hears that there was none."""
        leg.keep(data)
        if leg.is_paused:
            self._give_up("its answer to the handshake has no end")

    def leg_done(self, leg: Leg) -> None:
        """No handshake: the backend said something else, or nothing."""
        if leg is not self._leg:
            return
        self._leg = None
        self.answer = leg
        self._failed()

    def _give_up(self, reason: str) -> None:
        """Wait no longer for the end of what is no handshake."""
        leg, self._leg = self._leg, None
        if leg is not None:
            leg.abandon()
            log.warning("no session", extra={"backend": self.upstream.name, "reason": reason})
            self.answer = None
            self._failed()

    def switched(self, connection: Connection, raw: bytes, head: ResponseHead, rest: bytes) -> None:
        """The backend says that it speaks WebSocket; believed once that was checked."""
        leg, self._leg = self._leg, None
        transport = connection.transport
        if leg is None or transport is None:
            connection.abort()
            return
        agreed = read_backend_answer(raw, head, self._key, self.session.protocols)
        trouble = self.session.takes(self, agreed) if isinstance(agreed, Agreed) else agreed.reason
        if trouble:
            connection.abort()
            log.warning("no session", extra={"backend": self.upstream.name, "reason": trouble})
            self._failed()
            return
        service = self.session.service
        self._wire = Wire(self, connection, transport, service.tick, service.loop)
        transport.set_write_buffer_limits(_WRITE_HIGH)
        most = self.session.settings.max_fragments
        self._reader = FrameReader(is_client=False, max_message=service.max_message, max_fragments=most, runs=True)
        self.state, self.reason = OPEN, ""
        self._wait = _FIRST_WAIT
        self.heard_at = monotonic()
        self.is_full = self._is_paused = False
        self._parked.clear()
        for kind, payload in self.session.prologue.messages:
            self._out.append(frame(kind, payload, is_client=True))
        self.flush()
        if self.session.has_room_for(self):
            if rest:
                self.data_received(rest)
        else:
            self._rest = rest
            self.pause_reading()
        if self.state == OPEN:
            self.session.opened(self)

    def _failed(self) -> None:
        """There is no connection: another try later, while the session is there."""
        self.state = DOWN
        session = self.session
        if not session.is_over:
            delay = self._wait * (1 + random())
            self._wait = min(2 * self._wait, _LONGEST_WAIT)
            self._timer = session.service.loop.call_later(delay, self._try_again)
        session.not_opened(self)

    def _try_again(self) -> None:
        self._timer = None
        if not self.session.is_over:
            self.open()

    # out

    def can_take(self, bucket: int) -> bool:
        """May a message of this bucket be sent now, behind everything older?"""
        session = self.session
        if self.state != OPEN or self.handed_frame > session.ledger.durable:
            return False
        return not (session.route.is_ordered and session.marks[session.route.bases[self.side] + bucket])

    def send(self, exchange: Exchange, raw: bytes) -> None:
        """Send a message at the end of this iteration; raw: its frames, masked by the client."""
        self._out.append(raw)
        self._batch.append(exchange)
        self._parked.discard(exchange.bucket)

    def park(self, bucket: int) -> None:
        """A message of this bucket goes to the ledger: it waits there for those before it that have no receipt yet."""
        if bucket in self._parked or not (self._awaited or self._batch):
            return
        self._parked.add(bucket)
        bit, ledger = 1 << self.side, self.session.ledger
        for exchanges in (*[batch.exchanges for batch in self._awaited], self._batch):
            for exchange in exchanges:
                if exchange.bucket == bucket and not exchange.parked & bit:
                    exchange.parked |= bit
                    ledger.report(exchange.n, self.side, PARKED, 0)

    def pass_on(self, raw: bytes) -> None:
        """Send frames of which no receipt is wanted."""
        if self.state == OPEN:
            self._out.append(raw)

    def flush(self) -> None:
        """Write what was sent, and a Ping behind it if there is something to be receipted."""
        out = self._out
        if not out or self._wire is None:
            return
        if self._batch:
            self._number += 1
            batch = Batch(self._number, self._batch, monotonic())
            self._batch = []
            if self.session.wants_pongs:
                self._awaited.append(batch)
                out.append(frame(PING, b"%d" % self._number, is_client=True))
            else:
                self.session.service.tick.after(self._written)
                self._awaited.append(batch)
        self._out = []
        self.session.service.tick.write(self._wire.transport, b"".join(out) if len(out) > 1 else out[0])

    def _written(self) -> None:
        """`receipt: none`: what was written is taken for received."""
        if self.state == OPEN:
            self._take_receipts(self._number)

    # back

    def data_received(self, data: bytes) -> None:
        self.heard_at = monotonic()
        session, reader = self.session, self._reader
        if reader is None:
            return
        for item in reader.feed(data):
            if type(item) is Run:
                session.from_backend(self, item)
            elif type(item) is Pong:
                self._pong(item.payload)
            elif type(item) is Ping:
                if not self.is_full:  # else it is not for want of Pongs that it would go
                    self.pass_on(frame(PONG, item.payload, is_client=True))
            elif type(item) is Closing:
                self._closed_by_backend(item)
                return
            elif type(item) is Broken:
                session.service.count("websocket_backend_broken")
                self.drop(item.code, item.reason)
                return
        self.flush()

    def _pong(self, payload: bytes) -> None:
        if payload.isdigit() and len(payload) <= 18:
            self._take_receipts(int(payload))

    def _take_receipts(self, number: int) -> None:
        """The backend has everything before this Ping."""
        awaited, now = self._awaited, monotonic()
        if not awaited or awaited[0].number > number:
            return
        while awaited and awaited[0].number <= number:
            batch = awaited.popleft()
            latency = now - batch.at
            figures = self.session.route.figures[self.side]
            for exchange in batch.exchanges:
                role = exchange.role_of(self.side)
                figures[role].classes[2] += 1
                figures[role].latency.add(latency)
                exchange.received(self.side)
            batch.at = now
            self._ponged.append(batch)
        self.upstream.parked = 0
        self.settle(now)
        self.session.settle()

    def settle(self, now: float) -> None:
        """Report what has been with the backend for long enough."""
        ponged, until = self._ponged, now - self.session.redeliver_window
        if not ponged or ponged[0].at > until:
            return
        ledger = self.session.ledger
        while ponged and ponged[0].at <= until:
            for exchange in ponged.popleft().exchanges:
                ledger.report(exchange.n, self.side, DELIVERED, 0)
        self.session.service.tick.schedule()

    def pause_writing(self) -> None:
        """The backend takes no more: copies go to the ledger, and messages of which it is the authority wait."""
        self.is_full = True

    def resume_writing(self) -> None:
        """It does again. Who waits looks by itself."""
        self.is_full = False

    def pause_reading(self) -> None:
        """The client reads slowly, or has no session yet. What the backend then says is not heard: no clock runs."""
        if self._wire is not None and not self._is_paused:
            self._is_paused = True
            self._wire.transport.pause_reading()

    def resume_reading(self) -> None:
        """It reads on."""
        if self._wire is None or not self._is_paused:
            return
        self._is_paused = False
        self.heard_at = monotonic()
        rest, self._rest = self._rest, b""
        if rest:
            self.data_received(rest)
        if self._wire is not None:
            self._wire.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wire = None
        self._lost(self.reason or (f"connection lost: {exc}" if exc else "connection lost"))

    # the end of a connection

    def _closed_by_backend(self, closing: Closing) -> None:
        if self.state == CLOSING:
            # The answer to our close frame: what was ponged before it need not be sent again. What has no Pong was not
            # read, for that Ping came before our close frame: the backend's may have crossed it.
            if closing.code == self._goodbye:
                self._settle_ponged()
            self._let_go()
            self.hand_over()
            self._ended()
            return
        self.session.service.count("websocket_backend_closed")
        self.drop(closing.code, f"it closed with {closing.code} {closing.reason}".rstrip())

    def drop(self, code: int, reason: str) -> None:
        """Close this connection, with a close frame; another one is made while the session goes on."""
        if self._wire is not None:
            code = NORMAL if code in (NO_CODE, NO_CLOSE) else code
            self.session.service.tick.write(self._wire.transport, close_frame(code, "", is_client=True))
            self._let_go()
        self._lost(reason)

    def _let_go(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.let_go()

    def _lost(self, reason: str) -> None:
        """This connection is over: the ledger takes what has no receipt, or has not been there for long enough."""
        was_open = self.state == OPEN
        self.hand_over()
        self._reader = None
        session = self.session
        if was_open and not session.is_over:
            log.info("a backend left a session", extra={"backend": self.upstream.name, "reason": reason})
            session.service.count("websocket_backend_lost")
            self._failed()
            session.settle()
        else:
            self._ended()

    def _ended(self) -> None:
        """There is no connection, and no other one will be made."""
        self.state = DOWN
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.session.link_ended()

    def _settle_ponged(self) -> None:
        ledger = self.session.ledger
        for batch in self._ponged:
            for exchange in batch.exchanges:
                ledger.report(exchange.n, self.side, DELIVERED, 0)
        self._ponged.clear()
        self.session.service.tick.schedule()

    def hand_over(self) -> None:
        """Give the ledger everything that is not settled here."""
        session, ledger = self.session, self.session.ledger
        for batch in self._awaited:
            for exchange in batch.exchanges:
                session.route.figures[self.side][exchange.role_of(self.side)].classes[0] += 1
        left = [exchange for batch in (*self._ponged, *self._awaited) for exchange in batch.exchanges] + self._batch
        self._ponged.clear()
        self._awaited.clear()
        self._batch, self._out = [], []
        for exchange in left:
            ledger.report(exchange.n, self.side, HANDED, 0)
            exchange.hand(self.side, ledger.frame)
        if left:
            self.handed_frame = ledger.frame
            session.service.count("handed", len(left))
            session.service.tick.schedule()

    def say_goodbye(self, code: int) -> None:
        """The session is over: close in order, so that what was sent is known to have been read."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.state == OPEN and self._wire is not None:
            self.flush()
            self.state = CLOSING
            self._goodbye = NORMAL if code in (NO_CODE, NO_CLOSE) else code
            self.session.service.tick.write(self._wire.transport, close_frame(self._goodbye, is_client=True))
            self.resume_reading()
            self._timer = self.session.service.loop.call_later(CLOSE_WAIT, self._cut)
            return
        leg, self._leg = self._leg, None
        if leg is not None:
            leg.abandon()
        self._ended()

    def _cut(self) -> None:
        self._timer = None
        if self._wire is not None:
            self._wire.transport.abort()

    # time

    def check_time(self, now: float) -> None:
        """Settle what is due; cut a backend that answers no Ping."""
        self.settle(now)
        limit = self.upstream.settings.response_timeout
        if self._leg is not None and now - self._opened_at > 2 * limit:
            self._give_up("its answer to the handshake has no end")
        if self.state != OPEN or self._wire is None or self._is_paused:
            return
        if self._awaited and now - max(self._awaited[0].at, self.heard_at) > limit:
            self.reason = f"no Pong within {limit:g} s"
            self._wire.transport.abort()
        elif now - self.heard_at > 2 * self.session.ping_interval:
            self.reason = "no answer to a Ping"
            self._wire.transport.abort()
        elif now - self.heard_at > self.session.ping_interval:
            self._out.append(frame(PING, b"", is_client=True))
            self.flush()

    @property
    def unsettled(self) -> int:
        """Messages that are with the backend, or on their way, and not settled."""
        return sum(len(batch.exchanges) for batch in (*self._awaited, *self._ponged)) + len(self._batch)
