"""How two single values are compared: one function for each comparison that a rule can ask for.

Each takes old's value and new's, and says SAME, TOLERATED (not the same, but what the rule allows) or what is wrong in
two or three words. Values are None, bool, int, float, str, bytes; a container against anything else is wrong as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any, Final

from config.rules import FieldRule
from consistency.moments import moment_of

SAME: Final = ""
TOLERATED: Final = "tolerated"
OTHER_VALUE: Final = "value"
OTHER_TYPE: Final = "type"

Check = Callable[[Any, Any], str]

_NUMBER: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?", re.ASCII)


def exact(old: Any, new: Any) -> str:
    """The same type and value. NaN is the same as NaN, and 0.0 as -0.0; 1, 1.0 and true are three things."""
    if type(old) is not type(new):
        return OTHER_TYPE
    if old == new or (old != old and new != new):
        return SAME
    return OTHER_VALUE


def of_rule(rule: FieldRule) -> Check:
    """What compares single values under a rule. Rules that need no comparison of values let everything pass."""
    match rule.compare:
        case "tolerance":
            return _tolerance(rule.abs, rule.rel)
        case "numeric-string":
            return _numeric(rule.abs, rule.rel)
        case "time":
            return _time(round(rule.within * 1e9))
        case "regex":
            assert rule.pattern is not None
            return _regex(re.compile(rule.pattern, re.DOTALL))
        case "ignore" | "presence":
            return _anything
        case _:
            return exact


def _anything(old: Any, new: Any) -> str:
    return TOLERATED if exact(old, new) else SAME


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _tolerance(absolute: float, relative: float) -> Check:
    def check(old: Any, new: Any) -> str:
        found = exact(old, new)
        if not found or not (_is_number(old) and _is_number(new)):
            return found
        return TOLERATED if is_close(old, new, absolute, relative) else OTHER_VALUE

    return check


def is_close(old: float, new: float, absolute: float, relative: float) -> bool:
    """|old - new| <= absolute + relative * max(|old|, |new|). Infinity is close to itself alone, NaN to NaN alone."""
    if old == new or (old != old and new != new):
        return True
    if type(old) is float is type(new):
        distance, size = abs(old - new), max(abs(old), abs(new))
        # Infinity is within any share of itself.
        return distance != float("inf") and distance <= absolute + relative * size
    try:  # a float takes the last digits from a large integer
        a, b = Fraction(old), Fraction(new)
    except (OverflowError, ValueError):  # infinity or NaN against an integer
        return False
    return abs(a - b) <= Fraction(absolute) + Fraction(relative) * max(abs(a), abs(b))


def _numeric(absolute: float, relative: float) -> Check:
    least, share = Decimal(repr(absolute)), Decimal(repr(relative))

    def check(old: Any, new: Any) -> str:
        found = exact(old, new)
        if not found:
            return SAME
        a, b = _decimal(old), _decimal(new)
        if a is None or b is None:
            return found
        try:
            return TOLERATED if abs(a - b) <= least + share * max(abs(a), abs(b)) else OTHER_VALUE
        except InvalidOperation:
            return OTHER_VALUE

    return check


def _decimal(value: Any) -> Decimal | None:
    """A finite number, or text that is one; else None."""
    if isinstance(value, str):
        text = value.strip()
        return Decimal(text) if _NUMBER.fullmatch(text) else None
    if not _is_number(value) or value != value or value in (float("inf"), float("-inf")):
        return None
    return Decimal(value) if isinstance(value, int) else Decimal(repr(value))


def _time(within: int) -> Check:
    def check(old: Any, new: Any) -> str:
        found = exact(old, new)
        if not found:
            return SAME
        a, b = moment_of(old), moment_of(new)
        if a is None or b is None:
            return found
        return TOLERATED if abs(a - b) <= within else OTHER_VALUE

    return check


def _regex(pattern: re.Pattern[str]) -> Check:
    def check(old: Any, new: Any) -> str:
        for side, value in (("old", old), ("new", new)):
            if isinstance(value, dict | list):
                return OTHER_TYPE
            if pattern.fullmatch(value if isinstance(value, str) else _text(value)) is None:
                return f"pattern at {side}"
        return TOLERATED if exact(old, new) else SAME

    return check


def _text(value: Any) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else "" if value is None else str(value)
