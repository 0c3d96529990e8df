"""A backend's connections: a pool, one request at a time on each, reused only when both messages are done.

    Upstream.send(leg) --> idle connection | new connection | waiting line | failure
                               |
    Connection.data_received --> leg.owner.leg_done(leg)                  the whole answer at once, or
                             --> leg_started(leg), leg_data(leg, ..), leg_done(leg)

A leg is one side of one event on its way. Its owner is told exactly once how it ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from time import monotonic
from typing import Final, Protocol, cast
from urllib.parse import urlsplit

from config.model import Backend
from proxy.core.breaker import Breaker
from proxy.core.event import RETRY, UNREACHABLE, classify
from proxy.core.sketch import Sketch
from proxy.http.chunked import BadChunk, ChunkedBody
from proxy.http.response_head import BY_CHUNKS, BY_CLOSE, BY_LENGTH, NO_BODY, ResponseHead, ResponseHeads
from proxy.http.rewrite import Rewrite
from proxy.http.tick import Tick
from proxy.ledger.shape import as_protocol

log = logging.getLogger(__name__)

_MAX_RESPONSE_HEAD: Final = 64 * 1024
_LARGE_REQUEST: Final = 64 * 1024
_KEPT_ANSWER: Final = 64 * 1024
_PIECE_TIMEOUT: Final = 60.0
"""Seconds without a byte within an answer's body, unless we are not reading."""
STALLED: Final = 8
"""Copies parked in a row, with no answer between them, before a backend may count as stalled."""
_STALLED_FOR: Final = 0.005
"""Seconds since the first of them before it does, or four times what its answers usually take if that is longer."""
_LATENCY: Final = 0.25
"""Seconds that the answers of a backend are taken to need before there was one, and that one counts as at most."""
_TRIAL: Final = 0.1
"""Seconds between two copies that a stalled backend gets all the same, to see whether it answers."""
_IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"TRACE"})


class Owner(Protocol):
    """Who sent a leg."""

    def leg_started(self, leg: Leg) -> None:
        """The answer's head is here (`leg.head`), its body will follow in pieces."""

    def leg_data(self, leg: Leg, data: bytes) -> None:
        """A piece of the answer's body."""

    def leg_done(self, leg: Leg) -> None:
        """The leg has ended: `leg.kind` says how; after `leg_started` it may be truncated."""


class Nobody:
    """The owner of a leg that has ended."""

    def leg_started(self, leg: Leg) -> None:
        """Nobody cares."""

    def leg_done(self, leg: Leg) -> None:
        """Nobody cares."""

    def leg_data(self, leg: Leg, data: bytes) -> None:
        """Nobody cares."""


NOBODY: Final = Nobody()


class Leg:
    """One request to one backend and what came of it.

    role: 0 authority, 1 copy
    request: the whole request's bytes; method: to know HEAD and what may be repeated
    may_repeat: the client gave the id, so a second try cannot store it twice unseen
    kind, status, reason: an Outcome's fields once ended; head, body: the answer as far as it came
    truncated: the answer broke off after its head
    is_started: the owner was told of the head before the body's end
    is_overfull: kept pieces of a copy's answer grew too long and were dropped
    is_paused: we are not reading it, because its reader is slow
    sent_at, answered_at: when its request went out and its answer's head came, monotonic seconds; 0 before
    is_unwanted: nobody reads the rest of its answer; it is only read so that the connection can be used again
    """

    __slots__ = (
        "owner", "upstream", "side", "role", "method", "request", "may_repeat", "kind", "status", "reason", "head",
        "body", "truncated", "repeated", "is_started", "is_overfull", "is_unwanted", "is_paused", "connection",
        "sent_at",
        "answered_at",
    )  # fmt: skip

    def __init__(
        self, owner: Owner, upstream: Upstream, side: int, role: int, method: bytes, request: bytes, may_repeat: bool
    ) -> None:
        self.owner = owner
        self.upstream = upstream
        self.side = side
        self.role = role
        self.method = method
        self.request = request
        self.may_repeat = may_repeat
        self.kind = 0
        self.status = 0
        self.reason = ""
        self.head: ResponseHead | None = None
        self.body = b""
        self.truncated = False
        self.repeated = False
        self.is_started = False
        self.is_overfull = False
        self.is_unwanted = False
        self.is_paused = False
        self.connection: Connection | None = None
        self.sent_at = 0.0
        self.answered_at = 0.0

    def keep(self, data: bytes) -> None:
        """Keep a piece of the answer until it may be passed on; an authority is paused when that is long."""
        self.body += data
        if len(self.body) > _KEPT_ANSWER:
            if self.role == 0:
                self.pause()
            else:
                self.body, self.is_overfull = b"", True

    def pause(self) -> None:
        """Stop reading the answer: its reader is slow."""
        self.is_paused = True
        if self.connection is not None and self.connection.transport is not None:
            self.connection.transport.pause_reading()

    def resume(self) -> None:
        """Go on reading."""
        self.is_paused = False
        if self.connection is not None:
            self.connection.resume()

    def abandon(self) -> None:
        """Nobody wants the rest of the answer; its connection is closed."""
        if self.connection is not None:
            self.connection.abort()


