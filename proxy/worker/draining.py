"""Connections that end here, one after the other over the time of a drain: at once, all would come back at once.

HTTP: the next answer says that it is the last; who asks nothing is closed when it is its turn. WebSocket: 1012.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from random import random

from proxy.fanout.relay import Relay
from proxy.http.downstream import Client
from proxy.websocket.frames import SERVICE_RESTART
from proxy.websocket.session import Session

Ending = Client | Session | Relay


class Draining:
    """Of one worker. until: monotonic seconds, by when each has had its turn; counted: called with a counter's name."""

    def __init__(self, until: float, counted: Callable[[str], None]) -> None:
        self._until = until
        self._count = counted
        self._turns: list[tuple[float, int, Ending]] = []
        self._order = count()
        self._known: set[Ending] = set()

    def __contains__(self, connection: Ending) -> bool:
        return connection in self._known

    def add(self, connection: Ending, now: float) -> None:
        """This one ends here."""
        if connection in self._known:
            return
        self._known.add(connection)
        if isinstance(connection, Client):
            connection.last_call()
        at = now + random() * max(0.0, self._until - now)
        heappush(self._turns, (at, next(self._order), connection))

    def look(self, now: float) -> None:
        """End those whose turn it is."""
        while self._turns and self._turns[0][0] <= now:
            _, _, connection = heappop(self._turns)
            self._end(connection)

    def _end(self, connection: Ending) -> None:
        if isinstance(connection, Client):
            if connection.transport is not None:
                self._count("drained_http")
                connection.stop()
        elif isinstance(connection, Session):
            if not connection.is_over:
                self._count("drained_websocket")
                connection.close(SERVICE_RESTART, "the proxy restarts")
        else:
            self._count("drained_consumer")
            connection.close()
