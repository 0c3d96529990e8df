"""Templates: what a backend gets is made of an event's body, id and key. JSON pointers and literals, nothing else.

    {"kind": "state", "data": {"entity": "{{/entity_id}}", "all": "{{}}"}}  + Values  -->  bytes | Unfit

A string that is one placeholder stands for the value as it is written in the body, whatever its type; within a longer
string only texts, numbers and booleans can stand. Pure; what cannot be made is an `Unfit`, never an exception.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, TypeAlias
from urllib.parse import quote

import msgspec

from config.placeholders import NAMES, Text, parse_text
from proxy.core.pointer import UNREADABLE, Places, check_json

_encode = msgspec.json.Encoder().encode
_decode_text = msgspec.json.Decoder(str).decode
_HEADER: Final = re.compile(r"[\x21-\x7e\xa0-\xff](?:[\t\x20-\x7e\xa0-\xff]*[\x21-\x7e\xa0-\xff])?")
_MAX_SEGMENT: Final = 2048
"""Characters of a value in a path or a header."""


class Unfit(NamedTuple):
    """Why an event cannot be made into what the backend takes."""

    reason: str


class _Missing(Exception):
    """What a template names is not there."""


class _Wrong(Exception):
    """It is there, but cannot stand where it is wanted."""


class Values:
    """What templates may name of one event. body: JSON, read when it is first asked for; places: all that they name."""

    __slots__ = ("_body", "_found", "_places", "id", "key")

    def __init__(self, id: str, key: str, body: bytes, places: Places) -> None:
        self.id = id
        self.key = key
        self._body = body
        self._places = places
        self._found: dict[str, bytes] | None = None

    def at(self, pointer: str) -> bytes | None:
        """What is written there, one of the places'; None where nothing is. Raises _Wrong when the body is no JSON."""
        if self._found is None:
            try:
                self._found = self._places.read(self._body)
            except UNREADABLE:
                raise _Wrong("the body is no JSON") from None
        return self._found.get(pointer)


def is_json(body: bytes) -> bool:
    """Whether a body is JSON."""
    try:
        check_json(body)
    except UNREADABLE:
        return False
    return True


_Make: TypeAlias = Callable[[Values], bytes]
"""Makes a JSON value."""


def _value_of(name: str) -> _Make:
    """Reads what a placeholder names, as JSON. Raises _Missing."""
    if name == "id":
        return lambda values: _encode(values.id)
    if name == "key":
        return lambda values: _encode(values.key)

    def read(values: Values) -> bytes:
        found = values.at(name)
        if found is None:
            raise _Missing(f"{name} is missing")
        return found

    return read


def _as_text(value: bytes, name: str) -> str:
    """A JSON value within a text: strings as they are, numbers and booleans as they are written."""
    if value.startswith(b'"'):
        return _decode_text(value)
    if value == b"null":
        raise _Missing(f"{name or 'the body'} is null")
    if value[:1] in (b"{", b"["):
        raise _Wrong(f"{name or 'the body'} is no text, number or boolean")
    return value.decode()


def _joined(text: Text, *, quoted: bool = False) -> Callable[[Values], str]:
    """Fills in a text. quoted: values are percent-encoded for one segment of a path."""
    readers = [(name, _value_of(name)) for name in text.names]

    def join(values: Values) -> str:
        parts = [text.pieces[0]]
        for (name, read), piece in zip(readers, text.pieces[1:], strict=True):
            value = _as_text(read(values), name)
            parts += (_segment(value, name) if quoted else value, piece)
        return "".join(parts)

    return join


def _segment(value: str, name: str) -> str:
    if not value:
        raise _Missing(f"{name} is empty")
    if len(value) > _MAX_SEGMENT:
        raise _Wrong(f"{name} is too long for a path")
    return quote(value, safe="")


