"""What can be wrong with a toy backend, and the listener that some faults close."""

from __future__ import annotations

import asyncio
import socket
from typing import Literal

import msgspec
from aiohttp import web

Kind = Literal["none", "errors", "stall", "down", "slow", "flap", "half-close", "forget", "early"]
_REBIND_SECONDS = 5.0


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"kind": "fault"}):
    """What is wrong with the backend.

    none        nothing
    errors      answers `status` (503) and stores nothing
    stall       accepts, reads, and answers (and stores) only when the fault is over; /health too
    down        connection refused, open connections reset, until another fault is set
    slow        answers `seconds` after the commit
    flap        down for `seconds`, up for `seconds`, and so on
    half-close  commits, then ends its half of the connection instead of an answer
    forget      answers as it should and stores nothing
    early       answers `status` (201) after the head; stores the body if that is a 2xx, else hangs up

    every: only each n-th event has the fault (not down, flap); share: and of these so many, 0 to 1, by chance;
    only: the request with this X-Event-Id, as often as it comes, and no other.
    """

    kind: Kind
    status: int | None = None
    seconds: float = 0.5
    every: int = 1
    share: float = 1.0
    only: str = ""


decode_fault = msgspec.json.Decoder(Fault).decode


class Door:
    """The event port's listener, which faults close and open."""

    def __init__(self, runner: web.AppRunner, port: int, host: str = "127.0.0.1") -> None:
        self._runner = runner
        self._host = host
        self._port = port
        self._site: web.SockSite | None = None
        self._flapping: asyncio.Task[None] | None = None

    async def follow(self, fault: Fault) -> None:
        """Close, open or flap as the fault says."""
        if self._flapping is not None:
            self._flapping.cancel()
            await asyncio.gather(self._flapping, return_exceptions=True)
            self._flapping = None
        if fault.kind == "down":
            await self.close()
        elif fault.kind == "flap":
            self._flapping = asyncio.create_task(self._flap(fault.seconds))
        else:
            await self.open()

    async def open(self) -> None:
        """Listen, unless it does already."""
        if self._site is None:
            site = web.SockSite(self._runner, await bind(self._port, self._host), backlog=1024)
            await site.start()
            self._site = site

    async def close(self) -> None:
        """Refuse new connections and reset the open ones."""
        if self._site is not None:
            site, self._site = self._site, None
            await site.stop()
        server = self._runner.server
        for connection in server.connections if server is not None else ():
            if connection.transport is not None:
                connection.transport.abort()

    async def _flap(self, seconds: float) -> None:
        while True:
            await self.close()
            await asyncio.sleep(seconds)
            await self.open()
            await asyncio.sleep(seconds)


async def bind(port: int, host: str = "127.0.0.1") -> socket.socket:
    """Bind the port; the listener that was closed a moment ago may still be on its way out."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _REBIND_SECONDS
    while True:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            return listener
        except OSError:
            listener.close()
            if loop.time() > deadline:
                raise
        await asyncio.sleep(0.005)
