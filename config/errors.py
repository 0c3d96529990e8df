"""What is wrong with a configuration file, for the person who wrote it.

ConfigErrors    a file that cannot be used; holds every `ConfigError` found in it
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

Loc = tuple[str | int, ...]
"""The way from the file's root to a value: keys and indices from 0."""


class Place(NamedTuple):
    """A position in the file: line and column from 1, or 0 when the whole file is meant."""

    line: int
    column: int


WHOLE_FILE = Place(0, 0)


class Problem(NamedTuple):
    """One thing that is wrong, before its file is known. suggestion: what was probably meant, or empty."""

    place: Place
    message: str
    suggestion: str = ""


@dataclass(frozen=True)
class ConfigError:
    """One thing that is wrong. line, column: from 1, or 0 when the whole file is meant."""

    path: str
    line: int
    column: int
    message: str
    suggestion: str = ""

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}:{self.column}" if self.line else self.path
        return f"{place}: {self.message}" + (f" (did you mean '{self.suggestion}'?)" if self.suggestion else "")


class ConfigErrors(Exception):
    """A configuration file that cannot be used. errors: everything wrong with it, in the file's order."""

    def __init__(self, errors: Sequence[ConfigError]) -> None:
        super().__init__("\n".join(str(error) for error in errors))
        self.errors = tuple(errors)

    @classmethod
    def at(cls, path: str, problems: Sequence[Problem]) -> ConfigErrors:
        """The problems of one file, sorted by place, each once."""
        ordered = sorted(set(problems))
        return cls([ConfigError(path, p.place.line, p.place.column, p.message, p.suggestion) for p in ordered])

    def __iter__(self) -> Iterator[ConfigError]:
        return iter(self.errors)

    def __len__(self) -> int:
        return len(self.errors)
