"""A client on a plain socket: sends the bytes it is given and reads whole answers."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable
from typing import NamedTuple

import orjson

PATIENCE = 10.0
"""Seconds until a test gives up on something that should have happened."""


async def until(condition: Callable[[], object], what: str = "") -> None:
    """Wait for a condition, turning the loop."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what or condition}"
        await asyncio.sleep(0.001)


class Answer(NamedTuple):
    """One answer. headers: lower-case names; raw: every byte of it."""

    status: int
    headers: dict[str, str]
    body: bytes
    raw: bytes

    @property
    def detail(self) -> str:
        """What a problem says."""
        return str(orjson.loads(self.body)["detail"])


class Wire:
    """One connection to the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.interim: list[bytes] = []
        """Heads of the answers before the answer, but for 100, which is an answer of its own here."""

    @classmethod
    async def open(cls, port: int, limit: int = 2**20) -> Wire:
        """Connect. limit: bytes that are buffered before reading stops."""
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=limit))

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)

    async def ask(self, data: bytes, method: str = "POST") -> Answer:
        """Send a request and read its answer."""
        self.send(data)
        return await self.answer(method)

    async def answer(self, method: str = "POST") -> Answer:
        """The next answer; raises IncompleteReadError when the proxy closes before its end."""
        async with asyncio.timeout(PATIENCE):
            while (head := await self.reader.readuntil(b"\r\n\r\n")).startswith((b"HTTP/1.1 102", b"HTTP/1.1 103")):
                self.interim.append(head)
            lines = head.decode("latin-1").split("\r\n")
            names = [line.partition(":")[0].lower() for line in lines[1:-2]]
            assert len({"content-length", "transfer-encoding"} & set(names)) <= 1, head
            assert names.count("content-length") <= 1, head
            headers = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines[1:-2]}
            status = int(lines[0].split(" ")[1])
            if status == 100:
                return Answer(status, headers, b"", head)
            body, raw = await self._body(method, status, headers)
            return Answer(status, headers, body, head + raw)

    async def _body(self, method: str, status: int, headers: dict[str, str]) -> tuple[bytes, bytes]:
        if method == "HEAD" or status in (204, 304):
            return b"", b""
        if headers.get("transfer-encoding") == "chunked":
            return await self._chunks()
        if "content-length" in headers:
            body = await self.reader.readexactly(int(headers["content-length"]))
        else:
            body = await self.reader.read()
        return body, body

    async def _chunks(self) -> tuple[bytes, bytes]:
        body, raw = b"", b""
        while True:
            line = await self.reader.readuntil(b"\r\n")
            data = await self.reader.readexactly(int(line, 16) + 2)
            assert data.endswith(b"\r\n")
            body, raw = body + data[:-2], raw + line + data
            if int(line, 16) == 0:
                return body, raw

    async def rest(self) -> bytes:
        """Everything until the proxy closes; what a reset cut off is not told."""
        data = b""
        try:
            async with asyncio.timeout(PATIENCE):
                while piece := await self.reader.read(65536):
                    data += piece
        except ConnectionResetError:
            pass
        return data

    async def is_cut(self) -> bool:
        """The proxy ends the connection without another byte."""
        return await self.rest() == b""

    def close(self) -> None:
        """Leave."""
        self.writer.close()

    def reset(self) -> None:
        """Leave with a reset: an end alone could be that of a client that still wants its answer."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()
