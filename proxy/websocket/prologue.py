"""What both sides of a session must have been told before anything else: a login, subscriptions.

Such messages are no events: they have no receipt, and nobody owes them to anybody. They are kept with the session,
bounded, and are the first thing on every new connection to a backend.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from config.model import WebSocket
from proxy.http.values import json_value
from proxy.websocket.frames import Message

MOST_MESSAGES: Final = 1_000
MOST_BYTES: Final = 64 * 1024


Broadcast: TypeAlias = tuple[tuple[Callable[[bytes], str | None], str], ...]
"""What reads a message, and what that must be."""


class Prologue:
    """One session's. first: how many first messages are of it; rules: which further ones."""

    __slots__ = ("_first", "_rules", "messages", "size", "version")

    def __init__(self, first: int, rules: Broadcast) -> None:
        self._first = first
        self._rules = rules
        self.messages: tuple[tuple[int, bytes], ...] = ()
        """Kind and payload of each."""
        self.size = 0
        """Bytes of the payloads."""
        self.version = 0
        """How often it was changed."""

    @property
    def first(self) -> int:
        """So many first messages of the session are still to come."""
        return self._first

    def go_on(self, first: int, messages: tuple[tuple[int, bytes], ...], version: int) -> None:
        """Go on where another worker stopped."""
        self._first, self.messages, self.version = first, messages, version
        self.size = sum(len(payload) for _, payload in messages)

    def takes(self, message: Message) -> bool:
        """Is this message one of it?"""
        if self._first:
            self._first -= 1
            return True
        return bool(self._rules) and any(read(message.payload) == equals for read, equals in self._rules)

    def keep(self, message: Message) -> bool:
        """Keep a message; false when there is no room for it.

        One that is there already, as of a client that subscribes again, is kept once, as the last word.
        """
        one = (message.kind, message.payload)
        others = tuple(each for each in self.messages if each != one)
        size = sum(len(payload) for _, payload in others) + len(message.payload)
        if len(others) >= MOST_MESSAGES or size > MOST_BYTES:
            return False
        self.messages, self.size = (*others, one), size
        self.version += 1
        return True


def broadcast_of(settings: WebSocket) -> Broadcast:
    """Compile a route's broadcast rules."""
    return tuple((json_value(rule.pointer), rule.equals) for rule in settings.broadcast)
