"""A listening socket that several workers share: each takes one connection per wake-up, and more while they queue.

libuv's own server accepts until the queue is empty, so a burst of connections goes to whichever worker
woke first: 64 of 64 keep-alive connections of a load generator stayed on one of two workers. Taking one
and going back to the loop lets the others have theirs, and a busy worker takes fewer. While one wake-up follows
the other, and each finds as many as it takes, it is twice as many each time, up to `_MOST`: when a worker dies, all
of its clients come to the others at once, and one per turn of a busy loop let the last wait for most of a second.

A worker that can take no client, because it has as many as it may, its memory budget is used up or it has no
descriptor, leaves the queue to the others for a moment. Who is still there then gets a 503 (`proxy.http.rejection`).
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

from proxy.http.rejection import SHORTAGES, Rejections
from proxy.net.live_context import LiveContext, reason

log = logging.getLogger(__name__)

_GIVE_WAY: Final = 0.02
"""Seconds that clients are left to other workers before they are rejected, and from one round of that to the next."""
_MOST: Final = 8
"""Clients that are taken per wake-up at most: what they send first is work for the next turn of the loop."""
_MOST_TLS: Final = 2
"""The same over TLS, where the first that they send takes about a millisecond each."""
_REST: Final = 0.05
"""Seconds without a wake-up that found as many as it took, after which it is one client again."""
_AT_A_TIME: Final = 16
"""Clients that are rejected in a row."""
_TELL_EVERY: Final = 10.0
"""Seconds between two lines in the log about failed handshakes, or accepts: anybody can make them fail."""


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
    """Accepts for one worker. make: the protocol of a new connection; refused: called when accepting fails."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listening: socket.socket,
        make: Callable[[], asyncio.Protocol],
        refused: Callable[[], None],
        tls: Handshakes | None = None,
        rejections: Rejections | None = None,
    ) -> None:
        self._rejections = rejections or Rejections(loop, reserve=0)
        self._is_short = False
        self._told_at = -_TELL_EVERY
        self._loop = loop
        self._socket = listening
        self._make = make
        self._refused = refused
        self._tls = tls
        self._opening: set[asyncio.Task[object]] = set()
        self._resume: asyncio.TimerHandle | None = None
        self._most = _MOST if tls is None else _MOST_TLS
        self._share = 1
        """Clients to be taken at the next wake-up, if that follows soon."""
        self._filled_at = -_REST
        """When one last found as many as it took."""
        listening.setblocking(False)

    def start(self) -> None:
        """Begin to accept."""
        self._resume = None
        self._loop.add_reader(self._socket, self._accept)

    def _accept(self) -> None:
        if self._loop.time() - self._filled_at > _REST:
            self._share = 1
        for _ in range(self._share):
            if not self._has_room():
                self._give_way()
                return
            try:
                connection, peer = self._socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                self._share = 1
                return  # another worker was faster, or the client left again
            except OSError as error:
                if error.errno == errno.EINVAL:  # the launcher, which stops, has shut the socket: nothing more comes
                    self._loop.remove_reader(self._socket)
                    return
                self._failed(error)
                return
            self._take(connection, peer)
        self._share = min(2 * self._share, self._most)
        self._filled_at = self._loop.time()

    def _has_room(self) -> bool:
        """May one more client be taken? Over TLS those that are coming have a limit of their own."""
        return self._rejections.has_room(len(self._opening) if self._tls is None else 0)

    def _failed(self, error: OSError) -> None:
        """Accepting failed: probably there are no descriptors left."""
        now = monotonic()
        if now - self._told_at >= _TELL_EVERY:
            log.error("cannot accept: %s", error.strerror or error)
            self._told_at = now
        self._refused()
        self._is_short = error.errno in SHORTAGES
        self._give_way()

    def _give_way(self) -> None:
        """Leave what waits to the other workers for a moment."""
        self._loop.remove_reader(self._socket)
        self._resume = self._loop.call_later(_GIVE_WAY, self._reject_some)

    def _reject_some(self) -> None:
        """Nobody else could take who is still waiting."""
        try:
            for _ in range(_AT_A_TIME):
                if self._rejections.is_full or not (self._accept_short() if self._is_short else self._reject_one()):
                    break
        except (BlockingIOError, ConnectionAbortedError):
            self.start()  # nobody waits any more
        except OSError as error:
            if error.errno == errno.EINVAL:
                return  # shut, see `_accept`
            self._failed(error)
        else:
            self._give_way()

    def _reject_one(self) -> bool:
        """Reject a client, unless there is room for it again."""
        if self._has_room():
            connection, peer = self._socket.accept()
            self._take(connection, peer)
        else:
            connection, _ = self._socket.accept()
            self._rejections.reject(connection, "refused_connections", is_tls=self._tls is not None)
        return True

    def _accept_short(self) -> bool:
        """Are there descriptors again? Else reject a client with one of the reserve; false when that is used up."""
        try:
            self._reject_one()
        except OSError as error:
            if error.errno not in SHORTAGES:
                raise
        else:
            self._is_short = False
            return True
        connection = self._rejections.accept(self._socket)
        if connection is None:
            return False
        self._rejections.reject(connection, "refused_descriptors", is_tls=self._tls is not None)
        return True

    def _take(self, connection: socket.socket, peer: object) -> None:
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

    @property
    def is_opening(self) -> bool:
        """Are there clients that were accepted, and whose connection is not made yet?"""
        return bool(self._opening)

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
