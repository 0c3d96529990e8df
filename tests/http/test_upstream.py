"""Backends' connections: reuse, repeats, limits, timeouts, the breaker."""

from __future__ import annotations

import asyncio

import pytest

from config.model import Backend as BackendSettings
from proxy.http.leg import Leg
from proxy.http.response_head import ResponseHead
from proxy.http.tick import Tick
from proxy.http.upstream import Upstream
from tests.http.backend import Backend, BackendConnection, Seen, always, reply
from tests.http.rig import OFF, Rig, event_bytes, make_route, running
from tests.http.wire import Answer, until

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"


def get(method: str = "GET", version: str = "1.1", headers: str = "") -> bytes:
    return f"{method} /x HTTP/{version}\r\nHost: a\r\n{headers}\r\n".encode()


def closes_second(backend: Backend) -> None:
    """Answers the first request of a connection, and closes when there comes a second one."""
    counts: dict[int, int] = {}

    def behave(seen: Seen, connection: BackendConnection) -> None:
        counts[seen.connection] = counts.get(seen.connection, 0) + 1
        if counts[seen.connection] > 1:
            connection.reset()
        else:
            connection.write(reply(200))

    backend.behave = behave


@pytest.mark.asyncio
@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("HEAD", 200), ("PUT", 200), ("POST", 502)])
async def test_a_stale_connections_request_is_repeated_if_it_may_be(method: str, status: int) -> None:
    async with running(dials=OFF) as rig:
        closes_second(rig.other)
        assert (await rig.ask(GET)).status == 200
        body = "" if method in ("GET", "HEAD") else "Content-Length: 0\r\n"
        assert (await rig.ask(get(method, headers=body), method)).status == status
        await rig.settled()
        assert len(rig.other.connections) == (2 if status == 200 else 1)


@pytest.mark.asyncio
@pytest.mark.parametrize(("event_id", "status"), [("mine", 200), ("", 502)])
async def test_an_event_is_repeated_only_under_the_clients_own_id(event_id: str, status: int) -> None:
    async with running(make_route(on_authority_down="fail"), dials=OFF) as rig:
        closes_second(rig.old)
        assert (await rig.ask(event_bytes("first", key="k"))).status == 200
        assert (await rig.ask(event_bytes(event_id, key="k"))).status == status


@pytest.mark.asyncio
async def test_it_is_repeated_once() -> None:
    async with running(dials=OFF) as rig:
        assert (await rig.ask(GET)).status == 200
        rig.other.behave = lambda seen, connection: connection.reset()
        assert (await rig.ask(GET)).status == 502
        assert len(rig.other.seen) == 3


@pytest.mark.asyncio
async def test_a_first_request_on_a_connection_is_not_repeated() -> None:
    async with running(dials=OFF) as rig:
        rig.other.behave = lambda seen, connection: connection.reset()
        assert (await rig.ask(GET)).status == 502
        assert len(rig.other.seen) == 1


@pytest.mark.asyncio
async def test_an_answer_that_began_is_not_asked_for_again() -> None:
    async with running(dials=OFF) as rig:
        assert (await rig.ask(GET)).status == 200
        rig.other.behave = lambda seen, connection: connection.finish(b"HTTP/1.1 200")
        assert (await rig.ask(GET)).status == 502
        assert len(rig.other.seen) == 2


@pytest.mark.asyncio
async def test_a_repeated_request_keeps_to_the_pools_limit() -> None:
    async with running(dials=OFF, backend={"connections": 1}) as rig:
        closes_second(rig.other)
        assert (await rig.ask(GET)).status == 200
        answers = await asyncio.gather(*(rig.ask(GET) for _ in range(3)))
        assert [answer.status for answer in answers] == [200] * 3
        await rig.settled()
        assert rig.upstreams["other"].open <= 1


@pytest.mark.asyncio
async def test_refused_connections_are_a_502() -> None:
    async with running(dials=OFF, down=("other",)) as rig:
        answer = await rig.ask(POST)
        assert answer.status == 502
        assert "cannot connect" in answer.detail
        await rig.settled()


@pytest.mark.asyncio
async def test_a_connect_that_takes_too_long_is_a_502() -> None:
    async with running(dials=OFF, backend={"connect_timeout": "20ms"}, down=("other",)) as rig:
        rig.other._socket.listen(0)
        fillers = [await asyncio.open_connection("127.0.0.1", rig.other.port)]  # the queue of one is full now
        answer = await rig.ask(POST)
        if answer.status == 504:  # the kernel took one more than the queue
            answer = await rig.ask(POST)
        assert answer.status == 502
        assert answer.detail == "cannot connect to the backend other"
        for _, writer in fillers:
            writer.close()
        await rig.settled()


@pytest.mark.asyncio
async def test_no_answer_in_time_is_a_504() -> None:
    async with running(dials=OFF, backend={"response_timeout": "30ms"}) as rig:
        rig.other.behave = lambda seen, connection: connection.write(b"HTTP/1.1 200 OK\r\nConte")
        assert (await rig.ask(POST)).status == 504
        await rig.settled()
        assert rig.upstreams["other"].open == 0


