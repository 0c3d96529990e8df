"""A consumer's connection on its way from one worker to another: both of its ends, and nothing else.

The worker only passes bytes on, so there is no state but what is in the kernel's buffers; the ledger, which speaks with
the consumer, does not notice.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Final

import msgspec

from proxy.fanout.relay import Consumers, Relay
from proxy.http.moved import descriptor_of, encode, land
from proxy.http.route import EventRoute

KIND: Final = "consumer"


class RelayState(msgspec.Struct, forbid_unknown_fields=True):
    """route: to which the consumer belongs."""

    route: str


_decode: Final = msgspec.msgpack.Decoder(RelayState).decode


class MovingRelay:
    """A relay that may go to another worker."""

    kind: Final = KIND

    def __init__(self, relay: Relay) -> None:
        self.connection = relay

    def freeze(self) -> tuple[bytes, list[int]]:
        """Stop it; its state, and its descriptors: the consumer's, then that to the ledger."""
        self.connection.freeze()
        return encode(RelayState(self.connection.route)), [descriptor_of(each) for each in self.connection.transports]

    @property
    def is_there(self) -> bool:
        """Is it as it was when it was frozen?"""
        return self.connection.is_still

    def thaw(self) -> None:
        """It stays."""
        self.connection.thaw()

    def depart(self, _: int) -> None:
        """Another worker has it."""
        if self.connection.is_open:
            self.connection.depart()


class RelayAdopter:
    """Takes relays of other workers."""

    def __init__(self, consumers: Consumers) -> None:
        self._consumers = consumers

    def read(self, state: bytes, sockets: Sequence[socket.socket]) -> EventRoute:
        """Its route. Raises ValueError for what cannot be gone on with."""
        if len(sockets) != 2:
            raise ValueError("a consumer has one connection, and one to the ledger")
        name = _decode(state).route
        for route in self._consumers.http.plane.routes:
            if route.name == name and route.is_fanout:
                return route
        raise ValueError(f"there is no route {name} of consumers here")

    async def adopt(self, route: EventRoute, sockets: Sequence[socket.socket], _: object) -> None:
        """Go on with it."""
        loop = self._consumers.http.loop
        outer, inner = await asyncio.gather(*[land(loop, each) for each in sockets])
        if outer.transport is None or inner.transport is None or not (outer.is_here and inner.is_here):
            outer.abort()
            inner.abort()
            return
        relay = Relay(self._consumers, route)
        relay.arrive(outer.transport, inner.transport, (outer.came, inner.came))
        outer.finish()
        inner.finish()
        if self._consumers.http.is_stopping:
            relay.close()
