"""InfluxQL: the questions to InfluxDB 1.x as text, and what a database holds of measurements, fields and tags."""

# ruff: noqa: S608 - names and values are quoted here, and InfluxQL has no placeholders for names

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from consistency.rows import Row, Span
from consistency.stores.chunked_json import Series

TYPES: Final[Mapping[str, type]] = {"float": float, "integer": int, "unsigned": int, "string": str, "boolean": bool}
"""Field types by InfluxDB's names."""
MAX_CONDITIONS: Final = 100
"""Series that one question names; of more the whole measurement is read, and what was not asked for is left out."""


class Measurement(NamedTuple):
    """fields: types by name; tags: names of all tags that any of its series has."""

    name: str
    fields: Mapping[str, type]
    tags: tuple[str, ...]


class Question(NamedTuple):
    """For rows. measurement: what its answer is of."""

    text: str
    measurement: Measurement


class Ambiguous(Exception):
    """A field has several types; InfluxDB casts what it reads of it."""


def schema_questions(policy: str | None, measurements: Sequence[str]) -> tuple[str, str]:
    """For the fields and the tags of these measurements, or of all."""
    names = [source_of(policy, name) for name in measurements] or [f"{quoted(policy)}./.*/" if policy else "/.*/"]
    source = ", ".join(names)
    return f"SHOW FIELD KEYS FROM {source}", f"SHOW TAG KEYS FROM {source}"


def schema_of(answer: Iterable[Series]) -> dict[str, Measurement]:
    """Measurements by name, from the answers to both questions. Raises Ambiguous, and KeyError for an unknown type."""
    fields: dict[str, dict[str, str]] = {}
    tags: dict[str, list[str]] = {}
    for series in answer:
        if series.statement == 1:
            tags.setdefault(series.measurement, []).extend(name for (name,) in series.values)
            continue
        known = fields.setdefault(series.measurement, {})
        for name, kind in series.values:
            if known.setdefault(name, kind) != kind:
                raise Ambiguous(
                    f"field {name!r} of measurement {series.measurement!r} is {known[name]} in some shards and {kind} "
                    "in others, and InfluxDB changes its values on reading: write the points of one type under another "
                    "name and drop them here, or name the other measurements alone"
                )
    return {
        name: Measurement(name, {field: TYPES[kind] for field, kind in kinds.items()}, tuple(tags.get(name, ())))
        for name, kinds in fields.items()
    }


def rows_questions(
    policy: str | None,
    schema: Mapping[str, Measurement],
    span: Span,
    wanted: Mapping[str, Mapping[str, Mapping[str, str]]] | None,
) -> list[Question]:
    """For the rows of a span. wanted: tags by measurement and series, of the only ones to read."""
    found = []
    for measurement in schema.values():
        series = None if wanted is None else list(wanted.get(measurement.name, {}).values())
        where = None if series == [] else where_of(measurement, span, series)
        if where is not None:
            # Fields are named one by one with their sort: `*` would mix a tag and a field of one name up.
            fields = ", ".join(f"{quoted(name)}::field" for name in measurement.fields)
            text = f"SELECT {fields} FROM {source_of(policy, measurement.name)} WHERE {where} GROUP BY *"
            found.append(Question(text, measurement))
    return found


def rows_of(identity: str, measurement: Measurement, part: Series) -> list[Row]:
    """The rows in a part of an answer, all of one series. Raises Ambiguous when a field's type is another one."""
    names, kinds = tuple(measurement.fields), tuple(measurement.fields.values())
    rows = []
    for at, *values in part.values:
        if tuple(map(type, values)) == kinds:
            rows.append(Row(identity, at, dict(zip(names, values, strict=True))))
            continue
        fields = _fields(measurement, values)
        if fields:
            rows.append(Row(identity, at, fields))
    return rows


def _fields(measurement: Measurement, values: Sequence[Any]) -> dict[str, Any]:
    """Of a point that lacks some, or has a float that looks like an integer as it has no fraction."""
    fields: dict[str, Any] = {}
    for (name, kind), value in zip(measurement.fields.items(), values, strict=True):
        if type(value) is kind:
            fields[name] = value
        elif type(value) is int and kind is float:
            fields[name] = float(value)
        elif value is not None:
            raise Ambiguous(
                f"field {name!r} of measurement {measurement.name!r} was {kind.__name__} and has another type now"
            )
    return fields


def quoted(name: str) -> str:
    """An identifier."""
    return '"' + _escaped(name).replace('"', '\\"') + '"'


def _literal(text: str) -> str:
    return "'" + _escaped(text).replace("'", "\\'") + "'"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def source_of(policy: str | None, measurement: str) -> str:
    """What stands behind FROM."""
    return f"{quoted(policy)}.{quoted(measurement)}" if policy else quoted(measurement)


def where_of(measurement: Measurement, span: Span, series: Sequence[Mapping[str, str]] | None = None) -> str | None:
    """Conditions; None when none of these series is there."""
    time = f"time >= {span.start} AND time < {span.end}"
    if series is None:
        return time
    known = set(measurement.tags)
    possible = [tags for tags in series if tags.keys() <= known]
    if not possible:
        return None
    if len(possible) > MAX_CONDITIONS or not known:
        return time
    terms = (
        " AND ".join(f"{quoted(name)}::tag = {_literal(tags.get(name, ''))}" for name in measurement.tags)
        for tags in possible
    )
    return f"{time} AND ({' OR '.join(f'({term})' for term in terms)})"
