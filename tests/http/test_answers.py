"""Backends' answers: framing, what is refused, answers in pieces, memory and pace."""

from __future__ import annotations

import asyncio

import pytest

from proxy.core.event import NEW, OLD
from proxy.core.routing import Dials
from tests.http.backend import BackendConnection, Seen, always, reply
from tests.http.rig import LIVE, OFF, event_bytes, key_for, make_route, running
from tests.http.wire import Answer, until

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"


def get(method: str = "GET", version: str = "1.1", headers: str = "") -> bytes:
    return f"{method} /x HTTP/{version}\r\nHost: a\r\n{headers}\r\n".encode()


async def answer_to(data: bytes, request: bytes = GET, method: str = "GET") -> tuple[Answer, bool]:
    """What a client gets of these bytes of a backend, and whether the backend's connection is used again."""
    async with running(dials=OFF) as rig:
        rig.other.behave = always(data)
        wire = await rig.wire()
        answer = await wire.ask(request, method)
        rig.other.behave = always(reply(200))
        assert (await (await rig.wire()).ask(GET)).status == 200
        await rig.settled()
        return answer, len(rig.other.connections) == 1


GOOD = {
    "a length": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", True),
    "a length of zero": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, b"", True),
    "the same length twice": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", True),
    "chunks": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n1;x\r\ni\r\n0\r\nT: u\r\n\r\n",
        200,
        b"hi",
        True,
    ),
    "no reason": (b"HTTP/1.1 404\r\nContent-Length: 2\r\n\r\nhi", 404, b"hi", True),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
    "304 with a length": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, b"", True),
    "the backend closes": (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", False),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", False),
    "HTTP/1.0 that is kept": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi",
        200,
        b"hi",
        True,
    ),
    "more than its length": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\n", 200, b"hi", False),
    "more than its chunks": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n",
        200,
        b"",
        False,
    ),
    "a body on 204": (b"HTTP/1.1 204 No Content\r\n\r\nhi", 204, b"", False),
    "interim answers before": (
        b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 E\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        200,
        b"hi",
        True,
    ),
    "twenty thousand interim answers": (
        b"HTTP/1.1 100 C\r\n\r\n" * 20_000 + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        200,
        b"hi",
        True,
    ),
    "an unknown status": (b"HTTP/1.1 499 Odd\r\nContent-Length: 0\r\n\r\n", 499, b"", True),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("case", GOOD.values(), ids=GOOD)
async def test_an_answer_is_passed_on(case: tuple[bytes, int, bytes, bool]) -> None:
    data, status, body, is_reused = case
    answer, was_reused = await answer_to(data)
    assert (answer.status, answer.body) == (status, body)
    assert was_reused == is_reused


BAD = {
    "not HTTP": b"SSH-2.0-x\r\n\r\n",
    "HTTP/2": b"HTTP/2.0 200 OK\r\n\r\n",
    "status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "status above 599": b"HTTP/1.1 600 OK\r\n\r\n",
    "status below 100": b"HTTP/1.1 099 OK\r\n\r\n",
    "101 that nobody asked for": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!",
    "a list of lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nhi",
    "a length with a sign": b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi",
    "chunks and a length": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "another encoding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "space before a colon": b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nhi",
    "a folded line": b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 2\r\n\r\nhi",
    "a bare LF": b"HTTP/1.1 200 OK\r\nA: b\nX: c\r\nContent-Length: 2\r\n\r\nhi",
    "malformed chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
    "a head without an end": b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70_000,
}


@pytest.mark.asyncio
@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
async def test_an_answer_that_could_be_misread_is_a_502(data: bytes) -> None:
    answer, was_reused = await answer_to(data)
    assert answer.status == 502
    assert not was_reused


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("data", "length"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "5"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", None),
        (b"HTTP/1.1 200 OK\r\n\r\n", None),
    ],
)
async def test_an_answer_to_head_has_no_body(data: bytes, length: str | None) -> None:
    answer, was_reused = await answer_to(data, get("HEAD"), "HEAD")
    assert (answer.status, answer.headers.get("content-length")) == (200, length)
    assert was_reused == (b"Transfer-Encoding" in data or length is not None)


@pytest.mark.asyncio
async def test_headers_of_the_backends_hop_end_with_it() -> None:
    data = (
        b"HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\nTrailer: T\r\n"
        b"Upgrade: h2c\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n"
    )
    answer, was_reused = await answer_to(data)
    assert answer.raw == b"HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n"
    assert was_reused


# answers in pieces


