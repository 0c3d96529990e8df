"""A session on its way from one worker to another, with its connections to client and backends.

    Session.freeze --> SessionState, descriptors --> another process --> Landings --> Sessions.restore, arrive

It moves when everything that it was sent has its receipt and its client was told so; in the middle of a frame or of a
message, as it comes. Until then its worker alone may speak for its messages, and of those that a backend could still
lose afterwards, too (`proxy.websocket.kept`).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Annotated, Final, Literal

import msgspec

from proxy.core.event import NEW, OLD
from proxy.http.connection import Connection
from proxy.http.head import RequestHead
from proxy.http.moved import Landing, Seconds, descriptor_of, encode, give_room, land, room_of
from proxy.http.route import EventRoute
from proxy.http.tracing import Trace
from proxy.http.upstream import Upstream
from proxy.websocket.frames import GOING_AWAY, Begun
from proxy.websocket.kept import Kept
from proxy.websocket.opening import Opening
from proxy.websocket.service import Sessions
from proxy.websocket.session import Session
from proxy.websocket.upstream import Elsewhere, Link
from proxy.websocket.wire import Wire

KIND: Final = "websocket"
Side = Literal[0, 1]
Count = Annotated[int, msgspec.Meta(ge=0)]


class HeadState(msgspec.Struct, forbid_unknown_fields=True):
    """A handshake's head, as far as a session asks for it."""

    method: bytes
    target: bytes
    path: bytes
    query: bytes
    host: bytes
    lines: bytes
    names: frozenset[bytes]
    wanted: dict[bytes, bytes]


class BegunState(msgspec.Struct, forbid_unknown_fields=True):
    """What a reader has of something that is not whole: see `Begun`."""

    held: bytes = b""
    needed: Count = 0
    kind: Literal[0, 1, 2] = 0
    fragments: Count = 0
    raw: bytes = b""
    payload: bytes = b""

    @classmethod
    def of(cls, begun: Begun) -> BegunState:
        """The same, to be sent."""
        return msgspec.convert(begun._asdict(), cls)

    @property
    def begun(self) -> Begun:
        """The same, to be gone on with."""
        return Begun(self.held, self.needed, self.kind, self.fragments, self.raw, self.payload)

    @property
    def is_possible(self) -> bool:
        """Can a reader come to that?"""
        return bool(self.kind) == bool(self.fragments)


class WireState(msgspec.Struct, forbid_unknown_fields=True):
    """A connection to a backend.

    begun, unread: what was read and not given out; mark, number: of its Pings; silent: seconds since it was heard of;
    keeps: the worker that it leaves is to be told of its end
    """

    begun: BegunState
    unread: bytes
    mark: bytes
    number: Count
    silent: Seconds
    keeps: bool


class LinkState(msgspec.Struct, forbid_unknown_fields=True):
    """A side. urls: of the backend; wire: None without a connection; is_wanted: one is to be made then."""

    urls: tuple[str, ...]
    wire: WireState | None
    is_wanted: bool
    room: Seconds


class TraceState(msgspec.Struct, forbid_unknown_fields=True):
    """A trace. span: the id of the session's own; parent: of the client's; started_ns: wall clock."""

    trace: str
    parent: str
    span: str
    started_ns: Count

    @classmethod
    def of(cls, trace: Trace | None) -> TraceState | None:
        """The same, to be sent; None when it is not drawn."""
        return None if trace is None else cls(trace.trace, trace.parent, trace.id, trace.started_ns)


class SessionState(msgspec.Struct, forbid_unknown_fields=True):
    """A whole session.

    name: its own; context, protocols: of its handshake, with what was agreed on; fixed: the side that was chosen once
    first, prologue, version: of its prologue; begun: what its client has begun, `begun_for` seconds ago
    silent, unasked: seconds since the client was heard of and asked whether it is there
    trace: None when it is not drawn
    """

    name: str
    route: str
    context: bytes
    protocols: tuple[str, ...]
    peer: str
    params: dict[str, str]
    head: HeadState
    first: Count
    prologue: tuple[tuple[Literal[1, 2], bytes], ...]
    version: Count
    answering: Side
    fixed: Side | None
    begun: BegunState
    begun_for: Seconds
    silent: Seconds
    unasked: Seconds
    links: tuple[LinkState, LinkState]
    trace: TraceState | None


_decode: Final = msgspec.msgpack.Decoder(SessionState).decode


