"""One window judged: what is persistent and what was late, whose window an event is, what makes it inconclusive."""

from __future__ import annotations

from typing import Any

import pytest

from config.rules import FieldRule
from consistency.classes import Record
from consistency.compare import MOST_PATHS, OTHER_PATHS, TIME_PATH, Counts, Judge, TimeRule
from consistency.identity import Naming
from consistency.judge import BACK_OFF, YOUNG, Checker, Judged
from consistency.recorded import NoRecords, RecordsUnavailable
from consistency.rows import Row, Span
from consistency.rules import Rules
from consistency.shown import KEPT, MOST_DIFFERENCES, VALUE_LENGTH
from consistency.stores.errors import StoreDenied, StoreUnreachable
from consistency.stores.protocol import Traits
from proxy.core import owed
from tests.consistency.fakes import Clock, MemoryRecords, MemoryStore

pytestmark = pytest.mark.asyncio

WINDOW = Span(60, 120)
BOTH = Record.of(owed.DELIVERED, owed.DELIVERED)


class Stand:
    """Two stores, a record and a checker, all in memory."""

    def __init__(self, *rules: FieldRule, time: TimeRule | None = None, traits: Traits | None = None) -> None:
        self.old = MemoryStore(name="old", traits=traits)
        self.new = MemoryStore(name="new", traits=traits)
        self.records = MemoryRecords()
        self.clock = Clock()
        self.rules = Rules(rules)
        self.time = time
        self.naming = Naming(self.old.traits.precision, is_keyed_by_time=self.old.traits.is_keyed_by_time)

    def both(self, identity: str, at: int = 70, record: Record | None = BOTH, **fields: Any) -> None:
        """An event that is everywhere."""
        self.old.put([Row(identity, at, fields)])
        self.new.put([Row(identity, at, fields)])
        if record is not None:
            self.records.put(identity, at, record)

    async def judge(self, window: Span = WINDOW) -> Judged:
        judge = Judge(self.rules, self.naming, self.records.covers, self.time)
        return await Checker(self.old, self.new, self.records, judge, sleep=self.clock.sleep, wall=lambda: 121).judge(
            window
        )


def classes(judged: Judged) -> dict[str, int]:
    assert judged.inconclusive == ""
    return {str(name): count for name, count in judged.counts.classes.items() if count}


def told(judged: Judged) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(each.key.identity, str(each.kind), each.by) for each in judged.findings]


async def test_all_is_well() -> None:
    stand = Stand()
    for number in range(10):
        stand.both(f"e{number}", 60 + number, value=number)
    judged = await stand.judge()
    assert classes(judged) == {"equal": 10}
    assert (judged.findings, judged.counts.rate) == ([], 0.0)
    assert stand.clock.slept == [], "nothing to be read again"


async def test_events_of_probes_are_in_no_count_and_no_finding() -> None:
    stand = Stand()
    stand.both("there")
    stand.both("crossfade-probe-0123")
    stand.old.put([Row("crossfade-probe-4567", 70, {})])
    stand.records.put("crossfade-probe-4567", 70, BOTH)
    judged = await stand.judge()
    assert (classes(judged), judged.findings, judged.counts.settled) == ({"equal": 1}, [], 1)


async def test_an_empty_window_has_no_rate() -> None:
    judged = await Stand().judge()
    assert (classes(judged), judged.counts.rate) == ({}, None)


