"""Weights, durations, moments, steps."""

from __future__ import annotations

import argparse
import time

import pytest

from proxy.cli import values


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("25", 25), ("100", 100), ("0.5", 0.5), ("25%", 25), ("1e1", 10)]
)
def test_weight(text: str, value: float) -> None:
    assert values.weight(text) == value


@pytest.mark.parametrize(
    "text", ["-1", "101", "abc", "NaN", "nan", "inf", "-inf", "", "%", "1_0", "0x1", "25 %", "100.01", "1e999"]
)
def test_bad_weight_names_the_range(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="between 0 and 100 percent"):
        values.weight(text)


@pytest.mark.parametrize(("text", "value"), [("500ms", 0.5), ("5s", 5), ("1h30m", 5400), ("7d", 604800), ("0s", 0)])
def test_duration(text: str, value: float) -> None:
    assert values.duration(text) == value


@pytest.mark.parametrize("text", ["", "5", "5x", "-5s", "s", "5s 6", "1 h"])
def test_bad_duration(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="such as 500ms"):
        values.duration(text)


def test_moment_ago() -> None:
    assert float(values.moment("1h")) == pytest.approx(time.time() - 3600, abs=60)


@pytest.mark.parametrize(
    "text", ["2026-01-31", "2026-01-31T12:00:00Z", "2026-01-31T12:00:00.5+01:00", "1769860800", "1.5"]
)
def test_moment_is_passed_on(text: str) -> None:
    assert values.moment(text) == text


def test_four_digits_are_unix_seconds() -> None:
    assert values.moment("2026") == "2026"


@pytest.mark.parametrize("text", ["yesterday", "", "-1h", "2026-13"])
def test_bad_moment(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        values.moment(text)


def test_steps() -> None:
    assert values.steps("75, 50,0") == [75, 50, 0]


@pytest.mark.parametrize("text", ["50", "50,75,0", "50,50,0", "a,0", "", "101,0"])
def test_bad_steps(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        values.steps(text)


def test_whole_numbers() -> None:
    assert values.at_least_one("1") == 1
    assert values.at_least_zero("0") == 0
    for text in ("0", "-1", "1.5", "x", "9" * 30):
        with pytest.raises(argparse.ArgumentTypeError):
            values.at_least_one(text)
