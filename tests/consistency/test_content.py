"""Rows that nothing names: called by their content, and counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consistency.content import content_name
from consistency.judge import Checker
from consistency.rules import Incomparable
from tests.consistency.test_verify import ask, configuration, event, put

BY_CONTENT = {"identity": "content", "only_new": "compare"}
STORE = {"table": "event", "identity": ["state"], "time": "at", "columns": ["temperature", "body"]}

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda parts: st.lists(parts) | st.dictionaries(st.text(), parts),
    max_leaves=8,
)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consistency.__main__.BACK_OFF", (0.0, 0.0, 0.0))


def check(folder: Path, **more: Any) -> Path:
    stores = {side: {"sqlite": STORE | {"file": f"{side}.db"}} for side in ("old", "new")}
    return configuration(folder, **(BY_CONTENT | stores | more))


@given(st.dictionaries(st.text(), _VALUES))
def test_the_order_of_names_is_no_content(fields: dict[str, Any]) -> None:
    assert content_name(fields) == content_name(dict(reversed(fields.items())))


@given(_VALUES, _VALUES)
def test_another_value_is_another_content(one: Any, other: Any) -> None:
    if (type(one), one) != (type(other), other):
        assert content_name({"a": one}) != content_name({"a": other})


@pytest.mark.parametrize(
    ("one", "other"),
    [({"a": 5}, {"a": 5.0}), ({"a": 1}, {"a": True}), ({"a": "b", "c": 1}, {"a": "b"}), ({"a": []}, {})],
)
def test_what_differs_as_rules_see_it_has_another_name(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert content_name(one) != content_name(other)


def test_one_zero_and_one_nan() -> None:
    assert content_name({"a": 0.0}) == content_name({"a": -0.0})
    assert content_name({"a": float("nan")}) == content_name({"a": float("nan")})


def test_what_is_nested_too_deep_has_none() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(Incomparable):
        content_name({"a": deep})


def test_as_many_of_each_content_have_to_be_there(tmp_path: Path) -> None:
    """Ten readings of a sensor, two of which say the same in one second, and three of another one."""
    several = [event(number) for number in range(10)] + [event(3), event(70), event(70), event(70)]
    put(tmp_path, "old", *several)
    put(tmp_path, "new", *reversed(several))
    answer = ask(check(tmp_path))
    assert (answer["result"], answer["classes"]["equal"], answer["mismatches"]) == ("pass", 11, 0)
    put(tmp_path, "new", event(70), event(80))
    put(tmp_path, "old", event(5), event(90))
    answer = ask(check(tmp_path))
    found = [(each["time"][14:19], each["class"], each["by"], each["differences"]) for each in answer["findings"]]
    count = {"path": "(rows)", "reason": "count"}
    assert found == [
        ("00:05", "different", [], [count | {"old": 2, "new": 1}]),
        ("01:10", "different", [], [count | {"old": 3, "new": 4}]),
        ("01:20", "unrecorded", ["old"], []),
        ("01:30", "unrecorded", ["new"], []),
    ]
    assert "identity: content" in answer["record"]


def test_documents_and_ignored_fields(tmp_path: Path) -> None:
    put(tmp_path, "old", event(1, body='{"n": 1, "at": 5}'), event(2, body='{"n": 1}'))
    put(tmp_path, "new", event(1, body='{"at":7,"n":1}'), event(2, body='{"n": 2}'))
    rules = [{"path": "/body/at", "compare": "ignore"}, {"path": "/body/ta", "compare": "ignore"}]
    answer = ask(check(tmp_path, json_fields=["body"], rules=rules))
    assert (answer["classes"]["equal"], answer["classes"]["unrecorded"]) == (1, 2)
    assert answer["unused_rules"] == ["/body/ta ignore"]


def test_a_window_that_is_judged_in_parts_is_judged_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consistency.assembly.Checker", _little)
    documents = ['{"n": 1, "m": 2}', '{"m":2,"n":1}']
    for side, body in zip(("old", "new"), documents, strict=True):
        put(tmp_path, side, *(event(number // 2, body=body) for number in range(2000)))
    answer = ask(check(tmp_path, json_fields=["body"]))
    assert (answer["result"], answer["classes"]["equal"]) == ("pass", 1000)


def _little(*arguments: Any, **named: Any) -> Checker:
    return Checker(*arguments, **(named | {"memory": 2**16}))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"time": "ignore"}, "are of the same time"),
        ({"time_within": "1s"}, "are of the same time"),
        ({"only_new": "ignore"}, "needs only_new: compare"),
        ({"rules": [{"path": "/temperature", "compare": "tolerance", "abs": 1}]}, "takes `ignore` alone"),
    ],
)
def test_what_is_neither_the_same_nor_another_one(tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    assert message in "\n".join(ask(check(tmp_path, **wrong))["error"]["lines"])


@pytest.mark.parametrize("request_", [{"repair": True, "two_way": True}, {"do": "backfill"}])
def test_nothing_is_written_that_cannot_be_told(tmp_path: Path, request_: dict[str, Any]) -> None:
    error = ask(check(tmp_path), source="old", target="new", **request_)["error"]
    assert "nothing names these rows" in error["message"]
