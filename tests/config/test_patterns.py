"""Path patterns: their parameters, and which one takes all of another."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.patterns import covers, path_parameters


def test_parameters_in_order() -> None:
    assert path_parameters("/a/{one}/b/{two}/*") == ("one", "two")
    assert path_parameters("/a/b") == ()


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("/a", "/a"),
        ("/*", "/"),
        ("/*", "/a/b"),
        ("/a/*", "/a"),
        ("/a/*", "/a/b/c"),
        ("/a/*", "/a/b/*"),
        ("/a/*", "/a/*"),
        ("/a/{x}", "/a/b"),
        ("/a/{x}", "/a/{y}"),
        ("/{x}/*", "/a/*"),
    ],
)
def test_covered(one: str, two: str) -> None:
    assert covers(one, two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("/a", "/b"),
        ("/a", "/a/"),
        ("/a/b", "/a/{x}"),
        ("/a/{x}", "/a/"),
        ("/a/{x}", "/a/*"),
        ("/a/*", "/ab"),
        ("/a/*", "/*"),
    ],
)
def test_not_covered(one: str, two: str) -> None:
    assert not covers(one, two)


SEGMENTS = st.lists(st.sampled_from(["a", "b", "{x}", ""]), min_size=1, max_size=3)
PATTERNS = st.builds(lambda parts, prefix: "/" + "/".join(parts) + ("/*" if prefix else ""), SEGMENTS, st.booleans())
PATHS = st.lists(st.sampled_from(["a", "b", "c", ""]), min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))


def _takes(pattern: str, path: str) -> bool:
    """The meaning of a pattern, said another way."""
    text = re.escape(pattern.removesuffix("/*")).replace(r"\{x\}", "[^/]+")
    return re.fullmatch(text + ("(/.*)?" if pattern.endswith("/*") else ""), path) is not None


@given(PATTERNS, PATTERNS, PATHS)
def test_what_is_covered_is_taken(one: str, two: str, path: str) -> None:
    if covers(one, two) and _takes(two, path):
        assert _takes(one, path)
