"""What the checker asks of a store; third parties implement it under the entry point group `crossfade.stores`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from consistency.rows import Key, Row, Span

CHUNK: Final = 5000
"""Rows of one chunk, at most: what bounds the memory of a reader."""


class Traits(NamedTuple):
    """What differs between kinds of stores.

    is_keyed_by_time: the time is part of what names a row, and a row written twice under the same name and time is one
        row with the fields of both, the last one's where both have it (InfluxDB); else rows of one identity add up
    precision: nanoseconds; times are multiples of it, 1 when nothing is lost. Coarser than its type where that cannot
        tell times of our days apart (floats: a microsecond)
    fingerprint: names how fingerprints are made; those of two stores can be compared when both have the same name.
        Empty: it makes none
    is_writable: `write` is possible: repair and backfill
    """

    is_keyed_by_time: bool = False
    precision: int = 1
    fingerprint: str = ""
    is_writable: bool = True


class Segment(NamedTuple):
    """What a fingerprint is of. series: text, the same in both stores; start: of the step, nanoseconds."""

    series: str
    start: int


class Fingerprint(NamedTuple):
    """Of a segment's rows. rows: how many; figures: sums, least and greatest values by name.

    Floating-point figures may differ in their last digits where values are the same, for the order of summing differs;
    figures that are whole numbers are exact.
    """

    rows: int
    figures: Mapping[str, float]


class Fingerprints(NamedTuple):
    """What a store says of a span. unread: series of which figures do not say everything (text has no sum), so that
    their rows must be fetched whatever the fingerprints say.
    """

    segments: Mapping[Segment, Fingerprint]
    unread: frozenset[str]


class Store(Protocol):
    """One store of one side. Every method may raise a StoreError, and is safe to call again after one.

    A store is used by one task at a time. Reading never blocks those who write to the store for longer than a chunk.
    """

    @property
    def name(self) -> str:
        """Its name in the configuration."""

    @property
    def traits(self) -> Traits:
        """What sort it is; known once it was opened."""

    async def open(self) -> None:
        """Connect, and see that everything the configuration names is there. Again after an error: afresh."""

    def rows(self, span: Span, series: frozenset[str] | None = None) -> AsyncIterator[list[Row]]:
        """All rows of a span in order of time, in chunks of at most `CHUNK`. series: of these alone (see Segment)."""

    async def fetch(self, keys: Sequence[Key], step: int = 1) -> list[Row]:
        """The rows under these keys, in any order; what is not there is left out.

        Times matter where rows are keyed by time: those of the whole step that a key's time lies in are given then.
        step: nanoseconds, a multiple of `precision`. Elsewhere the identity alone matters, so that a row is found
        whose time differs.
        """

    async def fingerprints(self, span: Span, step: int) -> Fingerprints:
        """Of all series in steps of nanoseconds, of which the first begins at `span.start`. Only with
        `traits.fingerprint`; a segment without rows is left out.
        """

    async def write(self, rows: Sequence[Row]) -> int:
        """Write rows that are not there; how many were written. What is there stays as it is: a row is never put over
        another one of its key, and a key that is given twice is written once. Raises StoreRefused when it does not
        take them.
        """

    async def close(self) -> None:
        """End connections. Nothing raises."""
