"""Targets that answer in odd ways."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from websockets.utils import accept_key

from config.units import Address
from proxy.websocket.frames import PONG, Closing, FrameReader, Message, Ping, Pong, close_frame, frame

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


class Heard:
    """What a target of sessions saw, in order of arrival."""

    def __init__(self) -> None:
        self.handshakes: list[bytes] = []
        self.messages: list[bytes] = []
        self.by_session: list[int] = []
        """The session of each message, from 0."""
        self.pings = 0
        self.pongs: list[bytes] = []
        self.goodbyes: list[int] = []


OnPing = Callable[[int, bytes, asyncio.StreamWriter], Awaitable[None]]


def switching(head: bytes) -> bytes:
    """The 101 for a handshake."""
    found = re.search(rb"sec-websocket-key: (\S+)", head, re.IGNORECASE)
    assert found is not None
    upgrade = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    return upgrade + b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept_key(found[1].decode()).encode()


async def pong(_number: int, payload: bytes, writer: asyncio.StreamWriter) -> None:
    """Answers every Ping at once."""
    writer.write(frame(PONG, payload, is_client=False))


@asynccontextmanager
async def session_target(
    on_ping: OnPing = pong,
    *,
    shake: Callable[[int, bytes], bytes] = lambda _number, head: switching(head),
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[tuple[Address, Heard]]:
    """A server of sessions.

    on_ping(its number from 0, payload, writer): for each Ping; shake(number of the session, head): what a handshake is
    answered with.
    """
    heard = Heard()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            number = len(heard.handshakes)
            heard.handshakes.append(head)
            writer.write(shake(number, head))
            frames = FrameReader(is_client=True, max_message=2**20, max_fragments=10)
            while not writer.is_closing() and (data := await reader.read(65536)):
                for item in frames.feed(data):
                    if isinstance(item, Message):
                        heard.messages.append(item.payload)
                        heard.by_session.append(number)
                    elif isinstance(item, Ping):
                        heard.pings += 1
                        await on_ping(heard.pings - 1, item.payload, writer)
                    elif isinstance(item, Pong):
                        heard.pongs.append(item.payload)
                    elif isinstance(item, Closing):
                        heard.goodbyes.append(item.code)
                        writer.write(close_frame(item.code, is_client=False))
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        host, port = server.sockets[0].getsockname()[:2]
        yield Address(host, port), heard
    finally:
        server.close()
