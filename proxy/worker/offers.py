"""The retiring worker's side of a handover: what is offered, what became of it, and what was left behind.

Movable --freeze--> Offer --Accepted--> Release, depart
                      +---Refused, no answer, nobody there any more--> thaw: it stays
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Final, Protocol

from proxy.fanout.relay import Relay
from proxy.http.downstream import Client
from proxy.websocket.kept import Kept
from proxy.websocket.session import Session
from proxy.worker.handover import (
    VERSION,
    Accepted,
    Channel,
    Greeting,
    Lost,
    Offer,
    Refused,
    Release,
    Settled,
    ToPredecessor,
    Withdraw,
)

log = logging.getLogger(__name__)

ANSWER_WAIT: Final = 2.0
"""Seconds in which a successor answers an offer, and as many in which it takes the release: so long it stands still."""
AT_A_TIME: Final = 32
"""Offers without an answer."""


class Movable(Protocol):
    """A connection, or some that belong together, which may go to another worker."""

    @property
    def kind(self) -> str:
        """What it speaks."""

    @property
    def connection(self) -> Client | Session | Relay:
        """What it is here."""

    def freeze(self) -> tuple[bytes, list[int]]:
        """Touch it no more; its state, and its descriptors."""

    @property
    def is_there(self) -> bool:
        """Is it as it was then?"""

    def thaw(self) -> None:
        """It stays: go on with it."""

    def depart(self, number: int) -> None:
        """It is another worker's, under the number of its offer: close our descriptors, and tell nobody."""


def call(path: Path) -> socket.socket | None:
    """A connection to the worker that listens there; None without one."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        connection.connect(str(path))
    except OSError:
        connection.close()
        return None
    return connection


class Offers:
    """To one successor. numbers: for offers, never used before; refused: called with what it does not take.

    count: called with a counter's name; wake: called when something was answered
    """

    def __init__(
        self,
        connection: socket.socket,
        loop: asyncio.AbstractEventLoop,
        headers: frozenset[bytes],
        kept: Kept,
        numbers: Iterator[int],
        *,
        refused: Callable[[Movable], None],
        count: Callable[[str], None],
        wake: Callable[[], None],
    ) -> None:
        self._kept = kept
        self._numbers = numbers
        self._refused = refused
        self._count = count
        self._wake = wake
        self._offered: dict[int, tuple[Movable, float]] = {}
        self._releasing: dict[int, tuple[Movable, float]] = {}
        """Released, and that is not sent yet. Both: since when, monotonic seconds."""
        self._reasons: set[str] = set()
        self._channel = Channel(connection, loop, is_successor=False, hear=self._hear, lost=self._successor_gone)
        self._channel.put(Greeting(VERSION, sorted(headers)))

    @property
    def is_open(self) -> bool:
        """Is anybody there?"""
        return self._channel.is_open

    @property
    def has_room(self) -> bool:
        """May something be offered now?"""
        return self._channel.is_open and len(self._offered) + len(self._releasing) < AT_A_TIME

    @property
    def is_idle(self) -> bool:
        """Was every offer answered, and every answer heard?"""
        return not self._offered and not self._releasing

    def offer(self, movable: Movable) -> bool:
        """Offer something; false when that cannot be said now, and it goes on as before."""
        state, descriptors = movable.freeze()
        number = next(self._numbers)
        if not self._channel.offer(Offer(number, movable.kind, state, len(descriptors)), descriptors):
            movable.thaw()
            return False
        self._offered[number] = (movable, monotonic())
        return True

    def check_time(self, now: float) -> None:
        """Let go of a successor that does not answer, or does not read."""
        for waiting, what in ((self._offered, "no answer"), (self._releasing, "it reads nothing")):
            if waiting and now - next(iter(waiting.values()))[1] > ANSWER_WAIT:
                self._channel.close(f"{what} within {ANSWER_WAIT:g} s")
                return

    def _hear(self, message: ToPredecessor) -> None:
        if type(message) is Lost:
            self._kept.lost(message.number, message.side)
        elif type(message) is Settled:
            self._kept.settled(message.number, message.side)
        elif type(message) is Accepted or type(message) is Refused:
            self._answered(message)

    def _answered(self, message: Accepted | Refused) -> None:
        movable, _ = self._offered.pop(message.number, (None, 0.0))
        if movable is None:
            return
        if type(message) is Refused:
            self._tell_refused(movable, message.reason)
            movable.thaw()
            self._refused(movable)
        elif movable.is_there:
            self._release(message.number, movable)
        else:
            self._channel.put(Withdraw(message.number))
            movable.thaw()
        self._wake()

    def _release(self, number: int, movable: Movable) -> None:
        """It is the successor's once that can hear of it: a conversation may end with words that were not sent."""
        self._releasing[number] = (movable, monotonic())
        is_heard = self._channel.put(Release(number), lambda: self._released(number))
        if not is_heard and self._releasing.pop(number, None) is not None:
            movable.thaw()

    def _released(self, number: int) -> None:
        movable, _ = self._releasing.pop(number)
        try:
            movable.depart(number)
        except Exception:  # others that are the successor's by now must still depart
            log.exception("a connection that another worker has did not depart", extra={"kind": movable.kind})
        self._count(f"moved_out_{movable.kind}")
        self._wake()

    def _tell_refused(self, movable: Movable, reason: str) -> None:
        self._count(f"moves_refused_{movable.kind}")
        if reason not in self._reasons:
            self._reasons.add(reason)
            log.warning("the successor does not take some connections", extra={"kind": movable.kind, "reason": reason})

    def withdraw(self) -> None:
        """Keep whatever was not released.

        A successor that has not even taken what was is given up: what is kept of sessions goes to the ledger then.
        """
        offered, self._offered = self._offered, {}
        for number, (movable, _) in offered.items():
            self._channel.put(Withdraw(number))
            movable.thaw()
        if self._releasing:
            self._channel.close("it does not hear what it was given")

    def _successor_gone(self, why: str) -> None:
        left = [*self._offered.values(), *self._releasing.values()]
        if left:
            log.warning("the successor takes no more", extra={"reason": why, "offered": len(left)})
        self._offered, self._releasing = {}, {}
        for movable, _ in left:
            movable.thaw()
        self._kept.all_lost()
        self._wake()

    def close(self) -> None:
        """End the conversation."""
        self._channel.close()
