"""The constant-rate generator against a stand-in that answers, refuses, delays or hangs up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import pytest

from benchmarks import load
from config.units import Address
from proxy.load.requests import BODY_SIZE, Requests
from proxy.load.target import plain

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
NO_CONTENT = b"HTTP/1.1 204 No Content\r\nServer: s\r\n\r\n"


class StandIn(asyncio.Protocol):
    """Answers each request with `answer(number of the request)`; None hangs up."""

    def __init__(self, answer: Callable[[int], bytes | None], seen: list[bytes], delay: float) -> None:
        self._answer, self._seen, self._delay = answer, seen, delay
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n") + 4
        if end < 4 or len(self._buffer) < end + BODY_SIZE:
            return
        self._seen.append(self._buffer[end:])
        self._buffer = b""
        asyncio.get_running_loop().call_later(self._delay, self._reply, len(self._seen))

    def _reply(self, number: int) -> None:
        answer = self._answer(number)
        if answer is None:
            self._transport.close()
        else:
            self._transport.write(answer)


@asynccontextmanager
async def stand_in(
    answer: Callable[[int], bytes | None], *, delay: float = 0.0
) -> AsyncIterator[tuple[int, list[bytes]]]:
    seen: list[bytes] = []
    server = await asyncio.get_running_loop().create_server(lambda: StandIn(answer, seen, delay), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], seen


@pytest.mark.asyncio
@pytest.mark.parametrize("answer", [OK, NO_CONTENT])
async def test_every_event_is_sent_once_and_answered(answer: bytes) -> None:
    async with stand_in(lambda _: answer) as (port, seen):
        result = await load.run(port, rate=400, seconds=0.5)
    assert len(result.accepted) == len(set(result.accepted)) == result.answers == 200
    assert {json.loads(body)["context"]["id"] for body in seen} == set(result.accepted)
    assert result.failed == {}


@pytest.mark.asyncio
async def test_a_refusal_is_no_acceptance() -> None:
    refusal = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
    async with stand_in(lambda number: refusal if number % 2 else OK) as (port, _):
        result = await load.run(port, rate=400, seconds=0.5)
    assert len(result.accepted) == 100
    assert list(result.failed.values()) == [503] * 100


@pytest.mark.asyncio
async def test_an_event_on_a_connection_that_is_closed_has_failed() -> None:
    async with stand_in(lambda number: None if number == 7 else OK) as (port, _):
        result = await load.run(port, rate=400, seconds=0.5)
    assert len(result.accepted) == 199
    assert list(result.failed.values()) == [0]


@pytest.mark.asyncio
async def test_the_wait_for_a_free_connection_is_part_of_the_latency() -> None:
    # 64 connections that each take 0.2 s carry 320 events per second: at 640 the last of 320 waits half a second.
    async with stand_in(lambda _: OK, delay=0.2) as (port, _):
        result = await load.run(port, rate=640, seconds=0.5)
    assert len(result.accepted) == 320
    assert result.quantile(0.05) >= 0.197  # to 1 %
    assert result.quantile(0.99) >= 0.4


@pytest.mark.asyncio
async def test_the_watcher_is_called_meanwhile() -> None:
    calls: list[int] = []
    async with stand_in(lambda _: OK) as (port, _):
        await load.run(port, rate=100, seconds=0.5, watch=lambda: calls.append(1), watch_every=0.1)
    assert calls


def test_an_event_is_what_wrk_sends_too() -> None:
    requests = Requests(plain(Address("127.0.0.1", 1)), load.body(), keys=load.KEYS)
    event = requests.make(3, 0)
    fields = json.loads(event.body)
    assert len(event.body) == BODY_SIZE
    assert fields["context"]["id"] == event.id
    assert fields["entity_id"] == "sensor.meter_03757"
