"""A connection to a backend: one request at a time, and used again only when both messages are done.

begin(leg) --> data_received --> leg.owner.leg_done(leg)                  the whole answer at once, or
                             --> leg_started(leg), leg_data(leg, ..), leg_done(leg)
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, cast

from proxy.core.event import RETRY, UNREACHABLE, classify
from proxy.http.chunked import BadChunk, ChunkedBody
from proxy.http.leg import Leg, Outflow
from proxy.http.response_head import BY_CHUNKS, BY_CLOSE, BY_LENGTH, NO_BODY, ResponseHead, parse_response_head
from proxy.net.kernel import unacknowledged

if TYPE_CHECKING:
    from proxy.http.budget import Charge
    from proxy.http.endpoint import Endpoint
    from proxy.http.upstream import Upstream

_MAX_RESPONSE_HEAD: Final = 64 * 1024
_LARGE_REQUEST: Final = 64 * 1024
_LASTING: Final = 1.0
"""Seconds of an answer's body after which its connection is not of the pool any more."""
_LONGEST_REST: Final = 60.0
"""Seconds without a byte of a request that was answered before its end. It holds memory; body_timeout may be hours."""
_INTERIM: Final = 8
"""Answers before the answer that are passed on; more are dropped."""
_IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"TRACE"})


