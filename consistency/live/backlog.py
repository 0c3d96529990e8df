"""What is still owed, where the ledger cannot name single rows of the stores."""

from __future__ import annotations

from collections.abc import Sequence

from consistency.ledger import LEAST_DELAY, Asker, oldest_owed
from consistency.rows import Span
from consistency.windows import LEAST_SETTLE

_NEVER = 2**63


class Backlog:
    """The oldest event that is owed to a side of some routes, as the instance's status tells it.

    What was owed until a moment ago counts as well, for a store shows it later; so does everything at first.
    """

    def __init__(self, admin: Asker, routes: Sequence[str]) -> None:
        self._admin = admin
        self._routes = routes
        self._looks: list[tuple[int, int]] = []
        """When it was looked, and what was the oldest then; nanoseconds."""

    async def look(self, now: int) -> None:
        """Ask. now: nanoseconds since the epoch. Raises RecordsUnavailable."""
        oldest = await oldest_owed(self._admin, self._routes, now)
        looks = self._looks or [(now, 0)]
        # It was so at the most until the look that came next.
        while len(looks) > 1 and not now - LEAST_SETTLE < looks[1][0] <= now:
            looks = looks[1:]
        self._looks = [*looks, (now, _NEVER if oldest is None else oldest)]

    async def is_pending(self, span: Span) -> bool:
        """Whether an event of the span may still be owed, or was a moment ago: one that was accepted before its end or
        soon after.
        """
        return any(oldest < span.end + LEAST_DELAY for _, oldest in self._looks)