class Connection:
    """One connection to a backend, a `StreamProtocol`. Idle unless `leg` is set."""

    __slots__ = (
        "_begun",
        "_buffer",
        "_chunks",
        "_head",
        "_is_draining",
        "_is_reusable",
        "_is_unwritten",
        "_left",
        "_progress_at",
        "_unsent",
        "_upstream",
        "idle_since",
        "leg",
        "served",
        "transport",
    )

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self.transport: asyncio.Transport | None = None
        self.leg: Leg | None = None
        self.served = 0
        self.idle_since = 0.0
        self._buffer = b""
        self._begun = -1
        self._is_unwritten = False
        # After an early answer: the rest of the request goes out, and so many bytes are still here.
        self._is_draining = False
        self._is_reusable = False
        self._unsent = 0
        self._progress_at = 0.0
        self._head: ResponseHead | None = None
        self._chunks: ChunkedBody | None = None
        self._left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass

    def begin(self, leg: Leg) -> None:
        """Send a leg's request and wait for its answer."""
        self.leg = leg
        leg.connection = self
        leg.sent_at = monotonic()
        self._begun = self._upstream.tick.runs
        assert self.transport is not None
        self._upstream.tick.write(self.transport, leg.request)

    def data_received(self, data: bytes) -> None:
        leg = self.leg
        if leg is None:
            self._upstream.retire(self)  # bytes that answer no request
            self.abort()
            return
        if self._begun == self._upstream.tick.runs:  # nor do these: it has not been written yet
            self._is_unwritten = self.transport is not None and self._upstream.tick.drop_writes(self.transport)
            self.abort()
            return
        if self._head is not None:
            self._body(leg, data)
            return
        if self._buffer:
            data = self._buffer + data
        heads = self._upstream.heads
        if heads.last_head.status >= 200 and data.startswith(heads.last):
            self._take_head(leg, heads.last_head, data[len(heads.last) :])
            return
        while True:
            stop = data.find(b"\r\n\r\n")
            if stop < 0:
                self._buffer = data
                if len(data) > _MAX_RESPONSE_HEAD:
                    self._fail(502, "the backend's response head is too long")
                return
            head = heads.parse(data[:stop])
            if head is None or head.status == 101:
                self._fail(502, "the backend's response head is malformed")
                return
            data = data[stop + 4 :]
            if head.status >= 200:
                break
        self._take_head(leg, head, data)

    def _take_head(self, leg: Leg, head: ResponseHead, data: bytes) -> None:
        leg.head = head
        leg.answered_at = monotonic()
        leg.status = head.status
        leg.kind = classify(head.status)
        self._upstream.heard(leg)
        framing = NO_BODY if leg.method == b"HEAD" else head.framing
        if framing == NO_BODY or (framing == BY_LENGTH and len(data) >= head.length):
            length = 0 if framing == NO_BODY else head.length
            leg.body = data if len(data) == length else data[:length]
            # A 204 that announces a body may well send it, and it would answer the next request.
            is_clear = head.length <= 0 or framing == BY_LENGTH or leg.method == b"HEAD" or head.status == 304
            self._finish(leg, head.keep_alive and len(data) == length and is_clear)
            return
        self._buffer = b""
        if framing == BY_CHUNKS:
            chunks = ChunkedBody()
            try:
                body = chunks.feed(data)
            except BadChunk:
                self._fail(502, "the backend's chunks are malformed")
                return
            if chunks.done:
                leg.body = body
                self._finish(leg, head.keep_alive and not chunks.rest)
                return
            self._chunks = chunks
            data = body
        else:
            self._left = head.length - len(data) if framing == BY_LENGTH else -1
        self._head = head
        self._progress_at = leg.answered_at
        leg.owner.leg_started(leg)
        if data and self.leg is leg:
            leg.owner.leg_data(leg, data)

    def _body(self, leg: Leg, data: bytes) -> None:
        head = self._head
        assert head is not None
        reusable, ended = head.keep_alive, False
        if self._chunks is not None:
            try:
                data = self._chunks.feed(data)
            except BadChunk:
                self._truncate(leg)
                return
            ended = self._chunks.done
            reusable = reusable and not self._chunks.rest
        elif self._left >= 0:
            reusable = reusable and len(data) <= self._left
            data = data[: self._left]
            self._left -= len(data)
            ended = self._left == 0
        self._progress_at = monotonic()
        if data:
            leg.owner.leg_data(leg, data)
        if ended and self.leg is leg:
            self._finish(leg, reusable)

    def _finish(self, leg: Leg, reusable: bool) -> None:
        """The answer is complete: free the connection, then tell the owner."""
        if leg.is_paused:
            leg.resume()  # its last piece was one too many for its reader, and the next leg's answer is to be read
        now = leg.answered_at if self._head is None else monotonic()
        self.leg = leg.connection = None
        self._head = self._chunks = None
        self._buffer = b""
        self.served += 1
        upstream = self._upstream
        if leg.status >= 500 or upstream.breaker.row:
            upstream.observe(leg)
        transport = self.transport
        assert transport is not None
        if reusable and (len(leg.request) <= _LARGE_REQUEST or transport.get_write_buffer_size() == 0):
            upstream.release(self, now)
        elif leg.status < 300 and transport.get_write_buffer_size():
            # It said yes before it has read the body: it still gets the rest, and no end of ours before it read it.
            self._is_draining, self._is_reusable = True, reusable
            self._unsent, self._progress_at = transport.get_write_buffer_size(), now
        else:
            self.abort()
        leg.owner.leg_done(leg)

    def _truncate(self, leg: Leg) -> None:
        leg.truncated = True
        self._finish(leg, False)

    def _fail(self, status: int, reason: str) -> None:
        """No usable answer: 502 or 504. The backend may have seen the event."""
        leg = self.leg
        if leg is None:
            return
        if self._head is not None:
            self._truncate(leg)
            return
        self.leg = leg.connection = None
        leg.kind, leg.status, leg.reason, leg.head = RETRY, status, reason, None
        self.abort()
        self._upstream.observe(leg)
        leg.owner.leg_done(leg)

    def check_time(self, now: float, response_timeout: float) -> None:
        """Fail the leg whose answer's head is overdue; cut the rest of an answer that nobody reads."""
        leg = self.leg
        if leg is None:
            if self._is_draining:
                self._check_rest(now, response_timeout)
            return
        if self._head is None:
            if now - leg.sent_at > response_timeout:
                self._fail(504, f"no answer within {response_timeout:g} s")
        elif leg.is_unwanted:
            if now - leg.answered_at > response_timeout:
                self._truncate(leg)
        elif not leg.is_paused and now - self._progress_at > _PIECE_TIMEOUT:
            self._truncate(leg)

    def _check_rest(self, now: float, response_timeout: float) -> None:
        """Watch the rest of a request that was answered early: it goes out, or stops going out."""
        assert self.transport is not None
        unsent = self.transport.get_write_buffer_size()
        if unsent == 0 and self._is_reusable:
            self._is_draining = False
            self._upstream.release(self, now)
        elif unsent != self._unsent:
            self._unsent, self._progress_at = unsent, now
        elif now - self._progress_at > response_timeout:
            self.abort()

    def resume(self) -> None:
        """Read on; the time that its reader took is not the backend's."""
        self._progress_at = monotonic()
        if self.transport is not None:
            self.transport.resume_reading()

    def abort(self) -> None:
        """Close at once."""
        if self.transport is not None:
            self.transport.abort()

    def eof_received(self) -> bool:
        self._upstream.retire(self)
        return False

    def pause_writing(self) -> None:
        """The backend reads slowly; a request is as long as it is, and its answer's time is bounded."""

    def resume_writing(self) -> None:
        """It reads on."""

    def connection_lost(self, exc: Exception | None) -> None:
        transport, self.transport = self.transport, None
        unsent = (transport is not None and self._upstream.tick.drop_writes(transport)) or self._is_unwritten
        leg = self.leg
        if leg is not None and self._may_repeat(leg, unsent):
            leg.repeated = True  # the pooled connection was stale: once more, on a fresh one
            self.leg = leg.connection = None
            self._upstream.repeat(leg)
        self._upstream.forget(self)
        if self.leg is not None:
            self._lost(self.leg, unsent, exc)

    def _may_repeat(self, leg: Leg, unsent: bool) -> bool:
        if not self.served or self._head is not None or self._buffer or leg.repeated or self._upstream.is_closed:
            return False
        return unsent or leg.may_repeat or leg.method in _IDEMPOTENT

    def _lost(self, leg: Leg, unsent: bool, exc: Exception | None) -> None:
        if self._head is not None:
            if self._left == -1 and self._head.framing == BY_CLOSE and exc is None:
                self._finish_by_close(leg)
            else:
                self._truncate_lost(leg)
            return
        self.leg = leg.connection = None
        if unsent and not leg.repeated:
            leg.sent_at = 0.0
        leg.kind = UNREACHABLE if unsent else RETRY
        leg.status, leg.reason = 502, "the backend closed the connection before it answered"
        self._upstream.observe(leg)
        leg.owner.leg_done(leg)

    def _finish_by_close(self, leg: Leg) -> None:
        self.leg = leg.connection = None
        self._upstream.observe(leg)
        leg.owner.leg_done(leg)

    def _truncate_lost(self, leg: Leg) -> None:
        leg.truncated = True
        self._finish_by_close(leg)


