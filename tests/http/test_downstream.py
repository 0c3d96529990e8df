"""Clients' connections: order, pace, limits in time and number, and how they end."""

from __future__ import annotations

import asyncio
import socket
import struct
from itertools import pairwise
from time import monotonic

import pytest

from proxy.http.service import _CUTS
from tests.http.backend import BackendConnection, Seen, always, reply
from tests.http.rig import DUAL, OFF, SHADOW, Rig, event_bytes, make_route, running
from tests.http.wire import until

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
LIMITS = {"head_timeout": "5s", "body_timeout": "7s", "keepalive_timeout": "9s"}


@pytest.mark.asyncio
async def test_pipelined_requests_are_answered_in_order_one_at_a_time() -> None:
    async with running(dials=OFF) as rig:
        held: list[BackendConnection] = []

        def behave(seen: Seen, connection: BackendConnection) -> None:
            if seen.head.startswith(b"GET /0 "):
                held.append(connection)
            else:
                connection.write(reply(200, seen.head.split(b" ")[1]))

        rig.other.behave = behave
        wire = await rig.wire()
        wire.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % i for i in range(50)))
        await until(lambda: held, "the first is asked for")
        assert len(rig.other.seen) == 1
        held[0].write(reply(200, b"/0"))
        assert [(await wire.answer("GET")).body for _ in range(50)] == [b"/%d" % i for i in range(50)]


@pytest.mark.asyncio
async def test_pipelined_events_are_answered_in_order() -> None:
    async with running(dials=DUAL) as rig:
        wire = await rig.wire()
        wire.send(b"".join(event_bytes(f"e{i}", key="k") for i in range(30)))
        assert [(await wire.answer()).status for _ in range(30)] == [200] * 30
        await rig.settled()
        assert rig.old.ids() == rig.new.ids() == [f"e{i}" for i in range(30)]
        rig.check_ends()


@pytest.mark.asyncio
async def test_pipelined_bodies_are_bounded_in_memory() -> None:
    async with running(dials=OFF, limits={"max_event_size": "64KiB"}) as rig:
        rig.other.behave = lambda seen, connection: None
        wire = await rig.wire()
        one = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n" + b"b" * 60_000
        wire.send(one * 100)
        await until(lambda: rig.other.seen, "the first is asked for")
        client = next(iter(rig.service.clients))
        await until(lambda: client._is_paused, "enough")
        for connection in rig.other.connections:
            connection.write(reply(200))
        rig.other.behave = always(reply(200))
        sizes = []
        for _ in range(100):
            assert (await wire.answer()).status == 200
            sizes.append(len(client._buffer))
        assert max(sizes) < 400_000


@pytest.mark.asyncio
async def test_a_client_that_does_not_read_gets_no_more_answers_and_is_cut_in_the_end() -> None:
    async with running(dials=OFF, limits=LIMITS) as rig:
        rig.other.behave = always(reply(200, b"x" * 50_000))
        wire = await rig.wire(limit=4096)
        wire.send(GET * 2000)
        client = next(iter(rig.service.clients))
        await until(lambda: client._is_full and rig.plane.is_idle, "behind")
        asked = len(rig.other.seen)
        assert asked < 1000
        assert client._transport is not None
        assert client._transport.get_write_buffer_size() < 400_000
        assert (await wire.answer("GET")).status == 200
        rig.service.check_times(monotonic() + 8)
        assert client in rig.service.clients
        await until(lambda: client._is_full, "behind again")
        rig.service.check_times(monotonic() + 10)
        await until(lambda: not rig.service.clients, "cut")
        assert rig.plane.counters["clients_not_reading"] == 1


@pytest.mark.asyncio
async def test_a_client_that_reads_after_all_gets_everything() -> None:
    async with running(dials=OFF) as rig:
        rig.other.behave = always(reply(200, b"x" * 50_000))
        wire = await rig.wire(limit=4096)
        wire.send(GET * 300)
        client = next(iter(rig.service.clients))
        await until(lambda: client._is_full and rig.plane.is_idle, "behind")
        for _ in range(300):
            assert len((await wire.answer("GET")).body) == 50_000


