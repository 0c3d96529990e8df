"""A backend on a plain socket that writes down each request it reads, in the strictest way there is."""

from __future__ import annotations

import asyncio
import re
from typing import NamedTuple, cast


class Recorded(NamedTuple):
    """line: method and target, as received; body: without framing."""

    line: bytes
    body: bytes


class Recorder:
    """Listens on a port of its own. violations: what a proxy must never send."""

    def __init__(self) -> None:
        self.seen: list[Recorded] = []
        self.violations: list[bytes] = []
        self.port = 0
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()

    async def start(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Drop everything; a request that was begun and never ended is a violation."""
        assert self._server is not None
        self._server.close()
        for connection in tuple(self._connections):
            connection.abort()
        await asyncio.sleep(0)


class _Connection(asyncio.Protocol):
    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._buffer = b""
        self._transport = cast(asyncio.Transport, None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._recorder._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._recorder._connections.discard(self)
        if self._buffer:
            self._recorder.violations.append(b"not a whole request: " + self._buffer)

    def abort(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._buffer:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            length = self._length(head)
            if len(rest) < length:
                return
            self._buffer = rest[length:]
            method = head.partition(b" ")[0]
            self._recorder.seen.append(Recorded(_line(head), rest[:length]))
            body = b"" if method == b"HEAD" else b"ok"
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + body)

    def _length(self, head: bytes) -> int:
        first, *lines = head.split(b"\r\n")
        fields = [(line.partition(b":")[0].lower(), line.partition(b":")[2].strip()) for line in lines]
        lengths = [value for name, value in fields if name == b"content-length"]
        hosts = [value for name, value in fields if name == b"host"]
        is_sound = len(lengths) <= 1 and len(hosts) == 1 and first.endswith(b" HTTP/1.1") and first.count(b" ") == 2
        if not is_sound or any(name.strip() in (b"transfer-encoding", b"") for name, _ in fields):
            self._recorder.violations.append(head)
        if any(byte < 32 and byte != 9 for line in (first, *lines) for byte in line):
            self._recorder.violations.append(head)
        return int(lengths[0]) if lengths and lengths[0].isdigit() else 0


def _line(head: bytes) -> bytes:
    """The first line; that of X-Request-Line where a server before us says what it read."""
    told = re.search(rb"\r\nX-Request-Line: ([^\r]*)", head)
    first = told[1] if told is not None else head.partition(b"\r\n")[0]
    return first.rpartition(b" ")[0]
