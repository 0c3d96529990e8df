"""The worker that takes another one's place: it listens where connections are handed over, and goes on with them.

    handover-<index>.sock --> Adoption: Offer --> is there room, can it be read? --> Accepted --> Release --> adopt
                                                      +-- no --> Refused, and it stays where it is

It listens for as long as it serves, so that a worker whose place is given up finds somebody, too.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from proxy.fanout import moved as moved_relay
from proxy.fanout.moved import RelayAdopter
from proxy.fanout.relay import Consumers
from proxy.http import moved as moved_client
from proxy.http.moved import ClientAdopter
from proxy.http.service import Service
from proxy.websocket import moved as moved_session
from proxy.websocket.moved import SessionAdopter
from proxy.websocket.service import Sessions
from proxy.websocket.upstream import Elsewhere
from proxy.worker.handover import (
    ENDED,
    VERSION,
    Accepted,
    Channel,
    Greeting,
    Lost,
    Offer,
    Refused,
    Release,
    Settled,
    ToSuccessor,
    Withdraw,
)

log = logging.getLogger(__name__)

_BACKLOG: Final = 8
_AGAIN: Final = 0.1
"""Seconds until the next try to accept when there was no descriptor."""


class Adopter(Protocol):
    """Who takes connections of one kind."""

    def read(self, state: bytes, sockets: Sequence[socket.socket]) -> Any:
        """What came with them. Raises ValueError, or msgspec's errors, for what cannot be gone on with."""

    async def adopt(self, state: Any, sockets: Sequence[socket.socket], elsewhere: Callable[[int], Elsewhere]) -> None:
        """Go on with them."""


class Adopting:
    """Of one worker. path: where it listens."""

    def __init__(self, path: Path, service: Service, sessions: Sessions, consumers: Consumers) -> None:
        self.path = path
        self.service = service
        self.sessions = sessions
        self.consumers = consumers
        self._listening: socket.socket | None = None
        self._inode = 0
        self.open: set[Adoption] = set()

    def start(self) -> None:
        """Listen, in the place of whoever did before: from one moment to the next, so that nobody is refused."""
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        new = self.path.with_name(f".{os.getpid()}")  # short, for there is a limit to it
        try:
            new.unlink(missing_ok=True)
            listening.bind(str(new))
            new.chmod(0o600)
            listening.listen(_BACKLOG)
            listening.setblocking(False)
            self._inode = new.stat().st_ino
            new.rename(self.path)
        except OSError as error:
            # It serves all the same; a predecessor's connections end in order instead.
            log.error("connections cannot be taken over: %s", error, extra={"path": str(self.path)})
            listening.close()
            return
        self._listening = listening
        self._watch()

    def _watch(self) -> None:
        if self._listening is not None:
            self.service.loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        assert self._listening is not None
        try:
            connection, _ = self._listening.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:  # there is no descriptor
            log.warning("a worker that retires is not heard yet: %s", error)
            self.service.loop.remove_reader(self._listening)
            self.service.loop.call_later(_AGAIN, self._watch)
            return
        self.open.add(Adoption(self, connection))

    def close(self) -> None:
        """Take nothing more. What was released by then is ours; what was not is its worker's."""
        listening, self._listening = self._listening, None
        if listening is None:
            return
        self.service.loop.remove_reader(listening)
        listening.close()
        try:
            if self.path.stat().st_ino == self._inode:  # else it is a successor's by now
                self.path.unlink()
        except OSError:
            pass
        for adoption in self.open:
            adoption.take_no_more()

    @property
    def is_busy(self) -> bool:
        """Is something on its way here that was accepted?"""
        return any(adoption.is_busy for adoption in self.open)

    async def end(self) -> None:
        """Close every conversation, once what was released has arrived."""
        for adoption in tuple(self.open):
            await adoption.arrived()
            adoption.channel.close()


class _Accepted(NamedTuple):
    """What may be released to us. state: as its adopter has read it."""

    adopter: Adopter
    kind: str
    state: Any
    sockets: list[socket.socket]


