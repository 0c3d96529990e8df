"""Every limit of the section `limits`, one below, at it, and one above: the status, and whether it is served.

Sizes and counts are in bytes, lines and connections; times are looked at by the clock that the limit counts from.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Final, NamedTuple

import pytest

from config.model import Limits
from tests.http.backend import BackendConnection
from tests.http.rig import OFF, Rig, make_route, running
from tests.http.wire import Wire, until

GET: Final = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
SIZES: Final = {"max_event_size": "100B", "max_head_size": "200B", "max_headers": 5, "max_target_size": "50B"}
TIMES: Final = {"head_timeout": "5s", "body_timeout": "7s", "keepalive_timeout": "9s"}
TICK: Final = 0.001


class Sized(NamedTuple):
    """limit: the key; at: its value; make: a request of so many bytes or lines; status: when it is more."""

    limit: str
    name: str
    at: int
    make: Callable[[int], bytes]
    status: int


def _post(length: int) -> bytes:
    return b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % length + b"b" * length


def _chunked(length: int, size: int) -> bytes:
    """A body of chunks of `size` bytes."""
    pieces = [min(size, length - start) for start in range(0, length, size)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (each, b"b" * each) for each in pieces)
    return b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


def _head(size: int) -> bytes:
    start = b"GET /x HTTP/1.1\r\nHost: a\r\nX-Pad: "
    return start + b"p" * (size - len(start)) + b"\r\n\r\n"


def _lines(count: int) -> bytes:
    return b"GET /x HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * (count - 1) + b"\r\n"


def _target(size: int) -> bytes:
    return b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"t" * (size - 1))


def _extension(size: int) -> bytes:
    line = b"1;" + b"e" * (size - 2)
    return b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + line + b"\r\nb\r\n0\r\n\r\n"


def _trailers(size: int) -> bytes:
    """So many bytes without their ends, in sixteen lines."""
    sizes = [1024] * 15 + [size - 15 * 1024]
    lines = b"".join(b"T:" + b"u" * (each - 2) + b"\r\n" for each in sizes)
    return b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + lines + b"\r\n"


SIZED: Final = [
    Sized("max_event_size", "with a length", 100, _post, 413),
    Sized("max_event_size", "in one chunk", 100, lambda n: _chunked(n, 1000), 413),
    Sized("max_event_size", "in chunks of a byte", 100, lambda n: _chunked(n, 1), 413),
    Sized("max_head_size", "one long line", 200, _head, 431),
    Sized("max_headers", "short lines", 5, _lines, 431),
    Sized("max_target_size", "a path", 50, _target, 414),
    Sized("", "a chunk's line of 4 KiB", 4096, _extension, 400),
    Sized("", "trailers of 16 KiB", 16 * 1024, _trailers, 400),
]
TIMED: Final = {
    "head_timeout": (b"GET /x HT", 5, 408),
    "body_timeout": (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx", 7, 408),
    "keepalive_timeout": (b"", 9, 0),
}


def test_every_limit_is_in_a_table() -> None:
    alone = {"max_connections", "max_decoded_size", "memory"}  # memory: tests/http/test_memory.py
    tables = {each.limit for each in SIZED if each.limit} | TIMED.keys() | alone
    assert tables == set(Limits.model_fields)


@pytest.mark.asyncio
@pytest.mark.parametrize("is_whole", [True, False], ids=["at once", "in two pieces"])
@pytest.mark.parametrize("over", [-1, 0, 1])
@pytest.mark.parametrize("sized", SIZED, ids=lambda sized: f"{sized.limit} {sized.name}".strip())
async def test_a_size(sized: Sized, over: int, is_whole: bool) -> None:
    async with running(dials=OFF, limits=SIZES) as rig:
        wire = await rig.wire()
        data = sized.make(sized.at + over)
        if not is_whole:
            wire.send(data[:-3])
            await until(lambda: any(each._buffer or each._head or each._is_closing for each in rig.service.clients))
        answer = await wire.ask(data if is_whole else data[-3:])
        if over <= 0:
            assert answer.status == 200
            assert (await wire.ask(GET)).status == 200
            assert len(rig.other.seen) == 2
        else:
            assert (answer.status, answer.headers["connection"]) == (sized.status, "close")
            assert await wire.is_cut()
            assert rig.other.received == b""
            assert rig.plane.counters[f"refused_{sized.status}"] == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("over", [-TICK, 0.0, TICK])
@pytest.mark.parametrize("limit", TIMED)
async def test_a_time(limit: str, over: float) -> None:
    part, at, status = TIMED[limit]
    async with running(dials=OFF, limits=TIMES) as rig:
        wire = await rig.wire()
        assert (await wire.ask(GET)).status == 200
        (client,) = rig.service.clients
        if part:
            wire.send(part)
            await until(lambda: client._buffer or client._head is not None, "received")
        client.since = 1000.0  # exact in binary, as the sums below are not where a clock has been running for long
        client.check_time(1000.0 + at + over)
        assert client._is_closing == (over > 0)
        if over <= 0:
            return
        if status:
            answer = await wire.answer()
            assert (answer.status, answer.headers["connection"]) == (status, "close")
        assert await wire.is_cut()
        assert len(rig.other.seen) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("over", [-1, 0, 1])
async def test_the_number_of_connections(over: int) -> None:
    async with running(dials=OFF, limits={"max_connections": 4}) as rig:
        wires = [await rig.wire() for _ in range(4 + over)]
        await served(rig, wires[:4])
        for beyond in wires[4:]:
            assert await beyond.is_cut(), "no status: an answer would need the memory that the limit is there to bound"
        assert rig.plane.counters.get("refused_connections", 0) == max(over, 0)


async def served(rig: Rig, wires: list[Wire]) -> None:
    """All of these at the same time."""
    held: list[BackendConnection] = []
    rig.other.behave = lambda seen, connection: held.append(connection)
    for wire in wires:
        wire.send(GET)
    await until(lambda: len(held) == len(wires), "all are asked for")
    for connection in held:
        connection.write(b"HTTP/1.1 204 X\r\n\r\n")
    assert [(await wire.answer("GET")).status for wire in wires] == [204] * len(wires)


@pytest.mark.asyncio
@pytest.mark.parametrize(("over", "status"), [(-1, 200), (0, 200), (1, 400)])
async def test_a_compressed_body_is_read_up_to_its_limit(over: int, status: int) -> None:
    text = b'{"key":"k","pad":"'
    text += b"p" * (1000 + over - len(text) - 2) + b'"}'
    body = gzip.compress(text)
    head = b"POST /events HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with running(make_route(key_missing="reject"), dials=OFF, limits={"max_decoded_size": "1000B"}) as rig:
        assert (await rig.ask(head + body)).status == status
