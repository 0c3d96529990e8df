"""The memory that events of all sources of a worker may wait in: a part of its budget.

What waits here counts in the budget that answers 503. Were it all of it, these events would be what refuses themselves,
and every client.
"""

from __future__ import annotations

import asyncio
from typing import Final

from proxy.http.budget import Budget

_PART: Final = 0.25


class Share:
    """Bytes of the events that wait. budget: of the worker, in which they count."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._most = int(budget.limit * _PART)
        self._change = asyncio.Event()
        self._held = 0

    def has_room(self, size: int) -> bool:
        """May one more event of so many bytes wait?"""
        return self._held + size <= self._most

    def add(self, size: int) -> None:
        """So many bytes more wait; fewer when negative."""
        self._held += size
        self._budget.add(size)
        self._change.set()

    async def changed(self) -> None:
        """Until there is another number of them."""
        self._change.clear()
        await self._change.wait()
