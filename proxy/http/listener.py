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
from collections.abc import Callable
from typing import Final

log = logging.getLogger(__name__)

_PAUSE: Final = 0.1
"""Seconds without accepting when there are no descriptors left."""


class Listener:
    """Accepts for one worker. make: the protocol of a new connection; refused: called when none can be taken."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listening: socket.socket,
        make: Callable[[], asyncio.Protocol],
        refused: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._socket = listening
        self._make = make
        self._refused = refused
        self._opening: set[asyncio.Task[object]] = set()
        self._resume: asyncio.TimerHandle | None = None
        listening.setblocking(False)

    def start(self) -> None:
        """Begin to accept."""
        self._resume = None
        self._loop.add_reader(self._socket, self._accept)

    def _accept(self) -> None:
        try:
            connection, _ = self._socket.accept()
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
        task = self._loop.create_task(self._loop.connect_accepted_socket(self._make, connection))
        self._opening.add(task)
        task.add_done_callback(self._opened)

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
