"""Where keys, ids and times are read: JSON pointers, headers, cookies, queries, path parameters, the client."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.units import parse_source
from proxy.http.head import HeadParser, RequestHead
from proxy.http.values import as_text, headers_read, is_safe_id, json_value, key_and_id_reader, reader


def head(target: bytes = b"/", *lines: bytes) -> RequestHead:
    wanted = frozenset({b"cookie", b"x-key"})
    found = HeadParser(wanted, 100, 8192).parse(b"\r\n".join([b"GET " + target + b" HTTP/1.1", b"Host: a", *lines]))
    assert isinstance(found, RequestHead)
    return found


def from_json(pointer: str, body: bytes) -> str | None:
    return json_value(pointer)(body)


JSON = [
    ("/k", b'{"k":"v"}', "v"),
    ("/k", b' {"a":[1,{"k":2}], "k" : "v" } ', "v"),
    ("/k", b'{"k":""}', None),
    ("/k", b'{"k":null}', None),
    ("/k", b'{"k":{}}', None),
    ("/k", b'{"k":[1]}', None),
    ("/k", b'{"K":"v"}', None),
    ("/k", b"{}", None),
    ("/k", b"[]", None),
    ("/k", b'"k"', None),
    ("/k", b"", None),
    ("/k", b"k=v", None),
    ("/k", b'{"k":"v"', None),
    ("/k", b'{"k":"v"} x', None),
    ("/k", b'{"k":"\xff"}', None),
    ("/k", b'{"k":"\\ud800"}', None),
    ("/k", '{"k":"ä€😀"}'.encode(), "ä€😀"),
    ("/k", b'{"k":"\\u00e4\\n"}', "ä\n"),
    ("/k", b'{"k":7}', "7"),
    ("/k", b'{"k":-7}', "-7"),
    ("/k", b'{"k":7.5}', "7.5"),
    ("/k", b'{"k":1.0}', "1.0"),
    ("/k", b'{"k":0}', "0"),
    ("/k", b'{"k":true}', "true"),
    ("/k", b'{"k":false}', "false"),
    ("/k", b'{"k":18446744073709551615}', "18446744073709551615"),
    ("/k", b'{"k":123456789012345678901234567890}', "123456789012345678901234567890"),
    ("/k", b'{"k":1e999}', None),
    ("/k", b'{"k":"a","k":"b"}', "b"),
    ("/k", b'{"k":' + b"[" * 100_000, None),
    ("/k", b'{"x":' + b'{"a":' * 100_000, None),
    ("/a/b/c", b'{"a":{"b":{"c":"v"}}}', "v"),
    ("/a/b/c", b'{"a":{"b":{}}}', None),
    ("/a/b/c", b'{"a":{"b":null}}', None),
    ("/a/b/c", b'{"a":null}', None),
    ("/a/b/c", b'{"a":"b"}', None),
    ("/a/b", b'{"a":[{"b":"v"}]}', None),
    ("/a/0", b'{"a":["v","w"]}', "v"),
    ("/a/1/b", b'{"a":[0,{"b":"v"}]}', "v"),
    ("/a/2", b'{"a":["v","w"]}', None),
    ("/a/0", b'{"a":{"0":"v"}}', "v"),
    ("/a/0", b'{"a":"v"}', None),
    ("/a/01", b'{"a":["v","w"]}', None),
    ("/a/-", b'{"a":["v"]}', None),
    ("/a/²", b'{"a":["v","w","x"]}', None),
    ("/a/0", b'{"a":' + b"[" * 100_000, None),
    ("/0", b'["v"]', "v"),
    ("/0", b"no JSON", None),
    ("/", b'{"":"v"}', "v"),
    ("/a~1b", b'{"a/b":"v"}', "v"),
    ("/a~0b", b'{"a~b":"v"}', "v"),
    ("/~01", b'{"~1":"v"}', "v"),
    ("/~10", b'{"/0":"v"}', "v"),
    ("/a b", b'{"a b":"v"}', "v"),
    ('/"', b'{"\\"":"v"}', "v"),
    ("/\\", b'{"\\\\":"v"}', "v"),
    ("/ä", '{"ä":"v"}'.encode(), "v"),
]


@pytest.mark.parametrize(("pointer", "body", "value"), JSON, ids=[f"{p} in {b[:40]!r}" for p, b, _ in JSON])
def test_a_json_pointer(pointer: str, body: bytes, value: str | None) -> None:
    assert from_json(pointer, body) == value


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "0"]), inner, max_size=3),
    max_leaves=8,
)


@given(documents, st.lists(st.sampled_from(["a", "b", "0", "1"]), min_size=1, max_size=3))
def test_both_ways_to_read_a_pointer_agree_with_walking(document: object, tokens: list[str]) -> None:
    try:
        body = orjson.dumps(document)
    except TypeError:
        return  # integers that orjson does not write
    value: object = orjson.loads(body)
    for token in tokens:
        if isinstance(value, dict):
            value = value.get(token)
        elif isinstance(value, list) and token.isdigit() and int(token) < len(value):
            value = value[int(token)]
        else:
            value = None
    assert from_json("/" + "/".join(tokens), body) == as_text(value)


@given(st.binary(max_size=100))
def test_no_body_makes_a_reader_raise(body: bytes) -> None:
    assert from_json("/a", body) is None or b"a" in body or b"\\u0061" in body.lower()
    from_json("/a/0", body)


@pytest.mark.parametrize(
    ("source", "line", "value"),
    [
        ("header:X-Key", b"X-Key: v", "v"),
        ("header:x-key", b"X-KEY: v", "v"),
        ("header:X-Key", b"X-Key: \xe4", "ä"),
        ("header:X-Key", b"X-Key:", None),
        ("header:X-Key", b"X-Other: v", None),
        ("cookie:c", b"Cookie: c=v", "v"),
        ("cookie:c", b"Cookie: a=1; c=v ; d=2", "v"),
        ("cookie:c", b"Cookie: cc=1;c=v", "v"),
        ("cookie:c", b"Cookie: c=v; c=w", "v"),
        ("cookie:c", b"Cookie: c=a=b", "a=b"),
        ("cookie:c", b"Cookie: c=", None),
        ("cookie:c", b"Cookie: C=v", None),
        ("cookie:c", b"Cookie: c", None),
        ("cookie:c", b"X-Key: c=v", None),
    ],
)
def test_headers_and_cookies(source: str, line: bytes, value: str | None) -> None:
    assert reader(parse_source(source))(head(b"/", line), b"", {}, "") == value


@pytest.mark.parametrize(
    ("target", "value"),
    [
        (b"/?q=v", "v"),
        (b"/?a=1&q=v&q=w", "v"),
        (b"/?q=a+b%20c", "a b c"),
        (b"/?%71=v", "v"),
        (b"/?q=%C3%A4", "ä"),
        (b"/?q=%FF", "\ufffd"),
        (b"/?q=%zz", "%zz"),
        (b"/?q=", None),
        (b"/?q", None),
        (b"/?qq=v", None),
        (b"/?Q=v", None),
        (b"/q=v", None),
        (b"/", None),
        (b"/?a=b?q=v", None),
        (b"/?q=a=b", "a=b"),
    ],
)
def test_query_parameters(target: bytes, value: str | None) -> None:
    assert reader(parse_source("query:q"))(head(target), b"", {}, "") == value


def test_path_parameters_and_the_client() -> None:
    assert reader(parse_source("path:id"))(head(), b"", {"id": "7"}, "") == "7"
    assert reader(parse_source("path:id"))(head(), b"", {}, "") is None
    assert reader(parse_source("client"))(head(), b"", {}, "::1") == "::1"


def test_the_headers_that_sources_need() -> None:
    assert headers_read(["header:X-A", "header:X-B", "cookie:c", "json:/a", "client"]) == {
        b"x-a",
        b"x-b",
        b"cookie",
        b"content-encoding",
    }
    assert headers_read(["query:q"]) == frozenset()


@pytest.mark.parametrize(
    ("text", "is_safe"),
    [
        ("a", True),
        ("~!é"[:2], True),
        ("a" * 512, True),
        ("a" * 513, False),
        ("", False),
        ("a b", False),
        ("a\r\nX: y", False),
        ("a\x00", False),
        ("a\x7f", False),
        ("é", False),
    ],
)
def test_an_id_is_safe_in_a_header(text: str, is_safe: bool) -> None:
    assert is_safe_id(text) is is_safe


NAMES = ("a", "b", "0")
documents = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("xy", max_size=2),
    lambda inner: st.dictionaries(st.sampled_from(NAMES), inner, max_size=3) | st.lists(inner, max_size=2),
    max_leaves=8,
)
pointers = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map(lambda names: "json:/" + "/".join(names))


@given(
    documents, pointers, st.lists(pointers | st.just("header:X-Key"), max_size=3), st.booleans(), st.binary(max_size=2)
)
def test_key_and_id_together_are_what_they_are_alone(
    document: object, key: str, ids: list[str], has_header: bool, after: bytes
) -> None:
    body = json.dumps(document).encode() + after
    request = head(b"/", *([b"X-Key: from the header"] if has_header else []))
    alone = [reader(parse_source(source))(request, body, {}, "") for source in (key, *ids)]
    expected = (alone[0], next((value for value in alone[1:] if value is not None), None))
    together = key_and_id_reader(parse_source(key), [parse_source(text) for text in ids])
    assert together(request, body, {}, "") == expected
