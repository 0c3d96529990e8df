"""A listening socket that several workers share: each takes one connection per wake-up.

libuv's own server accepts until the queue is empty, so a burst of connections goes to whichever worker
woke first: 64 of 64 keep-alive connections of a load generator stayed on one of two workers. Taking one
and going back to the loop lets the others have theirs, and a busy worker takes fewer.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any, Final

from proxy.net.live_context import LiveContext, reason

log = logging.getLogger(__name__)

_PAUSE: Final = 0.1
"""Seconds without accepting when there are no descriptors left."""
_TELL_EVERY: Final = 10.0
"""Seconds between two lines in the log about failed handshakes: anybody can make them fail."""


class Handshakes:
    """How a listener speaks TLS. timeout: seconds for a handshake; linger: seconds that an end may take.

    most: handshakes at a time; further clients are cut. failed: called with the reason of each failure.
    """

    def __init__(
        self, live: LiveContext, *, timeout: float, linger: float, most: int, failed: Callable[[str], None]
    ) -> None:
        self.live = live
        self.timeout = timeout
        self.linger = linger
        self.most = most
        self._failed = failed
        self._told_at = -_TELL_EVERY
        self._untold = 0

    def failed(self, error: BaseException, peer: object) -> None:
        """Count a failed handshake, and say so now and then."""
        why = reason(error)
        self._failed(why)
        self._untold += 1
        now = monotonic()
        if now - self._told_at >= _TELL_EVERY:
            log.warning("TLS handshakes failed", extra={"count": self._untold, "last": why, "peer": str(peer)})
            self._told_at, self._untold = now, 0


class Listener:
    """Accepts for one worker. make: the protocol of a new connection; refused: called when none can be taken."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listening: socket.socket,
        make: Callable[[], asyncio.Protocol],
        refused: Callable[[], None],
        tls: Handshakes | None = None,
    ) -> None:
        self._loop = loop
        self._socket = listening
        self._make = make
        self._refused = refused
        self._tls = tls
        self._opening: set[asyncio.Task[object]] = set()
        self._resume: asyncio.TimerHandle | None = None
        listening.setblocking(False)

    def start(self) -> None:
        """Begin to accept."""
        self._resume = None
        self._loop.add_reader(self._socket, self._accept)

    def _accept(self) -> None:
        try:
            connection, peer = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # another worker was faster, or the client left again
        except OSError as error:
            if error.errno == errno.EINVAL:  # the launcher, which stops, has shut the socket: nothing more comes
                self._loop.remove_reader(self._socket)
                return
            log.error("cannot accept: %s", error.strerror or error)
            self._refused()
            self._loop.remove_reader(self._socket)
            self._resume = self._loop.call_later(_PAUSE, self.start)
            return
        connection.setblocking(False)
        if self._tls is None:
            opening: Coroutine[Any, Any, object] = self._loop.connect_accepted_socket(self._make, connection)
        elif len(self._opening) < self._tls.most:
            opening = self._shake_hands(self._tls, connection, peer)
        else:
            self._tls.failed(ConnectionAbortedError("too many handshakes at a time"), peer)
            connection.close()
            return
        task = self._loop.create_task(opening)
        self._opening.add(task)
        task.add_done_callback(self._opened)

    async def _shake_hands(self, tls: Handshakes, connection: socket.socket, peer: object) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._make,
                connection,
                ssl=tls.live.context,
                ssl_handshake_timeout=tls.timeout,
                ssl_shutdown_timeout=tls.linger,
            )
        except (OSError, ssl.SSLError) as error:
            tls.failed(error, peer)

    def _opened(self, task: asyncio.Task[object]) -> None:
        self._opening.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.warning("a connection was lost while it was taken: %s", task.exception())

    def close(self) -> None:
        """Stop accepting. What waits in the queue is for the other workers, if they share the socket."""
        if self._resume is not None:
            self._resume.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def abandon(self) -> None:
        """Cut those whose handshake is not over: nobody would answer them."""
        for task in tuple(self._opening):
            task.cancel()
