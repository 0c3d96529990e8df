"""What a row says, as one short text: the name of rows that nothing else names."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final

from consistency.rules import Incomparable

_SIZE: Final = 16
"""Bytes: no two contents of a window have one name by chance."""


def content_name(fields: dict[str, Any]) -> str:
    """Equal for fields that are the same: types count, the order of names does not. Raises Incomparable."""
    try:
        return blake2b(_text(fields).encode(errors="surrogatepass"), digest_size=_SIZE).hexdigest()
    except RecursionError:
        raise Incomparable("a value is nested too deep") from None


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(sorted(f"{name!r}:{_text(each)}" for name, each in value.items())) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_text, value)) + "]"
    if isinstance(value, float):
        value += 0.0  # there is one zero
    return f"{type(value).__name__} {value!r}"
