"""uvloop leaked one client's data to another: MagicStack/uvloop #645, #646, #738; mended by #740, in 0.23.

A transport that was given a Python socket closed the descriptor by libuv while the socket object still held its
number. The system gave the number to the next connection, and when the object was collected it closed that one's
descriptor; what was then written went to whoever had the number next. It took a cancelled or failed opening.

Here: the reproduction against the version that is installed, and the ways in which Crossfade opens connections, each
with the next descriptors of the process looked at after the collector has run.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import struct
import tomllib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest
import uvloop

from proxy.http.downstream import Client
from proxy.http.listener import Listener
from proxy.ledger.shape import as_protocol
from tests.http.backend import always, reply
from tests.http.rig import OFF, running
from tests.http.wire import until

GET = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
Opening = Callable[[socket.socket], Awaitable[object]]


def loop() -> uvloop.Loop:
    found = asyncio.get_running_loop()
    assert isinstance(found, uvloop.Loop)
    return found


class Aborts(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).abort()


class Raises(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        raise RuntimeError("no")


OPENINGS: dict[str, Opening] = {
    "create_connection": lambda sock: loop().create_connection(asyncio.Protocol, sock=sock),
    "create_unix_connection": lambda sock: loop().create_unix_connection(asyncio.Protocol, sock=sock),
    "connect_accepted_socket": lambda sock: loop().connect_accepted_socket(asyncio.Protocol, sock),
}


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def check_descriptors(number: int, forget: list[socket.socket]) -> None:
    """The next connections get the number that was given up, and keep it when the old socket object is collected."""
    pairs = [socket.socketpair() for _ in range(4)]
    numbers = [found.fileno() for pair in pairs for found in pair]
    assert number in numbers, "given up, hence used again"
    forget.clear()
    gc.collect()
    try:
        for number in numbers:
            os.fstat(number)  # OSError: somebody else has closed it
        for left, right in pairs:
            left.send(b"mine")
            assert right.recv(16) == b"mine"
    finally:
        for pair in pairs:
            for found in pair:
                found.close()


def a_socket(name: str) -> tuple[socket.socket, socket.socket]:
    """A connected pair of the family that this way of opening wants; the first does not block."""
    if name == "create_unix_connection":
        left, right = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            left = socket.create_connection(listening.getsockname())
            right, _ = listening.accept()
    left.setblocking(False)
    return left, right


@pytest.mark.asyncio
@pytest.mark.parametrize("cancelled_after", [0, 1, 2])
@pytest.mark.parametrize("name", OPENINGS)
async def test_an_opening_that_is_cancelled_gives_its_descriptor_up_once(name: str, cancelled_after: int) -> None:
    """The reproduction: uvloop 0.22.1 fails it."""
    left, right = a_socket(name)
    number, held = left.fileno(), [left]
    task = asyncio.ensure_future(OPENINGS[name](held[0]))
    del left
    for _ in range(cancelled_after):
        await asyncio.sleep(0)
    was_done = task.done()
    task.cancel()
    try:
        transport = (await task)[0]  # type: ignore[index]
        transport.abort()
    except asyncio.CancelledError:
        assert not was_done
    if cancelled_after == 0:  # it had not begun: the socket is still its owner's
        held[0].close()
    del task
    await turns()
    check_descriptors(number, held)
    right.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("protocol", [Aborts, Raises])
async def test_a_protocol_that_will_not_have_the_connection(protocol: type[asyncio.Protocol]) -> None:
    """Ours aborts at `max_connections`."""
    loop().set_exception_handler(lambda loop, context: None)
    left, right = a_socket("connect_accepted_socket")
    number, held = left.fileno(), [left]
    task = loop().create_task(loop().connect_accepted_socket(protocol, held[0]))
    del left
    await asyncio.wait([task])
    if task.exception() is None:
        cast(asyncio.Transport, task.result()[0]).abort()
    del task
    await turns()
    check_descriptors(number, held)
    right.close()


@pytest.mark.asyncio
async def test_connections_that_come_and_go_at_our_listener_touch_no_other(soak: bool) -> None:
    """Some are refused for their number, some are reset before they were taken. Nobody cancels an opening of ours."""
    rounds = 3000 if soak else 60
    async with running(dials=OFF, limits={"max_connections": 6}) as rig:
        listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
        port = listening.getsockname()[1]
        listener = Listener(
            asyncio.get_running_loop(), listening, lambda: as_protocol(Client(rig.service)), lambda: None
        )
        listener.start()
        rig.other.behave = lambda seen, connection: connection.write(reply(200, seen.head.split(b" ")[1]))
        steady = await rig.wire()
        for number in range(rounds):
            found = [socket.create_connection(("127.0.0.1", port)) for _ in range(12)]
            for one in found[::3]:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.close()
            refused = rig.plane.counters.get("refused_connections", 0)
            answer = await steady.ask(GET % number, "GET")
            assert (answer.status, answer.body) == (200, b"/%d" % number)
            await until(lambda: rig.plane.counters.get("refused_connections", 0) >= refused + 3, "too many")  # noqa: B023
            for one in found:
                one.close()
            gc.collect(0)
            await until(lambda: len(rig.service.clients) <= 1 and not listener._opening, "they have gone")
        listener.close()


@pytest.mark.asyncio
async def test_backends_that_cannot_be_reached_in_time_touch_no_other() -> None:
    """Our connections upstream are opened by address: no Python socket is there to close anything twice."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        stuffing = []
        for _ in range(8):  # until its queue takes no more
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(full.getsockname())
            stuffing.append(one)
        backend = {"old": {"url": f"http://127.0.0.1:{full.getsockname()[1]}", "connect_timeout": "20ms"}}
        async with running(dials=OFF, backend=backend) as rig:
            rig.other.behave = always(reply(200, b"mine"))
            steady = await rig.wire()
            for number in range(30):
                event = b"POST /events HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"
                wires = [await rig.wire() for _ in range(4)]
                for wire in wires:
                    wire.send(event)
                gc.collect(0)
                assert (await steady.ask(GET % number, "GET")).body == b"mine"
                assert {(await wire.answer()).status for wire in wires} == {202}
        for one in stuffing:
            one.close()


def test_the_version_that_is_asked_for_has_the_repair() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    (least,) = [each for each in tomllib.loads(text)["project"]["dependencies"] if each.startswith("uvloop")]
    assert least == "uvloop>=0.23"
