"""A consumer's connection in a worker: its bytes go to the ledger's process, which speaks with it, and back.

    consumer ══ Client --hand_over--> Relay ══ fanout.sock ══ FanOut

The worker checks the handshake and has TLS, names and limits; from then on it only passes bytes on. Each end is read as
far as the other one takes them, so a slow consumer holds no memory here. One that takes nothing at all holds no
connection either: what the other end has to say, a close too, is behind what is not taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final, cast

from proxy.fanout.commands import ROUTE_HEADER
from proxy.http.budget import CONNECTION
from proxy.http.head import Refusal, RequestHead
from proxy.http.route import EventRoute
from proxy.net.kernel import unacknowledged
from proxy.websocket.opening import Opening, backend_request
from proxy.websocket.service import opening_of, refuse

if TYPE_CHECKING:
    from proxy.http.downstream import Client
    from proxy.http.service import Service

_WRITE_HIGH: Final = 256 * 1024
"""Bytes that one end may leave untaken before nothing is read of the other."""
_MORE_PATIENCE: Final = 1.0
"""Seconds beyond the time for an answer: the ledger's process, which knows more, comes first."""
_LOOK_EVERY: Final = 0.25
"""Seconds between two looks at whether an end takes something."""
_LINGER: Final = 2.0
"""Seconds for what was written when the relay ends."""


class Consumers:
    """The data plane's part of all fanout routes. path: where the ledger takes connections."""

    def __init__(self, service: Service, path: Path) -> None:
        self.http = service
        self.path = path
        self.open: set[Relay] = set()

    def begin(self, client: Client, route: EventRoute, head: RequestHead, params: Mapping[str, str]) -> Relay | None:
        """Begin with a handshake; None when it was refused at once."""
        opening = opening_of(self.http, client, head)
        if isinstance(opening, Refusal):
            refuse(self.http.plane, client, opening)
            return None
        relay = Relay(self, route)
        relay.connect(client, opening)
        return relay

    def stop(self) -> None:
        """Close every connection."""
        for relay in tuple(self.open):
            relay.close()


