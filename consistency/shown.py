"""Findings and values as reports show them: a row may hold megabytes, and there may be many."""

from __future__ import annotations

from typing import Any, Final

from consistency.compare import Finding

KEPT: Final = 1000
"""Findings of a class that are kept; all are counted."""
MOST_DIFFERENCES: Final = 20
"""Paths of one finding that are told."""
VALUE_LENGTH: Final = 200
"""Characters of a value in a report."""


def short(finding: Finding) -> Finding:
    """With all paths, and values as a report shows them."""
    differences = tuple(each._replace(old=shown(each.old), new=shown(each.new)) for each in finding.differences)
    return finding._replace(differences=differences, tolerated=())


def small(finding: Finding) -> Finding:
    """With a few paths, too."""
    return short(finding._replace(differences=finding.differences[:MOST_DIFFERENCES]))


def shown(value: Any) -> Any:
    """A value as JSON can have it: what is long is cut, bytes are hexadecimal, what is no JSON number is text."""
    if isinstance(value, bytes):
        return _cut(value.hex())
    if isinstance(value, str):
        return _cut(value)
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**53:
        return str(value)
    if isinstance(value, dict | list):
        text = repr(value)
        return _cut(text) if len(text) > VALUE_LENGTH else _shown_parts(value)
    return value


def _shown_parts(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): shown(each) for name, each in value.items()}
    return [shown(each) for each in value]


def _cut(text: str) -> str:
    return text if len(text) <= VALUE_LENGTH else f"{text[: VALUE_LENGTH - 3]}..."