# ends


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("version", "header", "is_kept"),
    [
        ("1.1", "", True),
        ("1.1", "Connection: close\r\n", False),
        ("1.1", "Connection: keep-alive, close\r\n", False),
        ("1.0", "", False),
        ("1.0", "Connection: Keep-Alive\r\n", True),
    ],
)
async def test_a_connection_is_kept_as_asked(version: str, header: str, is_kept: bool) -> None:
    async with running(dials=OFF) as rig:
        wire = await rig.wire()
        answer = await wire.ask(f"GET /x HTTP/{version}\r\nHost: a\r\n{header}\r\n".encode())
        wanted = {("1.1", True): None, ("1.0", True): "keep-alive"}.get((version, is_kept), "close")
        assert answer.headers.get("connection") == wanted
        if is_kept:
            assert (await wire.ask(GET)).status == 200
        else:
            assert await wire.is_cut()


@pytest.mark.asyncio
async def test_our_own_answers_end_a_connection_of_http_1_0() -> None:
    async with running(dials=OFF, down=("other",)) as rig:
        wire = await rig.wire()
        answer = await wire.ask(b"GET /x HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
        assert (answer.status, answer.headers["connection"]) == (502, "close")
        assert await wire.is_cut()


@pytest.mark.asyncio
async def test_our_own_answers_to_head_have_no_body() -> None:
    route = make_route(match={"path": "/events", "methods": ("HEAD",)}, ack="accepted", key="client")
    async with running(route, dials=OFF, down=("other",)) as rig:
        wire = await rig.wire()
        assert (await wire.ask(b"HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD")).status == 502
        assert (await wire.ask(b"HEAD /events HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD")).status == 202
        assert (await wire.ask(b"HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD")).status == 502


@pytest.mark.asyncio
async def test_a_client_that_has_sent_all_still_gets_its_answer() -> None:
    async with running(dials=OFF) as rig:
        held: list[BackendConnection] = []
        rig.other.behave = lambda seen, connection: held.append(connection)
        wire = await rig.wire()
        wire.send(GET)
        wire.writer.write_eof()
        await until(lambda: held, "asked for")
        held[0].write(reply(200, b"late"))
        answer = await wire.answer("GET")
        assert (answer.body, answer.headers["connection"]) == (b"late", "close")
        assert await wire.is_cut()


@pytest.mark.asyncio
@pytest.mark.parametrize("part", [GET[:10], b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx"])
async def test_a_client_that_ends_within_a_request_is_let_go(part: bytes) -> None:
    async with running(dials=OFF) as rig:
        wire = await rig.wire()
        wire.send(part)
        wire.writer.write_eof()
        assert await wire.is_cut()
        await until(lambda: not rig.service.clients, "gone")
        assert rig.other.received == b""


@pytest.mark.asyncio
async def test_what_a_client_sent_before_its_end_is_served_whenever_the_end_comes() -> None:
    async with running(dials=OFF) as rig:
        held: list[BackendConnection] = []
        rig.other.behave = lambda seen, connection: held.append(connection)
        wire = await rig.wire()
        wire.send(GET * 2)
        await until(lambda: held, "the first is asked for")
        (client,) = rig.service.clients
        (connection,) = rig.upstreams["other"]._all
        connection.data_received(reply(200))
        assert not client.is_busy
        assert client.eof_received()  # between the first answer and the second request
        await until(lambda: len(held) == 2, "the second is asked for")
        rig.other.behave = always(reply(200))
        held[1].write(reply(200))
        assert (await wire.answer("GET")).status == 200
        assert (await wire.answer("GET")).headers["connection"] == "close"
        assert await wire.is_cut()


@pytest.mark.asyncio
async def test_what_a_client_sent_before_its_end_is_served_although_it_reads_slowly() -> None:
    async with running(dials=OFF) as rig:
        rig.other.behave = always(reply(200, b"x" * 50_000))
        wire = await rig.wire(limit=4096)
        wire.send(GET * 300)
        client = next(iter(rig.service.clients))
        await until(lambda: client._is_full and rig.plane.is_idle, "behind")
        wire.writer.write_eof()
        await until(lambda: client._is_ended, "ended")
        for _ in range(300):
            assert len((await wire.answer("GET")).body) == 50_000
        assert await wire.is_cut()


@pytest.mark.asyncio
async def test_a_client_that_has_sent_all_and_is_refused_is_gone_at_once() -> None:
    async with running(dials=OFF) as rig:
        wire = await rig.wire()
        wire.send(GET + b"bad\r\n\r\n")
        wire.writer.write_eof()
        assert (await wire.answer("GET")).status == 200
        assert (await wire.answer()).status == 400
        assert await wire.is_cut()
        await until(lambda: not rig.service.clients, "nothing more can come, so nothing is waited for")


@pytest.mark.asyncio
async def test_a_refusal_is_read_although_the_client_is_still_sending() -> None:
    async with running(dials=OFF) as rig:
        wire = await rig.wire()
        wire.send(b"POST /events HTTP/1.1\r\nHost: a\r\nContent-Length: 8000000\r\n\r\n" + b"b" * 8_000_000)
        assert (await wire.answer()).status == 413
        assert await wire.is_cut()
        assert rig.plane.counters["refused_413"] == 1


@pytest.mark.asyncio
async def test_an_answer_is_not_reset_away_by_what_comes_behind_its_request() -> None:
    """A client that was not told yet that the connection ends may write its next request first, and read then."""
    async with running(dials=OFF) as rig:
        loop = asyncio.get_running_loop()
        with socket.create_connection(("127.0.0.1", rig.port)) as client:
            client.setblocking(False)
            await loop.sock_sendall(client, b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            await until(lambda: rig.other.seen and all(one._is_closing for one in rig.service.clients), "answered")
            await asyncio.sleep(0.05)
            for _ in range(3):  # to a socket that is closed, the first makes a reset and the second meets it
                await loop.sock_sendall(client, GET)
                await asyncio.sleep(0.01)
            answer = b""
            while piece := await loop.sock_recv(client, 65536):
                answer += piece
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert len(rig.other.seen) == 1
        await until(lambda: not rig.service.clients, "gone with its client")


@pytest.mark.asyncio
async def test_a_client_that_lingers_after_a_refusal_is_cut() -> None:
    async with running(dials=OFF) as rig:
        wire = await rig.wire()
        assert (await wire.ask(b"bad\r\n\r\n")).status == 400
        assert rig.service.clients
        rig.service.check_times(monotonic() + 2)
        await until(lambda: not rig.service.clients, "cut")


@pytest.mark.asyncio
async def test_the_end_of_a_long_answer_is_not_cut_off_for_a_slow_reader() -> None:
    async with running(dials=OFF) as rig:
        body = b"x" * 8_000_000
        rig.other.behave = always(reply(200, body))
        wire = await rig.wire(limit=4096)
        wire.send(b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        await until(lambda: any(client._is_full for client in rig.service.clients), "slow")
        rig.service.check_times(monotonic() + 5)
        assert (await wire.answer("GET")).body == body


# times


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("part", "limit", "status"),
    [
        (GET[:10], 5, 408),
        (b"POST /events HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx", 7, 408),
        (b"POST /events HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1", 7, 408),
        (b"", 9, 0),
    ],
    ids=["head", "body", "chunks", "idle"],
)
async def test_a_client_has_so_much_time(part: bytes, limit: int, status: int) -> None:
    async with running(dials=OFF, limits=LIMITS) as rig:
        wire = await rig.wire()
        assert (await wire.ask(GET)).status == 200
        wire.send(part)
        client = next(iter(rig.service.clients))
        await until(lambda: client._buffer or client._head is not None or not part, "received")
        rig.service.check_times(monotonic() + limit - 1)
        assert not client._is_closing
        rig.service.check_times(monotonic() + limit + 1)
        if status:
            answer = await wire.answer()
            assert (answer.status, answer.headers["connection"]) == (status, "close")
        assert await wire.is_cut()
        assert not rig.fake.events


@pytest.mark.asyncio
async def test_a_client_that_waits_for_its_answer_is_never_cut() -> None:
    async with running(dials=OFF, limits=LIMITS) as rig:
        held: list[BackendConnection] = []
        rig.other.behave = lambda seen, connection: held.append(connection)
        wire = await rig.wire()
        wire.send(GET)
        await until(lambda: held, "asked for")
        rig.service.check_times(monotonic() + 1000)
        held[0].write(reply(200))
        assert (await wire.answer("GET")).status == 200


@pytest.mark.asyncio
async def test_clients_that_run_out_of_time_together_are_cut_a_few_at_a_time() -> None:
    """Others are served in between: cutting costs system calls, and thousands may have come at once."""
    count = 5 * _CUTS + 1
    async with running(dials=OFF, limits=LIMITS) as rig:
        wires = [await rig.wire() for _ in range(count)]
        for wire in wires:
            wire.send(GET[:10])
        await until(lambda: sum(bool(client._buffer) for client in rig.service.clients) == count, "received")
        refused: list[int] = []
        asyncio.get_running_loop().call_soon(_watch, rig, refused, count)
        rig.service.check_times(monotonic() + 6)
        assert rig.plane.counters["refused_408"] == _CUTS
        rig.service.check_times(monotonic() + 6)  # the first one is not over
        await until(lambda: refused and refused[-1] == count, "all of them")
        assert max(after - before for before, after in pairwise(refused)) == _CUTS
        for wire in wires:
            assert (await wire.answer()).status == 408


def _watch(rig: Rig, refused: list[int], count: int) -> None:
    """Once in each iteration, write down how many were refused."""
    refused.append(rig.plane.counters["refused_408"])
    if refused[-1] < count:
        asyncio.get_running_loop().call_soon(_watch, rig, refused, count)


# numbers


@pytest.mark.asyncio
async def test_a_client_that_came_past_the_listener_is_cut_beyond_the_limit() -> None:
    """The listener answers 503 (see test_limits.py). Two listeners may take one each for the same place."""
    async with running(dials=OFF, limits={"max_connections": 2}) as rig:
        first, second = await rig.wire(), await rig.wire()
        assert (await first.ask(GET)).status == (await second.ask(GET)).status == 200
        third = await rig.wire()
        assert await third.is_cut()
        assert rig.plane.counters["refused_connections"] == 1
        first.close()
        await until(lambda: len(rig.service.clients) == 1, "one left")
        assert (await rig.ask(GET)).status == 200


@pytest.mark.asyncio
async def test_a_client_that_is_gone_before_it_is_accepted_does_no_harm() -> None:
    async with running(dials=OFF) as rig:
        for _ in range(5):
            found = socket.create_connection(("127.0.0.1", rig.port))
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            found.close()
        assert (await rig.ask(GET)).status == 200
        await until(lambda: not rig.service.clients, "nobody is left")


@pytest.mark.asyncio
async def test_clients_that_leave_at_the_moment_of_their_answer_do_not_disturb_others() -> None:
    async with running(dials=SHADOW) as rig:
        for _ in range(5):
            leaving = [await rig.wire() for _ in range(10)]
            staying = [await rig.wire() for _ in range(10)]
            for wire in leaving + staying:
                wire.send(event_bytes(key="k"))
            await asyncio.sleep(0)
            for wire in leaving:
                wire.reset()
            assert [(await wire.answer()).status for wire in staying] == [200] * 10
        await rig.settled()
        rig.check_ends()


# the end


@pytest.mark.asyncio
async def test_a_service_that_stops_answers_what_is_on_its_way_and_closes_what_is_idle() -> None:
    async with running(dials=OFF) as rig:
        held: list[BackendConnection] = []
        rig.other.behave = lambda seen, connection: held.append(connection)
        idle, busy = await rig.wire(), await rig.wire()
        busy.send(GET + GET)
        await until(lambda: held and len(rig.service.clients) == 2, "on its way")
        rig.service.stop()
        assert await idle.is_cut()
        held[0].write(reply(200))
        answer = await busy.answer("GET")
        assert answer.headers["connection"] == "close"
        assert await busy.is_cut()
        assert len(rig.other.seen) == 1


@pytest.mark.asyncio
async def test_what_no_route_takes_is_a_404_without_a_default() -> None:
    async with running(dials=OFF) as rig:
        rig.plane._default = None
        wire = await rig.wire()
        assert (await wire.ask(GET)).status == 404
        assert (await wire.ask(GET)).status == 404
        assert rig.plane.counters["refused_no_route"] == 2
