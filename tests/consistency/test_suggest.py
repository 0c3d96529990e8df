"""What looks like noise, and what must never be taken for it."""

from __future__ import annotations

from typing import Any

import pytest

from config.rules import FieldRule
from consistency.classes import Class
from consistency.compare import Counts, Finding
from consistency.rows import Key
from consistency.rules import Difference, Rules
from consistency.suggest import Suggestion, suggestions

REASON = "value"


def suggested(*pairs: tuple[Any, Any], reason: str = REASON, settled: int = 1000) -> list[Suggestion]:
    """Of events that differ at one path alone, in these values."""
    counts, findings = Counts(), []
    for number, (old, new) in enumerate(pairs):
        finding = Finding(Key(f"e{number}", number), Class.DIFFERENT, (), (Difference("/a", reason, old, new),))
        findings.append(finding)
        counts.add(finding)
    counts.classes[Class.EQUAL] = settled - len(pairs)
    return suggestions(findings, counts)


NOISE: dict[str, tuple[list[tuple[Any, Any]], dict[str, Any]]] = {
    "last digits": ([(1.0, 1.0000001), (20.0, 20.0)], {"compare": "tolerance", "rel": 1e-07}),
    "another type": ([(5, 5.0), (7, 7.0)], {"compare": "tolerance"}),
    "a number as text": ([("5", 5), ("7.0", 7)], {"compare": "numeric-string"}),
    "text with other digits": ([("1.0", "1.000007"), ("3", "3")], {"compare": "numeric-string", "rel": 1e-05}),
    "another way to write a moment": (
        [("2026-01-31T12:00:00Z", "2026-01-31T13:00:00+01:00")] * 2,
        {"compare": "time"},
    ),
    "moments cut to milliseconds": (
        [("2026-01-31T12:00:00.123456Z", "2026-01-31T12:00:00.123Z"), ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z")],
        {"compare": "time", "within": "1ms"},
    ),
    "moments cut to microseconds": (
        [("2026-01-31T12:00:00.000000900Z", "2026-01-31T12:00:00Z")] * 2,
        {"compare": "time", "within": "0.001ms"},
    ),
}


@pytest.mark.parametrize("what", NOISE)
def test_noise_gets_a_rule_that_lets_it_pass(what: str) -> None:
    pairs, rule = NOISE[what]
    (made,) = suggested(*pairs)
    assert made.rule == {"path": "/a"} | rule
    assert (made.differ, made.settled) == (len(pairs), 1000)
    rules = Rules([FieldRule.model_validate(made.rule)])
    assert all(not rules.compare({"a": old}, {"a": new}).differences for old, new in pairs)
    assert made.as_dict()["yaml"].startswith("- {path: /a, compare: ")


@pytest.mark.parametrize(
    "pairs",
    [
        [(1.0, 1.1), (1.0, 1.0000001)],
        [(1, 2), (1, 1.0)],
        [("on", "off"), ("off", "on")],
        [("5", "on"), ("5", 5)],
        [(True, 1), (False, 0)],
        [("2026-01-31T12:00:00Z", "2026-01-31T12:00:05Z")] * 2,
        [(float("nan"), 1.0)] * 2,
        [({"x": 1}, {"x": 2})] * 2,
        [(b"a", b"b")] * 2,
        [(1.0, 1.0000001)],
    ],
)
def test_what_is_no_noise_gets_none(pairs: list[tuple[Any, Any]]) -> None:
    assert suggested(*pairs) == []


@pytest.mark.parametrize("reason", ["missing in new", "length", "only in new", "pattern at new"])
def test_what_is_missing_is_never_noise(reason: str) -> None:
    assert suggested((1.0, 1.0), (2.0, 2.0), reason=reason) == []
    assert suggested(*[(1.0, None)] * 100, reason=reason, settled=100) == []


def test_what_differs_nearly_everywhere_is_each_side_s_own() -> None:
    (made,) = suggested(*((f"old-{n}", f"new-{n}") for n in range(95)), settled=100)
    assert made.rule == {"path": "/a", "compare": "ignore"}
    assert "95 % of events" in made.why
    assert suggested(*((f"old-{n}", f"new-{n}") for n in range(85)), settled=100) == []
    assert suggested(*((f"old-{n}", f"new-{n}") for n in range(15)), settled=15) == [], "too few to say so"


def test_elements_of_lists_are_one_path_and_times_of_rows_none() -> None:
    counts, findings = Counts(), []
    for number in range(3):
        differences = (
            Difference(f"/list/{number}/t", REASON, 1.0, 1.0000001),
            Difference("(time)", REASON, 5, 6),
        )
        findings.append(Finding(Key(f"e{number}", number), Class.DIFFERENT, (), differences))
        counts.add(findings[-1])
    (made,) = suggestions(findings, counts)
    assert made.rule["path"] == "/list/*/t"
