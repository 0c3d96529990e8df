"""How long a freeze may last, and which of two holds."""

from __future__ import annotations

import pytest

from proxy.core.errors import BadChange
from proxy.core.freeze import MOST, begin, is_way_back, later


def test_it_holds_until_its_end_and_not_at_it() -> None:
    freeze = begin(1000.0, 60.0, "ann", "release")
    assert (freeze.since, freeze.until, freeze.actor, freeze.reason) == (1000.0, 1060.0, "ann", "release")
    assert [freeze.holds(now) for now in (1000.0, 1059.9, 1060.0, 5000.0)] == [True, True, False, False]


@pytest.mark.parametrize("seconds", [0.0, -1.0, MOST + 1, float("inf"), float("nan")])
def test_a_time_that_is_none_or_has_no_end_is_refused(seconds: float) -> None:
    with pytest.raises(BadChange, match="more than 0 and at most 30 days") as refused:
        begin(1000.0, seconds, "ann")
    assert not refused.value.blocked


def test_the_longest_is_thirty_days() -> None:
    assert begin(0.0, MOST, "ann").until == 30 * 86_400


def test_a_freeze_is_prolonged_and_never_shortened_by_another() -> None:
    short, long = begin(1000.0, 60.0, "ann"), begin(1000.0, 90.0, "bob")
    assert later(None, short) is short
    assert later(short, long) is long
    assert later(long, short) is long


@pytest.mark.parametrize("is_lower", [False, True])
@pytest.mark.parametrize("action", ["set-weight", "stage", "restore", "rearm", "rollout-start", "what-comes-later"])
def test_what_is_no_way_back_is_none_with_a_lower_weight_either(action: str, is_lower: bool) -> None:
    assert not is_way_back(action, is_lower=is_lower)


def test_ways_back() -> None:
    for action in ("rollback", "revert"):
        assert is_way_back(action, is_lower=False)
    assert [is_way_back("rollout-step", is_lower=is_lower) for is_lower in (False, True)] == [False, True]
