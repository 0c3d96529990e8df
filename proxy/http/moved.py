"""A client's HTTP connection on its way from one worker to another: between two requests, and without TLS.

    Client.freeze --> ClientState, descriptor --> another process --> Landing --> Client.expect, arrive

The bytes that were read and belong to no request yet travel with it; what was not read stays in the kernel's buffer,
which both processes have. What a successor cannot read it refuses, and the connection stays where it was.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from time import monotonic
from typing import Annotated, Final, cast

import msgspec

from proxy.core.contribution import PER_SECOND, SAVED, Contribution
from proxy.core.event import NEW, OLD
from proxy.http.downstream import Client
from proxy.http.route import EventRoute
from proxy.http.service import Service
from proxy.ledger.shape import as_protocol

KIND: Final = "http"
Seconds = Annotated[float, msgspec.Meta(ge=0)]
Rooms = dict[str, tuple[Seconds, Seconds]]
"""By the name of a route, then by side: how many outcomes a connection may still contribute to its test of failures."""


class ClientState(msgspec.Struct, forbid_unknown_fields=True):
    """unserved: what was read; silent: seconds since it was heard of."""

    unserved: bytes
    silent: Seconds
    rooms: Rooms = {}


encode = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(ClientState).decode


def room_of(contribution: Contribution, now: float) -> float:
    """How many outcomes may count as of now; those since the last report are still settled where they were."""
    return max(0.0, min(SAVED, contribution.room + PER_SECOND * (now - contribution.at)) - contribution.total)


def give_room(contributions: Sequence[Contribution], rooms: Sequence[float], now: float) -> None:
    """The reverse."""
    for contribution, room in zip(contributions, rooms, strict=True):
        contribution.room, contribution.at = room, now


def descriptor_of(transport: asyncio.Transport) -> int:
    """The descriptor of a connection, which stays the transport's."""
    return int(transport.get_extra_info("socket").fileno())


class MovingClient:
    """A client that may go to another worker."""

    kind: Final = KIND

    def __init__(self, client: Client, routes: Sequence[EventRoute]) -> None:
        self.connection = client
        self._routes = routes

    def freeze(self) -> tuple[bytes, list[int]]:
        """Stop it; its state, and its descriptors."""
        self.connection.freeze()
        return self.state()

    def state(self) -> tuple[bytes, list[int]]:
        """The same of one that is frozen."""
        client, now = self.connection, monotonic()
        rooms: Rooms = {}
        for route in self._routes:
            if (found := client.contributions.get(route.index)) is not None:
                rooms[route.name] = (room_of(found[OLD], now), room_of(found[NEW], now))
        state = ClientState(client.unserved, max(0.0, now - client.since), rooms)
        transport = client.transport
        assert transport is not None
        return encode(state), [descriptor_of(transport)]

    @property
    def is_there(self) -> bool:
        """Is it as it was when it was frozen?"""
        return self.connection.transport is not None

    def thaw(self) -> None:
        """It stays."""
        self.connection.thaw()

    def depart(self, _: int) -> None:
        """Another worker has it."""
        if self.is_there:
            self.connection.hand_over().abort()  # which closes our descriptor, and tells the other end nothing


class Landing(asyncio.Protocol):
    """A connection that has arrived and is not to be read yet. But uvloop reads at once: what comes so is kept."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.came = b""
        self.is_ended = False
        """The other end has said all that it will."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is ours."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Keep it, and leave the rest where it is: above all an end, behind which nothing is heard."""
        self.came += data
        self.pause()

    def eof_received(self) -> bool:
        """Who goes on with it hears of that when everything is here."""
        self.is_ended = True
        return True

    def pause(self) -> None:
        """Read no more."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def finish(self) -> None:
        """Somebody goes on with it: what has ended already ends for that one."""
        if self.is_ended and self.transport is not None:
            self.transport.close()  # nothing, if it is closed already

    @property
    def is_here(self) -> bool:
        """Can somebody go on with it?"""
        return self.transport is not None and not self.transport.is_closing()

    def abort(self) -> None:
        """Close it."""
        if self.transport is not None:
            self.transport.abort()


async def land(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> Landing:
    """Make a connection of a descriptor, of whichever family."""
    landing = Landing()
    connection.setblocking(False)
    try:
        await loop.connect_accepted_socket(lambda: landing, connection)
    except OSError:
        connection.close()
    landing.pause()
    return landing


class ClientAdopter:
    """Takes clients of other workers. Its state is the kind's; see `proxy.worker.adopting`."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def read(self, state: bytes, sockets: Sequence[socket.socket]) -> ClientState:
        """What came with a connection. Raises ValueError for what cannot be gone on with."""
        if len(sockets) != 1:
            raise ValueError("a client has one connection")
        return _decode(state)

    async def adopt(self, state: ClientState, sockets: Sequence[socket.socket], _: object) -> None:
        """Go on with it."""
        service, now = self._service, monotonic()
        client = Client(service)
        client.expect(state.unserved, now - state.silent)
        for route in service.plane.routes:
            if route.name in state.rooms:
                give_room(client.contributions_to(route.index), state.rooms[route.name], now)
        [connection] = sockets
        connection.setblocking(False)
        try:
            await service.loop.connect_accepted_socket(lambda: as_protocol(client), connection)
        except OSError:
            connection.close()  # it was reset on the way
            return
        client.arrive()
        if service.is_stopping:  # it came too late to hear of that
            client.last_call()
            client.stop()
