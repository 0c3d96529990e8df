"""Batches: bodies put together, and answers taken apart."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.deliver import ItemResults
from proxy.core.batch import Results, entry_of, joined
from proxy.core.template import Unfit


def test_bodies_as_an_array_and_as_lines() -> None:
    assert joined([b'{"a": 1}', b"2"], "array") == b'[{"a": 1},2]'
    assert joined([b"a v=1", b"b v=2"], "lines") == b"a v=1\nb v=2\n"


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (b'{\r\n "a" : 1.10,\n "b": "x\\ny  z"\n}\n', b'{"a":1.10,"b":"x\\ny  z"}'),
        (b"a v=1", b"a v=1"),
        (b"a v=1\n", b"a v=1"),
        (b"a v=1\r\n", b"a v=1"),
        (b"\xff", b"\xff"),
    ],
)
def test_a_body_as_one_line(body: bytes, line: bytes) -> None:
    assert entry_of(body, "lines") == line


@pytest.mark.parametrize("body", [b"", b"\n", b" \r\n", b"a v=1\nb v=2", b"a\rb", b"a v=1\n\n", b'{"a":1}\n{"a":2}\n'])
def test_what_is_no_line_or_several(body: bytes) -> None:
    assert entry_of(body, "lines") == Unfit("its body cannot stand among lines: it is empty, or several")


def test_what_is_no_json_cannot_stand_in_an_array() -> None:
    assert entry_of(b'{\n"a": 1}', "array") == b'{\n"a": 1}'
    for body in (b"", b"temp v=1", b'"\xff"', b"1 2", b"1,2"):
        assert entry_of(body, "array") == Unfit("its body cannot stand in an array: it is no JSON")


@given(st.lists(st.text() | st.binary().map(lambda data: data.decode("latin-1")), max_size=5))
def test_every_event_is_a_line_whatever_it_is(texts: list[str]) -> None:
    made = [entry_of(text.encode(), "lines") for text in (*texts, *(json.dumps([text], indent=2) for text in texts))]
    entries = [each for each in made if isinstance(each, bytes)]
    assert len(entries) >= len(texts), "JSON always is one"
    assert joined(entries, "lines").split(b"\n") == [*entries, b""]


@given(st.lists(st.integers() | st.text() | st.none(), min_size=1))
def test_an_array_holds_them_all_in_order(values: list[object]) -> None:
    assert json.loads(joined([json.dumps(each).encode() for each in values], "array")) == values


@given(st.lists(st.integers(100, 599), max_size=10), st.integers(0, 10))
def test_a_status_for_each_or_none_for_any(statuses: list[int], n: int) -> None:
    rule = Results(ItemResults(items="/a/0/b~1c", status="/index/status"))
    answer = json.dumps({"a": [{"b/c": [{"index": {"status": each}} for each in statuses]}]}).encode()
    assert rule.read(answer, n) == (statuses if n == len(statuses) else None)


@pytest.mark.parametrize(
    "answer",
    [b"", b"\xff", b"{}", b"[1]", b"[[]]", b'[{"s": "200"}]', b'[{"s": true}]', b'[{"s": 99}]', b'[{"s": 2e2}]',
     b'{"0": {"s": 200}}', b"[" * 100_000],
)  # fmt: skip
def test_what_does_not_say_it(answer: bytes) -> None:
    assert Results(ItemResults(items="", status="/s")).read(answer, 1) is None


@given(st.binary(), st.integers(0, 3))
def test_no_answer_is_an_exception(answer: bytes, n: int) -> None:
    assert Results(ItemResults(items="", status="")).read(answer, n) in (None, [])
