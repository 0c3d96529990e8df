"""A source's connection: whom it trusts with its credential, what it owes, and that it always ends."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.utils import accept_key

from config.sources import Source
from proxy.sources.source import UNHEALTHY
from tests.http.backend import BackendConnection, Seen, always, reply
from tests.http.rig import make_route, running
from tests.http.wire import until
from tests.sources.fake_home import TOKEN
from tests.sources.test_source import QUICK, ROUTE, any_server, fake_home, run

pytestmark = pytest.mark.asyncio


def source(port: int, changes: dict[str, Any] | None = None, **own: Any) -> Source:
    document = {"name": "home", "route": "events", "websocket": {"url": f"ws://127.0.0.1:{port}"} | own}
    return Source.model_validate(document | QUICK | (changes or {}))


class Flood:
    """A server that sends without end, and reads nothing but the handshake."""

    def __init__(self) -> None:
        self.connections = 0
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._tasks.add(asyncio.create_task(self._send(reader, writer)))

    async def _send(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = [line.split(b": ", 1) for line in head.split(b"\r\n") if b": " in line]
        key = next(value for name, value in lines if name.lower() == b"sec-websocket-key")
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept_key(key.decode()).encode()
        )
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        body = orjson.dumps({"entity_id": "a", "fill": "x" * 4000})
        try:
            while True:
                writer.write(b"\x81\x7e" + len(body).to_bytes(2, "big") + body)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def flood() -> AsyncIterator[Flood]:
    made = Flood()
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    listening.bind(("127.0.0.1", 0))
    made.port = listening.getsockname()[1]
    server = await asyncio.start_server(made.serve, sock=listening)
    try:
        yield made
    finally:
        server.close()
        await made.close()


async def test_no_redirect_gets_our_credential() -> None:
    async with fake_home() as elsewhere, running(make_route(**ROUTE)) as rig:

        def redirect(_connection: ServerConnection, _request: Request) -> Response:
            return Response(302, "Found", Headers({"Location": elsewhere.url, "Content-Length": "0"}), b"")

        async def never(_socket: ServerConnection) -> None:
            raise AssertionError("nobody gets in")

        async with serve(never, "127.0.0.1", 0, process_request=redirect) as listening:
            port = next(iter(listening.sockets)).getsockname()[1]
            home = {"url": f"ws://127.0.0.1:{port}/", "token": TOKEN}
            document = {"name": "home", "route": "events", "home_assistant": home} | QUICK
            async with run(rig, Source.model_validate(document)) as made:
                await until(lambda: "it answers 302" in made.source.stats().trouble, "it says so")
                assert (elsewhere.attempts, elsewhere.tokens) == (0, [])


async def test_one_that_never_asks_for_the_token_is_given_up() -> None:
    async with any_server() as (_, made), running(make_route(**ROUTE)) as rig:
        kind = made().websocket
        assert kind is not None
        document = {"name": "home", "route": "events", "home_assistant": {"url": kind.url, "token": TOKEN}}
        quick = QUICK | {"ping_interval": "30ms", "open_timeout": "100ms"}
        async with run(rig, Source.model_validate(document | quick)) as home:
            await until(lambda: home.source.stats().trouble == "it has not let us in for 0.1 s", "it says so")
            assert home.source.stats().state == UNHEALTHY


async def test_it_stops_where_its_server_reads_nothing() -> None:
    async with flood() as server, running(make_route(**ROUTE)) as rig:
        settings = source(server.port, {"unaccepted": 100_000}, acknowledge={"all": "{{}}"})
        async with run(rig, settings) as made:
            await until(lambda: (found := made.source._connection) is not None and found.owed > 20, "it reads nothing")
            began = time.monotonic()
            await asyncio.wait_for(made.source.stop(0.1), 5)
            assert time.monotonic() - began < 2


async def test_acknowledgements_that_nobody_reads_end_the_connection() -> None:
    async with flood() as server, running(make_route(**ROUTE)) as rig:
        settings = source(server.port, {"unaccepted": 10}, acknowledge={"all": "{{}}"})
        async with run(rig, settings) as made:
            await until(lambda: server.connections > 0)
            most = 0

            def is_over() -> bool:
                nonlocal most
                connection = made.source._connection
                most = max(most, connection.owed if connection is not None else 0)
                return "it has not read 11 acknowledgements" in made.source.stats().trouble

            await until(is_over, "it is given up")
            assert made.source.stats().state == UNHEALTHY
            assert most <= 11 + 10, "and those of what was on its way"


async def test_a_message_that_is_in_hand_at_a_stop_is_gone_through() -> None:
    def slow(_seen: Seen, connection: BackendConnection) -> None:
        asyncio.get_running_loop().call_later(0.02, connection.write, reply(200))

    async with any_server() as (server, made), running(make_route(**ROUTE)) as rig:
        rig.old.behave = rig.new.behave = slow
        async with run(rig, made(unaccepted=20)) as running_source:
            await until(lambda: server.sockets, "it is connected")
            entries = orjson.dumps([{"n": n, "entity_id": f"e{n}"} for n in range(200)]).decode()
            await server.sockets[0].send(entries)
            await until(lambda: running_source.source.stats().unaccepted == 20, "it is read")
            await server.sockets[0].send(entries)
            await running_source.source.stop(5.0)
            assert running_source.counts["accepted"] == 200


async def test_what_a_stop_gets_accepted_is_acknowledged() -> None:
    def slow(_seen: Seen, connection: BackendConnection) -> None:
        asyncio.get_running_loop().call_later(0.1, connection.write, reply(200))

    async with (
        any_server(id="/n", acknowledge={"n": "{{/n}}"}) as (server, made),
        running(make_route(**ROUTE)) as rig,
        run(rig, made()) as running_source,
    ):
        await until(lambda: server.sockets, "it is connected")
        rig.old.behave = rig.new.behave = slow
        await server.sockets[0].send(orjson.dumps([{"n": n, "entity_id": f"e{n}"} for n in range(20)]).decode())
        await until(lambda: running_source.source.stats().unaccepted == 20, "they are read")
        await running_source.source.stop(2.0)
        assert running_source.counts["accepted"] == 20
        assert sorted(server.heard[0]) == sorted(f'{{"n":{n}}}' for n in range(20))


async def test_a_server_that_lets_us_in_and_closes_is_left_alone_for_longer_each_time() -> None:
    attempts = 0

    async def closes(server: ServerConnection) -> None:
        nonlocal attempts
        attempts += 1
        await server.close(1008, "no")

    async with serve(closes, "127.0.0.1", 0, close_timeout=0.1) as listening, running(make_route(**ROUTE)) as rig:
        port = next(iter(listening.sockets)).getsockname()[1]
        async with run(rig, source(port, {"retry_initial": "10ms", "retry_max": "10s"})) as made:
            await until(lambda: attempts >= 4, "it tries again")
            await asyncio.sleep(0.5)
            assert attempts <= 9, "10, 20, 40 ... 640 ms, half of it at the least"
            assert made.counts["connects"] >= 4


async def test_the_end_of_a_connection_that_stood_for_long_is_news(caplog: pytest.LogCaptureFixture) -> None:
    async with (
        any_server() as (server, made),
        running(make_route(**ROUTE)) as rig,
        run(rig, made(retry_initial="10ms", retry_max="30ms")),
    ):
        for turn in range(4):
            await until(lambda: len(server.sockets) > turn, "it is connected")  # noqa: B023 - awaited here
            await asyncio.sleep(0.05)
            await server.sockets[turn].close()
        await until(lambda: len(server.sockets) == 5, "it is connected again")
    assert len([each for each in caplog.records if "it was disconnected" in each.getMessage()]) == 4


async def test_a_message_that_is_not_read_yet_is_alone_in_memory() -> None:
    sent = 0

    async def sends(server: ServerConnection) -> None:
        nonlocal sent
        with suppress(ConnectionClosed):
            await server.send('{"entity_id": "a"}')
            for _ in range(16):
                await server.send(orjson.dumps({"entity_id": "a", "fill": "x" * 4 * 2**20}).decode())
                sent += 1

    async with serve(sends, "127.0.0.1", 0, compression=None) as listening, running(make_route(**ROUTE)) as rig:
        rig.old.behave = rig.new.behave = always(b"")
        port = next(iter(listening.sockets)).getsockname()[1]
        async with run(rig, source(port, {"unaccepted": 1})) as made:
            await until(lambda: made.source.stats().unaccepted == 1, "it reads no further")
            await asyncio.sleep(0.5)
            assert sent < 8, "one here, one on its way, the rest in the buffers of the kernel"
