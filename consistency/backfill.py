"""Copies into one store what it lacks of the other one's history, window by window.

    rows of a window --> those whose name is not there --> not what the ledger will deliver --> written, at a rate
    after each window: cursor and counts in a file; the same command goes on from there

Nothing is overwritten, so a second run writes nothing. What the ledger still owes that side is left to it: it would
come twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, Literal

import msgspec
import tenacity
from xxhash import xxh64_hexdigest

from config.consistency import Check
from consistency.assembly import both_stores, naming_of
from consistency.classes import SideRecord
from consistency.grid import Grid
from consistency.identity import Naming
from consistency.judge import Sleep
from consistency.recorded import Records, RecordsUnavailable
from consistency.rows import Row, Span
from consistency.stores.errors import StoreError
from consistency.stores.protocol import Store
from proxy.core import owed
from proxy.core.event import NEW, OLD

BATCH: Final = 500
"""Rows that are looked for and written at a time, at most."""
LEAST_WINDOW: Final = 3600 * 1_000_000_000
"""Nanoseconds. A year has half a million minutes, and rows come in chunks whatever a window holds."""
TRIES: Final = 6
"""Of one window, when a store or the ledger does not answer; waits double from one second."""

SideName = Literal["old", "new"]
SIDE_OF: Final = {"old": OLD, "new": NEW}


def _may_come(side: SideRecord) -> bool:
    """Whether the ledger will deliver it, or would after a rollback or when a dead letter is requeued."""
    return side.is_deferred or side.unsettled in (owed.PENDING, owed.DEAD)


class Done(msgspec.Struct):
    """How far it is. cursor: start of the first window that is not done, nanoseconds; read, written: rows; waiting:
    rows that the ledger will deliver.
    """

    start: int
    end: int
    cursor: int
    read: int = 0
    written: int = 0
    waiting: int = 0
    stores: str = ""
    """Names the settings of both stores: a cursor of others says nothing."""


class Order(msgspec.Struct, frozen=True):
    """What to copy. rate: rows per second that are written, 0 for no bound; is_dry: count what would be written;
    least_window: nanoseconds, where windows of the check are shorter.
    """

    source: SideName
    target: SideName
    span: Span
    rate: float = 0.0
    is_dry: bool = False
    least_window: int = LEAST_WINDOW


class Outcome(msgspec.Struct):
    """resumed_at: where an earlier run had ended, None when there was none; error: why it is not at its end."""

    done: Done
    resumed_at: int | None
    error: str


class Backfill:
    """One run. file: of its cursor, written unless it is dry; progress: called after each window."""

    def __init__(
        self,
        check: Check,
        order: Order,
        records: Records,
        file: Path,
        *,
        progress: Callable[[int, int, Done], None] = lambda *_: None,
        sleep: Sleep = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._check = check
        self._stores = xxh64_hexdigest(f"{check.old!r} {check.new!r}".encode())
        self._order = order
        self._records = records
        self._file = file
        self._progress = progress
        self._sleep = sleep
        self._clock = clock

    async def run(self) -> Outcome:
        """Copy until the end, or until a store does not answer for long. Raises OSError for a file that cannot be
        written.
        """
        done, resumed_at = self._begun()
        try:
            async with AsyncExitStack() as stack:
                old, new = await both_stores(self._check, stack)
                source, target = (old, new) if self._order.source == "old" else (new, old)
                if not target.traits.is_writable:
                    return Outcome(done, resumed_at, f"store {target.name} cannot be written to")
                await self._copy(source, target, naming_of(old, new), done)
        except (StoreError, RecordsUnavailable) as error:
            return Outcome(done, resumed_at, str(error))
        if not self._order.is_dry:
            self._file.unlink(missing_ok=True)
        return Outcome(done, resumed_at, "")

    def _begun(self) -> tuple[Done, int | None]:
        """An earlier run that did not come to its end and reaches into the span, or a new one."""
        start, end = self._order.span
        if not self._order.is_dry:
            try:
                found = msgspec.json.decode(self._file.read_bytes(), type=Done)
            except (OSError, msgspec.DecodeError):
                found = None
            # A span that is said as `30d ago` begins a little later each time.
            if found is not None and found.stores == self._stores and found.start <= start <= found.cursor:
                found.end = end
                return found, found.cursor
        return Done(start, end, start, stores=self._stores), None

    async def _copy(self, source: Store, target: Store, naming: Naming, done: Done) -> None:
        size = max(round(self._check.window * 1e9), self._order.least_window)
        grid = Grid(self._order.span, size, naming.precision)
        again = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type((StoreError, RecordsUnavailable)),
            stop=tenacity.stop_after_attempt(TRIES),
            wait=tenacity.wait_exponential(min=1, max=30),
            sleep=self._sleep,
            reraise=True,
        )
        for number, window in enumerate(grid.windows(), 1):
            if window.end <= done.cursor:
                continue
            counts = (0, 0, 0)
            async for attempt in again:
                with attempt:
                    if attempt.retry_state.attempt_number > 1:
                        await source.open()
                        await target.open()
                    counts = await self._window(source, target, naming, window)
            read, written, waiting = counts
            done.read, done.written, done.waiting = done.read + read, done.written + written, done.waiting + waiting
            done.cursor = window.end
            self._keep(done)
            self._progress(number, len(grid), done)

    async def _window(self, source: Store, target: Store, naming: Naming, window: Span) -> tuple[int, int, int]:
        read = written = waiting = 0
        batch = BATCH if not self._order.rate else max(1, min(BATCH, round(self._order.rate)))
        async for chunk in source.rows(window):
            read += len(chunk)
            for start in range(0, len(chunk), batch):
                missing = await self._missing(target, naming, chunk[start : start + batch])
                owed_already = await self._waiting(missing)
                due = [row for row in missing if row.identity not in owed_already]
                waiting += len(missing) - len(due)
                began = self._clock()
                written += len(due) if self._order.is_dry else await target.write(due) if due else 0
                if self._order.rate and due and not self._order.is_dry:
                    await self._sleep(max(0.0, len(due) / self._order.rate - (self._clock() - began)))
        return read, written, waiting

    async def _missing(self, target: Store, naming: Naming, rows: list[Row]) -> list[Row]:
        """Those whose name is not there, once each."""
        there = {naming.name(row) for row in await target.fetch([row.key for row in rows], naming.precision)}
        return list({name: row for row in rows[::-1] if (name := naming.name(row)) not in there}.values())[::-1]

    async def _waiting(self, rows: list[Row]) -> set[str]:
        """Identities that the ledger will deliver to that side."""
        if not rows:
            return set()
        side = SIDE_OF[self._order.target]
        recorded = await self._records.again([row.key for row in rows])
        return {each.identity for each in recorded if _may_come(each.record.at(side))}

    def _keep(self, done: Done) -> None:
        if not self._order.is_dry:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            whole = self._file.with_suffix(".new")
            whole.write_bytes(msgspec.json.encode(done))
            whole.replace(self._file)
