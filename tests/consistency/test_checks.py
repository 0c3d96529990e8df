"""Single values under each comparison that a rule can ask for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from config.rules import FieldRule
from consistency import checks
from consistency.checks import OTHER_TYPE, OTHER_VALUE, SAME, TOLERATED

INF, NAN = float("inf"), float("nan")


def check(compare: str, old: Any, new: Any, **more: Any) -> str:
    return checks.of_rule(FieldRule.model_validate({"path": "/a", "compare": compare} | more))(old, new)


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        (1, 1, SAME),
        (1, 2, OTHER_VALUE),
        (1, 1.0, OTHER_TYPE),
        (1, True, OTHER_TYPE),
        (0, None, OTHER_TYPE),
        ("1", 1, OTHER_TYPE),
        ("a", b"a", OTHER_TYPE),
        (NAN, NAN, SAME),
        (NAN, 1.0, OTHER_VALUE),
        (0.0, -0.0, SAME),
        (INF, INF, SAME),
        (INF, -INF, OTHER_VALUE),
        (2**63, 2**63, SAME),
        (None, None, SAME),
        ({}, 1, OTHER_TYPE),
    ],
)
def test_exact(old: Any, new: Any, found: str) -> None:
    assert check("exact", old, new) == check("exact", new, old) == found
    assert check("both", old, new) == found


@pytest.mark.parametrize(
    ("old", "new", "allowed", "found"),
    [
        (21.5, 21.5, {}, SAME),
        (21.5, 21.75, {"abs": 0.25}, TOLERATED),
        (21.5, 21.8, {"abs": 0.25}, OTHER_VALUE),
        (100.0, 101.0, {"rel": 0.01}, TOLERATED),
        (100.0, 101.1, {"rel": 0.01}, OTHER_VALUE),
        (100.0, 102.0, {"rel": 0.01, "abs": 1}, TOLERATED),
        (5, 5.0, {}, TOLERATED),
        (5, 5.1, {"abs": 0.5}, TOLERATED),
        (1, True, {"abs": 10}, OTHER_TYPE),
        ("1", "2", {"abs": 10}, OTHER_VALUE),
        (1, "1", {"abs": 10}, OTHER_TYPE),
        (1.0, None, {"abs": 10}, OTHER_TYPE),
        (NAN, NAN, {}, SAME),
        (NAN, 1.0, {"abs": 1e300, "rel": 1}, OTHER_VALUE),
        (INF, 1.0, {"abs": 1e300, "rel": 1}, OTHER_VALUE),
        (INF, -INF, {"rel": 1}, OTHER_VALUE),
        (INF, INF, {}, SAME),
        (10**400, 10**400, {"rel": 0.1}, SAME),
        (10**400, 1.0, {"rel": 0.5}, OTHER_VALUE),
        (10**400, INF, {"rel": 1}, OTHER_VALUE),
        (2**53 + 1, float(2**53), {}, OTHER_VALUE),
        (2**53 + 1, float(2**53), {"abs": 1}, TOLERATED),
        (0.0, -0.0, {}, SAME),
        (1e308, -1e308, {"rel": 1}, OTHER_VALUE),
    ],
)
def test_tolerance(old: Any, new: Any, allowed: dict[str, float], found: str) -> None:
    assert check("tolerance", old, new, **allowed) == check("tolerance", new, old, **allowed) == found


def test_a_tolerance_is_met_at_its_edge_and_no_further() -> None:
    """The rounding trap: 0.15 and 0.25 round to different tenths, 0.15 and 0.2499 to the same."""
    assert check("tolerance", 0.5, 0.75, abs=0.25) == TOLERATED
    assert check("tolerance", 0.5, 0.7500001, abs=0.25) == OTHER_VALUE


@pytest.mark.parametrize(
    ("old", "new", "allowed", "found"),
    [
        ("21.50", 21.5, {}, TOLERATED),
        ("21.50", "21.5", {}, TOLERATED),
        ("21.5", "21.5", {}, SAME),
        (" 7 ", 7, {}, TOLERATED),
        ("1e3", 1000, {}, TOLERATED),
        ("0.1", 0.1, {}, TOLERATED),
        ("21.5", 21.6, {"abs": 0.1}, TOLERATED),
        ("21.5", 21.61, {"abs": 0.1}, OTHER_VALUE),
        ("9007199254740993", 9007199254740993, {}, TOLERATED),
        ("9007199254740993", 9007199254740992, {}, OTHER_VALUE),
        ("1_0", 10, {}, OTHER_TYPE),
        ("nan", NAN, {}, OTHER_TYPE),
        ("inf", INF, {"rel": 1}, OTHER_TYPE),
        ("unknown", 1, {}, OTHER_TYPE),
        ("unknown", "unavailable", {}, OTHER_VALUE),
        (True, 1, {}, OTHER_TYPE),
        (None, "", {}, OTHER_TYPE),
        ("1e9999", "2e9999", {"rel": 1}, TOLERATED),
    ],
)
def test_numeric_string(old: Any, new: Any, allowed: dict[str, float], found: str) -> None:
    assert check("numeric-string", old, new, **allowed) == check("numeric-string", new, old, **allowed) == found


@pytest.mark.parametrize(
    ("old", "new", "within", "found"),
    [
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z", "0s", SAME),
        ("2026-01-31T12:00:00Z", "2026-01-31T13:00:00+01:00", "0s", TOLERATED),
        ("2026-01-31T12:00:00Z", 1769860800, "0s", TOLERATED),
        ("2026-01-31T12:00:00.123456789Z", 1769860800123456789, "0s", TOLERATED),
        ("2026-01-31T12:00:00.123456789Z", 1769860800123, "1ms", TOLERATED),
        ("2026-01-31T12:00:00.123456789Z", 1769860800123, "0.1ms", OTHER_VALUE),
        (1769860800123456789, 1769860800123456, "0s", OTHER_VALUE),
        (1769860800.5, 1769860800500, "0s", TOLERATED),
        ("yesterday", 1769860800, "1h", OTHER_TYPE),
        ("yesterday", "yesterday", "0s", SAME),
        (NAN, 0, "1h", OTHER_TYPE),
        (INF, INF, "1h", SAME),
        (True, 1, "1h", OTHER_TYPE),
        ("2026-02-31T12:00:00Z", "2026-03-03T12:00:00Z", "1000d", OTHER_VALUE),
    ],
)
def test_time(old: Any, new: Any, within: str, found: str) -> None:
    assert check("time", old, new, within=within) == check("time", new, old, within=within) == found


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("ab12", "cd34", TOLERATED),
        ("ab12", "ab12", SAME),
        ("ab12", "ab12x", "pattern at new"),
        ("x", "x", "pattern at old"),
        ("ab1\n", "ab12", "pattern at old"),
        (None, "ab12", "pattern at old"),
    ],
)
def test_regex(old: Any, new: Any, found: str) -> None:
    assert check("regex", old, new, pattern="[a-d]{2}[0-9]{2}") == found


def test_regex_takes_values_as_json_writes_them() -> None:
    assert check("regex", True, False, pattern="true|false") == TOLERATED
    assert check("regex", 12, 13, pattern="[0-9]+") == TOLERATED


@pytest.mark.parametrize("compare", ["ignore", "presence"])
def test_what_lets_everything_pass(compare: str) -> None:
    assert check(compare, 1, "x") == TOLERATED
    assert check(compare, NAN, NAN) == SAME


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()


@given(VALUES, VALUES)
def test_only_the_same_is_exactly_the_same(old: Any, new: Any) -> None:
    same = type(old) is type(new) and (old == new or repr(old) == repr(new) == "nan")
    assert (check("exact", old, new) == SAME) is same
    for compare in ("tolerance", "numeric-string", "time", "set", "only-new-if"):
        more = {"when": {"pointer": "/x", "equals": True}} if compare == "only-new-if" else {}
        assert (check(compare, old, new, **more) == SAME) is same


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ({"compare": "exact", "abs": 0.1}, "`abs` means nothing to compare: exact"),
        ({"compare": "time", "rel": 0.1}, "`rel` means nothing"),
        ({"compare": "regex"}, "needs `pattern`"),
        ({"compare": "only-new-if"}, "needs `when`"),
        ({"compare": "regex", "pattern": "("}, "is no regular expression"),
        ({"compare": "tolerance", "abs": -1}, "greater than or equal to 0"),
        ({"compare": "tolerance", "abs": INF}, "finite"),
        ({"compare": "tolerance", "path": "a"}, "pattern"),
        ({"compare": "guess"}, "Input should be"),
    ],
)
def test_rules_that_make_no_sense(rule: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError) as raised:
        FieldRule.model_validate({"path": "/a"} | rule)
    assert why in str(raised.value)


def test_a_rule_says_what_it_is() -> None:
    assert str(FieldRule(path="/a", compare="tolerance", abs=0.1, rel=1e-6)) == "/a tolerance abs 0.1 rel 1e-06"
    assert str(FieldRule(path="/a/*", compare="ignore")) == "/a/* ignore"
