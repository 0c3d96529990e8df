"""Long messages in pieces: one of megabytes is gone through, not decoded, and what it holds is read piece by piece.

20,000 states are 9 MB of JSON: decoded in one go they hold up a worker's loop for 300 ms, gone through for 20 ms.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

_LIST: Final = re.compile(rb"[ \t\r\n]*\[")
_pieces = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Answer(msgspec.Struct, gc=False):
    """An answer with a list. Whatever else a message has is left."""

    id: int
    type: str
    success: bool
    result: list[msgspec.Raw]


class Named(msgspec.Struct, gc=False):
    """What is read of a state before it is known whether it is news."""

    entity_id: Any = None
    last_updated: Any = None


_answer = msgspec.json.Decoder(Answer).decode
_named = msgspec.json.Decoder(Named).decode


def entries(text: bytes) -> list[bytes | memoryview]:
    """Those of a list, as they are written: digits and all. What is no list is one of them."""
    if _LIST.match(text) is None:
        return [text]
    try:
        return [memoryview(each) for each in _pieces(text)]
    except (msgspec.DecodeError, RecursionError):
        return [text]


def answer_in(text: bytes | memoryview) -> Answer | None:
    """None for anything else, and for what is no JSON."""
    try:
        return _answer(text)
    except (msgspec.DecodeError, RecursionError):
        return None


def named_in(state: msgspec.Raw) -> Named | None:
    """None for what is no object, or is nested too deeply."""
    try:
        return _named(state)
    except (msgspec.DecodeError, RecursionError):
        return None
