"""A consumer, as a service that Home Assistant feeds: `python -m benchmarks.sources.consumer URL TOKEN`.

Says how many events it has had, in a line, whenever that has changed for a tenth of a second.
"""

from __future__ import annotations

import asyncio
import sys

import orjson
import uvloop
from websockets.asyncio.client import ClientConnection, connect


async def run(url: str, token: str) -> None:
    """Until it is ended."""
    async with connect(url, ping_interval=None, compression=None) as socket:
        await socket.recv()
        await socket.send(orjson.dumps({"type": "auth", "access_token": token}), text=True)
        await socket.recv()
        await socket.send(orjson.dumps({"id": 1, "type": "subscribe_events", "event_type": "state_changed"}), text=True)
        had: set[str] = set()
        reading = asyncio.create_task(_read(socket, had))
        told = 0
        while not reading.done():
            await asyncio.sleep(0.1)
            if len(had) != told:
                told = len(had)
                print(told, flush=True)


async def _read(socket: ClientConnection, had: set[str]) -> None:
    async for message in socket:
        said = orjson.loads(message)
        if said["type"] == "event":
            had.add(said["event"]["context"]["id"])


if __name__ == "__main__":
    uvloop.run(run(sys.argv[1], sys.argv[2]))
