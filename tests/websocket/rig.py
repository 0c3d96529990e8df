"""One worker's data plane with sessions, two real WebSocket backends of `websockets`, and a ledger in memory."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from config.model import Route
from proxy.core.routing import Dials
from proxy.websocket.service import Sessions
from tests.http.rig import DUAL, Rig, running

PATH = "/ws"


class WsBackend:
    """A backend that keeps what it gets. replies: to each message; refusal: instead of a handshake."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = 0
        self.got: list[str | bytes] = []
        self.requests: list[Request] = []
        self.refusal: int | None = None
        self.refused_paths: tuple[str, ...] = ()
        self.replies = False
        self.greeting = ""
        self.subprotocols: list[Subprotocol] = []
        self.connections: set[ServerConnection] = set()
        self.closed: list[int | None] = []
        self.gate: asyncio.Event | None = None
        """Handshakes wait for it."""
        self._server: Server | None = None

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        """Listen, at the port of the first time."""
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            self.port,
            process_request=self._look,
            ssl=tls,
            subprotocols=self.subprotocols or None,
            ping_interval=None,
            reuse_address=True,
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _look(self, connection: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        if self.gate is not None:
            await self.gate.wait()
        refusal = 403 if any(part in request.path for part in self.refused_paths) else self.refusal
        if refusal is not None:
            return connection.respond(HTTPStatus(refusal), f"no, says {self.name}")
        return None

    async def _serve(self, connection: ServerConnection) -> None:
        self.connections.add(connection)
        try:
            if self.greeting:
                await connection.send(self.greeting)
            async for message in connection:
                self.got.append(message)
                if self.replies:
                    await connection.send(f"{self.name}:{message!s}")
        except ConnectionClosed:
            pass
        finally:
            self.connections.discard(connection)
            self.closed.append(connection.close_code)

    def mute(self) -> None:
        """Read nothing, and so answer no Ping."""
        for connection in self.connections:
            connection.transport.pause_reading()

    def unmute(self) -> None:
        """Read on."""
        for connection in self.connections:
            connection.transport.resume_reading()

    async def stop(self) -> None:
        """Say goodbye to everybody, and listen no more."""
        if self._server is not None:
            self.unmute()
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    def cut(self) -> None:
        """Reset every connection."""
        for connection in self.connections:
            connection.transport.abort()


class SessionRig:
    """What a test sees."""

    def __init__(self, rig: Rig, old: WsBackend, new: WsBackend) -> None:
        self.rig = rig
        self.old = old
        self.new = new
        self.sessions = Sessions(rig.plane, rig.service, asyncio.get_running_loop())
        rig.plane.upgrader = self.sessions
        self.sessions.start()
        self._clients = AsyncExitStack()

    @property
    def uri(self) -> str:
        """Where a client connects."""
        return f"ws://127.0.0.1:{self.rig.port}{PATH}"

    async def client(self, query: str = "", **arguments: Any) -> ClientConnection:
        """A client; it ends with the rig."""
        connecting = connect(self.uri + query, **({"ping_interval": None, "compression": None} | arguments))
        return await self._clients.enter_async_context(connecting)

    async def close(self) -> None:
        """End the clients and their sessions."""
        await self._clients.aclose()
        self.sessions.stop()
        async with asyncio.timeout(10):
            while self.sessions.open:
                await asyncio.sleep(0.01)
        self.sessions.close()
        assert self.rig.service.others == 0


def make_route(websocket: Mapping[str, Any] | None = None, **changes: Any) -> Route:
    """The route `events` at /ws."""
    document: dict[str, Any] = {
        "name": "events",
        "match": {"path": PATH},
        "key": "json:/key",
        "event_id": ("json:/id",),
        "carry_over": False,
        "websocket": {"redeliver_window": "0s", "ping_interval": "20s"} | dict(websocket or {}),
    }
    return Route.model_validate(document | changes)


@asynccontextmanager
async def sessions(
    route: Route | None = None,
    *,
    dials: Dials = DUAL,
    down: Sequence[str] = (),
    backend_settings: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> AsyncIterator[SessionRig]:
    """A rig for the length of a block. down: backends that do not listen yet."""
    old, new = WsBackend("old"), WsBackend("new")
    for backend in (old, new):
        await backend.start()
        if backend.name in down:
            await backend.stop()
    urls = {each.name: {"url": f"http://127.0.0.1:{each.port}"} for each in (old, new)}
    settings = {**urls, **(backend_settings or {})}
    async with running(route or make_route(), dials=dials, backend=settings, **arguments) as rig:
        found = SessionRig(rig, old, new)
        try:
            yield found
        finally:
            await found.close()
            await old.stop()
            await new.stop()
