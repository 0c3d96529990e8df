"""Rules that would let pass what looks like noise: told with what speaks for them, and never used by themselves.

Noise is what differs a little wherever it differs: numbers in their last digits or by their type, the same number as
text, moments in their last digits; and what differs nearly everywhere, as what each side makes by itself does. What new
lacks is never noise.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil, log10
from typing import Any, Final, NamedTuple

from consistency.checks import OTHER_TYPE, OTHER_VALUE
from consistency.compare import Counts, Finding, general
from consistency.moments import moment_of

LEAST: Final = 2
"""Identities that differ at a path before anything is said of it."""
MOST_SHARE: Final = 1e-4
"""Of a number, by which it may differ and be noise."""
MOST_APART: Final = 1_000_000_000
"""Nanoseconds between two moments that are noise."""
NEARLY_ALL: Final = 0.9
"""Share of all identities that differ at a path which each side fills by itself."""
ENOUGH: Final = 20
"""Identities before such a share says something."""


class Suggestion(NamedTuple):
    """rule: as the configuration has it; differ, settled: identities that differ there, of how many; why: in words."""

    rule: dict[str, Any]
    differ: int
    settled: int
    why: str

    def as_dict(self) -> dict[str, Any]:
        """As JSON, with the rule as a line of YAML."""
        inner = ", ".join(f"{name}: {value}" for name, value in self.rule.items())
        return {"rule": self.rule, "yaml": f"- {{{inner}}}", "differ": self.differ, "settled": self.settled,
                "why": self.why}  # fmt: skip


def suggestions(findings: Iterable[Finding], counts: Counts) -> list[Suggestion]:
    """Of what was found, the most frequent first. findings: a sample; counts: of everything."""
    pairs: dict[str, list[tuple[Any, Any]]] = {}
    real: set[str] = set()
    for finding in findings:
        for each in finding.differences:
            path = general(each.path)
            pairs.setdefault(path, []).append((each.old, each.new))
            if each.reason not in (OTHER_VALUE, OTHER_TYPE):
                real.add(path)
    found = []
    for path, count in counts.fields.most_common():
        if path in real or not path.startswith("/") or count < LEAST or path not in pairs:
            continue
        made = _of(path, pairs[path], count, counts.settled)
        if made is not None:
            found.append(made)
    return found


def _of(path: str, pairs: Sequence[tuple[Any, Any]], count: int, settled: int) -> Suggestion | None:
    for rule_of in (_numbers, _moments):
        said = rule_of(pairs)
        if said is not None:
            rule, why = said
            return Suggestion({"path": path} | rule, count, settled, why)
    if settled >= ENOUGH and count >= NEARLY_ALL * settled:
        share = f"differs in {100 * count / settled:.3g} % of events, so each side seems to make its own"
        return Suggestion({"path": path, "compare": "ignore"}, count, settled, share)
    return None


def _numbers(pairs: Sequence[tuple[Any, Any]]) -> tuple[dict[str, Any], str] | None:
    numbers = [(_number(old), _number(new)) for old, new in pairs]
    share = 0.0
    for a, b in numbers:
        if a is None or b is None:
            return None
        if a != b:
            share = max(share, abs(a - b) / max(abs(a), abs(b)))
    if not share <= MOST_SHARE:
        return None
    is_text = any(isinstance(value, str) for pair in pairs for value in pair)
    rule: dict[str, Any] = {"compare": "numeric-string" if is_text else "tolerance"}
    if not share:
        return rule, "the same numbers, written as another type"
    rule["rel"] = float(f"1e{ceil(log10(share))}")
    return rule, f"numbers that differ by {share:.2g} of themselves at most"


def _number(value: Any) -> float | None:
    """A finite number, or text that is one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if number - number == 0 else None


def _moments(pairs: Sequence[tuple[Any, Any]]) -> tuple[dict[str, Any], str] | None:
    apart = 0
    for old, new in pairs:
        a, b = moment_of(old), moment_of(new)
        if a is None or b is None or not (isinstance(old, str) or isinstance(new, str)):
            return None
        apart = max(apart, abs(a - b))
    if apart > MOST_APART:
        return None
    if not apart:
        return {"compare": "time"}, "the same moments, written in another way"
    within = 10 ** ceil(log10(apart))
    millis = f"{within / 1e6:.6f}".rstrip("0").rstrip(".")
    return {"compare": "time", "within": f"{millis}ms"}, f"moments that lie {apart:,} ns apart at most"
