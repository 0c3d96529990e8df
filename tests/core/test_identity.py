"""Generated event ids: their form, their order, and that none comes twice."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from proxy.core.identity import IdSource

MILLISECOND = 1_000_000
NOW = 1_700_000_000_000 * MILLISECOND


def test_the_form() -> None:
    ids = IdSource(0xDEADBEEF)
    assert ids.make(NOW) == "018bcfe56800deadbeef00000001"
    assert ids.make(NOW) == "018bcfe56800deadbeef00000002"
    assert ids.make(NOW + MILLISECOND) == "018bcfe56801deadbeef00000003"


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 2**62), min_size=1, max_size=50))
def test_ids_have_28_hex_digits_and_never_repeat_whatever_the_clock_does(stream: int, clock: list[int]) -> None:
    ids = IdSource(stream)
    made = [ids.make(wall_ns) for wall_ns in clock]
    assert len(set(made)) == len(made)
    assert all(re.fullmatch(r"[0-9a-f]{28}", each) for each in made)


@given(st.lists(st.integers(0, 2**62), min_size=2, max_size=50).map(sorted))
def test_ids_sort_by_time_within_a_worker(clock: list[int]) -> None:
    ids = IdSource(1)
    made = [ids.make(wall_ns) for wall_ns in clock]
    assert made == sorted(made)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_two_streams_differ_at_the_same_instant(one: int, other: int) -> None:
    assert (IdSource(one).make(NOW) == IdSource(other).make(NOW)) == (one == other)


def test_a_stream_wider_than_32_bits_does_not_lengthen_the_id() -> None:
    assert IdSource(2**40 + 5).make(NOW) == IdSource(5).make(NOW)


def test_the_counter_comes_round_without_lengthening_the_id() -> None:
    ids = IdSource(0)
    ids._count = 0xFFFFFFFE
    assert [ids.make(0)[-8:] for _ in range(3)] == ["ffffffff", "00000000", "00000001"]
    assert len(ids.make(0)) == 28
