"""The connection to a source's server: opened once, with what is owed to it, and ended.

opened() --> receive(), send(), ping()
         --> acknowledge() --> sent in its turn, beside what is received
         --> close(): what is owed, then the end in order, else by force
"""

from __future__ import annotations

import asyncio
import ssl
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from config.sources import HomeAssistantSource, Source
from proxy.control.threads import begin
from proxy.net.live_context import load_authorities, reason
from proxy.sources.event import Broken, Denied

CLOSE_WAIT: Final = 2.0
"""Seconds for what is owed and for the other end's part of closing."""
_MOST_UNREAD: Final = 1
"""Messages that may wait for us to read on: each may be as long as `max_message`."""
_under_way: dict[str | None, Future[ssl.SSLContext]] = {}


class Connection:
    """One that is open. Everything that it does raises ConnectionClosed once it is not."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._owed: asyncio.Queue[str | None] = asyncio.Queue()
        self._paying = asyncio.create_task(self._pay())

    @property
    def owed(self) -> int:
        """Acknowledgements that could not be sent yet."""
        return self._owed.qsize()

    async def receive(self) -> bytes:
        """The next message, as it came: who reads its JSON sees whether that is UTF-8."""
        return await self._socket.recv(decode=False)

    async def send(self, messages: list[str]) -> None:
        """These, in order, each taken out as it goes."""
        while messages:
            await self._socket.send(messages.pop(0))

    async def ping(self, wait: float) -> None:
        """Raises Broken when there is no Pong in time."""
        try:
            async with asyncio.timeout(wait):
                await (await self._socket.ping())
        except TimeoutError:
            raise Broken(f"no Pong within {wait:g} s") from None

    def acknowledge(self, message: str) -> None:
        """Send this when all before it is sent."""
        self._owed.put_nowait(message)

    async def close(self, wait: float) -> None:
        """Send what is owed and close, in `wait` seconds; one that reads nothing is cut."""
        self._owed.put_nowait(None)
        try:
            async with asyncio.timeout(wait):
                await self._paying
                await self._socket.close()
        except TimeoutError:
            pass
        finally:
            self._paying.cancel()
            self._socket.transport.abort()

    async def _pay(self) -> None:
        with suppress(ConnectionClosed):
            while (message := await self._owed.get()) is not None:
                await self._socket.send(message)


class _Straight(connect):
    """Follows no redirect: our credential is for the server that is configured."""

    def process_redirect(self, exc: Exception) -> Exception:
        """It is the answer."""
        return exc


async def opened(settings: Source, secret: str) -> Connection:
    """Connect. Raises Denied, Broken, BadTls, OSError or WebSocketException."""
    kind = settings.kind
    headers = {} if isinstance(kind, HomeAssistantSource) else {**kind.headers}
    if secret and not isinstance(kind, HomeAssistantSource):
        headers["Authorization"] = secret
    connecting = _Straight(
        kind.url,
        ssl=await _context(kind.ca, settings.open_timeout) if kind.url.startswith("wss://") else None,
        additional_headers=headers,
        user_agent_header="crossfade",
        open_timeout=settings.open_timeout,
        close_timeout=CLOSE_WAIT,
        ping_interval=None,  # a connection that is not read on purpose must not count as lost
        max_size=settings.max_message,
        max_queue=_MOST_UNREAD,
        proxy=None,
    )
    try:
        return Connection(await connecting)
    except InvalidHandshake as error:
        status = getattr(getattr(error, "response", None), "status_code", 0)
        if status in (401, 403):
            raise Denied(f"our credential is refused: it answers {status}") from None
        raise Broken(f"it takes no WebSocket there: it answers {status or error}") from None


async def _context(ca: str | None, wait: float) -> ssl.SSLContext:
    """Made beside the loop, which reading the system's authorities would hold up. Raises BadTls, and OSError."""
    making = _under_way.get(ca)
    if making is None or making.done():
        making = _under_way[ca] = begin("authorities", partial(_make_context, ca))
    async with asyncio.timeout(wait):
        return await asyncio.wrap_future(making)


def _make_context(ca: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context() if ca is None else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca is not None:
        load_authorities(context, ca)
    return context


def why_lost(error: Exception) -> str:
    """For a line of status."""
    if isinstance(error, ConnectionClosed):
        closing = error.rcvd or error.sent
        said = f" ({closing.code} {closing.reason})".replace(" )", ")") if closing is not None else ""
        return f"it was disconnected{said}"[:200]
    if isinstance(error, TimeoutError):
        return "no connection in time"
    if isinstance(error, OSError):
        return f"no connection: {reason(error)}"
    return str(error)[:200] or type(error).__name__