async def test_what_is_found_takes_little_however_large_rows_are() -> None:
    stand = Stand()
    for number in range(KEPT + 5):
        names = [f"n{number}-{each}" for each in range(30)]
        stand.both(f"e{number}", 60 + number % 60, None, **dict.fromkeys(names, "x" * 1000))
        stand.new.drop(f"e{number}")
        stand.new.put([Row(f"e{number}", 60 + number % 60, dict.fromkeys(names, "y" * 1000))])
        stand.records.put(f"e{number}", 60 + number % 60, BOTH)
    judged = await stand.judge()
    assert classes(judged) == {"different": KEPT + 5}
    values = [value for each in judged.findings for said in each.differences for value in (said.old, said.new)]
    assert {len(value) for value in values} == {VALUE_LENGTH}
    assert sorted(len(each.differences) for each in judged.findings) == [MOST_DIFFERENCES] * 5 + [30] * KEPT
    fields = judged.counts.fields
    assert (len(fields), fields[OTHER_PATHS]) == (MOST_PATHS + 1, 30 * (KEPT + 5) - MOST_PATHS)
    merged = Counts()
    for _ in range(3):
        merged.merge(judged.counts)
    assert (len(merged.fields), sum(merged.fields.values())) == (MOST_PATHS + 1, 3 * 30 * (KEPT + 5))


async def test_a_path_as_long_as_a_value_has_no_figures_of_its_own() -> None:
    stand = Stand()
    stand.old.put([Row("a", 70, {"n" * 300: 1})])
    stand.new.put([Row("a", 70, {"n" * 300: 2})])
    stand.records.put("a", 70, BOTH)
    assert (await stand.judge()).counts.fields == {OTHER_PATHS: 1}


async def test_edges_are_half_open() -> None:
    stand = Stand()
    for at in (59, 60, 119, 120):
        stand.both(f"at-{at}", at)
    assert classes(await stand.judge()) == {"equal": 2}


async def test_what_is_lost_is_named_after_three_more_readings() -> None:
    stand = Stand()
    stand.both("there")
    stand.old.put([Row("by-new", 70, {})])
    stand.records.put("by-new", 70, BOTH)
    stand.new.put([Row("by-old", 71, {})])
    stand.records.put("by-old", 71, BOTH)
    stand.records.put("by-both", 72, BOTH)
    judged = await stand.judge()
    assert told(judged) == [
        ("by-new", "lost", ("new",)),
        ("by-old", "lost", ("old",)),
        ("by-both", "lost", ("old", "new")),
    ]
    assert judged.findings[0].ids == ("id-by-new",)
    assert classes(judged) == {"equal": 1, "lost": 3}
    assert judged.counts.rate == 0.75
    assert stand.clock.slept == list(BACK_OFF)
    assert {key.identity for key in stand.old.fetched} == {"by-new", "by-old", "by-both"}, "suspects alone"


@pytest.mark.parametrize("reading", range(len(BACK_OFF)))
async def test_what_is_visible_at_a_later_reading_was_late(reading: int) -> None:
    stand = Stand()
    stand.old.put([Row("slow", 70, {"a": 1})])
    stand.records.put("slow", 70, BOTH)
    stand.clock.then = [lambda: None] * reading + [lambda: stand.new.put([Row("slow", 70, {"a": 1})])]
    judged = await stand.judge()
    assert (classes(judged), judged.findings) == ({"late": 1}, [])
    assert stand.clock.slept == list(BACK_OFF[: reading + 1]), "and is not read once more"
    assert judged.counts.rate == 0.0


async def test_late_and_different_is_different() -> None:
    stand = Stand()
    stand.old.put([Row("slow", 70, {"a": 1})])
    stand.records.put("slow", 70, BOTH)
    stand.clock.then = [lambda: stand.new.put([Row("slow", 70, {"a": 2})])]
    assert classes(await stand.judge()) == {"different": 1}


async def test_a_difference_that_passes_is_none() -> None:
    """Old wrote it twice in a row, and new's second writing was under way."""
    stand = Stand()
    stand.both("a", value=1)
    stand.old.drop("a")
    stand.old.put([Row("a", 70, {"value": 2})])

    def catch_up() -> None:
        stand.new.drop("a")
        stand.new.put([Row("a", 70, {"value": 2})])

    stand.clock.then = [lambda: None, catch_up]
    assert classes(await stand.judge()) == {"equal": 1}


