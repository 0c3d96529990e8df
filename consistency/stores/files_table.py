"""Files of one table as DuckDB reads them: what its columns are, and rows between their forms there and ours.

Names, times and values of any type that a file may have become text, whole numbers of nanoseconds, and values of the
few types that rows are made of. DuckDB does that where it can, for the whole column at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import duckdb
import orjson

from config.stores import FilesStore as Settings
from consistency.identity import parts_of, text_of
from consistency.rows import Row
from consistency.stores.table import MICROSECOND, NANOSECONDS, quoted

READERS: Final = {
    "parquet": "read_parquet({}, union_by_name = true)",
    "csv": "read_csv({})",
    "ndjson": "read_json({}, format = 'newline_delimited', sample_size = -1)",
}
_WHOLE: Final = frozenset(
    ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT")
)
FLOATS: Final = frozenset(("FLOAT", "DOUBLE"))
_MOMENTS: Final = {
    "TIMESTAMP": MICROSECOND,
    "TIMESTAMP WITH TIME ZONE": MICROSECOND,
    "TIMESTAMP_NS": 1,
    "TIMESTAMP_MS": 10**6,
    "TIMESTAMP_S": 10**9,
    "DATE": 86_400 * 10**9,
}
"""Types of times, and their precision in nanoseconds."""
_AS_THEY_ARE: Final = _WHOLE | FLOATS | {"BOOLEAN", "VARCHAR", "BLOB"}


class MissingName(LookupError):
    """A column is not there; the text says which."""


class WrongValue(ValueError):
    """A value that has no meaning here; the text says which."""


class Table(NamedTuple):
    """What the files hold, in SQL. source: the table; parts: text of each column that names the event; at: nanoseconds
    since the epoch, a 64-bit number; columns: by name, their values; types: by name, what DuckDB calls them; documents:
    names of those that come as text of JSON.
    """

    source: str
    parts: tuple[str, ...]
    at: str
    precision: int
    columns: dict[str, str]
    types: dict[str, str]
    documents: frozenset[str]

    @property
    def selected(self) -> tuple[str, ...]:
        """What `reader` reads, in SQL."""
        return (self.at, *self.parts, *self.columns.values())

    def reader(self) -> Callable[[Sequence[Any]], Row]:
        """Makes a row of one of `selected`; it raises WrongValue."""
        names = list(self.columns)
        begin = 1 + len(self.parts)
        is_document = [name in self.documents for name in names]
        has_documents = any(is_document)

        def row(values: Sequence[Any]) -> Row:
            at, parts, held = values[0], values[1:begin], values[begin:]
            if at is None:
                raise WrongValue("a row has no time")
            if None in parts:
                raise WrongValue("a row has no value in a column that names the event")
            if has_documents:
                held = [
                    orjson.loads(value) if is_json and value is not None else value
                    for value, is_json in zip(held, is_document, strict=True)
                ]
            fields = {name: value for name, value in zip(names, held, strict=True) if value is not None}
            return Row(text_of(parts), at, fields)

        return row

    def parts_of(self, identity: str) -> list[str] | None:
        """The texts of the columns of an identity; None when it cannot be of this table."""
        try:
            return parts_of(identity, len(self.parts))
        except ValueError:
            return None


def describe(connection: duckdb.DuckDBPyConnection, settings: Settings) -> Table:
    """The table that the settings name. Raises MissingName, WrongValue, duckdb.Error."""
    path = "'" + settings.files.replace("'", "''") + "'"
    source = READERS[settings.format].format(path)
    described = connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()  # noqa: S608
    types = {str(name): str(kind) for name, kind, *_ in described}

    def of(name: str) -> str:
        if name not in types:
            raise MissingName(f"{settings.files} has no column {name}; it has {', '.join(types)}")
        return types[name]

    parts = tuple(_part(name, of(name)) for name in settings.identity)
    at, precision = _time(settings.time, of(settings.time), NANOSECONDS[settings.time_unit])
    rest = settings.columns or [name for name in types if name not in (*settings.identity, settings.time)]
    columns = {name: _value(name, of(name)) for name in rest}
    documents = frozenset(name for name in rest if _is_nested(types[name]))
    return Table(source, parts, at, precision, columns, {name: types[name] for name in rest}, documents)


def _part(name: str, kind: str) -> str:
    if kind in FLOATS or kind.startswith("DECIMAL") or _is_nested(kind):
        raise WrongValue(f"column {name} is of type {kind}, which names no event: text and whole numbers do")
    if kind == "VARCHAR":
        return quoted(name)
    return f"lower(hex({quoted(name)}))" if kind == "BLOB" else f"CAST({quoted(name)} AS VARCHAR)"


def _time(name: str, kind: str, unit: int) -> tuple[str, int]:
    column = quoted(name)
    if kind in _WHOLE:
        whole = column if kind == "BIGINT" else f"CAST({column} AS BIGINT)"
        return (whole if unit == 1 else f"{whole} * {unit}"), unit  # what does not fit is an error
    if kind in FLOATS or kind.startswith("DECIMAL"):
        micros = f"{column} * {unit // MICROSECOND}" if unit >= MICROSECOND else f"{column} / {MICROSECOND // unit}"
        return f"CAST(round({micros}) AS BIGINT) * {MICROSECOND}", MICROSECOND
    if kind in _MOMENTS:
        return f"epoch_ns({column})", _MOMENTS[kind]
    if kind == "VARCHAR":
        return f"epoch_ns(CAST({column} AS TIMESTAMPTZ))", MICROSECOND
    raise WrongValue(f"column {name} is of type {kind}, which is no time")


def _value(name: str, kind: str) -> str:
    column = quoted(name)
    if kind in _AS_THEY_ARE:
        return column
    return f"CAST(to_json({column}) AS VARCHAR)" if _is_nested(kind) else f"CAST({column} AS VARCHAR)"


def kind_of(kind: str) -> str:
    """What values of a DuckDB type are to rules: types of one kind can hold the same value."""
    if kind in _WHOLE:
        return "whole"
    return "float" if kind in FLOATS else "nested" if _is_nested(kind) else kind.lower()


def _is_nested(kind: str) -> bool:
    return kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "JSON"))
