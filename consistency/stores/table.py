"""What stores with tables have in common: names in SQL, times in columns, values as text, one name for each row.

A time stands in a column as a number of some unit since the epoch, or as text of ISO 8601; text without an offset is
UTC. Whole numbers and decimal ones are exact. A float, whatever its unit, tells times of our days apart by 0.24 us: it
means the microsecond that is nearest to the shortest number that stands for it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from datetime import timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final

import orjson

from consistency.moments import EPOCH
from consistency.rows import Row, Span

NANOSECONDS: Final = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
"""Of one `time_unit`."""

MICROSECOND: Final = 1000
"""Precision of times that are floats, nanoseconds."""

_LEAST: Final = -(2**63)
_MOST: Final = 2**63 - 1
_LONG_NUMBER: Final = re.compile(r"\d{19}")


def quoted(name: str) -> str:
    """A name as SQL has it, whatever characters it is made of."""
    return '"' + name.replace('"', '""') + '"'


def clamped(span: Span) -> Span:
    """Within 64 bits, the times that stores can hold."""
    return Span(max(span.start, _LEAST), min(max(span.end, _LEAST), _MOST))


def format_time(at: int, *, separator: str = "T", offset: str = "+00:00") -> str:
    """ISO 8601 of nanoseconds since the epoch: UTC, with as many digits as are needed, in threes.

    offset: how UTC is written: +00:00, Z or nothing
    """
    seconds, fraction = divmod(at, 10**9)
    text = (EPOCH + timedelta(seconds=seconds)).strftime(f"%Y-%m-%d{separator}%H:%M:%S").rjust(19, "0")
    digits = f"{fraction:09}"
    while digits.endswith("000"):
        digits = digits[:-3]
    return f"{text}.{digits}{offset}" if digits else text + offset


def time_of_number(value: int | float, unit: int) -> int:
    """Nanoseconds since the epoch of a number; of a float, to the microsecond. unit: nanoseconds.

    Raises ValueError for what is not finite.
    """
    if isinstance(value, int):
        return value * unit
    # In almost every case the float itself is nearer to a microsecond than it can be wrong.
    micros = value * (unit // MICROSECOND) if unit >= MICROSECOND else value / (MICROSECOND // unit)
    if not math.isfinite(micros):
        raise ValueError(f"{value!r} is no time")
    nearest = round(micros)
    if abs(micros - nearest) > 0.2 or abs(nearest) > 2**51:
        # Halves are rounded as PostgreSQL rounds them.
        nearest = int((Decimal(repr(value)) * unit / MICROSECOND).to_integral_value(ROUND_HALF_UP))
    return nearest * MICROSECOND


def number_of_time(at: int, unit: int) -> int | float:
    """The number that stands for a time, whole where it is. at, unit: nanoseconds."""
    return at // unit if at % unit == 0 else float(Decimal(at) / unit)


def number_text(value: int | float) -> str:
    """A number as the text that names it: 12 for 12 and for 12.0, else the shortest that stands for it."""
    if isinstance(value, float) and math.isfinite(value) and value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return repr(value) if isinstance(value, float) else str(value)


def parse_json(text: str) -> Any:
    """A JSON document; numbers without a fraction are exact, however long. Raises ValueError."""
    try:
        return json.loads(text) if _LONG_NUMBER.search(text) else orjson.loads(text)
    except RecursionError:
        raise ValueError("a document that is nested too deeply") from None


def format_json(value: Any) -> str:
    """The document as text; raises TypeError for what JSON has no word for."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        # Whole numbers of more than 64 bits.
        return json.dumps(value, ensure_ascii=False, allow_nan=False)


def first_of_each(rows: Iterable[Row]) -> list[Row]:
    """The first row of every identity: after it is written, another one of that name is there."""
    first: dict[str, Row] = {}
    for row in rows:
        first.setdefault(row.identity, row)
    return list(first.values())


def batches(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    """In pieces of a size at most."""
    return (items[start : start + size] for start in range(0, len(items), size))
