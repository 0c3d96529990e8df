"""Sharing a listening socket."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from proxy.http.listener import Listener
from proxy.http.rejection import Rejections, Reserve

pytestmark = pytest.mark.asyncio


class Greeter(asyncio.Protocol):
    """Says its name and closes."""

    def __init__(self, name: bytes) -> None:
        self._name = name

    def connection_made(self, transport: Any) -> None:
        nodelay = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        transport.write(self._name if nodelay else b"?")
        transport.close()


def listening() -> socket.socket:
    made = socket.socket()
    made.bind(("127.0.0.1", 0))
    made.listen(128)
    return made


def greeter(name: bytes) -> Callable[[], asyncio.Protocol]:
    return lambda: Greeter(name)


async def greeting(address: tuple[str, int]) -> bytes:
    reader, writer = await asyncio.open_connection(*address)
    said = await reader.read()
    writer.close()
    return said


async def test_a_burst_is_shared() -> None:
    loop = asyncio.get_running_loop()
    shared = listening()
    address = shared.getsockname()
    clients = [socket.create_connection(address) for _ in range(60)]
    both = [Listener(loop, shared.dup(), greeter(name), lambda: None) for name in (b"a", b"b")]
    for each in both:
        each.start()
    heard = [await loop.run_in_executor(None, client.recv, 1) for client in clients]
    assert set(heard) == {b"a", b"b"}
    assert 15 <= heard.count(b"a") <= 45
    for each in both:
        each.close()
    for client in clients:
        client.close()
    shared.close()


class Turns:
    """Counts how many clients a listener takes in each turn of the loop."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.taken: list[int] = []
        self._turn = 0
        self._ends = socket.socketpair()
        self._ends[1].send(b"x")
        self.loop.add_reader(self._ends[0], self._begins)  # in each turn, for nobody reads

    def _begins(self) -> None:
        self._turn += 1

    def make(self) -> asyncio.Protocol:
        self.taken.append(self._turn)
        return Greeter(b"a")

    async def serve(self, address: tuple[str, int], count: int) -> list[int]:
        """So many clients at once; how many of them were taken in one turn after the other."""
        self.taken.clear()
        clients = [socket.create_connection(address) for _ in range(count)]
        heard = [await self.loop.run_in_executor(None, client.recv, 1) for client in clients]
        assert heard == [b"a"] * count
        for client in clients:
            client.close()
        return list(Counter(self.taken).values())

    def close(self) -> None:
        self.loop.remove_reader(self._ends[0])
        for end in self._ends:
            end.close()


async def test_clients_who_queue_are_taken_in_fewer_turns_than_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.http.listener._REST", 60.0)
    shared, turns = listening(), Turns()
    listener = Listener(turns.loop, shared, turns.make, lambda: None)
    listener.start()
    found = await turns.serve(shared.getsockname(), 100)
    assert max(found) <= 8  # who is connected already is not held up for longer
    assert len(found) <= 30
    listener.close()
    turns.close()


async def test_after_a_rest_it_is_one_at_a_time_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the next few clients would all come to whoever has met a burst before."""
    monkeypatch.setattr("proxy.http.listener._REST", 60.0)
    shared, turns = listening(), Turns()
    listener = Listener(turns.loop, shared, turns.make, lambda: None)
    listener.start()
    assert await turns.serve(shared.getsockname(), 15) == [1, 2, 4, 8]  # each wake-up has found as many as it took
    assert await turns.serve(shared.getsockname(), 8) == [8], "they come right after"
    listener._filled_at -= 61.0
    assert await turns.serve(shared.getsockname(), 7) == [1, 2, 4]
    listener.close()
    turns.close()


class Short(socket.socket):
    """Has no descriptor for the next `left` accepts."""

    left = 0

    def accept(self) -> Any:
        if self.left:
            self.left -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


async def said(address: tuple[str, int], request: bytes = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") -> bytes:
    """Everything that is said to a client with a request; raises ConnectionResetError when it is reset."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(request)
    heard = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return heard


def check_rejected(heard: bytes) -> None:
    head, _, body = heard.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 503 Service Unavailable"
    assert {b"Retry-After: 1", b"Connection: close", b"Content-Length: %d" % len(body)} <= set(lines)


async def test_without_descriptors_clients_are_told_so_and_then_served_again() -> None:
    loop = asyncio.get_running_loop()
    refused: list[None] = []
    counted: list[str] = []
    rejections = Rejections(loop, count=counted.append)
    short = Short(fileno=listening().detach())
    listener = Listener(loop, short, greeter(b"c"), lambda: refused.append(None), rejections=rejections)
    short.left = 2  # the first, and the one that looks whether there are any again
    listener.start()
    check_rejected(await said(short.getsockname()))
    assert (len(refused), counted) == (1, ["refused_descriptors"])
    assert await asyncio.wait_for(greeting(short.getsockname()), 10) == b"c"
    assert await asyncio.wait_for(greeting(short.getsockname()), 10) == b"c"
    assert (len(refused), len(counted)) == (1, 1)
    listener.close()
    rejections.close()


