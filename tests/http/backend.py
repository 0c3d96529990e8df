"""A scripted backend on a plain socket: records every byte that reaches it, and answers as it is told."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import NamedTuple, TypeAlias, cast


class Seen(NamedTuple):
    """One request as it arrived. head: with its empty line; connection: from 0."""

    head: bytes
    body: bytes
    connection: int

    @property
    def raw(self) -> bytes:
        """Every byte of it."""
        return self.head + self.body

    def header(self, name: str) -> str:
        """The value of a header, or empty."""
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            found, _, value = line.partition(": ")
            if found.lower() == name.lower():
                return value
        return ""

    @property
    def id(self) -> str:
        """Its event id."""
        return self.header("X-Event-Id")

    @property
    def role(self) -> str:
        """authority, copy or replay."""
        return self.header("X-Crossfade-Role")


Behave: TypeAlias = Callable[["Seen", "BackendConnection"], object]


def reply(status: int, body: bytes = b"ok", headers: str = "") -> bytes:
    """A whole answer with a Content-Length."""
    return f"HTTP/1.1 {status} Said\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def always(data: bytes) -> Behave:
    """Answers each request with these bytes."""
    return lambda seen, connection: connection.write(data)


class Backend:
    """Listens on a port of its own. behave: called with each whole request.

    eager: called with the bytes of a request that has just begun, before it is complete.
    is_sink: it looks for no requests in what it receives, and `eager` is called with every piece.
    """

    def __init__(self, behave: Behave | None = None, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.behave: Behave = behave or always(reply(200))
        self.tls: ssl.SSLContext | None = None
        """Speaks TLS when it is set before the start."""
        self.eager: Callable[[bytes, BackendConnection], object] | None = None
        self.is_sink = False
        self.seen: list[Seen] = []
        self.connections: list[BackendConnection] = []
        self._server: asyncio.Server | None = None
        self.host = host
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((host, port))
        self.port: int = self._socket.getsockname()[1]

    async def start(self) -> None:
        """Listen. Until then the port refuses connections."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: BackendConnection(self), sock=self._socket, backlog=1024, ssl=self.tls
        )

    def stop_listening(self) -> None:
        """Refuse new connections; those that there are go on."""
        assert self._server is not None
        self._server.close()

    def stop(self) -> None:
        """Stop listening and drop everything."""
        if self._server is not None:
            self._server.close()
        else:
            self._socket.close()
        for connection in self.connections:
            connection.reset()

    @property
    def received(self) -> bytes:
        """Every byte that ever came."""
        return b"".join(bytes(connection.received) for connection in self.connections)

    def ids(self, role: str = "") -> list[str]:
        """Event ids in the order in which they came."""
        return [seen.id for seen in self.seen if role in ("", seen.role)]

    @property
    def open(self) -> int:
        """Connections that are open."""
        return sum(1 for connection in self.connections if not connection.is_lost)


class BackendConnection(asyncio.Protocol):
    """One connection to it."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._buffer = b""
        self.number = len(backend.connections)
        self.received = bytearray()
        self.transport = cast(asyncio.Transport, None)
        self.is_lost = False
        self.is_full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._backend.connections.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        self.is_full = False

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self._backend.eager is not None and not self._buffer:
            self._backend.eager(data, self)
        if self._backend.is_sink:
            return
        self._buffer += data
        while True:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            lengths = [int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
            assert len(lengths) <= 1, "a request with two lengths reached the backend"
            length = lengths[0] if lengths else 0
            if len(rest) < length:
                return
            seen = Seen(head + end, rest[:length], self.number)
            self._buffer = rest[length:]
            self._backend.seen.append(seen)
            self._backend.behave(seen, self)

    def write(self, data: bytes) -> None:
        """Answer, unless the proxy has gone."""
        if not self.is_lost:
            self.transport.write(data)

    def finish(self, data: bytes = b"") -> None:
        """Answer and close."""
        if not self.is_lost:
            self.transport.write(data)
            self.transport.close()

    def reset(self) -> None:
        """Close without a word."""
        if not self.is_lost:
            self.transport.abort()
