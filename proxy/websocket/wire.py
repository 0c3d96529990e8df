"""One connection to a backend that has switched to WebSocket, between its transport and who uses it.

    transport --bytes--> Wire --Run or Message, number of a Pong, end--> user
              <--frames--     <--write, ping, close--

A user that has let go of a connection hears nothing of it any more, however long it takes to close, and may have
another one by then.
"""

from __future__ import annotations

import asyncio
from secrets import token_hex
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol

from proxy.http.tick import End, Tick
from proxy.ledger.shape import as_protocol
from proxy.websocket.frames import (
    NO_CLOSE,
    NO_CODE,
    NORMAL,
    PING,
    PONG,
    Begun,
    Broken,
    Closing,
    FrameReader,
    Message,
    Ping,
    Pong,
    Run,
    close_frame,
    frame,
)

if TYPE_CHECKING:
    from proxy.http.connection import Connection

CLOSE_WAIT: Final = 2.0
"""Seconds that a backend has for its half of a close."""
_WRITE_HIGH: Final = 256 * 1024
"""Bytes that a backend may leave untaken before it is given no more."""
_LONGEST_NUMBER: Final = 18
"""Digits of a number that we may have sent."""
_MARK: Final = 8
"""Bytes at the head of our Pings, by which their Pongs are told from what a backend sends of itself."""


class User(Protocol):
    """Who uses a connection."""

    def said(self, item: Run | Message) -> None:
        """The backend has sent messages."""

    def ponged(self, number: int) -> None:
        """It has answered our Ping of this number."""

    def closed_by_backend(self, closing: Closing) -> None:
        """It has sent a close frame, after which nothing is read."""

    def broken(self, broken: Broken) -> None:
        """What it sent cannot be read on."""

    def pause_writing(self) -> None:
        """The backend does not take what it gets."""

    def resume_writing(self) -> None:
        """It does again."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""


class Wire:
    """The connection's `StreamProtocol` from its 101 on. connection: as which it was opened, and is counted."""

    __slots__ = (
        "_asked_at", "_is_full", "_is_paused", "_loop", "_mark", "_reader", "_rest", "_tick", "connection",
        "heard_at", "resumed_at", "transport", "user",
    )  # fmt: skip

    def __init__(
        self, user: User, connection: Connection, transport: asyncio.Transport, reader: FrameReader, tick: Tick,
        loop: asyncio.AbstractEventLoop,
    ) -> None:  # fmt: skip
        self.user: User | None = user
        self.connection = connection
        self.transport = transport
        self.heard_at = self.resumed_at = monotonic()
        """When the last bytes came, and since when they are read."""
        self._asked_at = 0.0
        self._mark = token_hex(_MARK // 2).encode()
        self._reader = reader
        self._tick = tick
        self._loop = loop
        self._is_full = False
        self._is_paused = False
        self._rest = b""
        """What came while nothing was to be read."""
        transport.set_protocol(as_protocol(self))
        transport.set_write_buffer_limits(_WRITE_HIGH)

    # from the backend

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It was made for the handshake."""

    def data_received(self, data: bytes) -> None:
        if self._is_paused:
            self._rest += data
            return
        self.heard_at = monotonic()
        user = self.user
        if user is None:
            return
        for item in self._reader.feed(data):
            if type(item) is Run or type(item) is Message:
                user.said(item)
            elif type(item) is Pong:
                number = item.payload[_MARK:]
                if number.isdigit() and len(number) <= _LONGEST_NUMBER and item.payload.startswith(self._mark):
                    user.ponged(int(number))
            elif type(item) is Ping:
                if not self._is_full:  # else it is not for want of Pongs that it would go
                    self._tick.write(self.transport, frame(PONG, item.payload, is_client=True))
            elif type(item) is Closing:
                user.closed_by_backend(item)
            elif type(item) is Broken:
                user.broken(item)
            if self.user is None:
                return

    def pause_writing(self) -> None:
        self._is_full = True
        if self.user is not None:
            self.user.pause_writing()

    def resume_writing(self) -> None:
        self._is_full = False
        if self.user is not None:
            self.user.resume_writing()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        user, self.user = self.user, None
        self.connection.connection_lost(exc)  # which also forgets what was not written yet
        if user is not None:
            user.connection_lost(exc)

    # from its user

    @property
    def is_paused(self) -> bool:
        """Is nothing read, because nobody could have it?"""
        return self._is_paused

    def pause(self, rest: bytes = b"") -> None:
        """Read nothing. rest: what was read already. No clock runs meanwhile."""
        self._rest += rest
        if not self._is_paused:
            self._is_paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if not self._is_paused:
            return
        self._is_paused = False
        self.heard_at = self.resumed_at = monotonic()
        rest, self._rest = self._rest, b""
        if rest:
            self.data_received(rest)
        if self.user is not None and not self._is_paused:
            self.transport.resume_reading()

    def write(self, data: bytes) -> None:
        """Write whole frames at the end of this iteration."""
        self._tick.write(self.transport, data)

    def ping(self, number: int) -> bytes:
        """The frame of a Ping with this number."""
        return frame(PING, b"%b%d" % (self._mark, number), is_client=True)

    def ask(self) -> None:
        """Send a Ping of no number, once until something comes: nothing came for long."""
        if self._asked_at < self.heard_at:
            self._asked_at = monotonic()
            self.write(frame(PING, b"", is_client=True))

    # another worker

    @property
    def is_written(self) -> bool:
        """Has everything for the backend left this process?"""
        return self._tick.has_written(self.transport)

    @property
    def mark(self) -> bytes:
        """What is at the head of its Pings."""
        return self._mark

    @property
    def begun(self) -> Begun:
        """What was read of something that is not whole."""
        return self._reader.begun()

    @property
    def unread(self) -> bytes:
        """What came while nothing was to be read."""
        return self._rest

    def go_on(self, begun: Begun, mark: bytes, heard_at: float) -> None:
        """Another worker has read of it until then, and its Pings may come back; nothing is read before `resume`."""
        self._reader.go_on(begun)
        self._mark = mark
        self.heard_at = self.resumed_at = heard_at
        self._is_paused = True

    def depart(self) -> None:
        """Another worker has the connection. What is closed here is our descriptor alone."""
        self.user = None
        self.transport.abort()

    def say_goodbye(self, code: int) -> int:
        """Send a close frame; the code that it has."""
        code = NORMAL if code in (NO_CODE, NO_CLOSE) else code
        self.write(close_frame(code, is_client=True))
        return code

    def let_go(self) -> None:
        """Close it after what was written, soon by force: the backend may be one that reads no more."""
        self.user = None
        self._tick.end(self.transport, End.CLOSE)
        self._loop.call_later(CLOSE_WAIT, self.transport.abort)
