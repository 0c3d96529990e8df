"""One column of a PostgreSQL table: in what form its values are asked for, and written.

No form loses anything: whole numbers, floats, booleans, text and bytes come as they are, documents parsed, arrays of
these as lists, everything else as the text that PostgreSQL writes for it in a session that runs in UTC.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from consistency.stores.table import format_json, parse_json, quoted

_PLAIN: Final = frozenset({"boolean", "smallint", "integer", "bigint", "double precision", "text", "bytea"})
"""Types whose values come as they are."""
_PLAIN_ELEMENTS: Final = _PLAIN - {"bytea"}
_JSON: Final = frozenset({"json", "jsonb"})
_TIMESTAMPS: Final = frozenset({"timestamp with time zone", "timestamp without time zone"})


class WrongValue(ValueError):
    """A value that has no meaning here, or none there; the text says which."""


class Column(NamedTuple):
    """type: as PostgreSQL writes it, of a domain its base type; is_generated: by an expression, so never written."""

    name: str
    type: str
    is_generated: bool = False
    is_nullable: bool = True

    @property
    def value(self) -> str:
        """What is selected."""
        name = quoted(self.name)
        if self.type in _PLAIN or self.type.removesuffix("[]") in _PLAIN_ELEMENTS:
            return name
        if self.type == "real":
            # The shortest number that stands for it, not that number's neighbour in 64 bits.
            return f"{name}::text::float8"
        return f"{name}::text[]" if self.type.endswith("[]") else f"{name}::text"

    @property
    def is_converted(self) -> bool:
        """Whether `converted` makes something else of what was selected."""
        return self.type in _JSON or self.type in _TIMESTAMPS

    def converted(self, text: str) -> Any:
        """The value of a text that was selected; None for the document null. Raises WrongValue."""
        if self.type in _TIMESTAMPS:
            return _timestamp(text)
        try:
            return parse_json(text)
        except ValueError:
            raise WrongValue(f"column {self.name} holds a document that cannot be read: {text[:60]!r}") from None

    def text(self, value: Any) -> str | None:
        """A value as text that the column takes. Raises WrongValue."""
        try:
            if value is None:
                return None
            if self.type in _JSON:
                return format_json(value)
            if self.type.endswith("[]") and isinstance(value, list):
                return _array(value)
            return format_json(value) if isinstance(value, list | dict) else _text(value)
        except (TypeError, ValueError) as error:
            raise WrongValue(f"field {self.name} cannot be written: {error}") from None


def _timestamp(text: str) -> str:
    """ISO 8601 in UTC with microseconds, of what a session in UTC writes; other words (infinity) stay."""
    if text[10:11] != " " or text.endswith("BC"):
        return text
    moment = text.removesuffix("+00")
    return f"{moment[:10]}T{moment[11:19]}.{moment[20:]:0<6}+00:00"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    if isinstance(value, int | float | str):
        return str(value)
    raise TypeError(f"no column holds a {type(value).__name__}")


def _array(values: list[Any]) -> str:
    """An array's text ("Array Input and Output Syntax" of PostgreSQL's manual, 8.15.6)."""
    parts = []
    for value in values:
        if value is None:
            parts.append("NULL")
        elif isinstance(value, list):
            parts.append(_array(value))
        else:
            text = format_json(value) if isinstance(value, dict) else _text(value)
            parts.append('"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"')
    return "{" + ",".join(parts) + "}"
