"""What cannot move ends in order; what is not taken stays; who dies in between takes nothing with it but itself."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
import pytest

from proxy.http import moved
from proxy.http.moved import ClientState, MovingClient
from proxy.websocket.frames import SERVICE_RESTART
from proxy.worker import offers
from proxy.worker.handover import (
    VERSION,
    Accepted,
    Channel,
    Greeting,
    Message,
    Offer,
    Refused,
    Release,
    Withdraw,
)
from tests.http.rig import event_bytes
from tests.http.rig import make_route as http_route
from tests.http.wire import Wire, until
from tests.websocket.byhand import TEXT, sent
from tests.websocket.clients import Closed
from tests.websocket.rig import make_route, text
from tests.worker.moving import Workers, workers

SESSIONS = make_route()
EVENTS = http_route()


async def retired(found: Workers, *paths: Path, seconds: float = 1.0) -> None:
    """The first worker gives its connections away, or ends them; what is left then is closed, as a worker does."""
    retiring = found.retiring = found.retire(found.a, *paths)
    await retiring.run(monotonic() + seconds)
    found.a.rig.service.last_call()
    found.a.rig.service.stop()
    found.a.sessions.stop(SERVICE_RESTART, "the proxy restarts")


# what ends


@pytest.mark.asyncio
async def test_without_a_successor_clients_hear_that_their_next_answer_is_the_last() -> None:
    async with workers(EVENTS) as found:
        busy, idle = await found.wire(), await found.wire()
        assert (await idle.ask(event_bytes("e1", key="k"))).status == 200
        retiring = asyncio.create_task(retired(found))
        answer = await busy.ask(event_bytes("e2", key="k"))
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await busy.is_cut()
        assert await idle.is_cut()
        await retiring


@pytest.mark.asyncio
async def test_in_a_drain_no_client_moves_for_each_is_about_to_end() -> None:
    async with workers(EVENTS) as found:
        busy, idle = await found.wire(), await found.wire()
        assert (await idle.ask(event_bytes("e1", key="k"))).status == 200
        found.a.rig.service.drain()
        retiring = asyncio.create_task(retired(found, found.listen(found.b), seconds=0.5))
        answer = await busy.ask(event_bytes("e2", key="k"))
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await idle.is_cut()
        await retiring
        assert found.a.counted("drained_http") > 0
        assert found.b.counted("moved_in_http") == 0


@pytest.mark.asyncio
async def test_without_a_successor_sessions_hear_that_the_service_restarts() -> None:
    async with workers(SESSIONS) as found:
        client = await found.by_hand()
        client.send(sent(TEXT, text(1).encode()))
        await client.ping()
        await asyncio.gather(retired(found), self_closed(client.closed()))
        assert found.a.is_received("m1")


async def self_closed(closed: Any) -> None:
    code, reason = await closed
    assert (code, reason) == (1012, "the proxy restarts")


@pytest.mark.asyncio
async def test_sessions_end_one_after_the_other() -> None:
    async with workers(SESSIONS) as found:
        clients = [await found.a.client() for _ in range(12)]
        ended: list[float] = []

        async def end_of(client: Any) -> None:
            with pytest.raises(Closed) as closed:
                await client.recv()
            assert closed.value.code == 1012
            ended.append(monotonic())

        await asyncio.gather(retired(found, seconds=2.0), *[end_of(client) for client in clients])
        assert ended[-1] - ended[0] > 0.3, "not all at once"


# what is refused


@pytest.mark.asyncio
async def test_a_successor_without_room_takes_no_more_than_it_may() -> None:
    async with workers(EVENTS, other={"limits": {"max_connections": 1}}) as found:
        first, second = await found.wire(), await found.wire()
        await asyncio.gather(retired(found, found.listen(found.b)), one_cut(first, second))
        assert (found.a.counted("moved_out_http"), found.a.counted("moves_refused_http")) == (1, 1)
        assert len(found.b.rig.service.clients) == 1


async def one_cut(first: Wire, second: Wire) -> None:
    cuts = {asyncio.create_task(wire.reader.read()): wire for wire in (first, second)}
    done, left = await asyncio.wait(cuts, return_when=asyncio.FIRST_COMPLETED)
    assert len(done) == 1
    for each in left:
        each.cancel()
    await asyncio.gather(*left, return_exceptions=True)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("other_route", "other"),
    [
        (None, {"backend_settings": {"old": {"url": "http://127.0.0.1:9"}}}),
        (make_route(name="another"), {}),
        (make_route(key="header:X-Crossfade-Key"), {}),
    ],
    ids=["another backend", "no such route", "a header that was not kept"],
)
async def test_a_session_that_would_be_another_one_there_stays(other_route: Any, other: Any) -> None:
    async with workers(SESSIONS, other_route, other=other) as found:
        wire = await found.wire()
        wire.send(HANDSHAKE)
        assert (await wire.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        await found.a.connected()
        retiring = asyncio.create_task(retired(found, found.listen(found.b), seconds=3.0))
        await until(lambda: found.a.counted("moves_refused_websocket"), "refused")
        wire.send(sent(TEXT, text(1).encode()))
        await until(lambda: found.numbers(found.old) == [text(1).encode()], "it goes on here")
        await retiring
        assert not found.b.sessions.open


HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"X-Crossfade-Key: k\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.mark.asyncio
async def test_a_state_of_another_version_is_refused_and_that_connection_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with workers(EVENTS) as found:
        first, second = await found.wire(), await found.wire()
        assert (await first.ask(event_bytes("e1", key="k"))).status == 200
        state = MovingClient.state

        def newer(self: MovingClient) -> tuple[bytes, list[int]]:
            data, descriptors = state(self)
            if self.connection.contributions:  # the first: it has sent something
                data = moved.encode(msgspec.msgpack.decode(data) | {"mood": "good"})
            return data, descriptors

        monkeypatch.setattr(MovingClient, "state", newer)
        retiring = asyncio.create_task(retired(found, found.listen(found.b), seconds=3.0))
        await until(lambda: found.a.counted("moves_refused_http") == found.a.counted("moved_out_http") == 1, "one each")
        answer = await first.ask(event_bytes("e2", key="k"))
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert (await second.ask(event_bytes("e3", key="k"))).status == 200
        assert "e3" in found.b.rig.fake.events
        await retiring


@pytest.mark.asyncio
async def test_a_conversation_of_another_version_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offers, "VERSION", VERSION + 1)
    async with workers(EVENTS) as found:
        wire = await found.wire()
        await asyncio.gather(retired(found, found.listen(found.b)), wire.is_cut())
        assert found.a.counted("moves_refused_http") == 1


# who dies


class Successor:
    """Listens as one, and does what a test says."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[Message] = []
        self.channel: Channel | None = None
        self.sockets: list[socket.socket] = []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._listening.setblocking(False)
        asyncio.get_running_loop().add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        connection, _ = self._listening.accept()
        loop = asyncio.get_running_loop()
        self.channel = Channel(connection, loop, is_successor=True, hear=self._hear, lost=lambda why: None)

    def _hear(self, message: Message) -> None:
        self.heard.append(message)
        if isinstance(message, Offer):
            assert self.channel is not None
            self.sockets += self.channel.sockets(message.sockets)

    def of(self, kind: type[Message]) -> list[Message]:
        return [message for message in self.heard if isinstance(message, kind)]

    def die(self) -> None:
        asyncio.get_running_loop().remove_reader(self._listening)
        self._listening.close()
        self.path.unlink()
        if self.channel is not None:
            self.channel.close()
        for each in self.sockets:
            each.close()


