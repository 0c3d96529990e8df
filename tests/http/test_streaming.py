"""Routes with `stream: true`: what is too long for an event, or has no end, reaches the authority as it comes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from time import monotonic
from typing import Final

import pytest

from config.model import Route
from proxy.core.event import NEW, OLD
from proxy.core.routing import Dials
from proxy.http.budget import CONNECTION
from proxy.http.connection import Connection
from proxy.http.uploading import Upload
from proxy.http.upstream import Upstream
from tests.harness.descriptors import no_descriptors
from tests.http.backend import Backend, BackendConnection, always, reply
from tests.http.rig import COMPLETE, DUAL, LIVE, OFF, Rig, event_bytes, key_for, make_route, running
from tests.http.wire import Wire, until

SMALL: Final = {"max_event_size": "1KiB"}
YES: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def streaming(**changes: object) -> Route:
    """The route `events` with `stream: true`, its key in a header."""
    return make_route(**({"stream": True, "key": "header:X-Key"} | changes))


def head(framing: str, *lines: str, version: str = "1.1") -> bytes:
    """The head of a request to it."""
    ours = "".join(f"{line}\r\n" for line in lines)
    return f"POST /events HTTP/{version}\r\nHost: a\r\n{framing}\r\n{ours}\r\n".encode()


def long_head(length: int, *lines: str) -> bytes:
    """The same, of a body of so many bytes."""
    return head(f"Content-Length: {length}", *lines)


CHUNKED: Final = head("Transfer-Encoding: chunked")


def chunk(data: bytes) -> bytes:
    """A chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def unchunked(data: bytes) -> tuple[bytes, bool]:
    """The data of chunks, and whether the last one is there."""
    found = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            return found, data == b"\r\n"
        found += data[:length]
        data = data[length + 2 :]
    return found, False


def body_of(connection: BackendConnection) -> bytes:
    """What a connection has received behind the head."""
    return bytes(connection.received).partition(b"\r\n\r\n")[2]


def sink(backend: Backend, eager: Callable[[bytes, BackendConnection], object] | None = None) -> None:
    """Let a backend take bytes as they come."""
    backend.is_sink = True
    backend.eager = eager


def answers_at(length: int) -> Callable[[bytes, BackendConnection], object]:
    """Answers when so many bytes of body are there."""

    def look(_: bytes, connection: BackendConnection) -> None:
        if len(connection.received) - (connection.received.index(b"\r\n\r\n") + 4) == length:
            connection.write(YES)

    return look


async def arrived(backend: Backend, data: bytes) -> BackendConnection:
    """The connection by which this came as (the end of) a body so far."""
    await until(lambda: backend.connections and body_of(backend.connections[-1]).endswith(data), "arrived")
    return backend.connections[-1]