class Connection:
    """One connection to a backend, a `StreamProtocol`. Idle unless `leg` is set."""

    __slots__ = (
        "_begun",
        "_buffer",
        "_charge",
        "_chunks",
        "_head",
        "_is_draining",
        "_is_ended",
        "_is_reusable",
        "_is_tls",
        "_interim",
        "_is_unwritten",
        "_left",
        "_progress_at",
        "_taken_at",
        "_unsent",
        "_upstream",
        "_wrote_in",
        "endpoint",
        "idle_since",
        "is_lasting",
        "leg",
        "served",
        "transport",
    )

    def __init__(self, upstream: Upstream, is_tls: bool = False, endpoint: Endpoint | None = None) -> None:
        self._upstream = upstream
        self._is_tls = is_tls
        self._is_ended = False
        self.endpoint = endpoint
        """Whose it is, where the backend has several."""
        self.transport: asyncio.Transport | None = None
        self.leg: Leg | None = None
        self.served = 0
        self.idle_since = 0.0
        self.is_lasting = False
        """It does not count in the pool, and is closed after its leg."""
        self._interim = 0
        self._buffer = b""
        self._begun = -1
        self._wrote_in = -1
        """The tick's run that writes, or wrote, the last piece of an outflow."""
        self._is_unwritten = False
        # After an early answer: the rest of the request goes out, and so many bytes are still on their way.
        self._is_draining = False
        self._is_reusable = False
        self._unsent = 0
        self._charge: Charge | None = None
        self._progress_at = self._taken_at = 0.0
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
        if leg.outflow is not None:
            leg.outflow.begun(self)

    def write(self, piece: bytes) -> None:
        """A piece of its leg's outflow."""
        if self.transport is not None:
            self._wrote_in = self._upstream.tick.runs
            self._upstream.tick.write(self.transport, piece)

    def limit_unwritten(self, size: int) -> None:
        """Call its leg's outflow when more bytes than that cannot be written."""
        if self.transport is not None:
            self.transport.set_write_buffer_limits(size)

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
            # A 101 has a line of its own each time, which is not worth keeping.
            head = heads.parse(data[:stop]) if leg.upgrade is None else parse_response_head(data[:stop])
            if head is None or (head.status == 101 and leg.upgrade is None):
                self._fail(502, "the backend's response head is malformed")
                return
            if head.status == 101:
                self._switch(leg, head, data, stop)
                return
            data = data[stop + 4 :]
            if head.status >= 200:
                break
            if head.status != 100 and self._interim < _INTERIM:  # 100 is for this hop, and we did not ask for it
                self._interim += 1
                leg.owner.leg_interim(leg, head)
        self._take_head(leg, head, data)

    def _switch(self, leg: Leg, head: ResponseHead, data: bytes, stop: int) -> None:
        """The backend speaks something else from here on, and so does somebody else with it."""
        self.leg = leg.connection = None
        self._buffer = b""
        leg.answered_at, leg.status = monotonic(), head.status
        self._upstream.heard(leg)
        self._upstream.observe(leg, self.endpoint)
        self._upstream.switched(self)
        assert leg.upgrade is not None
        leg.upgrade.switched(self, data[:stop], head, data[stop + 4 :])

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
        self._interim = 0
        self.served += 1
        upstream = self._upstream
        if leg.status >= 500 or upstream.breaker.row:
            upstream.observe(leg, self.endpoint)
        transport = self.transport
        assert transport is not None
        if leg.outflow is not None and not leg.outflow.is_whole:
            self.abort()  # the backend is to see that the body is not
        elif (
            reusable and not self.is_lasting and (len(leg.request) <= _LARGE_REQUEST or self._unwritten(transport) == 0)
        ):
            upstream.release(self, now)
        elif leg.status < 300 and (self._wrote_in == upstream.tick.runs or self._unwritten(transport)):
            # It said yes before it has read the body: it still gets the rest, and no end of ours before it read it.
            self._is_draining, self._is_reusable = True, reusable and not self.is_lasting
            self._unsent, self._progress_at = self._untaken(transport), now
            charge = leg.request_charge
            self._charge = None if charge is None else charge.another(self._unwritten(transport))
        else:
            self.abort()
        leg.owner.leg_done(leg)

    def _unwritten(self, transport: asyncio.Transport) -> int:
        """Bytes of the request that are still here. Below TLS there is a buffer that its transport does not count."""
        size = transport.get_write_buffer_size()
        return size + unacknowledged(transport) if self._is_tls else size

    def _untaken(self, transport: asyncio.Transport) -> int:
        """Bytes that the backend's kernel has not got. A slow one empties our buffers for a while."""
        return transport.get_write_buffer_size() + unacknowledged(transport)

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
        self._upstream.observe(leg, self.endpoint)
        leg.owner.leg_done(leg)

    def check_time(self, now: float, response_timeout: float, body_timeout: float) -> None:
        """Fail the leg whose answer's head is overdue; cut an answer that stands still, or that nobody reads."""
        leg = self.leg
        if leg is None:
            if self._is_draining:
                self._check_rest(now, response_timeout, body_timeout)
            return
        if self._head is None:
            since = leg.sent_at if leg.outflow is None else self._waits_since(leg.outflow, now)
            if now - since > response_timeout:
                self._fail(504, f"no answer within {response_timeout:g} s")
        elif leg.is_unwanted:
            if now - leg.answered_at > response_timeout:
                self._truncate(leg)
        elif not leg.is_paused and now - self._progress_at > body_timeout:
            if leg.outflow is None or now - self._waits_since(leg.outflow, now) > body_timeout:
                self._truncate(leg)
        elif now - leg.answered_at > _LASTING and not self.is_lasting:
            self._upstream.lend(self)

    def _waits_since(self, outflow: Outflow, now: float) -> float:
        """Since when the backend neither answers nor takes anything."""
        since = outflow.waits_since(now)
        if self.transport is not None and now - since > 0:
            unsent = self._untaken(self.transport)
            if unsent != self._unsent:
                self._unsent, self._taken_at = unsent, now
        return max(since, self._taken_at)

    def _check_rest(self, now: float, response_timeout: float, body_timeout: float) -> None:
        """Watch the rest of a request that was answered early: it goes out, or stops going out."""
        transport = self.transport
        assert transport is not None
        is_out, untaken = self._unwritten(transport) == 0, self._untaken(transport)
        if is_out:
            self._charge = None
        if is_out and self._is_reusable:
            self._is_draining = False
            self._upstream.release(self, now)
            return
        if untaken != self._unsent:
            self._unsent, self._progress_at = untaken, now
        waited = now - self._progress_at
        if waited > (max(response_timeout, min(body_timeout, _LONGEST_REST)) if untaken else response_timeout):
            self.abort()
        elif waited > _LASTING and not self.is_lasting:
            self._is_reusable = False
            self._upstream.lend(self)  # events need not wait for it

    def pause(self) -> None:
        """Stop reading."""
        if self.transport is None:
            return
        if self._is_tls:
            # uvloop drops what it has not handed out yet when the backend closes: so it shall not read that end.
            cast(Any, self.transport).set_read_buffer_limits(1, 0)
        self.transport.pause_reading()

    def resume(self) -> None:
        """Read on; the time that its reader took is not the backend's."""
        self._progress_at = monotonic()
        if self.transport is None:
            return
        if self._is_tls:
            cast(Any, self.transport).set_read_buffer_limits()
        self.transport.resume_reading()

    def abort(self) -> None:
        """Close at once."""
        if self.transport is not None:
            self.transport.abort()

    def eof_received(self) -> bool:
        self._is_ended = True
        if self._is_draining and self.transport is not None:
            self._unsent = self._untaken(self.transport)  # it may have taken all of it just now
        self._upstream.retire(self)
        return False

    def pause_writing(self) -> None:
        """The backend reads slowly. A request is as long as it is, and its answer's time is bounded."""
        if self.leg is not None and self.leg.outflow is not None:
            self.leg.outflow.hold()

    def resume_writing(self) -> None:
        """It reads on."""
        if self.leg is not None and self.leg.outflow is not None:
            self.leg.outflow.proceed()

    def connection_lost(self, exc: Exception | None) -> None:
        transport, self.transport = self.transport, None
        self._charge = None
        if self._is_draining and self._unsent:
            self._upstream.cut_short()
        unsent = (transport is not None and self._upstream.tick.drop_writes(transport)) or self._is_unwritten
        leg = self.leg
        if leg is not None and self._may_repeat(leg, unsent):
            leg.repeated = True  # the pooled connection was stale: once more, on a fresh one
            leg.lost = not unsent
            self.leg = leg.connection = None
            self._upstream.repeat(leg)
        self._upstream.forget(self)
        if self.leg is not None:
            self._lost(self.leg, unsent, exc)

    def _may_repeat(self, leg: Leg, unsent: bool) -> bool:
        if not self.served or self._head is not None or self._buffer or leg.repeated or self._upstream.is_closed:
            return False
        if leg.is_abandoned:
            return False
        return unsent or leg.may_repeat or leg.method in _IDEMPOTENT

    def _lost(self, leg: Leg, unsent: bool, exc: Exception | None) -> None:
        if self._head is not None:
            # Over TLS an end that nobody announced may be somebody's who cut the line (RFC 9112 section 9.8).
            is_end = exc is None and (self._is_ended or not self._is_tls)
            if self._left == -1 and self._head.framing == BY_CLOSE and is_end:
                self._finish_by_close(leg)
            else:
                self._truncate_lost(leg)
            return
        self.leg = leg.connection = None
        if unsent and not leg.repeated:
            leg.sent_at = 0.0
        leg.kind = UNREACHABLE if unsent else RETRY
        leg.status, leg.reason = 502, "the backend closed the connection before it answered"
        if not leg.is_abandoned:
            self._upstream.observe(leg, self.endpoint)
        leg.owner.leg_done(leg)

    def _finish_by_close(self, leg: Leg) -> None:
        self.leg = leg.connection = None
        self._upstream.observe(leg, self.endpoint)
        leg.owner.leg_done(leg)

    def _truncate_lost(self, leg: Leg) -> None:
        leg.truncated = True
        self._finish_by_close(leg)
