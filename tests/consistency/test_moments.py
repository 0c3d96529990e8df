"""Moments in every form that clients and stores write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consistency.moments import moment_of

AT = 1_769_860_800_000_000_000
"""2026-01-31T12:00:00Z"""


@pytest.mark.parametrize(
    ("value", "after"),
    [
        ("2026-01-31T12:00:00Z", 0),
        ("2026-01-31T12:00:00z", 0),
        ("2026-01-31 12:00:00", 0),
        ("2026-01-31T12:00:00", 0),
        ("2026-01-31T12:00Z", 0),
        (" 2026-01-31T12:00:00Z\n", 0),
        ("2026-01-31T13:30:00+01:30", 0),
        ("2026-01-31T07:00:00-0500", 0),
        ("2026-01-31 12:00:00+00", 0),
        ("2026-01-31 12:00:00 +00:00", 0),
        ("2026-01-31", -12 * 3600 * 10**9),
        ("2026-01-31T12:00:00.5Z", 500_000_000),
        ("2026-01-31T12:00:00,123456789Z", 123_456_789),
        ("2026-01-31T12:00:00.1234567891234+00:00", 123_456_789),
        ("2026-01-31T12:00:00.000000001", 1),
        (AT, 0),
        (AT // 10**3, 0),
        (AT // 10**6, 0),
        (AT // 10**9, 0),
        (AT / 10**9 + 0.25, 250_000_000),
        (AT / 10**6 + 0.5, 500_000),
    ],
)
def test_moments(value: Any, after: int) -> None:
    assert moment_of(value) == AT + after


def test_before_the_epoch() -> None:
    assert moment_of("1969-12-31T23:59:59.5Z") == -500_000_000
    assert moment_of(-1) == -1_000_000_000
    assert moment_of(-1.5) == -1_500_000_000


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        "",
        "now",
        "2026",
        "2026-1-31",
        "2026-02-31",
        "2026-01-31T25:00:00Z",
        "2026-01-31T12:00:00+25:00",
        "2026-01-31T12:00:00Zulu",
        "1769860800",
        "\uff12026-01-31",
        b"2026-01-31",
        [],
        float("nan"),
        float("inf"),
        float("-inf"),
    ],
)
def test_what_is_no_moment(value: Any) -> None:
    assert moment_of(value) is None


@given(
    st.datetimes(datetime(1678, 1, 1), datetime(2262, 1, 1)),  # noqa: DTZ001 - an offset is added
    st.integers(-14 * 60, 14 * 60),
    st.sampled_from(["T", " "]),
)
def test_text_is_read_as_the_standard_library_writes_it(naive: datetime, minutes: int, between: str) -> None:
    at = naive.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    wanted = (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
    assert moment_of(at.isoformat(between)) == wanted


@given(st.integers(10**8, 4 * 10**9), st.integers(0, 999_999))
def test_a_float_of_seconds_means_microseconds(seconds: int, micros: int) -> None:
    assert moment_of(float(f"{seconds}.{micros:06d}")) == seconds * 10**9 + micros * 1000