@pytest.mark.asyncio
async def test_interim_answers_do_not_put_the_timeout_off() -> None:
    async with running(dials=OFF, backend={"response_timeout": "30ms"}) as rig:
        rig.other.behave = lambda seen, connection: connection.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 3)
        assert (await rig.ask(POST)).status == 504


async def occupied(rig: Rig, count: int) -> list[asyncio.Task[Answer]]:
    """So many requests that are on their way or wait."""
    tasks = [asyncio.create_task(rig.ask(POST)) for _ in range(count)]
    upstream = rig.upstreams["other"]
    await until(lambda: len(rig.other.seen) + len(upstream._waiting) == count, "on their way")
    return tasks


@pytest.mark.asyncio
async def test_a_full_line_is_a_503_and_those_in_line_are_served() -> None:
    settings = {"connections": 2, "pending": 1, "response_timeout": "60s"}
    async with running(dials=OFF, backend=settings) as rig:
        rig.other.behave = lambda seen, connection: None
        tasks = await occupied(rig, 3)
        answer = await rig.ask(POST)
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert len(rig.other.connections) == 2
        rig.other.behave = always(reply(200))
        for connection in rig.other.connections:
            connection.write(reply(200))
        assert [(await task).status for task in tasks] == [200] * 3


@pytest.mark.asyncio
async def test_waiting_too_long_for_a_connection_is_a_504() -> None:
    settings = {"connections": 1, "pending": 5, "response_timeout": "30ms"}
    async with running(dials=OFF, backend=settings) as rig:
        rig.other.behave = lambda seen, connection: None
        tasks = await occupied(rig, 3)
        assert {(await task).status for task in tasks} == {504}
        await rig.settled()


@pytest.mark.asyncio
async def test_an_idle_connection_is_closed_after_its_time() -> None:
    async with running(dials=OFF, backend={"idle_timeout": "30ms"}) as rig:
        assert (await rig.ask(POST)).status == 200
        await until(lambda: rig.other.connections[0].is_lost, "closed")
        assert rig.upstreams["other"].open == 0
        assert (await rig.ask(POST)).status == 200


@pytest.mark.asyncio
async def test_closing_tells_everybody_who_waits() -> None:
    settings = {"connections": 1, "pending": 5, "response_timeout": "60s"}
    async with running(dials=OFF, backend=settings) as rig:
        rig.other.behave = lambda seen, connection: None
        tasks = await occupied(rig, 3)
        rig.upstreams["other"].close()
        assert {(await task).status for task in tasks} == {502}
        await rig.settled()


@pytest.mark.asyncio
async def test_a_breaker_counts_failures_and_forgets_them_at_a_success() -> None:
    async with running(dials=OFF, backend={"breaker": {"failures": 3, "reset": "60s"}}) as rig:
        upstream = rig.upstreams["old"]
        for status in (500, 500, 404, 500, 500):
            rig.old.behave = always(reply(status))
            await rig.ask(event_bytes("e", key="k"))
        assert upstream.breaker.is_closed
        await rig.ask(event_bytes("e", key="k"))
        assert not upstream.breaker.is_closed
        assert not upstream.is_well
        seen = len(rig.old.seen)
        assert (await rig.ask(event_bytes("e", key="k"))).status in (202, 503)
        assert len(rig.old.seen) == seen
        upstream.breaker.succeeded()
        upstream.is_healthy = False
        assert (await rig.ask(event_bytes("e", key="k"))).status in (202, 503)
        assert len(rig.old.seen) == seen, "what the probe says counts too"


@pytest.mark.asyncio
async def test_a_request_that_fills_every_buffer_goes_out_without_an_error() -> None:
    loop = asyncio.get_running_loop()
    errors: list[object] = []
    loop.set_exception_handler(lambda _, context: errors.append(context))
    size = 16_000_000

    async def read_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.2)
        await reader.readexactly(size)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await reader.read()
        writer.close()
        closed.set()

    closed = asyncio.Event()
    server = await asyncio.start_server(read_late, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = BackendSettings.model_validate({"url": f"http://127.0.0.1:{port}"})
    upstream = Upstream("old", settings, loop, Tick(loop, lambda: True))
    owner = Waiting(loop)
    leg = Leg(owner, upstream, 0, 0, b"POST", b"x" * size, False)
    upstream.send(leg)
    try:
        assert await asyncio.wait_for(owner.ended, 10) == 200
        assert errors == []
    finally:
        upstream.close()
        server.close()
        await asyncio.wait_for(closed.wait(), 10)


class Waiting:
    """An owner that can be waited for."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.ended: asyncio.Future[int] = loop.create_future()

    def leg_interim(self, leg: Leg, head: ResponseHead) -> None:
        """Not looked at."""

    def leg_started(self, leg: Leg) -> None:
        raise AssertionError("the answer is not long")

    def leg_data(self, leg: Leg, data: bytes) -> None:
        raise AssertionError("the answer has no body")

    def leg_done(self, leg: Leg) -> None:
        self.ended.set_result(leg.status)
