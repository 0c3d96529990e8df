"""New held against old at the same time: slower is seen, and nothing else is."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from proxy.core.sketch import Sketch
from proxy.core.slower import LEAST, WINDOW, Slower, SlowerTest

RATIO, FLOOR = 0.2, 0.001
Draw = Callable[[random.Random, float], float]


def usual(chance: random.Random, now: float) -> float:
    """Some 4 ms, and a tail."""
    return 0.004 * chance.lognormvariate(0.0, 0.5)


def told(
    old: Draw,
    new: Draw,
    *,
    seconds: int = 120,
    rates: tuple[int, int] = (100, 100),
    seed: int = 1,
    test: SlowerTest | None = None,
) -> tuple[int, Slower] | None:
    """After how many seconds it says what; None when it says nothing. rates: answers a second, of old and of new."""
    chance = random.Random(seed)
    test = test or SlowerTest(RATIO, FLOOR)
    both = Sketch(), Sketch()
    for now in range(seconds):
        for sketch, draw, rate in zip(both, (old, new), rates, strict=True):
            for _ in range(rate):
                sketch.add(draw(chance, now))
        found = test.observe(Sketch(both[0].buckets), Sketch(both[1].buckets), float(now))
        if found is not None:
            return now, found
    return None


def scaled(factor: float) -> Draw:
    return lambda chance, now: factor * usual(chance, now)


def with_stalls(share: float, stall: float) -> Draw:
    return lambda chance, now: usual(chance, now) + (stall if chance.random() < share else 0.0)


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.1, 1.19])
def test_what_is_within_the_ratio_is_never_slower(factor: float) -> None:
    assert told(usual, scaled(factor), seconds=600) is None


@pytest.mark.parametrize(("factor", "seconds"), [(1.5, 30), (2.0, 15), (10.0, 15)])
def test_all_of_it_slower_is_seen(factor: float, seconds: int) -> None:
    found = told(usual, scaled(factor))
    assert found is not None
    assert found[0] <= seconds


def test_one_in_eight_that_stalls_is_seen_by_the_p95_alone() -> None:
    found = told(usual, with_stalls(0.125, 0.2))
    assert found is not None
    assert (found[0] <= 30, found[1].quantile) == (True, 0.95)
    assert 0.1 < found[1].suspicion.share < 0.3
    assert 0.008 < found[1].limit < 0.02


def test_one_in_fifty_that_stalls_is_for_no_gate() -> None:
    assert told(usual, with_stalls(0.02, 0.2), seconds=600) is None


def test_both_slower_at_once_is_neither_ones_doing() -> None:
    def worse(chance: random.Random, now: float) -> float:
        return usual(chance, now) * (1.0 + now / 60.0)

    assert told(worse, worse, seconds=300) is None


@pytest.mark.parametrize(("old_rate", "new_rate"), [(100, 100), (10, 90), (90, 10), (3, 3)])
def test_both_slower_from_one_moment_on_is_neither_ones_doing(old_rate: int, new_rate: int) -> None:
    """Also while old's quantiles are those of the time before, and when it is over."""

    def slower_for_a_while(chance: random.Random, now: float) -> float:
        return usual(chance, now) * (10.0 if 60.0 <= now < 200.0 else 1.0)

    rates = (old_rate, new_rate)
    assert told(slower_for_a_while, slower_for_a_while, seconds=400, rates=rates) is None
    assert told(usual, slower_for_a_while, seconds=400, rates=rates) is not None


@pytest.mark.parametrize("seed", range(5))
def test_pauses_of_either_that_come_and_go_are_no_slowness(seed: int) -> None:
    """Their answers are slow all at once: 50 in a row are not 50 pieces of evidence."""
    chance = random.Random(seed)
    pauses = [{start + step for start in _starts(chance) for step in (0, 1, 2)} for _ in range(2)]

    def with_pauses(seconds: set[int]) -> Draw:
        return lambda chance, now: usual(chance, now) + (0.5 if int(now) in seconds else 0.0)

    old, new = map(with_pauses, pauses)
    assert told(old, new, seconds=900, rates=(20, 20), seed=seed) is None
    assert told(usual, scaled(2.0), rates=(20, 20), seed=seed) is not None


def _starts(chance: random.Random) -> list[int]:
    """Every two minutes or so."""
    found, now = [], 0
    while now < 900:
        now += int(chance.uniform(60, 180))
        found.append(now)
    return found


def test_what_a_person_would_not_notice_is_left_alone() -> None:
    assert told(usual, scaled(1.5), test=SlowerTest(RATIO, 0.050)) is None


def test_without_enough_of_old_nothing_is_said() -> None:
    assert told(usual, scaled(10.0), rates=(1, 1), seconds=LEAST - 2) is None
    assert told(usual, scaled(10.0), rates=(1, 1), seconds=LEAST + 30) is None, "never as many within the window"
    assert LEAST > WINDOW


def test_a_reset_begins_anew() -> None:
    test = SlowerTest(RATIO, FLOOR)
    found = told(usual, scaled(2.0), test=test)
    assert found is not None
    test.reset()
    assert told(usual, usual, test=test, seed=2) is None


def test_the_bound_of_a_quantile_is_above_it_and_nears_it() -> None:
    chance = random.Random(3)
    distances = []
    for count in (50, 5000):
        sketch = Sketch()
        for _ in range(count):
            sketch.add(usual(chance, 0.0))
        distances.append(sketch.quantile_at_most(0.5, 3.0) / 0.004)
        assert sketch.above(sketch.quantile_at_most(0.5, 3.0)) <= count // 2
    assert 1.0 < distances[1] < distances[0] < 2.0
    assert Sketch().quantile_at_most(0.5, 3.0) == 0.0
    assert Sketch({3: 5}).quantile_at_most(0.99, 3.0) >= Sketch({3: 5}).quantile(0.99)


def test_above_counts_what_is_longer_for_sure() -> None:
    sketch = Sketch()
    for duration in (0.001, 0.010, 0.100):
        sketch.add(duration, 2)
    assert [sketch.above(each) for each in (0.0001, 0.002, 0.02, 0.2)] == [6, 4, 2, 0]
    assert sketch.above(0.0999) == 0, "in the same bucket"
