"""Values on the command line: weights, durations, points in time, steps.

`config.units` reads durations too, but needs pydantic, which alone costs more than a whole command may.
"""

from __future__ import annotations

import argparse
import re
import time

_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?")


def weight(text: str) -> float:
    """Read `25`, `0.5` or `25%` as percent; refuses what is no number or outside 0-100."""
    number = text.removesuffix("%")
    if not _NUMBER.fullmatch(number) or not 0 <= float(number) <= 100:
        raise argparse.ArgumentTypeError(f"weight must be between 0 and 100 percent, not {text}")
    return float(number)


def duration(text: str) -> float:
    """Read `500ms`, `5s`, `1m`, `2h` or `1h30m` as seconds; a number without a unit is refused."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise argparse.ArgumentTypeError(f"expected a duration such as 500ms, 5s, 1m or 2h, not {text}")
    return float(sum(float(number) * _SECONDS[unit] for number, unit in parts))


def rate(text: str) -> float:
    """Read `5000/s`, `17/min` or `3/h` as events per second; a number without a unit is refused."""
    number, slash, unit = text.partition("/")
    seconds = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}.get(unit)
    if not slash or seconds is None or not _NUMBER.fullmatch(number) or not 0 < float(number) <= 1e7:
        raise argparse.ArgumentTypeError(f"expected a rate such as 5000/s or 17/min, not {text}")
    return float(number) / seconds


def share(text: str) -> float:
    """Read `0.1%` or `0.001` as a ratio 0-1."""
    number = text.removesuffix("%")
    ratio = float(number) / (100 if text.endswith("%") else 1) if _NUMBER.fullmatch(number) else -1.0
    if not 0 <= ratio <= 1:
        raise argparse.ArgumentTypeError(f"expected a share such as 0.1% or 0.001, not {text}")
    return ratio


def moment(text: str) -> str:
    """Read a point in time: how long ago (`1h`), an ISO date or time, or Unix seconds; as the admin API takes it."""
    if _DURATION.match(text):
        return f"{time.time() - duration(text):.3f}"
    if _ISO_DATE.fullmatch(text) or re.fullmatch(r"\d+(\.\d+)?", text):
        return text
    raise argparse.ArgumentTypeError(f"expected 1h (ago), 2026-01-31T12:00:00Z or Unix seconds, not {text}")


def steps(text: str) -> list[float]:
    """Read `75,50,25,0`: weights that fall and end in 0."""
    weights = [weight(part.strip()) for part in text.split(",")]
    if weights != sorted(set(weights), reverse=True) or weights[-1] != 0:
        raise argparse.ArgumentTypeError(f"steps must fall and end in 0, such as 75,50,25,10,0, not {text}")
    return weights


def at_least_one(text: str) -> int:
    """A whole number from 1 up."""
    return _whole(text, 1)


def at_least_zero(text: str) -> int:
    """A whole number from 0 up."""
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    if not re.fullmatch(r"\d{1,18}", text) or int(text) < least:
        raise argparse.ArgumentTypeError(f"expected a whole number from {least} up, not {text}")
    return int(text)
