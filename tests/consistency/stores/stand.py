"""What the suite needs of each kind of store: an engine that is filled, damaged and mended past the store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol

import pytest_asyncio

from consistency.rows import Row, Span
from consistency.stores.errors import StoreError
from consistency.stores.protocol import Store, Traits

START: Final = 1_763_000_000 * 10**9
"""When the suite's events begin: a whole second, nanoseconds."""
SECOND: Final = 10**9
EVER: Final = Span(0, 2**62)

WHOLE: Final = (0, 1, -1, 2**53 + 1, 2**63 - 1, -(2**63))
RATIO: Final = (0.1, 3.0, -0.0, -2.5, 1e308, 1.7976931348623157e308, 5e-324, 1 / 3, 1e22)
FLAG: Final = (True, False)
NOTE: Final = (
    "plain",
    " ",
    'it\'s "quoted" `so`',
    "two\nlines\r\n\tand a tab",
    "back\\slash, \\n and \\N, comma=equals",
    "Größe °C 試験",
    "emoji 🏠🇦🇹",
    '{"looks": ["like", \'JSON\']}',
    "NULL",
    "x" * 20_000,
)
VALUES: Final = (
    *(("whole", value) for value in WHOLE),
    *(("ratio", value) for value in RATIO),
    *(("flag", value) for value in FLAG),
    *(("note", value) for value in NOTE),
)
"""Field and value; whole, ratio and note are fields of every stand, flag where there are booleans."""

NAMES: Final = (
    "plain",
    'it\'s "quoted"',
    "with space, comma, and = sign",
    "back\\slash",
    "ends with a backslash\\",
    "größer 試験 🏠",
    "[1, 2]",
    "%_*",
    "0x10",
    "007",
)


class Damage(NamedTuple):
    """One thing that goes wrong.

    error: what the store raises, of exactly this sort
    words: parts of its text, so that somebody can mend it
    do, mend: done past the store
    is_seen: by what is called after it was opened: rows, fetch, fingerprints; `open` is one more
    timeout: of the store, seconds
    """

    error: type[StoreError]
    words: tuple[str, ...]
    do: Callable[[Any], Awaitable[None]]
    mend: Callable[[Any], Awaitable[None]]
    is_seen: tuple[str, ...] = ("open", "rows")
    timeout: float = 10.0


class Stand(Protocol):
    """An engine with a place for rows, empty at first.

    The suite fills these fields: whole (int), ratio (float), note (str), and those of `values`. All may be absent from
    a row, except that a row of a kind without rows of no fields has `whole`.
    """

    @property
    def traits(self) -> Traits:
        """Of its stores. fingerprint: any text, where they make some."""

    @property
    def values(self) -> Sequence[tuple[str, Any]]:
        """Field and value, all of which come back exactly as they are: VALUES, more or fewer."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no text may have in it; empty when there are no credentials."""

    def identity(self, name: str) -> str:
        """An identity of this kind, one for each name."""

    async def fill(self, rows: Sequence[Row]) -> None:
        """Put rows in, by other means than a store's write, beside those that are there."""

    def store(self, timeout: float = 10.0) -> Store:
        """One more store of this place, not opened; the stand closes it at its end."""


class Suite:
    """Base of the suite's classes. A kind's test class has a fixture `make_stand`: a coroutine function for one more
    stand, each with a place of its own.
    """

    @pytest_asyncio.fixture
    async def stand(self, make_stand: Callable[[], Awaitable[Stand]]) -> Stand:
        """The one that most tests need."""
        return await make_stand()

    @pytest_asyncio.fixture
    async def other(self, make_stand: Callable[[], Awaitable[Stand]]) -> Stand:
        """A second one, to compare with."""
        return await make_stand()


async def opened(stand: Stand, rows: Sequence[Row] = (), *, timeout: float = 10.0) -> Store:
    """Fill it with rows, if any; a store of it, open."""
    if rows:
        await stand.fill(rows)
    store = stand.store(timeout)
    await store.open()
    return store


async def read(store: Store, span: Span = EVER, series: frozenset[str] | None = None) -> list[Row]:
    """All rows of a span, in the store's order."""
    return [row async for chunk in store.rows(span, series) for row in chunk]


def events(stand: Stand, count: int, *, at: int = START, step: int = SECOND) -> list[Row]:
    """Rows that differ in everything. at: of the first, nanoseconds; step: between two."""
    return [
        Row(
            stand.identity(f"event {number:06}"),
            at + number * step,
            {"whole": number, "ratio": number / 7, "note": f"note {number}"},
        )
        for number in range(count)
    ]


def plain(rows: Iterable[Row]) -> list[tuple[str, int, list[tuple[str, str, str]]]]:
    """Sorted, in a form in which 1, 1.0 and True differ, 0.0 and -0.0 too, and NaN equals itself."""
    return sorted(
        (row.identity, row.at, sorted((name, type(value).__name__, repr(value)) for name, value in row.fields.items()))
        for row in rows
    )
