"""Field rules of the consistency checker: how the values at a path of both stores are compared."""

from __future__ import annotations

import re
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from config.frozen import Frozen
from config.units import Duration

_PARAMETERS: dict[str, tuple[str, ...]] = {
    "tolerance": ("abs", "rel"),
    "numeric-string": ("abs", "rel"),
    "time": ("within",),
    "regex": ("pattern",),
    "only-new-if": ("when",),
}
"""Which keys belong to which comparison, the others take none."""
_NEEDED = {"regex": "pattern", "only-new-if": "when"}


class When(Frozen):
    """What must stand in old's row."""

    pointer: str = Field(pattern=r"^(/.*)?$", description="JSON pointer into old's row", examples=["/weather_enriched"])
    equals: str | int | float | bool | None = Field(description="what stands there", examples=["false"])


class FieldRule(Frozen):
    """How one path, with everything beneath it, is compared. The first rule that fits a path holds."""

    path: str = Field(
        pattern=r"^/.*$",
        description="JSON pointer from the row: its first name is a column or field; `*` stands for any one name",
        examples=["/attributes", "/sensors/*/temperature"],
    )
    compare: Literal[
        "ignore",
        "exact",
        "tolerance",
        "time",
        "set",
        "presence",
        "regex",
        "numeric-string",
        "both",
        "only-new-if",
    ] = Field(
        description="ignore: not at all. exact: the same type and value. tolerance: numbers of any type, by `abs` and "
        "`rel`. time: moments, however they are written, by `within`. set: lists in any order, without repetitions. "
        "presence: both have it, whatever it is. regex: both match `pattern`. numeric-string: numbers, also written as "
        "text, by `abs` and `rel`. both: exact where both have it. only-new-if: new may have it alone where `when` "
        "holds in old's row",
        examples=["ignore"],
    )
    abs: float = Field(0.0, ge=0, allow_inf_nan=False, description="|a - b| that is let pass", examples=["0.01"])
    rel: float = Field(
        0.0, ge=0, le=1, allow_inf_nan=False, description="added to it: this share of the larger one", examples=["1e-6"]
    )
    within: Duration = Field(0.0, description="how far two moments may lie apart", examples=["1ms"])
    pattern: str | None = Field(
        None, description="regular expression for the whole value as text", examples=['"[0-9a-f]{32}"']
    )
    when: When | None = Field(
        None, description="for only-new-if", examples=["{pointer: /weather_enriched, equals: false}"]
    )

    @field_validator("pattern")
    @classmethod
    def _is_pattern(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(f"is no regular expression: {error}") from None
        return value

    @model_validator(mode="after")
    def _fit(self) -> Self:
        allowed = _PARAMETERS.get(self.compare, ())
        for name in ("abs", "rel", "within", "pattern", "when"):
            if name in self.model_fields_set and name not in allowed:
                raise ValueError(f"`{name}` means nothing to compare: {self.compare}")
        needed = _NEEDED.get(self.compare)
        if needed is not None and getattr(self, needed) is None:
            raise ValueError(f"compare: {self.compare} needs `{needed}`")
        return self

    def __str__(self) -> str:
        """As it is named in reports."""
        words: list[Any] = [f"{name} {getattr(self, name)}" for name in ("abs", "rel", "within") if getattr(self, name)]
        return " ".join([self.path, self.compare, *words])
