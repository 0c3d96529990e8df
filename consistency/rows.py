"""What a store holds, in the terms that all stores share."""

from __future__ import annotations

from typing import Any, NamedTuple


class Span(NamedTuple):
    """Half-open span of event time, nanoseconds since the epoch: start <= at < end."""

    start: int
    end: int


class Key(NamedTuple):
    """By what a row is found again. identity: its text; at: event time, nanoseconds since the epoch."""

    identity: str
    at: int


class Row(NamedTuple):
    """One row of a store.

    identity: what names the event, the same text in both stores
    at: event time, nanoseconds since the epoch
    fields: what is compared, by name; values are bool, int, float, str, bytes, list or dict. What is NULL in a column,
        or missing in a point, is not in here; a null inside of a JSON document is None
    """

    identity: str
    at: int
    fields: dict[str, Any]

    @property
    def key(self) -> Key:
        """By what it is found again."""
        return Key(self.identity, self.at)
