"""One connection: a request out, its answer in, and every reset and every missing answer is seen.

Client libraries open connections again and retry behind one's back; a proof must not. Answers are read as strictly
as the proxy reads those of its backends.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

from proxy.http.chunked import BadChunk, ChunkedBody
from proxy.http.response_head import BY_CHUNKS, BY_CLOSE, BY_LENGTH, NO_BODY, ResponseHead, ResponseHeads

if TYPE_CHECKING:
    from proxy.load.generator import Lane

_MAX_HEAD: Final = 64 * 2**10

REFUSED: Final = "refused"
RESET: Final = "reset"
ENDED: Final = "ended"
GARBLED: Final = "garbled"
TIMEOUT: Final = "timeout"
UNSENT: Final = "unsent"
CLOSED: Final = "closed"
FAILURES: Final = {
    REFUSED: "no connection could be opened, or no session",
    RESET: "the connection broke",
    ENDED: "the target closed the connection without a whole answer",
    GARBLED: "what came was no valid answer",
    TIMEOUT: "no whole answer in time",
    CLOSED: "the session was closed before the message was confirmed",
    UNSENT: "waited too long for a connection that was free, and was not sent",
}
"""Why an event has no answer."""


class Wire(asyncio.Protocol):
    """One TCP or TLS connection of a lane. heads: shared by all, for answers' heads repeat."""

    __slots__ = (
        "_body",
        "_buffer",
        "_chunks",
        "_head",
        "_heads",
        "_is_over",
        "_is_waiting",
        "_lane",
        "_transport",
        "_was_used",
    )

    def __init__(self, lane: Lane, heads: ResponseHeads) -> None:
        self._lane = lane
        self._heads = heads
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._head: ResponseHead | None = None
        self._body = bytearray()
        self._chunks: ChunkedBody | None = None
        self._is_waiting = False
        self._is_over = False
        self._was_used = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, for uvloop's transports do not derive from asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes) -> None:
        """Send a request; nothing else is under way."""
        assert self._transport is not None
        self._is_waiting = True
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        heads = self._heads
        if self._is_waiting and self._head is None and not self._buffer and data.startswith(heads.last):
            # Nearly every answer: a head like the last one, and its whole body with it.
            head = heads.last_head
            if head.framing == BY_LENGTH and len(data) - len(heads.last) == head.length:
                self._finish(head, data[len(heads.last) :])
                return
        if self._is_over:
            return
        if not self._is_waiting:
            self._break(GARBLED)  # such as a 408 to a connection that was idle
            return
        if self._head is None:
            self._read_head(self._buffer + data)
        else:
            self._read_body(self._head, data)

    def _read_head(self, data: bytes) -> None:
        while (stop := data.find(b"\r\n\r\n")) >= 0:
            head = self._heads.parse(data[:stop])
            data = data[stop + 4 :]
            if head is None or head.status == 101:
                self._break(GARBLED)
                return
            if head.status >= 200:
                self._buffer = b""
                self._head = head
                self._chunks = ChunkedBody() if head.framing == BY_CHUNKS else None
                self._read_body(head, data)
                return
        self._buffer = data
        if len(data) > _MAX_HEAD:
            self._break(GARBLED)

    def _read_body(self, head: ResponseHead, data: bytes) -> None:
        if self._chunks is not None:
            try:
                self._body += self._chunks.feed(data)
            except BadChunk:
                self._break(GARBLED)
                return
            is_whole, is_too_much = self._chunks.done, bool(self._chunks.rest)
        else:
            self._body += data
            length = 0 if head.framing == NO_BODY else head.length
            is_whole = head.framing != BY_CLOSE and len(self._body) >= length
            is_too_much = is_whole and len(self._body) > length
        if is_too_much:
            self._break(GARBLED)
        elif is_whole:
            self._finish(head, bytes(self._body))

    def _finish(self, head: ResponseHead, body: bytes) -> None:
        """The answer is whole."""
        if self._body:
            self._body = bytearray()
        self._head = self._chunks = None
        self._is_waiting = False
        self._was_used = True
        if not head.keep_alive:
            self.close()
        self._lane.answered(head, body, is_open=head.keep_alive)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_over:
            return
        head = self._head
        if head is not None and head.framing == BY_CLOSE and exc is None:
            self._finish(head, bytes(self._body))
        else:
            self._break(ENDED if exc is None else RESET)

    def _break(self, kind: str) -> None:
        # A server may close an idle connection at the moment of a new request, which it then has not seen.
        is_untouched = self._was_used and self._is_waiting and self._head is None and not self._buffer
        was_waiting = self._is_waiting
        self.close()
        self._lane.broke(kind if was_waiting else "", is_untouched=is_untouched and kind == ENDED)

    def close(self) -> None:
        """Close it without a word."""
        self._is_over = True
        self._is_waiting = False
        if self._transport is not None:
            self._transport.abort()
