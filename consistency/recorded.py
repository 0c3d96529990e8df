"""What the checker knows of the ledger: events by their identity, and of which times it would know them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from consistency.classes import Record
from consistency.rows import Key, Span


class Recorded(NamedTuple):
    """What the ledger says of one identity, over all events that bear it.

    identity: the text that both stores have for it
    record: at each side; at: the event's own time, nanoseconds since the epoch; ids: of the events that bear it
    """

    identity: str
    record: Record
    at: int
    ids: tuple[str, ...]


class Records(Protocol):
    """The third source: each identity once in an answer, with all events that bear it, as they are now. Asked after the
    stores, so that whatever is in a store has its record. Raises RecordsUnavailable.

    timeless: how many events had no time of their own that could be believed
    """

    timeless: int

    async def about(
        self, span: Span, keys: Sequence[Key], is_wanted: Callable[[Key], bool] = lambda _: True
    ) -> list[Recorded]:
        """Identities with an event whose time is in the span, and those of these keys that are on record.

        is_wanted: of an event in the span; more may be given than are wanted
        """

    async def again(self, keys: Sequence[Key]) -> list[Recorded]:
        """Those of these keys that are on record, with the state of each asked for anew: what was delivered may have
        been taken back, for the connection it went by was lost, or be replayed.
        """

    def covers(self, at: int) -> bool:
        """Whether an event of this time would be on record for sure, had it come by us."""


class RecordsUnavailable(Exception):
    """The ledger could not be asked; the text says why. The check is inconclusive for now."""


class NoRecords:
    """No ledger: what two stores say of each other, and no more."""

    timeless = 0

    async def about(
        self, span: Span, keys: Sequence[Key], is_wanted: Callable[[Key], bool] = lambda _: True
    ) -> list[Recorded]:
        """Nothing."""
        return []

    async def again(self, keys: Sequence[Key]) -> list[Recorded]:
        """Nothing."""
        return []

    def covers(self, at: int) -> bool:
        """Of no time."""
        return False
