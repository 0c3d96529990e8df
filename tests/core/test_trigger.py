"""A sliding window over cumulative counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.trigger import Sample, SlidingRate

LIMIT, MIN_SAMPLES, WINDOW = 0.05, 50, 10.0


def rate() -> SlidingRate:
    return SlidingRate(LIMIT, MIN_SAMPLES, WINDOW)


def run(samples: list[tuple[float, int, int]]) -> list[bool]:
    """For each (at, total, failed): does it ask for a revert?"""
    watched = rate()
    return [watched.observe(Sample(*sample)) is not None for sample in samples]


# at, total, failed (cumulative), and whether this sample asks for a revert.
SCRIPTS = {
    "healthy": [(0, 0, 0, False), (1, 1000, 10, False), (2, 2000, 20, False)],
    "over the limit": [(0, 0, 0, False), (1, 100, 6, True)],
    "exactly at the limit": [(0, 0, 0, False), (1, 100, 5, False)],
    "too few to judge": [(0, 0, 0, False), (1, 49, 49, False), (2, 50, 49, True)],
    "the first sample says nothing, however bad": [(0, 10_000, 10_000, False)],
    "what was before the first sample does not count": [(0, 900, 900, False), (1, 1000, 900, False)],
    "nothing new, nothing to say": [(0, 900, 900, False), (1, 900, 900, False), (20, 900, 900, False)],
    "old failures leave the window": [(0, 0, 0, False), (2, 40, 40, False), (12, 90, 41, False)],
    "a failure within the window adds up": [
        (0, 0, 0, False),
        (3, 40, 2, False),
        (6, 80, 4, False),
        (9, 120, 7, True),
    ],
    "an hour of health does not hide a bad minute": [
        (0, 0, 0, False),
        (3600, 1_000_000, 0, False),
        (3605, 1_000_000, 0, False),
        (3611, 1_000_100, 20, True),
    ],
    "a lost report loses nothing": [(0, 0, 0, False), (8, 1000, 100, True)],
    "it keeps asking while it lasts": [(0, 0, 0, False), (1, 100, 50, True), (2, 200, 100, True)],
    "it stops asking when the bad time has left the window": [
        (0, 0, 0, False),
        (1, 100, 50, True),
        (6, 200, 50, True),
        (11, 300, 50, False),
    ],
    "counts that fall: a process went, and its successes with it": [
        (0, 10_000, 0, False),
        (1, 5_000, 0, False),
        (2, 10_100, 60, False),
        (3, 10_200, 700, True),
    ],
    "failures that fall alone are a process gone too": [
        (0, 1_000, 900, False),
        (1, 1_050, 100, False),
        (2, 1_150, 106, True),
    ],
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script(name: str) -> None:
    script = SCRIPTS[name]
    assert run([(at, total, failed) for at, total, failed, _ in script]) == [fires for *_, fires in script]


def test_the_reason_says_what_happened() -> None:
    watched = rate()
    assert watched.observe(Sample(100.0, 1000, 10)) is None
    assert watched.observe(Sample(101.0, 1200, 35)) == (
        "25 of 200 settled events differ at new within 10 s (12.5%, limit 5.0%)"
    )


def test_a_reset_forgets_what_was_seen() -> None:
    watched = rate()
    watched.observe(Sample(0.0, 0, 0))
    assert watched.observe(Sample(1.0, 100, 90)) is not None
    watched.reset()
    assert watched.observe(Sample(2.0, 100, 90)) is None
    assert watched.observe(Sample(3.0, 200, 91)) is None
    assert watched.observe(Sample(4.0, 300, 110)) is not None


def test_a_limit_of_zero_reverts_for_one_failure_and_a_limit_of_one_never() -> None:
    strict, deaf = SlidingRate(0.0, 1, WINDOW), SlidingRate(1.0, 1, WINDOW)
    for watched in (strict, deaf):
        watched.observe(Sample(0.0, 0, 0))
    assert strict.observe(Sample(1.0, 1000, 0)) is None
    assert strict.observe(Sample(2.0, 2000, 1)) is not None
    assert deaf.observe(Sample(2.0, 2000, 2000)) is None


seconds = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), min_size=1, max_size=60)


@given(seconds)
def test_at_regular_samples_it_is_the_plain_sum_over_the_window(counts: list[tuple[int, int]]) -> None:
    watched = rate()
    watched.observe(Sample(0.0, 0, 0))
    steps = [(ok + failed, failed) for ok, failed in counts]
    total = failed = 0
    for at, step in enumerate(steps, start=1):
        total, failed = total + step[0], failed + step[1]
        window = steps[max(0, at - int(WINDOW)) : at]
        seen, bad = sum(each[0] for each in window), sum(each[1] for each in window)
        expected = seen >= MIN_SAMPLES and bad > LIMIT * seen
        assert (watched.observe(Sample(float(at), total, failed)) is not None) == expected


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 500)), max_size=60))
def test_without_failures_it_never_asks(steps: list[tuple[float, int]]) -> None:
    watched = rate()
    at, total = 0.0, 0
    for wait, events in steps:
        at, total = at + wait, total + events
        assert watched.observe(Sample(at, total, 0)) is None


@given(st.integers(5, 2000))
def test_memory_is_bounded_by_the_window(samples: int) -> None:
    watched = rate()
    for number in range(samples):
        watched.observe(Sample(number * 0.25, number, 0))
    assert len(watched._samples) <= WINDOW / 0.25 + 2
