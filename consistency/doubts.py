"""Why two stores may differ by right, where the ledger cannot name what they hold: the rest is still on its way, or was
never owed to a side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from consistency.ledger import LEAST_DELAY, Asker, NotSaidYet, oldest_owed
from consistency.rows import Span

STILL_OWED: Final = "events of it may still be owed to a side: what is missing may be under way"
NOT_COPIED: Final = "not every event of it was owed to both sides: what one of them lacks may be right"
PATIENCE: Final = 5.0
"""Seconds for which an instance that has only just begun is waited for until it knows what it owes."""
_PAUSE: Final = wait_fixed(0.1)


class Doubts:
    """What speaks against holding a mismatch against a side.

    admin: of the instance, None where none runs; was_copied: whether every event of a span was owed to both sides; now:
    the clock, nanoseconds since the epoch
    """

    def __init__(
        self, admin: Asker | None, routes: Sequence[str], was_copied: Callable[[Span], bool], now: Callable[[], int]
    ) -> None:
        self._admin = admin
        self._routes = routes
        self._was_copied = was_copied
        self._now = now
        self._oldest: list[int] = []
        """What was the oldest event that was owed, whenever it was looked."""

    async def look(self) -> None:
        """Ask what is owed: before a store is read, as it may be delivered meanwhile. Raises RecordsUnavailable."""
        if self._admin is not None:
            patiently = AsyncRetrying(
                retry=retry_if_exception_type(NotSaidYet), stop=stop_after_delay(PATIENCE), wait=_PAUSE, reraise=True
            )
            oldest: int | None = await patiently(self._oldest_now, self._admin)
            self._oldest += [] if oldest is None else [oldest]

    async def _oldest_now(self, admin: Asker) -> int | None:
        return await oldest_owed(admin, self._routes, self._now())

    async def about(self, span: Span) -> str:
        """Why a mismatch in a span may be none; empty when nothing speaks for that. Raises RecordsUnavailable."""
        if not self._was_copied(span):
            return NOT_COPIED
        await self.look()
        is_owed = any(oldest < span.end + LEAST_DELAY for oldest in self._oldest)
        self._oldest = self._oldest and [min(self._oldest)]
        return STILL_OWED if is_owed else ""
