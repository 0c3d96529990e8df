"""Keys from InfluxDB's line protocol, as Telegraf and Home Assistant write it.

    weather,city=Linz,room=attic temperature=21.5,humidity=40i 1700000000000000000
    ^ measurement
            ^ tags                ^ fields                     ^ time

A request is one event, so the first point of a batch names its key: writers that batch by series keep each
series in order; a batch of several series is as sticky as its first. The grammar is that of InfluxDB's reference:
in measurements, tag names and tag values a backslash takes the next character as it is.
"""

from __future__ import annotations

import re
from typing import Final

from xxhash import xxh64_hexdigest

MAX_SERIES: Final = 400
"""Characters of a series that are a key as they are; what is longer is cut and told apart by a hash."""

# Possessive, so that a long line that is none is refused after one look at it.
_SKIPPED: Final = rb"(?:[ \t\r]*(?:#[^\n]*)?\n)*+[ \t]*+"
_MEASUREMENT: Final = rb"((?:\\[^\n]|[^\\, \t\n#])(?:\\[^\n]|[^\\, \n])*+)"
_NAME: Final = rb"((?:\\[^\n]|[^\\, =\n])++)"
_VALUE: Final = rb"((?:\\[^\n]|[^\\, =\n])++)"
_FIRST: Final = re.compile(_SKIPPED + _MEASUREMENT + rb"((?:," + _NAME + rb"=" + _VALUE + rb")*+) ")
_TAG: Final = re.compile(rb"," + _NAME + rb"=" + _VALUE)
_ESCAPED: Final = re.compile(rb"\\([, =])")


def _plain(text: bytes) -> str:
    return _ESCAPED.sub(rb"\1", text).decode("utf-8", "replace")


def measurement_of(body: bytes) -> str | None:
    """The first point's measurement; None when the body does not begin with a point."""
    match = _FIRST.match(body)
    return _plain(match[1]) if match else None


def tag_of(body: bytes, name: str) -> str | None:
    """The first point's value of a tag; None without it."""
    match = _FIRST.match(body)
    if match is None:
        return None
    for found in _TAG.finditer(match[2]):
        if _plain(found[1]) == name:
            return _plain(found[2])
    return None


def series_of(body: bytes) -> str | None:
    """The first point's measurement with all of its tags, whatever order they were written in."""
    match = _FIRST.match(body)
    if match is None:
        return None
    tags = sorted(b"%b=%b" % (found[1], found[2]) for found in _TAG.finditer(match[2]))
    series = b",".join([match[1], *tags])
    text = series.decode("utf-8", "replace")
    return text if len(text) <= MAX_SERIES else f"{text[:MAX_SERIES]}~{xxh64_hexdigest(series)}"
