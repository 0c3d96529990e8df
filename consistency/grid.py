"""The windows of a span that is looked at once: by `verify`, and by a backfill."""

from __future__ import annotations

from collections.abc import Iterator

from consistency.rows import Span


class Grid:
    """The windows of a span: aligned to multiples of their size; the first and the last may be shorter.

    precision: nanoseconds; no edge lies within a step of it, for rows of one step may be one row
    """

    def __init__(self, span: Span, size: int, precision: int = 1) -> None:
        self._span = Span(_up(span.start, precision), _up(span.end, precision))
        self.size = _up(size, precision)

    def __len__(self) -> int:
        """How many."""
        if self._span.end <= self._span.start:
            return 0
        return (self._span.end - 1) // self.size - self._span.start // self.size + 1

    def windows(self) -> Iterator[Span]:
        """All of them, in order of time."""
        first = self._span.start - self._span.start % self.size
        for number in range(len(self)):
            yield self._cut(first + number * self.size)

    def of(self, at: int) -> Span | None:
        """The one that a time lies in; None for one outside of the span."""
        return self._cut(at - at % self.size) if self._span.start <= at < self._span.end else None

    def _cut(self, start: int) -> Span:
        return Span(max(start, self._span.start), min(start + self.size, self._span.end))


def _up(value: int, step: int) -> int:
    return -(-value // step) * step
