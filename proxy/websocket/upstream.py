"""A session's connection to one backend: messages out, receipts and messages back; made anew when it is lost.

    DOWN --open()--> OPENING --101--> OPEN --lost--> DOWN, and again after a back-off, as long as it is wanted
                        |                     |
                        +-- no handshake -----+--> what has no receipt goes to the ledger

A message goes out here only if everything older of its key is with the backend, or on its way to it through this very
connection: the mark of its bucket counts no more than what is, and nothing that was handed to the ledger is
unconfirmed. See `receipts` for what becomes of it then.

Of a lost connection the ledger takes everything that has no receipt, or has not been there for long enough. But what
awaits a reply, which only this session's client can be told, is sent again by the next one if that comes in time.
"""

from __future__ import annotations

import asyncio
import logging
from random import random
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from proxy.core.owed import DELIVERED, REFUSED
from proxy.http.leg import Leg
from proxy.http.upstream import Upstream
from proxy.ledger.marks import MOST
from proxy.ledger.protocol import HANDED, PARKED, RECEIVED, UNANSWERED
from proxy.websocket.exchange import Exchange
from proxy.websocket.frames import (
    FIRST_OF_APPLICATIONS,
    NORMAL,
    POLICY,
    Begun,
    Broken,
    Closing,
    FrameReader,
    Message,
    Run,
    frame,
)
from proxy.websocket.handshake import Handshake
from proxy.websocket.opening import Agreed
from proxy.websocket.receipts import Batch, Receipts
from proxy.websocket.wire import CLOSE_WAIT, Wire

if TYPE_CHECKING:
    from proxy.http.connection import Connection
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
_LIVED: Final = 1.0
"""Seconds after which a connection counts as one: the next try begins with the first wait."""
_NOTHING: Final = Receipts()
"""Of a connection that was given no message yet."""
OTHER_PROTOCOL: Final = "it chose another subprotocol than the authority"
_NOT_AGREED: Final = Agreed("", b"")


class Elsewhere(Protocol):
    """Another worker, which had this connection and keeps what it has sent there within `redeliver_window`."""

    def lost(self) -> None:
        """The connection was lost: that is to be delivered again."""

    def settled(self) -> None:
        """The backend has said that it read everything."""


class Left(NamedTuple):
    """What stays here of a connection that is another worker's now. batches: what the backend may still lose."""

    batches: list[Batch]
    elsewhere: Elsewhere | None