async def test_differences_are_named_with_paths_and_values() -> None:
    stand = Stand(FieldRule(path="/t", compare="tolerance", abs=0.1))
    stand.old.put([Row("a", 70, {"t": 1.0, "n": 5, "list": [{"x": 1}, {"x": 2}]})])
    stand.new.put([Row("a", 70, {"t": 1.05, "n": 5.0, "list": [{"x": 1}, {"x": 3}], "weather": "rain"})])
    stand.records.put("a", 70, BOTH)
    judged = await stand.judge()
    (finding,) = judged.findings
    assert [(each.path, each.reason, each.old, each.new) for each in finding.differences] == [
        ("/n", "type", 5, 5.0),
        ("/list/1/x", "value", 2, 3),
    ]
    assert dict(judged.counts.fields) == {"/n": 1, "/list/*/x": 1}
    assert dict(judged.counts.tolerated) == {"/t": 1}
    assert judged.counts.enriched == 1


@pytest.mark.parametrize(
    ("record", "at_old", "at_new", "found"),
    [
        (Record.of(owed.DELIVERED, owed.NOT_OWED), True, False, "one-sided"),
        (Record.of(owed.NOT_OWED, owed.DELIVERED), False, True, "one-sided"),
        (Record.of(owed.DELIVERED, owed.PENDING), True, False, "pending"),
        (Record.of(owed.DEFERRED, owed.DELIVERED), False, True, "one-sided"),
        (Record.of(owed.DELIVERED, owed.DEAD), True, False, "dead"),
        (Record.of(owed.DELIVERED, owed.REFUSED), True, False, "refused"),
        (None, True, False, "foreign"),
        (None, False, True, "foreign"),
        (None, True, True, "foreign"),
    ],
)
async def test_nobody_is_judged_on_what_they_were_not_owed(
    record: Record | None, at_old: bool, at_new: bool, found: str
) -> None:
    stand = Stand()
    if at_old:
        stand.old.put([Row("a", 70, {})])
    if at_new:
        stand.new.put([Row("a", 70, {})])
    if record is not None:
        stand.records.put("a", 70, record)
    judged = await stand.judge()
    assert classes(judged) == {found: 1}
    assert judged.counts.mismatches == 0
    assert judged.is_pending is (found == "pending")
    assert judged.counts.settled == (0 if found in ("pending", "foreign") else 1)


async def test_new_was_down_for_an_hour_and_came_back() -> None:
    """Pending, whatever the stores say; then equal. Never a mismatch."""
    stand = Stand()
    for number in range(50):
        stand.old.put([Row(f"e{number}", 70, {"n": number})])
        stand.records.put(f"e{number}", 70, Record.of(owed.DELIVERED, owed.PENDING))
    judged = await stand.judge()
    assert (classes(judged), judged.is_pending, judged.counts.rate) == ({"pending": 50}, True, None)
    for number in range(50):
        stand.new.put([Row(f"e{number}", 70, {"n": number})])
        stand.records.put(f"e{number}", 70, BOTH)
    judged = await stand.judge()
    assert (classes(judged), judged.is_pending) == ({"equal": 50}, False)


async def test_outside_the_record_two_stores_speak_for_themselves() -> None:
    stand = Stand()
    stand.records.covered_from = 1000
    stand.both("equal", record=None)
    stand.old.put([Row("old-alone", 70, {})])
    stand.new.put([Row("new-alone", 71, {}), Row("twice", 72, {}), Row("twice", 72, {})])
    stand.old.put([Row("twice", 72, {})])
    judged = await stand.judge()
    assert classes(judged) == {"equal": 1, "unrecorded": 2, "duplicate": 1}
    assert told(judged) == [
        ("old-alone", "unrecorded", ("new",)),
        ("new-alone", "unrecorded", ("old",)),
        ("twice", "duplicate", ("new",)),
    ]


