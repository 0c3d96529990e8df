"""The answers that are our own: refusals, 202, and failures of backends."""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus

import orjson

_PHRASES = {status.value: status.phrase for status in HTTPStatus}


@lru_cache(maxsize=256)
def problem(status: int, detail: str, retry_after: int = 0, close: bool = False) -> bytes:
    """A whole response with a problem+json body (RFC 9457). retry_after: seconds, 0 for none."""
    title = _PHRASES.get(status, "")
    body = orjson.dumps({"title": title, "status": status, "detail": detail})
    lines = [
        f"HTTP/1.1 {status} {title}",
        "Content-Type: application/problem+json",
        f"Content-Length: {len(body)}",
    ]
    if retry_after:
        lines.append(f"Retry-After: {retry_after}")
    if close:
        lines.append("Connection: close")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def accepted(event_id: str, status: int, close: bool) -> bytes:
    """The event is durable and will be delivered. status: 202, or what the route says instead."""
    if status == 204:
        return b"HTTP/1.1 204 No Content\r\n%b\r\n" % (b"Connection: close\r\n" if close else b"")
    body = orjson.dumps({"accepted": event_id})
    ending = b"Connection: close\r\n\r\n" if close else b"\r\n"
    start = f"HTTP/1.1 {status} {_PHRASES[status]}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return start.encode() + ending + body


def duplicate(event_id: str, status: int, close: bool) -> bytes:
    """The status (2xx) of the first event of this id, and that this is not its own answer."""
    body = b"" if status in (204, 205) else orjson.dumps({"duplicate": event_id})
    lines = [f"HTTP/1.1 {status} {_PHRASES.get(status, '')}", f"X-Crossfade-Duplicate: {status}"]
    if body:
        lines.append("Content-Type: application/json")
    if status != 204:
        lines.append(f"Content-Length: {len(body)}")
    if close:
        lines.append("Connection: close")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@lru_cache(maxsize=16)
def upgrade_required(detail: str) -> bytes:
    """426: this is for WebSocket, version 13 (RFC 6455, 4.2.2)."""
    head, _, body = problem(426, detail).partition(b"\r\n\r\n")
    return head + b"\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\nSec-WebSocket-Version: 13\r\n\r\n" + body


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
