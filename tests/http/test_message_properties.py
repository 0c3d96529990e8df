"""h11 as a second opinion on whole messages: what both of us read we read in the same way, body and end included."""

from __future__ import annotations

import random
from typing import Final

import h11
import pytest

from proxy.http.chunked import BadChunk, ChunkedBody
from proxy.http.response_head import BY_CHUNKS, BY_CLOSE, BY_LENGTH, parse_response_head
from tests.boundary.messages import generated
from tests.boundary.reference import Limits, Request, read

LIMITS: Final = Limits(10**6, 16_384, 100, 8192)


def by_h11(data: bytes) -> tuple[list[Request], bool]:
    """The requests that h11 finds in a client's bytes, and whether it found fault with what follows them."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    connection.receive_data(b"")
    found: list[Request] = []
    head, body = h11.Request(method="GET", target="/", headers=[("Host", "none")]), b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                head, body = event, b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                found.append(Request(head.method, head.target, body))
                connection.send(h11.Response(status_code=204, headers=[]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is h11.MUST_CLOSE:
                    return found, False
                connection.start_next_cycle()
            else:
                return found, False
    except h11.RemoteProtocolError:
        return found, True


def test_whole_requests_are_those_that_h11_reads(soak: bool) -> None:
    """Ours is the tests' own reader, with which the daemon and every server behind it agree (tests.boundary)."""
    compared = 0
    for sent in generated(7, 100_000 if soak else 3000):
        ours = read(sent.data, LIMITS)
        theirs, _ = by_h11(sent.data)
        for mine, other in zip(ours.requests, theirs, strict=False):
            assert mine.method == other.method, sent
            assert other.target.endswith(mine.target), sent
            assert mine.body == other.body, sent
            compared += 1
    assert compared > 1000


def _response(chance: random.Random) -> bytes:
    body = bytes(chance.choices(b"ab\r\n0;\xff", k=chance.choice((0, 1, 9, 200))))
    status = chance.choice((b"200 OK", b"204 No Content", b"304 Not Modified", b"404 X", b"500 "))
    lines, data = [b"X-A: b"], body
    framing = chance.choice(("length", "chunks", "close", "odd"))
    if framing == "length":
        lines.append(b"Content-Length: %d" % (len(body) + chance.choice((0, 0, 0, 1, -1) if body else (0,))))
    elif framing == "chunks":
        lines.append(b"Transfer-Encoding: chunked")
        size = b"%x" % len(body) + chance.choice((b"", b"", b";a=b", b" "))
        data = (
            (size + b"\r\n" + body + b"\r\n" if body else b"") + b"0\r\n" + chance.choice((b"", b"T: u\r\n")) + b"\r\n"
        )
    elif framing == "odd":
        lines += chance.choice(([b"Content-Length: 2", b"Content-Length: 2"], [b"Transfer-Encoding: gzip"], [b"A : b"]))
    out = b"\r\n".join([b"HTTP/1." + chance.choice((b"1", b"1", b"0")) + b" " + status, *lines, b"", b""]) + data
    if chance.random() < 0.1:
        place = chance.randrange(len(out))
        out = out[:place] + chance.choice((b"\r", b"\n", b"\0", b" ", b"1", b"")) + out[place + 1 :]
    return out


def by_us(data: bytes) -> tuple[int, bytes] | None:
    """Status and body of a whole answer; None when it is malformed or not whole."""
    raw, end, rest = data.partition(b"\r\n\r\n")
    head = parse_response_head(raw) if end else None
    if head is None or head.status < 200:
        return None
    if head.framing == BY_CHUNKS:
        chunks = ChunkedBody()
        try:
            body = chunks.feed(rest)
        except BadChunk:
            return None
        return (head.status, body) if chunks.done else None
    if head.framing == BY_LENGTH:
        return (head.status, rest[: head.length]) if len(rest) >= head.length else None
    return head.status, rest if head.framing == BY_CLOSE else b""


def answer_by_h11(data: bytes) -> tuple[int, bytes] | None:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    connection.receive_data(b"")
    status, body = 0, b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return status, body
            elif not isinstance(event, h11.InformationalResponse):
                return None
    except h11.RemoteProtocolError:
        return None


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_whole_answers_are_those_that_h11_reads(seed: int, soak: bool) -> None:
    chance = random.Random(seed)
    both = 0
    for _ in range(50_000 if soak else 2000):
        data = _response(chance)
        ours, theirs = by_us(data), answer_by_h11(data)
        if ours is not None and theirs is not None:
            assert ours == theirs, data
            both += 1
    assert both > 500
