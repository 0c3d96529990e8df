"""Moments as stores and clients write them, in nanoseconds since the epoch."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from math import floor, isfinite
from typing import Any, Final

_ISO: Final = re.compile(
    r"(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2}(?::\d{2})?)(?:[.,](\d{1,9})\d*)?\s?(Z|z|[+-]\d{2}(?::?\d{2})?)?)?",
    re.ASCII,
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)
_UNITS: Final = ((10**17, 1), (10**14, 1_000), (10**11, 1_000_000), (0, 1_000_000_000))
"""From how large a number on it is in nanoseconds, microseconds, milliseconds, seconds: any time from 1973 to 5138."""


def moment_of(value: Any) -> int | None:
    """Nanoseconds since the epoch, or None when the value is no moment, or none that 64 bits can hold (1678 to 2262).

    Text in the form of ISO 8601, with a date and perhaps a time of day, up to nanoseconds (further digits are
    dropped); without an offset it is UTC. Numbers count from the epoch, in the unit that their size suggests.
    """
    at = None
    if isinstance(value, bool):
        pass
    elif isinstance(value, int):
        at = value * _unit(abs(value))
    elif isinstance(value, float):
        at = _of_float(value)
    elif isinstance(value, str):
        at = _of_text(value)
    return at if at is not None and -(2**63) <= at < 2**63 else None


def _unit(size: float) -> int:
    return next(unit for least, unit in _UNITS if size >= least)


def _of_float(value: float) -> int | None:
    if not isfinite(value):
        return None
    unit = _unit(abs(value))
    # A float of seconds or milliseconds has 16 digits, hence no nanoseconds: rounded to what it can mean.
    step = 1_000 if unit > 1_000 else 1
    return floor(value) * unit + round((value - floor(value)) * unit / step) * step


def _of_text(text: str) -> int | None:
    match = _ISO.fullmatch(text.strip())
    if match is None:
        return None
    day, clock, fraction, offset = match.groups()
    try:
        at = datetime.fromisoformat(f"{day}T{clock or '00:00'}{(offset or 'Z').upper()}")
    except ValueError:
        return None
    return (at - _EPOCH) // _SECOND * 1_000_000_000 + int((fraction or "0").ljust(9, "0"))
