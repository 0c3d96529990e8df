"""One request at a time on one lane of the load generator: what a test sends by hand."""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

from config.units import Address
from proxy.load.generator import DONE, Generator, Lane
from proxy.load.requests import Event
from proxy.load.target import DEFAULT_PATH, plain


class Answer(NamedTuple):
    """A whole answer."""

    status: int
    body: bytes


class NoAnswerError(Exception):
    """No whole answer came; its message is the kind (`proxy.load.wire.FAILURES`)."""


class Caller:
    """A keep-alive connection, opened when it is needed."""

    def __init__(self, address: Address, *, seconds: float = 5.0) -> None:
        self._target = plain(address)
        self._request = b""
        self._generator = Generator(self._target, self._make, self, connections=1, timeout=seconds)
        self._generator.start()
        self._ended: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    async def post(self, headers: dict[str, str], body: bytes, target: str = DEFAULT_PATH) -> Answer:
        """Send a POST and wait for its answer. Raises NoAnswerError."""
        lines = [f"POST {target} HTTP/1.1", f"Host: {self._target.host}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._request = "\r\n".join([*lines, "", ""]).encode() + body
        self._ended = asyncio.get_running_loop().create_future()
        self._generator.offer(0, time.perf_counter())
        return await self._ended

    def close(self) -> None:
        """Close the connection."""
        self._generator.close()

    def _make(self, _n: int, _lane: int) -> Event:
        return Event("", "", self._request, 0)

    def ended(self, lane: Lane, now: float) -> float:
        if not self._ended.done():  # else nobody waits any more
            if lane.failure:
                self._ended.set_exception(NoAnswerError(lane.failure))
            else:
                self._ended.set_result(Answer(lane.status, lane.body))
        return DONE

    def dropped(self, due: float) -> None:
        raise AssertionError("one request at a time")

    def closed(self) -> None:
        """The connection was idle: no request was hurt."""
