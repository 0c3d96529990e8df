"""Fingerprints of InfluxDB 1.x: what its aggregate functions say of each field in steps of time.

A field's values are counted, numbers are summed too, with their least and greatest one. Two things these figures do not
say, and series with them are named as unread:

- what texts and truth values are: they are counted alone
- how many points there are, where not all of them have the same fields: InfluxDB counts values, not points

Values that changed places between two times of one step are not seen: no function of InfluxQL joins value and time.
"""

# ruff: noqa: S608 - names are quoted by `influxql`, and InfluxQL has no placeholders for names

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from consistency.rows import Span
from consistency.stores.chunked_json import Series
from consistency.stores.influxql import Measurement, quoted, source_of, where_of
from consistency.stores.points import series_text
from consistency.stores.protocol import Fingerprint, Fingerprints, Segment

FINGERPRINT: Final = "points"
"""Names how these are made."""

_FIELDS: Final = 25
"""Fields that one question asks for."""


class Question(NamedTuple):
    """names: of the figures in its answer's columns; counts: which columns count, texts: which count what has no sum;
    both from 1, as the time is column 0
    """

    text: str
    names: tuple[str, ...]
    counts: tuple[int, ...]
    texts: tuple[int, ...]


def figures_questions(
    policy: str | None, schema: Mapping[str, Measurement], span: Span, step: int
) -> Iterator[Question]:
    """For the figures of all fields in steps of nanoseconds, the first of which begins with the span."""
    for measurement in schema.values():
        names = list(measurement.fields)
        for first in range(0, len(names), _FIELDS):
            yield _question(policy, measurement, names[first : first + _FIELDS], span, step)


def _question(policy: str | None, measurement: Measurement, fields: list[str], span: Span, step: int) -> Question:
    columns = []
    texts = []
    for name in fields:
        if measurement.fields[name] in (int, float):
            columns += [(name, function) for function in ("count", "sum", "min", "max")]
        else:
            columns.append((name, "count"))
            texts.append(len(columns))
    terms = ", ".join(f"{function}({quoted(name)}::field)" for name, function in columns)
    # Steps begin at the epoch, unless they are told otherwise.
    text = (
        f"SELECT {terms} FROM {source_of(policy, measurement.name)} WHERE {where_of(measurement, span)} "
        f"GROUP BY time({step}ns, {span.start % step}ns), * fill(none)"
    )
    counts = tuple(number for number, (_, function) in enumerate(columns, 1) if function == "count")
    # 5 and 5.0 have the same sum, and are not the same.
    names = tuple(f"{name} {measurement.fields[name].__name__} {function}" for name, function in columns)
    return Question(text, names, counts, tuple(texts))


class Figures:
    """Figures as they come in; what came twice counts once. schema: what was asked for."""

    def __init__(self, schema: Mapping[str, Measurement]) -> None:
        self.schema = schema
        self._figures: dict[Segment, dict[str, float]] = {}
        self._counts: dict[Segment, int] = {}
        self._unread: set[str] = set()

    def add(self, question: Question, part: Series) -> None:
        """A part of the answer to a question."""
        series = series_text(part.measurement, part.tags)
        for values in part.values:
            segment = Segment(series, values[0])
            known = self._figures.setdefault(segment, {})
            for name, value in zip(question.names, values[1:], strict=True):
                if value is not None:
                    known[name] = value
            for column in question.counts:
                # Another version may count nothing as 0 instead of leaving it out.
                if (count := values[column]) and self._counts.setdefault(segment, count) != count:
                    self._counts[segment] = max(self._counts[segment], count)
                    self._unread.add(series)
            if any(values[column] for column in question.texts):
                self._unread.add(series)

    def fingerprints(self) -> Fingerprints:
        """What was added, together."""
        segments = {
            segment: Fingerprint(self._counts[segment], figures)
            for segment, figures in self._figures.items()
            if segment in self._counts
        }
        return Fingerprints(segments, frozenset(self._unread))