async def test_without_a_ledger_every_identity_is_outside_of_its_record() -> None:
    stand = Stand()
    stand.both("a", record=None)
    stand.old.put([Row("b", 70, {})])
    judge = Judge(stand.rules, stand.naming, NoRecords().covers)
    judged = await Checker(stand.old, stand.new, NoRecords(), judge, sleep=stand.clock.sleep, wall=lambda: 121).judge(
        WINDOW
    )
    assert classes(judged) == {"equal": 1, "unrecorded": 1}


async def test_a_retry_whose_first_try_arrived_is_no_duplicate() -> None:
    stand = Stand()
    stand.both("retried", record=Record.of(owed.DELIVERED, owed.DELIVERED, 1, 2))
    stand.new.put([Row("retried", 70, {})])
    stand.both("doubled")
    stand.new.put([Row("doubled", 70, {})])
    judged = await stand.judge()
    assert classes(judged) == {"redelivered": 1, "duplicate": 1}
    assert told(judged) == [("doubled", "duplicate", ("new",))]


async def test_of_several_rows_each_one_is_compared() -> None:
    for odd in range(3):
        stand = Stand()
        stand.both("a", record=Record.of(owed.DELIVERED, owed.DELIVERED, 1, 9), v=1)
        stand.new.drop("a")
        stand.new.put([Row("a", 70, {"v": 2 if number == odd else 1}) for number in range(3)])
        assert classes(await stand.judge()) == {"different": 1}


async def test_an_event_is_counted_in_one_window_alone() -> None:
    """New has its own time for it, in the next window: two windows see a row of it, and one of them counts it."""
    stand = Stand(time=TimeRule(is_compared=False))
    stand.old.put([Row("a", 119, {})])
    stand.new.put([Row("a", 121, {})])
    stand.records.put("a", 118, BOTH)
    assert classes(await stand.judge(WINDOW)) == {"equal": 1}
    assert stand.clock.slept == [], "nobody waits for what is there"
    assert classes(await stand.judge(Span(120, 180))) == {}
    stand.records.covered_from = 1000
    stand.old.put([Row("b", 119, {})])
    stand.new.put([Row("b", 121, {})])
    assert classes(await stand.judge(WINDOW)) == {"equal": 2}
    assert classes(await stand.judge(Span(120, 180))) == {}, "home is where old has it"


async def test_a_record_of_another_window_explains_a_row() -> None:
    """A client that wrote down the wrong time: nothing is foreign that is on record."""
    stand = Stand(time=TimeRule(is_compared=False))
    stand.both("a", 70, record=None)
    stand.records.put("a", 500, BOTH)
    assert classes(await stand.judge(WINDOW)) == {}
    judged = await stand.judge(Span(480, 540))
    assert (judged.counts.settled, judged.counts.mismatches) == (1, 0)


@pytest.mark.parametrize(
    ("time", "new_at", "found"),
    [
        (TimeRule(), 70, "equal"),
        (TimeRule(), 71, "different"),
        (TimeRule(within=1), 71, "tolerated"),
        (TimeRule(within=1), 72, "different"),
        (TimeRule(is_compared=False), 90, "equal"),
    ],
)
async def test_times_are_compared_as_configured(time: TimeRule, new_at: int, found: str) -> None:
    stand = Stand(time=time)
    stand.old.put([Row("a", 70, {})])
    stand.new.put([Row("a", new_at, {})])
    stand.records.put("a", 70, BOTH)
    judged = await stand.judge()
    assert classes(judged) == {found: 1}
    assert [each.differences[0].path for each in judged.findings] == [TIME_PATH] * (found == "different")


