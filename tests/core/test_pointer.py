"""JSON pointers: what is written at a place, whatever else a document holds, and that nothing is built of the rest."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.pointer import UNREADABLE, Places, check_json, follow, tokens_of

BODY = (
    b""" {"a": {"b": [ 1.10 , "two", null]}, "0": {"1": -0}, "s/~": 1, "": 2, "q\\"": 3, "a/b": 4, "d": 5, "d": 6 } """
)
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(list('ab01/~"')), inner, max_size=4),
    max_leaves=20,
)
TOKENS = st.sampled_from(["a", "b", "0", "1", "01", "-", "~1", "~0", '"', "", "400"])


def test_what_is_written_there() -> None:
    wanted = {
        "": BODY.strip(),
        "/a": b'{"b": [ 1.10 , "two", null]}',
        "/a/b/0": b"1.10",
        "/a/b/1": b'"two"',
        "/a/b/2": b"null",
        "/0/1": b"-0",
        "/s~1~0": b"1",
        "/": b"2",
        '/q"': b"3",
        "/a~1b": b"4",
        "/d": b"6",
    }
    missing = ["/x", "/a/c", "/a/b/3", "/a/b/300", "/a/b/01", "/a/b/-", "/a/b/1/x", "/d/0"]
    assert Places([*wanted, *missing]).read(BODY) == wanted
    for pointer, value in wanted.items():
        assert Places([pointer]).read(BODY) == {pointer: value}, "alone as with others"
    for pointer in missing:
        assert Places([pointer]).read(BODY) == {}


@given(TREES, st.lists(st.lists(TOKENS, max_size=3).map(lambda tokens: "".join(f"/{token}" for token in tokens))))
def test_it_is_what_a_document_that_was_read_has_there(tree: Any, pointers: list[str]) -> None:
    absent = object()
    found = Places(pointers).read(json.dumps(tree, indent=1).encode())
    for pointer in pointers:
        expected = follow(tree, tokens_of(pointer), absent)
        assert (pointer in found) == (expected is not absent)
        if pointer in found:
            assert json.loads(found[pointer]) == expected


@pytest.mark.parametrize(
    "text", [b"", b"{", b'{"a": NaN}', b'{"a": 1} x', b'{"a": 1, "b": 01}', b'"\\ud800"', b"\xff", b'{"a": "\xff"}',
             b"[" * 100_000, b"temp,room=1 v=2", b"[1,]"],
)  # fmt: skip
def test_what_is_no_json(text: bytes) -> None:
    for pointers in ([], [""], ["/a"], ["/0"], ["/a/b", '/"']):
        with pytest.raises(UNREADABLE):
            Places(pointers).read(text)
    with pytest.raises(UNREADABLE):
        check_json(text)


@pytest.mark.parametrize(
    "text",
    [
        b'{"v": [%b], "key": "a"}' % b",".join([b"1.1"] * 2**18),
        b"{%b}" % b",".join(b'"%d":1' % n for n in range(2**17)),
    ],
    ids=["items", "members"],
)
def test_a_long_document_is_not_built(text: bytes) -> None:
    places = Places(["/v/0", "/v/200", "/key"])
    tracemalloc.start()
    try:
        places.read(text)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 3 * len(text)
