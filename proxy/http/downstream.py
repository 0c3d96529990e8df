r"""A client's connection: requests in, answers out in the same order, one request at a time.

    bytes --> head --> body (buffered, bounded) --> DataPlane.begin --> answer | stream --> next request
                  \--> body in pieces --> DataPlane.begin_upload --> answer | stream --> next request

Pipelined requests wait in the buffer, which is bounded by not reading on; so do events of one
connection behind each other, which keeps their answers in order without a queue.

How answers are written is in `proxy.http.answering`. Long all the same, because it is one owner of one connection's
state, on the way of every event: what reads, what waits and what closes decide by the same dozen fields.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol, cast

from proxy.core.contribution import Contribution, pair
from proxy.http.answering import Answering
from proxy.http.answers import CONTINUE, problem
from proxy.http.budget import CONNECTION, PIECE, SMALL, TLS_CONNECTION
from proxy.http.chunked import BadChunk
from proxy.http.head import Refusal, RequestHead, refuse_request_line
from proxy.http.request import context_of, forwarded_lines, origin_context
from proxy.http.request_body import RequestBody
from proxy.http.tick import End
from proxy.net.kernel import unacknowledged

if TYPE_CHECKING:
    from proxy.http.claim import Claim
    from proxy.http.exchange import Exchange
    from proxy.http.passing import Passing
    from proxy.http.service import Service
    from proxy.http.uploading import Upload

_FIRST: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]|\r\n?")
_BARE: Final = re.compile(rb"(?<!\r)\n|\r(?!\n)(?!$)|\x00")
_PIPELINE_HIGH: Final = 64 * 1024
_LINGER: Final = 1.0
"""Seconds."""
_ENDLESS: Final = 1.0
"""Seconds after which a chunked body is taken for one without an end, where such are passed on."""
_WRITE_HIGH: Final = 16 * 1024
"""Bytes of answers that a client may leave unread before they are counted and nothing more is written."""
_HURRY: Final = 0.1
"""Share of its time that a slow client has while the memory budget is used up."""


class Upgrading(Protocol):
    """What takes the connection over when it is to speak another protocol, until it does."""

    def client_gone(self) -> None:
        """The client left before that."""


class Client(Answering):
    """One client connection: a `StreamProtocol`, as asyncio's protocols are by shape."""

    __slots__ = (
        "_body",
        "_buffer",
        "_context",
        "_contributions",
        "_context_head",
        "_counted",
        "_current",
        "_head",
        "_incoming",
        "_is_closing",
        "_is_ended",
        "_is_expected",
        "_is_paused",
        "_is_tls",
        "_received",
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
        Answering.__init__(self, service)
        self._is_tls = is_tls
        self._buffer = b""
        self._head: RequestHead | None = None
        self._body: list[bytes] = []
        self._incoming: RequestBody | None = None
        """The body of `_head`, or of `_upload`."""
        self._upload: Upload | None = None
        """What the rest of the body is passed on to."""
        self._current: Exchange | Passing | Claim | Upgrading | None = None
        self.is_busy = False
        self._is_closing = False
        self._is_ended = False
        self._is_expected = False
        """Another worker has it, and there is room for it here."""
        self._is_paused = False
        self.since = 0.0
        """When the last thing happened that a limit counts from, monotonic seconds."""
        self.peer = ""
        """The client's address: of the connection, or what a hop that is believed says of this request."""
        self._contributions: dict[int, list[Contribution]] = {}
        """By the index of a route, then by side: what this connection contributes to its test of failures."""
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
        if not self._is_expected and len(service.clients) + service.others >= service.most_clients:
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
        if not self._is_expected:
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
        is_short = self._service.budget.is_short
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
                self.spoil(408, "nothing came of the request body for too long")
                return True
        elif self._head is not None:
            if self._is_endless(now - self.since):
                self._begin_upload()
            elif waited > limits.body_timeout:
                if is_short:
                    self._shed_body(self._head)
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
        self._buffer = b""
        self._count()
        if self._transport is not None:
            self._read_on()  # what a client still sends is dropped: unread, it would keep that one from its answer
            self._service.plane.tick.end(self._transport, End.CLOSE if self._is_tls or self._is_ended else how)

    # another protocol

    @property
    def has_more(self) -> bool:
        """Has it sent more than the request that is served?"""
        return bool(self._buffer) or self._is_ended

    def hand_over(self) -> asyncio.Transport:
        """Give the connection to another protocol: this is not its client any more."""
        transport, self._transport = self._transport, None
        assert transport is not None
        self._current = None
        self._is_closing = True
        self._service.clients.discard(self)
        self._service.budget.connected(-(TLS_CONNECTION if self._is_tls else CONNECTION))
        return transport

    def let_go_of(self, upgrading: Upgrading) -> None:
        """It came to nothing, and its request is answered in HTTP."""
        if self._current is upgrading:
            self._current = None

    def answer_raw(self, answer: bytes) -> None:
        """An answer of our own, whole."""
        self._finish_own(answer)

    # another worker

    @property
    def transport(self) -> asyncio.Transport | None:
        """The connection, while it is this client's."""
        return self._transport

    @property
    def is_tls(self) -> bool:
        """Does it speak TLS?"""
        return self._is_tls

    @property
    def is_sourced(self) -> bool:
        """Is it no client at all, but the lane of a source, without a network?"""
        return self._transport is not None and self._transport.get_extra_info("socket") is None

    @property
    def is_movable(self) -> bool:
        """Could it go on as another worker's? What speaks TLS has keys that stay here."""
        if self._transport is None or self._is_tls or self._is_closing or self._is_ended or not self._keep_alive:
            return False
        return not self.is_sourced

    @property
    def is_between(self) -> bool:
        """Is no request begun, as far as its bytes were looked at, and all that it was answered on its way?"""
        return not self.is_busy and self._head is None and self.is_written

    @property
    def is_written(self) -> bool:
        """Has everything for it left this process?"""
        return self._transport is not None and self._service.plane.tick.has_written(self._transport)

    def freeze(self) -> None:
        """Serve nothing and read nothing until `thaw`. As one that is served, it is left alone by every limit."""
        self.is_busy = True
        self.hold()

    def thaw(self) -> None:
        """It stays: go on where it was frozen."""
        self.is_busy = False
        self.since = monotonic()
        if self._transport is not None:
            self._service.loop.call_soon(self._go_on)

    @property
    def unserved(self) -> bytes:
        """What was read of it and belongs to requests that were not begun."""
        return self._buffer

    def expect(self, unserved: bytes, since: float) -> None:
        """Before its connection is made: so many bytes of it were read by another worker, and there is room for it.

        since: when it was heard of last
        """
        self._buffer = unserved
        self.since = since
        self._is_expected = True

    def arrive(self) -> None:
        """Its connection is made: go on where the other worker stopped."""
        self._count()
        if not self.is_busy:
            self._go_on()

    @property
    def contributions(self) -> dict[int, list[Contribution]]:
        """By the index of a route: what it contributes to that one's test, by side."""
        return self._contributions

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

    def _shed_body(self, head: RequestHead | None) -> None:
        """A body cannot be taken, or not any further."""
        self._service.plane.shed_body(head)
        self._refuse(503, "this instance is out of memory for requests")

    # requests

    def data_received(self, data: bytes) -> None:
        if self._is_closing:
            return
        if self.is_busy or (self._is_full and self._head is None):
            if self._upload is not None:
                self.since = monotonic()
                self._upload.receive(data)
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
            self._shed_body(head)
            return
        self._head = head
        self._incoming = RequestBody(head)
        if head.expects_continue and not rest and self._transport is not None:
            service.plane.tick.write(self._transport, CONTINUE)  # after the answers before it
        self.since = monotonic()
        if length > service.max_event_size:
            self._begin_upload(rest)
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
        self._received += len(data) + PIECE
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
                self._shed_body(self._head)

    def _refuse_length(self) -> None:
        self._refuse(413, f"the body is longer than {self._service.max_event_size} bytes")

    # a body that is passed on as it comes

    def _is_endless(self, waited: float) -> bool:
        """Is this body to be passed on before it is whole?"""
        head = self._head
        return head is not None and head.chunked and waited > _ENDLESS and self._service.plane.streams(head)

    def _begin_upload(self, rest: bytes = b"") -> None:
        """Pass on what there is of the body, and what comes. rest: received and not looked at yet."""
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
        upload = self._service.plane.begin_upload(self, head, incoming)
        if upload is None or not self.is_busy:
            return
        self._current = self._upload = upload
        upload.keep_alive = keep_alive
        upload.take_over(kept, rest)

    def upload_is_whole(self, rest: bytes, keep_alive: bool) -> None:
        """The upload has all of its body. rest: the bytes after it; keep_alive: the connection may go on."""
        self._upload = self._incoming = None
        self._buffer = rest
        if self._stream is None:
            is_last = self._service.is_draining or (self._is_ended and not rest)
            self._keep_alive = keep_alive and not is_last

    def once_written(self, callback: Callable[[], None]) -> None:
        """Call when what was passed on so far was written."""
        self._service.plane.tick.after(callback)

    def hold(self) -> None:
        """The upload takes no more for now."""
        if not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()

    def proceed(self) -> None:
        """It takes more again."""
        self.since = monotonic()
        self._read_on()

    def _read_on(self) -> None:
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

    def spoil(self, status: int, reason: str) -> None:
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
        if not head.keep_alive or self._service.is_draining or (self._is_ended and not self._buffer):
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

    def contributions_to(self, route: int) -> list[Contribution]:
        """By side, what this connection contributes to the test of a route's failures. route: its index."""
        found = self._contributions.get(route)
        if found is None:
            found = self._contributions[route] = pair()
        return found

    # after an answer

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
        if not self._keep_alive or service.is_ending or (self._is_ended and not self._buffer):
            if service.leaving is not None and self.is_movable:
                self.freeze()
                service.leaving(self)
            else:
                self._close(End.LINGER)  # nor may a request behind it
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
        if self._is_paused and len(self._buffer) <= _PIPELINE_HIGH:
            self._read_on()

    def _end_unless_busy(self) -> None:
        """The client has sent all it will, so the rest of a partial request will not come."""
        if self._upload is not None:
            self._break_off()
        elif not self.is_busy and not self._is_closing:
            self._close()
