"""One connection to a backend that has switched to WebSocket, between its transport and who uses it.

A user that has let go of a connection hears nothing of it any more, however long it takes to close, and may have
another one by then.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from proxy.http.tick import End, Tick
from proxy.ledger.shape import as_protocol

if TYPE_CHECKING:
    from proxy.http.connection import Connection

CLOSE_WAIT: Final = 2.0
"""Seconds that a backend has for its half of a close."""


class User(Protocol):
    """Who uses a connection."""

    def data_received(self, data: bytes) -> None:
        """Some bytes."""

    def pause_writing(self) -> None:
        """The backend does not take what it gets."""

    def resume_writing(self) -> None:
        """It does again."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""


class Wire:
    """The connection's `StreamProtocol` from its 101 on. connection: as which it was opened, and is counted."""

    __slots__ = ("_loop", "_tick", "connection", "transport", "user")

    def __init__(
        self,
        user: User,
        connection: Connection,
        transport: asyncio.Transport,
        tick: Tick,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.user: User | None = user
        self.connection = connection
        self.transport = transport
        self._tick = tick
        self._loop = loop
        transport.set_protocol(as_protocol(self))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It was made for the handshake."""

    def data_received(self, data: bytes) -> None:
        if self.user is not None:
            self.user.data_received(data)

    def pause_writing(self) -> None:
        if self.user is not None:
            self.user.pause_writing()

    def resume_writing(self) -> None:
        if self.user is not None:
            self.user.resume_writing()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        user, self.user = self.user, None
        self.connection.connection_lost(exc)  # which also forgets what was not written yet
        if user is not None:
            user.connection_lost(exc)

    def let_go(self) -> None:
        """Close it after what was written, soon by force: the backend may be one that reads no more."""
        self.user = None
        self._tick.end(self.transport, End.CLOSE)
        self._loop.call_later(CLOSE_WAIT, self.transport.abort)
