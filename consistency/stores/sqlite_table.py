"""One table of an SQLite file: what its columns are, and rows between their forms there and ours.

SQLite gives every value a type of its own and every column an affinity, what it would rather hold (its manual,
"Datatypes In SQLite", 3.1). So identities are looked for in every form that their text may stand for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any, Final, NamedTuple

import apsw

from config.stores import SqliteStore as Settings
from consistency.identity import parts_of, text_of
from consistency.moments import parse_time
from consistency.rows import Row
from consistency.stores.table import (
    MICROSECOND,
    NANOSECONDS,
    format_json,
    number_text,
    quoted,
    time_of_number,
)

Value = int | float | str | bytes | None
"""What a column holds."""


class MissingName(LookupError):
    """The table, or a column of it, is not there; the text says which."""


class WrongValue(ValueError):
    """A value that has no meaning here, or none there; the text says which."""


class Column(NamedTuple):
    """affinity: TEXT, NUMERIC, INTEGER, REAL or BLOB (anything as it is)."""

    name: str
    affinity: str
    is_generated: bool = False


class Table(NamedTuple):
    """unit: of numbers in `time`, nanoseconds; place: what tells rows of one time apart, in SQL, none for a view."""

    name: str
    identity: tuple[Column, ...]
    time: Column
    unit: int
    columns: tuple[Column, ...]
    place: tuple[str, ...]
    is_writable: bool

    @property
    def precision(self) -> int:
        """Nanoseconds that all times are multiples of."""
        return {"INTEGER": self.unit, "REAL": MICROSECOND}.get(self.time.affinity, 1)

    @property
    def quoted(self) -> str:
        """Its name in SQL."""
        return quoted(self.name)

    @property
    def selected(self) -> str:
        """What `row` reads, in SQL."""
        names = (self.time.name, *(each.name for each in (*self.identity, *self.columns)))
        return ", ".join(quoted(name) for name in names)

    def time_of(self, value: Value) -> int:
        """Nanoseconds since the epoch of what is in the column. Raises WrongValue."""
        if type(value) is int:
            return value * self.unit
        try:
            if isinstance(value, str):
                return parse_time(value)
            if isinstance(value, float):
                return time_of_number(value, self.unit)
        except ValueError:
            pass
        raise WrongValue(f"column {self.time.name} holds {_shown(value)}, which is no time")

    def reader(self, time_of: Callable[[Value], int] | None = None) -> Callable[[Sequence[Value]], Row]:
        """Makes a row of one of `selected`; it raises WrongValue. time_of: instead of the method."""
        names = [each.name for each in self.columns]
        begin, end = 1 + len(self.identity), 1 + len(self.identity) + len(names)
        time_of = time_of or self.time_of

        def row(values: Sequence[Value]) -> Row:
            held = values[begin:end]
            fields = dict(zip(names, held, strict=True))
            if None in held:
                fields = {name: value for name, value in fields.items() if value is not None}
            identity = values[1]
            if begin > 2 or not isinstance(identity, str):
                identity = text_of([self._part(value) for value in values[1:begin]])
            return Row(identity, time_of(values[0]), fields)

        return row

    def _part(self, value: Value) -> str:
        if value is None:
            raise WrongValue("a row has no value in a column that names the event")
        if isinstance(value, bytes):
            return value.hex()
        return value if isinstance(value, str) else number_text(value)

    def forms(self, identity: str) -> Iterator[tuple[Value, ...]]:
        """What may stand in the columns of an identity, all of it; nothing when it cannot be of this table."""
        try:
            parts = parts_of(identity, len(self.identity))
        except ValueError:
            return
        yield from product(*(_forms(part) for part in parts))

    def stored(self, identity: str, samples: Sequence[str]) -> tuple[Value, ...]:
        """What is written into the columns of an identity. samples: types of what other rows have there, or empty.

        Raises WrongValue when it would be another identity then.
        """
        try:
            parts = parts_of(identity, len(self.identity))
        except ValueError:
            raise WrongValue(f"identity {_shown(identity)} is not the name of {len(self.identity)} values") from None
        return tuple(
            _stored(part, column, sample) for part, column, sample in zip(parts, self.identity, samples, strict=True)
        )

    def fields(self, row: Row) -> dict[str, Value]:
        """What is written into further columns: NULL where the row has nothing. Raises WrongValue."""
        known = {each.name for each in self.columns}
        named = {each.name for each in (self.time, *self.identity)}
        for name in row.fields:
            if name not in known:
                raise WrongValue(f"table {self.name} has no column {name} for what row {_shown(row.identity)} has")
        return {
            each.name: _field(each.name, row.fields.get(each.name))
            for each in self.columns
            if not each.is_generated and each.name not in named
        }


def describe(connection: apsw.Connection, settings: Settings) -> Table:
    """The table that the settings name. Raises MissingName."""
    name = settings.table.removeprefix("main.")
    found = connection.execute("SELECT type, wr FROM pragma_table_list WHERE schema = 'main' AND name = ?", (name,))
    kind, is_without_rowid = found.get or ("", 0)
    if not kind:
        raise MissingName(f"there is no table or view {name} in {settings.file}")
    columns: dict[str, Column] = {}
    keys: list[tuple[int, str]] = []
    for column, declared, key, hidden in connection.execute(
        "SELECT name, type, pk, hidden FROM pragma_table_xinfo(?)", (name,)
    ):
        columns[column] = Column(column, _affinity(declared.upper()), hidden in (2, 3))
        if key:
            keys.append((key, column))

    def of(wanted: str) -> Column:
        if wanted not in columns:
            raise MissingName(f"table {name} has no column {wanted}; it has {', '.join(columns)}")
        return columns[wanted]

    identity, time = tuple(of(each) for each in settings.identity), of(settings.time)
    rest = settings.columns or [each for each in columns if each not in (*settings.identity, settings.time)]
    if is_without_rowid:
        place = tuple(quoted(column) for _, column in sorted(keys))
    else:
        rowid = next((each for each in ("rowid", "_rowid_", "oid") if each not in map(str.lower, columns)), None)
        place = (rowid,) if rowid and kind == "table" else ()
    unit = NANOSECONDS[settings.time_unit]
    return Table(name, identity, time, unit, tuple(of(each) for each in rest), place, kind != "view")


_AFFINITIES: Final = (
    ("INT", "INTEGER"), ("CHAR", "TEXT"), ("CLOB", "TEXT"), ("TEXT", "TEXT"), ("BLOB", "BLOB"), ("REAL", "REAL"),
    ("FLOA", "REAL"), ("DOUB", "REAL"),
)  # fmt: skip


def _affinity(declared: str) -> str:
    if not declared:
        return "BLOB"
    return next((affinity for part, affinity in _AFFINITIES if part in declared), "NUMERIC")


def _forms(part: str) -> list[Value]:
    """Text, number, bytes: all values whose text it is."""
    forms: list[Value] = [part]
    forms += [number for number in _numbers(part) if number_text(number) == part]
    octets = _octets(part)
    return forms if octets is None else [*forms, octets]


def _numbers(part: str) -> list[int | float]:
    """What SQLite would make of a text in a column of numbers."""
    numbers: list[int | float] = []
    for kind in (int, float):
        try:
            number: int | float = kind(part)
        except ValueError:
            continue
        if "_" not in part and -(2**63) <= number < 2**63 and math.isfinite(number):
            numbers.append(number)
    return numbers


def _octets(part: str) -> bytes | None:
    try:
        octets = bytes.fromhex(part)
    except ValueError:
        return None
    return octets if octets.hex() == part else None


def _stored(part: str, column: Column, sample: str) -> Value:
    value: Value = part
    numbers = _numbers(part)
    if sample == "blob":
        value = _octets(part)
    elif column.affinity not in ("TEXT", "BLOB") or (column.affinity == "BLOB" and sample in ("integer", "real")):
        # A column of numbers makes one of every text that looks like one: of 007 it would make 7.
        value = next((each for each in numbers if number_text(each) == part), None) if numbers else part
    if value is None:
        raise WrongValue(f"identity {_shown(part)} cannot stand in column {column.name} as it is")
    return value


def _field(name: str, value: Any) -> Value:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, list | dict):
        try:
            return format_json(value)
        except (TypeError, ValueError) as error:
            raise WrongValue(f"field {name} cannot be written as JSON: {error}") from None
    if isinstance(value, float) and math.isnan(value):
        raise WrongValue(f"field {name} is not a number, which SQLite would store as NULL")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise WrongValue(f"field {name} is a number of more than 64 bits, which SQLite cannot store")
    if value is None or isinstance(value, int | float | str | bytes):
        return value
    raise WrongValue(f"field {name} is a {type(value).__name__}, which SQLite cannot store")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
