"""Several events in one request: how their bodies are put together, and what the answer says of each. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from config.deliver import ItemResults
from proxy.core.pointer import UNREADABLE, follow, tokens_of
from proxy.core.template import Unfit, is_json

_decode = msgspec.json.Decoder().decode


def entry_of(body: bytes, form: str) -> bytes | Unfit:
    """A body as one of a batch, or why it cannot be one. form: `array` or `lines`.

    JSON is written on one line for `lines`; any other body must be one line, with something in it.
    """
    if form == "array":
        return body if is_json(body) else Unfit("its body cannot stand in an array: it is no JSON")
    try:
        return msgspec.json.format(body, indent=-1)
    except UNREADABLE:
        line = body.removesuffix(b"\n").removesuffix(b"\r")
    if not line.strip() or b"\n" in line or b"\r" in line:
        return Unfit("its body cannot stand among lines: it is empty, or several")
    return line


def joined(bodies: Sequence[bytes], form: str) -> bytes:
    """One body of entries. form: `array` of JSON values, or `lines`, each ended by a newline."""
    if form == "array":
        return b"[%b]" % b",".join(bodies)
    return b"".join(body + b"\n" for body in bodies)


class Results:
    """A rule for answers, compiled."""

    __slots__ = ("_items", "_status")

    def __init__(self, rule: ItemResults) -> None:
        self._items = tokens_of(rule.items)
        self._status = tokens_of(rule.status)

    def read(self, answer: bytes, n: int) -> list[int] | None:
        """The status of each of n events, in their order; None when the answer does not say that of all."""
        try:
            items = follow(_decode(answer), self._items)
        except UNREADABLE:
            return None
        if not isinstance(items, list) or len(items) != n:
            return None
        found = [follow(item, self._status) for item in items]
        if not all(type(status) is int and 100 <= status <= 599 for status in found):
            return None
        return found