async def test_points_are_named_with_their_time_at_the_coarser_precision() -> None:
    stand = Stand(traits=Traits(is_keyed_by_time=True, precision=10))
    stand.records.covered_from = 1000
    stand.old.put([Row("m,a=1", 70, {"x": 1}), Row("m,a=1", 73, {"y": 2}), Row("m,a=1", 80, {"x": 3})])
    stand.new.put([Row("m,a=1", 70, {"x": 1, "y": 2}), Row("m,a=1", 80, {"x": 3})])
    assert classes(await stand.judge()) == {"equal": 2}, "two points of one step are one, with the fields of both"
    stand.old.put([Row("m,a=1", 75, {"y": 9})])
    judged = await stand.judge()
    assert classes(judged) == {"different": 1, "equal": 1}, "the last one's value holds"
    assert judged.findings[0].differences[0][2:] == (9, 2)


async def test_what_vanished_at_both_is_not_judged() -> None:
    stand = Stand()
    stand.records.covered_from = 1000
    stand.old.put([Row("a", 70, {})])
    stand.clock.then = [lambda: stand.old.drop("a")]
    assert classes(await stand.judge()) == {}


@pytest.mark.parametrize("side", ["old", "new"])
@pytest.mark.parametrize("after", [0, 1])
async def test_a_store_that_cannot_say_makes_it_inconclusive(side: str, after: int) -> None:
    """Also at a later reading, when something looked lost: no mismatch, no pass, nothing counted; and later all is."""
    stand = Stand()
    stand.both("a")
    stand.records.put("gone", 70, BOTH)
    store: MemoryStore = getattr(stand, side)
    error = (StoreDenied if after else StoreUnreachable)(side, "says no")
    if after:
        stand.clock.then = [lambda: store.errors.append(error)]
    else:
        store.errors.append(error)
    judged = await stand.judge()
    assert judged.inconclusive == f"store {side}: says no"
    assert (judged.counts.settled, judged.findings) == (0, [])
    assert classes(await stand.judge()) == {"equal": 1, "lost": 1}


async def test_a_ledger_that_cannot_say_makes_it_inconclusive() -> None:
    stand = Stand()
    stand.both("a")
    stand.records.errors.append(RecordsUnavailable("the ledger is not there"))
    judged = await stand.judge()
    assert (judged.inconclusive, judged.counts.settled) == ("the ledger is not there", 0)


async def test_what_cannot_be_compared_makes_it_inconclusive() -> None:
    stand = Stand()
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    other: Any = 1
    for _ in range(5000):
        other = [other]
    stand.old.put([Row("a", 70, {"deep": deep})])
    stand.new.put([Row("a", 70, {"deep": other})])
    stand.records.put("a", 70, BOTH)
    assert (await stand.judge()).inconclusive == "a value is nested too deep"


async def test_an_event_that_was_recorded_while_the_stores_were_read_is_ours() -> None:
    """Its row is read, and then its receipt is committed: the record is asked after the stores."""
    stand = Stand()
    stand.old.put([Row("a", 70, {})])
    stand.records.then = [lambda: stand.records.put("a", 70, BOTH)]
    assert classes(await stand.judge()) == {"lost": 1}


@pytest.mark.parametrize("reading", range(1 + len(BACK_OFF)))
async def test_a_receipt_that_comes_a_moment_after_its_row(reading: int) -> None:
    stand = Stand()
    stand.old.put([Row("a", 70, {})])
    stand.records.then = [lambda: None] * (1 + reading) + [lambda: stand.records.put("a", 70, BOTH)]
    assert classes(await stand.judge()) == {"lost": 1}


async def test_of_long_ago_nothing_is_waited_for() -> None:
    stand = Stand()
    stand.old.put([Row("a", 70, {})])
    stand.records.put("a", 70, BOTH)
    stand.old.put([Row("theirs", 71, {})])
    judge = Judge(stand.rules, stand.naming, stand.records.covers)
    checker = Checker(
        stand.old, stand.new, stand.records, judge, sleep=stand.clock.sleep, wall=lambda: WINDOW.end + YOUNG
    )
    assert classes(await checker.judge(WINDOW)) == {"lost": 1, "foreign": 1}
    assert stand.clock.slept == []
    assert [key.identity for key in stand.old.fetched] == ["a"], "read again once"