class MovingSession:
    """A session that may go to another worker. kept: takes what its backends may still lose."""

    kind: Final = KIND

    def __init__(self, session: Session, kept: Kept) -> None:
        self.connection = session
        self._kept = kept
        self._wires = 0

    def freeze(self) -> tuple[bytes, list[int]]:
        """Stop it; its state, and its descriptors: the client's, then those of the sides that are connected."""
        session = self.connection
        session.freeze()
        wires = self._open_wires()
        self._wires = len(wires)
        transport = session.transport
        assert transport is not None
        descriptors = [descriptor_of(each) for each in (transport, *(wire.transport for wire in wires))]
        return encode(state_of(session, monotonic())), descriptors

    def _open_wires(self) -> list[Wire]:
        return [link.wire for link in self.connection.links if link.wire is not None]

    @property
    def is_there(self) -> bool:
        """Is it as it was when it was frozen?"""
        session = self.connection
        return not session.is_over and session.transport is not None and len(self._open_wires()) == self._wires

    def thaw(self) -> None:
        """It stays."""
        self.connection.thaw()

    def depart(self, number: int) -> None:
        """Another worker has it, under this number."""
        if self.connection.is_over:
            return
        now, window = monotonic(), self.connection.redeliver_window
        for side, left in enumerate(self.connection.depart()):
            self._kept.keep(number, side, left, window, now)


def state_of(session: Session, now: float) -> SessionState:
    """The state of a session that is frozen. now: monotonic seconds."""
    choosing, intake, prologue = session.choosing, session.intake, session.prologue
    old, new = session.links
    return SessionState(
        name=choosing.name,
        route=session.route.name,
        context=session.handshake,
        protocols=tuple(session.protocols),
        peer=choosing.peer,
        params=dict(choosing.params),
        head=_state_of_head(choosing.head),
        first=prologue.first,
        prologue=prologue.messages,  # type: ignore[arg-type] # its kinds are no other ones
        version=prologue.version,
        answering=NEW if session.answering == NEW else OLD,
        fixed=choosing.fixed,  # type: ignore[arg-type] # nor is a side
        begun=BegunState.of(intake.begun),
        begun_for=max(0.0, now - intake.began_at) if intake.began_at else 0.0,
        silent=max(0.0, now - session.heard_at),
        unasked=max(0.0, now - session.pinged_at),
        links=(_state_of_link(old, now), _state_of_link(new, now)),
        trace=TraceState.of(session.trace),
    )


def _state_of_head(head: RequestHead) -> HeadState:
    wanted = head.wanted or {}
    return HeadState(head.method, head.target, head.path, head.query, head.host, head.lines, head.names, wanted)


def _state_of_link(link: Link, now: float) -> LinkState:
    wire = link.wire
    state = None
    if wire is not None:
        silent = max(0.0, now - wire.heard_at)
        state = WireState(BegunState.of(wire.begun), wire.unread, wire.mark, link.number, silent, link.keeps)
    room = room_of(link.session.contributions[link.side], now)
    return LinkState(_urls(link.upstream), state, link.is_wanted, room)


def _urls(upstream: Upstream) -> tuple[str, ...]:
    return tuple(str(url) for url in upstream.settings.url)


# where it arrives