def _pieces(value: Any, *, null: bool) -> list[_Make]:
    """Makers of the parts of a JSON value of the configuration. null: what is missing is null."""
    if isinstance(value, str) and not parse_text(value).is_literal:
        text = parse_text(value)
        make = _value_of(text.names[0]) if text.is_value else _string_of(text)
        return [_or_null(make) if null else make]
    if isinstance(value, dict):
        inner = [_pieces(each, null=null) for each in value.values()]
        names = [_encode(name) + b":" for name in value]
        return _enclosed(b"{", [[_fixed(name), *each] for name, each in zip(names, inner, strict=True)], b"}")
    if isinstance(value, (tuple, list)):
        return _enclosed(b"[", [_pieces(each, null=null) for each in value], b"]")
    return [_fixed(_encode(value))]


def _enclosed(opening: bytes, values: list[list[_Make]], end: bytes) -> list[_Make]:
    found = [_fixed(opening)]
    for i, value in enumerate(values):
        found += (_fixed(b","), *value) if i else value
    return [*found, _fixed(end)]


def _fixed(text: bytes) -> _Make:
    return lambda _values: text


def _string_of(text: Text) -> _Make:
    join = _joined(text)
    return lambda values: _encode(join(values))


def _or_null(make: _Make) -> _Make:
    def made(values: Values) -> bytes:
        try:
            return make(values)
        except _Missing:
            return b"null"

    return made


def _pointers(names: Iterable[str]) -> frozenset[str]:
    return frozenset(names) - set(NAMES)


def _pointers_in(value: Any) -> frozenset[str]:
    """Of a JSON value of the configuration."""
    if isinstance(value, str):
        return _pointers(parse_text(value).names)
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else ()
    return frozenset().union(*map(_pointers_in, inner))


class JsonTemplate:
    """A JSON value, compiled. missing: `reject` or `null`, for what a placeholder names and the event has not.

    pointers: what it names of the body, for `Values`, as of all templates
    """

    __slots__ = ("_pieces", "pointers")

    def __init__(self, value: Any, missing: str) -> None:
        self._pieces = _pieces(value, null=missing == "null")
        self.pointers = _pointers_in(value)

    def render(self, values: Values, longest: int) -> bytes | Unfit:
        """The value of one event, as JSON. longest: bytes that it may have."""
        try:
            parts = [make(values) for make in self._pieces]
        except (_Missing, _Wrong) as error:
            return Unfit(f"its body cannot be made: {error}")
        if sum(map(len, parts)) > longest:
            return Unfit(f"its body cannot be made: it would be longer than {longest} bytes")
        return b"".join(parts)


class PathTemplate:
    """A path, compiled. A value is one segment or a part of one: it is percent-encoded, and must be there."""

    __slots__ = ("_join", "pointers")

    def __init__(self, path: str) -> None:
        text = parse_text(path)
        self._join = _joined(text, quoted=True)
        self.pointers = _pointers(text.names)

    def render(self, values: Values) -> str | Unfit:
        """The path for one event."""
        try:
            path = self._join(values)
        except (_Missing, _Wrong) as error:
            return Unfit(f"its path cannot be made: {error}")
        except UnicodeEncodeError:
            return Unfit("its path cannot be made: a value is no text")
        if any(segment in (".", "..") for segment in path.partition("?")[0].split("/")):
            return Unfit("its path cannot be made: it has a segment . or ..")
        return path


class HeaderTemplate:
    """A header's value, compiled. Under `null` the header is left out when something is missing."""

    __slots__ = ("_is_null", "_join", "_name", "pointers")

    def __init__(self, name: str, value: str, missing: str) -> None:
        self._name = name
        text = parse_text(value)
        self._join = _joined(text)
        self.pointers = _pointers(text.names)
        self._is_null = missing == "null"

    def render(self, values: Values) -> bytes | Unfit:
        """The header's line for one event, or nothing."""
        try:
            value = self._join(values)
        except _Missing as error:
            return b"" if self._is_null else Unfit(f"its header {self._name} cannot be made: {error}")
        except _Wrong as error:
            return Unfit(f"its header {self._name} cannot be made: {error}")
        if len(value) > _MAX_SEGMENT or not _HEADER.fullmatch(value):
            return Unfit(f"its header {self._name} cannot be made: a value cannot stand in a header")
        return f"{self._name}: {value}\r\n".encode("latin-1")
