"""Who delivers what the ledger holds, as the book knows it."""

from __future__ import annotations

from typing import Protocol


class Observer(Protocol):
    """The replayer."""

    def has_more(self, route: str, side: int) -> None:
        """Rows after all earlier ones are on disk to be delivered."""

    def handed(self, route: str, side: int, seq: int, key: str) -> None:
        """This row, on disk already, is to be delivered now."""

    def parked(self, route: str, side: int, seq: int, key: str) -> None:
        """This row is its worker's, but what comes after it waits for it."""

    def settled(self, route: str, side: int, seq: int, key: str) -> None:
        """This side is settled, by whomever: do not deliver it."""

    def released(self, route: str, side: int, seq: int, key: str) -> None:
        """This side waited for its authority's 2xx, which came."""

    def answered(self, route: str, side: int, n: int) -> None:
        """So many live events were delivered to this side, or refused by it, by their workers."""

    def is_reading(self) -> bool:
        """Is anything being read from disk? Else nobody needs to hear who has left."""

    def left(self, route: str, side: int, seq: int) -> None:
        """This side is settled on disk; the book forgets it now. What was read of it before is stale."""
