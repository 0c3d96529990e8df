"""The test of a share: how soon it sees more failures, that it does not without, and what it takes for both."""

from __future__ import annotations

import random
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.sequential import (
    ALTERNATIVES,
    LEAST_FAILURES,
    LEAST_SECONDS,
    THRESHOLD,
    CountedTest,
    Counts,
    ShareTest,
    alternatives,
)

LIMIT = 0.01
MEDIANS = {1.0: 4, 0.3: 17, 0.1: 96, 0.05: 337, 0.03: 1126, 0.02: 3900}
"""Events until an alarm, by the true share of failures: what the design measured, of which a fifth more is too much."""


def events_to_alarm(test: ShareTest, share: float, chance: random.Random, most: int) -> int | None:
    """Event by event, one a second; None when `most` bring no alarm."""
    for number in range(1, most + 1):
        if test.observe(1, chance.random() < share, float(number)) is not None:
            return number
    return None


@pytest.mark.parametrize("share", MEDIANS)
def test_more_failures_are_seen_as_soon_as_they_should_be(share: float) -> None:
    found = [events_to_alarm(ShareTest(LIMIT), share, random.Random(seed), 40_000) for seed in range(31)]
    assert median(each or 40_000 for each in found) <= 1.2 * MEDIANS[share]


@pytest.mark.parametrize("share", [0.001, 0.008, 0.01])
def test_as_many_failures_as_the_limit_are_never_too_many(share: float) -> None:
    assert [events_to_alarm(ShareTest(LIMIT), share, random.Random(seed), 20_000) for seed in range(6)] == [None] * 6


def test_a_long_good_time_makes_it_neither_deaf_nor_wrong() -> None:
    """Evidence that adds up over all of the past would take 27,000 events here; a sum that only falls, for ever."""
    fresh, late = [], []
    for seed in range(15):
        fresh.append(events_to_alarm(ShareTest(LIMIT), 0.03, random.Random(seed), 10**5))
        test = ShareTest(LIMIT)
        assert events_to_alarm(test, 0.001, random.Random(seed), 50_000) is None
        assert test.observe(10**9, 0, 0.0) is None
        assert test.value == 1.0
        late.append(events_to_alarm(test, 0.03, random.Random(seed), 10**5))
    assert median(each or 10**5 for each in late) <= 1.2 * median(each or 10**5 for each in fresh)


def test_an_alarm_ends_soon_after_what_it_was_about() -> None:
    test = ShareTest(LIMIT)
    found = [test.observe(1000, 1000, float(number)) for number in range(1000)][-1]
    assert found is not None
    assert found[:3] == (0.0, 1_000_000, 1_000_000)
    assert THRESHOLD <= found.value <= ALTERNATIVES * THRESHOLD
    assert test.observe(1000, 0, 1000.0) is None
    test.observe(10_000, 0, 1001.0)
    assert not test.is_suspected


outcomes = st.lists(st.booleans(), max_size=200)


@given(outcomes, st.lists(st.integers(1, 40), min_size=1))
def test_portions_say_no_more_than_their_events(failures: list[bool], sizes: list[int]) -> None:
    """Until an alarm, after which what is left of it may be more."""
    one_by_one, in_portions = ShareTest(LIMIT), ShareTest(LIMIT)
    begin, number = 0, 0
    while begin < len(failures):
        portion = failures[begin : begin + sizes[number % len(sizes)]]
        for failed in portion:
            one_by_one.observe(1, failed, 0.0)
            if one_by_one.value >= THRESHOLD:
                return
        in_portions.observe(len(portion), sum(portion), 0.0)
        assert in_portions.value <= one_by_one.value * (1 + 1e-9)
        begin, number = begin + len(portion), number + 1


@given(outcomes, st.integers(0, 500))
def test_successes_are_the_same_in_one_portion(failures: list[bool], successes: int) -> None:
    one_by_one, in_portions = ShareTest(LIMIT), ShareTest(LIMIT)
    for test in (one_by_one, in_portions):
        for failed in failures:
            test.observe(1, failed, 0.0)
    for _ in range(successes):
        one_by_one.observe(1, 0, 1.0)
    in_portions.observe(successes, 0, 1.0)
    for failed in failures:
        first, second = one_by_one.observe(1, failed, 2.0), in_portions.observe(1, failed, 2.0)
        assert (first and first[:3]) == (second and second[:3])
        assert one_by_one.value == pytest.approx(in_portions.value)


