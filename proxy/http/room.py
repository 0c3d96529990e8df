"""Bytes that deliveries on their way to one backend may hold together, whatever is made of their events.

    enter --> what is sent is made, take(size) --> sent, answered --> give(size) --> the next one enters

An event of some kilobytes may stand for megabytes once it is decoded and put into a template, and what is written waits
for as long as its backend takes nothing. How much it is, is known when it is made; so who enters may go beyond the
bound, alone, and whoever comes after it waits until there is room again. In the order in which they came.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

MOST: Final = 16 * 2**20


class Room:
    """most: bytes, at which nobody enters any more."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.used = 0

    async def enter(self) -> None:
        """Wait for room. What is made is to be taken into account before anything else is waited for."""
        if not self._waiting and self.used < self._most:
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            self._let_in()  # it may have been its turn
            raise

    def take(self, size: int) -> None:
        """So many bytes are held; to be given back."""
        self.used += size
        self._let_in()

    def pass_on(self) -> None:
        """Nothing could be made: whoever is next may enter."""
        self._let_in()

    def give(self, size: int) -> None:
        """They are not any more."""
        self.used -= size
        self._let_in()

    def _let_in(self) -> None:
        """The first one, whose `take` lets the next one in."""
        while self._waiting and self.used < self._most:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
