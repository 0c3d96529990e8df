"""What is still owed, where the ledger cannot name single rows of the stores."""

from __future__ import annotations

from collections.abc import Sequence

from consistency.ledger import Asker
from consistency.rows import Span

_SECOND = 1_000_000_000


class Backlog:
    """The oldest event that is owed to a side of some routes, as the instance's status tells it."""

    def __init__(self, admin: Asker, routes: Sequence[str]) -> None:
        self._admin = admin
        self._routes = frozenset(routes)
        self._oldest: int | None = None

    async def look(self, now: int) -> None:
        """Ask. now: nanoseconds since the epoch. Raises RecordsUnavailable."""
        status = await self._admin.ask("status")
        ages = [
            side["ledger"]["oldest_age_s"]
            for route in status["routes"]
            if route["name"] in self._routes
            for side in route["sides"].values()
            if side["ledger"]["pending"]
        ]
        self._oldest = now - round(max(ages) * _SECOND) if ages else None

    async def is_pending(self, span: Span) -> bool:
        """Whether an event of the span may still be owed: one was accepted before its end, and is."""
        return self._oldest is not None and self._oldest < span.end
