"""A server that says word by word what a test wrote down: answers that a sound server does not give."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


def answer(body: bytes = b"", status: str = "200 OK", *headers: str) -> bytes:
    """A whole answer; its connection stays open."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def cut(body: bytes) -> bytes:
    """The first part of a chunked answer that has no end."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + f"{len(body):x}\r\n".encode() + body + b"\r\n"


class Scripted:
    """requests: head and body of each one that came; answers: given one after the other, the last one again and again.

    After an answer from `cut` the connection is closed; after b"" too, without a word.
    """

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[str, bytes]] = []
        self.url = ""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                lengths = [
                    line.split(":")[1] for line in head.split("\r\n") if line.lower().startswith("content-length:")
                ]
                self.requests.append((head, await reader.readexactly(int(lengths[0]) if lengths else 0)))
                said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                writer.write(said)
                await writer.drain()
                if not said or b"Transfer-Encoding: chunked" in said:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # the client has gone
        finally:
            writer.close()


@asynccontextmanager
async def scripted(*answers: bytes) -> AsyncIterator[Scripted]:
    """It listens on a free port."""
    said = Scripted(*answers)
    server = await asyncio.start_server(said._serve, "127.0.0.1", 0)
    said.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield said
        server.close()
