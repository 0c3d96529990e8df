"""One live check: judges each window of a route's stores as it settles, for as long as the instance runs.

    receipts come in --> windows of their time are due, or due once more
    every second: due, and nothing pending in it --> read, compare, read suspects again --> journal --> stats

A store or a ledger that does not answer holds its windows up and loses none: they are judged when it is back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, NoReturn

import apsw

from config.consistency import Check
from consistency.assembly import both_stores, checker_of, identify_of
from consistency.judge import BACK_OFF, Checker, Judged, Sleep
from consistency.ledger import LEAST_DELAY, Asker, LedgerRecords
from consistency.live.backlog import Backlog
from consistency.live.journal import Journal
from consistency.live.visibility import Visibility
from consistency.recorded import NoRecords, RecordsUnavailable
from consistency.rows import Span
from consistency.rules import Rules
from consistency.stores.errors import StoreError
from consistency.stores.protocol import Store
from proxy.core.checked import CheckStats
from proxy.core.routing import COPY_DURABLE, Routing

log = logging.getLogger(__name__)

SECOND: Final = 1_000_000_000
ROUND: Final = 1.0
"""Seconds between two looks for windows that are due."""
HORIZON: Final = 24 * 3600 * SECOND
"""Nanoseconds after its end in which an event can have a window judged once more."""
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
"""Seconds until what could not be read is tried again, doubled with each time."""
EARLIER: Final = 2 * LEAST_DELAY
"""Nanoseconds before the first window from which receipts are read: what was under way when it began is known."""
START: Final = 10 * SECOND
"""Nanoseconds in which an instance that does not answer yet is no news."""
OWED_FOR: Final = 5 * SECOND
"""Nanoseconds for which a window in which something was owed is not looked at again."""
PRUNE_EVERY: Final = 60 * SECOND
ENOUGH_COMPARED: Final = 1000
"""Events after which a rule that matched none of them is told."""
TWO_WAY: Final = "two-way: the ledger cannot name what these stores hold (identity: {})"


class LiveCheck:
    """One check of the configuration. file: of its journal; begin: from when on events would be on record, now without
    one; wall: the clock. Both are nanoseconds since the epoch. A new journal judges from the next whole second on, for
    stores may keep no more of a time.

    `run` never ends by itself; `stats` and `on_routing` may be called at any time.
    """

    def __init__(
        self,
        check: Check,
        admin: Asker,
        file: Path,
        *,
        begin: int | None = None,
        wall: Callable[[], int] = time.time_ns,
        sleep: Sleep = asyncio.sleep,
        back_off: tuple[float, ...] = BACK_OFF,
    ) -> None:
        self._check = check
        self._admin = admin
        self._file = file
        self._wall = wall
        self._sleep = sleep
        self._back_off = back_off
        self._rules = Rules(check.rules, only_new=check.only_new)
        self._visibility = Visibility()
        self._backlog = Backlog(admin, check.routes)
        self._epoch = 0
        self._routing: Routing | None = None
        self._pending = self._late = self._compared = 0
        self._trouble = ""
        self._began = wall()
        self._begin = self._began if begin is None else begin
        self._pauses: dict[int, tuple[int, int]] = {}
        """By window that could not be judged: when to try again, and how long to wait after that; nanoseconds."""
        self._owed_until: dict[int, int] = {}
        """By window in which something is owed, or was: when to look again."""
        self._pruned = 0
        self._journal = self._opened_journal()

    # --- what others see and say ---------------------------------------------------------------------------

    def stats(self) -> CheckStats:
        """The present figures."""
        state = self._journal.state
        return CheckStats(
            routes=list(self._check.routes),
            epoch=self._epoch,
            record=TWO_WAY.format(self._check.identity) if self._is_two_way else "three-way",
            judged_until=min(state.cursor, self._wall()),
            settle=self._visibility.settle / SECOND,
            pending=self._pending,
            late=self._late,
            trouble=self._trouble,
            classes=dict(state.totals),
            checked=state.checked,
            judged=state.judged,
            trial=state.trial,
            visible=self._visibility.seconds,
            unused_rules=[str(rule) for rule in self._rules.unused] if self._compared >= ENOUGH_COMPARED else [],
        )

    def on_routing(self, routing: Routing) -> None:
        """The live routing is this from now on."""
        self._routing = routing
        dials = {name: routing.routes[name] for name in self._check.routes if name in routing.routes}
        weights = {name: each.weight for name, each in dials.items()}
        state = self._journal.state
        try:
            if state.trial.weights != weights:
                self._journal.begin_trial(routing.epoch, weights)
            is_copied = all(each.copy == COPY_DURABLE for each in dials.values())
            self._journal.note_copy(is_copied, routing.epoch, self._wall())
        except apsw.Error as error:
            log.error("what the routing is could not be kept: %s", error, extra={"file": str(self._file)})
            return  # the epoch stays behind, so nobody takes these figures for the new weight's; the next round tries
        self._epoch = routing.epoch

    @property
    def _is_two_way(self) -> bool:
        return self._check.is_two_way

    # --- life ----------------------------------------------------------------------------------------------

    async def run(self) -> NoReturn:
        """Judge what is due, for ever."""
        pause = FIRST_PAUSE
        while True:
            try:
                async with AsyncExitStack() as stack:
                    work = await self._opened(stack)
                    while True:
                        await self._round(*work)
                        pause = FIRST_PAUSE
                        await self._sleep(ROUND)
            except RecordsUnavailable as error:
                if self._wall() - self._began >= START:  # all processes are born together
                    self._say(str(error))
                self._late = len(self._due(self._wall())) - self._pending
            except StoreError as error:
                self._say(str(error))
                self._late = len(self._due(self._wall())) - self._pending
            except apsw.Error as error:
                self._say(f"{self._file}: {error}")
                self._journal.close()
                self._journal = self._opened_journal()
            await self._sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def close(self) -> None:
        """Close the journal; a window that was being judged begins anew."""
        self._journal.close()

    def _opened_journal(self) -> Journal:
        size, now = round(self._check.window * 1e9), self._wall()
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            return Journal(self._file, size=size, begin=_whole_second(self._begin), horizon=HORIZON)
        except (apsw.NotADBError, apsw.CorruptError) as error:
            aside = self._file.with_suffix(f".damaged-{now}")
            log.error("the journal is damaged (%s): begun anew, the old one is kept as %s", error, aside)
            self._file.rename(aside)
            return Journal(self._file, size=size, begin=_whole_second(now), horizon=HORIZON)

    async def _opened(self, stack: AsyncExitStack) -> tuple[tuple[Store, Store], Checker, LedgerRecords | Backlog]:
        if self._is_two_way:
            stores = await both_stores(self._check, stack)
            return stores, self._checker(stores, NoRecords()), self._backlog
        journal = self._journal
        records = LedgerRecords(
            self._admin,
            self._check.routes,
            identify_of(self._check),
            since=journal.windows.begin - EARLIER,
            foreign_from=journal.windows.begin,
            db=journal.db,
            on_receipts=self._note,
        )
        await records.refresh()  # before a store is asked: while one is away the ledger drops what is settled
        stores = await both_stores(self._check, stack)
        return stores, self._checker(stores, records), records

    def _checker(self, stores: tuple[Store, Store], records: LedgerRecords | NoRecords) -> Checker:
        begin = self._journal.windows.begin
        return checker_of(
            self._check,
            self._rules,
            stores,
            records,
            is_inside=lambda at: at >= begin,
            back_off=self._back_off,
            sleep=self._sleep,
            wall=self._wall,
        )

    def _note(self, at: Sequence[int]) -> None:
        self._journal.note(at, self._wall())

    def _say(self, trouble: str) -> None:
        """Log what is wrong when it is news."""
        if trouble and trouble != self._trouble:
            log.warning("%s", trouble, extra={"routes": ",".join(self._check.routes)})
        self._trouble = trouble

    # --- judging -------------------------------------------------------------------------------------------

    async def _round(self, stores: tuple[Store, Store], checker: Checker, source: LedgerRecords | Backlog) -> None:
        """Judge all windows that are due."""
        now = self._wall()
        if self._routing is not None and self._routing.epoch != self._epoch:
            self.on_routing(self._routing)
        if isinstance(source, Backlog):
            await source.look(now)
        else:
            await source.refresh()
            await source.look_at_deferred()
            await self._visibility.look(stores, source, now, checker.precision)
        pending = late = 0
        trouble = ""
        for window in self._due(now):
            if await self._is_pending(source, window, now):
                pending += 1
            elif self._is_to_wait(window, now) or trouble:
                late += 1
            else:
                trouble = await self._judge(checker, window)
                late += bool(trouble)
        self._pending, self._late = pending, late
        if trouble:
            for store in stores:
                await store.open()
        if trouble or not late:
            self._say(trouble)
        if now - self._pruned >= PRUNE_EVERY:
            self._pruned = now
            self._prune(source, now)

    def _due(self, now: int) -> list[Span]:
        return self._journal.windows.due(now, self._visibility.settle, lambda _: False)

    async def _is_pending(self, source: LedgerRecords | Backlog, window: Span, now: int) -> bool:
        """Whether something in it is owed to a side, or was until a moment ago. In an outage there are many windows,
        and nothing changes.
        """
        if now < self._owed_until.get(window.start, 0):
            return True
        if not await source.is_pending(window):
            now = self._wall()
            return now < self._journal.windows.looked_at(window, now) + self._visibility.settle
        self._owed_until[window.start] = now + OWED_FOR
        return True

    def _is_to_wait(self, window: Span, now: int) -> bool:
        return window.start in self._pauses and now < self._pauses[window.start][0]

    async def _judge(self, checker: Checker, window: Span) -> str:
        """Judge one window; why it could not be judged, or empty."""
        journal = self._journal
        if self._is_two_way and not journal.state.was_copied(window):
            journal.windows.take(window)
            self._keep(Judged(window))  # what a side lacks then, it was never owed
            return ""
        journal.windows.take(window)
        begun = self._wall()
        try:
            expected = max(journal.windows.expected(window, self._wall()), self._owed_until.get(window.start, 0))
            judged = await checker.judge(window, journal.strays(window), expected=expected)
            # What was acknowledged a moment ago, or while it was judged, may be there in a moment.
            settled_at = journal.windows.expected(window, self._wall()) + self._visibility.settle
            is_settled = settled_at <= begun
            if not judged.inconclusive and not judged.is_pending and (is_settled or not judged.counts.mismatches):
                self._keep(judged)
                return ""
        except BaseException:
            journal.windows.give_back(window)
            raise
        journal.windows.give_back(window)
        if judged.is_pending:
            self._owed_until[window.start] = self._wall() + OWED_FOR
            return ""
        if not judged.inconclusive:
            self._owed_until[window.start] = settled_at
            return ""
        _, pause = self._pauses.get(window.start, (0, round(FIRST_PAUSE * SECOND)))
        self._pauses[window.start] = self._wall() + pause, min(2 * pause, round(LONGEST_PAUSE * SECOND))
        return judged.inconclusive

    def _keep(self, judged: Judged) -> None:
        self._compared += judged.counts.settled
        self._journal.keep(judged, self._wall())
        self._pauses.pop(judged.window.start, None)
        self._owed_until.pop(judged.window.start, None)

    def _prune(self, source: LedgerRecords | Backlog, now: int) -> None:
        self._journal.prune(now)
        if isinstance(source, LedgerRecords):
            windows = self._journal.windows
            source.forget(min(windows.cursor, now - HORIZON, *windows.reopened))


def _whole_second(at: int) -> int:
    """The first one that is not before."""
    return -(-at // SECOND) * SECOND
