"""Points of InfluxDB as rows: the text of a series, and line protocol.

Both versions of InfluxDB name a row by its series' text, which is how line protocol writes a measurement with its
tags, sorted by name and without empty ones:

    weather,city=Linz,room=living\\ room
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from consistency.rows import Key, Row, Span
from consistency.stores.errors import StoreRefused
from consistency.stores.protocol import CHUNK

PRECISIONS: Final[Mapping[str, int]] = {"ns": 1, "us": 1000, "ms": 10**6, "s": 10**9}
"""Nanoseconds of each precision that writers send times with."""
EARLIEST: Final = -(2**63) + 2
LATEST: Final = 2**63 - 1
"""What InfluxDB has of time, nanoseconds; LATEST itself is not in it."""

MAX_BYTES: Final = 2**20
"""Of one write; servers refuse more than 25 MB, unless they are told otherwise."""

_GAP: Final = 10 * 10**9
_LONGEST: Final = 60 * 10**9
"""Nanoseconds: keys further apart than _GAP are asked for by themselves, and no more than _LONGEST is read for some."""

_ESCAPED: Final = re.compile(r"\\([, =])")
# Possessive, so that a long text that is none is refused after one look at it.
_PLAIN: Final = r"(?:\\[, =]|[^, =])++"
_SERIES: Final = re.compile(rf"((?:\\[, ]|[^, ])++)((?:,{_PLAIN}={_PLAIN})*)", re.DOTALL)
_TAG: Final = re.compile(rf",({_PLAIN})=({_PLAIN})", re.DOTALL)
_DROPPED: Final = re.compile(r"partial write: .*dropped=(\d+)", re.DOTALL)
_UNWRITABLE: Final = re.compile(r"[\r\n]|\\$")
"""What would end a name or a line, or escape what comes behind it."""
_INTEGERS: Final = range(-(2**63), 2**63)


_Item = TypeVar("_Item")


class Cluster(NamedTuple):
    """Keys of one measurement that lie close together. series: tags by text."""

    measurement: str
    span: Span
    series: Mapping[str, Mapping[str, str]]


class Unwritable(ValueError):
    """A row that no point can hold; the text says why."""


def series_text(measurement: str, tags: Mapping[str, str]) -> str:
    """The text of a series; tags with an empty value are none."""
    parts = [measurement.replace(",", "\\,").replace(" ", "\\ ")]
    parts += [f"{_escaped(name)}={_escaped(tags[name])}" for name in sorted(tags) if tags[name]]
    return ",".join(parts)


def _escaped(name: str) -> str:
    # Three replacements are quicker than one regular expression, and this is done for every series of every answer.
    return name.replace(",", "\\,").replace("=", "\\=").replace(" ", "\\ ")


def series_parts(text: str) -> tuple[str, dict[str, str]]:
    """Measurement and tags of a series' text. Raises ValueError when it is none."""
    match = _SERIES.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not the text of a series")
    measurement = re.sub(r"\\([, ])", r"\1", match[1])
    tags = {_ESCAPED.sub(r"\1", found[1]): _ESCAPED.sub(r"\1", found[2]) for found in _TAG.finditer(match[2])}
    return measurement, tags


def by_measurement(series: Iterable[str]) -> dict[str, dict[str, dict[str, str]]]:
    """Tags by measurement and series' text; what is no series' text is in no InfluxDB and left out."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for text in series:
        try:
            measurement, tags = series_parts(text)
        except ValueError:
            continue
        found.setdefault(measurement, {})[text] = tags
    return found


def clusters(keys: Iterable[Key], precision: int, most: int) -> Iterator[Cluster]:
    """Keys in few spans that do not hold much else. precision: nanoseconds; a key stands for its whole step of it.

    most: series of one cluster
    """
    steps = {step_of(key, precision) for key in keys}
    tags = by_measurement({step.identity for step in steps})
    for measurement, series in tags.items():
        chosen: dict[str, Mapping[str, str]] = {}
        start = end = 0
        for at, text in sorted((step.at, step.identity) for step in steps if step.identity in series):
            is_full = len(chosen) >= most and text not in chosen
            if chosen and (is_full or at - end > _GAP or at - start > _LONGEST):
                yield Cluster(measurement, Span(start, end), chosen)
                chosen = {}
            if not chosen:
                start = at
            chosen[text] = series[text]
            end = at + precision
        if chosen:
            yield Cluster(measurement, Span(start, end), chosen)


def within(span: Span) -> Span:
    """The part of a span that InfluxDB has times for."""
    return Span(max(span.start, EARLIEST), min(span.end, LATEST))


def line_of(row: Row) -> bytes:
    """A row as a line, its time in nanoseconds. Raises Unwritable."""
    try:
        measurement, tags = series_parts(row.identity)
    except ValueError as error:
        raise Unwritable(str(error)) from None
    names = (measurement, *tags, *tags.values(), *row.fields)
    if measurement.startswith("#") or any(not name or _UNWRITABLE.search(name) for name in names):
        raise Unwritable(f"a name in {row.identity!r} or in its fields cannot be written as line protocol")
    if not row.fields:
        raise Unwritable(f"{row.identity!r} has no fields, and a point has one at least")
    if not EARLIEST <= row.at < LATEST:
        raise Unwritable(f"the time {row.at} of {row.identity!r} is out of what InfluxDB has")
    fields = ",".join(f"{_escaped(name)}={_value(name, value)}" for name, value in row.fields.items())
    return f"{series_text(measurement, tags)} {fields} {row.at}".encode()


def _value(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and value in _INTEGERS:
        return f"{value}i"
    if isinstance(value, float) and math.isfinite(value):
        return repr(value)
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    raise Unwritable(f"the value of {name!r} is of a kind or size that no field can hold: {type(value).__name__}")


def line_batches(store: str, rows: Sequence[Row]) -> list[list[tuple[Row, bytes]]]:
    """Rows with their lines, in batches that servers take. Raises StoreRefused, before anything is written, when a row
    cannot be a point. store: its name.
    """
    try:
        lines = [(row, line_of(row)) for row in rows]
    except Unwritable as error:
        raise StoreRefused(store, str(error), 0) from None
    return list(batches(lines, lambda each: len(each[1]), CHUNK, MAX_BYTES))


def missing(batch: Sequence[tuple[Row, bytes]], there: Iterable[Row], precision: int) -> list[bytes]:
    """Lines of rows that are not there, the first one of each key. Times in one step of `precision` are the same."""
    taken = {step_of(row.key, precision) for row in there}
    wanted = []
    for row, line in batch:
        key = step_of(row.key, precision)
        if key not in taken:
            taken.add(key)
            wanted.append(line)
    return wanted


def written_of(said: str, count: int, before: int) -> int | None:
    """How many points are stored after a refusal, if it says so. count: of this batch; before: of those before it."""
    match = _DROPPED.search(said)
    return before + count - int(match[1]) if match else None


def step_of(key: Key, precision: int) -> Key:
    """A key with the beginning of its step of precision (nanoseconds) for its time."""
    return Key(key.identity, key.at - key.at % precision)


def batches(items: Iterable[_Item], size: Callable[[_Item], int], most: int, total: int) -> Iterator[list[_Item]]:
    """Items in lists of at most `most`, and of a size of at most `total`; a larger one has a list of its own."""
    batch: list[_Item] = []
    used = 0
    for item in items:
        length = size(item)
        if batch and (len(batch) >= most or used + length > total):
            yield batch
            batch, used = [], 0
        batch.append(item)
        used += length
    if batch:
        yield batch
