"""How many of the last seconds was something down, by looks at it? Each look tells of the time until the next one."""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

MOST_ELAPSED: Final = 5.0
"""Seconds that one look adds at most: while whoever looks stood still, nobody looked."""


class _Piece(NamedTuple):
    """Time in which it was down, in a row. began, ended: monotonic seconds."""

    began: float
    ended: float


class Downtime:
    """window: seconds that it looks back."""

    def __init__(self, window: float) -> None:
        self._window = window
        self._pieces: deque[_Piece] = deque()
        self._last: tuple[float, bool] | None = None
        self._first: float | None = None

    def reset(self) -> None:
        """What was seen says nothing of now."""
        self._pieces.clear()
        self._last = self._first = None

    def observe(self, now: float, *, is_down: bool) -> float:
        """Look; the seconds within the window in which it was down. now: monotonic seconds, which do not fall."""
        last, self._last = self._last, (now, is_down)
        self._first = now if self._first is None else self._first
        if last is not None and last[1]:
            self._add(last[0], min(now, last[0] + MOST_ELAPSED))
        begins, pieces = now - self._window, self._pieces
        while pieces and pieces[0].ended <= begins:
            pieces.popleft()
        return sum(each.ended - max(each.began, begins) for each in pieces)

    def watched(self, now: float) -> float:
        """How many seconds it can look back: the window, or since the first look after a reset. now: as of a look."""
        return min(self._window, now - (now if self._first is None else self._first))

    @property
    def since(self) -> float | None:
        """When the first of these seconds was, monotonic; None without any."""
        return self._pieces[0].began if self._pieces else None

    def _add(self, began: float, ended: float) -> None:
        """A piece that goes on where the last one ended is one with it."""
        if self._pieces and self._pieces[-1].ended == began:
            began = self._pieces.pop().began
        self._pieces.append(_Piece(began, ended))