async def test_without_a_reserve_it_waits_and_goes_on() -> None:
    loop = asyncio.get_running_loop()
    refused: list[None] = []
    short = Short(fileno=listening().detach())
    listener = Listener(loop, short, greeter(b"c"), lambda: refused.append(None))
    short.left = 5
    listener.start()
    assert await asyncio.wait_for(greeting(short.getsockname()), 10) == b"c"
    assert (short.left, len(refused)) == (0, 1)
    listener.close()


async def test_who_has_no_room_leaves_clients_to_the_others() -> None:
    loop = asyncio.get_running_loop()
    shared = listening()
    counted: list[str] = []
    full = Rejections(loop, lambda coming: False, counted.append)
    listeners = [
        Listener(loop, shared.dup(), greeter(b"full"), lambda: None, rejections=full),
        Listener(loop, shared.dup(), greeter(b"free"), lambda: None),
    ]
    for each in listeners:
        each.start()
    assert [await greeting(shared.getsockname()) for _ in range(20)] == [b"free"] * 20
    assert counted == []
    listeners[1].close()
    check_rejected(await said(shared.getsockname()))
    assert counted == ["refused_connections"]
    listeners[0].close()
    full.close()
    shared.close()


async def test_when_there_is_room_again_who_waits_is_taken() -> None:
    loop = asyncio.get_running_loop()
    has_room = False
    rejections = Rejections(loop, lambda coming: has_room)
    made = listening()
    listener = Listener(loop, made, greeter(b"c"), lambda: None, rejections=rejections)
    listener.start()
    check_rejected(await said(made.getsockname()))
    has_room = True
    assert await asyncio.wait_for(greeting(made.getsockname()), 10) == b"c"
    listener.close()
    rejections.close()


async def test_a_storm_is_rejected_a_few_at_a_time() -> None:
    loop = asyncio.get_running_loop()
    made = listening()
    counted: list[str] = []
    rejections = Rejections(loop, lambda coming: False, counted.append, most=20)
    listener = Listener(loop, made, greeter(b"c"), lambda: None, rejections=rejections)
    clients = [socket.create_connection(made.getsockname()) for _ in range(50)]
    listener._give_way()
    listener._reject_some()
    assert len(counted) == 16
    listener._reject_some()
    assert (len(counted), rejections.is_full) == (20, True)
    for client in clients:
        client.settimeout(10)
    for client in clients:  # those who close make room for the next
        check_rejected(await loop.run_in_executor(None, client.recv, 4096))
        client.close()
    assert len(counted) == 50
    listener.close()
    rejections.close()


async def test_who_does_not_close_is_closed_after_a_while_or_much_data() -> None:
    loop = asyncio.get_running_loop()
    rejections = Rejections(loop, lambda coming: False)
    made = listening()
    listener = Listener(loop, made, greeter(b"c"), lambda: None, rejections=rejections)
    listener.start()
    silent, talking = (socket.create_connection(made.getsockname()) for _ in range(2))
    talking.setblocking(False)
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        await loop.sock_sendall(talking, bytes(2**26))
    assert rejections._closing
    deadline = loop.time() + 10
    while rejections._closing:
        assert loop.time() < deadline
        await asyncio.sleep(0.01)
    silent.close()
    talking.close()
    listener.close()
    rejections.close()


async def test_over_tls_they_are_only_closed() -> None:
    loop = asyncio.get_running_loop()
    rejections = Rejections(loop, lambda coming: False)
    made = listening()
    client = socket.create_connection(made.getsockname())
    rejections.reject(made.accept()[0], "refused_connections", is_tls=True)
    assert client.recv(100) == b""
    assert not rejections._closing
    client.close()
    made.close()
    rejections.close()


async def test_the_reserve_is_given_up_and_taken_back() -> None:
    before = len(os.listdir("/proc/self/fd"))
    reserve = Reserve(3)
    assert len(os.listdir("/proc/self/fd")) == before + 3
    assert [reserve.give_up() for _ in range(4)] == [True] * 3 + [False]
    reserve.refill()
    assert reserve.give_up()
    reserve.close()
    reserve.refill()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_closed_while_it_waits_it_stays_closed() -> None:
    loop = asyncio.get_running_loop()

    class Full(socket.socket):
        def accept(self) -> Any:
            raise OSError(errno.EMFILE, "Too many open files")

    full = Full(fileno=listening().detach())
    address = full.getsockname()
    tried: asyncio.Future[None] = loop.create_future()
    listener = Listener(loop, full, greeter(b"c"), lambda: None if tried.done() else tried.set_result(None))
    listener.start()
    client = socket.create_connection(address)
    await asyncio.wait_for(tried, 10)
    listener.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    client.close()


async def test_a_socket_that_was_shut_ends_its_listener_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    shared = listening()
    refused: list[int] = []
    listener = Listener(asyncio.get_running_loop(), shared.dup(), greeter(b"a"), lambda: refused.append(1))
    listener.start()
    shared.shutdown(socket.SHUT_RDWR)  # as the launcher does when it stops
    await asyncio.sleep(0.1)
    listener.close()
    shared.close()
    assert caplog.text == ""
    assert refused == []
