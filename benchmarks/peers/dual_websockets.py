"""`python dual_websockets.py PORT OLD NEW`: a dual writer as one makes it of the `websockets` library, on uvloop.

Both sides are terminated. Each message goes to both backends, old's messages to the client, new's nowhere. A client's
Ping is answered when both backends have answered one that stood behind the same messages; Pings that come meanwhile are
answered together. Nothing is kept: what a backend had not read when it went is gone.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import deque
from contextlib import suppress
from typing import Any, Final

import uvloop
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import DATA_OPCODES, Frame, Opcode
from websockets.protocol import Event
from websockets.server import ServerProtocol

_PLAIN: Final[dict[str, Any]] = {"compression": None, "ping_interval": None, "max_queue": 256}


class Client(ServerConnection):
    """A client, whose Pings are kept with the number of messages before them instead of being answered at once."""

    def __init__(self, protocol: ServerProtocol, *arguments: Any, **named: Any) -> None:
        super().__init__(protocol, *arguments, **named)
        self.received = self.forwarded = 0
        self.pings: deque[tuple[int, bytes]] = deque()
        self.progress = asyncio.Event()
        answering = protocol.recv_frame

        def keep_pings(frame: Frame) -> None:
            if frame.opcode is Opcode.PING:
                protocol.events.append(frame)
            else:
                answering(frame)

        protocol.recv_frame = keep_pings  # type: ignore[method-assign]

    def process_event(self, event: Event) -> None:
        if isinstance(event, Frame):
            if event.opcode is Opcode.PING:
                self.pings.append((self.received, bytes(event.data)))
                self.progress.set()
            elif event.opcode in DATA_OPCODES and event.fin:
                self.received += 1
        super().process_event(event)

    def due(self) -> list[bytes]:
        """Take the Pings whose messages were all forwarded."""
        found = []
        while self.pings and self.pings[0][0] <= self.forwarded:
            found.append(self.pings.popleft()[1])
        return found


async def forward(client: Client, backends: list[ClientConnection]) -> None:
    """The client's messages, to both."""
    async for message in client:
        for backend in backends:
            await backend.send(message)
        client.forwarded += 1
        client.progress.set()


async def answer(client: Client, backends: list[ClientConnection]) -> None:
    """The client's Pings, once both have answered."""
    while True:
        await client.progress.wait()
        client.progress.clear()
        if pings := client.due():
            for answered in [await backend.ping() for backend in backends]:
                await answered
            for ping in pings:
                await client.pong(ping)
            client.progress.set()


async def back(client: Client, backend: ClientConnection, *, is_heard: bool) -> None:
    """A backend's messages."""
    async for message in backend:
        if is_heard:
            await client.send(message)


async def session(client: ServerConnection, ports: list[int]) -> None:
    """One session, until one of the three ends it."""
    assert isinstance(client, Client)
    assert client.request is not None
    urls = [f"ws://127.0.0.1:{port}{client.request.path}" for port in ports]
    async with connect(urls[0], proxy=None, **_PLAIN) as old, connect(urls[1], proxy=None, **_PLAIN) as new:
        backends = [old, new]
        tasks = [
            asyncio.ensure_future(forward(client, backends)),
            asyncio.ensure_future(answer(client, backends)),
            asyncio.ensure_future(back(client, old, is_heard=True)),
            asyncio.ensure_future(back(client, new, is_heard=False)),
        ]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError, ConnectionClosed):
                await task


async def run(port: int, ports: list[int]) -> None:
    """Listen until the process is ended."""
    async with serve(lambda client: session(client, ports), "127.0.0.1", port, create_connection=Client, **_PLAIN):
        await asyncio.get_running_loop().create_future()


def main(arguments: list[str]) -> None:
    """Serve."""
    parser = argparse.ArgumentParser(prog="dual_websockets.py")
    parser.add_argument("port", type=int)
    parser.add_argument("backends", type=int, nargs=2, metavar="BACKEND")
    options = parser.parse_args(arguments)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(options.port, options.backends))


if __name__ == "__main__":
    main(sys.argv[1:])
