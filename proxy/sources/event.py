"""What a source brings, on its way from its connection to the route."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol


class SourceEvent(NamedTuple):
    """One event. id: empty where its server gives none; body: JSON; state: name of the state that it tells, or empty.

    version: of that state, None when it is gone; acknowledgement: what is to be said once it is accepted, or empty.
    """

    id: str
    body: bytes
    state: str = ""
    version: str | None = None
    is_recovered: bool = False
    acknowledgement: str = ""


class Broken(Exception):
    """The conversation cannot go on; the message says why. It is begun anew after a while."""


class Denied(Broken):
    """The server does not believe our credential: not to be tried again with the same one."""


class Conversation(Protocol):
    """One connection's messages, in and out, without the connection: `proxy.sources.home_assistant` and `plain`.

    outbox: what is to be sent now; is_ready: events come from now on.
    """

    outbox: list[str]
    is_ready: bool

    @property
    def trouble(self) -> str:
        """What is not as it should be, or empty."""

    def take(self, message: str | bytes) -> Iterable[SourceEvent | None]:
        """The events of a message, to be gone through before the next one is taken; None where others are to have a
        turn of the loop before it goes on. Raises Broken as it is gone through, where there are none.
        """

    def ping(self) -> bool:
        """Ask whether it is there, in the outbox; false when that is done with a Ping of the protocol."""

    def wake(self) -> None:
        """Some seconds have passed: ask again what had no whole answer."""
