"""Stretches of time in SQL: where a row is, and which rows are there."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consistency.places import LEAST, MOST, RANGES, ByTime, number_of
from consistency.stores.files_table import Table

TABLE = Table("row", ("id",), "moment", 1, {}, {}, frozenset())
MOMENTS = st.integers(-(2**63), 2**63 - 1)


ROWS = "(SELECT unnest(?::BIGINT[]) AS moment)"


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        yield opened


def placed(connection: duckdb.DuckDBPyConnection, times: list[int], place: str) -> dict[int, int]:
    """The place of each of these times."""
    return dict(connection.execute(f"SELECT moment, {place} FROM {ROWS}", [times]).fetchall())


def among(connection: duckdb.DuckDBPyConnection, times: list[int], by_time: ByTime, places: list[int]) -> list[int]:
    """Which of these times are at some places."""
    connection.execute("CREATE OR REPLACE TABLE differing_place AS SELECT unnest(?::BIGINT[]) AS place", [places])
    condition = by_time.among(TABLE, places)
    return sorted(
        at for (at,) in connection.execute(f"SELECT moment FROM {ROWS} WHERE {condition}", [times]).fetchall()
    )


@given(
    st.lists(st.one_of(st.integers(-30, 30), MOMENTS), min_size=1, max_size=20, unique=True),
    st.sampled_from([1, 3, 1000]),
    st.sampled_from([1, 4, 1024]),
    st.data(),
)
def test_ranges_are_the_rows_of_their_places(
    connection: duckdb.DuckDBPyConnection, times: list[int], precision: int, number: int, data: st.DataObject
) -> None:
    by_time = ByTime.between(min(times), max(times), number, precision)
    place = placed(connection, times, by_time.of(TABLE))
    assert len(set(place.values())) <= by_time.number <= number + 1, "one that is begun at either end"
    chosen = data.draw(st.sets(st.sampled_from(sorted(set(place.values())))))
    wanted = sorted(at for at in times if place[at] in chosen)
    assert among(connection, times, by_time, list(chosen)) == wanted


def test_times_before_1970_are_counted_as_they_are_placed(connection: duckdb.DuckDBPyConnection) -> None:
    by_time = ByTime.between(-2, -1, 1, 1)
    assert set(placed(connection, [-1, -2], by_time.of(TABLE)).values()) == {0, -1}
    assert by_time.number == 2


def test_times_that_are_one_to_a_coarser_store_are_at_one_place(connection: duckdb.DuckDBPyConnection) -> None:
    by_time = ByTime.between(0, 10_000, 1024, 1000)
    assert len(set(placed(connection, [3000, 3001, 3999], by_time.of(TABLE)).values())) == 1


def test_places_in_a_row_are_one_range_and_too_many_are_none(connection: duckdb.DuckDBPyConnection) -> None:
    by_time = ByTime.between(0, 99_999, 1000, 1)
    assert (
        by_time.among(TABLE, [5, 4, 3, 9]) == "(moment >= 300 AND moment <= 599) OR (moment >= 900 AND moment <= 999)"
    )
    many = list(range(0, 2 * RANGES + 2, 2))
    assert "SELECT place" in by_time.among(TABLE, many)
    assert among(connection, [0, 100, 250, 399, 999_999], by_time, many) == [0, 250]


@pytest.mark.parametrize(("rows", "number"), [(0, LEAST), (10**6, 10**4), (10**12, MOST)])
def test_the_number_of_places_follows_the_number_of_rows(rows: int, number: int) -> None:
    assert number_of(rows) == number
