"""What backends and clients do in these tests, by name."""

from __future__ import annotations

import asyncio

from tests.http.backend import BackendConnection, Seen
from tests.http.rig import Rig, event_bytes
from tests.http.wire import Answer


def never(seen: Seen, connection: BackendConnection) -> None:
    """A stalled backend."""


def dropped(seen: Seen, connection: BackendConnection) -> None:
    """A backend that closes without an answer."""
    connection.reset()


class Gate:
    """A backend that answers when it is opened."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._held: list[BackendConnection] = []

    def __call__(self, seen: Seen, connection: BackendConnection) -> None:
        self._held.append(connection)

    def open(self, data: bytes = b"") -> None:
        """Answer everything that waits."""
        for connection in self._held:
            connection.write(data or self._data)
        self._held.clear()


async def turns(count: int = 20) -> None:
    """Let everything happen that is ready to happen."""
    for _ in range(count):
        await asyncio.sleep(0)


def ask(rig: Rig, event_id: str, key: str = "k", **body: str) -> asyncio.Task[Answer]:
    """Send an event and go on."""
    return asyncio.create_task(rig.ask(event_bytes(event_id, key=key, **body)))
