"""`${VAR}` and `${VAR:-default}` in the strings of a configuration file; `$$` is a dollar sign.

A dollar sign before anything else stands for itself. A variable that is not set and has no default is
an error: an empty address or salt would only fail later and elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

_REFERENCE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<inside>[^}]*)(?P<close>\}?))")
_INSIDE = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>.*))?", re.DOTALL)


class Fault(NamedTuple):
    """A reference that cannot be replaced: its number among all of the string's, from 0, and why."""

    number: int
    message: str


def expand(text: str, environ: Mapping[str, str]) -> tuple[str, list[Fault]]:
    """The text with its references replaced, and the references that could not be.

    As in a shell, `:-` also stands in for a variable that is set but empty.
    """
    faults: list[Fault] = []
    number = -1

    def replace(match: re.Match[str]) -> str:
        nonlocal number
        number += 1
        if match["dollar"]:
            return "$"
        inside = _INSIDE.fullmatch(match["inside"])
        if not match["close"]:
            faults.append(Fault(number, "'${' without its '}'; a literal dollar sign is written '$$'"))
        elif inside is None:
            faults.append(Fault(number, f"expected ${{NAME}} or ${{NAME:-default}}, not {match[0]}"))
        else:
            value = environ.get(inside["name"])
            if inside["default"] is not None:
                return value or inside["default"]
            if value is not None:
                return value
            faults.append(Fault(number, f"the environment variable {inside['name']} is not set"))
        return match[0]

    return _REFERENCE.sub(replace, text), faults


def takes_from(text: str) -> bool:
    """Whether a variable without a default is part of a text."""
    insides = (_INSIDE.fullmatch(match["inside"]) for match in _REFERENCE.finditer(text) if match["inside"])
    return any(inside is not None and inside["default"] is None for inside in insides)


def references(source: str) -> list[int]:
    """Offsets of the references and `$$` in a piece of the file, in order."""
    return [match.start() for match in _REFERENCE.finditer(source)]
