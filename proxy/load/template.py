"""Text with placeholders: a request's body and headers, filled in anew for each event.

{{id}}      unique in the run and beyond, 34 hexadecimal digits; every id of a run starts with the same 18
{{key}}     one of --keys names, sensor.meter_00000 and so on; all of them in turn
{{n}}       number of the event, from 0
{{time}}    now, ISO 8601 in UTC with microseconds
{{random}}  a number from 10.00 to 99.99
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from operator import itemgetter
from typing import Final, TypeAlias

from config.units import nearest
from proxy.core.errors import CrossfadeError

_OPENING: Final = re.compile(r"\{\{")
_PLACEHOLDER: Final = re.compile(r"\{\{[ \t]*([A-Za-z_]*)[ \t]*\}\}")


PLACEHOLDERS: Final = ("id", "key", "n", "time", "random")
Values: TypeAlias = tuple[str, str, int, str, str]
"""What one event puts into the placeholders, in their order. No class, for one is made for every event."""
_NUMBERS: Final = ("n", "random")


class Clock:
    """The present time as text; a second's part of it is made once a second."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def __call__(self) -> str:
        """ISO 8601 in UTC with microseconds."""
        micros = time.time_ns() // 1000
        second = micros // 1_000_000
        if second != self._second:
            self._second = second
            self._text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._text}.{micros % 1_000_000:06d}+00:00"


def random_number() -> str:
    """From 10.00 to 99.99, so that it is always as long, and a number in JSON."""
    return f"{10 + 89.99 * random.random():.2f}"


class BadTemplate(CrossfadeError):
    """A template that cannot be used; its message starts with file:line:column."""


class Template:
    """A compiled text. names: of its placeholders, in their order; is_json: it was checked to be that."""

    __slots__ = ("_format", "_pick", "is_json", "names")

    def __init__(self, pieces: list[str], names: list[str]) -> None:
        """pieces: the text around the placeholders, one more than names."""
        self.names = tuple(names)
        self.is_json = False
        self._format = "%s".join(piece.replace("%", "%%") for piece in pieces)
        # One call that picks all values is half the price of one per placeholder.
        self._pick: Callable[[Values], object] = (
            itemgetter(*map(PLACEHOLDERS.index, names)) if names else lambda _values: ()
        )

    def render(self, values: Values) -> bytes:
        """The text of one event, UTF-8."""
        return (self._format % self._pick(values)).encode()


def parse(text: str, file: str) -> Template:
    """Compile a text. file: named in messages. Raises BadTemplate for a placeholder that is none."""
    pieces, names, at = [], [], 0
    for opening in _OPENING.finditer(text):
        if opening.start() < at:
            continue
        found = _PLACEHOLDER.match(text, opening.start())
        if found is None:
            raise _bad(file, text, opening.start(), "{{ begins no placeholder: expected {{NAME}} on one line")
        if found[1] not in PLACEHOLDERS:
            meant = nearest(found[1], PLACEHOLDERS)
            hint = f"; did you mean {{{{{meant}}}}}?" if meant else "."
            known = ", ".join(f"{{{{{name}}}}}" for name in PLACEHOLDERS)
            raise _bad(file, text, found.start(), f"unknown placeholder {found[0]}{hint} There are {known}")
        pieces.append(text[at : found.start()])
        names.append(found[1])
        at = found.end()
    return Template([*pieces, text[at:]], names)


def parse_body(content: bytes, file: str, *, is_json: bool) -> Template:
    """Compile a body; what should be JSON is checked to be that once it is filled in. Raises BadTemplate."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        before = content[: error.start].decode()
        raise _bad(file, before, len(before), "not UTF-8") from None
    if not text.strip():
        raise _bad(file, text, 0, "empty")
    template = parse(text, file)
    if is_json:
        try:
            json.loads(_PLACEHOLDER.sub(_filler, text))
        except json.JSONDecodeError as error:
            raise _bad(file, text, error.pos, f"not JSON: {error.msg}") from None
    template.is_json = is_json
    return template


def _filler(found: re.Match[str]) -> str:
    """As long as the placeholder, so that places stay; letters where a value is none without quotes."""
    return ("1" if found[1] in _NUMBERS else "x") * len(found[0])


def looks_like_json(content: bytes) -> bool:
    """Does it begin as an object or an array does?"""
    return content.lstrip()[:1] in (b"{", b"[") and not content.lstrip().startswith(b"{{")


def _bad(file: str, text: str, at: int, message: str) -> BadTemplate:
    line = text.count("\n", 0, at) + 1
    column = at - (text.rfind("\n", 0, at) + 1) + 1
    return BadTemplate(f"{file}:{line}:{column}: {message}")
