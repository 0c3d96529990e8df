"""One window judged: both stores read, compared with the record, and whatever looks wrong read again until it is sure.

    read the span at both stores, then what is on record of it --> holdings --> findings
    suspects: read again by key, at once and three times with a back-off --> those that are still wrong are persistent

What has been there for long is read again once, without waiting for it to become visible.

What is too much for memory is judged in parts (`consistency.parts`), one after another.

A suspect that is right at a later reading was late in becoming visible. Every identity belongs to the one window that
its home time says (the ledger's, else old's, else new's) and is counted there alone. Rows of it that lie in other
windows are strays: that window is to be judged with them, once more if it was judged already. A store or ledger that
cannot say makes the whole window inconclusive: nothing of it is counted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeVar, cast

from config.consistency import MEMORY
from consistency.classes import Class
from consistency.compare import Counts, Finding, Holding, Judge
from consistency.documents import taken_apart
from consistency.identity import PROBE
from consistency.parts import NoRoom, Part, Parts
from consistency.recorded import Recorded, Records, RecordsUnavailable
from consistency.rows import Key, Row, Span
from consistency.rules import Incomparable
from consistency.shown import KEPT, short, small
from consistency.stores.errors import StoreError
from consistency.stores.protocol import Store
from proxy.core.event import NEW, OLD

log = logging.getLogger(__name__)

BACK_OFF: Final = (1.0, 2.0, 4.0)
"""Seconds before each reading of suspects."""
YOUNG: Final = 600 * 1_000_000_000
"""Nanoseconds after its rows were on their way into the stores in which something may yet become visible."""
BATCH: Final = 500
"""Keys of one question to a store."""
MOST_FINDINGS: Final = 50_000
"""Findings of a class that are listed of one window; all are counted."""
BREATH: Final = 2000
"""Identities that are compared before others get their turn."""
AS_IT_SHOULD_BE: Final = frozenset({Class.EQUAL, Class.TOLERATED, Class.REDELIVERED, Class.ONE_SIDED})
"""What a suspect turns into that was only late."""
UNTOLD: Final = AS_IT_SHOULD_BE | {Class.LATE, Class.PENDING, Class.FOREIGN}
"""What is counted and not listed one by one."""

Sleep = Callable[[float], Awaitable[None]]
_Said = TypeVar("_Said")


class Stray(NamedTuple):
    """A row that lies in one window and belongs to another one: a copy that came later, a store with times of its own.

    home: event time that says to which window it belongs; key: under which that one has to read it
    """

    home: int
    key: Key


@dataclass
class Judged:
    """A window and what was found in it.

    findings: mismatches, and what the ledger explains (dead, refused, ...), in order of time, at most MOST_FINDINGS
    of a class, with values as reports show them; counts: over all; strays: rows of other windows, which these
    cannot know by themselves; inconclusive: why nothing can be said, or empty; then nothing is counted; latest:
    seconds after the first reading at which something late was seen, 0 when nothing was late; against_new: findings
    that count against new, also those that are not listed
    """

    window: Span
    counts: Counts = field(default_factory=Counts)
    findings: list[Finding] = field(default_factory=list)
    strays: list[Stray] = field(default_factory=list)
    inconclusive: str = ""
    latest: float = 0.0
    against_new: int = 0

    @property
    def is_pending(self) -> bool:
        """Something in it is still owed to a side: it is not to be judged yet."""
        return self.counts.classes[Class.PENDING] > 0

    @property
    def unlisted(self) -> int:
        """Findings that are counted and not listed."""
        return sum(number for kind, number in self.counts.classes.items() if kind not in UNTOLD) - len(self.findings)

    def shorten(self) -> None:
        """Findings in order of time; of a class that has too many, those of the earliest events."""
        self.findings.sort(key=lambda finding: finding.key.at)
        listed: Counter[Class] = Counter()
        few = []
        for finding in self.findings:
            listed[finding.kind] += 1
            if listed[finding.kind] <= MOST_FINDINGS:
                few.append(finding)
        self.findings = few


class _BackOff:
    """Waits between readings of suspects. What one part of a window has waited for, the others need not: their rows
    were read as long ago.
    """

    def __init__(self, pauses: Sequence[float], sleep: Sleep) -> None:
        self._left = list(pauses)
        self._sleep = sleep
        self.slept = 0.0
        """Seconds since the window was read, but for the time that reading takes."""

    async def wait(self) -> bool:
        """Whether there is another reading; when it is due."""
        if not self._left:
            return False
        pause = self._left.pop(0)
        await self._sleep(pause)
        self.slept += pause
        return True


class Checker:
    """Judges windows of two stores.

    documents: fields that hold JSON as text; is_inside: whether a time lies in any window that is judged; memory: bytes
    that a window may take, beyond which it is judged in parts; back_off: seconds before each further reading of
    suspects; wall: the clock, nanoseconds since the epoch
    """

    def __init__(
        self,
        old: Store,
        new: Store,
        records: Records,
        judge: Judge,
        *,
        documents: Sequence[str] = (),
        is_inside: Callable[[int], bool] = lambda _: True,
        memory: int = MEMORY,
        back_off: Sequence[float] = BACK_OFF,
        sleep: Sleep = asyncio.sleep,
        wall: Callable[[], int] = time.time_ns,
    ) -> None:
        self._old = old
        self._new = new
        self._records = records
        self._judge = judge
        self._documents = tuple(documents)
        self._is_inside = is_inside
        self._memory = memory
        self._back_off = tuple(back_off)
        self._sleep = sleep
        self._wall = wall
        self.unseen = set(documents)
        """Fields with documents that no row had so far: mistyped, or not among the columns."""
        self._outsiders: dict[str, int] = {}
        """Identities whose home nobody judges, and the window that took them in."""

    @property
    def precision(self) -> int:
        """Nanoseconds: the coarser precision of both stores."""
        return self._judge.precision

    async def judge(
        self,
        window: Span,
        strays: Collection[Key] = (),
        series: frozenset[str] | None = None,
        *,
        expected: int | None = None,
    ) -> Judged:
        """Read, compare, read suspects again. Never raises for what a store, the ledger or an event holds.

        strays: of this window, as judging others found them: these are read by their keys from the beginning; series:
        to read, None for all; expected: from when on all rows of it were on their way, its end without one
        """
        try:
            return await self._judged(window, strays, series, window.end if expected is None else expected)
        except (StoreError, RecordsUnavailable, Incomparable, NoRoom) as error:
            return Judged(window, inconclusive=str(error))
        except Exception as error:
            log.exception("a window could not be judged")
            return Judged(window, inconclusive=f"{type(error).__name__}: {error}")

    async def _judged(
        self, window: Span, strays: Collection[Key], series: frozenset[str] | None, expected: int
    ) -> Judged:
        judged = Judged(window)
        is_young = self._wall() - expected < YOUNG
        back_off = _BackOff(self._back_off if is_young else (), self._sleep)
        # Half of the memory is for rows, half for what is found in them and read again.
        with closing(Parts(self._judge.place, self._memory // 2)) as parts:
            await _both(_read(self._old, OLD, parts, window, series), _read(self._new, NEW, parts, window, series))
            for part in parts:
                own = [key for key in strays if part.has(self._judge.place(key))]
                await self._judge_part(part, own, judged, back_off, is_young=is_young)
                judged.shorten()
        return judged

    async def _judge_part(
        self, part: Part, strays: list[Key], judged: Judged, back_off: _BackOff, *, is_young: bool
    ) -> None:
        window = judged.window
        holdings = self._holdings(part.old, part.new)
        self._judge.record(holdings, await self._recorded(part, window, [each.key for each in holdings.values()]))
        holdings |= await self._read_again(strays)
        findings: dict[str, Finding] = {}
        for number, (name, holding) in enumerate(holdings.items(), 1):
            if PROBE in name:
                pass
            elif self._is_at_home(name, holding, window):
                findings[name] = self._judge.finding(holding)
            else:
                judged.strays.append(Stray(holding.home, holding.key))
            if not number % BREATH:
                await asyncio.sleep(0)
        holdings.clear()  # what is read again takes the place of all this
        part.old.clear()
        part.new.clear()
        missing = {name for name, finding in findings.items() if finding.kind in (Class.LOST, Class.UNRECORDED)}
        is_first = True
        while suspects := {name: each.key for name, each in findings.items() if _is_suspect(each, is_young=is_young)}:
            if not is_first and not await back_off.wait():
                break
            is_first = False
            again = await self._read_again(list(suspects.values()))
            for name in suspects:
                self._look_again(name, again.get(name), findings, missing, judged)
            if any(name in missing and _is_well(findings.get(name)) for name in suspects):
                judged.latest = max(judged.latest, back_off.slept)
        _tell(judged, findings, missing)

    async def _recorded(self, part: Part, window: Span, keys: Sequence[Key]) -> list[Recorded]:
        """What is on record of a part of a window."""
        if part.is_all:
            return await self._records.about(window, keys)
        place = self._judge.place
        recorded = await self._records.about(window, keys, lambda key: part.has(place(key)))
        return [each for each in recorded if part.has(place(Key(each.identity, each.at)))]

    def _look_again(
        self, name: str, holding: Holding | None, findings: dict[str, Finding], missing: set[str], judged: Judged
    ) -> None:
        """A suspect after another reading. None: it is nowhere any more."""
        if holding is None:
            del findings[name]
        elif not self._is_at_home(name, holding, judged.window):
            del findings[name]
            judged.strays.append(Stray(holding.home, holding.key))
        else:
            findings[name] = self._judge.finding(holding)
            if not all(judged.window.start <= row.at < judged.window.end for row in holding.old + holding.new):
                missing.discard(name)  # it was there all the time, under a time of another window

    def _is_at_home(self, name: str, holding: Holding, window: Span) -> bool:
        """Whether this window counts it. Whose home is none that is judged, the first window counts that finds it."""
        home = holding.home
        if window.start <= home < window.end:
            return True
        return not self._is_inside(home) and self._outsiders.setdefault(name, window.start) == window.start

    def _holdings(self, old: list[Row], new: list[Row]) -> dict[str, Holding]:
        if self._documents:
            if self.unseen:
                self.unseen -= {name for row in (*old, *new) for name in self.unseen if name in row.fields}
            old, new = taken_apart(old, self._documents), taken_apart(new, self._documents)
        return self._judge.holdings(old, new, ())

    async def _read_again(self, keys: list[Key]) -> dict[str, Holding]:
        """Everything that is under these keys now, in the stores and, after that, on record."""
        found: dict[str, Holding] = {}
        step = self._judge.precision
        for start in range(0, len(keys), BATCH):
            batch = keys[start : start + BATCH]
            some = self._holdings(*await _both(self._old.fetch(batch, step), self._new.fetch(batch, step)))
            self._judge.record(some, await self._records.again(batch))
            found |= some
        return found


async def _read(store: Store, side: int, parts: Parts, window: Span, series: frozenset[str] | None) -> None:
    async for chunk in store.rows(window, series):
        parts.add(side, chunk)


async def _both(old: Coroutine[Any, Any, _Said], new: Coroutine[Any, Any, _Said]) -> tuple[_Said, _Said]:
    """Both stores at once. Raises the first error when both have ended: a store is used by one task at a time."""
    said = await asyncio.gather(old, new, return_exceptions=True)
    for each in said:
        if isinstance(each, BaseException):
            raise each
    return cast("tuple[_Said, _Said]", tuple(said))


def _is_well(finding: Finding | None) -> bool:
    return finding is not None and finding.kind in AS_IT_SHOULD_BE


def _is_suspect(finding: Finding, *, is_young: bool) -> bool:
    """What is read again. A row of a moment ago may have its receipt a moment later."""
    return finding.is_mismatch or (is_young and finding.kind is Class.FOREIGN)


def _tell(judged: Judged, findings: dict[str, Finding], missing: set[str]) -> None:
    """Count and list what was found. missing: names of which a side had nothing at the first reading."""
    for name, finding in findings.items():
        is_late = name in missing and _is_well(finding)
        told = finding._replace(kind=Class.LATE) if is_late else finding
        judged.counts.add(told)
        if told.kind not in UNTOLD:
            judged.against_new += told.is_against_new
            is_one_of_few = judged.counts.classes[told.kind] <= KEPT
            judged.findings.append(short(told) if is_one_of_few else small(told))
