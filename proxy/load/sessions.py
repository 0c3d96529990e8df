"""WebSocket sessions: messages out with a Ping behind each, and the Pong that says that they are safe.

    Lane --send--> Place --message, Ping n--> Session (one connection) ==> target
    Lane <--confirmed------- Pong n ---------

A session waits for nothing, so many lanes share one: each has a place in it for one message at a time. A lane's session
is its number modulo theirs; whichever lane comes first opens it, also anew when it was closed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol, cast

from proxy.http.response_head import parse_response_head
from proxy.load.generator import Lane
from proxy.load.requests import Messages
from proxy.load.target import Target
from proxy.load.wire import CLOSED, ENDED, GARBLED, REFUSED, RESET
from proxy.websocket.frames import (
    NO_CLOSE,
    NO_CODE,
    NORMAL,
    PING,
    PONG,
    TEXT,
    Broken,
    Closing,
    FrameReader,
    Ping,
    Pong,
    close_frame,
    frame,
)
from proxy.websocket.opening import Disagreed, backend_request, new_key, offered_in, read_backend_answer

PLACES: Final = 64
"""Messages of a session that may be on their way at a time; further ones wait."""
_MAX_HEAD: Final = 64 * 2**10
_MAX_MESSAGE: Final = 64 * 2**20
_MAX_FRAGMENTS: Final = 65_536


class HandshakeError(OSError):
    """The target opened no session. kind: of `proxy.load.wire.FAILURES`; status: of its answer, or 0."""

    def __init__(self, kind: str, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.kind = kind
        self.status = status


class Awaiting(Protocol):
    """Who sent a message, and waits for its Pong."""

    def confirmed(self) -> None:
        """Its Pong is here."""

    def broke(self, kind: str, *, is_untouched: bool) -> None:
        """It was not confirmed, and will not be: see `Lane.broke`."""


class Session(asyncio.Protocol):
    """One TCP or TLS connection. request: the handshake's head; closed: told when the target ends an open session.

    close_code: what the target closed it with, `NO_CLOSE` when it did so without a word; why: of
    `proxy.load.wire.FAILURES`, once it is over before we wanted.
    """

    def __init__(self, request: bytes, closed: Callable[[], None]) -> None:
        self._context = request
        self._key = new_key()
        self._closed = closed
        self._transport: asyncio.Transport | None = None
        self._reader: FrameReader | None = None
        self._head = b""
        self._number = 0
        self._awaited: deque[tuple[int, Awaiting]] = deque()
        self._lanes: list[Lane] = []
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_over = False
        self.close_code = NO_CLOSE
        self.why = ""

    @property
    def outstanding(self) -> int:
        """Messages that are not confirmed."""
        return len(self._awaited)

    def place(self, lane: Lane) -> Place:
        """A place for a lane's messages."""
        self._lanes.append(lane)
        return Place(self, lane)

    def send(self, sender: Awaiting, payload: bytes) -> None:
        """Send a message, and a Ping behind it."""
        if self.is_over or self._transport is None:
            sender.broke(CLOSED, is_untouched=False)
            return
        self._number += 1
        self._awaited.append((self._number, sender))
        ping = frame(PING, b"%d" % self._number, is_client=True)
        self._transport.write(frame(TEXT, payload, is_client=True) + ping)

    def close(self) -> None:
        """Close it in order, but without a word to its lanes."""
        if not self.is_over and self._reader is not None and self._transport is not None:
            self._transport.write(close_frame(NORMAL, is_client=True))
        self._leave()

    # as the transport's protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, for uvloop's transports do not derive from asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(backend_request(self._context, self._key))

    def data_received(self, data: bytes) -> None:
        if self.is_over:
            return
        if self._reader is None:
            self._read_head(self._head + data)
        else:
            self._read(self._reader, data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.is_over and self._reader is None:
            self._refuse(RESET if exc else ENDED, f"the connection was closed{f': {exc}' if exc else ''}")
        elif not self.is_over:
            self._end(CLOSED)

    def _read_head(self, data: bytes) -> None:
        stop = data.find(b"\r\n\r\n")
        if stop < 0:
            self._head = data
            if len(data) > _MAX_HEAD:
                self._refuse(GARBLED, "the answer to the handshake has no end")
            return
        raw = data[:stop]
        head = parse_response_head(raw)
        if head is None:
            self._refuse(GARBLED, "the answer to the handshake is no HTTP")
        elif head.status != 101:
            self._refuse(REFUSED, f"the handshake was answered with {head.status}", head.status)
        elif isinstance(agreed := read_backend_answer(raw, head, self._key, offered_in(self._context)), Disagreed):
            self._refuse(GARBLED, agreed.reason)
        else:
            self._reader = FrameReader(
                is_client=False, max_message=_MAX_MESSAGE, max_fragments=_MAX_FRAGMENTS, runs=True
            )
            self.opened.set_result(None)
            self._read(self._reader, data[stop + 4 :])

    def _read(self, reader: FrameReader, data: bytes) -> None:
        for item in reader.feed(data):
            if self.is_over:
                return
            if type(item) is Pong:
                self._confirm(item.payload)
            elif type(item) is Ping and self._transport is not None:
                self._transport.write(frame(PONG, item.payload, is_client=True))
            elif type(item) is Closing and self._transport is not None:
                code = NORMAL if item.code == NO_CODE else item.code
                self._transport.write(close_frame(code, is_client=True))
                self.close_code = item.code
                self._end(CLOSED)
            elif type(item) is Broken:
                self._end(GARBLED)

    def _confirm(self, payload: bytes) -> None:
        """The target has everything before this Ping."""
        number = int(payload) if payload.isdigit() and len(payload) <= 18 else 0
        awaited = self._awaited
        while awaited and awaited[0][0] <= number:
            awaited.popleft()[1].confirmed()

    def _refuse(self, kind: str, reason: str, status: int = 0) -> None:
        """There will be no session."""
        self._leave()
        if not self.opened.done():
            self.opened.set_exception(HandshakeError(kind, reason, status))

    def _end(self, kind: str) -> None:
        """It is over before we wanted: what was not confirmed has failed."""
        self.why = kind
        awaited, self._awaited = self._awaited, deque()
        self._leave()
        self._closed()
        for _, sender in awaited:
            sender.broke(kind, is_untouched=False)

    def _leave(self) -> None:
        """No lane sends here again."""
        self.is_over = True
        for lane in self._lanes:
            lane.leave()
        self._awaited, self._lanes = deque(), []
        if self._transport is not None:
            self._transport.close()


class Place:
    """A lane's place in a session."""

    __slots__ = ("_lane", "_session")

    def __init__(self, session: Session, lane: Lane) -> None:
        self._session = session
        self._lane = lane

    def send(self, request: bytes) -> None:
        """Send a message; the lane's last one was confirmed."""
        self._session.send(self._lane, request)

    def close(self) -> None:
        """Close the session: the others of it hear nothing any more either, and run into their own time."""
        self._session.close()


class Sessions:
    """So many sessions with a target. timeout: seconds for a handshake; closed: told when the target ends one."""

    def __init__(
        self, target: Target, messages: Messages, count: int, timeout: float, closed: Callable[[], None]
    ) -> None:
        self._target = target
        self._messages = messages
        self._count = count
        self._timeout = timeout
        self._closed = closed
        self._tasks: dict[int, asyncio.Task[Session]] = {}
        """The present session of each number, or the one that is being opened."""

    async def connect(self, lane: Lane) -> Place:
        """A place in the lane's session; raises OSError."""
        number = lane.index % self._count
        task = self._tasks.get(number)
        if task is None or (task.done() and (task.cancelled() or task.exception() or task.result().is_over)):
            task = self._tasks[number] = asyncio.create_task(self._open(number))
            task.add_done_callback(_has_ended)
        return (await asyncio.shield(task)).place(lane)

    async def _open(self, number: int) -> Session:
        target = self._target
        name = target.address.host if target.tls is not None else None
        async with asyncio.timeout(self._timeout):
            _, session = await asyncio.get_running_loop().create_connection(
                lambda: Session(self._messages.handshake(number), self._closed),
                *target.address,
                ssl=target.tls,
                server_hostname=name,
            )
            try:
                await session.opened
            except BaseException:
                session.close()
                raise
        return session


def _has_ended(task: asyncio.Task[Session]) -> None:
    """See the error of an opening for which nobody waits any more, lest asyncio complains."""
    if not task.cancelled():
        task.exception()
