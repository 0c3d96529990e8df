"""The latency sketch: near the exact quantile, and the same whether counted together or merged."""

from __future__ import annotations

from math import floor, isclose, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.sketch import Sketch

LEAST = 1e-6
durations = st.lists(st.floats(LEAST, 1000.0), min_size=1, max_size=200)
shares = st.sampled_from((0.0, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0))


def sketch_of(values: list[float]) -> Sketch:
    sketch = Sketch()
    for value in values:
        sketch.add(value)
    return sketch


@given(durations, shares)
def test_a_quantile_is_within_one_percent_of_the_exact_one(values: list[float], q: float) -> None:
    exact = sorted(values)[floor(q * (len(values) - 1))]
    assert isclose(sketch_of(values).quantile(q), exact, rel_tol=0.01)


@given(durations)
def test_quantiles_rise(values: list[float]) -> None:
    sketch = sketch_of(values)
    found = [sketch.quantile(q) for q in (0.0, 0.1, 0.5, 0.9, 0.99, 1.0)]
    assert found == sorted(found)


@given(durations, durations)
def test_merged_is_the_same_as_counted_together(one: list[float], other: list[float]) -> None:
    merged = sketch_of(one)
    merged.merge(sketch_of(other))
    assert merged.buckets == sketch_of(one + other).buckets
    assert merged.count == len(one) + len(other)


@given(durations, durations)
def test_since_is_what_came_after(before: list[float], after: list[float]) -> None:
    sketch = sketch_of(before)
    earlier = Sketch(sketch.buckets)
    for value in after:
        sketch.add(value)
    assert sketch.since(earlier).buckets == sketch_of(after).buckets


@given(durations)
def test_a_copy_is_not_changed_by_what_comes_later(values: list[float]) -> None:
    sketch = sketch_of(values)
    copy = Sketch(sketch.buckets)
    sketch.add(1.0)
    sketch.merge(sketch_of(values))
    assert copy.count == len(values)


@given(durations)
def test_nothing_came_since_now(values: list[float]) -> None:
    sketch = sketch_of(values)
    nothing = sketch.since(Sketch(sketch.buckets))
    assert (nothing.count, nothing.buckets) == (0, {})


def test_since_an_earlier_life_that_counted_more_is_never_negative() -> None:
    assert sketch_of([1.0]).since(sketch_of([1.0, 1.0, 1.0])).count == 0


def test_an_empty_sketch_has_quantile_zero() -> None:
    assert [Sketch().quantile(q) for q in (0.0, 0.5, 1.0)] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e-9, LEAST, nan])
def test_what_is_too_short_to_measure_counts_as_a_microsecond(seconds: float) -> None:
    sketch = sketch_of([seconds])
    assert sketch.count == 1
    assert isclose(sketch.quantile(0.5), LEAST, rel_tol=0.01)


def test_the_tail_is_seen() -> None:
    sketch = sketch_of([0.010] * 990 + [2.0] * 10)
    assert isclose(sketch.quantile(0.50), 0.010, rel_tol=0.01)
    assert isclose(sketch.quantile(0.98), 0.010, rel_tol=0.01)
    assert isclose(sketch.quantile(0.995), 2.0, rel_tol=0.01)


def test_memory_is_bounded_by_the_range_not_by_the_count() -> None:
    sketch = sketch_of([LEAST * 1.001**step for step in range(20_800)])
    assert sketch.count == 20_800
    assert len(sketch.buckets) <= 1_060
