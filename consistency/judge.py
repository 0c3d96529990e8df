"""One window judged: both stores read, compared with the record, and whatever looks wrong read again until it is sure.

    read the span at both stores and on record --> holdings --> findings
    suspects: read again by key, three times with a back-off --> those that are still wrong are persistent

A suspect that is right at a later reading was late in becoming visible. Reading by key finds a row also where its time
lies in another window; it then belongs to the window that its home time says, and is counted there alone. A store or
ledger that cannot say makes the whole window inconclusive: nothing of it is counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from consistency.classes import Class
from consistency.compare import Counts, Finding, Holding, Judge
from consistency.recorded import Recorded, Records, RecordsUnavailable
from consistency.rows import Key, Row, Span
from consistency.rules import Incomparable
from consistency.stores.errors import StoreError
from consistency.stores.protocol import Store

BACK_OFF: Final = (1.0, 2.0, 4.0)
"""Seconds before each reading of suspects."""
BATCH: Final = 500
"""Keys of one question to a store."""
AS_IT_SHOULD_BE: Final = frozenset({Class.EQUAL, Class.TOLERATED, Class.REDELIVERED, Class.ONE_SIDED})
"""What a suspect turns into that was only late."""
UNTOLD: Final = AS_IT_SHOULD_BE | {Class.LATE, Class.PENDING, Class.FOREIGN}
"""What is counted and not listed one by one."""

Sleep = Callable[[float], Awaitable[None]]


@dataclass
class Judged:
    """A window and what was found in it.

    findings: mismatches, and what the ledger explains (dead, refused, ...), in order of time; counts: over all;
    inconclusive: why nothing can be said, or empty; then nothing is counted
    """

    window: Span
    counts: Counts = field(default_factory=Counts)
    findings: list[Finding] = field(default_factory=list)
    inconclusive: str = ""

    @property
    def is_pending(self) -> bool:
        """Something in it is still owed to a side: it is not to be judged yet."""
        return self.counts.classes[Class.PENDING] > 0


class Checker:
    """Judges windows of one route's two stores. back_off: seconds before each further reading of suspects."""

    def __init__(
        self,
        old: Store,
        new: Store,
        records: Records,
        judge: Judge,
        *,
        back_off: Sequence[float] = BACK_OFF,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._old = old
        self._new = new
        self._records = records
        self._judge = judge
        self._back_off = tuple(back_off)
        self._sleep = sleep

    async def judge(self, window: Span) -> Judged:
        """Read, compare, read suspects again. Never raises for what a store or the ledger does."""
        try:
            return await self._judged(window)
        except (StoreError, RecordsUnavailable, Incomparable) as error:
            return Judged(window, inconclusive=str(error))

    async def _judged(self, window: Span) -> Judged:
        holdings = await self._read(window)
        await self._look_up(holdings)
        findings = {
            name: self._judge.finding(holding) for name, holding in holdings.items() if _is_at_home(holding, window)
        }
        missing = {name for name, finding in findings.items() if finding.kind in (Class.LOST, Class.UNRECORDED)}
        for pause in self._back_off:
            suspects = {name: finding.key for name, finding in findings.items() if finding.is_mismatch}
            if not suspects:
                break
            await self._sleep(pause)
            again = await self._read_again(list(suspects.values()))
            for name in suspects:
                holding = again.get(name)
                if holding is None or not _is_at_home(holding, window):
                    del findings[name]  # it is nowhere any more, or its rows are there and of another window
                else:
                    findings[name] = self._judge.finding(holding)
                    if not all(window.start <= row.at < window.end for row in holding.old + holding.new):
                        missing.discard(name)  # it was there all the time, under a time of another window
        return _told(window, findings, missing)

    async def _read(self, window: Span) -> dict[str, Holding]:
        old, new, recorded = await _together(
            _all(self._old, window), _all(self._new, window), self._records.within(window)
        )
        return self._judge.holdings(old, new, recorded)

    async def _look_up(self, holdings: dict[str, Holding]) -> None:
        """Rows without a record in this window may have one in another, where their event's own time lies."""
        unknown = [each.key for each in holdings.values() if each.recorded is None]
        for start in range(0, len(unknown), BATCH):
            self._judge.record(holdings, await self._records.find(unknown[start : start + BATCH]))

    async def _read_again(self, keys: list[Key]) -> dict[str, Holding]:
        found: dict[str, Holding] = {}
        for start in range(0, len(keys), BATCH):
            batch = keys[start : start + BATCH]
            old, new, recorded = await _together(
                self._old.fetch(batch), self._new.fetch(batch), self._records.find(batch)
            )
            found |= self._judge.holdings(old, new, recorded)
        return found


async def _all(store: Store, window: Span) -> list[Row]:
    return [row async for chunk in store.rows(window) for row in chunk]


async def _together(
    old: Coroutine[Any, Any, list[Row]],
    new: Coroutine[Any, Any, list[Row]],
    recorded: Coroutine[Any, Any, list[Recorded]],
) -> tuple[list[Row], list[Row], list[Recorded]]:
    """All three at once. Raises the first error when all have ended: a store is used by one task at a time."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = group.create_task(old), group.create_task(new), group.create_task(recorded)
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return tasks[0].result(), tasks[1].result(), tasks[2].result()


def _is_at_home(holding: Holding, window: Span) -> bool:
    return window.start <= holding.home < window.end


def _told(window: Span, findings: dict[str, Finding], missing: set[str]) -> Judged:
    """missing: names of which a side had nothing at the first reading."""
    judged = Judged(window)
    for name, finding in findings.items():
        is_late = name in missing and finding.kind in AS_IT_SHOULD_BE
        told = finding._replace(kind=Class.LATE) if is_late else finding
        judged.counts.add(told)
        if told.kind not in UNTOLD:
            judged.findings.append(told)
    judged.findings.sort(key=lambda finding: finding.key.at)
    return judged
