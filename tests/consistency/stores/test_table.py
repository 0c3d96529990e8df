"""What stores with tables share: times and documents between their forms, to the last digit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consistency.moments import parse_time
from consistency.rows import Row, Span
from consistency.stores.table import (
    clamped,
    first_of_each,
    format_json,
    format_time,
    number_of_time,
    number_text,
    parse_json,
    quoted,
    time_of_number,
)

SECOND = 10**9
AT = 1_763_000_000 * SECOND

# Of the years 1970 to 2100.
times = st.integers(0, 4_102_444_800 * SECOND)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2025-11-13T02:13:20Z", AT),
        ("2025-11-13t02:13:20z", AT),
        ("2025-11-13 02:13:20", AT),
        ("2025-11-13T02:13:20+00:00", AT),
        ("2025-11-13T04:13:20+02:00", AT),
        ("2025-11-12 15:43:20 -1030", AT),
        ("2025-11-13T02:13:20.000000001", AT + 1),
        ("2025-11-13T02:13:20,5Z", AT + SECOND // 2),
        ("2025-11-13T02:13Z", AT - 20 * SECOND),
        ("2025-11-13", AT - 8000 * SECOND),
        ("1970-01-01T00:00:00", 0),
        ("1969-12-31T23:59:59.9", -SECOND // 10),
        ("0001-01-01T00:00:00Z", -62_135_596_800 * SECOND),
        ("2024-02-29T23:59:59Z", 1_709_251_199 * SECOND),
    ],
)
def test_times_of_iso_8601(text: str, at: int) -> None:
    assert parse_time(text) == at


@pytest.mark.parametrize(
    "text",
    [
        "", "now", "2025-11-13T", "2025-11-13T02", "2025-02-30T00:00:00Z", "2025-11-13T24:00:00Z", "20251113T021320Z",
        "2025-11-13T02:13:60Z", "2025-11-13T02:13:20.0000000001Z", "2025-11-13T02:13:20.Z", "2025-11-13T02:13:20+2",
        "2025-11-13T02:13:20ZZ", " 2025-11-13", "2025-11-13\n", "\uff12025-11-13", "1763000000",
    ],
)  # fmt: skip
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"no time|day is out of range|hour must be"):
        parse_time(text)


@given(times, st.sampled_from("T "), st.sampled_from(["Z", "+00:00", ""]))
def test_a_time_that_is_written_is_read_again(at: int, separator: str, offset: str) -> None:
    assert parse_time(format_time(at, separator=separator, offset=offset)) == at


@pytest.mark.parametrize(
    ("value", "unit", "at"),
    [
        (1_763_000_000, SECOND, AT),
        (AT + 1, 1, AT + 1),
        (1_763_000_000.1, SECOND, AT + SECOND // 10),
        (1_763_000_000.123456, SECOND, AT + 123_456_000),
        (1_763_000_000.1234567, SECOND, AT + 123_457_000),
        (1_763_000_000_123.456, 10**6, AT + 123_456_000),
        (1.763e18, 1, AT),
        (-0.5, SECOND, -SECOND // 2),
        (0.0000005, SECOND, 1000),
    ],
)
def test_times_that_are_numbers(value: float, unit: int, at: int) -> None:
    assert time_of_number(value, unit) == at


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e308])
def test_numbers_that_are_no_time(value: float) -> None:
    with pytest.raises(ValueError, match="no time"):
        time_of_number(value, SECOND)


@given(times, st.sampled_from([1, 1000, 10**6, SECOND]))
def test_a_time_to_the_microsecond_survives_being_a_number(at: int, unit: int) -> None:
    at -= at % 1000
    assert time_of_number(number_of_time(at, unit), unit) == at
    assert time_of_number(float(number_of_time(at, unit)), unit) == at


@given(st.floats(0, 4e9))
def test_the_quick_way_and_the_exact_one_agree(value: float) -> None:
    """Seconds as any float, not only those that stand for a microsecond."""
    from decimal import ROUND_HALF_UP, Decimal

    exact = int((Decimal(repr(value)) * 10**6).to_integral_value(ROUND_HALF_UP)) * 1000
    assert time_of_number(value, SECOND) == exact


@pytest.mark.parametrize(
    ("value", "text"), [(12, "12"), (12.0, "12"), (-0.5, "-0.5"), (1e300, "1e+300"), (2**62, str(2**62)), (0.1, "0.1")]
)
def test_names_that_are_numbers(value: float, text: str) -> None:
    assert number_text(value) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[1, 2.5, null]", [1, 2.5, None]),
        ('{"a": 12345678901234567890123}', {"a": 12345678901234567890123}),
        ('"12345678901234567890123"', "12345678901234567890123"),
    ],
)
def test_documents_keep_their_whole_numbers(text: str, value: object) -> None:
    assert parse_json(text) == value
    assert parse_json(format_json(value)) == value


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[1234567890123456789" + "[" * 100_000, "1" * 5000])
def test_what_is_no_document(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_json(text)


def test_names_in_sql_are_quoted() -> None:
    assert quoted('a "b" c') == '"a ""b"" c"'


def test_spans_are_cut_to_64_bits() -> None:
    assert clamped(Span(-(10**30), 10**30)) == Span(-(2**63), 2**63 - 1)
    assert clamped(Span(5, 7)) == Span(5, 7)
    empty = clamped(Span(-(10**30), -(10**29)))
    assert empty.start >= empty.end


def test_the_first_row_of_each_name_is_kept() -> None:
    rows = [Row("a", 1, {}), Row("b", 2, {}), Row("a", 3, {})]
    assert first_of_each(rows) == rows[:2]
