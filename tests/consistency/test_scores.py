"""Precision and recall over every kind of fault: no fault is missed, and nothing else is called one."""

from __future__ import annotations

from collections import Counter

import pytest

from config.consistency import MEMORY
from consistency.classes import MISMATCHES, Class
from consistency.compare import Judge, TimeRule
from consistency.grid import Grid
from consistency.identity import Naming
from consistency.judge import Checker
from consistency.report import Report
from consistency.rows import Span
from consistency.rules import Rules
from consistency.shown import KEPT
from consistency.verify import OneWindow, all_windows
from tests.consistency.fakes import Clock, MemoryRecords, MemoryStore
from tests.consistency.generated import FAULTS, RULES, STEP, Generated

pytestmark = pytest.mark.asyncio


async def verified(
    made: Generated, rules: Rules, window: int = 5000 * STEP, time: TimeRule | None = None, memory: int = MEMORY
) -> Report:
    """Every window of it, one after another, and some again."""
    records = MemoryRecords()
    for each in made.recorded:
        records.put(each.identity, each.at, each.record)
    span = Span(*made.span)
    grid, report = Grid(span, window), Report(["events"], span, "three-way")
    checker = Checker(
        MemoryStore(made.old),
        MemoryStore(made.new, name="new"),
        records,
        Judge(rules, Naming(), records.covers, time),
        is_inside=lambda at: grid.of(at) is not None,
        memory=memory,
        sleep=Clock().sleep,
        wall=lambda: span.end,
    )
    await all_windows(grid, OneWindow(checker, None), report, lambda *_: None)
    assert report.as_dict((), 0)["inconclusive"] == []
    assert rules.unused == []
    return report


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("faults", "count"), [(0.01, 100_000), (0.5, 20_000)])
async def test_every_fault_is_found_and_nothing_else(faults: float, count: int, soak: bool) -> None:
    made = Generated(10 * count if soak else count, seed=5, faults=faults)
    report = await verified(made, Rules(RULES))
    expected = Counter(made.expected.values())
    assert report.counts.classes == expected
    named = {finding.key.identity: finding.kind for finding in report.findings()}
    wanted = {name: kind for name, kind in made.expected.items() if kind in MISMATCHES or kind is Class.REFUSED}
    assert set(named.items()) <= set(wanted.items()), "each by its name"
    assert len(named) == sum(min(KEPT, count) for kind, count in expected.items() if kind in {*wanted.values()})
    assert len(expected) == len({*made.expected.values()}) >= len(FAULTS) - 1, "every kind was there"


@pytest.mark.parametrize("memory", [1_000_000, 200_000])
async def test_what_does_not_fit_into_memory_is_judged_the_same(memory: int) -> None:
    """Two windows of which each is judged in some parts, or in hundreds."""
    made = Generated(10_000, seed=11, faults=0.3, delay=40 * STEP)
    whole = await verified(made, Rules(RULES), 5000 * STEP)
    parted = await verified(made, Rules(RULES), 5000 * STEP, memory=memory)
    assert parted.counts.classes == whole.counts.classes
    assert parted.findings() == whole.findings()


@pytest.mark.timeout(1200)
async def test_a_split_is_no_mismatch(soak: bool) -> None:
    made = Generated(1_000_000 if soak else 100_000, seed=7, weight=0.25)
    counts = (await verified(made, Rules())).counts
    assert {kind: count for kind, count in counts.classes.items() if count} == {Class.ONE_SIDED: made.count}
    assert (counts.mismatches, counts.rate) == (0, 0.0)


@pytest.mark.parametrize("size", [STEP, 7 * STEP + 3, 1000 * STEP, 5000 * STEP])
async def test_windows_of_any_size_count_the_same(size: int) -> None:
    """Also where a second copy lies 40 events later, in another window."""
    made = Generated(3000, seed=3, faults=0.2, delay=40 * STEP)
    expected = {**made.expected}
    for name, kind in expected.items():
        if kind is Class.DIFFERENT and name in made.only_truncated:
            expected[name] = Class.EQUAL  # these times say nothing
    report = await verified(made, Rules(RULES), size, TimeRule(is_compared=False))
    assert report.counts.classes == Counter(expected.values())
