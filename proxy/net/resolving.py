"""Looking names up for what may wait, without taking the place of what may not.

The system's resolver blocks a thread of a small pool that the whole process shares, and nobody can call it off: a few
names whose servers are dead would keep everybody else from looking one up. So each name is looked up once at a time,
for all who ask, and few names at once.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

AT_ONCE: Final = 2
"""Names that are looked up at the same time; the pool has four threads."""
_Key = tuple[str, int, socket.AddressFamily]


class SharedResolver(AbstractResolver):
    """As aiohttp's, for one event loop. Who stops waiting leaves the lookup to the others."""

    def __init__(self) -> None:
        self._resolver = aiohttp.ThreadedResolver()
        self._places = asyncio.Semaphore(AT_ONCE)
        self._looking: dict[_Key, asyncio.Task[list[ResolveResult]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a name, of either family unless one is asked for. Raises OSError.

        A machine whose only address is the loopback has no "localhost" of one asked family: glibc leaves that out.
        """
        key = host, port, family
        task = self._looking.get(key)
        if task is None:
            task = self._looking[key] = asyncio.create_task(self._resolve(key))
            task.add_done_callback(lambda done: self._ended(key, done))
        return await asyncio.shield(task)

    async def _resolve(self, key: _Key) -> list[ResolveResult]:
        async with self._places:
            return await self._resolver.resolve(*key)

    def _ended(self, key: _Key, done: asyncio.Task[list[ResolveResult]]) -> None:
        del self._looking[key]
        if not done.cancelled():
            done.exception()  # nobody may be left who asks

    async def close(self) -> None:
        """Wait for nobody."""
        for task in self._looking.values():
            task.cancel()