def connects_later(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Let connections to a backend be made when this is set, and not before."""
    gate, opens = asyncio.Event(), upstream._open

    async def later(connection: Connection) -> None:
        await gate.wait()
        await opens(connection)

    monkeypatch.setattr(upstream, "_open", later)
    return gate


# what is passed on


@pytest.mark.asyncio
async def test_a_long_body_reaches_the_authority_alone_and_is_no_event() -> None:
    body = random.Random(1).randbytes(3_000_000)
    async with running(streaming(), dials=DUAL, limits=SMALL) as rig:
        sink(rig.old, answers_at(len(body)))
        wire = await rig.wire()
        answer = await wire.ask(long_head(len(body), "X-Event-Id: big", "X-Key: k") + body)
        assert (answer.status, answer.body) == (200, b"ok")
        (connection,) = rig.old.connections
        assert body_of(connection) == body
        lines = bytes(connection.received).partition(b"\r\n\r\n")[0].split(b"\r\n")
        assert lines[0] == b"POST /events HTTP/1.1"
        assert {b"X-Event-Id: big", b"X-Crossfade-Role: authority", b"Content-Length: 3000000"} <= set(lines)
        assert not rig.new.connections
        assert not rig.fake.events
        assert rig.plane.counters == {"streamed": 1, "streamed_without_copy": 1}
        route = rig.plane.routes[0]
        assert route.figures[OLD][2].classes == [0, 0, 1, 0, 0, 0]
        assert route.figures[OLD][0].classes == [0] * 6
        assert (route.accepted, route.failed, route.answered_else) == (0, 0, 1)
        rig.old.is_sink = False
        assert (await wire.ask(event_bytes("small"))).status == 200, "its connection goes on"
        await rig.settled()
        assert rig.story("small") == ("D", "D")


@pytest.mark.asyncio
async def test_chunks_that_grow_too_long_for_an_event_are_passed_on() -> None:
    pieces = [random.Random(n).randbytes(700) for n in range(50)]
    async with running(streaming(), dials=OFF, limits=SMALL) as rig:
        sink(rig.old, lambda data, connection: connection.write(YES) if data.endswith(b"0\r\n\r\n") else None)
        wire = await rig.wire()
        wire.send(CHUNKED + chunk(pieces[0]))
        await asyncio.sleep(0.02)
        assert not rig.old.connections, "it may still be an event"
        wire.send(b"".join(map(chunk, pieces[1:])) + b"0\r\nX-Trailer: a\r\n\r\n")
        assert (await wire.answer()).status == 200
        assert unchunked(body_of(rig.old.connections[0])) == (b"".join(pieces), True)
        assert rig.plane.counters == {"streamed": 1, "key_missing": 1}, "there is no copy at weight 0 without one"


@pytest.mark.asyncio
async def test_a_chunked_body_without_an_end_is_passed_on_after_a_second() -> None:
    async with running(streaming(), dials=DUAL) as rig:
        sink(rig.old)
        wire = await rig.wire()
        wire.send(CHUNKED + chunk(b"one"))
        await until(lambda: any(client._head is not None for client in rig.service.clients), "its head is here")
        rig.service.check_times(monotonic() + 0.5)
        assert rig.plane.counters == {}
        rig.service.check_times(monotonic() + 1.5)
        connection = await arrived(rig.old, b"3\r\none\r\n")
        for text in (b"two", b"three"):
            wire.send(chunk(text))
            await arrived(rig.old, chunk(text))
        wire.send(b"0\r\n\r\n")
        await arrived(rig.old, b"0\r\n\r\n")
        connection.write(YES)
        assert (await wire.answer()).status == 200
        assert not rig.fake.events


@pytest.mark.asyncio
async def test_chunks_that_end_soon_are_an_event() -> None:
    async with running(streaming(), dials=DUAL) as rig:
        wire = await rig.wire()
        assert (
            await wire.ask(head("Transfer-Encoding: chunked", "X-Event-Id: e") + chunk(b"{}") + b"0\r\n\r\n")
        ).status
        await rig.settled()
        assert rig.story("e") == ("D", "D")
        assert "streamed" not in rig.plane.counters


@pytest.mark.asyncio
@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_length_and_a_wish_to_be_asked_first(version: str) -> None:
    async with running(streaming(), dials=OFF, limits=SMALL) as rig:
        sink(rig.old, answers_at(2000))
        wire = await rig.wire()
        wire.send(head("Content-Length: 2000", "Expect: 100-continue", version=version))
        if version == "1.1":
            assert (await wire.answer()).status == 100
        wire.send(b"x" * 2000)
        assert (await wire.answer()).status == 200
        assert body_of(rig.old.connections[0]) == b"x" * 2000


@pytest.mark.asyncio
async def test_what_no_route_streams_is_refused_as_before() -> None:
    async with running(make_route(), dials=OFF, limits=SMALL) as rig:
        assert (await rig.ask(long_head(2000))).status == 413
        wire = await rig.wire()
        assert (await wire.ask(CHUNKED + chunk(b"x" * 2000))).status == 413
        wire = await rig.wire()
        wire.send(CHUNKED + chunk(b"x"))
        await until(lambda: any(client._head is not None for client in rig.service.clients), "its head is here")
        rig.service.check_times(monotonic() + 31)
        assert (await wire.answer()).status == 408


@pytest.mark.asyncio
async def test_requests_behind_a_stream_are_served_after_it() -> None:
    async with running(streaming(), dials=OFF, limits=SMALL) as rig:
        sink(rig.old, answers_at(2000))
        wire = await rig.wire()
        get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        wire.send(long_head(2000) + b"x" * 2000 + get * 2)
        assert [(await wire.answer("POST")).status for _ in range(3)] == [200] * 3
        assert len(rig.other.seen) == 2


@pytest.mark.asyncio
@pytest.mark.parametrize("is_whole", [True, False])
async def test_a_stream_that_waited_while_the_client_ended_its_side(is_whole: bool) -> None:
    """What stands behind it is served, too; a body that is not whole never will be."""
    gate = asyncio.Event()
    get = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"

    async def later(connection: BackendConnection) -> None:
        await gate.wait()
        connection.write(reply(200))

    async with running(streaming(), dials=OFF, limits=SMALL) as rig:
        rig.other.behave = lambda seen, connection: asyncio.ensure_future(later(connection))
        sink(rig.old, answers_at(2000))
        wire = await rig.wire()
        wire.send(get % 1 + long_head(2000) + b"x" * (2000 if is_whole else 1999) + (get % 2 if is_whole else b""))
        wire.writer.write_eof()
        await until(lambda: any(client._is_ended for client in rig.service.clients), "its end is here")
        gate.set()
        expected = 3 if is_whole else 1
        assert (await wire.rest()).count(b"HTTP/1.1 200") == expected


# where it goes


@pytest.mark.asyncio
@pytest.mark.parametrize("side", [OLD, NEW])
async def test_the_key_of_a_header_says_where_it_goes(side: int) -> None:
    async with running(streaming(), dials=LIVE, limits=SMALL) as rig:
        sink(rig.backends[side], answers_at(2000))
        answer = await rig.ask(long_head(2000, f"X-Key: {key_for(side)}") + b"x" * 2000)
        assert answer.status == 200
        assert not rig.backends[1 - side].connections
        assert rig.plane.counters["streamed_without_copy"] == 1


@pytest.mark.asyncio
async def test_without_a_key_the_route_says_what_happens() -> None:
    async with running(streaming(key="json:/key", key_missing="reject"), dials=COMPLETE, limits=SMALL) as rig:
        wire = await rig.wire()
        answer = await wire.ask(long_head(2000))
        assert answer.status == 400
        assert rig.plane.routes[0].answered_else == 1
        assert answer.headers["connection"] == "close"
        wire.send(b"x" * 2000)  # it has begun to send already: that must not turn the answer into a reset
        assert await wire.is_cut()
    async with running(streaming(key="json:/key", key_missing="old"), dials=COMPLETE, limits=SMALL) as rig:
        sink(rig.old, answers_at(2000))
        assert (await rig.ask(long_head(2000) + b"x" * 2000)).status == 200


@pytest.mark.asyncio
async def test_the_override_holds_for_streams() -> None:
    async with running(streaming(override="header:X-Side"), dials=OFF, limits=SMALL) as rig:
        sink(rig.new, answers_at(2000))
        assert (await rig.ask(long_head(2000, "X-Side: new") + b"x" * 2000)).status == 200
        rig.upstreams["new"].is_healthy = False
        answer = await rig.ask(long_head(2000, "X-Side: new") + b"x" * 2000)
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("dials", "side", "policy", "goes"),
    [
        (LIVE, NEW, "failover", True),
        (LIVE, OLD, "failover", True),
        (DUAL, OLD, "failover", False),
        (LIVE, NEW, "fail", False),
        (LIVE, NEW, "accept", False),
    ],
)
async def test_an_authority_that_is_down_is_known_before_the_first_byte(
    dials: Dials, side: int, policy: str, goes: bool
) -> None:
    async with running(streaming(on_authority_down=policy), dials=dials, limits=SMALL) as rig:
        sink(rig.backends[1 - side], answers_at(2000))
        rig.plane.routes[0].sides[side].is_healthy = False
        key = key_for(side) if dials is LIVE else "k"
        answer = await rig.ask(long_head(2000, f"X-Key: {key}") + b"x" * 2000)
        assert answer.status == (200 if goes else 503)
        assert rig.plane.routes[0].failed == (not goes)
        assert bool(rig.backends[1 - side].connections) == goes


@pytest.mark.asyncio
async def test_a_backend_that_cannot_be_reached_is_a_502() -> None:
    async with running(streaming(), dials=OFF, limits=SMALL, down=("old",)) as rig:
        wire = await rig.wire()
        answer = await wire.ask(long_head(5000) + b"x" * 2000)
        assert answer.status == 502
        assert answer.headers["connection"] == "close"
        assert (rig.plane.routes[0].figures[OLD][2].classes[0], rig.plane.routes[0].failed) == (1, 1)
        assert rig.upstreams["old"].breaker.row == 1


@pytest.mark.asyncio
async def test_its_answer_says_who_gave_it() -> None:
    async with running(streaming(backend_header="X-Answered-By"), dials=OFF, limits=SMALL) as rig:
        sink(rig.old, answers_at(2000))
        answer = await rig.ask(long_head(2000) + b"x" * 2000)
        assert (answer.status, answer.headers["x-answered-by"]) == (200, "old")
        sink(rig.old, lambda data, connection: connection.write(reply(200, b"x" * 100)[:-1]))
        wire = await rig.wire()
        wire.send(long_head(2000))
        assert b"X-Answered-By: old\r\n" in await wire.reader.readuntil(b"\r\n\r\n")


@pytest.mark.asyncio
async def test_without_descriptors_nobody_is_blamed() -> None:
    async with running(streaming(), dials=OFF, limits=SMALL, backend={"breaker": {"failures": 1}}) as rig:
        wire = await rig.wire()
        await until(lambda: rig.service.clients, "accepted")
        with no_descriptors():
            answer = await wire.ask(long_head(2000))
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert rig.upstreams["old"].breaker.is_closed
        assert rig.plane.routes[0].figures[OLD][2].classes == [0] * 6


@pytest.mark.asyncio
async def test_a_stream_that_waited_has_a_connection_of_its_own_too() -> None:
    async with running(streaming(), dials=OFF, limits=SMALL, backend={"url": "http://localhost:{port}"}) as rig:
        upstream = rig.upstreams["old"]
        await until(lambda: upstream.endpoints(monotonic()), "its name is known")
        held: list[BackendConnection] = []
        rig.old.behave = lambda seen, connection: held.append(connection)
        busy, wire = await rig.wire(), await rig.wire()
        busy.send(event_bytes("e"))
        await until(lambda: held and len(rig.service.clients) == 2, "an event is on its way")
        upstream._short_until = monotonic() + 0.1
        wire.send(long_head(2000) + b"x" * 2000)
        await until(lambda: upstream.outstanding == 2, "in line")
        held[0].write(reply(200))
        assert (await busy.answer()).status == 200
        sink(rig.old, answers_at(2000))
        assert (await wire.answer()).status == 200
        assert len(rig.old.connections) == 2


@pytest.mark.asyncio
async def test_a_backend_by_its_name_takes_streams_too() -> None:
    async with running(
        streaming(), dials=OFF, limits=SMALL, backend={"url": "http://localhost:{port}", "connections": 1}
    ) as rig:
        sink(rig.old)
        await until(lambda: rig.upstreams["old"].endpoints(monotonic()), "its name is known")
        wires = [await rig.wire() for _ in range(3)]
        for wire in wires:
            wire.send(long_head(5000) + b"x" * 2000)
        await until(lambda: len(rig.old.connections) == 3, "each has a connection of its own")
        upstream = rig.upstreams["old"]
        await until(lambda: (upstream.open, len(upstream.lasting)) == (0, 3), "none of the pool")
        for connection in rig.old.connections:
            connection.write(YES)
        for wire in wires:
            assert (await wire.answer()).status == 200
        await until(lambda: not upstream.lasting, "they are gone")
        assert sum(each.open for each in upstream.endpoints(monotonic())) == 0


# the pace


async def is_taken(wire: Wire) -> bool:
    """Does the proxy go on taking what is sent?"""
    try:
        async with asyncio.timeout(0.3):
            await wire.writer.drain()
    except TimeoutError:
        return False
    return True


@pytest.mark.asyncio
async def test_the_backend_sets_the_pace_and_little_is_kept() -> None:
    size = 40_000_000
    async with running(streaming(), dials=OFF, limits=SMALL) as rig:
        sink(rig.old, lambda _, connection: connection.transport.pause_reading())
        wire = await rig.wire()
        wire.send(long_head(size))
        sent = 0
        while await is_taken(wire):
            wire.send(b"x" * 100_000)
            sent += 100_000
        assert sent < 30_000_000, "most of it stays with the client; the rest is in the kernel's buffers"
        (connection,) = rig.upstreams["old"].lasting
        assert connection.transport is not None
        assert connection.transport.get_write_buffer_size() < 1_000_000
        rig.service.check_times(monotonic() + 31)  # that it waits is the backend's doing
        sink(rig.old, answers_at(size))
        rig.old.connections[0].transport.resume_reading()
        while sent < size:
            wire.send(b"x" * 100_000)
            sent += 100_000
            await wire.writer.drain()
        assert (await wire.answer()).status == 200


@pytest.mark.plain
@pytest.mark.asyncio
async def test_what_comes_before_the_connection_is_made_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(streaming(), dials=OFF, limits=SMALL) as rig:
        upstream = rig.upstreams["old"]
        gate = connects_later(upstream, monkeypatch)
        sink(rig.old, answers_at(8_000_000))
        wire = await rig.wire()
        wire.send(long_head(8_000_000) + b"x" * 8_000_000)
        await until(lambda: any(client._is_paused for client in rig.service.clients), "the client is asked for no more")
        (client,) = rig.service.clients
        assert client._upload is not None
        assert client._upload._kept_size < 1_000_000
        gate.set()
        assert (await wire.answer()).status == 200


@pytest.mark.asyncio
async def test_what_waits_for_a_stalled_backend_is_counted() -> None:
    """Also what came as the beginning of an event, which may be as long as one."""
    limits = {"max_event_size": "8MiB", "memory": "64MiB"}
    async with running(streaming(), dials=OFF, limits=limits) as rig:
        sink(rig.old, lambda _, connection: connection.transport.pause_reading())
        wires = [await rig.wire() for _ in range(4)]
        lasting, budget = rig.upstreams["old"].lasting, rig.plane.budget
        for wire in wires:
            wire.send(CHUNKED + chunk(b"x" * (9 * 2**20)))
        await until(lambda: len(lasting) == 4 and all(unwritten(each) for each in lasting), "on their way")
        waiting = sum(unwritten(each) for each in lasting)
        assert waiting > 10 * 2**20
        assert budget.held > waiting
        sink(rig.old)
        for connection in rig.old.connections:
            connection.transport.resume_reading()
        await until(lambda: budget.held == 4 * CONNECTION, "it has taken all")
        for wire in wires:
            wire.reset()


def unwritten(connection: Connection) -> int:
    """Bytes that wait in a connection to a backend."""
    assert connection.transport is not None
    return connection.transport.get_write_buffer_size()


@pytest.mark.plain
@pytest.mark.asyncio
async def test_what_waits_for_a_connection_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(streaming(), dials=OFF, limits=SMALL) as rig:
        upstream = rig.upstreams["old"]
        gate = connects_later(upstream, monkeypatch)
        sink(rig.old, answers_at(200_000))
        wire = await rig.wire()
        wire.send(long_head(200_000) + b"x" * 190_000)
        await until(lambda: rig.plane.budget.held > CONNECTION + 190_000, "counted")
        gate.set()
        await until(lambda: rig.plane.budget.held == CONNECTION, "the backend has it")
        wire.send(b"x" * 10_000)
        assert (await wire.answer()).status == 200


@pytest.mark.asyncio
async def test_a_slow_client_is_not_a_slow_backend() -> None:
    async with running(streaming(), dials=OFF, limits=SMALL, backend={"response_timeout": "50ms"}) as rig:
        sink(rig.old)
        wire = await rig.wire()
        wire.send(long_head(2000) + b"x" * 1000)
        await arrived(rig.old, b"x" * 1000)
        await asyncio.sleep(0.15)
        wire.send(b"y" * 1000)
        await arrived(rig.old, b"y" * 1000)
        answer = await wire.answer()
        assert answer.status == 504, "from here on it is"


@pytest.mark.asyncio
async def test_a_slow_backend_is_not_a_silent_one() -> None:
    """What it takes within the time that it has for an answer is less than what our buffers hold."""
    size = 12_000_000
    async with running(streaming(), dials=OFF, limits=SMALL, backend={"response_timeout": "200ms"}) as rig:
        sink(rig.old, lambda _, connection: connection.transport.pause_reading())
        wire = await rig.wire()
        wire.send(long_head(2 * size) + b"x" * size)
        upload = await on_its_way(rig)
        await until(lambda: upload.is_held, "the backend takes no more")
        (connection,) = rig.old.connections
        for _ in range(25):
            connection.transport.resume_reading()  # for one piece
            await asyncio.sleep(0.04)
        assert rig.upstreams["old"].lasting, "a second later it is still waited for"
        wait = monotonic()
        assert (await wire.answer()).status == 504
        assert monotonic() - wait > 0.1


async def on_its_way(rig: Rig) -> Upload:
    """The only upload, once there is one."""
    await until(lambda: any(client._upload for client in rig.service.clients), "on its way")
    (upload,) = [client._upload for client in rig.service.clients]
    assert upload is not None
    return upload


@pytest.mark.asyncio
async def test_an_answer_may_pause_while_the_body_goes_on() -> None:
    async with running(streaming(), dials=OFF, limits=SMALL, backend={"body_timeout": "100ms"}) as rig:
        sink(rig.old)
        wire = await rig.wire()
        wire.send(long_head(8000) + b"x" * 2000)
        (await arrived(rig.old, b"x" * 2000)).write(YES[:-1])
        await wire.reader.readuntil(b"\r\n\r\no")
        for _ in range(6):
            await asyncio.sleep(0.05)
            wire.send(b"y" * 1000)
        connection = await arrived(rig.old, b"y" * 6000)
        connection.write(b"k")
        assert await wire.rest() == b"k"


@pytest.mark.asyncio
async def test_a_yes_before_the_end_was_written_does_not_keep_the_end_from_the_backend() -> None:
    """It is in the tick's queue: for an iteration, or for as long as the ledger takes nothing."""
    async with running(streaming(), dials=OFF, limits=SMALL, backend={"response_timeout": "300ms"}) as rig:
        sink(rig.old)
        wire = await rig.wire()
        wire.send(long_head(3000) + b"x" * 2000)
        connection = await arrived(rig.old, b"x" * 2000)
        flush, rig.tick._flush = rig.tick._flush, lambda: False
        wire.send(b"y" * 1000)
        await until(lambda: rig.tick._writes, "all of it is here")
        connection.write(YES)
        await until(lambda: not any(client.is_busy for client in rig.service.clients), "answered")
        rig.tick._flush = flush
        rig.tick.run()
        assert (await wire.answer()).status == 200
        await arrived(rig.old, b"y" * 1000)
        await until(lambda: connection.is_lost, "it was never of the pool")
        assert rig.upstreams["old"].outstanding == 0


@pytest.mark.asyncio
async def test_a_client_that_sends_nothing_more_is_told_so() -> None:
    async with running(streaming(), dials=OFF, limits=SMALL) as rig:
        sink(rig.old)
        wire = await rig.wire()
        wire.send(long_head(3000) + b"x" * 2000)
        connection = await arrived(rig.old, b"x" * 2000)
        rig.service.check_times(monotonic() + 29)
        rig.service.check_times(monotonic() + 31)
        assert (await wire.answer()).status == 408
        await until(lambda: connection.is_lost, "the backend sees that the body is not whole")
        assert rig.upstreams["old"].breaker.row == 0


# ends


@pytest.mark.asyncio
async def test_an_answer_before_the_end_of_the_body_reaches_the_client() -> None:
    async with running(streaming(), dials=OFF, limits=SMALL) as rig:
        sink(rig.old, lambda _, connection: connection.write(reply(413, b"too much")))
        wire = await rig.wire()
        answer = await wire.ask(long_head(10_000_000) + b"x" * 300_000)
        assert (answer.status, answer.body) == (413, b"too much")
        assert answer.headers["connection"] == "close"
        wire.send(b"x" * 300_000)
        assert await wire.is_cut()
        await until(lambda: rig.old.connections[0].is_lost, "it is not used again")


@pytest.mark.asyncio
@pytest.mark.parametrize("answers", [True, False])
async def test_an_answer_reaches_a_client_that_sends_first_and_reads_later(answers: bool) -> None:
    """The backend takes nothing more and answers, or does not: the client is not kept from sending until a reset."""
    size = 24_000_000
    async with running(streaming(), dials=OFF, limits=SMALL, backend={"response_timeout": "1s"}) as rig:
        sink(rig.old, lambda _, connection: connection.transport.pause_reading())
        wire = await rig.wire()
        wire.send(long_head(size) + b"x" * size)
        await until(lambda: any(client._upload and client._upload.is_held for client in rig.service.clients), "held")
        if answers:
            rig.old.connections[0].write(reply(413, b"too much"))
        await until(lambda: wire.writer.transport.get_write_buffer_size() == 0, "it could send all of it")
        assert (await wire.answer()).status == (413 if answers else 504)
        assert await wire.is_cut()


@pytest.mark.asyncio
async def test_an_answer_goes_on_while_the_body_does() -> None:
    start = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

    def echo(data: bytes, connection: BackendConnection) -> None:
        if len(connection.received) == len(data):
            connection.write(start)
            data = data.partition(b"\r\n\r\n")[2]
        if data:
            connection.write(data)

    async with running(streaming(), dials=OFF) as rig:
        sink(rig.old, echo)
        wire = await rig.wire()
        wire.send(CHUNKED)
        await until(lambda: any(client._head is not None for client in rig.service.clients), "its head is here")
        rig.service.check_times(monotonic() + 1.5)
        await wire.reader.readuntil(b"\r\n\r\n")
        for text in (b"a", b"b", b"c"):
            wire.send(chunk(text))
            assert await wire.reader.readexactly(6) == chunk(text)
        wire.send(b"0\r\n\r\n")
        assert await wire.reader.readexactly(5) == b"0\r\n\r\n"


@pytest.mark.asyncio
@pytest.mark.parametrize("leaves", [Wire.reset, Wire.close])
async def test_a_client_that_leaves_does_not_end_the_body(leaves: Callable[[Wire], None]) -> None:
    async with running(streaming(), dials=OFF, limits=SMALL) as rig:
        sink(rig.old)
        wire = await rig.wire()
        wire.send(CHUNKED + chunk(b"x" * 2000))
        connection = await arrived(rig.old, chunk(b"x" * 2000))
        leaves(wire)
        await until(lambda: connection.is_lost, "the backend is told")
        assert unchunked(body_of(connection)) == (b"x" * 2000, False)
        assert rig.upstreams["old"].breaker.row == 0
        assert rig.plane.routes[0].figures[OLD][2].classes == [0] * 6


@pytest.mark.plain
@pytest.mark.asyncio
async def test_a_client_that_leaves_while_the_connection_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(streaming(), dials=OFF, limits=SMALL) as rig:
        upstream = rig.upstreams["old"]
        gate = connects_later(upstream, monkeypatch)
        sink(rig.old)
        wire = await rig.wire()
        wire.send(long_head(3000) + b"x" * 2000)
        await until(lambda: rig.plane.counters.get("streamed"), "on its way")
        wire.reset()
        await until(lambda: not rig.service.clients, "it is gone")
        gate.set()
        await until(lambda: rig.old.connections and rig.old.connections[0].is_lost, "nothing was sent")
        assert not rig.old.connections[0].received
        assert upstream.breaker.row == 0
        await until(lambda: not upstream.lasting, "nothing is left")


@pytest.mark.asyncio
async def test_chunks_that_turn_out_malformed_end_the_stream() -> None:
    async with running(streaming(), dials=OFF, limits=SMALL) as rig:
        sink(rig.old)
        wire = await rig.wire()
        wire.send(CHUNKED + chunk(b"x" * 2000))
        connection = await arrived(rig.old, chunk(b"x" * 2000))
        answer = await wire.ask(b"zz\r\n")
        assert answer.status == 400
        assert await wire.is_cut()
        await until(lambda: connection.is_lost, "the backend is told")
        assert unchunked(body_of(connection)) == (b"x" * 2000, False)


@pytest.mark.asyncio
async def test_half_an_answer_is_not_taken_for_the_whole_when_the_body_is_spoilt() -> None:
    start = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"
    async with running(streaming(), dials=OFF, limits=SMALL) as rig:
        sink(rig.old, lambda _, connection: connection.write(start))
        wire = await rig.wire()
        wire.send(CHUNKED + chunk(b"x" * 2000))
        assert (await wire.reader.readuntil(b"half\r\n")).startswith(b"HTTP/1.1 200")
        rig.old.eager = None
        wire.send(b"zz\r\n")
        assert await wire.is_cut()


@pytest.mark.asyncio
async def test_a_backend_that_closes_in_the_middle_is_a_502() -> None:
    async with running(streaming(), dials=OFF, limits=SMALL) as rig:
        sink(rig.old, lambda _, connection: connection.reset())
        wire = await rig.wire()
        wire.send(long_head(5_000_000) + b"x" * 100_000)
        assert (await wire.answer()).status == 502
        assert rig.upstreams["old"].breaker.row == 1


# beside the pool


@pytest.mark.asyncio
async def test_streams_take_no_connection_from_events() -> None:
    async with running(streaming(), dials=OFF, limits=SMALL, backend={"connections": 1, "pending": 0}) as rig:
        sink(rig.old)
        wires = [await rig.wire() for _ in range(5)]
        for wire in wires:
            wire.send(long_head(5000) + b"x" * 2000)
        await until(lambda: len(rig.old.connections) == 5, "all on their way")
        rig.old.is_sink = False
        assert (await rig.ask(event_bytes("e"))).status == 200
        assert not rig.plane.is_idle, "an orderly stop waits for them"


async def begun(rig: Rig, count: int) -> list[Wire]:
    """So many answers of which the beginning has come."""
    wires = [await rig.wire() for _ in range(count)]
    for wire in wires:
        wire.send(b"GET /events-as-they-come HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"data: 0" in await wire.reader.readuntil(b"data: 0\n\n\r\n")
    return wires


@pytest.mark.asyncio
@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}", "http://localhost:{port}"])
async def test_server_sent_events_take_no_connection_from_events(url: str) -> None:
    start = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    limits = {"connections": 2, "pending": 0, "url": url}
    async with running(dials=OFF, backend=limits) as rig:
        upstream = rig.upstreams["other"]
        rig.other.behave = always(start + chunk(b"data: 0\n\n"))
        await until(lambda: upstream.endpoints(monotonic()), "its name is known")
        wires = await begun(rig, 2)
        assert (await rig.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET")).status == 503, "the pool is taken"
        upstream.check_times(monotonic() + 1.5)
        assert (upstream.open, len(upstream.lasting)) == (0, 2)
        wires += await begun(rig, 2)
        for n in range(1, 4):
            for connection in rig.other.connections:
                connection.write(chunk(b"data: %d\n\n" % n))
            for wire in wires:
                assert await wire.reader.readuntil(b"\n\n\r\n") == chunk(b"data: %d\n\n" % n)
        for connection in rig.other.connections:
            connection.write(b"0\r\n\r\n")
        for wire in wires:
            assert await wire.reader.readexactly(5) == b"0\r\n\r\n"
        rig.other.behave = always(reply(200))
        assert (await wires[0].ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET")).status == 200
        await until(lambda: not upstream.lasting, "those that left the pool are closed")
        assert rig.other.open <= 2


@pytest.mark.asyncio
async def test_who_waits_gets_the_place_of_an_answer_that_goes_on() -> None:
    start = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with running(dials=OFF, backend={"connections": 1}) as rig:
        rig.other.behave = always(start + chunk(b"data: 0\n\n"))
        (stream,) = await begun(rig, 1)
        rig.other.behave = always(reply(200))
        wire = await rig.wire()
        wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: rig.upstreams["other"].outstanding == 2, "it waits")
        rig.upstreams["other"].check_times(monotonic() + 1.5)
        assert (await wire.answer("GET")).status == 200
        stream.reset()


@pytest.mark.asyncio
async def test_a_client_that_gives_up_a_long_poll_says_nothing_about_the_backend() -> None:
    async with running(dials=OFF, backend={"breaker": {"failures": 2}}) as rig:
        poll = b"GET /poll HTTP/1.1\r\nHost: a\r\n\r\n"
        for n in range(3):
            rig.other.behave = always(reply(200))
            wire = await rig.wire()
            await wire.ask(poll, "GET")  # so that the next is on a connection that was used before
            rig.other.behave = lambda seen, connection: None
            wire.send(poll)
            await until(lambda n=n: len(rig.other.seen) == 2 * n + 2, "it waits")  # type: ignore[misc]
            wire.reset()
            await until(lambda: not rig.service.clients, "it has left")
        await until(lambda: rig.upstreams["other"].open == 0, "nobody waits")
        assert rig.upstreams["other"].breaker.is_closed
        assert rig.upstreams["other"].breaker.row == 0
        assert len(rig.other.seen) == 6, "nobody asks again for one that has left"


# answers before the answer


@pytest.mark.asyncio
@pytest.mark.parametrize("path", ["/events", "/elsewhere"])
async def test_early_hints_reach_the_client(path: str) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n"
    async with running(dials=DUAL) as rig:
        for backend in (rig.old, rig.other):
            backend.behave = always(b"HTTP/1.1 100 Continue\r\n\r\n" + hints * 20 + reply(200))
        rig.new.behave = always(hints.replace(b"</a>", b"</copy>") + reply(200))
        wire = await rig.wire()
        answer = await wire.ask(b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n" % path.encode())
        assert answer.status == 200
        assert set(wire.interim) == {hints}
        assert 1 <= len(wire.interim) <= 8, "a backend cannot fill our memory with them"
        wire = await rig.wire()
        wire.send(b"POST %b HTTP/1.0\r\nHost: a\r\nContent-Length: 0\r\n\r\n" % path.encode())
        assert (await wire.rest()).startswith(b"HTTP/1.1 200"), "HTTP/1.0 has no such answers"


@pytest.mark.asyncio
async def test_each_request_of_a_connection_has_its_early_hints() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    async with running(dials=OFF) as rig:
        rig.old.behave = always(hints * 4 + reply(200))
        wire = await rig.wire()
        for n in range(1, 5):
            assert (await wire.ask(event_bytes(f"e{n}"))).status == 200
            assert len(wire.interim) == 4 * n
        assert len(rig.old.connections) == 1