@pytest.mark.asyncio
async def test_what_a_successor_has_not_accepted_when_it_dies_stays() -> None:
    async with workers(SESSIONS) as found:
        client = await found.by_hand()
        successor = Successor(found.directory / "s.sock")
        retiring = asyncio.create_task(retired(found, successor.path, seconds=3.0))
        await until(lambda: successor.of(Offer), "offered")
        client.send(sent(TEXT, text(1).encode()))
        await asyncio.sleep(0.02)
        assert found.numbers(found.old) == [], "nobody touches it in between"
        successor.die()
        await client.ping()
        assert found.numbers(found.old) == [text(1).encode()]
        assert await client.closed() == (1012, "the proxy restarts")
        await retiring


@pytest.mark.asyncio
@pytest.mark.plain
async def test_a_successor_that_does_not_answer_is_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offers, "ANSWER_WAIT", 0.05)
    async with workers(EVENTS) as found:
        wire = await found.wire()
        successor = Successor(found.directory / "s.sock")
        retiring = asyncio.create_task(retired(found, successor.path, seconds=2.0))
        await until(lambda: successor.of(Offer), "offered")
        assert (await wire.ask(event_bytes("e1", key="k"))).status == 200
        await until(lambda: successor.channel is not None and not successor.channel.is_open, "it hears of that")
        successor.die()
        await retiring
        assert found.a.counted("moved_out_http") == 0


