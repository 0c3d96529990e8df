"""Backends that do with each event what its body tells them to."""

from __future__ import annotations

import asyncio

import orjson

from tests.http.backend import BackendConnection, Behave, Seen, reply
from tests.http.oracle import SUCCESSES
from tests.http.rig import Rig

SLOW = 0.02
"""Seconds; more than any `copy_wait` in here, less than any timeout."""


class Script:
    """What both backends do, and what they saw. early: events that came before their record was durable."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.accepted: tuple[set[str], set[str]] = (set(), set())
        self.refused: tuple[set[str], set[str]] = (set(), set())
        self.early: list[str] = []
        rig.old.behave = self._side(0, "old")
        rig.new.behave = self._side(1, "new")

    def _side(self, side: int, name: str) -> Behave:
        def behave(seen: Seen, connection: BackendConnection) -> None:
            if not self._rig.fake.holds_event(seen.id):
                self.early.append(seen.id)
            word = orjson.loads(seen.body)[name]
            if word == "slow":
                asyncio.get_running_loop().call_later(SLOW, self._accept, side, seen.id, connection, 201)
            elif word in SUCCESSES:
                self._accept(side, seen.id, connection, int(word))
            elif word == "closed":
                connection.reset()
            elif word != "timeout":
                if word == "400":
                    self.refused[side].add(seen.id)
                connection.write(reply(int(word), f"{name} says {word}".encode()))

        return behave

    def _accept(self, side: int, event_id: str, connection: BackendConnection, status: int) -> None:
        self.accepted[side].add(event_id)
        connection.write(reply(status))

    def has(self, event_id: str, side: int) -> bool:
        """Has this side the event, will it get it from the ledger, or has it said no for good?"""
        return (
            event_id in self.accepted[side] or event_id in self.refused[side] or self._rig.fake.promises(event_id, side)
        )

    def is_safe(self, event_id: str) -> bool:
        """`has` for each side that the event is owed to."""
        event = self._rig.fake.events.get(event_id)
        return event is not None and all(self.has(event_id, side) for side in (0, 1) if event.owed >> side & 1)
