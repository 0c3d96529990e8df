"""One table of a PostgreSQL database: the SQL that asks for its rows and takes new ones, and rows between both forms.

Times are made nanoseconds by the server, so that bounds, fingerprints and rows agree on what lies in a span.
"""

# ruff: noqa: S608 - names in SQL text are quoted, numbers are our own

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, NamedTuple

import asyncpg

from config.stores import PostgresStore as Settings
from consistency.identity import parts_of, text_of
from consistency.rows import Row, Span
from consistency.stores.postgres_column import Column, WrongValue
from consistency.stores.table import MICROSECOND, NANOSECONDS, format_time, number_of_time, quoted

DAY: Final = 86400 * 10**9
_TIMES: Final = {"timestamp with time zone": 1000, "timestamp without time zone": 1000, "date": DAY}
"""Types of time, with their precision in nanoseconds."""
_WHOLE: Final = frozenset({"smallint", "integer", "bigint"})
_FLOATS: Final = frozenset({"real", "double precision"})
_NUMBERS: Final = frozenset({*_WHOLE, *_FLOATS, "numeric"})


class Table(NamedTuple):
    """name: qualified and quoted; unit: of `time` where it holds numbers, nanoseconds; is_writable: takes rows."""

    name: str
    identity: tuple[Column, ...]
    time: Column
    unit: int
    columns: tuple[Column, ...]
    is_writable: bool

    @property
    def precision(self) -> int:
        """Nanoseconds that all times are multiples of."""
        if self.time.type in _FLOATS:
            return MICROSECOND
        return _TIMES.get(self.time.type) or (self.unit if self.time.type in _WHOLE else 1)

    # reading

    @property
    def selected(self) -> str:
        """What `row` reads, in SQL: time, parts of the identity, columns."""
        parts = (f"{quoted(each.name)}::text" for each in self.identity)
        return ", ".join((self.at, *parts, *(each.value for each in self.columns)))

    @property
    def at(self) -> str:
        """The time in nanoseconds since the epoch, bigint, in SQL."""
        name = quoted(self.time.name)
        if self.time.type == "date":
            return f"(({name} - '1970-01-01'::date)::bigint * {DAY})"
        if self.time.type in _TIMES:
            return f"((extract(epoch FROM {name}) * 1000000)::bigint * 1000)"
        if self.time.type in _WHOLE:
            return f"({name}::bigint * {self.unit})"
        if self.time.type in _FLOATS:
            micro = Decimal(self.unit) / MICROSECOND
            return f"(round({name}::text::numeric * {micro:f})::bigint * {MICROSECOND})"
        return f"floor({name} * {self.unit})::bigint"

    def within(self, span: Span) -> str:
        """That the time is in a span, in SQL that an index on it serves."""
        name = quoted(self.time.name)
        if self.time.type in _FLOATS:
            # The bounds lie further out; the exact time is looked at within them alone, where it has one.
            ends = (span.start - MICROSECOND, span.end + MICROSECOND)
            low, high = (f"'{float(Decimal(at) / self.unit)!r}'::float8" for at in ends)
            rough = f"{name} >= {low} AND {name} <= {high}"
            if self.time.type == "real":
                rough = f"{name}::text::float8 >= {low} AND {name}::text::float8 <= {high}"
            exact = f"{self.at} >= {span.start} AND {self.at} < {span.end}"
            return f"{rough} AND CASE WHEN {rough} THEN {exact} ELSE false END"
        return f"{name} >= {self._bound(span.start)} AND {name} < {self._bound(span.end)}"

    def _bound(self, at: int) -> str:
        """The least value of the column's type that is not before a time."""
        if self.time.type == "numeric":
            return f"'{Decimal(at) / self.unit:f}'::numeric"
        count = -(-at // self.precision)
        if self.time.type in _WHOLE:
            return f"'{count}'::bigint"
        moment = datetime(1970, 1, 1) + timedelta(microseconds=count * self.precision // 1000)  # noqa: DTZ001 - UTC
        offset = "+00" if self.time.type == "timestamp with time zone" else ""
        return f"'{moment.isoformat()}{offset}'::{self.time.type}"

    def reader(self) -> Callable[[asyncpg.Record], Row]:
        """Makes a row of what was selected. It raises WrongValue."""
        names = [each.name for each in self.columns]
        converted = [each for each in self.columns if each.is_converted]
        begin = 1 + len(self.identity)

        def row(record: asyncpg.Record) -> Row:
            parts = record[1:begin]
            if None in parts:
                raise WrongValue("a row has no value in a column that names the event")
            held = record[begin:]
            fields = dict(zip(names, held, strict=True))
            if None in held:
                fields = {name: value for name, value in fields.items() if value is not None}
            for each in converted:
                if each.name in fields:
                    value = each.converted(fields[each.name])
                    if value is None:
                        del fields[each.name]
                    else:
                        fields[each.name] = value
            return Row(parts[0] if begin == 2 else text_of(parts), record[0], fields)

        return row

    @property
    def wanted(self) -> str:
        """That the identity is one of those in $1, $2, ...: an array of texts for each of its columns."""
        names = ", ".join(quoted(each.name) for each in self.identity)
        if len(self.identity) == 1:
            return f"{names} = ANY($1::text[]::{self.identity[0].type}[])"
        given = ", ".join(f"${number}::text[]" for number in range(1, len(self.identity) + 1))
        cast = ", ".join(f"r.i{number}::{each.type}" for number, each in enumerate(self.identity))
        return f"({names}) IN (SELECT {cast} FROM unnest({given}) AS r({_names('i', len(self.identity))}))"

    @property
    def cast(self) -> str:
        """SQL that fails when one of the texts in $1, $2, ... is none of its column's type."""
        given = ", ".join(f"${number}::text[]::{each.type}[]" for number, each in enumerate(self.identity, 1))
        return f"SELECT {given}"

    def parts(self, identities: Sequence[str]) -> list[list[str]]:
        """Values of `wanted`; an identity that cannot be of this table is left out."""
        found = []
        for identity in identities:
            try:
                found.append(parts_of(identity, len(self.identity)))
            except ValueError:
                continue
        return [list(each) for each in zip(*found, strict=True)] or [[] for _ in self.identity]

    # fingerprints

    @property
    def sort(self) -> str:
        """What two tables must have in common for their hashes to be the same where rows are."""
        columns = ", ".join(f"{quoted(each.name)} {each.type}" for each in self._hashed)
        names = ", ".join(each.type for each in self.identity)
        return f"({names}) ({columns})"

    @property
    def _hashed(self) -> list[Column]:
        return sorted(self.columns)

    def fingerprints(self, span: Span, step: int) -> str:
        """SQL of number of segment, rows, and the sum of a hash of every row."""
        # A row's text has a border between any two values, and nothing where NULL is, which no text is written as. Its
        # hash must be one of the whole: hash_record adds up hashes of columns, so that a sum over rows would not see
        # values that changed places. OFFSET 0: the time is worked out once.
        parts = ", ".join(quoted(each.name) for each in (*self.identity, *self._hashed))
        return (
            "SELECT (at - $1::bigint) / $2::bigint, count(*), sum(hashtextextended(at || text, 0))::text FROM ("
            f"SELECT {self.at} AS at, ROW({parts})::text AS text FROM {self.name} WHERE {self.within(span)} OFFSET 0"
            ") AS r GROUP BY 1"
        )

    # writing

    @property
    def insert(self) -> str:
        """SQL that puts in rows whose identity is not there; $1, $2, ...: arrays of texts, see `texts`."""
        columns = self._written
        names = _names("c", len(columns))
        given = ", ".join(f"${number}::text[]" for number in range(1, len(columns) + 1))
        cast = [f"r.c{number}::{each.type}" for number, each in enumerate(columns)]
        same = " AND ".join(f"t.{quoted(each.name)} = {cast[number]}" for number, each in enumerate(self.identity))
        return (
            f"INSERT INTO {self.name} ({', '.join(quoted(each.name) for each in columns)}) OVERRIDING SYSTEM VALUE "
            f"SELECT {', '.join(cast)} FROM unnest({given}) AS r({names}) "
            f"WHERE NOT EXISTS (SELECT 1 FROM {self.name} AS t WHERE {same}) ON CONFLICT DO NOTHING"
        )

    @property
    def _written(self) -> list[Column]:
        named = (*self.identity, self.time)
        return [*named, *(each for each in self.columns if not each.is_generated and each not in named)]

    def texts(self, rows: Sequence[Row]) -> list[list[str | None]]:
        """Values of `insert`. Raises WrongValue."""
        return [list(each) for each in zip(*map(self._texts, rows), strict=True)]

    def _texts(self, row: Row) -> Iterator[str | None]:
        unknown = sorted(row.fields.keys() - {each.name for each in self.columns})
        if unknown:
            raise WrongValue(f"table {self.name} has no column {unknown[0]} for what row {row.identity[:60]!r} has")
        try:
            yield from parts_of(row.identity, len(self.identity))
        except ValueError:
            raise WrongValue(f"identity {row.identity[:60]!r} is not the name of {len(self.identity)} values") from None
        at = row.at - row.at % self.precision
        yield format_time(at) if self.time.type in _TIMES else repr(number_of_time(at, self.unit))
        for column in self._written[len(self.identity) + 1 :]:
            yield column.text(row.fields.get(column.name))

    def is_time(self) -> bool:
        """Whether the column of time can hold one."""
        return self.time.type in _TIMES or self.time.type in _NUMBERS

    @property
    def untimely(self) -> str:
        """That a row has no time that could be in any span, in SQL; empty when there can be none."""
        name = quoted(self.time.name)
        parts = [f"{name} IS NULL"] if self.time.is_nullable else []
        if self.time.type in _TIMES:
            parts += [f"{name} = 'infinity'", f"{name} = '-infinity'"]
        elif self.time.type not in _WHOLE:
            parts += [f"{name} = 'NaN'"]
            parts += [] if self.time.type == "numeric" else [f"{name} = 'Infinity'", f"{name} = '-Infinity'"]
        return " OR ".join(parts)


def table_of(name: str, found: Sequence[Column], settings: Settings, *, is_writable: bool) -> Table:
    """The table with these columns, of which the settings want some. Raises LookupError with what is missing."""
    known = {each.name: each for each in found}
    identity, time, rest = settings.identity, settings.time, settings.columns
    for each in (*identity, time, *rest):
        if each not in known:
            raise LookupError(f"table {name} has no column {each}; it has {', '.join(known)}")
    columns = [known[each] for each in rest] or [each for each in found if each.name not in (*identity, time)]
    unit = NANOSECONDS[settings.time_unit]
    return Table(name, tuple(known[each] for each in identity), known[time], unit, tuple(columns), is_writable)


def _names(letter: str, count: int) -> str:
    return ", ".join(f"{letter}{number}" for number in range(count))
