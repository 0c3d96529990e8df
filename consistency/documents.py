"""Fields that hold a JSON document as text: taken apart, so that rules can speak of what is in them.

Spaces and the order of names make two texts of one document. What is no object or array in JSON stays text, and is
compared as such: `1` and `"1"` are two texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from consistency.rows import Row

_decode: Final = msgspec.json.decode
"""Whole numbers of any length come exactly."""


def taken_apart(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """The same rows, with documents in the place of the texts of these fields."""
    return [row._replace(fields=_fields(row.fields, names)) for row in rows]


def _fields(fields: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    found = dict(fields)
    for name in names:
        value = found.get(name)
        if isinstance(value, str | bytes):
            try:
                document = _decode(value)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
            if isinstance(document, dict | list):
                found[name] = document
    return found
