"""The bytes of a request to a backend: the event's context, Crossfade's own headers, the framing, the body."""

from __future__ import annotations

from typing import Final

from proxy.http.forwarded import Origin
from proxy.http.head import RequestHead

_VIA: Final = b"Via: 1.1 crossfade\r\n"


def context_of(head: RequestHead, forwarded: bytes) -> bytes:
    """Request line and end-to-end headers as every backend gets them; `forwarded`: see `forwarded_lines`."""
    return b"%b %b HTTP/1.1\r\n%b%b" % (head.method, head.target, head.lines, forwarded)


def forwarded_lines(peer: str, scheme: bytes = b"http") -> bytes:
    """Header lines that say where the request came from, for a client's address and what it speaks to us."""
    return b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\n%b" % (peer.encode(), scheme, _VIA)


def origin_context(head: RequestHead, origin: Origin) -> bytes:
    """The same with the word of a hop that is believed."""
    lines = head.lines
    if origin.host:
        lines = lines.replace(b"X-Forwarded-Host: %b\r\n" % head.host, b"X-Forwarded-Host: %b\r\n" % origin.host, 1)
    forwarded = b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\n%b" % (origin.chain, origin.proto, _VIA)
    return b"%b %b HTTP/1.1\r\n%b%b" % (head.method, head.target, lines, forwarded)


def event_request(context: bytes, event_id: bytes, role: bytes, attempt: int, body: bytes) -> bytes:
    """A whole request that delivers an event. role: authority, copy or replay; attempt: from 1."""
    return b"%bX-Event-Id: %b\r\nX-Crossfade-Role: %b\r\nX-Crossfade-Attempt: %d\r\nContent-Length: %d\r\n\r\n%b" % (
        context,
        event_id,
        role,
        attempt,
        len(body),
        body,
    )


def streamed_request(context: bytes, event_id: bytes, length: int) -> bytes:
    """The beginning of a request whose body comes in pieces. length: bytes, -1 for chunks."""
    framing = b"Transfer-Encoding: chunked" if length < 0 else b"Content-Length: %d" % length
    return b"%bX-Event-Id: %b\r\nX-Crossfade-Role: authority\r\nX-Crossfade-Attempt: 1\r\n%b\r\n\r\n" % (
        context,
        event_id,
        framing,
    )


def plain_request(context: bytes, head: RequestHead, body: bytes) -> bytes:
    """A whole request that is passed through: framed when it has a body or its method expects one."""
    if body or head.length or head.chunked or head.method in (b"POST", b"PUT", b"PATCH"):
        return b"%b%bContent-Length: %d\r\n\r\n%b" % (context, head.id_line, len(body), body)
    return b"%b%b\r\n" % (context, head.id_line)
