"""Every limit of the section `limits`, one below, at it, and one above: the status, and whether it is served.

Sizes and counts are in bytes, lines and connections; times are looked at by the clock that the limit counts from.
"""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import pytest

from config.model import Limits
from proxy.http.budget import CONNECTION, TIMES_HELD
from proxy.http.downstream import Client
from proxy.http.listener import Listener
from proxy.http.rejection import Rejections
from proxy.ledger.shape import as_protocol
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
    alone = {"max_connections", "max_decoded_size", "memory"}  # what fills the memory: tests/http/test_memory.py
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
        with listener(rig) as port:
            for count in range(1, 5 + over):
                wire = await Wire.open(port)
                rig.wires.append(wire)
                if count <= 4:  # each is there before the next one comes
                    assert (await wire.ask(GET)).status == 200
            await served(rig, rig.wires[:4])
            for beyond in rig.wires[4:]:
                answer = await beyond.ask(GET)
                shown = {name: answer.headers[name] for name in ("retry-after", "connection")}
                assert (answer.status, shown) == (503, {"retry-after": "1", "connection": "close"})
                assert await beyond.is_cut()
            assert len(rig.other.seen) == 2 * min(4 + over, 4)
            assert rig.plane.counters.get("refused_connections", 0) == max(over, 0)


@pytest.mark.asyncio
async def test_a_burst_beyond_the_number_of_clients_is_answered_as_well() -> None:
    """All at once: who was accepted and is not counted yet has a place, too."""
    async with running(dials=OFF, limits={"max_connections": 4}) as rig:
        with listener(rig) as port:
            rig.wires = [*await asyncio.gather(*[Wire.open(port) for _ in range(12)])]
            for wire in rig.wires:
                wire.send(GET)
            statuses = [(await wire.answer("GET")).status for wire in rig.wires]
            assert sorted(statuses) == [200] * 4 + [503] * 8


@contextmanager
def listener(rig: Rig) -> Iterator[int]:
    """A worker's listener in front of a rig; its port."""
    loop = asyncio.get_running_loop()
    listening = socket.create_server(("127.0.0.1", 0))
    rejections = Rejections(loop, rig.service.has_room, rig.plane.count)
    made = Listener(loop, listening, lambda: as_protocol(Client(rig.service)), lambda: None, rejections=rejections)
    made.start()
    try:
        yield listening.getsockname()[1]
    finally:
        made.close()
        rejections.close()


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
@pytest.mark.parametrize("over", [-1, 0, 1])
@pytest.mark.parametrize("is_announced", [True, False], ids=["announced", "at once"])
async def test_the_memory(is_announced: bool, over: int) -> None:
    """With one connection, which stands for a flat sum, and a body.

    An announced body needs its length, and a whole one is held several times while it is on its way.
    """
    room = 64 * 1024 - CONNECTION
    assert room % TIMES_HELD == 0
    async with running(dials=OFF, limits={"memory": "64KiB"}) as rig:
        wire = await rig.wire()
        if is_announced:
            head = b"POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
            answer = await wire.ask(head % (room + over))
        else:
            answer = await wire.ask(_post(room // TIMES_HELD + over))
        if over <= 0:
            assert answer.status == (100 if is_announced else 200)
            return
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert answer.detail == "this instance is out of memory for requests"
        assert rig.other.received == b""
        assert (await rig.ask(GET)).status == 200, "what needs less is served"


@pytest.mark.asyncio
@pytest.mark.parametrize(("over", "status"), [(-1, 200), (0, 200), (1, 400)])
async def test_a_compressed_body_is_read_up_to_its_limit(over: int, status: int) -> None:
    text = b'{"key":"k","pad":"'
    text += b"p" * (1000 + over - len(text) - 2) + b'"}'
    body = gzip.compress(text)
    head = b"POST /events HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with running(make_route(key_missing="reject"), dials=OFF, limits={"max_decoded_size": "1000B"}) as rig:
        assert (await rig.ask(head + body)).status == status
