"""Rows under rules: which rule holds where, what differs, what is let pass, what is enrichment."""

from __future__ import annotations

import copy
from time import process_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.rules import FieldRule
from consistency.rules import (
    IDENTICAL,
    LENGTH,
    LOOKS,
    MISSING,
    ONLY_IN_NEW,
    Comparison,
    Difference,
    Incomparable,
    Rules,
)


def rule(path: str, compare: str, **more: Any) -> FieldRule:
    return FieldRule.model_validate({"path": path, "compare": compare} | more)


def compare(old: Any, new: Any, *rules: FieldRule, only_new: str = "ignore") -> Comparison:
    return Rules(rules, only_new=only_new).compare(old, new)


def paths(found: Comparison) -> list[str]:
    return [each.path for each in found.differences]


def test_equal_rows_in_any_order_of_names() -> None:
    assert compare({"a": 1, "b": {"c": [1, None]}}, {"b": {"c": [1, None]}, "a": 1}) is IDENTICAL
    assert compare({}, {}) is IDENTICAL


def test_every_difference_is_named_with_both_values() -> None:
    found = compare(
        {"a": 1, "b": {"c/d": "x", "e~": [1, 2]}, "f": 1, "g": [1]},
        {"a": 1.0, "b": {"c/d": "y", "e~": [1, 3]}, "g": [1, 2]},
    )
    assert found.differences == (
        Difference("/a", "type", 1, 1.0),
        Difference("/b/c~1d", "value", "x", "y"),
        Difference("/b/e~0/1", "value", 2, 3),
        Difference("/f", MISSING, 1, None),
        Difference("/g", LENGTH, [1], [1, 2]),
    )
    assert (found.tolerated, found.enriched) == ((), 0)


def test_one_is_no_true_in_nested_values_either() -> None:
    assert paths(compare({"a": [1, {"b": 0}]}, {"a": [True, {"b": False}]})) == ["/a/0", "/a/1/b"]


def test_null_is_not_absent_inside_of_a_document() -> None:
    assert compare({"a": {"b": None}}, {"a": {}}).differences == (Difference("/a/b", MISSING, None, None),)
    assert compare({"a": None}, {"a": 0}).differences == (Difference("/a", "type", None, 0),)


def test_a_container_against_a_value() -> None:
    assert paths(compare({"a": {}, "b": [], "c": {}}, {"a": [], "b": 0, "c": None})) == ["/a", "/b", "/c"]


def test_what_new_has_alone_is_enrichment_and_counted() -> None:
    old, new = {"a": 1, "b": {"c": 1}}, {"a": 1, "weather": {"t": 1, "h": 2}, "b": {"c": 1, "d": 2}}
    assert compare(old, new) == Comparison((), (), 2)
    found = compare(old, new, only_new="compare")
    assert found.differences == (
        Difference("/b/d", ONLY_IN_NEW, None, 2),
        Difference("/weather", ONLY_IN_NEW, None, {"t": 1, "h": 2}),
    )


def test_what_old_has_alone_is_a_difference() -> None:
    assert paths(compare({"a": 1, "b": 1}, {"a": 1})) == ["/b"]
    assert paths(compare({"a": 1, "b": 1}, {"a": 1, "c": 1})) == ["/b"], "as many names on both sides"


def test_a_rule_that_says_exact_wants_no_enrichment_there() -> None:
    assert paths(compare({}, {"a": 1, "b": 1}, rule("/a", "exact"))) == ["/a"]


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 2}}, []),
        ({"a": {"b": 1}}, {"a": 7}, []),
        ({"a": {"b": 1}}, {}, []),
        ({}, {"a": 1}, []),
        ({"ab": 1}, {"ab": 2}, ["/ab"]),
    ],
)
def test_ignore_is_for_all_beneath(old: Any, new: Any, found: list[str]) -> None:
    for only_new in ("ignore", "compare"):
        given_back = compare(old, new, rule("/a", "ignore"), only_new=only_new)
        assert paths(given_back) == found
        assert (given_back.tolerated, given_back.enriched) == ((), 0), "what is ignored is not spoken of"


def test_the_first_rule_that_fits_holds() -> None:
    narrow, wide = rule("/a/b", "exact"), rule("/a", "ignore")
    old, new = {"a": {"b": 1, "c": 1}}, {"a": {"b": 2, "c": 2}}
    assert paths(compare(old, new, narrow, wide)) == ["/a/b"]
    assert paths(compare(old, new, wide, narrow)) == []
    assert paths(compare(old, {}, narrow, wide)) == ["/a/b"], "of a subtree that is not there, what is not ignored"


