"""A server that speaks Home Assistant's WebSocket API as far as sources and consumers ask it, at any rate.

Its changes are numbered: the number is the state, and stands in the id of the context, by which stores are read.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

TOKEN: Final = "let-the-benchmark-in"  # noqa: S105 - of a house that is gone with it
ENTITIES: Final = 200
_TICK: Final = 0.005
"""Seconds between two moments at which changes happen: what is due by then happens at once."""


class House:
    """changes: how many there were; others: states that never change, so that a snapshot is as long as a real one."""

    def __init__(self) -> None:
        self.changes = 0
        self.others = 0
        self.subscribers: dict[asyncio.Queue[bytes], int] = {}
        """Their queues, and the id of each one's subscription."""
        self._states: dict[str, dict[str, Any]] = {}
        self._server: Server | None = None
        self._sockets: set[ServerConnection] = set()
        self._takes_lists: set[asyncio.Queue[bytes]] = set()
        self.url = ""

    async def start(self) -> None:
        """Listen."""
        self._server = await serve(self._serve, "127.0.0.1", 0, ping_interval=None, close_timeout=1)
        self.url = f"http://127.0.0.1:{next(iter(self._server.sockets)).getsockname()[1]}"

    async def stop(self) -> None:
        """Close every connection."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def cut(self) -> None:
        """Cut every connection, as a restart does."""
        for socket in self._sockets:
            socket.transport.abort()

    # what happens in it

    async def run(self, rate: float, seconds: float) -> int:
        """So many changes per second, on schedule whatever becomes of them; how many there were."""
        began, count = time.monotonic(), round(rate * seconds)
        for number in range(count):
            while (wait := began + number / rate - time.monotonic()) > 0:
                await asyncio.sleep(max(wait, _TICK))
            self.change()
        return count

    def change(self) -> None:
        """One more change, of the next entity in turn."""
        self.changes += 1
        name = f"sensor.s{self.changes % ENTITIES}"
        now, context = datetime.now(UTC).isoformat(), {"id": f"c{self.changes}", "parent_id": None, "user_id": None}
        new = _state(name, str(self.changes), now, context)
        data = {"entity_id": name, "old_state": self._states.get(name), "new_state": new}
        self._states[name] = new
        event = {"event_type": "state_changed", "data": data, "origin": "LOCAL", "time_fired": now, "context": context}
        text = orjson.dumps(event)
        for queue, number in self.subscribers.items():
            queue.put_nowait(b'{"id":%d,"type":"event","event":%b}' % (number, text))

    def _all(self) -> list[dict[str, Any]]:
        context = {"id": "c0", "parent_id": None, "user_id": None}
        at = "2026-01-01T00:00:00+00:00"
        return [*self._states.values(), *(_state(f"sensor.other{n}", "on", at, context) for n in range(self.others))]

    # the conversation

    async def _serve(self, socket: ServerConnection) -> None:
        outbox: asyncio.Queue[bytes] = asyncio.Queue()
        self._sockets.add(socket)
        writing = asyncio.create_task(self._write(socket, outbox))
        try:
            with suppress(ConnectionClosed):
                await socket.send('{"type":"auth_required","ha_version":"2024.3.3"}')
                is_let_in = orjson.loads(await socket.recv()).get("access_token") == TOKEN
                kind = "auth_ok" if is_let_in else "auth_invalid"
                await socket.send(orjson.dumps({"type": kind, "ha_version": "2024.3.3"}), text=True)
                async for message in socket:
                    self._take(outbox, orjson.loads(message))
        finally:
            writing.cancel()
            self.subscribers.pop(outbox, None)
            self._takes_lists.discard(outbox)
            self._sockets.discard(socket)

    def _take(self, outbox: asyncio.Queue[bytes], said: dict[str, Any]) -> None:
        result: Any = None
        match said["type"]:
            case "subscribe_events":
                self.subscribers[outbox] = said["id"]
            case "get_states":
                result = self._all()
            case "get_config":
                result = {"state": "RUNNING"}
            case "supported_features":
                self._takes_lists.add(outbox)
        kind = {"type": "pong"} if said["type"] == "ping" else {"type": "result", "success": True, "result": result}
        outbox.put_nowait(orjson.dumps({"id": said["id"], **kind}))

    async def _write(self, socket: ServerConnection, outbox: asyncio.Queue[bytes]) -> None:
        """What waits together goes out as one list to those that take that, as Home Assistant does it."""
        with suppress(ConnectionClosed):
            while True:
                messages = [await outbox.get()]
                while outbox in self._takes_lists and not outbox.empty():
                    messages.append(outbox.get_nowait())
                await socket.send(messages[0] if len(messages) == 1 else b"[%b]" % b",".join(messages), text=True)


def _state(name: str, value: str, at: str, context: dict[str, Any]) -> dict[str, Any]:
    return {
        "entity_id": name,
        "state": value,
        "attributes": {
            "friendly_name": f"The state of {name} in the house",
            "unit_of_measurement": "°C",
            "device_class": "temperature",
            "state_class": "measurement",
        },
        "last_changed": at,
        "last_updated": at,
        "context": context,
    }