class Relay:
    """One consumer's connection, and ours to the ledger."""

    def __init__(self, consumers: Consumers, route: EventRoute) -> None:
        self.route = route.name
        self.patience = max(side.settings.response_timeout for side in route.sides) + _MORE_PATIENCE
        """Seconds in which an end must take something."""
        self._consumers = consumers
        self._client: Client | None = None
        self._request = b""
        self._ends: tuple[_End, ...] = ()
        self._connecting: asyncio.Task[None] | None = None
        self.is_frozen = False
        """It is left alone, because another worker may have it soon, or has it."""
        consumers.open.add(self)

    def connect(self, client: Client, opening: Opening) -> None:
        """Begin with a handshake that is a consumer's."""
        self._client = client
        context = opening.context + f"{ROUTE_HEADER}: {self.route}\r\n".encode()
        self._request = backend_request(context, opening.key)
        self._connecting = self._consumers.http.loop.create_task(self._connect())

    async def _connect(self) -> None:
        inner = _End(self)
        try:
            await self._consumers.http.loop.create_unix_connection(lambda: inner, str(self._consumers.path))
        except OSError:
            self._consumers.http.plane.count("refused_ledger_away")
            self._refuse(Refusal(503, "the ledger is not available"))
            return
        client = self._client
        if client is None or inner.transport is None:
            inner.close()
            self._refuse(Refusal(503, "the ledger is not available"))
        elif client.has_more:
            inner.close()
            self._refuse(Refusal(400, "bytes behind a WebSocket handshake, before its answer"))
        else:
            self._begin(inner, client)

    def _begin(self, inner: _End, client: Client) -> None:
        self._client = None
        outer = _End(self)
        transport = client.hand_over()
        transport.set_protocol(outer)
        outer.connection_made(transport)
        self._join(outer, inner)
        self._consumers.http.plane.count("consumer_connections")
        inner.write(self._request)

    def _join(self, outer: _End, inner: _End) -> None:
        self._ends = (outer, inner)
        outer.other, inner.other = inner, outer
        self._consumers.http.others += 1
        self._consumers.http.budget.connected(2 * CONNECTION)

    def _refuse(self, refusal: Refusal) -> None:
        client, self._client = self._client, None
        self._consumers.open.discard(self)
        if client is not None:
            client.let_go_of(self)
            refuse(self._consumers.http.plane, client, refusal)

    def client_gone(self) -> None:
        """The consumer left before the ledger was there."""
        self._client = None
        self._cancel()
        self._consumers.open.discard(self)

    def _cancel(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()

    # another worker

    @property
    def is_plain(self) -> bool:
        """Does its consumer speak no TLS, as far as it is there? Keys cannot be moved."""
        return not any(transport.get_extra_info("sslcontext") is not None for transport in self.transports)

    @property
    def transports(self) -> list[asyncio.Transport]:
        """The consumer's connection and ours, once both are there and as long as they are."""
        return [end.transport for end in self._ends if end.transport is not None]

    @property
    def is_open(self) -> bool:
        """Does it pass on what either end sends?"""
        return self in self._consumers.open

    @property
    def is_still(self) -> bool:
        """Has everything left this process that was read of either end?"""
        transports = self.transports
        if len(transports) < 2 or not self.is_open:
            return False
        return not any(each.is_closing() or each.get_write_buffer_size() for each in transports)

    def freeze(self) -> None:
        """Read nothing until `thaw`."""
        self.is_frozen = True
        for transport in self.transports:
            transport.pause_reading()

    def thaw(self) -> None:
        """It stays: go on."""
        self.is_frozen = False
        for transport in self.transports:
            transport.resume_reading()

    def depart(self) -> None:
        """Another worker has both connections: close our descriptors, and tell nobody."""
        self._let_go()
        self._abort()

    def arrive(self, outer: asyncio.Transport, inner: asyncio.Transport, said: tuple[bytes, bytes]) -> None:
        """Go on with the connections of another worker. said: what was read of each meanwhile."""
        ends = (_End(self), _End(self))
        for end, transport in zip(ends, (outer, inner), strict=True):
            transport.set_protocol(end)
            end.connection_made(transport)
        self._join(*ends)
        for end, data in zip(ends, said, strict=True):
            if data:
                end.data_received(data)
        for transport in (outer, inner):
            transport.resume_reading()

    def ended(self) -> None:
        """One end is gone, or as good as that: what it has sent still goes to the other one, if that takes it."""
        if not self.is_open or not self._ends:
            return
        self._let_go()
        for end in self._ends:
            end.close()
        self._consumers.http.loop.call_later(_LINGER, self._abort)

    def _let_go(self) -> None:
        self._consumers.open.discard(self)
        self._consumers.http.others -= 1
        self._consumers.http.budget.connected(-2 * CONNECTION)

    def _abort(self) -> None:
        for end in self._ends:
            end.abort()

    def stalled(self) -> None:
        """One end takes nothing."""
        self._consumers.http.plane.count("consumer_stalls")
        self.ended()

    def close(self) -> None:
        """The worker stops."""
        if self._client is not None:
            self._cancel()
            self._refuse(Refusal(503, "the proxy stops"))
        self.ended()


class _End(asyncio.Protocol):
    """One of the two connections."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self.other: _End | None = None
        self.transport: asyncio.Transport | None = None
        self._untaken = 0
        self._taken_at = 0.0
        """When `_untaken` was last another number, monotonic seconds."""
        self._looking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(_WRITE_HIGH)

    def write(self, data: bytes) -> None:
        """Bytes for who is at this end."""
        if self.transport is not None:
            self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        """Bytes of who is at this end."""
        if self.other is not None:
            self.other.write(data)

    def pause_writing(self) -> None:
        """Nothing more of the other one until these are taken."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()
        self._taken_at = monotonic()
        self._look()

    def resume_writing(self) -> None:
        """They are."""
        self._look_no_more()
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self.transport = None
        self._look_no_more()
        self._relay.ended()

    def _look(self) -> None:
        """Does it take something? A slow one empties the kernel's buffer for a while before it gets to ours."""
        assert self.transport is not None
        now, untaken = monotonic(), self.transport.get_write_buffer_size() + unacknowledged(self.transport)
        if untaken != self._untaken:
            self._untaken, self._taken_at = untaken, now
        if now - self._taken_at > self._relay.patience:
            self._relay.stalled()
        else:
            self._looking = asyncio.get_running_loop().call_later(_LOOK_EVERY, self._look)

    def _look_no_more(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def close(self) -> None:
        """After what was written."""
        self._look_no_more()
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """At once."""
        if self.transport is not None:
            self.transport.abort()
