"""Which rows of two tables are summed together before anything is looked at closer.

Rows of one stretch of time, where times are compared: what differs is then read again from a small part of a file that
is in order of time, as exports are. Rows of one share of the names, where times say nothing: an event has one place
whenever either side stored it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from consistency.stores.files_table import Table

ROWS_OF_PLACE: Final = 100
"""Rows of a place, about: few enough that one that differs costs little."""
LEAST: Final = 1024
MOST: Final = 2**17
"""Of which sums are kept in memory, some 10 MiB for each side."""
RANGES: Final = 200
"""Stretches of time that a query names one by one."""
_DIFFERING: Final = " IN (SELECT place FROM differing_place)"


def number_of(rows: int) -> int:
    """Into how many places so many rows go."""
    return min(max(rows // ROWS_OF_PLACE, LEAST), MOST)


class ByName(NamedTuple):
    """Places by a hash of what names an event."""

    number: int

    def of(self, table: Table) -> str:
        """The place of a row, in SQL."""
        return f"hash({', '.join(table.parts)}) % {self.number}"

    def among(self, table: Table, places: Sequence[int]) -> str:
        """A row is at one of these places, which are in `differing_place` as well, in SQL."""
        return self.of(table) + _DIFFERING


class ByTime(NamedTuple):
    """Places by time. width: nanoseconds; number: how many there are between the first row and the last."""

    width: int
    number: int

    @classmethod
    def between(cls, first: int, last: int, number: int, precision: int) -> ByTime:
        """About so many places between two times. precision: nanoseconds that are one time, all in one place."""
        width = -(-(last - first + 1) // number)
        width = -(-width // precision) * precision
        return cls(width, _place(last, width) - _place(first, width) + 1)

    def of(self, table: Table) -> str:
        """The place of a row, in SQL."""
        return f"({table.at}) // {self.width}"

    def among(self, table: Table, places: Sequence[int]) -> str:
        """A row is at one of these places, in SQL; as ranges when they are few, which spares the rest of a file."""
        ranges = list(self._ranges(sorted(places)))
        if len(ranges) > RANGES:
            return self.of(table) + _DIFFERING
        return " OR ".join(f"({table.at} >= {first} AND {table.at} <= {last})" for first, last in ranges) or "false"

    def _ranges(self, places: list[int]) -> Iterator[tuple[int, int]]:
        """The first and the last time of places that follow each other."""
        begin = 0
        for number, place in enumerate(places, 1):
            if number == len(places) or places[number] != place + 1:
                # SQL divides towards zero: there are twice as many times at place 0.
                first = places[begin] * self.width if places[begin] > 0 else places[begin] * self.width - self.width + 1
                last = place * self.width if place < 0 else place * self.width + self.width - 1
                yield first, last
                begin = number


def _place(at: int, width: int) -> int:
    """As SQL divides, which is towards zero."""
    return at // width if at >= 0 else -(-at // width)
