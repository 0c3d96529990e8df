"""One worker's data plane with sessions, two real WebSocket backends, real clients, and a ledger in memory.

Which library is at which end says the `Pair`: the fixture `paired` (conftest.py) runs a test once with `websockets` at
both ends and once with `aiohttp`, `crossed` with their mixtures, too. By hand (`by_hand`) is what no library would do:
fragments, what is malformed, bytes that are compared one by one, a peer that answers no Ping. `sessions` alone, with
`websockets`, is for what no library comes to: handshakes that are refused before a backend is asked.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, NamedTuple, TypeAlias

from config.model import Route
from proxy.core.routing import Dials
from proxy.websocket.service import Sessions
from proxy.websocket.session import Session
from tests.http.rig import DUAL, Rig, running
from tests.http.wire import until
from tests.websocket.backends import AiohttpBackend, HandBackend, WebsocketsBackend, WsBackend
from tests.websocket.byhand import HandClient
from tests.websocket.clients import AiohttpClient, Client, WebsocketsClient

PATH = "/ws"


class Pair(NamedTuple):
    """Which library is at which end."""

    client: type[Client]
    old: type[WsBackend]
    new: type[WsBackend]


WEBSOCKETS: Final = Pair(WebsocketsClient, WebsocketsBackend, WebsocketsBackend)
AIOHTTP: Final = Pair(AiohttpClient, AiohttpBackend, AiohttpBackend)
PURE: Final = {"websockets": WEBSOCKETS, "aiohttp": AIOHTTP}
MIXED: Final = {
    "websockets to aiohttp": Pair(WebsocketsClient, AiohttpBackend, AiohttpBackend),
    "aiohttp to websockets": Pair(AiohttpClient, WebsocketsBackend, WebsocketsBackend),
    "websockets to both": Pair(WebsocketsClient, WebsocketsBackend, AiohttpBackend),
    "aiohttp to both": Pair(AiohttpClient, AiohttpBackend, WebsocketsBackend),
}


class SessionRig:
    """What a test sees."""

    def __init__(self, rig: Rig, old: WsBackend, new: WsBackend, client: type[Client]) -> None:
        self.rig = rig
        self.old = old
        self.new = new
        self.sessions = Sessions(rig.plane, rig.service, asyncio.get_running_loop())
        rig.plane.upgrader = self.sessions
        self.sessions.start()
        self._client = client
        self._clients: list[Client] = []

    @property
    def uri(self) -> str:
        """Where a client connects."""
        return f"ws://127.0.0.1:{self.rig.port}{PATH}"

    async def client(self, query: str = "", **arguments: Any) -> Client:
        """A client of the pair's library; it ends with the rig."""
        client = await self._client.open(self.uri + query, **arguments)
        self._clients.append(client)
        return client

    async def opened(self, *, new: bool = True, **arguments: Any) -> Client:
        """A client whose backends are connected."""
        client = await self.client(**arguments)
        await self.connected(new=new)
        return client

    async def by_hand(self, *, new: bool = True, limit: int = 2**20, drips: bool = False) -> HandClient:
        """A client that speaks by hand, and whose backends are connected.

        limit: bytes that it reads ahead; drips: its handshake comes in segments of one byte
        """
        client = await HandClient.shake_hands(await self.rig.wire(limit), drips=drips)
        await self.connected(new=new)
        return client

    async def connected(self, *, new: bool = True) -> None:
        """Wait for the backends' connections."""
        await until(
            lambda: bool(self.old.connections) and (bool(self.new.connections) or not new), "backends are connected"
        )

    def counted(self, name: str) -> int:
        """How often something was counted."""
        return self.rig.plane.counters.get(name, 0)

    def is_received(self, event_id: str) -> bool:
        """Does the ledger know that both sides have this event? A slow copy may have been parked before."""
        return all(story in ("D", "PD") for story in self.rig.story(event_id))

    @property
    def only_session(self) -> Session:
        """The session that is there."""
        [session] = self.sessions.open
        return session

    async def leave(self) -> None:
        """Let nothing outlive a test, however that ended."""
        self.sessions.stop()
        self.sessions.close()
        for client in self._clients:
            client.abort()
        for wire in self.rig.wires:
            wire.writer.transport.abort()
        for backend in (self.old, self.new):
            backend.cut()
        await asyncio.gather(*(client.close() for client in self._clients), return_exceptions=True)

    async def close(self) -> None:
        """End the clients and their sessions in order."""
        self.rig.fake.holds = False
        self.rig.fake.release()
        await asyncio.gather(*(client.close() for client in self._clients))
        self.sessions.stop()
        for wire in self.rig.wires:
            wire.close()
        async with asyncio.timeout(10):
            while self.sessions.open:
                await asyncio.sleep(0.01)
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


def text(n: int, key: str = "a") -> str:
    """An event's message."""
    return json.dumps({"id": f"m{n}", "key": key, "n": n})


Opens: TypeAlias = Callable[..., AbstractAsyncContextManager[SessionRig]]
"""`sessions` with a pair of a fixture's."""


@asynccontextmanager
async def sessions(
    route: Route | None = None,
    *,
    pair: Pair = WEBSOCKETS,
    dials: Dials = DUAL,
    down: Sequence[str] = (),
    backend_settings: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> AsyncIterator[SessionRig]:
    """A rig for the length of a block. down: backends that do not listen yet."""
    old, new = pair.old("old"), pair.new("new")
    try:
        for backend in (old, new):
            await backend.start()
            if backend.name in down:
                await backend.stop()
        urls = {each.name: {"url": f"http://127.0.0.1:{each.port}"} for each in (old, new)}
        settings = {**urls, **(backend_settings or {})}
        async with running(route or make_route(), dials=dials, backend=settings, **arguments) as rig:
            found = SessionRig(rig, old, new, pair.client)
            try:
                yield found
                await found.close()
            finally:
                await found.leave()
    finally:
        await old.stop()
        await new.stop()


class HandRig(NamedTuple):
    """A rig whose backends speak by hand."""

    rig: SessionRig
    old: HandBackend
    new: HandBackend


@asynccontextmanager
async def by_hand(route: Route | None = None, **arguments: Any) -> AsyncIterator[HandRig]:
    """The same with backends that speak by hand; clients are of `websockets`, or by hand, too."""
    async with sessions(route, pair=Pair(WebsocketsClient, HandBackend, HandBackend), **arguments) as rig:
        assert isinstance(rig.old, HandBackend)
        assert isinstance(rig.new, HandBackend)
        yield HandRig(rig, rig.old, rig.new)
