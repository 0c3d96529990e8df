"""Figures and text for people."""

from __future__ import annotations

import pytest

from proxy.cli import output


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), ("", "-"), (0, "0"), ("äöü", "äöü"), ("a\nb\x1b[0m\u202e", r"a\nb\x1b[0m\u202e")]
)
def test_clean(value: object, text: str) -> None:
    assert output.clean(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0.00025, "0.25 ms"), (0.0012, "1.2 ms"), (0.25, "250.0 ms"), (1.5, "1.50 s")]
)
def test_seconds(value: float | None, text: str) -> None:
    assert output.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.42, "0.4 s"), (12, "12 s"), (60, "1m 0s"), (200, "3m 20s"), (7500, "2h 5m"), (356400, "4d 3h")],
)
def test_age(value: float | None, text: str) -> None:
    assert output.age(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0, "0 B"), (1023, "1023 B"), (4096, "4.0 KiB"), (2**33, "8.0 GiB"), (2**42, "4.0 TiB")],
)
def test_size(value: float | None, text: str) -> None:
    assert output.size(value) == text


def test_rates_and_shares() -> None:
    assert [output.rate(v) for v in (None, 3.21, 1204.4)] == ["-", "3.2/s", "1,204/s"]
    assert [output.share(v) for v in (None, 0.0, 0.0123)] == ["-", "0 %", "1.23 %"]
    assert [output.percent(v) for v in (None, 25.0, 24.714)] == ["-", "25 %", "24.71 %"]
    assert [output.count(v) for v in (None, 1204)] == ["-", "1,204"]


def test_table_aligns_and_cleans() -> None:
    assert output.table(["a", "bb"], [["xxx", "\n"], [None, 1]], " ") == [" a    bb", r" xxx  \n", " -    1"]


def test_json_is_indented_for_people_alone() -> None:
    assert output.encode("json", {"a": 1}) == '{"a": 1}'
    assert output.encode("json", {"a": 1}, pretty=True) == '{\n  "a": 1\n}'


def test_no_colours_on_a_terminal_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "dumb")
    assert output.red("x") == "x"
    monkeypatch.setenv("TERM", "xterm")
    assert output.red("x") == "\x1b[31mx\x1b[0m"
    assert output.bold("x") == "\x1b[1mx\x1b[0m"
