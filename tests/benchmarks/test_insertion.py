"""A service is moved under its clients, by the commands of MIGRATION.md: no request fails, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from benchmarks.lifecycle.callers import Idle, Lane
from benchmarks.lifecycle.insertion import FULL, QUICK, apart
from config.units import Address
from tests.conftest import SOAK

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.mark.timeout(300)
def test_insertion_and_removal_under_load_fail_no_request() -> None:
    seen = apart(FULL if SOAK else QUICK)
    assert (seen.failed, seen.failures) == (0, [])
    assert (seen.lost, seen.one_sided) == (0, 0)
    assert seen.events > 500
    assert 0 < seen.through < seen.events, "it was put in, and taken out again"


@asynccontextmanager
async def service(answer: Answer) -> AsyncIterator[Lane]:
    """A server that answers like this, and a lane to it that keeps its connections."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    lane = Lane(0, Address(*server.sockets[0].getsockname()[:2]), 0.0, 50)
    try:
        yield lane
    finally:
        lane._close()
        server.close()
        await server.wait_closed()


def answering(*texts: bytes) -> Answer:
    """One of these to each request of a connection; then it is closed."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for text in texts:
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.rpartition(b":")[2]))  # unread, it would make a reset of the end
            writer.write(text)
        writer.close()

    return answer


OK = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.asyncio
async def test_a_connection_that_was_idle_is_no_failure_and_one_that_was_not_is() -> None:
    async with service(answering(OK)) as lane:
        await lane._event("a")
        await lane._event("b")
        assert (len(lane.told), lane.reopened, lane.failures) == (2, 1, [])
    async with service(answering(b"")) as lane:
        await lane._event("a")
        assert (len(lane.told), lane.reopened) == (0, 0)
        assert "closed without an answer" in lane.failures[0]


@pytest.mark.asyncio
async def test_what_is_no_2xx_or_is_cut_is_a_failure() -> None:
    refused = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
    for answer, why in ((refused, "status 503"), (OK[:30], "IncompleteReadError"), (OK[:-1], "IncompleteReadError")):
        async with service(answering(answer)) as lane:
            await lane._event("a")
            assert lane.told == []
            assert why in lane.failures[0]
    assert issubclass(Idle, Exception)
