"""Who is let in: a connection that gives the access token of one of its route's consumers, in time.

Until then it has a place among those that wait. There are so many for all of them, apart from the places of consumers,
and where all are taken the one that has waited longest is cut: who connects and says nothing keeps nobody out.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections import Counter
from collections.abc import Callable
from time import monotonic
from typing import Final

from websockets.asyncio.server import ServerConnection

from config.fanout import Consumer
from proxy.control.credentials import credential
from proxy.fanout.commands import AUTH_INVALID, auth_required, read_token
from proxy.fanout.feed import Feed

log = logging.getLogger(__name__)

AUTH_WAIT: Final = 10.0
"""Seconds in which a consumer must say who it is."""
MOST_WAITING: Final = 256
"""Connections at a time that are not let in yet."""
_CREDENTIAL_WAIT: Final = 5.0
_TELL_EVERY: Final = 60.0
"""Seconds between two lines in the log about a route's wrong tokens: anybody can give one."""
_POLICY: Final = 1008


class Admission:
    """The connections of all routes that are not let in yet. count: so many more of something."""

    def __init__(self, count: Callable[[str, int], None]) -> None:
        self._count = count
        self._waiting: dict[ServerConnection, None] = {}
        """In the order in which they came."""
        self._told_at: dict[str, float] = {}
        self._untold: Counter[str] = Counter()

    async def feed_of(self, socket: ServerConnection, version: str, feeds: tuple[Feed, Feed]) -> Feed | None:
        """Which one's consumer has connected; None when nobody is known by its token: the connection is closed.

        version: of Home Assistant. Raises ConnectionClosed.
        """
        if len(self._waiting) >= MOST_WAITING:
            self._cut_oldest()
        self._waiting[socket] = None
        try:
            return await self._ask(socket, version, feeds)
        finally:
            self._waiting.pop(socket, None)

    def _cut_oldest(self) -> None:
        oldest = next(iter(self._waiting))
        del self._waiting[oldest]
        self._count("turned_away", 1)
        oldest.transport.abort()

    async def _ask(self, socket: ServerConnection, version: str, feeds: tuple[Feed, Feed]) -> Feed | None:
        await socket.send(auth_required(version), text=True)
        try:
            async with asyncio.timeout(AUTH_WAIT):
                token = read_token(await socket.recv())
        except TimeoutError:
            await socket.close(_POLICY, "no access token in time")
            return None
        feed = await _known_by(token, feeds) if token is not None else None
        if feed is None:
            self._deny(feeds[0].route)
            await socket.send(AUTH_INVALID, text=True)
            await socket.close(_POLICY, "not let in")
        return feed

    def _deny(self, route: str) -> None:
        """Count it, and say so now and then."""
        self._count("denied", 1)
        self._untold[route] += 1
        now = monotonic()
        if now - self._told_at.get(route, -_TELL_EVERY) >= _TELL_EVERY:
            extra = {"route": route, "count": self._untold.pop(route)}
            log.warning("a consumer was not let in: nobody has its access token", extra=extra)
            self._told_at[route] = now


async def _known_by(token: str, feeds: tuple[Feed, Feed]) -> Feed | None:
    """Whose token this is; None when it is nobody's, or both's."""
    found = [feed for feed in feeds if hmac.compare_digest((await _token_of(feed.settings)).encode(), token.encode())]
    if len(found) > 1:
        log.error("consumers %s and %s have the same token: neither is let in", *(feed.name for feed in found))
    return found[0] if len(found) == 1 else None


async def _token_of(settings: Consumer) -> str:
    """Read anew each time, as its file may have another; empty, which is nobody's, when it cannot be read."""
    path = settings.token_file
    if path is None:
        return settings.token or ""
    try:
        async with asyncio.timeout(_CREDENTIAL_WAIT):
            return await credential(path)
    except (TimeoutError, OSError, ValueError) as error:
        log.error("the access token in %s cannot be read: %s", path, getattr(error, "strerror", None) or "no text")
        return ""
