"""JSON pointers (RFC 6901): what stands at a place of a document, and putting something there."""

from __future__ import annotations

import re
from typing import Any, Final

MISSING: Final = object()
"""What stands where nothing stands; null is None."""

_INDEX: Final = re.compile(r"0|[1-9]\d*", re.ASCII)
_BAD_ESCAPE: Final = re.compile(r"~(?![01])")


def parse(pointer: str) -> tuple[str, ...]:
    """The names on the way; none for the whole document. Raises ValueError."""
    if pointer and not pointer.startswith("/"):
        raise ValueError(f"the JSON pointer {pointer!r} does not begin with /")
    if _BAD_ESCAPE.search(pointer):
        raise ValueError(f"the JSON pointer {pointer!r} has a ~ that is neither ~0 nor ~1")
    return tuple(name.replace("~1", "/").replace("~0", "~") for name in pointer.split("/")[1:])


def resolve(document: Any, names: tuple[str, ...]) -> Any:
    """What stands there, or MISSING."""
    for name in names:
        if isinstance(document, dict):
            document = document.get(name, MISSING)
        elif isinstance(document, list) and _INDEX.fullmatch(name) and int(name) < len(document):
            document = document[int(name)]
        else:
            return MISSING
    return document


def put(document: dict[str, Any], names: tuple[str, ...], value: Any) -> None:
    """Put a value where nothing stands yet; objects on the way are made. Raises ValueError where that cannot be."""
    *way, last = names or ("",)
    place: Any = document
    for name in way:
        place = place.setdefault(name, {}) if isinstance(place, dict) else None
    if not isinstance(place, dict) or not names:
        raise ValueError(f"nothing can be put at /{'/'.join(names)}")
    place.setdefault(last, value)
