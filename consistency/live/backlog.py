"""What is still owed, where the ledger cannot name single rows of the stores."""

from __future__ import annotations

from collections.abc import Sequence

from consistency.ledger import LEAST_DELAY, Asker
from consistency.recorded import RecordsUnavailable
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
        if not status["ledger"]["segments"]:
            raise RecordsUnavailable("the ledger has not said yet what it owes")
        ages = [
            side["ledger"]["oldest_age_s"]
            for route in status["routes"]
            if route["name"] in self._routes
            for side in route["sides"].values()
            if side["ledger"]["pending"]
        ]
        self._oldest = now - round(max(ages) * _SECOND) if ages else None

    async def is_pending(self, span: Span) -> bool:
        """Whether an event of the span may still be owed: one is that was accepted before its end or soon after."""
        return self._oldest is not None and self._oldest < span.end + LEAST_DELAY
