"""How a span is read in slices of time, so that what is held at once is bounded and rows come in order.

InfluxDB gives one series after the other, so rows of several series are in order only once all of a slice were seen.
A slice that holds too much is given up and cut; one that held little makes the next one longer.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Final

from consistency.rows import Row, Span
from consistency.stores.protocol import CHUNK

MAX_ROWS: Final = 4 * CHUNK
"""Rows of one slice, at most: what bounds the memory of a reader."""

_FIRST: Final = 60 * 10**9
"""Nanoseconds of the first slice: nothing is known yet, and giving a slice up costs a connection."""
_FEW: Final = MAX_ROWS // 4
_FASTER: Final = 16
"""A slice without rows makes the next one so much longer: a year of nothing is a matter of a few questions."""


class Overflow(Exception):
    """A slice holds too much. pivot: a time that about half of the rows seen so far come before, nanoseconds."""

    def __init__(self, pivot: int) -> None:
        super().__init__(pivot)
        self.pivot = pivot


class Slices:
    """Where a span is cut; no slice begins before the one before it is done."""

    def __init__(self, span: Span) -> None:
        self._at = span.start
        self._end = span.end
        self._length = _FIRST

    def next(self) -> Span | None:
        """The slice to read now; None at the end."""
        return Span(self._at, min(self._at + self._length, self._end)) if self._at < self._end else None

    def cut(self, pivot: int) -> None:
        """The slice holds too much: its next try ends at `pivot`, or behind its first instant."""
        end = min(self._at + self._length, self._end)
        self._length = max(min(pivot, end - 1) - self._at, 1)

    def done(self, rows: int) -> None:
        """The slice was read. rows: how many it held."""
        self._at += self._length
        if rows == 0:
            self._length *= _FASTER
        elif rows <= _FEW:
            self._length *= 2


async def in_slices(
    span: Span, read: Callable[[Span], Awaitable[list[Row]]], stream: Callable[[Span], AsyncIterator[list[Row]]]
) -> AsyncGenerator[list[Row]]:
    """All rows of a span in order of time, in chunks.

    read: rows of a slice in any order; raises Overflow for more than MAX_ROWS. stream: rows of one instant, which may
    be any number, in chunks
    """
    slices = Slices(span)
    while (piece := slices.next()) is not None:
        if piece.end - piece.start == 1:
            count = 0
            async for chunk in stream(piece):
                count += len(chunk)
                yield chunk
            slices.done(count)
            continue
        try:
            rows = await read(piece)
        except Overflow as found:
            slices.cut(found.pivot)
            continue
        rows.sort(key=_by_time)
        for start in range(0, len(rows), CHUNK):
            yield rows[start : start + CHUNK]
        slices.done(len(rows))


def _by_time(row: Row) -> int:
    return row.at