async def in_pieces(connection: BackendConnection, *pieces: bytes) -> None:
    """Write pieces that the proxy reads one by one."""
    for piece in pieces:
        connection.write(piece)
        await asyncio.sleep(0.005)  # so that they come apart; nothing depends on it


class InPieces:
    """A backend that answers piece by piece, and closes after the last one if it is to."""

    def __init__(self, *pieces: bytes, closes: bool = False, resets: bool = False) -> None:
        self._pieces = pieces
        self._closes = closes
        self._resets = resets
        self._tasks: list[asyncio.Task[None]] = []

    def __call__(self, seen: Seen, connection: BackendConnection) -> None:
        self._tasks.append(asyncio.create_task(self._write(connection)))

    async def _write(self, connection: BackendConnection) -> None:
        await in_pieces(connection, *self._pieces)
        if self._closes:
            connection.finish()
        elif self._resets:
            connection.reset()


LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CLOSE = b"HTTP/1.1 200 OK\r\n\r\n"


@pytest.mark.asyncio
@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize(
    ("pieces", "closes"),
    [
        ((LENGTH, b"ab", b"cd"), False),
        ((LENGTH[:10], LENGTH[10:-1], LENGTH[-1:] + b"ab", b"cd"), False),
        ((CHUNKED, b"2\r\nab\r\n", b"2\r\ncd", b"\r\n0\r\n", b"\r\n"), False),
        ((CLOSE, b"ab", b"cd"), True),
    ],
    ids=["length", "split head", "chunks", "until close"],
)
async def test_an_answer_in_pieces_is_passed_on_as_it_comes(
    pieces: tuple[bytes, ...], closes: bool, version: str
) -> None:
    async with running(dials=OFF) as rig:
        rig.other.behave = InPieces(*pieces, closes=closes)
        wire = await rig.wire()
        answer = await wire.ask(get(version=version))
        assert (answer.status, answer.body) == (200, b"abcd")
        if version == "1.1":
            rig.other.behave = always(reply(200))
            assert (await wire.ask(GET)).status == 200, "the client's connection goes on"
        else:
            assert await wire.is_cut()
        await rig.settled()
        assert len(rig.other.connections) == (2 if closes and version == "1.1" else 1)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "pieces",
    [(LENGTH, b"ab"), (CHUNKED, b"2\r\nab\r\n"), (CHUNKED, b"2\r\nab\r\n", b"x\r\n")],
    ids=["length", "chunks", "bad chunk"],
)
async def test_a_truncated_answer_ends_the_clients_connection(pieces: tuple[bytes, ...]) -> None:
    async with running(dials=OFF) as rig:
        rig.other.behave = InPieces(*pieces, closes=True)
        wire = await rig.wire()
        wire.send(GET)
        data = await wire.rest()
        assert data.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"ab" in data
        assert not data.endswith(b"0\r\n\r\n")
        await rig.settled()


@pytest.mark.asyncio
async def test_a_reset_is_not_taken_for_the_end_of_an_answer() -> None:
    async with running(dials=OFF) as rig:
        rig.other.eager = lambda data, connection: connection.write(CLOSE + b"ab")
        rig.other.behave = lambda seen, connection: None
        wire = await rig.wire()
        wire.send(POST)
        await until(lambda: rig.other.seen, "asked")
        assert (await wire.reader.readuntil(b"ab")).endswith(b"ab")
        # More than the backend will read, so that its closing is a reset.
        for connection in rig.upstreams["other"]._all:
            assert connection.transport is not None
            connection.transport.write(b"x" * 100)
        rig.other.connections[0].transport.pause_reading()
        rig.other.connections[0].reset()
        assert b"0\r\n\r\n" not in await wire.rest()


