"""Text with placeholders, as `deliver` and acknowledgements have it: `{{/pointer}}`, `{{}}`, `{{id}}` and `{{key}}`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, NamedTuple

from pydantic import AfterValidator

from config.units import UnitError, Written, nearest

NAMES: Final = ("id", "key")
"""What can be named of an event beside its body."""
_OPENING: Final = re.compile(r"\{\{")
_PLACEHOLDER: Final = re.compile(r"\{\{[ \t]*([^{}]*?)[ \t]*\}\}")
_ESCAPES: Final = re.compile(r"~(?![01])")


class Text(NamedTuple):
    """A text taken apart. pieces: what stands around the placeholders, one more than names; names: what they name."""

    pieces: tuple[str, ...]
    names: tuple[str, ...]

    @property
    def is_literal(self) -> bool:
        """Whether nothing is filled in."""
        return not self.names

    @property
    def is_value(self) -> bool:
        """Whether it is one placeholder and nothing else: in JSON, that value as it is."""
        return len(self.names) == 1 and self.pieces == ("", "")


def parse_text(text: str) -> Text:
    """Take a text apart. Raises UnitError for a placeholder that is none."""
    pieces, names, at = [], [], 0
    for opening in _OPENING.finditer(text):
        if opening.start() < at:
            continue
        found = _PLACEHOLDER.match(text, opening.start())
        if found is None:
            where = f"character {opening.start() + 1}"  # and not the text, which may be a credential
            raise UnitError(f"{{{{ begins no placeholder at {where}: expected {{{{/pointer}}}}")
        _check_name(found[1])
        pieces.append(text[at : found.start()])
        names.append(found[1])
        at = found.end()
    return Text((*pieces, text[at:]), tuple(names))


def _check_name(name: str) -> None:
    if name in ("", *NAMES):
        return
    if not name.startswith("/"):
        meant = nearest(name, NAMES)
        raise UnitError(
            f"unknown placeholder {{{{{name}}}}}: there are {{{{/pointer}}}} into the body (RFC 6901), {{{{}}}} for "
            "all of it, {{id}} and {{key}}",
            f"{{{{{meant}}}}}" if meant else f"{{{{/{name}}}}}",
        )
    if _ESCAPES.search(name):
        raise UnitError(f"in the JSON pointer {name!r} ~ is written ~0, and / in a name ~1")


def check_tree(value: Any) -> Any:
    """The same JSON value, in which strings may have placeholders and names may not. Raises UnitError."""
    if isinstance(value, str):
        parse_text(value)
    elif isinstance(value, dict):
        for name, inner in value.items():
            if not isinstance(name, str):
                raise UnitError(f"a name in a JSON template is a string, unlike {name!r}")
            if not parse_text(name).is_literal:
                raise UnitError(f"a name in a JSON template is fixed, unlike {name!r}")
            check_tree(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            check_tree(inner)
    elif isinstance(value, float) and value - value != 0.0:
        raise UnitError(f"{value} is no number of JSON")
    return value


def names_of(value: Any) -> set[str]:
    """What the placeholders of a checked JSON value name."""
    if isinstance(value, str):
        return {*parse_text(value).names}
    if isinstance(value, dict):
        return names_of([*value.values()])
    if isinstance(value, list | tuple):
        return {name for inner in value for name in names_of(inner)}
    return set()


Tree = Annotated[Any, AfterValidator(check_tree), Written("JSON template", str)]
