"""A repair writes what is missing, never over anything, and nothing the second time."""

from __future__ import annotations

import pytest

from consistency.classes import Class, Record
from consistency.compare import Judge
from consistency.identity import Naming
from consistency.judge import Checker, Judged
from consistency.repair import NOTHING, Repair, Repaired
from consistency.rows import Row, Span
from consistency.rules import Rules
from consistency.stores.errors import StoreRefused
from proxy.core import owed
from tests.consistency.fakes import Clock, MemoryRecords, MemoryStore

pytestmark = pytest.mark.asyncio

WINDOW = Span(0, 10_000)
BOTH = Record.of(owed.DELIVERED, owed.DELIVERED)


class Stand:
    def __init__(self) -> None:
        self.old, self.new = MemoryStore(name="old"), MemoryStore(name="new")
        self.records = MemoryRecords()

    async def judge(self) -> Judged:
        judge = Judge(Rules(), Naming(), self.records.covers)
        return await Checker(self.old, self.new, self.records, judge, back_off=(0,), sleep=Clock().sleep).judge(WINDOW)

    async def stored(self, side: str) -> list[Row]:
        store: MemoryStore = getattr(self, side)
        return [row async for chunk in store.rows(WINDOW) for row in chunk]


def damaged(count: int = 1200) -> Stand:
    """Every third is lost by new, every third by old; three are in no store; one is different."""
    stand = Stand()
    for number in range(count):
        row = Row(f"e{number}", number, {"n": number})
        stand.old.put([row] * (number % 3 != 1))
        stand.new.put([row] * (number % 3 != 0))
        stand.records.put(row.identity, number, BOTH)
    for name in ("gone-1", "gone-2", "gone-3"):
        stand.records.put(name, 5, BOTH)
    stand.old.put([Row("other", 7, {"n": 1})])
    stand.new.put([Row("other", 7, {"n": 2})])
    stand.records.put("other", 7, BOTH)
    return stand


async def test_what_is_missing_is_written_and_nothing_the_second_time() -> None:
    stand = damaged()
    judged = await stand.judge()
    assert judged.counts.classes[Class.LOST] == 803
    repair = Repair(stand.old, stand.new)
    assert await repair.mend(judged.findings) == Repaired({"old": 400, "new": 400}, 3)
    judged = await stand.judge()
    assert {kind: count for kind, count in judged.counts.classes.items() if count} == {
        Class.EQUAL: 1200,
        Class.LOST: 3,
        Class.DIFFERENT: 1,
    }
    assert await repair.mend(judged.findings) == Repaired({"old": 0, "new": 0}, 3)
    assert [row.fields for row in await stand.stored("new") if row.identity == "other"] == [{"n": 2}]
    assert len(await stand.stored("old")) == len(await stand.stored("new")) == 1201


async def test_a_newer_value_that_came_meanwhile_stays() -> None:
    stand = Stand()
    stand.old.put([Row("a", 1, {"n": 1})])
    stand.records.put("a", 1, BOTH)
    judged = await stand.judge()
    stand.new.put([Row("a", 2, {"n": 2})])
    assert await Repair(stand.old, stand.new).mend(judged.findings) == NOTHING
    assert await stand.stored("new") == [Row("a", 2, {"n": 2})]


async def test_dry_it_writes_nothing_and_says_the_same() -> None:
    stand = damaged(90)
    findings = (await stand.judge()).findings
    dry = await Repair(stand.old, stand.new, is_dry=True).mend(findings)
    assert len(await stand.stored("old")) == 61
    assert dry == await Repair(stand.old, stand.new).mend(findings)


async def test_what_was_deleted_at_the_other_side_meanwhile_is_not_written() -> None:
    stand = damaged(3)
    findings = (await stand.judge()).findings
    stand.old.drop("e0")
    assert (await Repair(stand.old, stand.new).mend(findings)).written == {"old": 1, "new": 0}


async def test_pending_and_explained_events_are_not_the_repairs_business() -> None:
    stand = Stand()
    for state in (owed.PENDING, owed.REFUSED, owed.DEAD, owed.DISCARDED):
        stand.old.put([Row(f"e{state}", 1, {})])
        stand.records.put(f"e{state}", 1, Record.of(owed.DELIVERED, state))
    stand.old.put([Row("one-sided", 1, {})])
    stand.records.put("one-sided", 1, Record.of(owed.DELIVERED, owed.NOT_OWED))
    judged = await stand.judge()
    assert await Repair(stand.old, stand.new).mend(judged.findings) == NOTHING


async def test_a_store_that_refuses_is_an_error() -> None:
    stand = damaged(3)
    findings = (await stand.judge()).findings
    stand.new.errors = []
    stand.old.errors.append(StoreRefused("old", "read-only"))
    with pytest.raises(StoreRefused, match="read-only"):
        await Repair(stand.old, stand.new).mend(findings)
