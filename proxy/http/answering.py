"""The half of a client's connection that answers: whole answers, long ones in pieces, and our own.

How an answer's end is found depends on the request (its method and version) and on whether the connection goes on.
The other half, which reads, is `proxy.http.downstream`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from proxy.http.answers import accepted, duplicate, problem
from proxy.http.leg import Leg
from proxy.http.response_head import BY_LENGTH, ResponseHead

if TYPE_CHECKING:
    from proxy.http.service import Service

_STREAM_HIGH: Final = 256 * 1024


class Answering:
    """What answers need to know of a connection and of the request that is served; `_finish` is the other half's."""

    __slots__ = (
        "_chunks_out",
        "_is_full",
        "_keep_alive",
        "_method",
        "_minor",
        "_queued",
        "_service",
        "_stream",
        "_transport",
    )

    def __init__(self, service: Service) -> None:
        self._service = service
        self._transport: asyncio.Transport | None = None
        self._stream: Leg | None = None
        self._chunks_out = False
        self._is_full = False
        """The client does not read its answers."""
        self._keep_alive = True
        self._method = b""
        self._minor = 1
        self._queued = 0

    def _finish(self, data: bytes) -> None:
        """Write the end of an answer."""
        raise NotImplementedError

    # whole ones

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

    def answer_interim(self, head: ResponseHead) -> None:
        """An answer before the answer: its head alone. HTTP/1.0 has none."""
        if self._minor == 1 and self._transport is not None and not self._is_full:
            self._service.plane.tick.write(self._transport, head.start + b"\r\n")

    # long ones

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
                self._service.plane.tick.after(self._resume_stream)

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
