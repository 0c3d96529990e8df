"""Flux: the questions to InfluxDB 2.x as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from consistency.rows import Span
from consistency.stores.points import EARLIEST, LATEST

MAX_CONDITIONS: Final = 100
"""Series that one question names; of more their measurements are read, and what was not asked for is left out."""

_ESCAPES: Final = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def rows_question(
    bucket: str, span: Span, measurements: Sequence[str], series: Sequence[tuple[str, Mapping[str, str]]] | None
) -> str:
    """For the fields of a span, a table for each series and field.

    Tables are not pivoted: in a joined row an empty text and a missing value look alike.

    measurements: of these alone, none for all; series: measurement and tags of those to read, with or without others
    """
    if series is not None and len(series) > MAX_CONDITIONS:
        measurements, series = sorted({measurement for measurement, _ in series}), None
    if series is not None:
        terms = [{"_measurement": measurement, **tags} for measurement, tags in series]
    else:
        terms = [{"_measurement": measurement} for measurement in measurements]
    parts = [f"from(bucket: {quoted(bucket)})", f"range({_range(span)})"]
    if terms:
        parts.append(f"filter(fn: (r) => {_any_of(terms)})")
    return " |> ".join([*parts, 'drop(columns: ["_start", "_stop"])'])


def together(questions: Iterable[str]) -> str:
    """Several questions as one, whose answers come one after the other."""
    return "\n".join(f'{question} |> yield(name: "{number}")' for number, question in enumerate(questions))


def measurements_question(bucket: str) -> str:
    """For the names of all measurements, in a column `_value`."""
    span = _range(Span(EARLIEST, LATEST))
    return f'import "influxdata/influxdb/schema"\nschema.measurements(bucket: {quoted(bucket)}, {span})'


def retention_question(bucket: str) -> str:
    """For how long a bucket keeps points, in a column `retentionPeriod`: nanoseconds, 0 for ever."""
    only = f"fn: (r) => r.name == {quoted(bucket)}"
    return f'buckets()\n|> filter({only})\n|> keep(columns: ["retentionPeriod"])'


def quoted(text: str) -> str:
    """A text literal; what looks like an interpolation is none."""
    return '"' + text.translate(_ESCAPES).replace("${", "\\${") + '"'


def _range(span: Span) -> str:
    return f"start: time(v: {span.start}), stop: time(v: {span.end})"


def _any_of(terms: Iterable[Mapping[str, str]]) -> str:
    return " or ".join(
        "(" + " and ".join(f"r[{quoted(name)}] == {quoted(value)}" for name, value in term.items()) + ")"
        for term in terms
    )
