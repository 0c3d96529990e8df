"""A Home Assistant as its WebSocket API shows it, on a real socket: states, events, tokens, restarts, bad manners."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

TOKEN: Final = "a-long-lived-token"
START: Final = datetime(2026, 1, 1, tzinfo=UTC)


class Session:
    """One client that is connected."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        self.said: list[dict[str, Any]] = []
        """What the client has said after its token."""
        self.subscriptions: dict[int, str] = {}
        self.outbox: asyncio.Queue[bytes | str] = asyncio.Queue()


class FakeHome:
    """state: what get_config calls it. token: that is believed. takes_states: get_states is answered."""

    def __init__(self) -> None:
        self.token = TOKEN
        self.state = "RUNNING"
        self.answers_states = True
        self.answers_pings = True
        self.denies_types: set[str] = set()
        self.states: dict[str, dict[str, Any]] = {}
        self.history: list[tuple[str, str | None]] = []
        """Every change that there was: entity and state."""
        self.sessions: list[Session] = []
        self.attempts = 0
        """Connections that were opened, ever."""
        self.tokens: list[str] = []
        self.refusing: Callable[[], object] = lambda: None
        """Called as a token is refused, before that is said."""
        self.port = 0
        self._server: Server | None = None
        self._changes = 0

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/api/websocket"

    async def start(self) -> None:
        self._server = await serve(self._serve, "127.0.0.1", self.port, close_timeout=0.2, ping_interval=None)
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        """Everybody is cut off, and nobody gets in."""
        server, self._server = self._server, None
        if server is not None:
            for session in self.sessions:
                session.socket.transport.abort()
            server.close()
            await server.wait_closed()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    # what happens in it

    def change(self, entity: str, value: str, **attributes: Any) -> None:
        """A state changes, and whoever has subscribed is told."""
        self._changes += 1
        now = (START + timedelta(milliseconds=self._changes)).isoformat()
        old, context = self.states.get(entity), {"id": f"01H{self._changes:023d}", "parent_id": None, "user_id": None}
        self.states[entity] = {
            "entity_id": entity,
            "state": value,
            "attributes": attributes,
            "last_changed": now,
            "last_updated": now,
            "context": context,
        }
        self.history.append((entity, value))
        self._fire("state_changed", {"entity_id": entity, "old_state": old, "new_state": self.states[entity]}, context)

    def remove(self, entity: str) -> None:
        """A state goes."""
        self._changes += 1
        self.history.append((entity, None))
        data = {"entity_id": entity, "old_state": self.states.pop(entity), "new_state": None}
        self._fire("state_changed", data, {"id": f"01H{self._changes:023d}"})

    def fire(self, event_type: str, **data: Any) -> None:
        """Any other event."""
        self._changes += 1
        self._fire(event_type, data, {"id": f"01H{self._changes:023d}"})

    def say(self, data: bytes | str) -> None:
        """Send this to everybody, whatever it is."""
        for session in self.sessions:
            session.outbox.put_nowait(data)

    def _fire(self, event_type: str, data: dict[str, Any], context: dict[str, Any]) -> None:
        fired = (START + timedelta(milliseconds=self._changes)).isoformat()
        event = {
            "event_type": event_type,
            "data": data,
            "origin": "LOCAL",
            "time_fired": fired,
            "context": context,
        }
        for session in self.sessions:
            for number, of in session.subscriptions.items():
                if of in ("*", event_type):
                    self._put(session, {"id": number, "type": "event", "event": event})

    # the conversation

    def _put(self, session: Session, message: dict[str, Any]) -> None:
        session.outbox.put_nowait(orjson.dumps(message).decode())

    async def _serve(self, socket: ServerConnection) -> None:
        self.attempts += 1
        session = Session(socket)
        try:
            if not await self._authenticated(socket):
                return
            self.sessions.append(session)
            writing = asyncio.create_task(self._write(session))
            try:
                async for message in socket:
                    self._take(session, orjson.loads(message))
            finally:
                writing.cancel()
                self.sessions.remove(session)
        except ConnectionClosed:
            pass

    async def _authenticated(self, socket: ServerConnection) -> bool:
        await socket.send('{"type": "auth_required", "ha_version": "2024.3.3"}')
        said = orjson.loads(await socket.recv())
        assert said["type"] == "auth"
        self.tokens.append(said["access_token"])
        if said["access_token"] != self.token:
            self.refusing()
            await socket.send('{"type": "auth_invalid", "message": "Invalid access token or password"}')
            return False
        await socket.send('{"type": "auth_ok", "ha_version": "2024.3.3"}')
        return True

    async def _write(self, session: Session) -> None:
        """What waits together goes out as one list, as Home Assistant does it for those that can take that."""
        while True:
            messages = [await session.outbox.get()]
            while not session.outbox.empty():
                messages.append(session.outbox.get_nowait())
            is_coalesced = any(said["type"] == "supported_features" for said in session.said)
            texts = [each for each in messages if isinstance(each, str) and each.startswith("{")]
            if is_coalesced and len(texts) > 1 and texts == messages:
                await session.socket.send(f"[{','.join(texts)}]")
            else:
                for each in messages:
                    await session.socket.send(each)

    def _take(self, session: Session, said: dict[str, Any]) -> None:
        before = session.said[-1]["id"] if session.said else 0
        assert said["id"] > before, "ids rise"
        session.said.append(said)
        match said["type"]:
            case "subscribe_events" if said.get("event_type", "*") in self.denies_types:
                self._result(session, said, error={"code": "unauthorized", "message": "Unauthorized"})
            case "subscribe_events":
                session.subscriptions[said["id"]] = said.get("event_type", "*")
                self._result(session, said)
            case "get_config":
                self._result(session, said, {"state": self.state})
            case "get_states" if self.answers_states:
                self._result(session, said, list(self.states.values()))
            case "ping" if self.answers_pings:
                self._put(session, {"id": said["id"], "type": "pong"})
            case "supported_features":
                self._result(session, said)

    def _result(self, session: Session, said: dict[str, Any], result: Any = None, error: Any = None) -> None:
        message = {"id": said["id"], "type": "result", "success": error is None, "result": result}
        self._put(session, message if error is None else message | {"error": error})
