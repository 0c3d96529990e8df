"""Sharing a listening socket."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any

import pytest

from proxy.http.listener import Listener

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


async def test_without_descriptors_it_waits_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    refused: list[None] = []

    class Full(socket.socket):
        left = 2

        def accept(self) -> Any:
            if Full.left:
                Full.left -= 1
                raise OSError(errno.EMFILE, "Too many open files")
            return super().accept()

    made = listening()
    full = Full(fileno=made.detach())
    listener = Listener(loop, full, greeter(b"c"), lambda: refused.append(None))
    listener.start()
    assert await asyncio.wait_for(greeting(full.getsockname()), 10) == b"c"
    assert len(refused) == 2
    listener.close()


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
