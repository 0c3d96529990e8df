"""Rows of a span from an SQLite file, chunk by chunk, in order of time; every statement stands alone.

Numbers are read by (time, place), a page at a time, so that a writer in rollback mode waits for one page at most. A
view has no place to go on from: it is read by whole instants.

Text is another matter: its order is not that of time where offsets or digits differ. So the instants of a span are
read first, those of UTC by their minute, those with another offset from a day before to a day after; then the rows of
each some of them. What is held is one small entry for an instant.

    numbers   WHERE time BETWEEN .. AND (time, place) > ..  -> page -> page -> ...
    text      WHERE time BETWEEN .. GROUP BY time           -> instants, sorted -> rows of some -> rows of some -> ...
"""

# ruff: noqa: S608 - names in SQL text are quoted, values are bound

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import orjson

from consistency.rows import Row, Span
from consistency.stores.protocol import CHUNK
from consistency.stores.sqlite_table import Table, Value
from consistency.stores.table import MICROSECOND, batches, format_time, number_of_time, quoted

Found = list[tuple[Value, ...]]
Ask = Callable[[str, tuple[Value, ...]], Found]
"""What a statement gives for some values."""

_DAY: Final = 86400 * 10**9


def of_numbers(ask: Ask, table: Table, span: Span) -> Iterator[list[Row]]:
    """Where the column of time holds numbers."""
    # What is a fraction means the nearest microsecond: its number may lie beyond the bound that its time is within.
    wide = Span(span.start - MICROSECOND, span.end + MICROSECOND)
    pages = _by_place(ask, table, wide) if table.place else _by_whole_instants(ask, table, wide)
    reader = table.reader()
    for found in pages:
        if rows := [row for row in map(reader, found) if span.start <= row.at < span.end]:
            yield rows


def _by_place(ask: Ask, table: Table, span: Span) -> Iterator[Found]:
    name = quoted(table.time.name)
    order = ", ".join((name, *table.place))
    select = f"SELECT {table.selected}, {', '.join(table.place)} FROM {table.quoted} WHERE {name} >= ? AND {name} <= ?"
    first = f"{select} ORDER BY {order} LIMIT {CHUNK}"
    marks = ", ".join("?" * (1 + len(table.place)))
    further = f"{select} AND ({order}) > ({marks}) ORDER BY {order} LIMIT {CHUNK}"
    low, high = (number_of_time(at, table.unit) for at in span)
    found = ask(first, (low, high))
    while found:
        yield found
        if len(found) < CHUNK:
            return
        at, place = found[-1][0], found[-1][-len(table.place) :]
        found = ask(further, (at, high, at, *place))


def _by_whole_instants(ask: Ask, table: Table, span: Span) -> Iterator[Found]:
    name = quoted(table.time.name)
    select = f"SELECT {table.selected} FROM {table.quoted} WHERE {name}"
    page = f"AND {name} <= ? ORDER BY {name} LIMIT {CHUNK + 1}"
    low: Value = number_of_time(span.start, table.unit)
    high = number_of_time(span.end, table.unit)
    more = ">="
    while True:
        found = ask(f"{select} {more} ? {page}", (low, high))
        if len(found) <= CHUNK:
            yield found
            return
        low, more = found[-1][0], ">="
        whole = [each for each in found if each[0] != low]
        if not whole:
            # More rows than a chunk has, at one instant.
            whole, more = ask(f"{select} = ?", (low,)), ">"
        for piece in batches(whole, CHUNK):
            yield list(piece)


def of_texts(ask: Ask, table: Table, span: Span) -> Iterator[list[Row]]:
    """Where the column of time holds text."""
    name = quoted(table.time.name)
    select = f"SELECT {table.selected} FROM {table.quoted} WHERE {name} IN (SELECT value FROM json_each(?))"
    for some in _some(_instants(ask, table, span)):
        reader = table.reader(some.__getitem__)
        rows = sorted(map(reader, ask(select, (orjson.dumps(list(some)).decode(),))), key=lambda row: row.at)
        for piece in batches(rows, CHUNK):
            yield list(piece)


def _some(instants: Sequence[tuple[int, str, int]]) -> Iterator[dict[Value, int]]:
    """Texts, with their times, of instants that have a chunk's rows together; at least one."""
    some: dict[Value, int] = {}
    total = 0
    for at, text, count in instants:
        if some and total + count > CHUNK:
            yield some
            some, total = {}, 0
        some[text] = at
        total += count
    if some:
        yield some


def _instants(ask: Ask, table: Table, span: Span) -> list[tuple[int, str, int]]:
    """Time, its text, and how many rows have it, in order of time."""
    name = quoted(table.time.name)
    is_utc = (
        f"substr({name}, 11) NOT GLOB '*[-+]*' OR {name} GLOB '*[-+]00' OR {name} GLOB '*[-+]00:00' "
        f"OR {name} GLOB '*[-+]0000'"
    )
    minute = f"substr({name}, 1, 10) || 'T' || substr({name}, 12, 5)"
    found = ask(
        f"SELECT {name}, count(*) FROM {table.quoted} WHERE {name} >= ? AND {name} < ? "
        f"AND (length({name}) = 10 OR NOT ({is_utc}) OR {minute} BETWEEN ? AND ?) GROUP BY {name}",
        (
            format_time(span.start - _DAY)[:10],
            format_time(span.end + 2 * _DAY)[:10],
            format_time(span.start)[:16],
            format_time(span.end)[:16],
        ),
    )
    timed = [(table.time_of(text), str(text), int(str(count))) for text, count in found]
    return sorted(each for each in timed if span.start <= each[0] < span.end)
