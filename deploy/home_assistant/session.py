"""What Home Assistant's API is asked, over REST and by WebSocket commands.

https://developers.home-assistant.io/docs/api/rest, .../api/websocket, .../auth_api; onboarding is documented nowhere
but in the source of its integration.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp

from proxy.core.errors import CrossfadeError

OWNER: Final = "owner"
CLIENT_NAME: Final = "crossfade"
"""What the token is called in its owner's profile."""
_DAYS: Final = 365
_TIMEOUT: Final = aiohttp.ClientTimeout(total=20)


class ApiError(CrossfadeError):
    """Home Assistant refused something; the message is what it said."""


class Session:
    """A client of one Home Assistant. token: an access token; empty before there is one."""

    def __init__(self, url: str, token: str = "") -> None:
        self.url = url
        self.token = token
        self._http = aiohttp.ClientSession(timeout=_TIMEOUT)

    async def close(self) -> None:
        """Close its connections."""
        await self._http.close()

    async def ask(self, method: str, path: str, body: Any = None, form: dict[str, str] | None = None) -> Any:
        """The JSON of an answer of 2xx. body: sent as JSON; form: as a form. Raises ApiError, aiohttp.ClientError."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        async with self._http.request(method, f"{self.url}{path}", json=body, data=form, headers=headers) as answer:
            if answer.status >= 300:
                raise ApiError(f"{method} {path}: {answer.status} {(await answer.text())[:500]}")
            return await answer.json()

    async def command(self, name: str, **fields: Any) -> Any:
        """The result of a WebSocket command, in a session of its own. Raises ApiError, aiohttp.ClientError."""
        async with self._opened() as socket:
            return await _result(socket, name, fields)

    @asynccontextmanager
    async def events(self, event_type: str) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Events of a type from now on, until Home Assistant goes. Raises ApiError, aiohttp.ClientError."""

        async def each(socket: aiohttp.ClientWebSocketResponse) -> AsyncIterator[dict[str, Any]]:
            async for message in socket:
                said = message.json()
                if said["type"] == "event":
                    yield said["event"]

        async with self._opened() as socket:
            await _result(socket, "subscribe_events", {"event_type": event_type})
            yield each(socket)

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """A WebSocket session that may ask. Raises ApiError, aiohttp.ClientError."""
        async with self._http.ws_connect(f"{self.url}/api/websocket") as socket:
            await socket.receive_json()  # auth_required
            await socket.send_json({"type": "auth", "access_token": self.token})
            said = await socket.receive_json()
            if said["type"] != "auth_ok":
                raise ApiError(f"{said['type']}: {said.get('message', '')}")
            yield socket

    async def create_owner(self, password: str) -> None:
        """The first step of onboarding; from then on this session has a long-lived token of the owner.

        The other steps stay undone: that of the core's settings would set up integrations that need the internet.
        """
        client = f"{self.url}/"
        owner = {"name": "Owner", "username": OWNER, "password": password, "client_id": client, "language": "en"}
        code = (await self.ask("POST", "/api/onboarding/users", owner))["auth_code"]
        form = {"grant_type": "authorization_code", "code": code, "client_id": client}
        self.token = (await self.ask("POST", "/auth/token", form=form))["access_token"]
        self.token = await self.command("auth/long_lived_access_token", client_name=CLIENT_NAME, lifespan=_DAYS)

    async def set_state(
        self, entity: str, state: str, attributes: dict[str, Any] | None = None, *, force: bool = False
    ) -> None:
        """Give an entity a state. The same state and attributes again are no change, unless `force`."""
        body = {"state": state, "attributes": attributes or {}, "force_update": force}
        await self.ask("POST", f"/api/states/{entity}", body)

    async def remove(self, entity: str) -> None:
        """Take an entity away, which is a change without a new state."""
        await self.ask("DELETE", f"/api/states/{entity}")

    async def call(self, domain: str, service: str, **data: Any) -> None:
        """Perform an action; returns once it is done."""
        await self.ask("POST", f"/api/services/{domain}/{service}", data)


async def _result(socket: aiohttp.ClientWebSocketResponse, name: str, fields: dict[str, Any]) -> Any:
    """Of the only command of a session. Raises ApiError."""
    await socket.send_json({"id": 1, "type": name} | fields)
    said = await socket.receive_json()
    if not said["success"]:
        raise ApiError(f"{name}: {said['error']['message']}")
    return said["result"]
