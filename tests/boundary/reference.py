"""A second reader of requests, written after RFC 9112 and RFC 9110 and after nothing of the proxy.

It is slow and plain on purpose: what it and the proxy read in different ways, one of them reads wrongly.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_TOKEN: Final = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_VISIBLE: Final = frozenset(range(0x21, 0x7F))
_FIELD: Final = _VISIBLE | {0x09, 0x20} | frozenset(range(0x80, 0x100))
_REG_NAME: Final = frozenset(b"-._~!$&'()*+,;=%0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_ONCE: Final = (b"host", b"content-length", b"transfer-encoding", b"x-event-id", b"idempotency-key")
_NEVER_NAMED: Final = {b"host", b"content-length", b"transfer-encoding", b"authorization", b"x-event-id"}
_CHUNK_LINE: Final = 4096
_TRAILERS: Final = 16 * 1024


class Limits(NamedTuple):
    """Bytes and lines. streamed: the path whose bodies may have any length when they are POSTed; empty for none."""

    event: int
    head: int
    headers: int
    target: int
    streamed: bytes = b""


class Request(NamedTuple):
    """One request as a backend is to see it."""

    method: bytes
    target: bytes
    body: bytes

    @property
    def line(self) -> bytes:
        """Method and target."""
        return self.method + b" " + self.target


class Reading(NamedTuple):
    """What a client's bytes hold. ending: end; refused; cut: the last request is not complete."""

    requests: list[Request]
    ending: str


class Refused(Exception):
    """These bytes are no request that everybody reads in the same way."""


class Cut(Exception):
    """There is more to come."""


def read(data: bytes, limits: Limits) -> Reading:
    """Every request up to the first that is refused or incomplete, or after which the client wants no more."""
    found: list[Request] = []
    try:
        while data:
            request, data, goes_on = _one(data, limits)
            found.append(request)
            if not goes_on:
                break
    except Refused:
        return Reading(found, "refused")
    except Cut:
        return Reading(found, "cut")
    return Reading(found, "end")


def _need(condition: object) -> None:
    if not condition:
        raise Refused


def _one(data: bytes, limits: Limits) -> tuple[Request, bytes, bool]:
    """The first request, what follows it, and whether the connection goes on."""
    size = data.find(b"\r\n\r\n")
    data = data.removeprefix(b"\r\n")
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        raise Cut
    _need(size <= limits.head)
    first, *lines = head.split(b"\r\n")
    words = first.split(b" ")
    _need(len(words) == 3)
    method, target, version = words
    _need(method and set(method) <= _TOKEN and target and set(target) <= _VISIBLE)
    _need(version in (b"HTTP/1.0", b"HTTP/1.1") and len(target) <= limits.target and len(lines) <= limits.headers)
    fields = [_field(line) for line in lines]
    values = {name: [value for found, value in fields if found == name] for name, _ in fields}
    _need(all(len(values.get(name, [])) <= 1 for name in _ONCE))
    host = _host(values.get(b"host", []))
    target = _target(method, target, host)
    if limits.streamed and method == b"POST" and target.partition(b"?")[0] == limits.streamed:
        limits = limits._replace(event=10**20)
    body, rest = _body(values, version, rest, limits)
    return Request(method, target, body), rest, _goes_on(values, version)


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    _need(colon and name and set(name) <= _TOKEN and set(value) <= _FIELD)
    return name.lower(), value.strip(b" \t")


def _host(values: list[bytes]) -> bytes:
    _need(len(values) == 1 and values[0])
    name, port = values[0], b""
    if name.startswith(b"["):
        name, closed, port = name[1:].partition(b"]")
        _need(closed and name and set(name) <= set(b"0123456789abcdefABCDEF:."))
        _need(not port or port.startswith(b":"))
        has_port, port = bool(port), port[1:]
    else:
        name, colon, port = name.partition(b":")
        has_port = bool(colon)
        _need(name and set(name) <= _REG_NAME)
    _need(not has_port or (port.isdigit() and len(port) <= 5))
    return values[0].lower()


def _target(method: bytes, target: bytes, host: bytes) -> bytes:
    """Origin-form; absolute-form of the same authority; the asterisk of OPTIONS."""
    _need(method != b"CONNECT" and b"#" not in target)
    if target.startswith(b"/"):
        return target
    if target == b"*":
        _need(method == b"OPTIONS")
        return target
    _need(target[:7].lower() == b"http://")
    authority, slash, rest = target[7:].partition(b"/")
    _need(authority.lower() == host)
    return slash + rest or b"/"


def _body(values: dict[bytes, list[bytes]], version: bytes, rest: bytes, limits: Limits) -> tuple[bytes, bytes]:
    """The body by the one framing that is given, and the bytes after it."""
    codings, lengths = values.get(b"transfer-encoding", []), values.get(b"content-length", [])
    _need(not (codings and lengths))
    _need(all(value.lower() == b"100-continue" for value in values.get(b"expect", [])))
    named = {word.strip().lower() for value in values.get(b"connection", []) for word in value.split(b",")}
    _need(not named & _NEVER_NAMED)
    if codings:
        _need(codings[0].lower() == b"chunked" and version == b"HTTP/1.1" and b"upgrade" not in values)
        return _chunks(rest, limits)
    length = 0
    if lengths:
        _need(re.fullmatch(rb"[0-9]{1,18}", lengths[0]) and (lengths[0] == b"0" or lengths[0][0] != 0x30))
        length = int(lengths[0])
    _need(length <= limits.event and not (length and b"upgrade" in values))
    if len(rest) < length:
        raise Cut
    return rest[:length], rest[length:]


def _chunks(rest: bytes, limits: Limits) -> tuple[bytes, bytes]:
    body = b""
    while True:
        line, rest = _chunk_line(rest)
        match = re.match(rb"[0-9A-Fa-f]+", line)
        _need(match is not None and len(match[0]) <= 15)
        assert match is not None
        extension = line[match.end() :]
        _need(not extension or extension.lstrip(b" \t").startswith(b";"))
        size = int(match[0], 16)
        if size == 0:
            return body, _trailers(rest)
        if len(body) + min(size, len(rest)) > limits.event:
            raise Refused
        body, rest = body + rest[:size], rest[size:]
        _need(rest[:2] == b"\r\n"[: len(rest[:2])])
        if len(rest) < 2:
            raise Cut
        rest = rest[2:]


def _chunk_line(rest: bytes) -> tuple[bytes, bytes]:
    line, end, rest = rest.partition(b"\r\n")
    if not end:
        raise Cut
    _need(len(line) <= _CHUNK_LINE and set(line) <= _FIELD)
    return line, rest


def _trailers(rest: bytes) -> bytes:
    size = 0
    while True:
        line, rest = _chunk_line(rest)
        if not line:
            return rest
        _field(line)
        size += len(line)
        _need(size <= _TRAILERS)


def _goes_on(values: dict[bytes, list[bytes]], version: bytes) -> bool:
    words = {word.strip().lower() for value in values.get(b"connection", []) for word in value.split(b",")}
    if b"close" in words:
        return False
    return version == b"HTTP/1.1" or b"keep-alive" in words
