"""Bytes that clients send: combinations written by hand, and generated ones that are right but for a little.

Each request has a number of its own in its target, so that what a server saw can be held against what was sent.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final, NamedTuple

FRAMINGS: Final = {
    "no framing": (),
    "length": (b"Content-Length: 5",),
    "length of zero": (b"Content-Length: 0",),
    "length too short": (b"Content-Length: 3",),
    "length too long": (b"Content-Length: 500",),
    "length twice": (b"Content-Length: 5", b"Content-Length: 5"),
    "two lengths": (b"Content-Length: 5", b"Content-Length: 0"),
    "list of lengths": (b"Content-Length: 5, 5",),
    "length with a sign": (b"Content-Length: +5",),
    "length with a zero before": (b"Content-Length: 05",),
    "length in hexadecimal": (b"Content-Length: 0x5",),
    "length with a space before its colon": (b"Content-Length : 5",),
    "length that is folded": (b"Content-Length:\r\n 5",),
    "chunked": (b"Transfer-Encoding: chunked",),
    "chunked in upper case": (b"TRANSFER-ENCODING: CHUNKED",),
    "chunked after a tab": (b"Transfer-Encoding:\tchunked",),
    "chunked after a vertical tab": (b"Transfer-Encoding: \x0bchunked",),
    "chunked after a comma": (b"Transfer-Encoding: ,chunked",),
    "chunked after identity": (b"Transfer-Encoding: identity, chunked",),
    "chunked before identity": (b"Transfer-Encoding: chunked, identity",),
    "chunked with a space before its colon": (b"Transfer-Encoding : chunked",),
    "chunked that is folded": (b"Transfer-Encoding:\r\n chunked",),
    "chunked that ends in NUL": (b"Transfer-Encoding: chunked\x00",),
    "chunked twice": (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    "chunked in CGI's spelling": (b"Transfer_Encoding: chunked",),
    "another coding": (b"Transfer-Encoding: xchunked",),
    "length, then chunked": (b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    "chunked, then length": (b"Transfer-Encoding: chunked", b"Content-Length: 15"),
    "length named by Connection": (b"Content-Length: 5", b"Connection: content-length"),
    "chunked on Upgrade": (b"Connection: upgrade", b"Upgrade: websocket", b"Transfer-Encoding: chunked"),
    "length on Upgrade": (b"Connection: upgrade", b"Upgrade: websocket", b"Content-Length: 5"),
    "Upgrade": (b"Connection: upgrade", b"Upgrade: websocket"),
    "chunked behind a bare LF": (b"X-A: b\nTransfer-Encoding: chunked",),
    "chunked behind a bare CR": (b"X-A: b\rTransfer-Encoding: chunked",),
    "length behind a NUL": (b"X-A: b\x00Content-Length: 5",),
}
BODIES: Final = {
    "nothing": b"",
    "five bytes": b"a=b&c",
    "chunks": b"5\r\na=b&c\r\n0\r\n\r\n",
    "chunks with extensions": b"005;a=b \r\na=b&c\r\n0;c\r\n\r\n",
    "chunks with a trailer": b"5\r\na=b&c\r\n0\r\nHost: b\r\nContent-Length: 7\r\n\r\n",
    "chunks that end in LF": b"5\na=b&c\n0\n\n",
    "a chunk with two spaces": b"5  \r\na=b&c\r\n0\r\n\r\n",
    "a chunk too short": b"4\r\na=b&c\r\n0\r\n\r\n",
    "a chunk with an underscore": b"0_5\r\na=b&c\r\n0\r\n\r\n",
    "a last chunk with bytes": b"0\r\n\r\n5\r\na=b&c",
}
HEADS: Final = {
    "HTTP/1.1": (b"POST /%d HTTP/1.1", b"Host: a"),
    "HTTP/1.0": (b"POST /%d HTTP/1.0", b"Host: a"),
    "HTTP/1.0 that is kept": (b"POST /%d HTTP/1.0", b"Host: a\r\nConnection: keep-alive"),
    "an event": (b"POST /events?%d HTTP/1.1", b"Host: a"),
    "GET": (b"GET /%d HTTP/1.1", b"Host: a"),
    "absolute-form": (b"PUT http://a/%d HTTP/1.1", b"Host: a"),
    "Expect": (b"POST /%d HTTP/1.1", b"Host: a\r\nExpect: 100-continue"),
    "two Hosts": (b"POST /%d HTTP/1.1", b"Host: a\r\nHost: a"),
    "asterisk-form": (b"OPTIONS * HTTP/1.1", b"Host: a%d"),
    "close": (b"POST /%d HTTP/1.1", b"Host: a\r\nConnection: close"),
}


class Sent(NamedTuple):
    """name: what it is; data: all that one client sends on one connection, before it ends its side."""

    name: str
    data: bytes


def after(number: int) -> bytes:
    """A harmless request: it must not be served when what stands before it was refused."""
    return b"GET /after/%d HTTP/1.1\r\nHost: a\r\n\r\n" % number


def hand_made() -> Iterator[Sent]:
    """Every head with every framing and every body that could go with it, and a request behind."""
    number = 0
    for head, (line, host) in HEADS.items():
        for framing, lines in FRAMINGS.items():
            bodies = BODIES if "chunked" in framing and head == "HTTP/1.1" else ("nothing", "five bytes", "chunks")
            for body in bodies:
                number += 1
                start = b"\r\n".join([line, host, *lines]).replace(b"%d", b"%d" % number)
                data = start + b"\r\n\r\n" + BODIES[body] + after(number)
                yield Sent(f"{head}, {framing}, {body}", data)


_METHODS: Final = [b"GET", b"POST", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"PATCH", b"PURGE"]
_TARGETS: Final = [b"/%d", b"/%d", b"/%d?a=b", b"//x/%d", b"/events?%d", b"http://a/%d", b"/%%41/../%d"]
_PLAIN: Final = [
    b"Accept: */*", b"X-A:b", b"X-A: \t b \t", b"X-A:", b"Via: 1.0 x", b"TE: trailers", b"Connection: keep-alive",
    b"Connection: x-a", b"X-Forwarded-For: 10.0.0.1", b"Content_Length: 9", b"Trailer: x", b"Cookie: a=\xe9",
]  # fmt: skip
_ODD: Final = [
    b"X-A : b", b"X-A: b\r\n c", b" X-A: b", b"X-A: b\x00", b"X-A", b": b", b"X-A: \x7f", b"Host: a", b"Expect: x",
    b"Connection: close", b"Connection: host", b"X\xe9: b", b"X-A: b\rc", b"X-A: b\nc",
]  # fmt: skip
_BYTES: Final = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"0",
    b"9",
    b"\x0b",
    b"\x80",
    b"\xff",
    b"a",
]
_RARE: Final = tuple(lines for name, lines in FRAMINGS.items() if name not in ("length", "chunked"))


def generated(seed: int, count: int) -> Iterator[Sent]:
    """Connections with `count` requests in all, one to four on each; the same for the same seed."""
    chance = random.Random(seed)
    number = 0
    while number < count:
        pieces = []
        for _ in range(min(chance.choice((1, 2, 2, 3, 4)), count - number)):
            number += 1
            pieces.append(_request(chance, number))
        yield Sent(f"seed {seed}, up to {number}", b"".join(pieces))


def _request(chance: random.Random, number: int) -> bytes:
    lines = [b"Host: a"]
    body = bytes(chance.choices(b"ab\r\n0;{}\xff", k=chance.choice((0, 1, 5, 40, 300))))
    choice = chance.random()
    if choice < 0.35:
        lines.append(b"Content-Length: %d" % len(body))
    elif choice < 0.65:
        lines.append(b"Transfer-Encoding: chunked")
        body = _chunked(chance, body)
    elif choice < 0.85:
        body = b""
    else:
        lines += chance.choice(_RARE)
        body = chance.choice(list(BODIES.values()))
    lines += chance.choices(_PLAIN, k=chance.choice((0, 0, 1, 3)))
    if chance.random() < 0.08:
        lines.append(chance.choice(_ODD))
    chance.shuffle(lines)
    data = b"\r\n".join([_line(chance, number), *lines]) + b"\r\n\r\n" + body
    return _damaged(chance, data) if chance.random() < 0.12 else data


def _line(chance: random.Random, number: int) -> bytes:
    target = (
        chance.choice((b"/%d", b"/%d", b"/%d?a=b", b"//x/%d", b"/events?%d", b"http://a/%d", b"/%%41/../%d")) % number
    )
    version = b"HTTP/1.0" if chance.random() < 0.05 else b"HTTP/1.1"
    return chance.choice(_METHODS) + b" " + target + b" " + version


def _chunked(chance: random.Random, body: bytes) -> bytes:
    out = b""
    while body:
        size = chance.randint(1, len(body))
        extension = chance.choice((b"", b"", b"", b";a", b' ;a="b"', b"\t;"))
        out += chance.choice((b"%x", b"%X", b"0%x")) % size + extension + b"\r\n" + body[:size] + b"\r\n"
        body = body[size:]
    return out + b"0\r\n" + chance.choice((b"", b"", b"X-T: u\r\n", b"Content-Length: 3\r\n")) + b"\r\n"


def _damaged(chance: random.Random, data: bytes) -> bytes:
    """A byte put in, taken out or exchanged, anywhere."""
    place = chance.randrange(len(data))
    kept = place + chance.choice((0, 1, 1))
    return data[:place] + chance.choice([*_BYTES, b""]) + data[kept:]
