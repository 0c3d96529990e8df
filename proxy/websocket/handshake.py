"""One try to open a session with a backend.

Handshake.begin --GET, Upgrade--> backend --101, checked--> opener.agreed(connection ...)
                                          --anything else--> opener.not_agreed(its answer, or why there is none)
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol

from proxy.http.leg import Leg
from proxy.http.response_head import ResponseHead
from proxy.http.upstream import Upstream
from proxy.websocket.opening import Agreed, backend_request, new_key, read_backend_answer

if TYPE_CHECKING:
    from proxy.http.connection import Connection

_ENDLESS: Final = "its answer to the handshake has no end"


class Opener(Protocol):
    """Who wants a session. Told once how the try ended, and not at all when it was given up."""

    def agreed(self, connection: Connection, transport: asyncio.Transport, agreed: Agreed, rest: bytes) -> None:
        """The backend speaks WebSocket. rest: what came behind its 101."""

    def not_agreed(self, leg: Leg, reason: str) -> None:
        """It does not. leg: with its answer, if there is one; reason: what is wrong with that, empty when all is."""


class Handshake:
    """offered: the subprotocols that the backend may choose from."""

    __slots__ = ("_key", "_leg", "_offered", "_opener", "_upstream", "began_at")

    def __init__(self, opener: Opener, upstream: Upstream, offered: tuple[str, ...]) -> None:
        self._opener = opener
        self._upstream = upstream
        self._offered = offered
        self._key = new_key()
        self._leg: Leg | None = None
        self.began_at = 0.0

    def begin(self, side: int, context: bytes) -> None:
        """Send it; it may have failed when this returns. context: request line and headers, as of an `Opening`."""
        upstream = self._upstream
        if upstream.rewrite is not None:
            context = upstream.rewrite.apply(context)
        leg = Leg(self, upstream, side, 0, b"GET", backend_request(context, self._key), False)
        leg.upgrade = self
        self._leg = leg
        self.began_at = monotonic()
        upstream.send(leg)

    def give_up(self) -> None:
        """Nobody waits for it any more."""
        leg, self._leg = self._leg, None
        if leg is not None:
            leg.abandon()

    def check_time(self, now: float) -> None:
        """An answer must end, too: twice the time of one is enough for what is no 101."""
        if now - self.began_at > 2 * self._upstream.settings.response_timeout:
            self._break_off()

    def _break_off(self) -> None:
        leg = self._leg
        if leg is not None:
            self.give_up()
            self._disagree(leg, _ENDLESS)

    def _disagree(self, leg: Leg, reason: str) -> None:
        """What it answered is not an answer to anybody."""
        leg.head, leg.status = None, 0
        self._opener.not_agreed(leg, reason)

    # as the leg's owner

    def leg_interim(self, leg: Leg, head: ResponseHead) -> None:
        """An answer before the answer: nobody waits for it."""

    def leg_started(self, leg: Leg) -> None:
        """A long answer that is no 101: it is kept whole, for who wants it."""

    def leg_data(self, leg: Leg, data: bytes) -> None:
        """A piece of it; of an answer that is too long it counts that there was none."""
        leg.keep(data)
        if leg.is_paused:
            self._break_off()

    def leg_done(self, leg: Leg) -> None:
        """No session: the backend said something else, or nothing."""
        if leg is self._leg:
            self._leg = None
            self._opener.not_agreed(leg, "")

    # as who takes the connection over

    def switched(self, connection: Connection, raw: bytes, head: ResponseHead, rest: bytes) -> None:
        """The backend says that it speaks WebSocket; believed once that was checked."""
        leg, self._leg = self._leg, None
        transport = connection.transport
        if leg is None or transport is None:
            connection.abort()
            return
        agreed = read_backend_answer(raw, head, self._key, self._offered)
        if isinstance(agreed, Agreed):
            self._opener.agreed(connection, transport, agreed, rest)
        else:
            connection.abort()
            self._disagree(leg, agreed.reason)