class SessionAdopter:
    """Takes sessions of other workers. wanted: headers that are read here; known: those that were read there.

    elsewhere: by side, who is told of the end of a connection whose messages are kept there
    """

    def __init__(self, sessions: Sessions, wanted: frozenset[bytes], known: frozenset[bytes]) -> None:
        self._sessions = sessions
        self._wanted = wanted
        self._known = known

    def read(self, state: bytes, sockets: Sequence[socket.socket]) -> SessionState:
        """What came with a session. Raises ValueError for what cannot be gone on with."""
        found = _decode(state)
        wires = [link.wire for link in found.links if link.wire is not None]
        if len(sockets) != 1 + len(wires):
            raise ValueError(f"{len(sockets)} connections of a session with {len(wires)} backends")
        if not all(begun.is_possible for begun in (found.begun, *(wire.begun for wire in wires))):
            raise ValueError("a message has begun that cannot be")
        route = self._route(found.route)
        for link, upstream in zip(found.links, route.sides, strict=True):
            if link.wire is not None and (upstream.tls is not None or link.urls != _urls(upstream)):
                raise ValueError(f"its backend {upstream.name} is another one here")
        if any(link.wire is not None and route.by_ledger >> side & 1 for side, link in enumerate(found.links)):
            raise ValueError("its backend is the ledger's alone here")
        _head_of(found.head, self._wanted, self._known)
        return found

    def _route(self, name: str) -> EventRoute:
        for route in self._sessions.plane.routes:
            if route.name == name and route.settings.websocket is not None:
                return route
        raise ValueError(f"there is no route {name} of sessions here")

    async def adopt(
        self, state: SessionState, sockets: Sequence[socket.socket], elsewhere: Callable[[int], Elsewhere]
    ) -> None:
        """Go on with it. elsewhere: who is told of the end of a side's connection."""
        loop = self._sessions.loop
        landings = list(await asyncio.gather(*[land(loop, each) for each in sockets]))
        outer, inner = landings[0], landings[1:]
        sides = [side for side, link in enumerate(state.links) if link.wire is not None]
        if not outer.is_here or outer.transport is None:
            for side, landing in zip(sides, inner, strict=True):
                landing.abort()
                self._tell_lost(state, side, elsewhere)
            return
        session = self._restore(state)
        now = monotonic()
        for side, landing in zip(sides, inner, strict=True):
            if landing.transport is not None and landing.is_here:
                self._link(session.links[side], state.links[side], landing.transport, landing.came, now, elsewhere)
            else:
                self._tell_lost(state, side, elsewhere)
                session.links[side].open()
        self._begin(session, state, outer, now)
        for landing in landings:
            landing.finish()
        if self._sessions.http.is_stopping:  # it came too late to hear of that
            session.close(GOING_AWAY, "the proxy stops")

    def _tell_lost(self, state: SessionState, side: int, elsewhere: Callable[[int], Elsewhere]) -> None:
        wire = state.links[side].wire
        if wire is not None and wire.keeps:
            elsewhere(side).lost()

    def _restore(self, state: SessionState) -> Session:
        head = _head_of(state.head, self._wanted, self._known)
        opening = Opening(b"", state.protocols, state.context)
        route = self._route(state.route)
        session = self._sessions.restore(route, head, state.params, opening, state.peer, state.name)
        session.prologue.go_on(state.first, state.prologue, state.version)
        session.answering, session.choosing.fixed = state.answering, state.fixed
        tracer = self._sessions.plane.tracer
        if state.trace is not None and tracer is not None:  # else its messages alone are told of, if anything is
            drawn = state.trace
            session.trace = tracer.go_on(drawn.trace, drawn.parent, drawn.span, drawn.started_ns)
        return session

    def _link(
        self, link: Link, state: LinkState, transport: asyncio.Transport, came: bytes, now: float,
        elsewhere: Callable[[int], Elsewhere],
    ) -> None:  # fmt: skip
        wire = state.wire
        assert wire is not None
        connection = Connection(link.upstream)
        connection.connection_made(transport)
        link.upstream.take_over(connection)
        keeper = elsewhere(link.side) if wire.keeps else None
        link.arrive(connection, transport, wire.begun.begun, wire.mark, wire.number, now - wire.silent, keeper)
        assert link.wire is not None
        link.wire.pause(wire.unread + came)

    def _begin(self, session: Session, state: SessionState, outer: Landing, now: float) -> None:
        assert outer.transport is not None
        is_amid = bool(state.begun.held or state.begun.kind)
        session.intake.go_on(state.begun.begun, now - state.begun_for if is_amid else 0.0)
        for link, link_state in zip(session.links, state.links, strict=True):
            give_room([session.contributions[link.side]], [link_state.room], now)
            if link_state.is_wanted:
                link.open()
        session.arrive(outer.transport, now - state.silent, now - state.unasked)
        if outer.came:
            session.data_received(outer.came)
        session.read_on()


def _head_of(state: HeadState, wanted: frozenset[bytes], known: frozenset[bytes]) -> RequestHead:
    """The head. Raises ValueError when something of it that is wanted here was not kept there."""
    head = RequestHead(state.method, state.target, 1, state.path, state.query, True)
    head.host, head.lines, head.names, head.upgrade = state.host, state.lines, state.names, b"websocket"
    head.wanted = dict(state.wanted) or None
    for name in (wanted - known) & state.names - state.wanted.keys():
        values = [line.partition(b":")[2] for line in state.lines.split(b"\r\n") if _is_of(line, name)]
        if len(values) != 1:
            raise ValueError(f"the value of {name.decode()} was not kept")
        head.wanted = {**(head.wanted or {}), name: values[0].strip()}
    return head


def _is_of(line: bytes, name: bytes) -> bool:
    return line.partition(b":")[0].lower() == name
