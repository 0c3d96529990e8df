"""Clients that send the bytes they are given and read until the proxy closes, and a strict reading of the answers."""

from __future__ import annotations

import asyncio
from typing import NamedTuple, cast

from tests.boundary.messages import Sent

_PATIENCE = 30.0


class Answer(NamedTuple):
    """One answer. is_ours: the proxy's own and not a backend's."""

    status: int
    is_ours: bool
    is_last: bool


class Client(asyncio.Protocol):
    """Sends everything, in one piece or two, ends its side, and keeps what comes."""

    def __init__(self, data: bytes, cut: int) -> None:
        self._data = data
        self._cut = cut
        self.received = bytearray()
        self.closed: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._data[: self._cut])

    def end(self) -> None:
        """Send the rest, and no more after it."""
        if not self.closed.done():
            self._transport.write(self._data[self._cut :])
            self._transport.write_eof()

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(bytes(self.received))


async def send(port: int, sent: Sent, number: int) -> bytes:
    """Everything that the proxy says to these bytes until it closes."""
    loop = asyncio.get_running_loop()
    size = len(sent.data)
    cut = size if number % 3 else number * 7 % size
    _, client = await loop.create_connection(lambda: Client(sent.data, cut), "127.0.0.1", port)
    client.end()
    async with asyncio.timeout(_PATIENCE):
        return await client.closed


def answers_in(data: bytes, methods: list[bytes]) -> list[Answer]:
    """Read them all, interim ones left out. methods: of the requests that were asked, to know HEAD."""
    found: list[Answer] = []
    while data:
        head, end, data = data.partition(b"\r\n\r\n")
        assert end, f"half an answer: {head!r}"
        lines = head.split(b"\r\n")
        status = int(lines[0].split(b" ")[1])
        if status < 200:
            continue
        fields = {line.partition(b":")[0].lower(): line.partition(b":")[2].strip() for line in lines[1:]}
        is_ours = fields.get(b"content-type") == b"application/problem+json"
        is_head = len(found) < len(methods) and methods[len(found)] == b"HEAD"
        if not is_head and status not in (204, 304):
            data = _without_body(data, fields)
        found.append(Answer(status, is_ours, fields.get(b"connection", b"").lower() == b"close"))
    return found


def _without_body(data: bytes, fields: dict[bytes, bytes]) -> bytes:
    if b"content-length" in fields:
        length = int(fields[b"content-length"])
        assert len(data) >= length, "a body that broke off"
        return data[length:]
    if fields.get(b"transfer-encoding") == b"chunked":
        while True:
            size, _, data = data.partition(b"\r\n")
            count = int(size, 16)
            assert data[count : count + 2] == b"\r\n"
            data = data[count + 2 :]
            if count == 0:
                return data
    return b""  # until the proxy closes
