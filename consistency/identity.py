"""Names of events that are made of several values, and of rows whose time is part of their name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson

from consistency.rows import Key, Row

PROBE: Final = "crossfade-probe-"
"""In the names of probes' events, which are in no count."""


def text_of(parts: Sequence[str]) -> str:
    """One text for the values that name an event: one value as it is, several as a JSON array.

    So `["a", "b c"]` and `["a b", "c"]` have different names, and each can be taken apart again.
    """
    return parts[0] if len(parts) == 1 else orjson.dumps(list(parts)).decode()


def parts_of(text: str, count: int) -> list[str]:
    """The values again. count: how many they were. Raises ValueError when the text is of another number."""
    if count == 1:
        return [text]
    parts = orjson.loads(text)
    if not isinstance(parts, list) or len(parts) != count or not all(isinstance(each, str) for each in parts):
        raise ValueError(f"{text!r} is not the name of {count} values")
    return parts


class Naming:
    """How rows of two stores find each other.

    precision: nanoseconds, the coarser one of both stores; is_keyed_by_time: the time is part of the name in both;
    content: what a row's fields are called, where that is part of the name, and the time as well
    """

    __slots__ = ("content", "is_keyed_by_time", "precision")

    def __init__(
        self,
        precision: int = 1,
        *,
        is_keyed_by_time: bool = False,
        content: Callable[[dict[str, Any]], str] | None = None,
    ) -> None:
        self.precision = precision
        self.is_keyed_by_time = is_keyed_by_time
        self.content = content

    def name(self, key: Key | Row) -> str:
        """The text under which a row is counted, compared and reported."""
        place = self.place(key)
        return f"{place} {self.content(key.fields)}" if self.content is not None and isinstance(key, Row) else place

    def place(self, key: Key | Row) -> str:
        """What a key knows of the name: rows of one name have one place."""
        is_timed = self.is_keyed_by_time or self.content is not None
        return f"{key.identity} {self.floor(key.at)}" if is_timed else key.identity

    def floor(self, at: int) -> int:
        """The time at the coarser precision, nanoseconds."""
        return at - at % self.precision
