"""`python relay.py PORT BACKEND`: bytes from clients to one backend and back, on uvloop. It looks at none of them.

What asyncio's protocols can do at best: two callbacks per event, each of which writes what it was given.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import cast

import uvloop


class End(asyncio.Protocol):
    """One end of a relayed connection; `other` is where its bytes go, once that is open."""

    def __init__(self, other: End | None = None) -> None:
        self.transport: asyncio.Transport | None = None
        self._other = other
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        for data in self._early:
            self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        assert self._other is not None
        self._other.write(data)

    def write(self, data: bytes) -> None:
        """Send it there, now or once there is somebody."""
        if self.transport is None:
            self._early.append(data)
        else:
            self.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._other is not None and self._other.transport is not None:
            self._other.transport.close()


class ClientEnd(End):
    """The end of a client, who gets a connection to the backend of its own."""

    def __init__(self, backend: int) -> None:
        super().__init__(End(self))
        self._backend = backend

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        loop = asyncio.get_running_loop()
        assert self._other is not None
        other = self._other
        self._opening = loop.create_task(loop.create_connection(lambda: other, "127.0.0.1", self._backend))
        self._opening.add_done_callback(self._opened)

    def _opened(self, opening: asyncio.Task[tuple[asyncio.Transport, End]]) -> None:
        assert self.transport is not None
        if opening.exception() is not None or self.transport.is_closing():
            self.transport.abort()


async def run(port: int, backend: int) -> None:
    """Listen until the process is ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: ClientEnd(backend), "127.0.0.1", port, backlog=4096)
    gc.collect()
    gc.freeze()
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(int(sys.argv[1]), int(sys.argv[2])))
