"""One check on demand: a span of event time, window by window, perhaps with a repair of what is missing."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from contextlib import AsyncExitStack
from functools import reduce
from pathlib import Path
from typing import Final, NamedTuple

from config.consistency import Check
from config.model import Settings
from config.stores import FilesStore
from consistency.admin import Admin, socket_of
from consistency.assembly import both_stores, checker_of, identify_of, judge_of, naming_of
from consistency.classes import Class
from consistency.coarse import READ_ALL, Coarse, Plan, is_possible
from consistency.compare import Finding
from consistency.doubts import Doubts
from consistency.grid import Grid
from consistency.judge import BACK_OFF, Checker, Judged
from consistency.ledger import MOST_DELAY, LedgerRecords
from consistency.live.journal import journal_of
from consistency.live.recorded import NothingRecorded, copied_by
from consistency.recorded import NoRecords, Records, RecordsUnavailable
from consistency.repair import NOTHING, Repair, Repaired
from consistency.report import BY_SUMS, Report
from consistency.rows import Key, Span
from consistency.rules import Incomparable, Rules
from consistency.stores.errors import StoreError
from consistency.stores.protocol import Store

THREE_WAY: Final = "three-way"
Progress = Callable[[int, int, Report], None]
"""Called after each window: how many are done, of how many, what was found so far."""


class Verification(NamedTuple):
    """What came of it. rules: those that were used, which know what matched none; repair: None without one."""

    report: Report
    rules: Rules
    repair: Repaired | None


class WhatToVerify(NamedTuple):
    """span: event time; is_full: read every row, whatever sums over many of them say; is_repairing, is_dry: write what
    is missing, or count what would be written; is_two_way: do so also without the ledger, which alone knows what a side
    is owed; wanted: findings to tell.
    """

    span: Span
    is_full: bool = False
    is_repairing: bool = False
    is_dry: bool = False
    is_two_way: bool = False
    wanted: Callable[[Finding], bool] = lambda _: True


class NotWithoutLedger(Exception):
    """A repair was asked for, and nobody can say what each side is owed."""


async def verify(
    settings: Settings,
    check: Check,
    what: WhatToVerify,
    *,
    progress: Progress = lambda *_: None,
    back_off: tuple[float, ...] = BACK_OFF,
) -> Verification:
    """Open both stores, and the record if an instance runs, and judge every window of the span.

    A store that cannot be opened or asked makes its windows inconclusive; nothing is raised for that. Raises
    NotWithoutLedger.
    """
    rules = Rules(check.rules, only_new=check.only_new)
    async with AsyncExitStack() as stack:
        records, said = await records_of(settings, check, what.span, stack)
        if what.is_repairing and not what.is_two_way and said != THREE_WAY:
            raise NotWithoutLedger(said)
        report = Report(check.routes, what.span, said, what.wanted)
        try:
            doubts = await _doubts_of(settings, check, stack) if not what.is_two_way else None
            stores = await both_stores(check, stack)
        except (StoreError, RecordsUnavailable, NothingRecorded) as error:
            report.fail_to_read(what.span, str(error))
            return Verification(report, rules, None)
        if _are_files(check) and isinstance(records, NoRecords) and not (what.is_repairing or what.is_full):
            report.depth = BY_SUMS
            await _as_a_whole(check, rules, stores, report, doubts)
            return Verification(report, rules, None)
        grid = Grid(what.span, round(check.window * 1e9), naming_of(*stores).precision)
        checker = checker_of(
            check, rules, stores, records, is_inside=lambda at: grid.of(at) is not None, back_off=back_off
        )
        coarse = None
        if isinstance(records, NoRecords) and not what.is_full and is_possible(check, *stores):
            coarse, report.depth = Coarse(check, *stores, grid.size, what.span.end), BY_SUMS
        repair = Repair(*stores, is_dry=what.is_dry) if what.is_repairing else None
        one_window = OneWindow(checker, repair, coarse, doubts)
        await all_windows(grid, one_window, report, progress)
        report.unseen, report.timeless = checker.unseen, records.timeless
        report.broken_repair, report.unlisted = one_window.broken, one_window.unlisted
        return Verification(report, rules, one_window.repaired if what.is_repairing else None)


def _are_files(check: Check) -> bool:
    """Whether both stores are, and may be compared in bulk: patterns are asked of equal values as well, at which nobody
    looks there, and rows are found by what names them.
    """
    are_files = all(isinstance(each.settings, FilesStore) for each in (check.old, check.new))
    return are_files and check.identity != "content" and all(rule.compare != "regex" for rule in check.rules)


async def _as_a_whole(
    check: Check, rules: Rules, stores: tuple[Store, Store], report: Report, doubts: Doubts | None
) -> None:
    """The span of a report is one window."""
    from consistency.bulk import Bulk, in_bulk, tables_of  # nobody else waits for its engine to load

    tables = tables_of(*stores)
    judge = judge_of(check, rules, stores, NoRecords())
    bulk = Bulk(check, *tables, judge, report.span, memory=f"{check.memory}B")
    try:
        compared = await in_bulk(bulk, rules)
        report.add(await _believed(Judged(report.span, compared.counts, compared.findings), doubts))
    except (StoreError, Incomparable) as error:
        report.fail_to_read(report.span, str(error))
    finally:
        bulk.close()
    report.unseen = set(check.json_fields).difference(*(table.columns for table in tables))


async def all_windows(grid: Grid, one_window: OneWindow, report: Report, progress: Progress) -> None:
    """Judge each one, and those once more for which others found strays when they were judged already."""
    strays: dict[Span, set[Key]] = {}
    again: set[Span] = set()
    latest = None

    async def judge(window: Span) -> None:
        judged = await one_window.judge(window, strays.get(window, ()))
        report.add(judged)
        for stray in judged.strays:
            home = grid.of(stray.home)
            if home is not None and stray.key not in (keys := strays.setdefault(home, set())):
                keys.add(stray.key)
                if latest is None or home <= latest:
                    again.add(home)

    for number, window in enumerate(grid.windows(), 1):
        latest = window
        await judge(window)
        progress(number, len(grid), report)
    while again:
        due, again = sorted(again), set()
        for window in due:
            await judge(window)
    progress(len(grid), len(grid), report)


class OneWindow:
    """Judges a window, and once more after a repair of what it found missing. coarse: says what need not be read;
    doubts: make a window with mismatches inconclusive.
    """

    def __init__(
        self, checker: Checker, repair: Repair | None, coarse: Coarse | None = None, doubts: Doubts | None = None
    ) -> None:
        self._checker = checker
        self._doubts = doubts
        self._coarse = coarse
        self._repair = repair
        self._repaired: dict[int, Repaired] = {}
        self.broken = ""
        """Why the repair broke off; what was found is told all the same."""
        self._repairs = repair is not None
        self._unlisted: dict[int, int] = {}
        """By start of a window, as it is in the end."""

    @property
    def repaired(self) -> Repaired:
        """The sum over all windows."""
        return reduce(Repaired.plus, self._repaired.values(), NOTHING)

    async def judge(self, window: Span, strays: Collection[Key]) -> Judged:
        """As it is in the end."""
        try:
            plan = await self._coarse.plan(window) if self._coarse is not None else READ_ALL
        except StoreError as error:
            return Judged(window, inconclusive=str(error))
        judged = await self._look(window, strays, plan)
        while self._repair is not None and not judged.inconclusive:
            before = judged.unlisted
            if not await self._mend(judged, self._repair):
                break
            judged = await self._look(window, strays, plan)
            if not judged.unlisted < before:  # what was not listed is mended now; unless nothing helps
                break
        if self._repairs and not judged.inconclusive:
            self._unlisted[window.start] = judged.unlisted
        return judged

    @property
    def unlisted(self) -> int:
        """Findings that a repair did not look at, for there are so many in one window."""
        return sum(self._unlisted.values())

    async def _mend(self, judged: Judged, repair: Repair) -> bool:
        """Whether anything was written."""
        try:
            done = await repair.mend(judged.findings)
        except StoreError as error:
            self.broken = str(error)
            self._repair = None
            return False
        start = judged.window.start
        before = self._repaired.get(start, NOTHING)
        # What was written stays written when a window is judged again; what would be, and what nobody has, is anew.
        self._repaired[start] = done if repair.is_dry else Repaired(before.plus(done).written, done.nowhere)
        return not repair.is_dry and any(done.written.values())

    async def _look(self, window: Span, strays: Collection[Key], plan: Plan) -> Judged:
        if not plan.series and plan.series is not None and not strays:
            judged = Judged(window)
        else:
            judged = await self._checker.judge(window, strays, plan.series)
        if not judged.inconclusive:
            judged.counts.classes[Class.EQUAL] += plan.equal
        return await _believed(judged, self._doubts)


async def _believed(judged: Judged, doubts: Doubts | None) -> Judged:
    """What was found, if nothing speaks for its mismatches being none."""
    if doubts is None or not judged.counts.mismatches:
        return judged
    try:
        reason = await doubts.about(judged.window)
    except RecordsUnavailable as error:
        reason = str(error)
    return Judged(judged.window, inconclusive=reason) if reason else judged


async def _doubts_of(settings: Settings, check: Check, stack: AsyncExitStack) -> Doubts | None:
    """None where the ledger can name what the stores hold. Raises RecordsUnavailable and NothingRecorded."""
    if not check.is_two_way:
        return None
    admin = Admin(socket_of(settings))
    asker = await stack.enter_async_context(admin) if admin.is_there() else None
    was_copied = copied_by(journal_of(Path(settings.state_dir) / "checker", check))
    doubts = Doubts(asker, check.routes, was_copied, time.time_ns)
    await doubts.look()
    return doubts


async def records_of(settings: Settings, check: Check, span: Span, stack: AsyncExitStack) -> tuple[Records, str]:
    """The record, and how it is said in the report."""
    if check.is_two_way:
        return NoRecords(), f"two-way: the ledger cannot name what these stores hold (identity: {check.identity})"
    admin = Admin(socket_of(settings))
    if not admin.is_there():
        return NoRecords(), "two-way: no instance is running"
    await stack.enter_async_context(admin)
    # An event is accepted after its own time, if its clock is right; one with a clock that is ahead by a day is found.
    records = LedgerRecords(admin, check.routes, identify_of(check), since=max(0, span.start - MOST_DELAY))
    stack.callback(records.close)
    return records, THREE_WAY