class Figures:
    """What was seen of one (route, side, role): answers by class of their code, and latency."""

    __slots__ = ("classes", "latency")

    def __init__(self) -> None:
        self.classes = [0] * 6
        """Index: the status divided by 100; 0 counts failures without an answer."""
        self.latency = Sketch()


class Upstream:
    """One backend as this process sees it."""

    def __init__(self, name: str, settings: Backend, loop: asyncio.AbstractEventLoop, tick: Tick) -> None:
        self.name = name
        self.settings = settings
        self.tick = tick
        self.heads = ResponseHeads()
        self.breaker = Breaker(settings.breaker.failures, settings.breaker.reset)
        self.is_healthy = True
        """What the supervisor's probe says; true without a probe."""
        self.open = 0
        """Connections that are open or being opened."""
        self.parked = 0
        """Copies that kept their clients waiting too long, since an answer began."""
        self.latency = _LATENCY
        """Seconds from a request to the head of its answer: a moving average."""
        self._parked_at = self._trial_at = 0.0
        self.is_closed = False
        self.trouble = ""
        """Why the last connection could not be made, for the log."""
        self.rewrite = Rewrite.of(settings)
        """What it gets differently; None for what all get."""
        self._connections = settings.connections
        self._pending = settings.pending
        self._loop = loop
        parts = urlsplit(settings.url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._waiting: deque[tuple[float, Leg]] = deque()
        self._connecting: set[asyncio.Task[None]] = set()

    def is_ready(self, now: float) -> bool:
        """May a live event be sent? While the breaker is open, one trial per reset time."""
        breaker = self.breaker
        if breaker.is_closed:
            return self.is_healthy
        return self.is_healthy and breaker.allows(now)

    @property
    def is_well(self) -> bool:
        """As `is_ready`, but never takes the breaker's trial."""
        return self.breaker.is_closed and self.is_healthy

    @property
    def has_room(self) -> bool:
        """Would a copy be sent soon? A line as long as the pool says that the backend is stalled."""
        connections = self._connections
        return bool(self._idle) or self.open < connections or len(self._waiting) < connections

    def is_stalled(self, now: float) -> bool:
        """Would a copy only keep its client waiting? False once in a while all the same, for one to try.

        To be asked when `parked` has reached `STALLED`: that alone may also be the sign of a slow backend.
        """
        if self.parked < STALLED or now - self._parked_at < max(_STALLED_FOR, 4 * self.latency):
            return False
        if now < self._trial_at:
            return True
        self._trial_at = now + _TRIAL
        return False

    def park(self, now: float) -> None:
        """A copy kept its client waiting too long."""
        if not self.parked:
            self._parked_at = now
        self.parked += 1

    def heard(self, leg: Leg) -> None:
        """The head of an answer is here."""
        self.parked = 0
        self.latency += (min(leg.answered_at - leg.sent_at, _LATENCY) - self.latency) / 16

    @property
    def is_idle(self) -> bool:
        """No leg is on its way."""
        return len(self._idle) == self.open and not self._waiting

    def send(self, leg: Leg) -> None:
        """Send a leg; its owner hears of it later, or at once when the line is full."""
        if self._idle:
            self._idle.pop().begin(leg)
        elif self.open < self._connections:
            self.connect(leg)
        elif len(self._waiting) < self._pending:
            self._waiting.append((monotonic(), leg))
        else:
            leg.kind, leg.status, leg.reason = UNREACHABLE, 503, "too many events wait for this backend"
            leg.owner.leg_done(leg)

    def connect(self, leg: Leg) -> None:
        """Open a connection for a leg."""
        self.open += 1
        task = self._loop.create_task(self._connect(leg))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, leg: Leg) -> None:
        connection = Connection(self)
        try:
            async with asyncio.timeout(self.settings.connect_timeout):
                await self._loop.create_connection(lambda: as_protocol(connection), self._host, self._port)
        except (OSError, TimeoutError) as error:
            self._not_connected(leg, str(error) or "timeout")
            return
        except asyncio.CancelledError:
            self._not_connected(leg, "closing")
            raise
        if connection.transport is None:
            self._not_connected(leg, "closed at once")
            return
        self._all.add(connection)
        connection.begin(leg)

    def _not_connected(self, leg: Leg, why: str) -> None:
        self.open -= 1
        self.trouble = f"cannot connect to {self._host}:{self._port}: {why}"
        self._refuse(leg, 502, f"cannot connect to the backend {self.name}")  # clients need not know where it is
        self._serve_waiting()

    def repeat(self, leg: Leg) -> None:
        """Send a leg once more, before all others, on a new connection as soon as there may be one."""
        self._waiting.appendleft((monotonic(), leg))

    def _refuse(self, leg: Leg, status: int, reason: str) -> None:
        leg.kind, leg.status, leg.reason = UNREACHABLE, status, reason
        leg.connection = None
        self.observe(leg)
        leg.owner.leg_done(leg)

    def release(self, connection: Connection, now: float) -> None:
        """A connection is free: the next in line takes it."""
        if self._waiting:
            connection.begin(self._waiting.popleft()[1])
        else:
            connection.idle_since = now
            self._idle.append(connection)

    def retire(self, connection: Connection) -> None:
        """A connection is about to go: what is sent on it until it is gone would be lost unseen."""
        if connection in self._idle:
            self._idle.remove(connection)

    def forget(self, connection: Connection) -> None:
        """A connection is gone."""
        if connection in self._all:
            self._all.remove(connection)
            self.open -= 1
        self.retire(connection)
        self._serve_waiting()

    def _serve_waiting(self) -> None:
        while self._waiting and self.open < self._connections:
            self.connect(self._waiting.popleft()[1])

    def observe(self, leg: Leg) -> None:
        """Feed the breaker: a 5xx, ours for a missing answer or the backend's own, is a failure."""
        if leg.status < 500:
            self.breaker.succeeded()
        elif self.breaker.failed(monotonic()):
            reason = self.trouble or leg.reason or f"status {leg.status}"
            log.warning("breaker opened", extra={"backend": self.name, "reason": reason})
        self.trouble = ""

    def check_times(self, now: float) -> None:
        """Every 100 ms: overdue answers, overdue waiting, idle connections past their time."""
        settings = self.settings
        for connection in tuple(self._all):
            connection.check_time(now, settings.response_timeout)
        while self._waiting and now - self._waiting[0][0] > settings.response_timeout:
            self._refuse(self._waiting.popleft()[1], 504, "waited too long for a connection")
        while self._idle and now - self._idle[0].idle_since > settings.idle_timeout:
            self._idle.pop(0).abort()

    def close(self) -> None:
        """Close every connection; legs on the way fail."""
        self.is_closed = True
        while self._waiting:
            self._refuse(self._waiting.popleft()[1], 502, "closing")
        for task in tuple(self._connecting):
            task.cancel()
        for connection in tuple(self._all):
            connection.abort()
