"""Templates: what they make of an event, that nothing of it can break out of its place, and what cannot be made."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.pointer import Places
from proxy.core.template import HeaderTemplate, JsonTemplate, PathTemplate, Unfit, Values

BODY = b'{"a": {"b": [1, "two", null]}, "n": 1.10, "big": 123456789012345678901234567890, "t": true, "s/~": "x", "": 7}'


def values(template: JsonTemplate | PathTemplate | HeaderTemplate, body: bytes = BODY) -> Values:
    return Values("e1", "sensor.kitchen", body, Places(template.pointers))


def written(template: Any, missing: str = "reject", body: bytes = BODY, longest: int = 2**20) -> bytes | Unfit:
    compiled = JsonTemplate(template, missing)
    return compiled.render(values(compiled, body), longest)


def path_of(template: str, body: bytes = BODY) -> str | Unfit:
    compiled = PathTemplate(template)
    return compiled.render(values(compiled, body))


def header_of(template: str, missing: str = "reject", body: bytes = BODY) -> bytes | Unfit:
    compiled = HeaderTemplate("X-A", template, missing)
    return compiled.render(values(compiled, body))


def made(template: Any, missing: str = "reject", body: bytes = BODY) -> Any:
    found = written(template, missing, body)
    return found if isinstance(found, Unfit) else json.loads(found)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("fixed", "fixed"),
        ("{{/a/b/0}}", 1),
        ("{{ /a/b/1 }}", "two"),
        ("{{/a}}", {"b": [1, "two", None]}),
        ("{{/s~1~0}}", "x"),
        ("{{/}}", 7),
        ("{{id}} of {{key}}", "e1 of sensor.kitchen"),
        ("{{/n}}/{{/t}}", "1.10/true"),
        ({"x": ("{{/t}}", 5, None, True, {"y": "{{/a/b/2}}"})}, {"x": [True, 5, None, True, {"y": None}]}),
        ("{ } }} {not one}", "{ } }} {not one}"),
    ],
)
def test_pointers_and_literals(template: Any, expected: Any) -> None:
    assert made(template) == expected


def test_all_of_the_body() -> None:
    assert made({"event": "{{}}"}) == {"event": json.loads(BODY)}


@pytest.mark.parametrize(
    "number",
    ["1.10", "0.0000001", "1e5", "1E+5", "-0", "-0.0", "1e-999", "1e999999999999", "9" * 5000, f"1.{'1' * 5000}"],
)
def test_numbers_leave_as_they_came(number: str) -> None:
    body = b'{"a": [%b]}' % number.encode()
    assert written(("{{/a/0}}",), body=body) == b"[%b]" % number.encode()
    assert written("{{}}", body=body) == body
    assert written("n = {{/a/0}}", body=body) == b'"n = %b"' % number.encode()
    if len(number) < 100:
        assert header_of("{{/a/0}}", body=body) == f"X-A: {number}\r\n".encode()
        assert path_of("/{{/a/0}}", body) == f"/{number.replace('+', '%2B')}"


def test_what_would_be_too_long_is_not_made() -> None:
    body = b'{"a": "%b"}' % (b"x" * 1000)
    longest = len(b'["%b","%b"]' % (b"x" * 1000, b"x" * 1000))
    assert isinstance(written(("{{/a}}", "{{/a}}"), body=body, longest=longest), bytes)
    assert written(("{{/a}}", "{{/a}}"), body=body, longest=longest - 1) == Unfit(
        f"its body cannot be made: it would be longer than {longest - 1} bytes"
    )


def test_names_and_literals_are_json() -> None:
    template: Any = {'a"\n': "x", "": {"y": ()}, "ä": (1, 2.5, None, False, {}), "z": 'q"{{id}}'}
    assert made(template) == {'a"\n': "x", "": {"y": []}, "ä": [1, 2.5, None, False, {}], "z": 'q"e1'}


@pytest.mark.parametrize("pointer", ["/x", "/a/c", "/a/b/3", "/a/b/01", "/a/b/-", "/n/0", "/a/b/1/x"])
def test_what_is_missing_is_a_reason_or_null(pointer: str) -> None:
    template = {"x": f"{{{{{pointer}}}}}", "y": f"about {{{{{pointer}}}}}"}
    found = made(template)
    assert found == Unfit(f"its body cannot be made: {pointer} is missing")
    assert made(template, "null") == {"x": None, "y": None}


def test_within_a_text_null_is_missing_and_an_object_is_wrong() -> None:
    assert made("a {{/a/b/2}}") == Unfit("its body cannot be made: /a/b/2 is null")
    assert made("a {{/a/b/2}}", "null") is None
    assert made("a {{/a}}", "null") == Unfit("its body cannot be made: /a is no text, number or boolean")


@pytest.mark.parametrize("body", [b"", b"{", b'{"a": NaN}', b'"\\ud800"', b"\xff", b"[" * 100_000, b"temp,room=1 v=2"])
def test_a_body_that_is_no_json(body: bytes) -> None:
    assert made({"x": "{{/a}}"}, "null", body) == Unfit("its body cannot be made: the body is no JSON")
    assert made({"x": "{{id}}"}, "reject", body) == {"x": "e1"}


def test_paths() -> None:
    assert path_of("/v2/{{key}}/{{/a/b/0}}?id={{id}}") == "/v2/sensor.kitchen/1?id=e1"
    assert path_of("/{{/x}}", b'{"x": "a/../b?c#d e\\r\\n\xc3\xa4"}') == "/a%2F..%2Fb%3Fc%23d%20e%0D%0A%C3%A4"
    assert path_of("/{{/x}}") == Unfit("its path cannot be made: /x is missing")
    assert path_of("/{{/x}}", b'{"x": ""}') == Unfit("its path cannot be made: /x is empty")
    assert path_of("/{{/x}}", b'{"x": ".."}') == Unfit("its path cannot be made: it has a segment . or ..")
    assert path_of("/a/{{/x}}./b", b'{"x": "."}') == Unfit("its path cannot be made: it has a segment . or ..")
    assert isinstance(path_of("/{{/x}}", b'{"x": "%s"}' % (b"a" * 3000)), Unfit)


def test_headers() -> None:
    assert header_of("{{/n}} {{key}}") == b"X-A: 1.10 sensor.kitchen\r\n"
    assert header_of("{{/x}}", "null") == b""
    assert header_of("{{/x}}") == Unfit("its header X-A cannot be made: /x is missing")
    for text in ("a\\r\\nX-B: c", "\\u20ac", " ", "", "a\\u0000", "a ", "x" * 3000):
        assert header_of("{{/x}}", body=b'{"x": "%s"}' % text.encode()) == Unfit(
            "its header X-A cannot be made: a value cannot stand in a header"
        )


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


def places(tree: Any, at: str = "") -> list[tuple[str, Any]]:
    """Every pointer into a tree, and what is there."""
    found = [(at, tree)]
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for name, value in inner:
        found += places(value, f"{at}/{str(name).replace('~', '~0').replace('/', '~1')}")
    return found


def is_nameable(pointer: str) -> bool:
    """Can it stand in a placeholder? Braces cannot, nor blanks at its end."""
    return not set(pointer) & set("{}") and pointer == pointer.strip(" \t")


@given(TREES, st.data())
def test_any_place_of_any_body_is_found_as_it_is(tree: Any, data: st.DataObject) -> None:
    there = [(pointer, value) for pointer, value in places(tree) if is_nameable(pointer)]
    pointer, value = data.draw(st.sampled_from(there))
    assert made({"x": f"{{{{{pointer}}}}}"}, body=json.dumps(tree).encode()) == {"x": value}


@given(st.text())
def test_no_text_leaves_its_segment_or_its_line(text: str) -> None:
    body = json.dumps({"x": text}).encode()
    path = path_of("/a/{{/x}}/b", body)
    if not isinstance(path, Unfit):
        assert path.split("/")[:2] == ["", "a"]
        assert len(path.split("/")) == 4
        assert unquote(path.split("/")[2]) == text
        assert path.isascii()
        assert path.isprintable()
        assert " " not in path
    line = header_of("v={{/x}};", body=body)
    if not isinstance(line, Unfit):
        assert line.decode("latin-1") == f"X-A: v={text};\r\n"
        assert not set(line[:-2]) & set(b"\r\n\0")


@given(st.binary(), TREES)
def test_no_body_and_no_template_is_an_exception(body: bytes, tree: Any) -> None:
    for missing in ("reject", "null"):
        written({"x": "{{/a}}", "y": "{{}}", "z": "{{id}}{{/b}}"}, missing, body)
        written({"x": "{{/a}}", "y": "{{}}"}, missing, json.dumps(tree).encode())
        header_of("{{}}", missing, body)
    path_of("/{{/a}}", body)
