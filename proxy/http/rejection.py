"""Clients that cannot be taken: told so in one answer, and closed in order, a few at a time.

    accept --> 503, Retry-After --> end our direction --> drop what comes --> the client closes, or a second is over

Closing at once would reset the connection when the client's request is on its way, and the answer with it. When there
is no descriptor left to accept with, one of a reserve is given up for it.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from proxy.http.answers import problem

SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""What a system call says when this process or machine has no more: nobody else is to blame for it."""
MOST: Final = 64
"""Connections that are being closed in order at a time."""
RESERVE: Final = 16
"""Descriptors."""
_LINGER: Final = 1.0
"""Seconds."""
_DROPPED: Final = 64 * 1024
"""Bytes that are dropped per wake-up, and sixteen times that in all."""
_ANSWER: Final = problem(503, "this instance takes no more connections at the moment", 1, close=True)


class Reserve:
    """Descriptors that are kept for when there are none."""

    def __init__(self, size: int = RESERVE) -> None:
        self._size = size
        self._held: list[int] = []
        self.refill()

    def give_up(self) -> bool:
        """Free one; false when there is none."""
        if not self._held:
            return False
        os.close(self._held.pop())
        return True

    def refill(self) -> None:
        """Take back what was given up, as far as there are any."""
        with suppress(OSError):
            while len(self._held) < self._size:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    def close(self) -> None:
        """Let go of all."""
        self._size = 0
        while self.give_up():
            pass


class Rejections:
    """One worker's. has_room: may one more client be taken beside so many that are coming?

    count: called with a counter's name for each that was not.

    most: of those that are closed in order at a time; reserve: descriptors.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        has_room: Callable[[int], bool] = lambda coming: True,
        count: Callable[[str], None] = lambda name: None,
        most: int = MOST,
        reserve: int = RESERVE,
    ) -> None:
        self.has_room = has_room
        self._loop = loop
        self._count = count
        self._most = most
        self._reserve = Reserve(reserve)
        self._closing: dict[socket.socket, tuple[asyncio.TimerHandle, list[int]]] = {}

    @property
    def is_full(self) -> bool:
        """No further client can be answered now."""
        return len(self._closing) >= self._most

    def accept(self, listening: socket.socket) -> socket.socket | None:
        """Accept with a descriptor of the reserve. Raises OSError as `accept` does; None when there is none left."""
        if not self._reserve.give_up():
            self._reserve.refill()
            if not self._reserve.give_up():
                return None
        try:
            return listening.accept()[0]
        except OSError:
            self._reserve.refill()
            raise

    def reject(self, connection: socket.socket, counter: str, *, is_tls: bool) -> None:
        """Answer and close in order; over TLS, which would need a handshake first, only close."""
        self._count(counter)
        if is_tls:
            connection.close()
            self._reserve.refill()
            return
        connection.setblocking(False)
        try:
            connection.send(_ANSWER)
            connection.shutdown(socket.SHUT_WR)
        except OSError:  # the client has left
            connection.close()
            self._reserve.refill()
            return
        timer = self._loop.call_later(_LINGER, self._close, connection)
        self._closing[connection] = (timer, [0])
        self._loop.add_reader(connection, self._drop, connection)

    def _drop(self, connection: socket.socket) -> None:
        dropped = self._closing[connection][1]
        try:
            data = connection.recv(_DROPPED)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        dropped[0] += len(data)
        if not data or dropped[0] > 16 * _DROPPED:
            self._close(connection)

    def _close(self, connection: socket.socket) -> None:
        timer, _ = self._closing.pop(connection)
        timer.cancel()
        self._loop.remove_reader(connection)
        connection.close()
        self._reserve.refill()

    def close(self) -> None:
        """Close them all now."""
        for connection in tuple(self._closing):
            self._close(connection)
        self._reserve.close()