def test_an_alarm_takes_several_failures_over_some_time() -> None:
    tiny = ShareTest(1e-6)
    assert tiny.observe(LEAST_FAILURES - 1, LEAST_FAILURES - 1, 0.0) is None
    assert tiny.value >= THRESHOLD
    assert tiny.observe(1, 1, LEAST_SECONDS / 2) is None
    assert tiny.observe(0, 0, 10 * LEAST_SECONDS) is None, "what was one moment's stays that"
    found = tiny.observe(1, 1, 10 * LEAST_SECONDS)
    assert found is not None
    assert (found.since, found.total, found.failed, found.share) == (0.0, LEAST_FAILURES + 1, LEAST_FAILURES + 1, 1.0)


def test_where_failures_of_one_portion_hang_together_it_takes_several() -> None:
    test = ShareTest(LIMIT, 5)
    found = [test.observe(1000, 1000, float(number)) for number in range(6)]
    assert [each is None for each in found] == [True] * 4 + [False] * 2
    test.reset()
    found = [test.observe(1, 1, float(number)) for number in range(6)]
    assert [each is None for each in found].index(False) == 4, "no more than that where each says little"


def test_what_was_before_the_evidence_began_is_not_part_of_it() -> None:
    test = ShareTest(LIMIT)
    test.observe(100_000, 0, 0.0)
    test.observe(50, 25, 100.0)
    found = test.observe(50, 25, 110.0)
    assert found is not None
    assert found[:3] == (100.0, 100, 50)


def test_a_reset_forgets() -> None:
    test = ShareTest(LIMIT)
    test.observe(50, 25, 0.0)
    test.reset()
    assert test.value == 1.0
    assert test.observe(1, 0, 10.0) is None


@pytest.mark.parametrize("limit", [0.0, 1.0, -0.5, float("nan")])
def test_a_limit_that_is_no_share_is_refused(limit: float) -> None:
    with pytest.raises(ValueError, match="a share above 0 and below 1"):
        ShareTest(limit)


@pytest.mark.parametrize("limit", [1e-6, 0.001, 0.01, 0.5, 0.99, 0.99999])
def test_alternatives_are_above_the_limit_and_rise(limit: float) -> None:
    shares = alternatives(limit)
    assert limit < shares[0] <= 1.25 * limit
    assert shares == sorted(set(shares))
    assert shares[-1] < 1.0


# cumulative counts


def test_the_first_counts_are_where_it_begins() -> None:
    test = CountedTest(LIMIT)
    assert test.observe(Counts(0.0, 10_000, 9_000)) is None
    assert test.observe(Counts(9.0, 10_100, 9_000)) is None
    assert test.observe(Counts(10.0, 10_150, 9_050)) is None
    assert test.is_suspected
    found = test.observe(Counts(20.0, 10_200, 9_100))
    assert found is not None
    assert found[:3] == (10.0, 100, 100)
    test.reset()
    assert not test.is_suspected
    assert test.observe(Counts(30.0, 20_000, 19_000)) is None


def test_counts_that_go_back_are_a_process_gone_and_no_evidence() -> None:
    test = CountedTest(LIMIT)
    for at, total, failed in ((0.0, 1000, 900), (1.0, 1050, 100), (2.0, 500, 200), (9.0, 600, 200)):
        assert test.observe(Counts(at, total, failed)) is None
    assert not test.is_suspected


def test_a_limit_of_all_is_never_exceeded_and_one_of_none_by_three_failures_in_a_thousand() -> None:
    never, strict = CountedTest(1.0), CountedTest(0.0)
    for test in (never, strict):
        test.observe(Counts(0.0, 0, 0))
        assert test.observe(Counts(1.0, 1000, 2)) is None
    assert never.observe(Counts(9.0, 2000, 1002)) is None
    assert not never.is_suspected
    assert strict.observe(Counts(9.0, 1003, 3)) is not None
