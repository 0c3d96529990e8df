r"""A client's connection: requests in, answers out in the same order, one request at a time.

    bytes --> head --> body (buffered, bounded) --> DataPlane.begin --> answer | stream --> next request
                  \--> body in pieces --> DataPlane.begin_upload --> answer | stream --> next request

Pipelined requests wait in the buffer, which is bounded by not reading on; so do events of one
connection behind each other, which keeps their answers in order without a queue.

Long because it is one owner of one connection's state, on the way of every event: what reads, what answers
and what closes decide by the same dozen fields.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Final, cast

from config.model import Limits
from proxy.http.answers import CONTINUE, accepted, duplicate, problem
from proxy.http.budget import CONNECTION, SMALL, TLS_CONNECTION
from proxy.http.chunked import BadChunk
from proxy.http.forwarded import Trust
from proxy.http.head import FORWARDING, HeadParser, Refusal, RequestHead, refuse_request_line
from proxy.http.leg import Leg
from proxy.http.request import context_of, forwarded_lines, origin_context
from proxy.http.request_body import RequestBody
from proxy.http.response_head import BY_LENGTH, ResponseHead
from proxy.http.tick import End
from proxy.net.kernel import unacknowledged

if TYPE_CHECKING:
    from proxy.http.claim import Claim
    from proxy.http.exchange import Exchange
    from proxy.http.passing import Passing
    from proxy.http.plane import DataPlane
    from proxy.http.uploading import Upload

_FIRST: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]|\r\n?")
_BARE: Final = re.compile(rb"(?<!\r)\n|\r(?!\n)(?!$)|\x00")
_PIPELINE_HIGH: Final = 64 * 1024
_STREAM_HIGH: Final = 256 * 1024
_LINGER: Final = 1.0
"""Seconds."""
_ENDLESS: Final = 1.0
"""Seconds after which a chunked body is taken for one without an end, where such are passed on."""
_LOOKS: Final = 512
"""Clients whose time is checked in one loop iteration, at most."""
_CUTS: Final = 16
"""Clients cut in one loop iteration, at most; each costs a few system calls, now and when it is closed."""
_WRITE_HIGH: Final = 16 * 1024
"""Bytes of answers that a client may leave unread before they are counted and nothing more is written."""
_PIECE: Final = 64
"""Bytes that a piece of a body takes beside what is in it."""
_HURRY: Final = 0.1
"""Share of its time that a slow client has while the memory budget is used up."""


class Service:
    """What all client connections of a worker share."""

    __slots__ = (
        "budget",
        "clients",
        "is_stopping",
        "limits",
        "loop",
        "max_event_size",
        "max_head_size",
        "most_clients",
        "parser",
        "plane",
        "trust",
        "trusting_parser",
        "_unchecked",
    )

    def __init__(
        self,
        plane: DataPlane,
        limits: Limits,
        wanted: frozenset[bytes],
        loop: asyncio.AbstractEventLoop,
        trusted_proxies: Sequence[str] = (),
    ) -> None:
        self.plane = plane
        self.budget = plane.budget
        self.limits = limits
        self.max_event_size = limits.max_event_size
        self.max_head_size = limits.max_head_size
        self.parser = HeadParser(wanted, limits.max_headers, limits.max_target_size)
        self.trust = Trust(trusted_proxies) if trusted_proxies else None
        self.trusting_parser = HeadParser(wanted | FORWARDING, limits.max_headers, limits.max_target_size)
        """For connections of hops that are believed."""
        self.loop = loop
        self.clients: set[Client] = set()
        self.most_clients = limits.max_connections
        self.is_stopping = False
        self._unchecked: list[Client] = []

    def has_room(self) -> bool:
        """May one more client come?"""
        return len(self.clients) < self.most_clients and self.budget.takes_connections

    def check_times(self, now: float) -> None:
        """Once a second: cut clients that are too slow or idle for too long, a few in each loop iteration.

        Thousands that came together run out of time together. To cut 10,000 of them in one go, and to close them in
        another a second later, kept everybody else waiting for 150 and 115 ms; now no iteration takes longer than 3 ms.
        """
        if not self._unchecked:
            self._unchecked = list(self.clients)
            self._check_some(now)

    def _check_some(self, now: float) -> None:
        left, cuts = self._unchecked, 0
        for _ in range(min(_LOOKS, len(left))):
            client = left.pop()
            client.look_unread()
            cuts += client.check_time(now)
            if cuts == _CUTS:
                break
        if left:
            self.loop.call_soon(self._check_some, now)

    def last_call(self) -> None:
        """Every connection ends with its next answer, which says so."""
        self.is_stopping = True
        for client in self.clients:
            client.last_call()

    def stop(self) -> None:
        """Close idle connections now and busy ones after their answer."""
        self.last_call()
        for client in tuple(self.clients):
            client.stop()


class Client:
    """One client connection: a `StreamProtocol`, as asyncio's protocols are by shape."""

    __slots__ = (
        "_body",
        "_buffer",
        "_chunks_out",
        "_context",
        "_context_head",
        "_counted",
        "_current",
        "_head",
        "_incoming",
        "_is_closing",
        "_is_ended",
        "_is_full",
        "_is_paused",
        "_is_tls",
        "_keep_alive",
        "_method",
        "_minor",
        "_queued",
        "_received",
        "_service",
        "_stream",
        "_transport",
        "_forwarded",
        "_parser",
        "_trusted_hop",
        "_upload",
        "_unread",
        "is_busy",
        "peer",
        "since",
    )

    def __init__(self, service: Service, is_tls: bool = False) -> None:
        self._service = service
        self._is_tls = is_tls
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._head: RequestHead | None = None
        self._body: list[bytes] = []
        self._incoming: RequestBody | None = None
        """The body of `_head`, or of `_upload`."""
        self._upload: Upload | None = None
        """What the rest of the body is passed on to."""
        self._current: Exchange | Passing | Claim | None = None
        self._stream: Leg | None = None
        self._chunks_out = False
        self.is_busy = False
        self._is_closing = False
        self._is_ended = False
        self._is_full = False
        self._is_paused = False
        self._keep_alive = True
        self._method = b""
        self._minor = 1
        self._queued = 0
        self.since = 0.0
        """When the last thing happened that a limit counts from, monotonic seconds."""
        self.peer = ""
        """The client's address: of the connection, or what a hop that is believed says of this request."""
        self._parser = service.parser
        self._trusted_hop = ""
        self._forwarded = b""
        self._context = b""
        self._context_head: RequestHead | None = None
        # What the memory budget is told of this client: of a body so far, of answers that it does not read, of all.
        self._received = 0
        self._unread = 0
        self._counted = 0

    # the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass
        service = self._service
        if len(service.clients) >= service.most_clients:
            service.plane.count("refused_connections")
            self._is_closing = True
            transport.abort()
            return
        address = transport.get_extra_info("peername")
        if address is None:
            self._is_closing = True
            transport.abort()  # reset before it was accepted
            return
        service.clients.add(self)
        service.budget.connected(TLS_CONNECTION if self._is_tls else CONNECTION)
        transport.set_write_buffer_limits(_WRITE_HIGH)
        self.peer = str(address[0])
        self._forwarded = forwarded_lines(self.peer, b"https" if self._is_tls else b"http")
        if service.trust is not None and service.trust.is_trusted(self.peer):
            self._trusted_hop = self.peer
            self._parser = service.trusting_parser
        self.since = monotonic()

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self._service.clients:
            self._service.clients.remove(self)
            self._service.budget.connected(-(TLS_CONNECTION if self._is_tls else CONNECTION))
        self._is_closing = True
        transport, self._transport = self._transport, None
        self._buffer = b""
        self._body = []
        self._received = self._unread = 0
        self._count()
        if transport is not None:
            self._service.plane.tick.drop_writes(transport)
        if self._current is not None:
            self._current.client_gone()
            self._current = None

    def eof_received(self) -> bool:
        """The client has sent all it will; answers that are due still go out, also to pipelined requests.

        Not over TLS: there is no half-closed TLS connection, neither in asyncio nor in uvloop.
        """
        self._is_ended = True
        if self._upload is not None:
            self._break_off()
        if self._is_tls:
            self._is_closing = True
            return False
        if not self._buffer:
            self._keep_alive = False
        if not self.is_busy and self._transport is not None:
            if self._buffer and self._head is None:
                self._service.loop.call_soon(self._go_on)  # serves what waits there, and lets go of half a head
            else:
                self._is_closing = True
                self._service.plane.tick.end(self._transport, End.CLOSE)  # after what this iteration has queued
        return True

    def pause_writing(self) -> None:
        """The client reads slowly: its stream waits, and so do its next requests."""
        self._is_full = True
        self.since = monotonic()
        self.look_unread()
        self._service.loop.call_soon(self.look_unread)  # this iteration may write more
        if self._stream is not None:
            self._stream.pause()

    def resume_writing(self) -> None:
        self._is_full = False
        self.since = monotonic()
        self.look_unread()
        if self._stream is not None:
            self._stream.resume()
        elif not self.is_busy:
            self._go_on()

    def last_call(self) -> None:
        """The next answer is the last."""
        self._keep_alive = False

    def stop(self) -> None:
        """Close now when idle, else after the answer."""
        if not self.is_busy and self._head is None and not self._buffer and not self._is_closing:
            self._close(End.LINGER)  # a request that is on its way here must not turn this into a reset

    def check_time(self, now: float) -> bool:
        """Cut a client that is idle or slow; true when it was. While memory is short it has a tenth of its time."""
        limits = self._service.limits
        waited = now - self.since
        is_short = self._service.budget.is_full
        if is_short and not self._is_closing:
            waited /= _HURRY
        if self._is_closing:
            transport = self._transport
            # A slow client may still read the end of its answer.
            is_over = transport is not None and (waited > limits.keepalive_timeout or self._is_read(transport))
            if waited > _LINGER and transport is not None and is_over:
                transport.abort()
                return True
        elif self._is_full:
            if waited > limits.keepalive_timeout and self._transport is not None:
                self._service.plane.count("clients_not_reading")
                self._transport.abort()
                return True
        elif self.is_busy:
            if self._upload is not None and not self._is_paused and waited > limits.body_timeout:
                self._spoil(408, "nothing came of the request body for too long")
                return True
        elif self._head is not None:
            if self._is_endless(now - self.since):
                self._begin_upload()
            elif waited > limits.body_timeout:
                if is_short:
                    self._shed_body()
                else:
                    self._refuse(408, "the request body took too long")
                return True
        elif self._buffer:
            if waited > limits.head_timeout:
                self._refuse(408, "the request head took too long")
                return True
        elif waited > limits.keepalive_timeout:
            self._close()
            return True
        return False

    def _is_read(self, transport: asyncio.Transport) -> bool:
        """Has the client's machine got everything? Below TLS there is a buffer that its transport does not count."""
        if transport.get_write_buffer_size():
            return False
        return not self._is_tls or unacknowledged(transport) == 0

    def _close(self, how: End = End.CLOSE) -> None:
        """Take nothing more. Lingering, what still comes is dropped until the client closes, for `_LINGER`.

        Closing a TLS connection is lingering: it says so to the client, and drops what comes until it does the same.
        """
        self._is_closing = True
        self.since = monotonic()
        if self._transport is not None:
            self._service.plane.tick.end(self._transport, End.CLOSE if self._is_tls or self._is_ended else how)

    # memory

    def look_unread(self) -> None:
        """How much of its answers has the client not read?"""
        self._unread = 0 if self._transport is None else self._transport.get_write_buffer_size()
        self._count()

    def _count(self) -> None:
        """Tell the budget what is held for this client."""
        size = len(self._buffer) + self._received + self._unread
        if size <= SMALL:
            size = 0
        if size != self._counted:
            self._service.budget.add(size - self._counted)
            self._counted = size

    def _shed_body(self) -> None:
        """A body cannot be taken, or not any further."""
        self._service.plane.count("refused_bodies")
        self._refuse(503, "this instance is out of memory for requests")

    # requests

    def data_received(self, data: bytes) -> None:
        if self._is_closing:
            return
        if self.is_busy or (self._is_full and self._head is None):
            if self._upload is not None:
                self._more_upload(data)
                return
            self._buffer += data
            if len(self._buffer) > SMALL:
                self._count()
            if len(self._buffer) > _PIPELINE_HIGH and not self._is_paused and self._transport is not None:
                self._is_paused = True
                self._transport.pause_reading()
            return
        if self._head is not None:
            self._more_body(data)
            return
        if self._buffer:
            data = self._buffer + data
        else:
            self.since = monotonic()
        self._advance(data)

    def _advance(self, data: bytes) -> None:
        """Read the next request from its first byte on."""
        stop = data.find(b"\r\n\r\n")
        service = self._service
        if stop < 0 or stop > service.max_head_size:
            self._wait_for_head(data, stop)
            return
        if self._buffer:
            self.since = monotonic()  # the head came in pieces: what happens to the event counts from now
            if self._counted:
                self._buffer = b""
                self._count()
        raw = data[:stop] if data[0] != 13 else data[:stop].removeprefix(b"\r\n")
        head = self._parser.parse(raw)
        if isinstance(head, Refusal):
            self._refuse(head.status, head.reason)
            return
        rest = data[stop + 4 :]
        length = head.length
        if not head.chunked and length <= service.max_event_size and len(rest) >= length:
            if len(rest) == length:
                self._buffer = b""
                self._dispatch(head, rest)
            else:
                self._buffer = rest[length:]
                if len(self._buffer) > SMALL:
                    self._count()
                self._dispatch(head, rest[:length])
            return
        if length > service.max_event_size and not service.plane.streams(head):
            self._refuse_length()
            return
        self._buffer = b""
        self._count()
        if not service.budget.has_room(min(length, service.max_event_size)):
            self._shed_body()
            return
        self._head = head
        self._incoming = RequestBody(head)
        if head.expects_continue and not rest and self._transport is not None:
            service.plane.tick.write(self._transport, CONTINUE)  # after the answers before it
        self.since = monotonic()
        if length > service.max_event_size:
            self._begin_upload()
            if rest and self._upload is not None:
                self._more_upload(rest)
        elif rest:
            self._more_body(rest)

    def _wait_for_head(self, data: bytes, stop: int) -> None:
        """The head is not complete: keep what there is, unless it can only be refused."""
        limits = self._service.limits
        if stop > limits.max_head_size or len(data) > limits.max_head_size + 3:  # the end may be on its way
            line = data.find(b"\r\n")
            if line < 0 or line > limits.max_target_size + 64:
                self._refuse(414, f"request target longer than {limits.max_target_size} bytes")
            else:
                self._refuse(431, f"request head longer than {limits.max_head_size} bytes")
        elif _BARE.search(data) or _FIRST.match(data) is None:
            self._refuse(400, "malformed request")
        elif (refusal := refuse_request_line(data.lstrip(b"\r\n"), limits.max_target_size)) is not None:
            self._refuse(refusal.status, refusal.reason)
        else:
            self._buffer = data
            if len(data) > SMALL:
                self._count()

    def _more_body(self, data: bytes) -> None:
        head, incoming = self._head, self._incoming
        assert head is not None
        assert incoming is not None
        try:
            data = incoming.take(data)
        except BadChunk as error:
            self._refuse(400, str(error))
            return
        self._body.append(data)
        self._received += len(data) + _PIECE
        if incoming.size > self._service.max_event_size:
            if self._service.plane.streams(head):
                self._begin_upload()
            else:
                self._refuse_length()
        elif incoming.is_whole:
            body = b"".join(self._body)
            self._body = []
            self._head = self._incoming = None
            self._buffer = incoming.rest
            self._received = 0
            self._count()
            self.since = monotonic()
            self._dispatch(head, body)
        else:
            self._count()
            if self._service.budget.is_full:
                self._shed_body()

    def _refuse_length(self) -> None:
        self._refuse(413, f"the body is longer than {self._service.max_event_size} bytes")

    # a body that is passed on as it comes

    def _is_endless(self, waited: float) -> bool:
        """Is this body to be passed on before it is whole?"""
        head = self._head
        return head is not None and head.chunked and waited > _ENDLESS and self._service.plane.streams(head)

    def _begin_upload(self) -> None:
        """Pass on what there is of the body, and what comes."""
        head, incoming = self._head, self._incoming
        assert head is not None
        assert incoming is not None
        kept, self._body = self._body, []
        self._received = 0
        self._count()
        self._head = None
        keep_alive = self._keep_alive and head.keep_alive
        self._take_up(head)
        self._keep_alive = False  # unless the body is whole before its answer begins
        upload = self._service.plane.begin_upload(self, head)
        if upload is None or not self.is_busy:
            return
        self._current = self._upload = upload
        upload.keep_alive = keep_alive
        for piece in kept:
            if piece:
                upload.feed(piece)
        self._end_upload_if_whole()

    def _more_upload(self, data: bytes) -> None:
        upload, incoming = self._upload, self._incoming
        assert upload is not None
        assert incoming is not None
        self.since = monotonic()
        try:
            piece = incoming.take(data)
        except BadChunk as error:
            self._spoil(400, str(error))
            return
        if piece:
            upload.feed(piece)
            self._queued += len(piece)
        self._end_upload_if_whole()
        if self._queued > _STREAM_HIGH and self._upload is not None:
            # One iteration may read megabytes before the tick's write can say that the backend is slow.
            self._queued = 0
            self.hold()
            self._service.loop.call_soon(self._resume_upload)

    def _resume_upload(self) -> None:
        if self._upload is not None and not self._upload.is_held:
            self.proceed()

    def _end_upload_if_whole(self) -> None:
        upload, incoming = self._upload, self._incoming
        if upload is None or incoming is None or not incoming.is_whole:
            return
        self._upload = self._incoming = None
        self._buffer = incoming.rest
        if self._stream is None:
            is_last = self._service.is_stopping or (self._is_ended and not self._buffer)
            self._keep_alive = upload.keep_alive and not is_last
        upload.end()

    def hold(self) -> None:
        """The upload takes no more for now."""
        if not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()

    def proceed(self) -> None:
        """It takes more again."""
        self.since = monotonic()
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()

    def _break_off(self) -> None:
        """The body will not be whole: the backend sees that, and the client no answer."""
        upload, self._upload, self._incoming = self._upload, None, None
        self._current = None
        if upload is not None:
            upload.client_gone()
        if self._stream is not None and self._transport is not None:
            self._transport.abort()  # nor may it take what there is of one for the whole
        self._close()

    def _spoil(self, status: int, reason: str) -> None:
        """The body cannot be passed on to its end: an answer of our own, if the backend's has not begun."""
        upload = self._upload
        if upload is None or self._stream is not None:
            self._break_off()
            return
        upload.client_gone()
        self.is_busy = False
        self._current = self._upload = None
        self._refuse(status, reason)

    def _dispatch(self, head: RequestHead, body: bytes) -> None:
        self._take_up(head)
        current = self._service.plane.begin(self, head, body)
        if self.is_busy:
            self._current = current

    def _take_up(self, head: RequestHead) -> None:
        """This is the request that is served now."""
        self.is_busy = True
        if not head.keep_alive or (self._is_ended and not self._buffer):
            self._keep_alive = False
        self._method = head.method
        self._minor = head.minor
        if self._trusted_hop and head is not self._context_head:
            self._believe(head)

    def go_on_with(self, current: Exchange) -> None:
        """The request waited, and is an event on its way now."""
        if self.is_busy:
            self._current = current

    def _refuse(self, status: int, reason: str) -> None:
        """A request that is not served: its status, and the connection is closed."""
        self._service.plane.count(f"refused_{status}")
        self._keep_alive = False
        self._head = self._incoming = None
        self._body = []
        self._buffer = b""
        self._received = 0
        self._count()
        if self._transport is not None:
            retry_after = 1 if status == 503 else 0
            self._service.plane.tick.write(self._transport, problem(status, reason, retry_after, close=True))
        self._close(End.LINGER)

    def _believe(self, head: RequestHead) -> None:
        """Take this hop's word for where the request came from."""
        trust = self._service.trust
        assert trust is not None
        origin = trust.origin(head.wanted, self._trusted_hop, b"https" if self._is_tls else b"http")
        self.peer = origin.client
        self._context_head = head
        self._context = origin_context(head, origin)

    def context(self, head: RequestHead) -> bytes:
        """`proxy.http.request.context_of` this client's request; the same head again costs nothing."""
        if head is not self._context_head:
            self._context_head = head
            self._context = context_of(head, self._forwarded)
        return self._context

    # answers

    def answer(self, head: ResponseHead, body: bytes) -> None:
        """A backend's whole answer."""
        if self._keep_alive and self._minor == 1 and self._method != b"HEAD" and head.status not in (204, 304):
            self._finish(b"%bContent-Length: %d\r\n\r\n%b" % (head.start, len(body), body))
            return
        if self._method == b"HEAD" or head.status == 304:
            framing = b"Content-Length: %d\r\n" % head.length if head.length >= 0 else b""
        else:
            framing = b"" if head.status == 204 else b"Content-Length: %d\r\n" % len(body)
        self._finish(head.start + framing + self._connection_line() + b"\r\n" + body)

    def answer_accepted(self, event_id: str, status: int) -> None:
        """Durable, and delivered later."""
        self._finish_own(accepted(event_id, status, close=self._is_last()))

    def answer_duplicate(self, event_id: str, status: int) -> None:
        """What the first event of this id was answered."""
        self._finish_own(duplicate(event_id, status, close=self._is_last()))

    def answer_problem(self, status: int, detail: str, retry_after: int = 0) -> None:
        """An error of our own. Every 503 is of this moment, so it says when to come again."""
        if status == 503 and not retry_after:
            retry_after = 1
        self._finish_own(problem(status, detail, retry_after, close=self._is_last()))

    def _is_last(self) -> bool:
        """HTTP/1.0 needs a header to go on, which our own answers do not carry."""
        if self._minor == 0:
            self._keep_alive = False
        return not self._keep_alive

    def _finish_own(self, answer: bytes) -> None:
        self._finish(answer if self._method != b"HEAD" else answer[: answer.index(b"\r\n\r\n") + 4])

    def _connection_line(self) -> bytes:
        if not self._keep_alive:
            return b"Connection: close\r\n"
        return b"Connection: keep-alive\r\n" if self._minor == 0 else b""

    def _finish(self, data: bytes) -> None:
        """Write the end of an answer and go on with the next request."""
        self.is_busy = False
        self._current = None
        transport = self._transport
        if transport is None:
            return
        service = self._service
        service.plane.tick.write(transport, data)
        if self._incoming is not None:
            self._upload = self._incoming = None
            self._close(End.LINGER)  # what still comes of the body must not turn its answer into a reset
            return
        if not self._keep_alive or service.is_stopping or (self._is_ended and not self._buffer):
            self._close()
            return
        self.since = monotonic()
        if self._buffer or self._is_paused:
            service.loop.call_soon(self._go_on)  # after the answer was written

    def _go_on(self) -> None:
        """Serve a pipelined request, unless the client does not read its answers."""
        if self._is_full or self._is_closing:
            return
        if self._buffer and not self.is_busy and self._head is None:
            data, self._buffer = self._buffer, b""
            self._advance(data)
            if self._counted:
                self._count()
            if self._is_ended:
                self._end_unless_busy()
        if self._is_paused and len(self._buffer) <= _PIPELINE_HIGH and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()

    def _end_unless_busy(self) -> None:
        """The client has sent all it will, so the rest of a partial request will not come."""
        if self._upload is not None:
            self._break_off()
        elif not self.is_busy and not self._is_closing:
            self._close()

    def answer_interim(self, head: ResponseHead) -> None:
        """An answer before the answer: its head alone. HTTP/1.0 has none."""
        if self._minor == 1 and self._transport is not None and not self._is_full:
            self._service.plane.tick.write(self._transport, head.start + b"\r\n")

    # long answers

    def start_stream(self, leg: Leg) -> None:
        """A backend's answer whose body is still coming; what the leg has kept of it goes out first."""
        head = leg.head
        assert head is not None
        self._stream = leg
        self._chunks_out = False
        if head.framing == BY_LENGTH:
            framing = b"Content-Length: %d\r\n" % head.length
        elif self._minor == 1:
            framing, self._chunks_out = b"Transfer-Encoding: chunked\r\n", True
        else:
            framing, self._keep_alive = b"", False
        if self._is_full:
            leg.pause()
        if self._transport is not None:
            start = head.start + framing + self._connection_line() + b"\r\n"
            self._service.plane.tick.write(self._transport, start)
        kept, leg.body = leg.body, b""
        leg.answer_charge = None
        if kept:
            self.stream(kept)
            if not self._is_full:
                leg.resume()

    def stream(self, data: bytes) -> None:
        """A piece of its body."""
        if self._transport is not None:
            piece = b"%x\r\n%b\r\n" % (len(data), data) if self._chunks_out else data
            self._service.plane.tick.write(self._transport, piece)
            self._queued += len(piece)
            if self._queued > _STREAM_HIGH and self._stream is not None:
                # One iteration may read megabytes before the tick's write can say that the client is slow.
                self._queued = 0
                self._stream.pause()
                self._service.loop.call_soon(self._resume_stream)

    def _resume_stream(self) -> None:
        if self._stream is not None and not self._is_full:
            self._stream.resume()

    def end_stream(self, truncated: bool) -> None:
        """Its end. A truncated answer ends with the connection, so that the client can tell."""
        self._stream = None
        if truncated:
            self._keep_alive = False
            self._finish(b"")
        else:
            self._finish(b"0\r\n\r\n" if self._chunks_out else b"")

    def answer_kept(self, leg: Leg) -> None:
        """A long answer that ended before it could be passed on."""
        head = leg.head
        assert head is not None
        if leg.truncated:
            self.start_stream(leg)
            self.end_stream(True)
        else:
            self.answer(head, leg.body)
