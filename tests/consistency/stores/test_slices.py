"""Slices of time: nothing is lost or comes twice, order holds, and what is held at once is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from statistics import median_low

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consistency.rows import Row, Span
from consistency.stores import slices
from consistency.stores.slices import Overflow, Slices, in_slices

MINUTE = 60 * 10**9


class Points:
    """Rows at these times, in the order given. asked: the slices; most: rows of one slice."""

    def __init__(self, times: list[int], most: int) -> None:
        self._rows = [Row(f"event {number}", at, {}) for number, at in enumerate(times)]
        self._most = most
        self.asked: list[Span] = []

    def _within(self, span: Span) -> list[Row]:
        self.asked.append(span)
        return [row for row in self._rows if span.start <= row.at < span.end]

    async def read(self, span: Span) -> list[Row]:
        rows = self._within(span)[: self._most + 1]
        if len(rows) > self._most:
            raise Overflow(median_low([row.at for row in rows]))
        return rows

    async def stream(self, span: Span) -> AsyncIterator[list[Row]]:
        rows = self._within(span)
        for start in range(0, len(rows), 3):
            yield rows[start : start + 3]


def read_all(points: Points, span: Span) -> list[list[Row]]:
    async def collect() -> list[list[Row]]:
        return [chunk async for chunk in in_slices(span, points.read, points.stream)]

    return asyncio.run(collect())


@given(
    st.lists(
        st.one_of(st.integers(-20, 20), st.integers(0, 10**15), st.sampled_from([5, MINUTE, 10**14])), max_size=40
    ),
    st.integers(1, 8),
)
def test_every_row_once_and_in_order(times: list[int], most: int) -> None:
    points = Points(times, most)
    chunks = read_all(points, Span(0, 10**15))
    found = [row.at for chunk in chunks for row in chunk]
    assert found == sorted(at for at in times if 0 <= at < 10**15)
    assert all(0 < len(chunk) <= max(most, 3) for chunk in chunks)
    assert len(points.asked) < 60 + 60 * len(times)


def test_chunks_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "CHUNK", 4)
    assert [len(chunk) for chunk in read_all(Points(list(range(10)), 100), Span(0, 100))] == [4, 4, 2]


def test_a_year_of_nothing_is_a_matter_of_a_few_questions() -> None:
    points = Points([], 1)
    assert read_all(points, Span(0, 365 * 24 * 60 * MINUTE)) == []
    assert len(points.asked) < 10
    assert [(one.end, other.start) for one, other in zip(points.asked, points.asked[1:], strict=False)] == [
        (each.end, each.end) for each in points.asked[:-1]
    ]


def test_an_empty_span_asks_nothing() -> None:
    points = Points([5], 1)
    assert read_all(points, Span(5, 5)) == read_all(points, Span(6, 5)) == []
    assert points.asked == []


def test_a_slice_is_cut_to_less_whatever_the_pivot_is() -> None:
    for pivot in (-5, 0, 1, 50, 99, 100, 5000):
        cut = Slices(Span(0, 100))
        cut.cut(pivot)
        piece = cut.next()
        assert piece is not None
        assert 0 < piece.end < 100
