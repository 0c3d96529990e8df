"""Targets that answer in odd ways."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from config.units import Address

Answer = Callable[[int, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}"


class Seen:
    """What a target saw: whole requests in order of arrival, and how many connections."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.connections = 0

    def bodies(self) -> list[bytes]:
        """Without the heads."""
        return [request.partition(b"\r\n\r\n")[2] for request in self.requests]


def says(*parts: bytes, close: bool = False) -> Answer:
    """Writes these parts, each by itself; closes the connection when told to."""

    async def answer(_number: int, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        if close:
            writer.close()

    return answer


@asynccontextmanager
async def target(answer: Answer, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[Address, Seen]]:
    """A server that answers each request by `answer(its number from 0, writer)`."""
    seen = Seen()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                seen.requests.append(head + await reader.readexactly(length))
                await answer(len(seen.requests) - 1, writer)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        host, port = server.sockets[0].getsockname()[:2]
        yield Address(host, port), seen
    finally:
        server.close()