@pytest.mark.parametrize("new_rows", [0, 1])
async def test_one_of_two_events_of_an_identity_was_refused(new_rows: int) -> None:
    stand = Stand()
    stand.old.put([Row("a", 70, {})])
    stand.new.put([Row("a", 70, {})] * new_rows)
    stand.records.put("a", 70, BOTH)
    stand.records.add("a", 71, Record.of(owed.DELIVERED, owed.REFUSED))
    assert classes(await stand.judge()) == ({"equal": 1} if new_rows else {"lost": 1})


async def test_two_events_of_an_identity_are_compared_each_with_its_own() -> None:
    stand = Stand()
    for at, value in ((70, 1), (71, 2)):
        stand.old.put([Row("a", at, {"v": value})])
        stand.records.add("a", at, BOTH)
    stand.new.put([Row("a", 71, {"v": 2}), Row("a", 70, {"v": 1})])
    assert classes(await stand.judge()) == {"equal": 1}
    stand.new.drop("a")
    stand.new.put([Row("a", 71, {"v": 2})])
    judged = await stand.judge()
    assert classes(judged) == {"different": 1}
    assert [each.path for each in judged.findings[0].differences][-1] == "(rows)"
    stand.old.drop("a")
    stand.old.put([Row("a", 71, {"v": 2})])
    assert classes(await stand.judge()) == {"equal": 1}, "both keep one row of an identity"


async def test_what_begins_outside_of_all_windows_is_judged_where_it_is_found() -> None:
    """An identity with an earlier event, or with a row of an impossible time: it has a home that nobody judges."""
    stand = Stand()
    stand.records.put("a", 10, BOTH)
    stand.records.add("a", 70, BOTH)
    stand.old.put([Row("a", 70, {}), Row("b", -(10**12), {})])
    stand.records.put("b", 80, BOTH)
    judge = Judge(stand.rules, stand.naming, stand.records.covers)
    checker = Checker(
        stand.old,
        stand.new,
        stand.records,
        judge,
        is_inside=lambda at: 60 <= at < 180,
        sleep=stand.clock.sleep,
        wall=lambda: 181,
    )
    assert classes(await checker.judge(WINDOW)) == {"lost": 2}
    assert classes(await checker.judge(Span(120, 180))) == {}
    assert classes(await checker.judge(WINDOW)) == {"lost": 2}, "and there again"


async def test_stores_of_two_precisions() -> None:
    """Old keeps nanoseconds and new tens of them: what is read again is the whole step, at both."""
    stand = Stand(traits=Traits(is_keyed_by_time=True))
    stand.naming = Naming(10, is_keyed_by_time=True)
    stand.records.covered_from = 1000
    stand.old.put([Row("m", 72, {"x": 1}), Row("m", 75, {"y": 2})])
    stand.new.put([Row("m", 70, {"x": 1})])
    judged = await stand.judge()
    assert [each.path for each in judged.findings[0].differences] == ["/y"], "also after it was read again"
    stand.new.put([Row("m", 70, {"y": 2})])
    assert classes(await stand.judge()) == {"equal": 1}
    stand.old.put([Row("late", 83, {"x": 1})])
    stand.clock.then = [lambda: stand.new.put([Row("late", 80, {"x": 1})])]
    assert classes(await stand.judge()) == {"equal": 1, "late": 1}


async def test_whatever_goes_wrong_makes_it_inconclusive(caplog: pytest.LogCaptureFixture) -> None:
    stand = Stand()
    stand.both("a")
    stand.records.errors.append(KeyError("from_ns"))
    assert (await stand.judge()).inconclusive == "KeyError: 'from_ns'"
    assert "a window could not be judged" in caplog.text
    assert classes(await stand.judge()) == {"equal": 1}
