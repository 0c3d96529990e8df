"""Frames by hand: bytes as a test writes them, and what comes back frame by frame.

Neither is ours: frames are written by the `websockets` library, and the reader knows no rule but where one ends.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from websockets.frames import Frame, Opcode

from tests.http.wire import PATIENCE, Wire

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

GET = "GET /ws HTTP/1.1\r\nHost: a\r\n"
GOOD = GET + "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
HANDSHAKE = (GOOD + KEY + "\r\n").encode()


def sent(opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = True) -> bytes:
    """A frame. masked: of a client."""
    return Frame(Opcode(opcode), payload, fin=fin).serialize(mask=masked)


def closing(code: int | None, reason: bytes = b"", *, masked: bool = True) -> bytes:
    """A close frame with any code, allowed or not; None: without one."""
    return sent(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason, masked=masked)


class Got(NamedTuple):
    """A frame that came. raw: all its bytes; payload: unmasked."""

    opcode: int
    fin: bool
    payload: bytes
    raw: bytes


async def next_frame(reader: asyncio.StreamReader) -> Got:
    """The next frame; raises IncompleteReadError when the connection ends before its end."""
    raw = await reader.readexactly(2)
    first, second = raw
    size = second & 127
    if size >= 126:
        extended = await reader.readexactly(2 if size == 126 else 8)
        raw, size = raw + extended, int.from_bytes(extended, "big")
    mask = await reader.readexactly(4) if second & 128 else b""
    body = await reader.readexactly(size)
    payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(body)) if mask else body
    return Got(first & 15, bool(first & 128), payload, raw + mask + body)


async def drip(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Send each byte as a segment of its own."""
    for byte in data:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0)


class HandClient:
    """A client that speaks by hand, from its 101 on."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    @classmethod
    async def shake_hands(cls, wire: Wire, *, drips: bool = False) -> HandClient:
        """Send a handshake and take its 101, but nothing behind that. drips: in segments of one byte."""
        if drips:
            await drip(wire.writer, HANDSHAKE)
        else:
            wire.send(HANDSHAKE)
        async with asyncio.timeout(PATIENCE):
            assert (await wire.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        return cls(wire)

    def send(self, *frames: bytes) -> None:
        """Send bytes."""
        self.wire.send(b"".join(frames))

    async def frame(self) -> Got:
        """The next frame."""
        async with asyncio.timeout(PATIENCE):
            return await next_frame(self.wire.reader)

    async def ping(self, payload: bytes = b"") -> None:
        """Wait until everything before this is safe. What comes before its Pong is not kept."""
        self.send(sent(PING, payload))
        while await self.frame() != Got(PONG, True, payload, sent(PONG, payload, masked=False)):
            pass

    async def closed(self) -> tuple[int | None, str]:
        """Code and reason of the close frame that comes, behind which is nothing; frames before it are not kept."""
        while (frame := await self.frame()).opcode != CLOSE:
            pass
        try:
            assert await self.wire.rest() == b""
        finally:
            self.wire.close()
        if not frame.payload:
            return None, ""
        return int.from_bytes(frame.payload[:2], "big"), frame.payload[2:].decode()
