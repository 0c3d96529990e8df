"""Series and lines: names of every sort go to text and back; what cannot be written is told."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consistency.rows import Key, Row, Span
from consistency.stores.points import (
    Cluster,
    Unwritable,
    batches,
    by_measurement,
    clusters,
    line_of,
    missing,
    series_parts,
    series_text,
    written_of,
)

SECOND = 10**9

# What InfluxDB can hold: no control characters, and no backslash at the end, which would escape what comes behind it.
_NAMES = st.text(st.sampled_from("ab ,=\\\"'#°"), min_size=1, max_size=8).filter(lambda name: not name.endswith("\\"))


@given(_NAMES, st.dictionaries(_NAMES, _NAMES, max_size=3))
def test_a_series_can_be_taken_apart_again(measurement: str, tags: dict[str, str]) -> None:
    text = series_text(measurement, tags)
    assert series_parts(text) == (measurement, tags)
    assert series_text(*series_parts(text)) == text


@given(
    st.tuples(_NAMES, st.dictionaries(_NAMES, _NAMES, max_size=2)),
    st.tuples(_NAMES, st.dictionaries(_NAMES, _NAMES, max_size=2)),
)
def test_different_series_have_different_texts(
    one: tuple[str, dict[str, str]], other: tuple[str, dict[str, str]]
) -> None:
    assert (series_text(*one) == series_text(*other)) == (one == other)


def test_tags_are_sorted_and_empty_ones_are_none() -> None:
    text = series_text("my weather,x", {"room": "a b", "": "c", "city": "x=y,z", "none": ""} | {"": ""})
    assert text == r"my\ weather\,x,city=x\=y\,z,room=a\ b"


@pytest.mark.parametrize("text", ["", " ", "a b", "m,", "m,a", "m,a=", "m,=b", "m,a=b=c", ",a=b", "m,a=b,"])
def test_what_is_no_series(text: str) -> None:
    with pytest.raises(ValueError, match="is not the text of a series"):
        series_parts(text)
    assert by_measurement([text, "m,a=b"]) == {"m": {"m,a=b": {"a": "b"}}}


def test_a_line_has_types_as_influxdb_tells_them_apart() -> None:
    row = Row("m,a=b", 5, {"f 1": 5.0, "i": 5, "b": True, "s": 'a "b" \\ c\nd', "e": 1e300, "n": -(2**63)})
    assert line_of(row) == (b'm,a=b f\\ 1=5.0,i=5i,b=true,s="a \\"b\\" \\\\ c\nd",e=1e+300,n=-9223372036854775808i 5')
    values: tuple[Any, ...] = (None, b"", [], {}, 2**63, float("inf"))
    for value in values:
        with pytest.raises(Unwritable, match="no field can hold"):
            line_of(row._replace(fields={"v": value}))


def test_keys_that_lie_close_together_are_asked_for_at_once() -> None:
    keys = [Key("m,a=1", at * SECOND) for at in (0, 5, 15, 27, 30, 85, 95)]
    keys += [Key("m,a=2", 3 * SECOND), Key("other", 7), Key("no series,", 7), Key("m,a=1", 5 * SECOND)]
    found = list(clusters(keys, SECOND, 10))
    one, two = {"m,a=1": {"a": "1"}}, {"m,a=2": {"a": "2"}}
    assert sorted(found, key=lambda each: (each.measurement, each.span)) == [
        Cluster("m", Span(0, 16 * SECOND), one | two),
        Cluster("m", Span(27 * SECOND, 31 * SECOND), one),
        Cluster("m", Span(85 * SECOND, 96 * SECOND), one),
        Cluster("other", Span(0, SECOND), {"other": {}}),
    ]
    assert [len(each.series) for each in clusters([Key(f"m,a={n}", 0) for n in range(25)], 1, 10)] == [10, 10, 5]
    dense = [Key("m", at * SECOND) for at in range(0, 200, 5)]
    assert all(each.span.end - each.span.start <= 61 * SECOND for each in clusters(dense, 1, 10))


def test_what_is_there_or_comes_twice_is_not_missing() -> None:
    rows = [Row("m", at, {"v": at}) for at in (0, 1, 10, 11, 25)]
    batch = [(row, str(row.at).encode()) for row in rows]
    assert missing(batch, [], 1) == [b"0", b"1", b"10", b"11", b"25"]
    assert missing(batch, [Row("m", 12, {"v": 0}), Row("other", 25, {})], 10) == [b"0", b"25"]


def test_how_many_are_written_after_a_refusal() -> None:
    assert written_of("partial write: field type conflict: ... dropped=3", 10, 5) == 12
    assert written_of("field type conflict", 10, 5) is None
    assert written_of("unable to parse 'x dropped=3'", 10, 5) is None


@given(st.lists(st.integers(0, 30)), st.integers(1, 5), st.integers(1, 40))
def test_batches_are_bounded_and_lose_nothing(items: list[int], most: int, total: int) -> None:
    found = list(batches(items, int, most, total))
    assert [item for batch in found for item in batch] == items
    assert all(1 <= len(batch) <= most and (sum(batch) <= total or len(batch) == 1) for batch in found)
