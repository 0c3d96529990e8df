"""So many at once, and so many a second."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack

import pytest

from proxy.control.hook_limit import AT_ONCE, BURST, PER_SECOND, HookLimit, HookLimits
from proxy.control.problems import Problem
from tests.control.fakes import Clock


def refusal(limit: HookLimit) -> int:
    with pytest.raises(Problem) as caught:
        limit.enter()
    assert caught.value.status == 429
    assert caught.value.retry_after is not None
    return caught.value.retry_after


def test_a_burst_and_then_so_many_a_second() -> None:
    clock = Clock()
    limit = HookLimit(clock)
    for _ in range(int(BURST)):
        limit.enter()
        limit.leave()
    assert refusal(limit) == 1
    clock.now += 2.1 / PER_SECOND
    for _ in range(2):
        limit.enter()
        limit.leave()
    refusal(limit)
    clock.now += 3600
    for _ in range(int(BURST)):
        limit.enter()
        limit.leave()
    refusal(limit)


def test_so_many_at_once() -> None:
    limit = HookLimit(Clock())
    for _ in range(AT_ONCE):
        limit.enter()
    assert refusal(limit) == 1
    limit.leave()
    limit.enter()


def test_each_hook_counts_each_token() -> None:
    clock, counts = Clock(), Counter[str]()
    limits = HookLimits(counts, clock)
    for _ in range(int(BURST)):
        with limits.entered("webhook", "noisy"):
            pass
    with pytest.raises(Problem), limits.entered("webhook", "noisy"):
        pass
    for hook, token in (("webhook", "quiet"), ("alertmanager", "noisy"), ("alertmanager", "")):
        with limits.entered(hook, token):
            pass
    assert counts == {"alerts:webhook:refused": 1}


def test_who_is_inside_is_counted_after_any_time_and_who_is_idle_is_forgotten() -> None:
    clock = Clock()
    limits = HookLimits(Counter(), clock)
    with ExitStack() as inside:
        for _ in range(AT_ONCE):
            inside.enter_context(limits.entered("webhook", "a"))
        clock.now += 3600
        with pytest.raises(Problem, match="are being worked on"), limits.entered("webhook", "a"):
            pass
    with pytest.raises(LookupError), limits.entered("webhook", "a"):
        raise LookupError
    clock.now += 3600
    with limits.entered("webhook", "b"):
        assert list(limits._limits) == [("webhook", "b")]
