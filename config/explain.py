"""Pydantic's findings in the words of the person who wrote the file: message, suggestion and place."""

from __future__ import annotations

from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from config.errors import Loc, Problem
from config.units import nearest

if TYPE_CHECKING:  # it reads YAML, and who has settings already need not
    from config.document import Document

_SECRET = ("salt", "token")
_YES_NO = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}


class Finding(NamedTuple):
    """One problem that knows where it is in the settings.

    on_key: the key is meant rather than its value. about: the key that it makes unusable, where that is not
    `loc`: the missing key, or the one that an unknown key was meant to be.
    """

    loc: Loc
    message: str
    suggestion: str = ""
    on_key: bool = False
    about: Loc = ()

    def placed(self, document: Document) -> Problem:
        """The same with its position in the file."""
        return Problem(document.place(self.loc, on_key=self.on_key), self.message, self.suggestion)


def findings(model: type[BaseModel], error: ValidationError, at: Loc = ()) -> list[Finding]:
    """Everything that pydantic found wrong with a value of `model` that stands at `at`."""
    return [_finding(model, details, at) for details in error.errors(include_url=False) if not _is_echo(details)]


def _is_echo(details: ErrorDetails) -> bool:
    """Whether a list is called too short only because its entries, reported themselves, are wrong."""
    return details["type"] == "too_short" and len(details["input"]) > 0


def _finding(model: type[BaseModel], details: ErrorDetails, at: Loc) -> Finding:
    inner, kind = tuple(details["loc"]), details["type"]
    if kind == "missing":
        return Finding(at + inner[:-1], f"missing key '{inner[-1]}'" + _purpose(model, inner), about=at + inner)
    if kind == "extra_forbidden":
        known = tuple(_model_at(model, inner[:-1]).model_fields)
        name = str(inner[-1])
        suggestion = nearest(name, known)
        listed = "" if suggestion or len(known) > 12 else f"; known here: {', '.join(known)}"
        meant = (*at, *inner[:-1], suggestion or name)
        return Finding(at + inner, f"unknown key '{name}'{listed}", suggestion, on_key=True, about=meant)
    if inner and inner[-1] == "[key]":
        return Finding(at + inner[:-1], *_explained(details, inner), on_key=True)
    return Finding(at + inner, *_explained(details, inner))


def _purpose(model: type[BaseModel], inner: Loc) -> str:
    field = _model_at(model, inner[:-1]).model_fields.get(str(inner[-1]))
    return f": {field.description}" if field and field.description else ""


def _explained(details: ErrorDetails, inner: Loc) -> tuple[str, str]:
    """Message and suggestion for a value that is there and known, but wrong."""
    value, context = details["input"], details.get("ctx", {})
    given = "what is given" if inner and inner[-1] in _SECRET else describe(value)
    match details["type"]:
        case "model_type" | "model_attributes_type" | "dict_type":
            hint = "; leave the key out to keep its default" if value is None and len(inner) == 1 else ""
            return f"expected a mapping, not {given}{hint}", ""
        case "tuple_type":
            return f"expected a list, not {given}", f"[{value}]" if isinstance(value, str) else ""
        case "string_type":
            quoted = ": put it in quotes" if isinstance(value, bool | int | float) else ""
            return f"expected a string, not {given}{quoted}", ""
        case "int_type" | "int_from_float":
            return f"expected a whole number, not {given}", ""
        case "float_type" | "finite_number":
            return f"expected a number, not {given}", ""
        case "bool_type":
            return f"expected true or false, not {given}", _YES_NO.get(str(value).lower(), "")
        case "literal_error":
            return _one_of(value, context, inner, given)
        case "greater_than_equal":
            return f"must be at least {context['ge']:g}, not {given}", ""
        case "less_than_equal":
            return f"must be at most {context['le']:g}, not {given}", ""
        case "string_too_short" if value == "":
            return "must not be empty", ""
        case "string_too_short":
            return f"must have at least {context['min_length']} characters, not {len(value)}", ""
        case "string_too_long":
            return f"must have at most {context['max_length']} characters, not {len(value)}", ""
        case "too_short":
            return "at least one is needed", ""
        case "value_error":
            return str(context["error"]), getattr(context["error"], "suggestion", "")
        case _:
            return f"{details['msg'][:1].lower()}{details['msg'][1:]}", ""


def _one_of(value: Any, context: dict[str, Any], inner: Loc, given: str) -> tuple[str, str]:
    if inner == ("version",):
        return f"this Crossfade reads files of version 1, not {given}", ""
    words = tuple(word.strip("'") for word in str(context["expected"]).replace(" or ", ", ").split(", "))
    return f"expected one of {', '.join(words)}, not {given}", nearest(value, words) if isinstance(value, str) else ""


def describe(value: Any) -> str:
    """A value as a person would call it, at most 60 characters of it."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case dict():
            return "a mapping"
        case tuple() | list():
            return "a list"
        case str() if len(value) > 60:
            return f"'{value[:57]}...'"
        case str():
            return f"'{value}'"
        case _:
            return f"the number {value}"


def _model_at(model: type[BaseModel], loc: Loc) -> type[BaseModel]:
    """The model of the mapping at `loc`, which pydantic has already walked."""
    found: Any = model
    for step in loc:
        if isinstance(found, type) and issubclass(found, BaseModel):
            found = found.model_fields[str(step)].annotation
        else:
            found = get_args(found)[1 if get_origin(found) is dict else 0]
        if get_origin(found) in (Union, UnionType):
            found = next(part for part in get_args(found) if part is not type(None))
        if get_origin(found) is Annotated:
            found = get_args(found)[0]
    assert isinstance(found, type)
    assert issubclass(found, BaseModel)
    return found
