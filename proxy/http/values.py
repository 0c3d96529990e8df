"""Keys, event ids and event times: the configured sources, compiled into one reader per route.

JSON pointers made of member names alone are read by msgspec, which checks the whole text but builds
only the values asked for (183 ns against 532 ns with orjson for a 290-byte event), a key and an id in one
pass; a pointer with an array index falls back to orjson.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import msgspec
import orjson

from config.units import BODY_KINDS, Source, parse_source
from proxy.core.pointer import INDEX, NAMEABLE, UNREADABLE, follow, tokens_of
from proxy.http.head import RequestHead
from proxy.http.line_protocol import measurement_of, series_of, tag_of

MAX_VALUE: Final = 512
"""A longer key or id is refused, characters."""


# What a value may be read from: the head, the body, the route's path parameters, the client's address.
Reader = Callable[[RequestHead, bytes, Mapping[str, str], str], str | None]
PairReader = Callable[[RequestHead, bytes, Mapping[str, str], str], tuple[str | None, str | None]]


def as_text(value: Any) -> str | None:
    """A JSON value as a key: strings as they are, numbers and booleans as JSON writes them, else None."""
    if type(value) is str:
        return value or None
    if value is None or isinstance(value, (dict, list)):
        return None
    return str(value) if type(value) is int else orjson.dumps(value).decode()


def resolve(document: Any, pointer: str, absent: Any = None) -> Any:
    """What a JSON pointer (RFC 6901) leads to in a document; `absent` where nothing is."""
    return follow(document, tokens_of(pointer), absent)


def _members(source: Source) -> tuple[str, ...] | None:
    """A JSON pointer's member names; None when it needs an array index or a name that msgspec cannot look for."""
    if source.kind != "json":
        return None
    tokens = tokens_of(source.name)
    if not tokens or any(INDEX.fullmatch(token) or not NAMEABLE.fullmatch(token) for token in tokens):
        return None
    return tokens


def _struct_of(paths: Sequence[tuple[str, ...]]) -> type:
    """Nested structs that have these members alone; the field of the n-th member name of a level is `m<n>`."""
    names = list(dict.fromkeys(path[0] for path in paths))
    fields: list[tuple[str, Any, Any]] = []
    for index, name in enumerate(names):
        deeper = [path[1:] for path in paths if path[0] == name and len(path) > 1]
        fields.append((f"m{index}", _struct_of(deeper) | None if deeper else Any, None))
    return msgspec.defstruct("At", fields, rename={f"m{i}": name for i, name in enumerate(names)}, gc=False)


