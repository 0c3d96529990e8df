"""Requests that can be told by their first line, and clients that end their side right after it."""

from __future__ import annotations

import socket

import pytest

from proxy.http.downstream import Client
from proxy.http.head import refuse_request_line
from tests.http.backend import BackendConnection, reply
from tests.http.rig import OFF, event_bytes, make_route, running
from tests.http.wire import Wire, until

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET /\r\n", 400),
        (b"\r\nGET /\r\n", 400),
        (b"GET / HTTP/1.1 x\r\n", 400),
        (b"GET  / HTTP/1.1\r\n", 400),
        (b"GET / HTTP/2.0\r\n", 505),
        (b"GET / HTTP/0.9\r\n", 505),
        (b"PRI * HTTP/2.0\r\n", 505),
        (b"GET / HTTP/3\r\n", 505),
        (b"GET /" + b"x" * 9000 + b" HTTP\r\n", 414),
    ],
)
async def test_a_request_that_its_first_line_condemns_is_refused_at_once(line: bytes, status: int) -> None:
    async with running(dials=OFF) as rig:
        wire = await rig.wire()
        answer = await wire.ask(line)
        assert (answer.status, answer.headers["connection"]) == (status, "close")
        assert await wire.is_cut()
        assert rig.other.received == b""


@pytest.mark.asyncio
@pytest.mark.parametrize("line", [b"GET /x HTTP/1.1\r\n", b"\r\nGET /x HTTP/1.0\r\n", b"GET /x HTTP/1.1\r", b"GET /x"])
async def test_a_first_line_that_may_be_well_waits_for_the_rest(line: bytes) -> None:
    async with running(dials=OFF) as rig:
        wire = await rig.wire()
        wire.send(line)
        await until(lambda: any(client._buffer == line for client in rig.service.clients), "waits")
        whole = GET if b"1.0" not in line else GET.replace(b"1.1", b"1.0")
        assert (await wire.ask(whole[len(line.lstrip(b"\r\n")) :])).status == 200


def test_without_the_end_of_the_line_nothing_is_known() -> None:
    assert refuse_request_line(b"GET / HTTP/2.0", 8192) is None
    assert refuse_request_line(b"GET", 8192) is None
    assert refuse_request_line(b"GET / HTTP/1.1\r\nHo", 8192) is None


async def half_closed(port: int, data: bytes) -> Wire:
    """A client whose request and end come in one piece."""
    wire = await Wire.open(port)
    connection = wire.writer.get_extra_info("socket")
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)  # the kernel joins what is written with the end
    wire.send(data)
    wire.writer.write_eof()
    return wire


ENDING = {
    "passed": (GET, 200),
    "event": (event_bytes("e", key="k"), 200),
    "refused event": (event_bytes("e"), 400),  # no key: answered within the iteration in which it came
    "malformed": (b"GET /\r\n\r\n", 400),
    "old version": (b"GET / HTTP/2.0\r\n", 505),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("is_held", [False, True], ids=["written at once", "held by the ledger"])
@pytest.mark.parametrize(("data", "status"), ENDING.values(), ids=ENDING)
async def test_a_client_that_ends_its_side_with_its_request_is_answered(
    data: bytes, status: int, is_held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[Client] = []
    eof_received = Client.eof_received

    def noted(client: Client) -> bool:
        ended.append(client)
        return eof_received(client)

    monkeypatch.setattr(Client, "eof_received", noted)
    async with running(make_route(key_missing="reject"), dials=OFF) as rig:
        if is_held:
            rig.tick._flush = lambda: False  # records cannot leave now
        wire = await half_closed(rig.port, data)
        rig.wires.append(wire)
        await until(lambda: ended, "its end is known")
        if is_held:
            assert ended[0] in rig.service.clients
            rig.tick._flush = rig.ledger.flush
            rig.tick.run()
        assert (await wire.answer()).status == status
        assert await wire.is_cut()
        await until(lambda: not rig.service.clients, "the connection is closed")
        await rig.settled()


@pytest.mark.asyncio
async def test_a_client_that_ended_its_side_is_waited_for_as_long_as_its_backend_takes() -> None:
    async with running(dials=OFF) as rig:
        held: list[BackendConnection] = []
        rig.other.behave = lambda seen, connection: held.append(connection)
        wire = await half_closed(rig.port, GET)
        rig.wires.append(wire)
        await until(lambda: held, "asked for")
        held[0].write(reply(200, b"late"))
        answer = await wire.answer("GET")
        assert (answer.body, answer.headers["connection"]) == (b"late", "close")
        assert await wire.is_cut()


@pytest.mark.asyncio
async def test_pipelined_requests_before_the_end_are_all_answered() -> None:
    async with running(dials=OFF) as rig:
        wire = await half_closed(rig.port, GET + GET + GET + b"GET /never HTTP/1.1\r\nHo")
        rig.wires.append(wire)
        for _ in range(3):
            assert (await wire.answer("GET")).status == 200
        assert await wire.is_cut()
        await until(lambda: not rig.service.clients, "the connection is closed")
        wire = await half_closed(rig.port, GET + GET)
        rig.wires.append(wire)
        answers = [await wire.answer("GET") for _ in range(2)]
        assert [answer.headers.get("connection") for answer in answers] == [None, "close"]
        assert await wire.is_cut()