def test_any_name_and_array_indexes() -> None:
    old = {"sensors": [{"t": 1.0, "id": "a"}, {"t": 2.0, "id": "b"}]}
    new = {"sensors": [{"t": 1.1, "id": "a"}, {"t": 2.1, "id": "x"}]}
    found = compare(old, new, rule("/sensors/*/t", "tolerance", abs=0.2))
    assert paths(found) == ["/sensors/1/id"]
    assert found.tolerated == ("/sensors/0/t", "/sensors/1/t")
    assert paths(compare(old, new, rule("/sensors/1", "ignore"))) == ["/sensors/0/t"]
    assert paths(compare(old, new, rule("/*/*/t", "ignore"), rule("/sensors/1/*", "ignore"))) == []


def test_names_with_slashes_and_tildes() -> None:
    assert paths(compare({"a/b": {"~": 1}}, {"a/b": {"~": 2}}, rule("/a~1b/~0", "ignore"))) == []


@pytest.mark.parametrize(
    ("rules", "old", "new", "found"),
    [
        # A container at one side and something else at the other: its parts are missing there.
        ([("/a/b", "exact"), ("/a", "ignore")], {"a": {"b": 1}}, {"a": None}, ["/a/b"]),
        ([("/a/b", "exact"), ("/a", "ignore")], {"a": {"c": 1}}, {"a": None}, []),
        ([("/a/b", "exact"), ("/a", "presence")], {"a": {"b": 1}}, {"a": None}, ["/a/b"]),
        ([("/a/b", "exact")], {"a": {"b": 1}}, {"a": None}, ["/a"]),
        # The place itself is asked for, whatever is said of its parts.
        ([("/a/b", "exact"), ("/a", "presence")], {"a": {"c": 1}}, {}, ["/a"]),
        ([("/a/b", "exact"), ("/a", "presence")], {}, {"a": {"c": 1}}, ["/a"]),
        # A list that is longer at one side.
        ([("/l/0", "exact"), ("/l", "ignore")], {"l": [1, 2]}, {"l": [1, 2, 3]}, []),
        ([("/l/0", "exact"), ("/l", "ignore")], {"l": [1, 2]}, {"l": [2]}, ["/l/0"]),
        ([("/l/0", "exact"), ("/l", "presence")], {"l": [1]}, {"l": [1, 2]}, []),
        ([("/l/*", "ignore")], {"l": [1, 2]}, {"l": [1, 2, 3]}, []),
        ([("/l/0", "ignore")], {"l": [1, 2]}, {"l": [7, 2, 3]}, ["/l/2"]),
        ([("/l/0", "ignore")], {"l": [1, 2, 3]}, {"l": [7, 2]}, ["/l/2"]),
    ],
)
def test_rules_about_parts(
    rules: list[tuple[str, str]], old: dict[str, Any], new: dict[str, Any], found: list[str]
) -> None:
    assert paths(compare(old, new, *[rule(*each) for each in rules])) == found


def test_a_pattern_is_for_single_values() -> None:
    anything = rule("/a", "regex", pattern=".*")
    assert paths(compare({"a": {"x": 1}}, {"a": "abc"}, anything)) == ["/a"]
    assert paths(compare({"a": {"x": 1}}, {"a": {"x": "2"}}, anything)) == [], "it holds for what is beneath"


def test_a_condition_of_null_is_not_met_by_nothing() -> None:
    rules = rule("/w", "only-new-if", when={"pointer": "/enriched", "equals": None})
    assert paths(compare({}, {"w": 1}, rules)) == ["/w"]
    assert paths(compare({"enriched": None}, {"enriched": None, "w": 1}, rules)) == []


def test_many_rules_with_wildcards_are_no_forest() -> None:
    rules = [rule("/" + "/".join("*" if n >> bit & 1 else "a" for bit in range(5)), "ignore") for n in range(32)]
    begun = process_time()
    made = Rules(rules)
    assert process_time() - begun < 5
    deep = {"a": {"a": {"a": {"a": {"a": 1}}}}}
    assert made.compare(deep, {"a": {"a": {"a": {"a": {"a": 2}}}}}) == IDENTICAL