def _way(path: tuple[str, ...], paths: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The fields that lead to a path's value in `_struct_of(paths)`."""
    names = list(dict.fromkeys(each[0] for each in paths))
    deeper = [each[1:] for each in paths if each[0] == path[0] and len(each) > 1]
    return (f"m{names.index(path[0])}", *(_way(path[1:], deeper) if len(path) > 1 else ()))


def _value_at(document: Any, way: tuple[str, ...]) -> str | None:
    value = document
    for field in way:
        if value is None:
            return None
        value = getattr(value, field)
    return value if type(value) is str and value else as_text(value)


def json_value(pointer: str) -> Callable[[bytes], str | None]:
    """Reads one pointer of a text; None where nothing is there, or it is not JSON."""
    path = _members(Source("json", pointer))
    if path is None:
        return _indexed_value(tokens_of(pointer))
    decode: Callable[[bytes], Any] = msgspec.json.Decoder(_struct_of([path])).decode
    way = _way(path, [path])

    def value(text: bytes) -> str | None:
        try:
            return _value_at(decode(text), way)
        except UNREADABLE:
            return None

    return value


def _json_reader(pointer: str) -> Reader:
    value = json_value(pointer)

    def read(head: RequestHead, body: bytes, params: Mapping[str, str], peer: str) -> str | None:
        return value(body)

    return read


def _pair_decoder(key: Source, event_id: Source) -> Callable[[bytes], tuple[str | None, str | None] | None] | None:
    """Reads two pointers in one pass; None for a body of which one of them may still be readable by itself.

    There is no such reader when a pointer is none of member names alone, or leads through the other.
    """
    paths = [path for path in (_members(key), _members(event_id)) if path is not None]
    if len(paths) < 2 or paths[0][: len(paths[1])] == paths[1][: len(paths[0])]:
        return None
    decode: Callable[[bytes], Any] = msgspec.json.Decoder(_struct_of(paths)).decode
    key_way, id_way = _way(paths[0], paths), _way(paths[1], paths)

    def read(body: bytes) -> tuple[str | None, str | None] | None:
        try:
            document = decode(body)
        except UNREADABLE:
            return None
        return _value_at(document, key_way), _value_at(document, id_way)

    return read


def key_and_id_reader(key: Source, ids: Sequence[Source]) -> PairReader:
    """Reads an event's key and its id, which is the first of `ids` with a value.

    Where the key and an id are both JSON members, one pass over the body reads them both.
    """
    read_key = reader(key)
    id_readers = [reader(source) for source in ids]
    place = next((i for i, source in enumerate(ids) if source.kind == "json"), -1)
    decode = _pair_decoder(key, ids[place]) if place >= 0 else None

    def read(head: RequestHead, body: bytes, params: Mapping[str, str], peer: str) -> tuple[str | None, str | None]:
        for i in range(len(id_readers)):
            if i == place and decode is not None:
                found = decode(body)
                if found is not None and found[1] is not None:
                    return found
                if found is not None:
                    continue
            event_id = id_readers[i](head, body, params, peer)
            if event_id is not None:
                return read_key(head, body, params, peer), event_id
        return read_key(head, body, params, peer), None

    return read


def _indexed_value(tokens: Sequence[str]) -> Callable[[bytes], str | None]:
    def value(text: bytes) -> str | None:
        try:
            document = orjson.loads(text)
        except orjson.JSONDecodeError:
            return None
        return as_text(follow(document, tokens))

    return value


def _header_reader(name: str) -> Reader:
    wanted = name.lower().encode()

    def read(head: RequestHead, body: bytes, params: Mapping[str, str], peer: str) -> str | None:
        value = head.wanted.get(wanted) if head.wanted else None
        return value.decode("latin-1") if value else None

    return read


def _cookie_reader(name: str) -> Reader:
    prefix = name.encode() + b"="

    def read(head: RequestHead, body: bytes, params: Mapping[str, str], peer: str) -> str | None:
        cookies = head.wanted.get(b"cookie") if head.wanted else None
        for pair in (cookies or b"").split(b";"):
            if pair.lstrip().startswith(prefix):
                return pair.lstrip()[len(prefix) :].rstrip().decode("latin-1") or None
        return None

    return read


def _query_reader(name: str) -> Reader:
    wanted = name.encode()

    def read(head: RequestHead, body: bytes, params: Mapping[str, str], peer: str) -> str | None:
        for pair in head.query.split(b"&"):
            field, _, value = pair.partition(b"=")
            if unquote_to_bytes(field.replace(b"+", b" ")) == wanted:
                return unquote_to_bytes(value.replace(b"+", b" ")).decode("utf-8", "replace") or None
        return None

    return read


def _line_reader(part: str) -> Reader:
    if part == "series":
        return lambda head, body, params, peer: series_of(body)
    if part == "measurement":
        return lambda head, body, params, peer: measurement_of(body)
    name = part.removeprefix("tag.")
    return lambda head, body, params, peer: tag_of(body, name)


def reader(source: Source) -> Reader:
    """The reader of one source."""
    if source.kind == "json":
        return _json_reader(source.name)
    if source.kind == "line":
        return _line_reader(source.name)
    if source.kind == "header":
        return _header_reader(source.name)
    if source.kind == "cookie":
        return _cookie_reader(source.name)
    if source.kind == "query":
        return _query_reader(source.name)
    if source.kind == "path":
        return lambda head, body, params, peer: params.get(source.name) or None
    return lambda head, body, params, peer: peer


def headers_read(texts: list[str]) -> frozenset[bytes]:
    """Lower-case names of the headers that these sources need."""
    sources = [parse_source(text) for text in texts]
    names = {s.name.lower().encode() for s in sources if s.kind == "header"}
    if any(s.kind == "cookie" for s in sources):
        names.add(b"cookie")
    if any(s.kind in BODY_KINDS for s in sources):
        names.add(b"content-encoding")
    return frozenset(names)


def is_safe_id(text: str) -> bool:
    """Can this event id travel in a header: 1 to 512 visible ASCII characters?"""
    return len(text) <= MAX_VALUE and text.isascii() and text.isprintable() and " " not in text and text != ""
