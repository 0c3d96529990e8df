"""The light clients and backends of the live benchmarks: they count what happens, and say what they were promised."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from benchmarks.live.backend import Backend
from benchmarks.live.sessions import Sessions
from benchmarks.websocket.messages import switching
from config.units import Address
from proxy.demo.comparison import compare
from proxy.demo.record import Record
from proxy.demo.store import digest_of
from proxy.load.wire import ENDED, GARBLED, REFUSED

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def backend(tmp_path: Path) -> AsyncIterator[Backend]:
    made = Backend("old", tmp_path)
    await made.ready()
    yield made
    await made.stop()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def sessions_at(address: Address, count: int = 4) -> Sessions:
    made = Sessions(address, rate=400, sessions=count, keys=40, seed=1, timeout=5.0)
    made.start()
    return made


async def test_what_was_promised_is_kept_in_its_order(backend: Backend) -> None:
    clients = sessions_at(backend.address)
    await until(lambda: clients.record.accepted > 100)
    record = await clients.stop()
    assert record.client_errors == record.closed == 0
    assert compare(record, backend.stored()).problems() == []
    assert len(record.digests) == record.accepted == len(backend.stored())


async def test_a_request_is_kept_with_what_the_proxy_says_of_it(backend: Backend) -> None:
    headers = {"X-Event-Id": "one", "X-Crossfade-Role": "copy", "X-Crossfade-Attempt": "2"}
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{backend.url}/api/v1/events", data=b"x" * 100_000, headers=headers) as answer:
            assert (answer.status, await answer.json()) == (201, {"stored": "one", "by": "old"})
        async with session.post(f"{backend.url}/api/v1/events", data=b"", headers={"X-Event-Id": "two"}) as answer:
            assert answer.status == 201
    assert [row[:4] for row in backend.stored()] == [(1, "one", "copy", "2"), (2, "two", "", "")]
    assert backend.stored()[0].digest == digest_of(b"x" * 100_000)


async def test_a_session_that_ends_is_counted_and_comes_back(backend: Backend) -> None:
    clients = sessions_at(backend.address)
    await until(lambda: clients.record.accepted > 20)
    backend.child.signal(signal.SIGKILL)
    await backend.child.ended(5.0)
    await until(lambda: clients.record.failures[REFUSED] > 0)
    assert clients.record.closed == clients.record.failures["session closed (1006)"] == 4
    accepted, unsent = clients.record.accepted, clients.record.unsent
    assert unsent > 0
    await backend.restart()
    await until(lambda: len(clients.record.away) == 4 and clients.record.accepted > accepted + 20)
    clients.check()
    record = await clients.stop()
    assert min(record.away) > 0.1
    assert record.closed == 4
    assert not compare(record, backend.stored()).lost


async def test_what_is_no_frame_is_not_a_session_that_was_closed() -> None:
    async def garbles(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(switching(await reader.readuntil(b"\r\n\r\n")) + b"\xff\xff\xff\xff")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(garbles, "127.0.0.1", 0)
    async with server:
        clients = sessions_at(Address(*server.sockets[0].getsockname()), count=1)
        await until(lambda: clients.record.failures[GARBLED] > 0)
        record = await clients.stop()
    assert record.closed == 0


@pytest.mark.parametrize(
    ("answer", "counted"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", lambda record: record.statuses == {503: 2}),
        (b"", lambda record: record.failures == {ENDED: 2}),
        (b"SSH-2.0-x\r\n\r\n", lambda record: record.failures == {GARBLED: 2}),
    ],
)
async def test_why_there_is_no_session_is_told_apart(answer: bytes, counted: Callable[[Record], bool]) -> None:
    met: Counter[str] = Counter()

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        met["handshakes"] += 1
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(answers, "127.0.0.1", 0)
    async with server:
        clients = sessions_at(Address(*server.sockets[0].getsockname()), count=2)
        await until(lambda: met["handshakes"] == 2)
        record = await clients.stop()
    assert counted(record), record
    assert record.closed == record.accepted == 0
