"""What llhttp forgives and two readers could take in two ways: llhttp takes each of these, the proxy refuses it.

One case is told apart: trailers. llhttp hands them over as headers; the proxy reads them, refuses malformed ones, and
lets none of the others become a header.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Final, NamedTuple

import httptools
import pytest

from tests.http.rig import OFF, running
from tests.http.wire import until


class Lenient(NamedTuple):
    """name: as ARCHITECTURE.md has it; data: a request; status: the proxy's."""

    name: str
    data: bytes
    status: int


_CHUNKS: Final = b"2\r\nhi\r\n0\r\n\r\n"


def _request(*lines: bytes, line: bytes = b"POST /x HTTP/1.1", body: bytes = b"") -> bytes:
    return b"\r\n".join([line, *lines, b"", b""]) + body


TABLE: Final = [
    Lenient("two Hosts", _request(b"Host: a", b"Host: b", b"Content-Length: 0"), 400),
    Lenient("no Host", _request(b"Content-Length: 0"), 400),
    Lenient("TE: ,chunked", _request(b"Host: a", b"Transfer-Encoding: ,chunked", body=_CHUNKS), 400),
    Lenient("TE: gzip, chunked", _request(b"Host: a", b"Transfer-Encoding: gzip, chunked", body=_CHUNKS), 400),
    Lenient(
        "TE on HTTP/1.0",
        _request(b"Host: a", b"Transfer-Encoding: chunked", line=b"POST /x HTTP/1.0", body=_CHUNKS),
        400,
    ),
    Lenient("HTTP/0.9", _request(b"Host: a", line=b"GET /x HTTP/0.9"), 505),
    Lenient("HTTP/2.0 in HTTP/1's clothes", _request(b"Host: a", line=b"GET /x HTTP/2.0"), 505),
    Lenient("Content-Length: 010", _request(b"Host: a", b"Content-Length: 010", body=b"h" * 10), 400),
    Lenient("a header of 50 MB", _request(b"Host: a", b"X-A: " + b"a" * 50_000_000), 431),
    Lenient("200,000 headers", _request(b"Host: a", *[b"X: y"] * 200_000), 431),
    Lenient(
        "Upgrade ignores Content-Length",
        _request(b"Host: a", b"Connection: upgrade", b"Upgrade: x", b"Content-Length: 2", body=b"hi"),
        400,
    ),
    Lenient(
        "Upgrade ignores Transfer-Encoding",
        _request(b"Host: a", b"Connection: upgrade", b"Upgrade: x", b"Transfer-Encoding: chunked", body=_CHUNKS),
        400,
    ),
    Lenient(
        "malformed trailers", _request(b"Host: a", b"Transfer-Encoding: chunked", body=b"0\r\nX Y: z\r\n\r\n"), 400
    ),
]
LLHTTP_REFUSES: Final = {"malformed trailers"}


def test_the_list_in_the_architecture_is_this_one() -> None:
    text = (Path(__file__).parents[2] / "ARCHITECTURE.md").read_text()
    section = text.split("\n## What llhttp forgives\n", 1)[1].split("\n## ", 1)[0]
    listed: dict[int, list[str]] = defaultdict(list)
    for status, names in re.findall(r"^\| (\d{3}) \| (.*) \|$", section, re.MULTILINE):
        listed[int(status)] += re.findall(r"`([^`]+)`", names)
    assert listed == {each.status: [case.name for case in TABLE if case.status == each.status] for each in TABLE}


class Taken:
    """What llhttp tells of a request."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.is_head_read = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.is_head_read = True


def taken(data: bytes) -> Taken:
    """Feed llhttp; raises what it raises, but for an Upgrade, which is where it stops reading."""
    seen = Taken()
    parser = httptools.HttpRequestParser(seen)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        assert b"Upgrade: x" in data
    return seen


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
def test_llhttp_takes_it(case: Lenient) -> None:
    if case.name in LLHTTP_REFUSES:
        with pytest.raises(httptools.HttpParserError):
            taken(case.data)
    else:
        assert taken(case.data).is_head_read


@pytest.mark.asyncio
@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
async def test_the_proxy_refuses_it(case: Lenient) -> None:
    async with running(dials=OFF) as rig:
        wire = await rig.wire()
        answer = await wire.ask(case.data)
        assert (answer.status, answer.headers["connection"]) == (case.status, "close")
        wire.send(b"GET /after HTTP/1.1\r\nHost: a\r\n\r\n")
        assert await wire.is_cut()
        assert rig.old.received == rig.new.received == rig.other.received == b""


@pytest.mark.asyncio
async def test_a_trailer_never_becomes_a_header() -> None:
    start = _request(b"Host: a", b"Transfer-Encoding: chunked", body=b"2\r\nhi\r\n0\r\nHost: b\r\nX-Event-Id: e9\r\n")
    told = [name for name, _ in taken(start + b"\r\n").headers]
    assert told.count(b"Host") == 2, "llhttp tells them as headers"
    data = start + b"Content-Length: 9\r\nTransfer-Encoding: gzip\r\nAuthorization: c\r\n\r\n"
    async with running(dials=OFF) as rig:
        wire = await rig.wire()
        assert (await wire.ask(data)).status == 200
        assert (await wire.ask(_request(b"Host: a", line=b"GET /next HTTP/1.1"))).status == 200
        await until(lambda: len(rig.other.seen) == 2)
        head = rig.other.seen[0].head.lower()
        assert rig.other.seen[0].body == b"hi"
        assert head.count(b"\r\nhost: ") == head.count(b"\r\ncontent-length: 2\r\n") == 1
        assert not any(word in head for word in (b"transfer-encoding", b"e9", b"authorization", b"host: b"))
