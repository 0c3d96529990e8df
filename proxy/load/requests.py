"""Makes the events: whole requests, or messages of sessions, with an id and a key each."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from proxy.load.target import Target
from proxy.load.template import Clock, Template, Values, parse, parse_body, random_number

LOAD_HEADER: Final = "X-Crossfade-Load"
"""Marks a request as one of a load test; a route may leave such out of its figures.

A session has it in its handshake, where it says so to whoever reads that: its messages count as all others.
"""
BODY_SIZE: Final = 290
"""Bytes of a default body."""
_STRIDES: Final = (7919, 7907)
_FIRST_SESSION: Final = 1 << 63
ID_POINTER: Final = "/id"
"""Where the default message has its id: a message has no headers."""
_PLACES: Final = {"/entity_id": "key", "/context/id": "id"}
"""What the default body has where."""
_BODY: Final = (
    '{"entity_id":"{{key}}","state":"{{random}}","attributes":{"unit_of_measurement":"kWh",'
    '"device_class":"energy"},"last_changed":"{{time}}","context":{"parent_id":null,"id":"{{id}}"},"pad":"'
)
_BODY_END: Final = '"}'


def default_body(pad: int = 0) -> Template:
    """A state change as Home Assistant has it, of `BODY_SIZE` bytes with up to 100,000 keys, and `pad` blanks."""
    filled = parse(_BODY, "body").render(("0" * 34, key_name(0), 0, Clock()(), random_number()))
    text = _BODY + "x" * (BODY_SIZE - len(filled) - len(_BODY_END)) + _BODY_END + " " * pad
    return parse_body(text.encode(), "body", is_json=True)


def body_with(places: Mapping[str, str]) -> Template:
    """A default body that has further placeholders. places: their names by JSON pointer (RFC 6901).

    Raises ValueError for a pointer that leads through an array or a member that the body has otherwise.
    """
    wanted = {pointer: name for pointer, name in places.items() if _PLACES.get(pointer) != name}
    if not wanted:
        return default_body()
    body, own = json.loads(_BODY + _BODY_END), dict[str, object]()
    for pointer, name in wanted.items():
        names = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
        at: object = own
        for part in names[:-1]:
            at = at.setdefault(part, {}) if isinstance(at, dict) else None
        is_odd = any(part.isdecimal() for part in names) or "{{" in pointer
        if not names or names[0] in body or is_odd or not isinstance(at, dict) or names[-1] in at:
            raise ValueError(f"the default body has no place for {pointer}")
        at[names[-1]] = "{{" + name + "}}"
    return parse_body(json.dumps(own | body, separators=(",", ":")).encode(), "body", is_json=True)


def default_message() -> Template:
    """The default body with its id where a message's is looked for."""
    return body_with({ID_POINTER: "id"})


def key_name(index: int) -> str:
    """The name of a key."""
    return f"sensor.meter_{index:05d}"


class Event(NamedTuple):
    """One request, or one message. size: of its body, which is at the end of `request`; of a message it is all."""

    id: str
    key: str
    request: bytes
    size: int

    @property
    def body(self) -> bytes:
        """Its body alone."""
        return self.request[len(self.request) - self.size :]


class _Events:
    """The events of one run, whose ids all start with `run`.

    templates: what is filled in for each; keys: how many there are; key_of: the index of the key of an event, by its
    number and its lane; in turn when not given.
    """

    def __init__(self, templates: Sequence[Template], keys: int, key_of: Callable[[int, int], int] | None) -> None:
        self.run = f"01{secrets.token_hex(8)}"
        self._names = [key_name(index) for index in range(keys)]
        self._stride = next(each for each in _STRIDES if keys % each)
        self._key_of = key_of
        used = {name for template in templates for name in template.names}
        self._now = Clock() if "time" in used else None
        self._has_random = "random" in used

    def _values(self, n: int, lane: int) -> Values:
        names = self._names
        return (
            f"{self.run}{n:016x}",
            names[n * self._stride % len(names) if self._key_of is None else self._key_of(n, lane)],
            n,
            self._now() if self._now is not None else "",
            random_number() if self._has_random else "",
        )


class Requests(_Events):
    """Makes requests.

    headers: lines such as `X-Event-Id: {{id}}`, which are templates, too; keys, key_of: see `_Events`.
    """

    def __init__(
        self,
        target: Target,
        body: Template | None = None,
        *,
        keys: int,
        headers: Sequence[str] = ("Content-Type: application/json",),
        method: str = "POST",
        key_of: Callable[[int, int], int] | None = None,
    ) -> None:
        self._body = body if body is not None else default_body()
        self._head = _head(method, target, headers)
        super().__init__((self._body, self._head), keys, key_of)

    def make(self, n: int, lane: int) -> Event:
        """Event number `n`, to be sent on a lane."""
        values = self._values(n, lane)
        body = self._body.render(values)
        size = len(body)
        head = self._head.render(values)
        return Event(values[0], values[1], b"%bContent-Length: %d\r\n\r\n%b" % (head, size, body), size)


class Messages(_Events):
    """Makes messages of sessions, and the sessions' handshakes.

    headers: of the handshake, templates that are filled in once for each session; keys, key_of: see `_Events`.
    """

    def __init__(
        self,
        target: Target,
        body: Template | None = None,
        *,
        keys: int,
        headers: Sequence[str] = (),
        key_of: Callable[[int, int], int] | None = None,
    ) -> None:
        self._body = body if body is not None else default_message()
        self._head = _head("GET", target, headers)
        super().__init__((self._body, self._head), keys, key_of)

    def make(self, n: int, lane: int) -> Event:
        """Event number `n`, to be sent on a lane."""
        values = self._values(n, lane)
        body = self._body.render(values)
        return Event(values[0], values[1], body, len(body))

    def handshake(self, n: int) -> bytes:
        """Request line and header lines of session `n`, each ended by CRLF; its id is none of a message."""
        return self._head.render(self._values(_FIRST_SESSION + n, n))


def _head(method: str, target: Target, headers: Sequence[str]) -> Template:
    lines = "".join(f"{line}\r\n" for line in headers)
    return parse(f"{method} {target.path} HTTP/1.1\r\nHost: {target.host}\r\n{lines}", "request head")
