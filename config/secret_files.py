"""Whether the files of secrets that a configuration names can be read here."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from config.errors import Loc

_SUFFIX = "_file"
"""Ends the name of every key that names such a file, and of no other."""


def unreadable(part: BaseModel, loc: Loc = ()) -> Iterator[tuple[Loc, str]]:
    """Each key of a part of the settings whose file cannot be read, and why. loc: where the part stands."""
    for name in type(part).model_fields:
        for place, value in _values(getattr(part, name), (*loc, name)):
            if isinstance(value, BaseModel):
                yield from unreadable(value, place)
            elif name.endswith(_SUFFIX) and isinstance(value, str) and (why := _fault_of(value)):
                yield place, f"cannot read {value}: {why}"


def _values(value: object, loc: Loc) -> Iterator[tuple[Loc, object]]:
    if isinstance(value, tuple):
        for index, each in enumerate(value):
            yield (*loc, index), each
    elif isinstance(value, dict):
        for key, each in value.items():
            yield (*loc, key), each
    else:
        yield loc, value


def _fault_of(path: str) -> str:
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError as error:
        return error.strerror or str(error)
    return ""
