"""A leg: one side of one event on its way to a backend. Its owner is told exactly once how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from proxy.http.response_head import ResponseHead

if TYPE_CHECKING:
    from proxy.http.budget import Charge
    from proxy.http.connection import Connection
    from proxy.http.upstream import Upstream

_KEPT_ANSWER: Final = 64 * 1024


class Owner(Protocol):
    """Who sent a leg."""

    def leg_started(self, leg: Leg) -> None:
        """The answer's head is here (`leg.head`), its body will follow in pieces."""

    def leg_data(self, leg: Leg, data: bytes) -> None:
        """A piece of the answer's body."""

    def leg_done(self, leg: Leg) -> None:
        """The leg has ended: `leg.kind` says how; after `leg_started` it may be truncated."""

    def leg_interim(self, leg: Leg, head: ResponseHead) -> None:
        """An answer before the answer is here: 102 or 103."""


class Outflow(Protocol):
    """A body that comes after its request's head, in pieces."""

    @property
    def is_whole(self) -> bool:
        """All of it was given to the connection."""

    def begun(self, connection: Connection) -> None:
        """The head was given to this connection; the pieces go there."""

    def hold(self) -> None:
        """The backend takes no more for now."""

    def proceed(self) -> None:
        """It takes more again."""

    def waits_since(self, now: float) -> float:
        """Since when it is the backend's turn; now while it is the client's, monotonic seconds."""


class Upgrade(Protocol):
    """Who takes a connection over when its backend switches protocols."""

    def switched(self, connection: Connection, raw: bytes, head: ResponseHead, rest: bytes) -> None:
        """It has answered 101, which was not looked at yet: its head as it came, and the bytes after it.

        Nothing is read any more by the connection, and its leg's owner hears nothing. Who takes it over tells it when
        it is lost.
        """


class Nobody:
    """The owner of a leg that has ended."""

    def leg_started(self, leg: Leg) -> None:
        """Nobody cares."""

    def leg_done(self, leg: Leg) -> None:
        """Nobody cares."""

    def leg_data(self, leg: Leg, data: bytes) -> None:
        """Nobody cares."""

    def leg_interim(self, leg: Leg, head: ResponseHead) -> None:
        """Nobody cares."""


NOBODY: Final = Nobody()


class Leg:
    """One request to one backend and what came of it.

    role: 0 authority, 1 copy, 2 stream
    request: the whole request's bytes, or those before its outflow; method: to know HEAD and what may be repeated
    outflow: the body that comes after it in pieces
    upgrade: who takes the connection over after a 101; without, that is no answer
    may_repeat: the client gave the id, so a second try cannot store it twice unseen
    repeated, lost: it was sent again, on a new connection; it had gone out on the one that was lost
    kind, status, reason: an Outcome's fields once ended; head, body: the answer as far as it came
    truncated: the answer broke off after its head
    is_started: the owner was told of the head before the body's end
    is_overfull: kept pieces of a copy's answer grew too long and were dropped
    is_paused: we are not reading it, because its reader is slow
    sent_at, answered_at: when its request went out and its answer's head came, monotonic seconds; 0 before
    is_unwanted: nobody reads the rest of its answer; it is only read so that the connection can be used again
    is_abandoned: we have cut its connection, which says nothing about the backend
    is_ours: that it could not be sent is this process's own trouble, not the backend's
    is_for_load: of a load test that is left out: the breaker does not hear how it ends
    request_charge, answer_charge: what the memory budget is told of the request and of `body`; None when small
    """

    __slots__ = (
        "owner", "upstream", "side", "role", "method", "request", "may_repeat", "kind", "status", "reason", "head",
        "body", "truncated", "repeated", "lost", "is_started", "is_overfull", "is_unwanted", "is_paused",
        "is_abandoned", "is_ours", "connection", "outflow", "upgrade", "sent_at", "answered_at", "request_charge",
        "answer_charge", "is_for_load",
    )  # fmt: skip

    def __init__(
        self, owner: Owner, upstream: Upstream, side: int, role: int, method: bytes, request: bytes, may_repeat: bool
    ) -> None:
        self.owner = owner
        self.upstream = upstream
        self.side = side
        self.role = role
        self.method = method
        self.request = request
        self.may_repeat = may_repeat
        self.kind = 0
        self.status = 0
        self.reason = ""
        self.head: ResponseHead | None = None
        self.body = b""
        self.truncated = False
        self.repeated = False
        self.lost = False
        self.is_started = False
        self.is_overfull = False
        self.is_unwanted = False
        self.is_paused = False
        self.is_abandoned = False
        self.connection: Connection | None = None
        self.outflow: Outflow | None = None
        self.upgrade: Upgrade | None = None
        self.sent_at = 0.0
        self.answered_at = 0.0
        self.is_ours = False
        self.is_for_load = False
        self.request_charge: Charge | None = None
        self.answer_charge: Charge | None = None

    @property
    def is_alone(self) -> bool:
        """Has it a fresh connection of its own, beside the pool?"""
        return self.outflow is not None or self.upgrade is not None

    def keep(self, data: bytes) -> None:
        """Keep a piece of the answer until it may be passed on; an authority is paused when that is long."""
        self.body += data
        if len(self.body) > _KEPT_ANSWER:
            if self.role == 0:
                self.pause()
            else:
                self.body, self.is_overfull = b"", True

    def pause(self) -> None:
        """Stop reading the answer: its reader is slow."""
        self.is_paused = True
        if self.connection is not None and self.connection.transport is not None:
            self.connection.pause()

    def resume(self) -> None:
        """Go on reading."""
        self.is_paused = False
        if self.connection is not None:
            self.connection.resume()

    def abandon(self) -> None:
        """Nobody wants the rest of the answer; its connection is closed."""
        self.is_abandoned = True
        if self.connection is not None:
            self.connection.abort()
