"""The control link's client against a supervisor that comes, goes and talks nonsense."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from proxy.control.link import Applied, BackendHealth, FromSupervisor, Register, SetRouting, to_supervisor
from proxy.control.link_client import LinkClient, pack
from proxy.core.routing import Dials, Routing

REGISTER = Register("worker", 1, 42, "life")


@pytest.fixture
def path() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="cf-"))
    yield directory / "control.sock"
    shutil.rmtree(directory)


class Supervisor:
    """The other end: keeps what it was told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.said: list[object] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.server: asyncio.Server | None = None

    async def start(self) -> None:
        self.path.unlink(missing_ok=True)
        self.server = await asyncio.start_unix_server(self._serve, str(self.path))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(4), "big")
                self.said.append(to_supervisor.decode(await reader.readexactly(length)))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def stop(self) -> None:
        assert self.server is not None
        self.server.close()
        for writer in self.writers:
            writer.close()
        self.writers.clear()
        await self.server.wait_closed()


async def until(condition: Callable[[], object], what: str, seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
    assert condition(), what


@pytest_asyncio.fixture
async def supervisor(path: Path) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(path)
    await supervisor.start()
    yield supervisor
    await supervisor.stop()


@pytest.mark.asyncio
async def test_it_registers_and_talks_both_ways(supervisor: Supervisor, path: Path) -> None:
    heard: list[FromSupervisor] = []
    client = LinkClient(path, REGISTER, heard.append)
    client.start()
    await until(lambda: supervisor.said, "registered")
    assert supervisor.said == [REGISTER]
    routing = SetRouting(Routing(3, {"events": Dials(25.0, "durable")}))
    supervisor.writers[0].write(pack(routing) + pack(BackendHealth({"old": True})))
    await until(lambda: len(heard) == 2, "both messages")
    assert heard == [routing, BackendHealth({"old": True})]
    assert client.send(Applied(3))
    await client.close()
    await until(lambda: len(supervisor.said) == 2, "the last message was flushed")
    assert supervisor.said[1] == Applied(3)


@pytest.mark.asyncio
async def test_it_waits_for_a_supervisor_and_registers_with_the_next_one(path: Path) -> None:
    client = LinkClient(path, REGISTER, lambda message: None)
    client.start()
    assert not client.send(Applied(1)), "nobody there: dropped, and said so"
    assert client.dropped == 1
    first = Supervisor(path)
    await first.start()
    await until(lambda: first.said == [REGISTER], "registered with the first")
    await first.stop()
    await until(lambda: not client.is_connected, "noticed the death")
    second = Supervisor(path)
    await second.start()
    await until(lambda: second.said == [REGISTER], "registered with the second")
    assert client.connections == 2
    await client.close()
    await second.stop()


@pytest.mark.asyncio
@pytest.mark.parametrize("garbage", [b"\xff\xff\xff\xff", b"\x00\x00\x00\x03abc"], ids=["length", "payload"])
async def test_garbage_ends_the_connection_and_nothing_else(supervisor: Supervisor, path: Path, garbage: bytes) -> None:
    client = LinkClient(path, REGISTER, lambda message: None)
    client.start()
    await until(lambda: supervisor.said, "registered")
    supervisor.writers[0].write(garbage)
    await until(lambda: client.connections == 2, "connected anew")
    await client.close()


@pytest.mark.asyncio
async def test_a_failing_handler_is_logged_and_the_link_lives_on(
    supervisor: Supervisor, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[FromSupervisor] = []

    def handle(message: FromSupervisor) -> None:
        heard.append(message)
        if len(heard) == 1:
            raise ValueError("a bug")

    client = LinkClient(path, REGISTER, handle)
    client.start()
    await until(lambda: supervisor.said, "registered")
    supervisor.writers[0].write(pack(BackendHealth({})) * 2)
    await until(lambda: len(heard) == 2, "the second message arrived")
    assert "could not handle BackendHealth" in caplog.text
    await client.close()


@pytest.mark.asyncio
async def test_another_users_server_in_its_place_is_not_listened_to(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[FromSupervisor] = []
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    supervisor = Supervisor(path)
    supervisor.server = await asyncio.start_unix_server(supervisor._serve, sock=listening)
    if os.geteuid() == 0:
        os.seteuid(65534)
        listening.listen()  # whose socket it is, is whose it was when it listened last
        os.seteuid(0)
    else:
        monkeypatch.setattr("os.geteuid", lambda: 4294967294)
    client = LinkClient(path, REGISTER, heard.append)
    client.start()
    try:
        await until(lambda: "another user" in caplog.text, "it is told")
        tries = len(supervisor.writers)
        await until(lambda: len(supervisor.writers) >= tries + 2, "it looks again")
        assert (supervisor.said, heard, client.is_connected) == ([], [], False)
        assert caplog.text.count("another user") == 1, "told once"
    finally:
        await client.close()
        await supervisor.stop()


@pytest.mark.asyncio
async def test_a_supervisor_that_does_not_read_costs_bounded_memory(path: Path) -> None:
    async def never_read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.close()

    done = asyncio.Event()
    server = await asyncio.start_unix_server(never_read, str(path))
    client = LinkClient(path, REGISTER, lambda message: None)
    client.start()
    await until(lambda: client.is_connected, "connected")
    message = Register("worker", 1, 1, "x" * 2**20)
    for _ in range(20):
        client.send(message)
    assert client.dropped > 0
    done.set()
    server.close()
    await client.close()
