"""Precision and recall over every kind of fault: no fault is missed, and nothing else is called one."""

from __future__ import annotations

from collections import Counter

import pytest

from consistency.classes import MISMATCHES, Class
from consistency.compare import Counts, Judge
from consistency.identity import Naming
from consistency.judge import Checker, Judged
from consistency.rows import Span
from consistency.rules import Rules
from tests.consistency.fakes import Clock, MemoryRecords, MemoryStore
from tests.consistency.generated import FAULTS, RULES, STEP, Generated

pytestmark = pytest.mark.asyncio


async def judged(made: Generated, rules: Rules, window: int = 5000 * STEP) -> list[Judged]:
    """Every window of it, one after another."""
    records = MemoryRecords()
    for each in made.recorded:
        records.put(each.identity, each.at, each.record)
    judge = Judge(rules, Naming(), records.covers)
    old, new = MemoryStore(made.old), MemoryStore(made.new, name="new")
    checker = Checker(old, new, records, judge, sleep=Clock().sleep)
    start, end = made.span
    found = [await checker.judge(Span(at, at + window)) for at in range(start, end, window)]
    assert all(each.inconclusive == "" for each in found)
    assert rules.unused == []
    return found


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("faults", "count"), [(0.01, 100_000), (0.5, 20_000)])
async def test_every_fault_is_found_and_nothing_else(faults: float, count: int, soak: bool) -> None:
    made = Generated(10 * count if soak else count, seed=5, faults=faults)
    found = await judged(made, Rules(RULES))
    counts = Counts()
    for each in found:
        counts.merge(each.counts)
    expected = Counter(made.expected.values())
    assert counts.classes == expected
    named = {finding.key.identity: finding.kind for each in found for finding in each.findings}
    wanted = {name: kind for name, kind in made.expected.items() if kind in MISMATCHES or kind is Class.REFUSED}
    assert named == wanted, "each by its name"
    assert len(expected) == len({*made.expected.values()}) >= len(FAULTS) - 1, "every kind was there"


@pytest.mark.timeout(1200)
async def test_a_split_is_no_mismatch(soak: bool) -> None:
    made = Generated(1_000_000 if soak else 100_000, seed=7, weight=0.25)
    counts = Counts()
    for each in await judged(made, Rules()):
        counts.merge(each.counts)
    assert dict(counts.classes) == {Class.ONE_SIDED: made.count}
    assert (counts.mismatches, counts.rate) == (0, 0.0)


async def test_windows_of_any_size_count_the_same() -> None:
    made = Generated(3000, seed=3, faults=0.2)
    for size in (STEP, 7 * STEP + 3, 1000 * STEP, 5000 * STEP):
        counts = Counts()
        for each in await judged(made, Rules(RULES), size):
            counts.merge(each.counts)
        assert counts.classes == Counter(made.expected.values())
