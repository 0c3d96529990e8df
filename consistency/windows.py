"""Windows of event time: which are provisional, which are due, which were judged, and what a late event does.

    open --its end passes--> provisional --settled, nothing pending--> due --> judged --horizon passes--> closed
                                  ^                                               |
                                  +------------------late event-------------------+

A store shows its rows some time after they were acknowledged. So a window is settled that long after its end, and that
long after the last event of it was acknowledged.

Time is the wall clock's, never the newest event's: a source that sends nothing holds nothing up, and one whose clock
is ahead ends no window early. Nothing here reads a clock or a store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Final

from consistency.rows import Span
from proxy.core.sketch import Sketch

SECOND: Final = 1_000_000_000
LEAST_SETTLE: Final = 5 * SECOND
MOST_SETTLE: Final = 600 * SECOND
MOST_WAIT: Final = 60 * SECOND
"""How long acknowledgements of late events put off the first look at a window: without an end to that the whole check
would be as late as they are. What does not match so soon after one of them is held against nobody.
"""
ENOUGH: Final = 30
"""Measurements of visibility before they say more than the least settle."""
_KEPT: Final = 2000
"""Measurements after which the older half is forgotten."""


class WindowState(StrEnum):
    """Where a window stands at a moment."""

    OPEN = "open"
    PROVISIONAL = "provisional"
    DUE = "due"
    JUDGED = "judged"
    CLOSED = "closed"


class Settle:
    """How long after a window's end, or after what was acknowledged later, it is judged: twice the 99th percentile of
    the time until events were visible.

    So what is nearly always visible in time is no suspect, and a store that becomes slow is given more time. What never
    came is no measurement. Nanoseconds.
    """

    def __init__(self, least: int = LEAST_SETTLE, most: int = MOST_SETTLE) -> None:
        self._least = least
        self._most = most
        self._recent, self._before = Sketch(), Sketch()
        self._count = 0
        """Of the recent ones."""

    def saw(self, visible_after: int) -> None:
        """An event was visible in a store this long after it was accepted."""
        self._recent.add(max(visible_after, 1) / SECOND)
        self._count += 1
        if self._count == _KEPT:
            self._recent, self._before, self._count = Sketch(), self._recent, 0

    @property
    def visible(self) -> float | None:
        """Seconds until 99 % of events were visible; None before enough of them were seen."""
        all_of_them = Sketch()
        all_of_them.merge(self._recent)
        all_of_them.merge(self._before)
        return all_of_them.quantile(0.99) if all_of_them.count >= ENOUGH else None

    @property
    def time(self) -> int:
        """Nanoseconds from a window's end, or from what was acknowledged later, until it is due."""
        visible = self.visible
        return self._least if visible is None else min(max(round(2 * visible * SECOND), self._least), self._most)


