"""Events of a JSON API: documents as rows, rows as documents, and addresses with something in them."""

from __future__ import annotations

import copy
import json
import re
from decimal import Decimal, InvalidOperation
from math import floor, isfinite
from typing import Any, Final
from urllib.parse import quote

import orjson

from config.stores import HttpStore as Settings
from consistency.identity import parts_of, text_of
from consistency.moments import parse_time
from consistency.rows import Row
from consistency.stores import pointers
from consistency.stores.table import NANOSECONDS, format_time, number_of_time, number_text

_LONG_NUMBER: Final = re.compile(rb"\d{19}")
"""Whole numbers from 2^64 on are floats to orjson."""
_PLACE: Final = re.compile(r"\{(\w+)\}")
_QUERY_VALUE: Final = re.compile(r"[?&][^=&]*=([^&{}]+)(?=&|$)")
_SHORT: Final = 8


class NoEvent(ValueError):
    """A document that is no event of this API, or a row that cannot be one; the text says why."""


def parse_json(body: bytes) -> Any:
    """A document; whole numbers are exact, however long. Raises NoEvent, also for NaN and what is beyond a float."""
    try:
        return _parse_long(body) if _LONG_NUMBER.search(body) else orjson.loads(body)
    except (ValueError, RecursionError) as error:
        raise NoEvent(f"it is not JSON: {error}") from None


def _parse_long(body: bytes) -> Any:
    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is no number")

    def finite(text: str) -> float:
        return value if isfinite(value := float(text)) else refuse(text)

    return json.loads(body, parse_constant=refuse, parse_float=finite)


def filled(template: str, **values: str) -> str:
    """An address with its places filled, each value percent-encoded as a whole."""
    return _PLACE.sub(lambda match: quote(values.get(match[1], match[0]), safe=""), template)


class Events:
    """Where things stand in an event."""

    def __init__(self, settings: Settings) -> None:
        self._identity = tuple(map(pointers.parse, settings.identity))
        self._time = pointers.parse(settings.time)
        self._fields = pointers.parse(settings.fields)
        self._events = pointers.parse(settings.events)
        self._cursor = None if settings.cursor is None else pointers.parse(settings.cursor)
        self._unit = NANOSECONDS.get(settings.time_format)
        self.unit = self._unit or 1
        """Nanoseconds: as fine as times in addresses are."""

    def listed(self, answer: Any) -> list[Any] | None:
        """The list in an answer; None when there is none."""
        found = pointers.resolve(answer, self._events)
        return found if isinstance(found, list) else None

    def cursor(self, answer: Any) -> str | None:
        """The place to go on; None at the end. Raises NoEvent."""
        assert self._cursor is not None
        value = pointers.resolve(answer, self._cursor)
        if value is pointers.MISSING or value is None or value == "":
            return None
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise NoEvent(f"its cursor is neither text nor a whole number but {_kind(value)}")
        return str(value)

    def row(self, event: Any) -> Row:
        """Raises NoEvent. Names whose value is null are left out, as a table's row leaves NULL out."""
        identity = text_of([self._part(event, names) for names in self._identity])
        fields = pointers.resolve(event, self._fields)
        if not isinstance(fields, dict):
            raise NoEvent(f"event {identity[:80]!r}: its fields are {_kind(fields)}, not an object")
        try:
            at = self._at(pointers.resolve(event, self._time))
        except ValueError as error:
            raise NoEvent(f"event {identity[:80]!r}: {error}") from None
        return Row(identity, at, {name: value for name, value in fields.items() if value is not None})

    def _part(self, event: Any, names: tuple[str, ...]) -> str:
        value = pointers.resolve(event, names)
        if isinstance(value, str):
            return value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise NoEvent(f"an event has {_kind(value)} at /{'/'.join(names)}, where its name should stand")
        return number_text(value)

    def _at(self, value: Any) -> int:
        if isinstance(value, str):
            try:
                return parse_time(value)
            except ValueError:
                if self._unit is None:
                    raise
        elif isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"its time is {_kind(value)}")
        elif self._unit is None:
            raise ValueError("its time is a number: set time_format to the number's unit")
        try:
            # A float stands for the shortest decimal number that it is the nearest to.
            return value * self._unit if isinstance(value, int) else floor(Decimal(str(value)) * self._unit)
        except (InvalidOperation, OverflowError, ValueError):
            raise ValueError(f"its time {value[:40]!r} is neither ISO 8601 nor a number") from None

    def time_text(self, at: int) -> str:
        """A time as addresses have it; at: nanoseconds."""
        return (
            format_time(at, offset="Z") if self._unit is None else str(number_of_time(at - at % self.unit, self.unit))
        )

    def document(self, row: Row) -> bytes:
        """A row as an event to be sent. Its name and its time are put in where its fields do not have them."""
        whole: dict[str, Any] = {}
        try:
            if self._fields:
                pointers.put(whole, self._fields, copy.deepcopy(row.fields))
            else:
                whole = copy.deepcopy(row.fields)
            for names, part in zip(self._identity, parts_of(row.identity, len(self._identity)), strict=True):
                pointers.put(whole, names, part)
            at = format_time(row.at, offset="Z") if self._unit is None else number_of_time(row.at, self._unit)
            pointers.put(whole, self._time, at)
            return json.dumps(whole, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise NoEvent(f"event {row.identity[:80]!r} cannot be sent as JSON: {error}") from None


def secrets_of(settings: Settings, authorization: str) -> tuple[str, ...]:
    """What must not be repeated in a text. authorization: that header's value; its last word is the credential."""
    urls = (settings.url, settings.event_url or "", settings.write_url or "")
    values = [value for url in urls for value in _QUERY_VALUE.findall(url)]
    values += [word for value in settings.headers.values() for word in (value, *value.split())]
    # A short word is more likely a part of every sentence than a secret.
    return (authorization, *authorization.split()[-1:], *(value for value in values if len(value) >= _SHORT))


def _kind(value: Any) -> str:
    if value is pointers.MISSING:
        return "nothing"
    names = {bool: "a truth value", str: "text", list: "a list", dict: "an object", type(None): "null"}
    return names.get(type(value), "a number")