def test_sets() -> None:
    tags = rule("/tags", "set")
    assert compare({"tags": ["a", "b"]}, {"tags": ["b", "a", "a"]}, tags) == Comparison((), ("/tags",), 0)
    assert compare({"tags": ["a", {"x": 1}]}, {"tags": ["a", {"x": 1}]}, tags) is IDENTICAL
    assert paths(compare({"tags": ["a", "b"]}, {"tags": ["a"]}, tags)) == ["/tags"]
    assert paths(compare({"tags": [1]}, {"tags": [1.0]}, tags)) == ["/tags"]
    assert paths(compare({"tags": [1]}, {"tags": [True]}, tags)) == ["/tags"]
    assert paths(compare({"tags": [float("nan")]}, {"tags": [None]}, tags)) == ["/tags"]
    assert paths(compare({"tags": [2**70]}, {"tags": [2**70]}, tags)) == []
    assert paths(compare({"tags": "a"}, {"tags": ["a"]}, tags)) == ["/tags"]


def test_presence() -> None:
    there = rule("/at", "presence")
    assert compare({"at": 1}, {"at": {"x": 2}}, there) == Comparison((), ("/at",), 0)
    assert compare({"at": {"x": 1}}, {"at": {"y": 2}}, there) is IDENTICAL, "what is in it is not looked at"
    assert paths(compare({"at": 1}, {}, there)) == ["/at"]
    assert paths(compare({}, {"at": 1}, there)) == ["/at"]
    inner = rule("/at/x", "exact")
    assert paths(compare({"at": {"x": 1, "y": 1}}, {"at": {"x": 2}}, inner, there)) == ["/at/x"]


def test_both() -> None:
    both = rule("/a", "both")
    assert compare({"a": 1}, {}, both) == compare({}, {"a": 1}, both) == Comparison((), ("/a",), 0)
    assert paths(compare({"a": 1}, {"a": 2}, both)) == ["/a"]


@pytest.mark.parametrize(
    ("said", "old_more", "new_more", "found"),
    [
        (False, {}, {"weather": {"t": 1}}, []),
        (True, {}, {"weather": {"t": 1}}, ["/weather"]),
        (None, {}, {"weather": {"t": 1}}, ["/weather"]),
        (0, {}, {"weather": {"t": 1}}, ["/weather"]),
        (False, {"weather": {"t": 1}}, {"weather": {"t": 2}}, ["/weather/t"]),
        (False, {"weather": {}}, {"weather": {"t": 2}}, []),
        (True, {"weather": {}}, {"weather": {"t": 2}}, ["/weather/t"]),
        (False, {"weather": {"t": 1}}, {}, ["/weather"]),
    ],
)
def test_weather_may_stand_in_new_alone_where_old_says_that_it_has_none(
    said: Any, old_more: Any, new_more: Any, found: list[str]
) -> None:
    rules = rule("/weather", "only-new-if", when={"pointer": "/meta/weather_enriched", "equals": False})
    old = {"meta": {"weather_enriched": said}} | old_more
    assert paths(compare(old, old | new_more if "weather" in new_more else {"meta": old["meta"]}, rules)) == found


def test_the_condition_is_about_olds_row_alone() -> None:
    rules = rule("/weather", "only-new-if", when={"pointer": "/enriched", "equals": False})
    assert paths(compare({"enriched": True}, {"enriched": False, "weather": 1}, rules)) == ["/enriched", "/weather"]
    assert paths(compare({}, {"weather": 1}, rules)) == ["/weather"], "no word is not false"


def test_a_pattern_judges_equal_values_too() -> None:
    rules = rule("/id", "regex", pattern="[0-9]+")
    assert paths(compare({"id": "x", "a": 1}, {"id": "x", "a": 1}, rules)) == ["/id"]
    assert compare({"id": "1"}, {"id": "2"}, rules) == Comparison((), ("/id",), 0)


def test_rules_that_nothing_matched_are_known() -> None:
    mistyped, used, new_alone, beneath = (
        rule("/temprature", "tolerance", abs=1),
        rule("/temperature", "tolerance", abs=1),
        rule("/weather", "ignore"),
        rule("/a/*/b", "exact"),
    )
    rules = Rules([mistyped, used, new_alone, beneath])
    assert rules.unused == [mistyped, used, new_alone, beneath]
    rules.compare({"temperature": 1.0}, {"temperature": 1.0})
    assert rules.unused == [mistyped, new_alone, beneath]
    rules.compare({"temperature": 1.0}, {"temperature": 1.0, "weather": 1})
    rules.compare({"a": [{"b": 1}]}, {"a": [{"b": 1}]})
    assert rules.unused == [mistyped]