class Windows:
    """All windows of one check, from a beginning on. Times are nanoseconds since the epoch.

    size: of a window; begin: nothing that happened before is judged, so the first window begins then, and is shorter
    unless that is a multiple of the size; horizon: how long after its end an event can reopen a window; cursor, judged,
    reopened: as the properties of those names gave them; acknowledged: by start of a window, as `acknowledge` was told.
    Raises ValueError for starts of windows of another size.

    To judge a window: `take` it, read it, `judge` it, or `give_back` what cannot be judged now. An event that turns up
    in between opens it again.
    """

    def __init__(
        self,
        *,
        size: int,
        begin: int,
        horizon: int,
        cursor: int | None = None,
        judged: Iterable[int] = (),
        reopened: Iterable[int] = (),
        acknowledged: Mapping[int, int] | None = None,
    ) -> None:
        self.size = size
        self.horizon = horizon
        self.begin = begin
        self.cursor = begin if cursor is None else self.of(cursor).start
        """Start of the first window that is not judged; all before it are."""
        self._judged = set(judged)
        self._reopened = set(reopened)
        self._acknowledged = dict(acknowledged or {})
        self._taken: set[int] = set()
        if any(start % size for start in (self._judged | self._reopened) - {begin}):
            raise ValueError(f"these windows are not of {size} ns: judge them all anew")
        self._advance()

    def of(self, at: int) -> Span:
        """The window that an event time lies in; the first one for what was before it."""
        at = max(at, self.begin)
        start = at - at % self.size
        return Span(max(start, self.begin), start + self.size)

    def state(self, window: Span, now: int, settle: int, pending: Callable[[Span], bool]) -> WindowState:
        """Of one window. pending: whether an event in it is still owed to a side."""
        if window.end > now:
            return WindowState.OPEN
        if self._is_judged(window.start):
            return WindowState.JUDGED if now < window.end + self.horizon else WindowState.CLOSED
        if now < self.looked_at(window, now) + settle or pending(window):
            return WindowState.PROVISIONAL
        return WindowState.DUE

    def due(self, now: int, settle: int, pending: Callable[[Span], bool]) -> list[Span]:
        """All windows to be judged now, oldest first. One that something is pending in holds up none but itself."""
        found = []
        starts = self._reopened.union(range(self.of(self.cursor).end, now - settle - self.size + 1, self.size))
        for start in sorted(starts | {self.cursor}):
            window = self.of(start)
            if self.state(window, now, settle, pending) is WindowState.DUE:
                found.append(window)
        return found

    def acknowledge(self, at: int, now: int) -> None:
        """An event of this time was acknowledged, as is known now: a store may show it later."""
        self._acknowledged[self.of(at).start] = now

    def expected(self, window: Span, now: int) -> int:
        """From when on all rows of a window are on their way into the stores: its end, or the last acknowledgement."""
        last = self._acknowledged.get(window.start, 0)
        return max(window.end, last) if last <= now else window.end  # or else the clock was put back

    def looked_at(self, window: Span, now: int) -> int:
        """When all rows of a window are expected, or would have been waited for long enough; `settle` comes on top."""
        return min(self.expected(window, now), window.end + MOST_WAIT)

    def forget(self, before: int, now: int) -> None:
        """Leave out acknowledgements that are older than that, and those of a clock that ran ahead."""
        self._acknowledged = {start: at for start, at in self._acknowledged.items() if before <= at <= now}

    def take(self, window: Span) -> None:
        """It is being read from now on."""
        self._taken.add(window.start)
        self._reopened.discard(window.start)

    def give_back(self, window: Span) -> None:
        """What was taken could not be judged: it is due as it was before."""
        self._taken.discard(window.start)
        if self._is_judged(window.start):
            self._reopened.add(window.start)

    def judge(self, window: Span) -> None:
        """What was taken is judged, and its counts are kept."""
        self._taken.discard(window.start)
        if window.start >= self.cursor:
            self._judged.add(window.start)
            self._advance()

    def reopen(self, at: int, now: int) -> WindowState:
        """An event of this time turned up. The state of its window before: JUDGED means that it is to be judged once
        more, CLOSED that it is too late for that, or before the beginning.
        """
        if at < self.begin:
            return WindowState.CLOSED
        window = self.of(at)
        if self._is_judged(window.start):  # also when its end is to come: a clock ran ahead
            state = WindowState.JUDGED if now < window.end + self.horizon else WindowState.CLOSED
        else:
            state = self.state(window, now, 0, lambda _: False)
        if state is WindowState.JUDGED or window.start in self._taken:
            self._reopened.add(window.start)
        return state

    @property
    def judged(self) -> list[int]:
        """Starts of judged windows that come after one that is not."""
        return sorted(self._judged)

    @property
    def reopened(self) -> list[int]:
        """Starts of windows that were judged and are to be judged again. With `cursor` and `judged` all that has to be
        kept to go on later.
        """
        return sorted(self._reopened)

    def _is_judged(self, start: int) -> bool:
        return (start < self.cursor or start in self._judged) and start not in self._reopened

    def _advance(self) -> None:
        while self.cursor in self._judged:
            self._judged.discard(self.cursor)
            self.cursor = self.of(self.cursor).end