class Adoption:
    """The connections of one other worker."""

    def __init__(self, adopting: Adopting, connection: socket.socket) -> None:
        self._adopting = adopting
        self._service = adopting.service
        self._adopters: dict[str, Adopter] = {}
        self._why_not = "it has not said which form its states have"
        """Why nothing is taken; empty when it is."""
        self._accepted: dict[int, _Accepted] = {}
        self._arriving: set[asyncio.Task[None]] = set()
        self.channel = Channel(
            connection, self._service.loop, is_successor=True, hear=self._hear, lost=self._predecessor_gone
        )

    def _hear(self, message: ToSuccessor) -> None:
        if type(message) is Offer:
            self._offered(message)
        elif type(message) is Greeting:
            self._greeted(message)
        elif type(message) is Release:
            if (accepted := self._accepted.pop(message.number, None)) is not None:
                self._released(message.number, accepted)
        elif type(message) is Withdraw and (accepted := self._accepted.pop(message.number, None)) is not None:
            self._let_go(accepted)

    def _greeted(self, greeting: Greeting) -> None:
        if greeting.version != VERSION:
            self._why_not = f"its states have the form {greeting.version}, and we read {VERSION}"
            return
        self._why_not = ""
        wanted, known = self._service.parser.wanted, frozenset(greeting.headers)
        self._adopters = {
            moved_client.KIND: ClientAdopter(self._service),
            moved_session.KIND: SessionAdopter(self._adopting.sessions, wanted, known),
            moved_relay.KIND: RelayAdopter(self._adopting.consumers),
        }

    def take_no_more(self) -> None:
        """Refuse what is offered from now on."""
        self._why_not = "this worker ends as well"

    def _offered(self, offer: Offer) -> None:
        sockets = self.channel.sockets(offer.sockets)
        why = self._judge(offer, sockets)
        if why:
            for each in sockets:
                each.close()
            self.channel.put(Refused(offer.number, why))
        else:
            self._service.others += 1  # its place, until it has come
            self.channel.put(Accepted(offer.number))

    def _judge(self, offer: Offer, sockets: list[socket.socket]) -> str:
        """Why a connection is not taken; empty when it was accepted."""
        adopter = self._adopters.get(offer.kind)
        if self._why_not or adopter is None:
            return self._why_not or f"connections of the kind {offer.kind} are not known here"
        if not self._service.has_room():
            return "there is no room for further connections"
        if len(sockets) != offer.sockets or any(each.type != socket.SOCK_STREAM for each in sockets):
            return "its descriptors are not there"
        try:
            state = adopter.read(offer.state, sockets)
        except (ValueError, msgspec.MsgspecError) as error:
            return str(error)
        self._accepted[offer.number] = _Accepted(adopter, offer.kind, state, sockets)
        return ""

    def _let_go(self, accepted: _Accepted) -> None:
        self._service.others -= 1
        for each in accepted.sockets:
            each.close()

    def _released(self, number: int, accepted: _Accepted) -> None:
        def elsewhere(side: int) -> Elsewhere:
            return _Told(self.channel, number, side)

        async def arrive() -> None:
            try:
                await accepted.adopter.adopt(accepted.state, accepted.sockets, elsewhere)
            finally:
                self._service.others -= 1

        self._service.plane.count(f"moved_in_{accepted.kind}")
        task = self._service.loop.create_task(arrive())
        self._arriving.add(task)
        task.add_done_callback(self._has_arrived)

    def _has_arrived(self, task: asyncio.Task[None]) -> None:
        self._arriving.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a connection was lost as it was taken over", exc_info=task.exception())

    @property
    def is_busy(self) -> bool:
        """Is something on its way here that was accepted?"""
        return bool(self._accepted or self._arriving)

    async def arrived(self) -> None:
        """Wait for what was released."""
        while self._arriving:
            await asyncio.wait(self._arriving)

    def _predecessor_gone(self, why: str) -> None:
        self._adopting.open.discard(self)
        if self._accepted or why != ENDED:
            log.info("a worker hands over nothing more", extra={"reason": why, "accepted": len(self._accepted)})
        accepted, self._accepted = self._accepted, {}
        for each in accepted.values():
            self._let_go(each)


class _Told:
    """Another worker, which keeps what was sent to one side of a session."""

    def __init__(self, channel: Channel, number: int, side: int) -> None:
        self._channel = channel
        self._number = number
        self._side = side

    def lost(self) -> None:
        """It delivers that again."""
        self._channel.put(Lost(self._number, self._side))

    def settled(self) -> None:
        """It needs not."""
        self._channel.put(Settled(self._number, self._side))
