"""What is still owed, where the ledger cannot name single rows of the stores."""

from __future__ import annotations

from collections.abc import Sequence

from consistency.ledger import LEAST_DELAY, Asker
from consistency.recorded import RecordsUnavailable
from consistency.rows import Span
from consistency.windows import LEAST_SETTLE

_SECOND = 1_000_000_000
_NEVER = 2**63


class Backlog:
    """The oldest event that is owed to a side of some routes, as the instance's status tells it.

    What was owed until a moment ago counts as well, for a store shows it later; so does everything at first.
    """

    def __init__(self, admin: Asker, routes: Sequence[str]) -> None:
        self._admin = admin
        self._routes = frozenset(routes)
        self._looks: list[tuple[int, int]] = []
        """When it was looked, and what was the oldest then; nanoseconds."""

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
        looks = self._looks or [(now, 0)]
        # It was so at the most until the look that came next.
        while len(looks) > 1 and not now - LEAST_SETTLE < looks[1][0] <= now:
            looks = looks[1:]
        self._looks = [*looks, (now, now - round(max(ages) * _SECOND) if ages else _NEVER)]

    async def is_pending(self, span: Span) -> bool:
        """Whether an event of the span may still be owed, or was a moment ago: one that was accepted before its end or
        soon after.
        """
        return any(oldest < span.end + LEAST_DELAY for _, oldest in self._looks)