@pytest.mark.asyncio
async def test_a_client_that_ends_while_it_is_offered_is_withdrawn() -> None:
    async with workers(SESSIONS) as found:
        await found.by_hand()
        successor = Successor(found.directory / "s.sock")
        retiring = asyncio.create_task(retired(found, successor.path, seconds=3.0))
        await until(lambda: successor.of(Offer), "offered")
        found.a.sessions.stop()
        assert successor.channel is not None
        successor.channel.put(Accepted(1))
        await until(lambda: successor.of(Withdraw) == [Withdraw(1)], "withdrawn")
        assert not successor.of(Release)
        successor.die()
        await retiring


class Predecessor:
    """Calls as one, with a client's connection that it has itself."""

    def __init__(self, path: Path) -> None:
        calling = offers.call(path)
        assert calling is not None
        self.heard: list[Message] = []
        loop = asyncio.get_running_loop()
        self.channel = Channel(calling, loop, is_successor=False, hear=self.heard.append, lost=lambda why: None)
        self.channel.put(Greeting(VERSION, []))
        self.outer, self.inner = tcp_pair()

    def offer(self, unserved: bytes = b"", kind: str = "http") -> None:
        state = moved.encode(ClientState(unserved, 0.0))
        assert self.channel.offer(Offer(1, kind, state, 1), [self.inner.fileno()])
        self.inner.close()


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        outer = socket.create_connection(server.getsockname())
        inner, _ = server.accept()
    outer.setblocking(False)
    return outer, inner


@contextmanager
def predecessor(found: Workers) -> Iterator[Predecessor]:
    one = Predecessor(found.listen(found.b))
    yield one
    one.channel.close()
    one.outer.close()
    one.inner.close()


@pytest.mark.asyncio
async def test_a_predecessor_that_dies_before_it_lets_go_takes_the_connection_with_it() -> None:
    async with workers(EVENTS) as found:
        with predecessor(found) as one:
            one.offer(event_bytes("e1", key="k"))
            await until(lambda: one.heard == [Accepted(1)], "accepted")
            assert found.b.rig.service.others == 1, "its place is kept"
            one.channel.close()
            loop = asyncio.get_running_loop()
            assert await asyncio.wait_for(loop.sock_recv(one.outer, 100), 5) == b""
            assert found.b.rig.service.others == 0
            assert found.a.rig.old.ids() == []


@pytest.mark.asyncio
async def test_a_predecessor_that_dies_when_it_has_let_go_takes_nothing_with_it() -> None:
    async with workers(EVENTS) as found:
        with predecessor(found) as one:
            one.offer(event_bytes("e1", key="k"))
            await until(lambda: one.heard == [Accepted(1)], "accepted")
            one.channel.put(Release(1))
            one.channel.close()
            loop = asyncio.get_running_loop()
            assert (await asyncio.wait_for(loop.sock_recv(one.outer, 100), 5)).startswith(b"HTTP/1.1 200 ")
            assert found.a.rig.old.ids() == ["e1"]
            await until(lambda: found.b.rig.service.others == 0, "it is a client as all others")


@pytest.mark.asyncio
async def test_a_kind_that_is_not_known_is_refused() -> None:
    async with workers(EVENTS) as found:
        with predecessor(found) as one:
            one.offer(kind="carrier pigeon")
            await until(lambda: one.heard, "answered")
            assert one.heard == [Refused(1, "connections of the kind carrier pigeon are not known here")]


@pytest.mark.asyncio
async def test_garbage_ends_the_conversation_and_nothing_else() -> None:
    async with workers(EVENTS) as found:
        with predecessor(found) as one:
            one.channel._unsent += b"\0\0\0\5hello"
            one.channel._write()
            await until(lambda: not one.channel.is_open, "closed")
            wire = await found.b.rig.wire()
            assert (await wire.ask(event_bytes("e1", key="k"))).status == 200


@pytest.mark.asyncio
async def test_a_worker_listens_in_the_place_of_the_one_before_and_leaves_it_to_the_next() -> None:
    async with workers(EVENTS) as found:
        path = found.listen(found.b)
        first = found.adopting
        found.listen(found.b)
        assert first is not None
        first.close()
        calling = offers.call(path)
        assert calling is not None, "it is the second's"
        calling.close()
        assert os.listdir(found.directory).count("1.sock") == 1
        assert found.adopting is not None
        found.adopting.close()
        assert offers.call(path) is None
