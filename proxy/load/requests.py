"""Makes the events: whole requests, with an id and a key each."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from proxy.load.target import Target
from proxy.load.template import Clock, Template, parse, parse_body, random_number

LOAD_HEADER: Final = "X-Crossfade-Load"
"""Marks an event as one of a load test; a route may leave such out of its figures."""
BODY_SIZE: Final = 290
"""Bytes of a default body."""
_STRIDES: Final = (7919, 7907)
_KEY_POINTER: Final = "/entity_id"
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


def body_with_key(pointer: str) -> Template:
    """A default body that has its key where a JSON pointer says (RFC 6901).

    Raises ValueError for a pointer that leads through an array or a member that the default body has otherwise.
    """
    if pointer == _KEY_POINTER:
        return default_body()
    names = [name.replace("~1", "/").replace("~0", "~") for name in pointer.split("/")[1:]]
    body = json.loads(_BODY + _BODY_END)
    if names[0] in body or any(name.isdecimal() for name in names) or "{{" in pointer:
        raise ValueError(f"the default body has no place for {pointer}")
    value: object = "{{key}}"
    for name in reversed(names):
        value = {name: value}
    assert isinstance(value, dict)
    return parse_body(json.dumps(value | body, separators=(",", ":")).encode(), "body", is_json=True)


def key_name(index: int) -> str:
    """The name of a key."""
    return f"sensor.meter_{index:05d}"


class Event(NamedTuple):
    """One request. size: of its body, which is at the end of `request`."""

    id: str
    key: str
    request: bytes
    size: int

    @property
    def body(self) -> bytes:
        """Its body alone."""
        return self.request[len(self.request) - self.size :]


class Requests:
    """Makes the events of one run, whose ids all start with `run`.

    headers: lines such as `X-Event-Id: {{id}}`, which are templates, too; keys: how many there are;
    key_of: the index of the key of an event, by its number and its lane; in turn when not given.
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
        self.run = f"01{secrets.token_hex(8)}"
        self._body = body if body is not None else default_body()
        self._names = [key_name(index) for index in range(keys)]
        stride = next(each for each in _STRIDES if keys % each)
        self._stride = stride
        self._key_of = key_of
        lines = "".join(f"{line}\r\n" for line in headers)
        self._head = parse(f"{method} {target.path} HTTP/1.1\r\nHost: {target.host}\r\n{lines}", "request head")
        used = {*self._body.names, *self._head.names}
        self._now = Clock() if "time" in used else None
        self._has_random = "random" in used

    def make(self, n: int, lane: int) -> Event:
        """Event number `n`, to be sent on a lane."""
        names = self._names
        key = names[n * self._stride % len(names) if self._key_of is None else self._key_of(n, lane)]
        id = f"{self.run}{n:016x}"
        values = (
            id,
            key,
            n,
            self._now() if self._now is not None else "",
            random_number() if self._has_random else "",
        )
        body = self._body.render(values)
        size = len(body)
        return Event(id, key, b"%bContent-Length: %d\r\n\r\n%b" % (self._head.render(values), size, body), size)
