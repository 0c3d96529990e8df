"""How long a store takes to show what its backend has acknowledged, which says when a window may be judged.

A few of the newest events are looked for in each store until they are there. An event counts from the look after its
acknowledgement, so times are as fine as looks are frequent.
"""

from __future__ import annotations

from typing import Final

from consistency.ledger import LedgerRecords
from consistency.rows import Key
from consistency.stores.protocol import Store
from consistency.windows import MOST_SETTLE, Settle
from proxy.core.event import SIDES

FEW: Final = 20
"""Events that are looked for in a store at a time."""


class Visibility:
    """Of both stores of a check. It outlives their connections."""

    def __init__(self) -> None:
        self._settle = (Settle(), Settle())
        self._wanted: tuple[dict[Key, int], dict[Key, int]] = ({}, {})
        """By side: what is looked for, and since when."""
        self._after = 0

    @property
    def settle(self) -> int:
        """Nanoseconds from a window's end until it is due: the slower store's."""
        return max(each.time for each in self._settle)

    @property
    def seconds(self) -> dict[str, float]:
        """By side, until 99 % of events were visible, as far as it is known."""
        found = {name: each.visible for name, each in zip(SIDES, self._settle, strict=True)}
        return {name: round(seconds, 3) for name, seconds in found.items() if seconds is not None}

    async def look(self, stores: tuple[Store, Store], records: LedgerRecords, now: int, step: int) -> None:
        """Look for what is wanted, and want some of what is new. now: nanoseconds; step: see `Store.fetch`. Raises
        StoreError.
        """
        for each in records.newest(FEW, self._after):
            self._after = max(self._after, each.seq)
            for side, wanted in enumerate(self._wanted):
                if each.delivered[side] and len(wanted) < FEW:
                    wanted[each.key] = now
        for store, wanted, settle in zip(stores, self._wanted, self._settle, strict=True):
            if not wanted:
                continue
            there = {row.identity for row in await store.fetch(list(wanted), step)}
            for key, since in list(wanted.items()):
                if key.identity in there:
                    settle.saw(now - since)
                if key.identity in there or now - since >= MOST_SETTLE:
                    del wanted[key]  # what never comes is lost, and says nothing of when others do
