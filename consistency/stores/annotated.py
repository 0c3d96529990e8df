"""Annotated CSV: how InfluxDB 2.x answers (https://docs.influxdata.com/influxdb/v2/reference/syntax/annotated-csv/).

    #group,false,false,false,false,true,true,true
    #datatype,string,long,dateTime:RFC3339,double,string,string,string
    #default,_result,,,,,,
    ,result,table,_time,_value,_field,_measurement,city
    ,,0,2025-11-13T02:13:20.000000001Z,21.5,temperature,weather,Linz

Annotations and a header stand before each sort of tables; what went wrong in the middle of an answer is a table with
the columns `error` and `reference`. A cell that is empty has its column's default. An empty text is told from no value
by the point being there at all, so tables must be as they are stored: one for each series and field.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import isfinite
from typing import Any, Final, NamedTuple

from consistency.moments import parse_time
from consistency.stores.points import series_text

_OF_OURS: Final = frozenset({"result", "table", "_start", "_stop", "_time", "_value", "_field", "_measurement"})
"""Columns that are no tags."""


class FluxFailed(Exception):
    """InfluxDB says in its answer that the question failed; the text is its own."""


class BadTable(ValueError):
    """An answer that is no annotated CSV of the tables that were asked for."""


class Value(NamedTuple):
    """One field of a point. identity: its series' text; at: nanoseconds since the epoch."""

    identity: str
    at: int
    field: str
    value: Any


class _Header(NamedTuple):
    """Of the tables that follow. kinds, defaults, labels: by column, the first of which is for annotations."""

    kinds: Sequence[str]
    defaults: Sequence[str]
    labels: Sequence[str]

    def column(self, label: str) -> int:
        try:
            return self.labels.index(label)
        except ValueError:
            raise BadTable(f"a table has no column {label!r}") from None


def values_of(body: bytes) -> Iterator[Value]:
    """The values in an answer to a question for rows, table by table. Raises FluxFailed, BadTable."""
    reader: _Reader | None = None
    for header, cells in _records(body):
        if reader is None or reader.header is not header:
            reader = _Reader(header)
        yield reader.value(cells)


class _Reader:
    """Reads the rows under one header."""

    def __init__(self, header: _Header) -> None:
        self.header = header
        self._table, self._time, self._value = (header.column(label) for label in ("table", "_time", "_value"))
        self._field, self._measurement = header.column("_field"), header.column("_measurement")
        self._tags = [(number, label) for number, label in enumerate(header.labels) if number and label not in _OF_OURS]
        self._convert = _converter(header.kinds[self._value])
        self._series: dict[str, str] = {}

    def value(self, cells: Sequence[str]) -> Value:
        table = cells[self._table]
        identity = self._series.get(table)
        if identity is None:
            identity = series_text(cells[self._measurement], {label: cells[number] for number, label in self._tags})
            self._series[table] = identity
        try:
            at, value = parse_time(cells[self._time]), self._convert(cells[self._value])
        except ValueError as error:
            raise BadTable(f"a value of {identity!r} cannot be read: {error}") from None
        return Value(identity, at, cells[self._field], value)


def column_of(body: bytes, label: str) -> list[str]:
    """The texts of one column. Raises FluxFailed, BadTable."""
    return [cells[header.column(label)] for header, cells in _records(body)]


def _records(body: bytes) -> Iterator[tuple[_Header, list[str]]]:
    """Rows with the header they stand under, their empty cells filled with defaults."""
    annotations: dict[str, list[str]] = {}
    header: _Header | None = None
    has_failed = False
    try:
        for cells in csv.reader(io.StringIO(body.decode(), newline=""), strict=True):
            if not cells:
                continue
            if cells[0].startswith("#"):
                if header is not None:
                    annotations, header = {}, None
                annotations[cells[0]] = cells
            elif has_failed:
                raise FluxFailed(" ".join(cells[1:2]))
            elif cells[1:3] == ["error", "reference"]:
                has_failed = True
            elif header is None:
                header = _header(annotations, cells)
            elif len(cells) != len(header.labels):
                raise BadTable(f"a row has {len(cells)} cells under {len(header.labels)} columns")
            else:
                yield header, [cell or default for cell, default in zip(cells, header.defaults, strict=True)]
    except (csv.Error, UnicodeDecodeError) as error:
        raise BadTable(f"it is not CSV: {error}") from None
    if has_failed:
        raise FluxFailed("an error without a text")


def _header(annotations: Mapping[str, list[str]], labels: list[str]) -> _Header:
    if not annotations.keys() >= {"#datatype", "#default"}:
        raise BadTable("it has no annotations")
    kinds, defaults = annotations["#datatype"], annotations["#default"]
    if not len(kinds) == len(defaults) == len(labels):
        raise BadTable("annotations and header differ in the number of columns")
    return _Header(kinds, ["", *defaults[1:]], labels)


def _converter(kind: str) -> Callable[[str], Any]:
    try:
        return _CONVERTERS[kind]
    except KeyError:
        raise BadTable(f"its values are of the type {kind!r}, which no field has") from None


def _float(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError(f"{text} is no value of a field")
    return value


def _bool(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(f"{text!r} is no truth value")
    return text == "true"


_CONVERTERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "double": _float,
    "long": int,
    "unsignedLong": int,
    "boolean": _bool,
    "string": str,
}
