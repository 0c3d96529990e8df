"""Writes what one store lacks and the other has, and looks whether it helped.

Only what is missing is written: a store never puts a row over another of its name, so a newer value stays, and a second
repair writes nothing. What both have and is different is left to a person: nobody here knows which one is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from consistency.classes import Class
from consistency.compare import Finding
from consistency.rows import Row
from consistency.stores.protocol import Store

BATCH: Final = 500
"""Rows read and written at a time."""
MENDABLE: Final = frozenset({Class.LOST, Class.UNRECORDED})


class Repaired(NamedTuple):
    """What became of a repair. written: rows, by side; nowhere: how many identities no store has, so that only a replay
    from the ledger can bring them back.
    """

    written: dict[str, int]
    nowhere: int

    def plus(self, other: Repaired) -> Repaired:
        """The sum of two."""
        return Repaired(
            {side: self.written[side] + other.written[side] for side in self.written}, self.nowhere + other.nowhere
        )


NOTHING: Final = Repaired({"old": 0, "new": 0}, 0)


class Repair:
    """Between a route's two stores. is_dry: count what would be written, and write nothing."""

    def __init__(self, old: Store, new: Store, *, is_dry: bool = False) -> None:
        self._stores = {"old": old, "new": new}
        self.is_dry = is_dry

    async def mend(self, findings: Sequence[Finding]) -> Repaired:
        """Write what is missing. Raises StoreError; what was written until then stays written."""
        written = {"old": 0, "new": 0}
        lost = [each for each in findings if each.kind in MENDABLE]
        nowhere = sum(len(each.by) == 2 for each in lost)
        for side, other in (("old", "new"), ("new", "old")):
            missing = [each.key for each in lost if each.by == (side,)]
            for start in range(0, len(missing), BATCH):
                batch = missing[start : start + BATCH]
                rows = await self._stores[other].fetch(batch)
                nowhere += len({key.identity for key in batch} - {row.identity for row in rows})
                written[side] += self._count(side, rows) if self.is_dry else await self._stores[side].write(rows)
        return Repaired(written, nowhere)

    def _count(self, side: str, rows: list[Row]) -> int:
        """How many would be written: of a name that stands there twice, one."""
        return len(rows) if self._stores[side].traits.is_keyed_by_time else len({row.identity for row in rows})
