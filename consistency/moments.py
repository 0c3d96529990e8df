"""Moments as stores and clients write them, in nanoseconds since the epoch.

`parse_time` is for who knows that there is a time in ISO 8601; `moment_of` for who does not know what there is.
"""

from __future__ import annotations

import functools
import re
from datetime import UTC, datetime
from math import floor, isfinite
from typing import Any, Final

_ISO: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?)?(?: ?([Zz]|[+-]\d\d(?::?\d\d)?))?", re.ASCII
)
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FURTHER_DIGITS: Final = re.compile(r"([.,]\d{9})\d+", re.ASCII)
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
    try:
        return parse_time(_FURTHER_DIGITS.sub(r"\1", text.strip()))
    except ValueError:
        return None


def parse_time(text: str) -> int:
    """Nanoseconds since the epoch of a text of ISO 8601: a date, with or without a time of day, digits of the second
    (nine at most) and an offset. Raises ValueError.
    """
    match = _ISO.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:60]!r} is no time")
    day, minute, second, fraction, offset = match.groups()
    at = _minute(f"{day} {minute or '00:00'}") + int(second or 0) * 10**9
    if int(second or 0) > 59:
        raise ValueError(f"{text!r} is no time")
    if fraction:
        at += int(fraction) * 10 ** (9 - len(fraction))
    return at - _offset(offset) if offset else at


@functools.lru_cache(maxsize=4096)
def _minute(text: str) -> int:
    """Rows of a window share few minutes."""
    since = datetime.fromisoformat(text).replace(tzinfo=UTC) - EPOCH
    return (since.days * 86400 + since.seconds) * 10**9


def _offset(text: str) -> int:
    if text in "Zz":
        return 0
    hours, minutes = int(text[1:3]), int(text[3:].removeprefix(":") or 0)
    if hours > 23 or minutes > 59:
        raise ValueError(f"{text!r} is no offset")
    return (-1 if text[0] == "-" else 1) * (hours * 60 + minutes) * 60 * 10**9