def test_a_rule_that_is_rarely_needed_is_found_also_later() -> None:
    rules = Rules([rule("/rare", "ignore")])
    for _ in range(LOOKS):
        rules.compare({"a": 1}, {"a": 1})
    assert rules.unused
    for _ in range(64):
        rules.compare({"rare": 1}, {"rare": 1})
    assert not rules.unused


def test_what_is_nested_too_deep_is_said_and_not_judged() -> None:
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(Incomparable, match="too deep"):
        compare({"a": deep}, {"a": copy_deep(deep)})


def copy_deep(value: Any) -> Any:
    depth = 0
    while isinstance(value, list):
        value, depth = value[0], depth + 1
    for _ in range(depth):
        value = [value]
    return value


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
NAMES = st.sampled_from(["a", "b", "c/d", "~", "*", ""])
DOCUMENTS = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
ROWS = st.dictionaries(NAMES, DOCUMENTS, max_size=5)


@given(ROWS)
def test_a_row_equals_its_copy(row: dict[str, Any]) -> None:
    assert compare(row, copy.deepcopy(row)) is IDENTICAL


@given(ROWS, st.data())
def test_no_single_change_is_overlooked(row: dict[str, Any], data: st.DataObject) -> None:
    """Whatever is changed, taken away or added somewhere: one difference, at that path."""
    other = copy.deepcopy(row)
    places = list(_places(other, ""))
    if not places:
        return
    holder, name, path = data.draw(st.sampled_from(places))
    del_or_new = data.draw(st.sampled_from(["changed", "gone"]))
    if del_or_new == "gone":
        del holder[name]
        if isinstance(holder, list):
            path = path.rpartition("/")[0]
    else:
        holder[name] = {"never": "before"}
    found = compare(row, other, only_new="compare")
    assert len(found.differences) >= 1
    assert all(each.path.startswith(path) for each in found.differences)
    assert len(compare(other, row, only_new="compare").differences) >= 1


def _places(value: Any, path: str) -> Any:
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in members:
        at = f"{path}/{str(name).replace('~', '~0').replace('/', '~1')}"
        yield value, name, at
        yield from _places(each, at)


ORACLE_NAMES = ["a", "b", "0"]
ORACLE_PATHS = st.lists(st.sampled_from([*ORACLE_NAMES, "*"]), min_size=1, max_size=3).map(
    lambda names: "/" + "/".join(names)
)
ORACLE_RULES = st.lists(st.tuples(ORACLE_PATHS, st.sampled_from(["ignore", "exact", "both", "tolerance"])), max_size=4)
ORACLE_ROWS = st.dictionaries(
    st.sampled_from(ORACLE_NAMES),
    st.recursive(
        st.integers(0, 2),
        lambda inner: st.dictionaries(st.sampled_from(ORACLE_NAMES), inner, min_size=1, max_size=3),
        max_leaves=6,
    ),
    max_size=3,
)


@given(ORACLE_ROWS, ORACLE_ROWS, ORACLE_RULES)
def test_each_value_is_judged_by_the_first_rule_that_fits_it(old: Any, new: Any, listed: list[tuple[str, str]]) -> None:
    """Against an oracle that looks at every single value by itself."""
    rules = [rule(path, how, **({"abs": 1} if how == "tolerance" else {})) for path, how in listed]
    a, b = dict(_leaves(old, ())), dict(_leaves(new, ()))
    if any(path != other and other[: len(path)] == path for path in a | b for other in a | b):
        return  # a value at one side where the other has an object: see test_rules_about_parts
    wanted = set()
    for path in a | b:
        how = next((r.compare for r in rules if _fits(r.path, path)), "")
        x, y = a.get(path), b.get(path)
        is_wrong = x != y if x is not None and y is not None else how != "both" and (y is None or how != "")
        if how == "ignore" or (how == "tolerance" and x is not None and y is not None and abs(x - y) <= 1):
            is_wrong = False
        if is_wrong:
            wanted.add("/" + "/".join(path))
    found = {each.path for each in compare(old, new, *rules).differences}
    # An object that a side lacks is named as a whole.
    assert {path for path in wanted if not any(path == f or path.startswith(f + "/") for f in found)} == set()
    assert {f for f in found if not any(path == f or path.startswith(f + "/") for path in wanted)} == set()


def _fits(pattern: str, path: tuple[str, ...]) -> bool:
    names = pattern.split("/")[1:]
    return len(names) <= len(path) and all(a in ("*", b) for a, b in zip(names, path, strict=False))


def _leaves(value: Any, path: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _leaves(each, (*path, name))
    else:
        yield path, value
