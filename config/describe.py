"""What the model says about each key, in words: the common source of the schema and the reference page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from annotated_types import Ge, Le, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from config.model import Settings
from config.units import Written

_PLAIN = {bool: "true or false", int: "whole number", float: "number", str: "string", Any: "any value"}
_WORD = re.compile(r"[A-Z][a-z0-9]*|[A-Z]+(?![a-z])")


class Section(NamedTuple):
    """A mapping of the file. path: how its keys are reached, `routes[].match`; empty at the top."""

    path: str
    model: type[BaseModel]


class Key(NamedTuple):
    """One key: everything as a person writes it in YAML. default: empty when absent; example: never empty."""

    name: str
    type: str
    required: bool
    default: str
    meaning: str
    example: str


def sections(model: type[BaseModel] = Settings, path: str = "") -> Iterator[Section]:
    """The top level, and below each mapping the mappings in it. Of keys side by side that hold the same, the first."""
    yield Section(path, model)
    seen = set()
    for name, field in model.model_fields.items():
        inner, step = _model_in(field.annotation)
        if inner is not None and inner not in seen:
            seen.add(inner)
            yield from sections(inner, f"{path}.{name}{step}".lstrip("."))


def keys(model: type[BaseModel]) -> Iterator[Key]:
    """The keys of one mapping, in the model's order."""
    for name, field in model.model_fields.items():
        default = "" if field.is_required() else in_yaml(field.get_default(call_default_factory=True), field)
        example = field.examples[0] if field.examples else default
        required = field.is_required()
        yield Key(
            name, type_in_words(field.annotation, field.metadata), required, default, field.description or "", example
        )


def in_yaml(value: Any, field: FieldInfo) -> str:
    """A loaded value of `field` as it is written in YAML; empty for nothing and for mappings of keys of their own, and
    for a list that would have to have something in it, were it written.
    """
    written = written_as(field.metadata)
    if value is None or isinstance(value, BaseModel):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple) and not value and any(isinstance(note, MinLen) for note in field.metadata):
        return ""
    if isinstance(value, tuple):
        return f"[{', '.join(_quoted(str(item)) for item in value)}]"
    if isinstance(value, dict):
        return str(value)
    return written.format(value) if written else str(value)


def _quoted(text: str) -> str:
    """A string in a list, where a brace would begin a mapping."""
    return f'"{text}"' if text.startswith("{") else text


def written_as(metadata: Sequence[Any]) -> Written | None:
    """How a value with these annotations is written, when that is not the plain way."""
    return next((note for note in metadata if isinstance(note, Written)), None)


def type_in_words(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """A type as a person would call it: `duration`, `list of source`, `whole number, 1 to 64`."""
    origin, parts = get_origin(annotation), get_args(annotation)
    written = written_as(metadata)
    if origin is Annotated:
        return type_in_words(parts[0], parts[1:])
    if written is not None:
        return written.word
    if origin in (Union, UnionType):
        return " or ".join(type_in_words(part) for part in parts if part is not NoneType)
    if origin is tuple:
        return f"list of {type_in_words(parts[0])}"
    if origin is dict:
        return f"mapping of {type_in_words(parts[0])} to {type_in_words(parts[1])}"
    if origin is Literal:
        return " or ".join(f"`{part}`" for part in parts)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return " ".join(_WORD.findall(annotation.__name__)).lower()
    return _PLAIN[annotation] + _bounds(metadata)


def _bounds(metadata: Sequence[Any]) -> str:
    flat = [note for item in metadata for note in (getattr(item, "metadata", None) or [item])]
    low = next((str(note.ge) for note in flat if isinstance(note, Ge)), None)
    high = next((str(note.le) for note in flat if isinstance(note, Le)), None)
    if low and high:
        return f", {low} to {high}"
    return f", {low} or more" if low else ""


def _model_in(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    """The mapping that a key holds, and how one gets from the key into it: nothing, `.NAME` or `[]`."""
    step = ""
    if get_origin(annotation) in (Union, UnionType):
        annotation = next(part for part in get_args(annotation) if part is not NoneType)
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is dict:
        annotation, step = parts[1], ".NAME"
    elif origin is tuple:
        annotation, step = parts[0], "[]"
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return (annotation, step) if isinstance(annotation, type) and issubclass(annotation, BaseModel) else (None, "")
