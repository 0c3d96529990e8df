"""Clients behind one interface: one of `websockets` and one of `aiohttp`. By hand: `byhand.HandClient`."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence

from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType, WSServerHandshakeError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from tests.http.wire import PATIENCE


class Refused(Exception):
    """The handshake was answered with another status than 101."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Closed(Exception):
    """The session is over. code: of the close frame that came, 1006 without one."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Client(ABC):
    """One session of a client, which answers Pings by itself."""

    @classmethod
    @abstractmethod
    async def open(
        cls,
        uri: str,
        *,
        headers: Mapping[str, str] | None = None,
        origin: str | None = None,
        subprotocols: Sequence[str] = (),
        deflate: bool = False,
    ) -> Client:
        """Connect; raises `Refused`. deflate: offer permessage-deflate."""

    subprotocol: str | None
    has_extensions: bool
    """Was an extension agreed on?"""

    @abstractmethod
    async def send(self, message: str | bytes) -> None:
        """Send a message."""

    @abstractmethod
    async def recv(self) -> str | bytes:
        """The next message; raises `Closed`."""

    @abstractmethod
    async def ping(self) -> None:
        """Send a Ping and wait for its Pong."""

    @abstractmethod
    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close, and wait for the other end to do so."""

    @property
    @abstractmethod
    def close_code(self) -> int | None:
        """With which code it ended; None while it goes on."""

    @abstractmethod
    def abort(self) -> None:
        """Leave with a reset."""


class WebsocketsClient(Client):
    """A client of `websockets`."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self.subprotocol = connection.subprotocol
        self.has_extensions = bool(connection.protocol.extensions)

    @classmethod
    async def open(
        cls,
        uri: str,
        *,
        headers: Mapping[str, str] | None = None,
        origin: str | None = None,
        subprotocols: Sequence[str] = (),
        deflate: bool = False,
    ) -> WebsocketsClient:
        try:
            return cls(
                await connect(
                    uri,
                    additional_headers=headers,
                    origin=None if origin is None else Origin(origin),
                    subprotocols=[Subprotocol(name) for name in subprotocols] or None,
                    compression="deflate" if deflate else None,
                    ping_interval=None,
                )
            )
        except InvalidStatus as refused:
            raise Refused(refused.response.status_code) from None

    async def send(self, message: str | bytes) -> None:
        await self._connection.send(message)

    async def recv(self) -> str | bytes:
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._connection.recv()
        except ConnectionClosed as closed:
            raise Closed(closed.rcvd.code if closed.rcvd is not None else 1006) from None

    async def ping(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await (await self._connection.ping())

    async def close(self, code: int = 1000, reason: str = "") -> None:
        await self._connection.close(code, reason)

    @property
    def close_code(self) -> int | None:
        return self._connection.close_code

    def abort(self) -> None:
        if self._connection.close_code is None:
            self._connection.transport.abort()


class AiohttpClient(Client):
    """A client of `aiohttp`. It acts on control frames only while somebody reads, so a task of its own does."""

    def __init__(self, session: ClientSession, socket: ClientWebSocketResponse) -> None:
        self._session = session
        self._socket = socket
        self.subprotocol = socket.protocol
        self.has_extensions = bool(socket.compress)
        self._messages: asyncio.Queue[str | bytes | Closed] = asyncio.Queue()
        self._pings: deque[asyncio.Future[None]] = deque()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def open(
        cls,
        uri: str,
        *,
        headers: Mapping[str, str] | None = None,
        origin: str | None = None,
        subprotocols: Sequence[str] = (),
        deflate: bool = False,
    ) -> AiohttpClient:
        session = ClientSession()
        try:
            socket = await session.ws_connect(
                uri,
                headers=headers,
                origin=origin,
                protocols=subprotocols,
                compress=15 if deflate else 0,
                autoping=False,
            )
        except BaseException as error:
            await session.close()
            if isinstance(error, WSServerHandshakeError):
                raise Refused(error.status) from None
            raise
        return cls(session, socket)

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                self._messages.put_nowait(message.data)
            elif message.type is WSMsgType.PING:
                await self._socket.pong(message.data)
            elif message.type is WSMsgType.PONG:
                self._pings.popleft().set_result(None)
            else:
                self._messages.put_nowait(Closed(self._socket.close_code or 1006))
                return

    async def send(self, message: str | bytes) -> None:
        if isinstance(message, str):
            await self._socket.send_str(message)
        else:
            await self._socket.send_bytes(message)

    async def recv(self) -> str | bytes:
        async with asyncio.timeout(PATIENCE):
            message = await self._messages.get()
        if isinstance(message, Closed):
            raise message
        return message

    async def ping(self) -> None:
        answered = asyncio.get_running_loop().create_future()
        self._pings.append(answered)
        await self._socket.ping()
        async with asyncio.timeout(PATIENCE):
            await answered

    async def close(self, code: int = 1000, reason: str = "") -> None:
        await self._socket.close(code=code, message=reason.encode())
        await self._reading
        await self._session.close()

    @property
    def close_code(self) -> int | None:
        return self._socket.close_code

    def abort(self) -> None:
        connection = self._socket._response.connection
        if connection is not None and connection.transport is not None:
            connection.transport.abort()
