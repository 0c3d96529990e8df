"""JSON pointers (RFC 6901): in a document that was read, and in one that is only looked through. Pure.

    pointers --compiled--> Places --read(text)--> what is written at each, byte for byte

Nothing is built of what nobody asks for, so a long document costs one pass for each level that the pointers go down,
whatever is in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}")
"""An array index (section 4): no sign, no leading zero."""
NAMEABLE: Final = re.compile(r"[^\"\\\x00-\x1f]*")
"""Member names that msgspec can look for."""
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What says that a text is no JSON, or nested too deep."""
_MOST_ITEMS: Final = 256
"""Items that are looked through one by one; for a higher index all of them are taken apart."""
_BLANKS: Final = b" \t\r\n"

_whole = msgspec.json.Decoder(msgspec.Raw).decode
_ABSENT: Final = msgspec.Raw()

_Reader = Callable[[bytes], Iterable[tuple[str, msgspec.Raw]]]
"""Gives what is there of some members of an object, or of some items of an array, by their tokens."""


def tokens_of(pointer: str) -> tuple[str, ...]:
    """A pointer's tokens, unescaped."""
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:])


def follow(document: Any, tokens: Sequence[str], absent: Any = None) -> Any:
    """What the tokens lead to in a document; `absent` where nothing is."""
    for token in tokens:
        if isinstance(document, dict):
            document = document.get(token, absent)
        elif isinstance(document, list) and INDEX.fullmatch(token) and int(token) < len(document):
            document = document[int(token)]
        else:
            return absent
    return document


def check_json(text: bytes) -> None:
    """Raises one of UNREADABLE when it is no JSON."""
    text.decode()
    _whole(text)


class Places:
    """Several pointers into one document, compiled. An empty one is all of it."""

    __slots__ = ("_level",)

    def __init__(self, pointers: Iterable[str]) -> None:
        self._level = _Level({pointer: tokens_of(pointer) for pointer in pointers})

    def read(self, text: bytes) -> dict[str, bytes]:
        """By pointer, what is written there; without those at which nothing is. Raises one of UNREADABLE."""
        text = text.strip(_BLANKS)
        text.decode()
        found: dict[str, bytes] = {}
        if not self._level.read(text, found):
            _whole(text)
        return found


class _Level:
    """The rest of some pointers from one value on. paths: their tokens, by pointer."""

    __slots__ = ("_deeper", "_here", "_items", "_members")

    def __init__(self, paths: Mapping[str, tuple[str, ...]]) -> None:
        self._here = [pointer for pointer, tokens in paths.items() if not tokens]
        going = {pointer: tokens for pointer, tokens in paths.items() if tokens}
        firsts = list(dict.fromkeys(tokens[0] for tokens in going.values()))
        self._deeper = {
            first: _Level({pointer: tokens[1:] for pointer, tokens in going.items() if tokens[0] == first})
            for first in firsts
        }
        indexes = [first for first in firsts if INDEX.fullmatch(first)]
        self._members = _members(firsts) if firsts else None
        self._items = _items(indexes) if indexes else None

    def read(self, text: bytes, found: dict[str, bytes]) -> bool:
        """Add what is there; false when nothing was looked for within this value, so that nobody has read it."""
        for pointer in self._here:
            found[pointer] = text
        kind = text[:1]
        read = self._members if kind == b"{" else self._items if kind == b"[" else None
        if read is None:
            return False
        for token, value in read(text):
            self._deeper[token].read(bytes(value), found)
        return True


def _members(names: Sequence[str]) -> _Reader:
    if not all(NAMEABLE.fullmatch(name) for name in names):
        return _any_members(names)
    fields = [(f"m{i}", msgspec.Raw, _ABSENT) for i in range(len(names))]
    shape = msgspec.defstruct("Members", fields, rename={f"m{i}": name for i, name in enumerate(names)}, gc=False)
    return _of_shape(shape, [(name, f"m{i}") for i, name in enumerate(names)])


def _items(indexes: Sequence[str]) -> _Reader:
    n = max(map(int, indexes)) + 1
    if n > _MOST_ITEMS:
        return _any_items(indexes)
    fields = [(f"m{i}", msgspec.Raw, _ABSENT) for i in range(n)]
    shape = msgspec.defstruct("Items", fields, array_like=True, gc=False)
    return _of_shape(shape, [(index, f"m{index}") for index in indexes])


def _of_shape(shape: type, fields: Sequence[tuple[str, str]]) -> _Reader:
    """Reads a struct that has what is wanted alone. fields: tokens, and the fields' names."""
    decode: Callable[[bytes], Any] = msgspec.json.Decoder(shape).decode

    def read(text: bytes) -> Iterable[tuple[str, msgspec.Raw]]:
        found = decode(text)
        values = [(token, getattr(found, field)) for token, field in fields]
        return [(token, value) for token, value in values if value != _ABSENT]

    return read


def _any_members(names: Sequence[str]) -> _Reader:
    decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

    def read(text: bytes) -> Iterable[tuple[str, msgspec.Raw]]:
        found = decode(text)
        return [(name, found[name]) for name in names if name in found]

    return read


def _any_items(indexes: Sequence[str]) -> _Reader:
    decode = msgspec.json.Decoder(list[msgspec.Raw]).decode

    def read(text: bytes) -> Iterable[tuple[str, msgspec.Raw]]:
        found = decode(text)
        return [(index, found[int(index)]) for index in indexes if int(index) < len(found)]

    return read