class Link:
    """One side of a session."""

    __slots__ = (
        "_elsewhere", "_goodbye", "_handed", "_handed_frame", "_handshake", "_is_wanted", "_lost_at", "_opened_at",
        "_out", "_own", "_parked_frame", "_parked_to", "_receipts", "_timer", "_unanswered", "_unheard", "_wait",
        "_wire", "agreement", "answer", "is_by_ledger", "is_full", "is_new", "reason", "refusal", "session", "side",
        "state", "upstream",
    )  # fmt: skip

    def __init__(self, session: Session, side: int, upstream: Upstream) -> None:
        self.session = session
        self.side = side
        self.upstream = upstream
        self.is_by_ledger = bool(session.route.by_ledger >> side & 1)
        """The ledger alone delivers to this side: there is never a connection."""
        self.state = DOWN
        self.is_new = True
        """No handshake has ended yet, nor was one waited for in vain: what this side is to answer may wait for it."""
        self.answer: Leg | None = None
        """What came instead of a 101."""
        self.agreement = _NOT_AGREED
        self.reason = ""
        """Why the connection is not there, for people; empty when we do not know."""
        self.refusal = ""
        """What the backend has against a session, when it was asked last; empty when it is away, or has nothing."""
        # Of what was handed to the ledger, whose marks may not show it yet: the last frame, in all and by bucket.
        self._handed_frame = 0
        self._handed: dict[int, int] = {}
        self.is_full = False
        self._handshake: Handshake | None = None
        self._wire: Wire | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._wait = _FIRST_WAIT
        self._goodbye = 0
        """The code with which we close."""
        self._elsewhere: Elsewhere | None = None
        self._is_wanted = False
        """Of a link that is frozen: it is to be made again."""
        self._out: list[bytes] = []
        """What this iteration writes."""
        self._receipts = _NOTHING
        self._unheard: list[Exchange] = []
        """What had no reply when the connection was lost, for the next one."""
        self._unanswered = 0
        """Messages of this connection that are counted among the route's."""
        self._lost_at = 0.0
        self._opened_at = 0.0
        # Of what is parked here: how many by bucket, the last frame that says so, and the number up to which all is.
        self._own: dict[int, int] = {}
        self._parked_frame = 0
        self._parked_to = 0

    # the handshake

    def open(self) -> None:
        """Begin a handshake with the backend, unless one is on its way."""
        if self.state != DOWN or self._timer is not None or self.is_by_ledger:
            return
        session = self.session
        self.state = OPENING
        self.answer = None
        session.watch()
        self._handshake = Handshake(self, self.upstream, session.protocols)
        self._handshake.begin(self.side, session.handshake)

    def not_agreed(self, leg: Leg, reason: str) -> None:
        """No session: its own answer may be the client's."""
        self._handshake = None
        self.answer = leg
        self.reason = reason or leg.reason
        self.refusal = reason or (f"it answers {leg.status}" if leg.head is not None else "")
        self._failed()

    def agreed(self, connection: Connection, transport: asyncio.Transport, agreed: Agreed, rest: bytes) -> None:
        """A session: first it gets what both sides must have, then what the last connection had no reply to."""
        self._handshake = None
        session, service = self.session, self.session.service
        reason = session.takes(agreed)
        if reason:
            connection.abort()
            self.reason = self.refusal = reason
            self._failed()
            return
        self._wire = self._make_wire(connection, transport)
        self.agreement = agreed
        self.state, self.reason, self.refusal = OPEN, "", ""
        self.is_new = False
        self._opened_at = monotonic()
        self.is_full = False
        self._out += [frame(kind, payload, is_client=True) for kind, payload in session.prologue.messages]
        self._send_again()
        self.flush()
        if not session.has_room_for(self):
            self._wire.pause(rest)
        elif rest:
            self._wire.data_received(rest)
        service.reached(self)
        if self.state == OPEN:
            session.opened(self)

    def _make_wire(self, connection: Connection, transport: asyncio.Transport) -> Wire:
        session, service = self.session, self.session.service
        reader = FrameReader(
            is_client=False,
            max_message=service.max_message,
            max_fragments=session.settings.max_fragments,
            runs=session.replies is None,
            checks_text=False,  # that is for the client to judge
        )
        return Wire(self, connection, transport, reader, service.tick, service.loop)

    def _send_again(self) -> None:
        again, self._unheard = self._unheard, []
        now = monotonic()
        for exchange in again:
            exchange.resent |= 1 << self.side
            self._receipts.sent_for_reply(exchange, now)
            self._out.append(exchange.raw)
        if again:
            self.session.service.count("websocket_sent_again", len(again))

    def _failed(self) -> None:
        """There is no connection: another try later, while the session is there."""
        self.state = DOWN
        self.is_new = False
        session = self.session
        if not session.is_over:
            delay = self._wait * (1 + random())
            self._wait = min(2 * self._wait, _LONGEST_WAIT)
            self._timer = session.service.loop.call_later(delay, self._try_again)
            session.service.waits(self)
        session.not_opened(self)

    def hasten(self) -> None:
        """Others of our sessions have a connection again: wait a second at most, but not all of you as long."""
        loop = self.session.service.loop
        if self._timer is not None and self._timer.when() - loop.time() > _LIVED:
            self._timer.cancel()
            self._timer = loop.call_later(random() * _LIVED, self._try_again)

    def _try_again(self) -> None:
        self._timer = None
        if not self.session.is_over:
            self.open()

    # out

    def can_take(self, bucket: int) -> bool:
        """May a message of this bucket be sent now, behind everything older?"""
        session = self.session
        if self.state != OPEN:
            return False
        if not session.route.is_ordered:
            return True
        if self._handed and self._is_handed(bucket):
            return False
        mark = session.marks[session.route.bases[self.side] + bucket]
        return not mark or self._is_all_here(bucket, mark)

    def handed(self, bucket: int) -> None:
        """A message of this bucket goes to the ledger with the next frame: later ones must not pass it by."""
        self._handed_frame = self._handed[bucket] = self.session.ledger.frame

    def _is_handed(self, bucket: int) -> bool:
        """Does the mark of this bucket perhaps not show yet what we have handed?"""
        durable = self.session.ledger.durable
        if self._handed_frame <= durable:
            self._handed.clear()
        return self._handed.get(bucket, 0) > durable

    def _is_all_here(self, bucket: int, mark: int) -> bool:
        """Is everything that this mark counts on its way through this connection, which keeps its order?"""
        return mark == self._own.get(bucket, 0) and mark < MOST and self._parked_frame <= self.session.ledger.durable

    def send(self, exchange: Exchange, raw: bytes) -> None:
        """Send a message at the end of this iteration; raw: its frames, masked by the client."""
        self._out.append(raw)
        receipts = self._receipts
        if receipts is _NOTHING:
            receipts = self._receipts = Receipts()
        if exchange.reply_id:
            receipts.sent_for_reply(exchange, monotonic())
        else:
            receipts.sent(exchange)

    def park(self, exchange: Exchange) -> None:
        """The ledger is to know that this message is on its way here, and to let nothing of its key pass it."""
        bit, session = 1 << self.side, self.session
        if exchange.parked & bit:
            return
        exchange.parked |= bit
        session.ledger.report(exchange.n, self.side, PARKED, 0)
        self._own[exchange.bucket] = self._own.get(exchange.bucket, 0) + 1
        self._parked_frame = session.ledger.frame

    def park_all(self) -> None:
        """A later message goes to the ledger: it waits there for all that is still on its way here."""
        for exchange in self._receipts.on_its_way(self._parked_to):
            self._parked_to = max(self._parked_to, exchange.n)
            self.park(exchange)

    def pass_on(self, raw: bytes) -> None:
        """Send frames of which no receipt is wanted."""
        if self.state == OPEN:
            self._out.append(raw)

    def flush(self) -> None:
        """Write what was sent, and a Ping behind it if there is something to be receipted."""
        out = self._out
        if not out or self._wire is None:
            return
        receipts = self._receipts
        if receipts is not _NOTHING:
            number = receipts.ping(monotonic())
            if number and self.session.wants_pongs:
                out.append(self._wire.ping(number))
            elif number:
                self.session.service.tick.after(self._written)
        self._out = []
        self._wire.write(b"".join(out) if len(out) > 1 else out[0])

    def _written(self) -> None:
        """`receipt: none`: what was written is taken for received."""
        if self.state == OPEN:
            self.ponged(self._receipts.number)

    # back

    def said(self, item: Run | Message) -> None:
        """Messages of the backend: the client's, or the receipt of one of its."""
        session = self.session
        if type(item) is Run:
            session.from_backend(self.side, item.raw, item.messages)
            return
        assert type(item) is Message
        assert session.replies is not None
        reply = session.replies.read(item.payload)
        now = monotonic()
        found = self._receipts.replied(reply.id, now) if reply is not None else None
        if reply is None or found is None:
            session.from_backend(self.side, item.raw, 1)
            return
        exchange, latency = found
        exchange.received(self.side)
        if exchange.parked:
            self._unpark(exchange)
        size = exchange.size if reply.is_yes else 0
        self._figure(exchange.role_of(self.side), latency, 2 if reply.is_yes else 4, 1, size)
        session.ledger.report(exchange.n, self.side, DELIVERED if reply.is_yes else REFUSED, 0)
        self.upstream.parked = 0
        session.service.tick.schedule()
        session.replied(self.side, exchange, item.raw)

    def ponged(self, number: int) -> None:
        """The backend has everything before this Ping."""
        receipts = self._receipts
        batch = receipts.ponged(number)
        if batch is None:
            return
        session, now = self.session, monotonic()
        # While the connection may still be lost with what the backend has not processed, the ledger keeps it, too.
        code = RECEIVED if session.redeliver_window else DELIVERED
        hurries = False
        while batch is not None:
            hurries = self._all_received(batch, now - batch.at, code) or hurries
            if session.redeliver_window and (cut := receipts.keep(batch, now)):
                session.service.count("websocket_windows_cut", cut)
            batch = receipts.ponged(number)
        receipts.forget(now - session.redeliver_window)
        self.upstream.parked = 0
        if hurries:
            session.service.tick.schedule()
        session.acknowledgements.settle()

    def _all_received(self, batch: Batch, latency: float, code: int) -> bool:
        """The backend has these. As a rule they are of one role, and their numbers follow each other. Is the ledger to
        hear of it at once?

        Not as a rule: what is RECEIVED is delivered again when this worker dies, as what is not is.
        """
        side, ledger = self.side, self.session.ledger
        hurries = code != RECEIVED
        for exchange in batch.exchanges:
            if exchange.parked:
                hurries = True
        report = ledger.report if hurries else ledger.report_late
        role, alike, size = -1, 0, 0
        first = more = 0
        for exchange in batch.exchanges:
            exchange.received(side)
            if exchange.parked:
                self._unpark(exchange)
            if exchange.role_of(side) != role:
                self._figure(role, latency, 2, alike, size)
                role, alike, size = exchange.role_of(side), 0, 0
            alike += 1
            size += exchange.size
            if code != RECEIVED:
                report(exchange.n, side, code, 0)
            elif first and exchange.n == first + more + 1:
                more += 1
            else:
                if first:
                    report(first, side, code, more)
                first, more = exchange.n, 0
        if first:
            report(first, side, code, more)
        self._figure(role, latency, 2, alike, size)
        return hurries

    def _figure(self, role: int, latency: float, kind: int, times: int, size: int) -> None:
        """Count receipts. kind: of what the backend said, as the class of a status; size: of what it accepted."""
        if times:
            self._contribute(times, 0)
            figures = self.session.route.figures[self.side][role]
            figures.classes[kind] += times
            figures.latency.add(latency, times)
            figures.body_bytes += size

    def _contribute(self, total: int, failed: int) -> None:
        """So many outcomes more count in the test of failures, as far as they do."""
        session = self.session
        session.route.contributions[self.side].count(session.contributions[self.side], total, failed)

    def _unpark(self, exchange: Exchange) -> None:
        """It is not on its way here any more."""
        bit = 1 << self.side
        if exchange.parked & bit:
            exchange.parked &= ~bit
            left = self._own[exchange.bucket] - 1
            if left:
                self._own[exchange.bucket] = left
            else:
                del self._own[exchange.bucket]

    def pause_writing(self) -> None:
        """The backend takes no more: copies go to the ledger, and messages of which it is the authority wait."""
        self.is_full = True

    def resume_writing(self) -> None:
        """It does again. Who waits looks by itself."""
        self.is_full = False

    def pause_reading(self) -> None:
        """The client reads slowly. What the backend then says is not heard: no clock runs."""
        if self._wire is not None:
            self._wire.pause()

    def resume_reading(self) -> None:
        """It reads on."""
        if self._wire is not None:
            self._wire.resume()

    # the end of a connection

    def connection_lost(self, exc: Exception | None) -> None:
        self._wire = None
        self._lost(self.reason or (f"connection lost: {exc}" if exc else "connection lost"))

    def closed_by_backend(self, closing: Closing) -> None:
        """Its own close frame, or its half of our close."""
        if self.state == CLOSING:
            # The answer to our close frame: what was ponged before it need not be sent again. What has no Pong was not
            # read, for that Ping came before our close frame: the backend's may have crossed it. An answer has our
            # code (RFC 6455, 5.5.1), or 1000, as some libraries have it.
            if closing.code in (self._goodbye, NORMAL):
                for exchange in self._receipts.take_ponged():
                    self.session.ledger.report(exchange.n, self.side, DELIVERED, 0)
                elsewhere, self._elsewhere = self._elsewhere, None
                if elsewhere is not None:
                    elsewhere.settled()
                self.session.service.tick.schedule()
            self._let_go()
            self.hand_over()
            self._ended()
            return
        self.session.service.count("websocket_backend_closed")
        self.drop(closing.code, f"it closed with {closing.code} {closing.reason}".rstrip())
        if closing.code == POLICY or closing.code >= FIRST_OF_APPLICATIONS:
            self.session.sent_away(self.side, closing)

    def broken(self, broken: Broken) -> None:
        """It speaks something else."""
        self.session.service.count("websocket_backend_broken")
        self.drop(broken.code, broken.reason)

    def drop(self, code: int, reason: str) -> None:
        """Close this connection, with a close frame; another one is made while the session goes on."""
        if self._wire is not None:
            self._wire.say_goodbye(code)
            self._let_go()
        self._lost(reason)

    def _let_go(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.let_go()

    def _lost(self, reason: str) -> None:
        """This connection is over: see the top for what becomes of what it had."""
        was_open = self.state == OPEN
        session = self.session
        self._count_unanswered(0)
        if was_open and not session.is_over:
            self._keep_for_the_next()
        self.hand_over()
        if was_open and not session.is_over:
            log.info("a backend left a session", extra={"backend": self.upstream.name, "reason": reason})
            session.service.count("websocket_backend_lost")
            if monotonic() - self._opened_at > min(2 * self._wait, _LIVED):
                self._wait = _FIRST_WAIT
            self._failed()
            session.acknowledgements.settle()
        else:
            self._ended()

    def _keep_for_the_next(self) -> None:
        """Keep what awaits a reply; the ledger is told, so that it is safe, and nothing of its key goes before it."""
        bit, ledger = 1 << self.side, self.session.ledger
        if self.reason or self._elsewhere is not None:
            return  # we have cut it, for want of a reply perhaps; or another worker hands what is older
        kept = self._receipts.take_unanswered(but=bit)
        if not kept:
            return
        for exchange in kept:
            self.park(exchange)
            exchange.hand(self.side, ledger.frame)
        self._unheard = kept
        self.session.watch()
        self._lost_at = monotonic()
        self.session.service.tick.schedule()

    def hand_over(self) -> None:
        """Give the ledger everything that is not settled here, but what is kept for the next connection."""
        session, receipts = self.session, self._receipts
        elsewhere, self._elsewhere = self._elsewhere, None
        if elsewhere is not None:
            elsewhere.lost()  # first: what it has there is older
        if session.is_over or self.state != OPEN:
            self._give_up_unheard()
        lost = receipts.without_receipt()
        if lost:
            self._contribute(len(lost), len(lost))
        for exchange in lost:
            session.route.figures[self.side][exchange.role_of(self.side)].classes[0] += 1
        for exchange in receipts.take_all():
            self._hand(exchange)
        self._out = []

    def _give_up_unheard(self) -> None:
        unheard, self._unheard = self._unheard, []
        for exchange in unheard:
            self._hand(exchange)

    def _hand(self, exchange: Exchange) -> None:
        """The ledger delivers it; of its reply the client will not hear."""
        session = self.session
        session.ledger.report(exchange.n, self.side, HANDED, UNANSWERED)
        exchange.hand(self.side, session.ledger.frame)
        self._unpark(exchange)
        self.handed(exchange.bucket)
        session.service.count("handed")
        if exchange.reply_id:
            session.no_reply(self.side, exchange)
        session.service.tick.schedule()

    def _ended(self) -> None:
        """There is no connection, and no other one will be made."""
        self.state = DOWN
        self._count_unanswered(0)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.session.link_ended()

    def say_goodbye(self, code: int) -> None:
        """The session is over: close in order, so that what was sent is known to have been read."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._give_up_unheard()
        if self.state == OPEN and self._wire is not None:
            self.flush()
            self.state = CLOSING
            self._goodbye = self._wire.say_goodbye(code)
            self._timer = self.session.service.loop.call_later(CLOSE_WAIT, self._cut)
            self._wire.resume()  # its half is to be read, whoever wants what it says before
            return
        handshake, self._handshake = self._handshake, None
        if handshake is not None:
            handshake.give_up()
        self._ended()

    def _cut(self) -> None:
        self._timer = None
        if self._wire is not None:
            self._wire.transport.abort()

    # another worker

    @property
    def is_still(self) -> bool:
        """Has everything its receipt, and left this process? A handshake may be on its way; it is begun anew."""
        if self.state == CLOSING or self._unheard or self._out or self.is_full or not self._receipts.is_still:
            return False
        if self._handed_frame > self.session.ledger.durable:  # else marks do not show it to another worker
            return False
        return self._wire is None or self._wire.is_written

    def freeze(self) -> None:
        """Do nothing until `thaw`."""
        self._is_wanted = self.state == OPENING or self._timer is not None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        handshake, self._handshake = self._handshake, None
        if handshake is not None:
            handshake.give_up()
            self.state = DOWN
        if self._wire is not None:
            self._wire.pause()

    def thaw(self) -> None:
        """It stays: go on where it was frozen."""
        if self._is_wanted:
            self.open()
        self.resume_reading()

    @property
    def is_wanted(self) -> bool:
        """Of a link that is frozen and down: is it to be made again?"""
        return self._is_wanted

    @property
    def wire(self) -> Wire | None:
        """Its connection, while there is one."""
        return self._wire

    @property
    def number(self) -> int:
        """Of its last Ping."""
        return self._receipts.number

    @property
    def keeps(self) -> bool:
        """Is there anything that the backend may still lose, here or at yet another worker?"""
        self._receipts.forget(monotonic() - self.session.redeliver_window)
        return len(self._receipts) > 0 or self._elsewhere is not None

    def depart(self) -> Left:
        """Another worker has the connection; what stays here."""
        left = Left(self._receipts.take_kept(), self._elsewhere)
        self._elsewhere = None
        self._count_unanswered(0)
        self.state = DOWN
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.depart()
        return left

    def arrive(
        self, connection: Connection, transport: asyncio.Transport, begun: Begun, mark: bytes, number: int,
        heard_at: float, elsewhere: Elsewhere | None,
    ) -> None:  # fmt: skip
        """Go on with a connection that another worker has made; nothing is read before `resume_reading`.

        begun, mark, number, heard_at: how it stands with it; elsewhere: who keeps what was sent there
        """
        self._wire = self._make_wire(connection, transport)
        self._wire.go_on(begun, mark, heard_at)
        self._receipts = Receipts()
        self._receipts.number = number
        self._elsewhere = elsewhere
        self._opened_at = heard_at
        self.is_new = False
        self.state = OPEN

    # time

    def check_time(self, now: float) -> None:
        """Forget what has been with the backend for long enough; cut a backend that answers no Ping."""
        self._receipts.forget(now - self.session.redeliver_window)
        limit = self.upstream.settings.response_timeout
        if self._unheard and self.state != OPEN and now - self._lost_at > limit:
            self._give_up_unheard()
        if self._handshake is not None:
            self._handshake.check_time(now)
        wire = self._wire
        if self.state != OPEN or wire is None or wire.is_paused:
            self._count_unanswered(0)
            return
        self._count_unanswered(self._receipts.unanswered(wire.heard_at))
        silent = now - wire.heard_at
        if self._receipts.is_late(now, wire.heard_at, wire.resumed_at, limit):
            self._cut_for(f"no receipt within {limit:g} s")
        elif silent > 2 * self.session.ping_interval:
            self._cut_for("no answer to a Ping")
        elif silent > self.session.ping_interval:
            wire.ask()

    def _count_unanswered(self, n: int) -> None:
        """So many messages wait for an answer of a backend that is read."""
        self.session.route.outstanding[self.side] += n - self._unanswered
        self._unanswered = n

    def _cut_for(self, reason: str) -> None:
        self.reason = reason
        if self._wire is not None:
            self._wire.transport.abort()

    @property
    def is_waiting(self) -> bool:
        """Is there something that must happen within a time that is short?"""
        return self._handshake is not None or bool(self._unheard) or self._receipts.is_awaiting

    @property
    def unsettled(self) -> int:
        """Messages on their way, or with the backend for so short that they would be sent again."""
        return len(self._receipts) + len(self._unheard)
