"""YAML and its traps: words that are not booleans, bounds, syntax errors, bytes that are no text."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.document import MAX_BYTES, decode, read
from tests.config.cases import BASE, errors, marked, route, settings, top


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off", "off"), ("on", "on"), ("yes", "yes"), ("no", "no"), ("y", "y"), ("Off", "Off"),
        ("true", True), ("False", False), ("TRUE", True), ("~", None), ("null", None), ("", None),
        ("12", 12), ("-12", -12), ("+1", 1), ("010", 10), ("0o10", 8), ("0x1F", 31), ("1_000", "1_000"), ("0b1", "0b1"),
        ("1.5", 1.5), (".5", 0.5), ("1e3", 1000.0), ("1.", 1.0), (".inf", math.inf), ("-.INF", -math.inf),
        ("1:30", "1:30"), ("22:22:22", "22:22:22"), ("2024-01-02", "2024-01-02"), ("1.2.3", "1.2.3"), ("=", "="),
        ("'12'", "12"), ('"true"', "true"), ("!!str 12", "12"), ("!!int '12'", 12),
        ("|\n  a\n  b\n", "a\nb\n"), ("[a, [b]]", ("a", ("b",))), ("{a: {b: 1}}", {"a": {"b": 1}}),
    ],
)  # fmt: skip
def test_values(text: str, value: Any) -> None:
    document = read(f"x: {text}", {})
    assert document.problems == []
    assert document.data == {"x": value}
    assert type(document.data["x"]) is type(value)


def test_not_a_number_is_read() -> None:
    assert math.isnan(read("x: .NaN", {}).data["x"])


def test_off_means_off() -> None:
    loaded = settings(route("durability: off\n    stage: off\nadmin: {tcp: off}"))
    assert (loaded.routes[0].durability, loaded.routes[0].stage, loaded.admin.tcp) == ("off", "off", "off")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\n§\tb: 2", "a tab cannot indent YAML: use spaces"),
        ("a:\n  - b\n §c: 1", "not YAML"),
        ("a: §'b", "not YAML"),
        ("a: [1, 2§", "not YAML"),
        ("a: b§: c", "not YAML: mapping values are not allowed here"),
        ("a: {b: $§{C}}", "inside {...} and [...] a ${VAR} must stand in quotes"),
        ("a: [$§{C}]", "inside {...} and [...] a ${VAR} must stand in quotes"),
        ("a: §*b", "not YAML: found undefined alias 'b'"),
        ("a: §&x [*x]", "this value contains itself"),
        ("a: {b: §&x {c: *x}}", "this value contains itself"),
        ("a: §!!python/object:os.system x", "tags such as !!python/object:os.system are not read here"),
        ("a: §!secret x", "tags such as !secret are not read here"),
        ("a: §!!binary eA==", "tags such as !!binary are not read here"),
        ("a: §!!int b", "'b' cannot be read as int"),
        ("a: §!!bool b", "'b' cannot be read as bool"),
        ("a: §" + "9" * 5000, "cannot be read as int"),
        ("a: 1\n--- §\nb: 2".replace("--- §", "§---"), "not YAML: but found another document"),
        ("§- a", "expected keys such as `version: 1`, not a list"),
        ("§version 1", "expected keys such as `version: 1`, not 'version 1'"),
        ("a: b§\x07", "the character U+0007 is not allowed"),
        ("a: b\nc: §\x00", "the character U+0000 is not allowed"),
    ],
)
def test_what_is_not_read(text: str, said: str) -> None:
    plain, places = marked(text)
    found = [error for error in errors(plain) if not re.match("missing key|unknown key", error.message)]
    assert [error.line for error in found] == [line for line, _ in places]
    assert said in found[0].message
    if "not YAML" not in said:
        assert [(error.line, error.column) for error in found] == places


def test_an_unquoted_reference_hides_no_other_error() -> None:
    hidden = BASE.replace('{url: "http://127.0.0.1:9001"}', "{url: http://$§{HOST}:$§{PORT}, §conections: 3}")
    text, places = marked(f"{hidden}log: {{$§{{KEY}}: info}}\nlisten: [$§{{LISTEN:-none}}]\n§lisen: a\n")
    found = errors(text)
    assert sorted((error.line, error.column) for error in found) == places
    quotes = "inside {...} and [...] a ${VAR} must stand in quotes"
    assert [error.message for error in found].count(quotes) == 4
    assert {error.suggestion for error in found} >= {"connections", "listen"}


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "---\n", "\ufeff"])
def test_empty_file(text: str) -> None:
    (error,) = errors(text)
    assert "empty" in error.message or "not nothing" in error.message


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_nesting_is_bounded(opening: str) -> None:
    (error,) = errors("a: \n" + " " + opening * 5000)
    assert error.message == "not YAML: nested deeper than 32 levels"


def test_aliases_are_read() -> None:
    loaded = settings(
        BASE.replace("url: ", "health: &probe {path: /up}, url: ", 1).replace('9002"', '9002", health: *probe')
    )
    assert loaded.backends["new"].health == loaded.backends["old"].health
    assert loaded.backends["new"].health is not None


def test_error_behind_an_alias_is_at_its_anchor() -> None:
    text, places = marked(top("log: {level: §&word loud, format: *word}"))
    assert {(error.line, error.column) for error in errors(text)} == set(places)


def test_aliases_cannot_blow_up() -> None:
    lines = ["a: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 20)]
    (error,) = errors("\n".join(lines))
    assert error.message == "not YAML: more than 20000 values"


def test_repeated_alias_keys_and_anchors_keep_places() -> None:
    document = read("a: &x {b: 1}\nc: *x\n", {})
    assert document.place(("c", "b")) == (1, 11)
    assert document.place(("c",), on_key=True) == (2, 1)
    assert document.place(("c", "b", "none", 3)) == (1, 11)


@pytest.mark.parametrize(
    ("raw", "place"),
    [(b"\xff\xfev\x00", (1, 1)), (b"version: 1\nsalt: caf\xe9\n", (2, 10)), ("é: ".encode() + b"\x80", (1, 4))],
)
def test_bytes_that_are_no_text(raw: bytes, place: tuple[int, int]) -> None:
    text, problem = decode(raw)
    assert text == ""
    assert problem is not None
    assert "is not UTF-8" in problem.message
    assert problem.place == place


def test_byte_order_mark_and_windows_line_ends() -> None:
    raw = b"\xef\xbb\xbf" + route("wieght: 5").replace("\n", "\r\n").encode()
    (error,) = errors(decode(raw)[0])
    assert (error.line, error.column) == (9, 5)


def test_size_is_bounded() -> None:
    assert decode(b"#" * MAX_BYTES)[1] is None
    problem = decode(b"#" * (MAX_BYTES + 1))[1]
    assert problem is not None
    assert "larger than 1 MiB" in problem.message


@given(st.text(alphabet=" \n-:?[]{},&*!|>'\"#%@`~<a1.\t$", max_size=40))
def test_any_text_is_read_or_explained(text: str) -> None:
    document = read(text, {})
    lines = text.count("\n") + 1
    assert document.data is not None or document.problems or read(f"{text}\n", {}).data is None
    assert all(problem.message and 0 <= problem.place.line <= lines + 1 for problem in document.problems)
