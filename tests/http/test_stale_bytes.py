"""Bytes on a backend's connection that answer nothing: they end it, and no request is answered by them or lost."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from proxy.http.connection import Connection
from proxy.http.downstream import Client
from tests.http.backend import BackendConnection, Seen, always, reply
from tests.http.rig import OFF, Rig, event_bytes, make_route, running
from tests.http.wire import Wire, until

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
STALE = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
EVENT = event_bytes(key="k")
"""Without an id: it is not sent twice unless the first time was certainly none."""


@pytest.mark.asyncio
async def test_what_follows_a_204_with_a_length_answers_no_event() -> None:
    async with running(dials=OFF) as rig:

        def behave(seen: Seen, connection: BackendConnection) -> None:
            if connection.number:
                connection.write(reply(201, b"its own"))
            elif len(rig.old.seen) == 1:
                connection.write(b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n")
            else:
                connection.write(b"later" + reply(200, b"another's"))

        rig.old.behave = behave
        wire = await rig.wire()
        assert (await wire.ask(EVENT)).status == 204
        answer = await wire.ask(EVENT)
        assert (answer.status, answer.body) == (201, b"its own")
        assert [seen.connection for seen in rig.old.seen] == [0, 1]
        await rig.settled()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("method", "data", "is_kept"),
    [
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", True),
        ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", True),
        ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", False),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", True),
        ("HEAD", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", True),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", True),
    ],
)
async def test_a_connection_is_kept_when_no_body_can_follow(method: str, data: bytes, is_kept: bool) -> None:
    async with running(dials=OFF) as rig:
        rig.other.behave = always(data)
        wire = await rig.wire()
        await wire.ask(GET.replace(b"GET", method.encode()), method)
        rig.other.behave = always(reply(200))
        assert (await wire.ask(GET)).status == 200
        assert len(rig.other.connections) == (1 if is_kept else 2)


async def warm(rig: Rig) -> tuple[Wire, Client, Connection]:
    """A client's connection, and the pooled one that its next event will take."""
    wire = await rig.wire()
    assert (await wire.ask(EVENT)).status == 200
    await rig.settled()
    (client,) = rig.service.clients
    (connection,) = rig.upstreams["old"]._idle
    return wire, client, connection


async def check_sent_once(rig: Rig, wire: Wire) -> None:
    """The second event was answered, having come to its backend once, on a new connection."""
    rig.old.connections[0].write(STALE)  # nothing that comes so late makes a difference
    assert (await wire.answer()).status == 200
    await rig.settled()
    assert [seen.connection for seen in rig.old.seen] == [0, 1]
    assert rig.old.received.count(b"POST ") == 2
    rig.check_ends()


@pytest.mark.asyncio
@pytest.mark.parametrize("data", [STALE, b"H", reply(200, b"not yours")], ids=["408", "a part", "200"])
async def test_bytes_that_come_before_a_queued_request_is_written_do_not_answer_it(data: bytes) -> None:
    async with running(dials=OFF) as rig:
        wire, client, connection = await warm(rig)
        client.data_received(EVENT)  # both in one iteration of the loop
        assert connection.leg is not None
        connection.data_received(data)
        await check_sent_once(rig, wire)


@pytest.mark.asyncio
@pytest.mark.parametrize("end", ["bytes", "end"])
async def test_a_connection_that_is_about_to_go_takes_no_request(end: str) -> None:
    async with running(dials=OFF) as rig:
        wire, client, connection = await warm(rig)
        assert connection.transport is not None
        rig.tick.schedule()  # it will write before the loop says that the connection is lost
        if end == "bytes":
            connection.data_received(STALE)
        else:
            assert not connection.eof_received()
            connection.transport.close()  # what the loop does then
        client.data_received(EVENT)
        await check_sent_once(rig, wire)


# an answer that stalls


@pytest.mark.asyncio
@pytest.mark.parametrize("framing", [b"Content-Length: 100\r\n\r\nx", b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"])
async def test_an_answer_that_stalls_in_its_middle_is_cut(framing: bytes) -> None:
    async with running(make_route(copy_wait="60s"), backend={"body_timeout": "100ms"}) as rig:
        rig.old.behave = always(b"HTTP/1.1 200 OK\r\n" + framing)
        wire = await rig.wire()
        wire.send(event_bytes("e", key="k"))
        data = await wire.rest()
        assert data.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"x" in data
        assert not data.endswith(b"0\r\n\r\n"), "the client can tell that it is not whole"
        await rig.settled()
        assert rig.upstreams["old"].open == 0
        assert rig.story("e") == ("D", "D"), "its head said that the event is there"


@pytest.mark.asyncio
async def test_the_time_that_a_slow_client_takes_is_not_the_backends() -> None:
    body = b"x" * 8_000_000
    async with running(dials=OFF) as rig:
        rig.other.behave = always(reply(200, body))
        wire = await rig.wire(limit=4096)
        wire.send(GET)
        upstream = rig.upstreams["other"]
        await until(lambda: any(client._is_full for client in rig.service.clients), "the client is behind")
        (connection,) = upstream._all
        assert connection.leg is not None
        assert connection.leg.is_paused
        upstream.check_times(monotonic() + 3600)
        connection._progress_at -= 3600  # an hour passes
        rounds = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.05, rounds.set_result, None)  # with some housekeeping
        await rounds
        assert connection.leg is not None
        answer = await wire.answer("GET")
        assert answer.body == body
