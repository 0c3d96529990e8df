"""JSON pointers: the examples of RFC 6901, what is not there, and what is put in."""

from __future__ import annotations

from typing import Any

import pytest

from consistency.stores.pointers import MISSING, parse, put, resolve

DOCUMENT: dict[str, Any] = {
    "foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, 'k"l': 6, " ": 7, "m~n": 8,
}  # fmt: skip


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("", DOCUMENT), ("/foo", ["bar", "baz"]), ("/foo/0", "bar"), ("/", 0), ("/a~1b", 1), ("/c%d", 2), ("/e^f", 3),
        ("/g|h", 4), ("/i\\j", 5), ('/k"l', 6), ("/ ", 7), ("/m~0n", 8),
        ("/foo/2", MISSING), ("/foo/-", MISSING), ("/foo/00", MISSING), ("/foo/-1", MISSING), ("/foo/bar", MISSING),
        ("/foo/0/x", MISSING), ("/nothing", MISSING), ("/nothing/more", MISSING), ("/m~01n", MISSING),
    ],
)  # fmt: skip
def test_what_stands_there(pointer: str, value: Any) -> None:
    found = resolve(DOCUMENT, parse(pointer))
    assert (found is value) if value is MISSING else (found == value)


@pytest.mark.parametrize("pointer", ["a", "#/a", "/a~", "/a~2b"])
def test_what_is_no_pointer(pointer: str) -> None:
    with pytest.raises(ValueError, match="the JSON pointer"):
        parse(pointer)


def test_what_is_put_in_spares_what_is_there() -> None:
    document: dict[str, Any] = {"a": {"b": 1}, "list": []}
    put(document, parse("/a/b"), 2)
    put(document, parse("/a/c"), 3)
    put(document, parse("/d/e/f"), 4)
    assert document == {"a": {"b": 1, "c": 3}, "list": [], "d": {"e": {"f": 4}}}
    for pointer in ("", "/list/0", "/a/b/c"):
        with pytest.raises(ValueError, match="nothing can be put"):
            put(document, parse(pointer), 5)
