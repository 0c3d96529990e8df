"""Deliveries by one session: many at once, or one that must be alone, in the order in which they came."""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """Who may deliver. Whoever has entered must leave."""

    __slots__ = ("_inside", "_is_one_alone", "_waiting")

    def __init__(self) -> None:
        self._inside = 0
        self._is_one_alone = False
        self._waiting: deque[tuple[bool, asyncio.Future[None]]] = deque()

    async def enter(self, *, alone: bool) -> None:
        """Wait for a turn. alone: until nobody else is inside; and nobody else comes in before `leave`."""
        if not self._waiting and self._has_room(alone):
            self._admit(alone)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((alone, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()  # it came in the same moment
            else:
                self._let_in()  # it may have been in the way of others
            raise

    def leave(self) -> None:
        """It is over."""
        self._inside -= 1
        self._is_one_alone = False
        self._let_in()

    def _has_room(self, alone: bool) -> bool:
        return not self._inside if alone else not self._is_one_alone

    def _admit(self, alone: bool) -> None:
        self._inside += 1
        self._is_one_alone = alone

    def _let_in(self) -> None:
        waiting = self._waiting
        while waiting and (waiting[0][1].done() or self._has_room(waiting[0][0])):
            alone, turn = waiting.popleft()
            if not turn.done():
                self._admit(alone)
                turn.set_result(None)