@pytest.mark.asyncio
async def test_bytes_on_an_idle_connection_end_it() -> None:
    async with running(dials=OFF) as rig:
        assert (await rig.ask(GET)).status == 200
        rig.other.connections[0].write(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        await until(lambda: rig.other.connections[0].is_lost, "closed")
        assert (await rig.ask(POST)).status == 200
        assert len(rig.other.connections) == 2


@pytest.mark.asyncio
async def test_an_answer_before_the_whole_request_was_read() -> None:
    async with running(dials=OFF, limits={"max_event_size": "16MiB"}) as rig:

        def eager(data: bytes, connection: BackendConnection) -> None:
            connection.transport.pause_reading()
            connection.write(reply(413, b"too much"))

        rig.other.eager = eager
        body = b"b" * (12 * 2**20)
        wire = await rig.wire()
        answer = await wire.ask(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert (answer.status, answer.body) == (413, b"too much")
        rig.other.eager = None
        assert (await wire.ask(POST)).status == 200
        assert len(rig.other.connections) == 2, "the half-sent request's connection is not used again"


# memory and pace


@pytest.mark.asyncio
@pytest.mark.parametrize("framing", [b"Content-Length: 16777216", b"Connection: close"])
async def test_a_slow_reader_slows_the_backend_down(framing: bytes) -> None:
    size = 16 * 2**20
    async with running(dials=OFF) as rig:

        def behave(seen: Seen, connection: BackendConnection) -> None:
            connection.write(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
            connection.finish(b"x" * size)

        rig.other.behave = behave
        wire = await rig.wire(limit=4096)
        wire.send(GET)
        await until(lambda: any(client._is_full for client in rig.service.clients), "the client is behind")
        transport = next(iter(rig.service.clients))._transport
        assert transport is not None
        assert transport.get_write_buffer_size() < 2**19
        assert rig.other.connections[0].transport.get_write_buffer_size() > 2**20, "the rest is still at the backend"
        answer = await wire.answer("GET")
        assert len(answer.body) == size


@pytest.mark.asyncio
@pytest.mark.parametrize("size", [2**15, 2**18 + 1, 400_000, 2**20])
@pytest.mark.parametrize("dials", [OFF, LIVE])
async def test_a_connection_is_read_again_whatever_its_last_answer_was(size: int, dials: Dials) -> None:
    async with running(dials=dials, backend={"connections": 1}) as rig:
        for backend in rig.backends:
            backend.behave = always(reply(200, b"x" * size))
        wire = await rig.wire()
        for n in range(4):
            for side in (OLD, NEW):
                answer = await wire.ask(event_bytes(f"e{n}{side}", key=key_for(side)))
                assert (answer.status, len(answer.body)) == (200, size)
        await rig.settled()
        assert len(rig.old.connections) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("size", [2**18, 2**18 + 1, 2**18 + 2**16])
@pytest.mark.parametrize("framing", [b"Content-Length: %d\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n%x\r\n"])
async def test_a_connection_is_read_on_after_an_answer_whose_last_piece_was_one_too_many(
    framing: bytes, size: int
) -> None:
    """The piece that fills the client's queue pauses the backend's connection, although it is the last."""
    async with running(dials=OFF) as rig:
        end = b"\r\n0\r\n\r\n" if b"chunked" in framing else b""
        rig.other.behave = InPieces(b"HTTP/1.1 200 OK\r\n" + framing % size, b"x" * (size - 9), b"x" * 9 + end)
        wire = await rig.wire()
        assert len((await wire.ask(GET)).body) == size
        rig.other.behave = always(reply(200, b"next"))
        assert (await wire.ask(GET)).body == b"next"
        assert len(rig.other.connections) == 1


@pytest.mark.asyncio
async def test_a_connection_is_read_on_after_an_answer_that_was_kept_to_its_end() -> None:
    """The authority's long answer waits for the record; it is paused while it is kept, and ends with that piece."""
    async with running(make_route(durability="before-send", ack="both")) as rig:
        size = 70_000
        rig.old.behave = InPieces(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size, b"x" * 9, b"x" * (size - 9))
        held: list[BackendConnection] = []
        rig.new.behave = lambda seen, connection: held.append(connection)
        wire = await rig.wire()
        wire.send(event_bytes("e", key="k"))
        await until(lambda: held and rig.upstreams["old"].is_idle, "old has answered")
        held[0].write(reply(200))
        assert len((await wire.answer()).body) == size
        rig.old.behave = rig.new.behave = always(reply(200, b"next"))
        assert (await wire.ask(event_bytes("f", key="k"))).body == b"next"


@pytest.mark.asyncio
async def test_a_client_that_leaves_in_the_middle_frees_the_backend() -> None:
    async with running(dials=OFF) as rig:
        rig.other.behave = InPieces(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b"x")
        wire = await rig.wire()
        wire.send(GET)
        await wire.reader.readuntil(b"x")
        wire.reset()
        await until(lambda: rig.other.connections[0].is_lost, "the backend is told")
        await rig.settled()


@pytest.mark.asyncio
async def test_the_rest_of_an_answer_that_nobody_reads_is_cut_in_time() -> None:
    async with running(make_route(copy_wait="60s"), backend={"response_timeout": "50ms"}) as rig:
        rig.new.behave = InPieces(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b"x")
        assert (await rig.ask(event_bytes("e", key="k"))).status == 200
        await rig.settled()
        assert rig.story("e") == ("D", "D")
        assert rig.upstreams["new"].open == 0
