"""`python -m benchmarks.websocket.backend PORT`: a backend of sessions that counts messages and answers Pings.

A Ping is answered when it was read, so behind every message before it; each one, as the common libraries do. `GET /`
without an upgrade is answered with the counts.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import io
import json
import sys
from pathlib import Path
from typing import Final, cast

import uvloop

from benchmarks.websocket.messages import id_of, switching
from proxy.websocket.frames import PONG as PONG_FRAME
from proxy.websocket.frames import Closing, FrameReader, Message, Ping, Pong, Run, close_frame, frame

MAX_MESSAGE: Final = 2**20
_BACKLOG: Final = 4096
_FLUSH_EVERY: Final = 0.2


class Counts:
    """What this backend has seen. ids: where the id of every message goes, if it is wanted."""

    def __init__(self, ids: io.TextIOBase | None) -> None:
        self.messages = 0
        self.sessions = 0
        self.ids = ids

    def as_json(self) -> bytes:
        """For who asks."""
        return json.dumps({"messages": self.messages, "sessions": self.sessions}).encode()


class Connection(asyncio.Protocol):
    """One connection: a question for the counts, or a session."""

    __slots__ = ("_counts", "_head", "_reader", "_transport")

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._head = b""
        self._reader: FrameReader | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._reader is not None:
            self._counts.sessions -= 1

    def data_received(self, data: bytes) -> None:
        if self._reader is None:
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            if b"\r\nupgrade: websocket" not in head.lower():
                self._tell()
                return
            self._head = b""
            self._reader = FrameReader(
                is_client=True, max_message=MAX_MESSAGE, max_fragments=16, runs=self._counts.ids is None
            )
            self._counts.sessions += 1
            self._transport.write(switching(head))
        self._take(self._reader, data)

    def _tell(self) -> None:
        body = self._counts.as_json()
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        self._transport.close()

    def _take(self, reader: FrameReader, data: bytes) -> None:
        counts, answers = self._counts, []
        for item in reader.feed(data):
            if type(item) is Ping:
                answers.append(frame(PONG_FRAME, item.payload, is_client=False))
            elif type(item) is Run:
                counts.messages += item.messages
            elif type(item) is Message:
                counts.messages += 1
                if counts.ids is not None:
                    counts.ids.write(id_of(item.payload) + "\n")
            elif type(item) is Closing:
                answers.append(close_frame(item.code, is_client=False))
            elif type(item) is not Pong:
                sys.exit(f"not what a proxy may send: {item}")
        if answers:
            self._transport.write(b"".join(answers))
        if answers and type(item) is Closing:
            self._transport.close()


async def serve(port: int, counts: Counts) -> None:
    """Listen until the process is ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(counts), "127.0.0.1", port, backlog=_BACKLOG)
    async with server:
        while True:
            await asyncio.sleep(_FLUSH_EVERY)
            if counts.ids is not None:
                counts.ids.flush()


def main(arguments: list[str]) -> None:
    """Serve."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.websocket.backend")
    parser.add_argument("port", type=int)
    parser.add_argument("--ids", type=Path, metavar="FILE", help="write every message's id there")
    options = parser.parse_args(arguments)
    gc.disable()
    ids = options.ids.open("w", buffering=2**16) if options.ids else None
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options.port, Counts(ids)))


if __name__ == "__main__":
    main(sys.argv[1:])
