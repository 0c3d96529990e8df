"""What sums of both stores spare: rows that are read are those of series and windows where the sums differ."""

from __future__ import annotations

from typing import Any

import pytest

from config.consistency import Check
from consistency.assembly import checker_of
from consistency.classes import Class
from consistency.coarse import PAGE, Coarse, is_possible
from consistency.grid import Grid
from consistency.recorded import NoRecords
from consistency.report import Report
from consistency.rows import Row, Span
from consistency.rules import Rules
from consistency.stores.errors import StoreUnreachable
from consistency.stores.protocol import Traits
from consistency.verify import OneWindow, all_windows
from tests.consistency.fakes import MemoryStore

POINTS = Traits(is_keyed_by_time=True, fingerprint="sums")
SIZE = 10


class Stand:
    """Two stores of points, checked with and without reading every row."""

    def __init__(self, **check: Any) -> None:
        stores = {side: {"influxdb1": {"url": "http://h", "database": side}} for side in ("old", "new")}
        self.check = Check.model_validate({"routes": ["events"], "identity": "none", **stores} | check, strict=False)
        self.old, self.new = (MemoryStore(name=side, traits=POINTS) for side in ("old", "new"))

    def both(self, series: str, at: int, **fields: Any) -> None:
        for store in (self.old, self.new):
            store.put([Row(series, at, fields)])

    async def verify(self, span: Span, *, is_coarse: bool = True) -> Report:
        grid, report = Grid(span, SIZE), Report(("events",), span, "two-way")
        rules = Rules(self.check.rules, only_new=self.check.only_new)
        checker = checker_of(
            self.check, rules, (self.old, self.new), NoRecords(), is_inside=lambda _: True, back_off=()
        )
        coarse = Coarse(self.check, self.old, self.new, SIZE, span.end) if is_coarse else None
        await all_windows(grid, OneWindow(checker, None, coarse), report, lambda *_: None)
        return report


def told(report: Report) -> dict[str, int]:
    return {str(kind): count for kind, count in report.counts.classes.items() if count}


pytestmark = pytest.mark.asyncio


async def test_what_has_the_same_sums_is_not_read() -> None:
    stand = Stand()
    for at in range(100):
        stand.both("a", at, value=at)
        stand.both("b", at, value=at / 3)
    report = await stand.verify(Span(0, 100))
    assert (told(report), report.verdict) == ({"equal": 200}, "pass")
    assert stand.old.read == stand.new.read == []
    assert stand.old.summed == [Span(0, 100)], "a page of windows at once"


async def test_of_what_has_not_that_series_is_read_in_that_window() -> None:
    stand = Stand()
    for at in range(100):
        stand.both("a", at, value=at)
        if at != 42:
            stand.both("b", at, value=at)
    stand.old.put([Row("b", 42, {"value": 42})])
    report = await stand.verify(Span(0, 100))
    assert told(report) == {"equal": 199, "unrecorded": 1}
    assert stand.new.read == [frozenset({"b"})]
    assert [(finding.key.at, finding.by) for finding in report.findings()] == [(42, ("new",))]


async def test_texts_have_no_sum() -> None:
    stand = Stand()
    for at in range(20):
        stand.both("a", at, value=at)
        stand.both("words", at, state="on")
    stand.new.drop("words")
    stand.new.put([Row("words", at, {"state": "off" if at == 13 else "on"}) for at in range(20)])
    assert told(await stand.verify(Span(0, 20))) == {"equal": 39, "different": 1}
    assert stand.old.read == [frozenset({"words"})] * 2


async def test_one_and_one_point_zero_have_the_same_sum_and_are_not_the_same() -> None:
    stand = Stand()
    stand.old.put([Row("a", 3, {"value": 5})])
    stand.new.put([Row("a", 3, {"value": 5.0})])
    assert told(await stand.verify(Span(0, 10))) == {"different": 1}


async def test_sums_in_another_order_are_the_same() -> None:
    stand = Stand()
    values = [0.1 * number for number in range(1, 10)]
    stand.old.put([Row("a", at, {"value": value}) for at, value in enumerate(values)])
    stand.new.put([Row("a", at, {"value": value}) for at, value in enumerate(values)])
    original = stand.new.fingerprints

    async def shaken(span: Span, step: int) -> Any:
        said = await original(span, step)
        for each in said.segments.values():
            each.figures["value float sum"] *= 1 + 1e-15  # type: ignore[index]
        return said

    stand.new.fingerprints = shaken  # type: ignore[method-assign]
    assert told(await stand.verify(Span(0, 10))) == {"equal": 9}
    assert stand.new.read == []


async def test_windows_that_are_cut_and_pages() -> None:
    stand = Stand()
    for at in range(0, 1500, 5):
        stand.both("a", at, value=at)
    report = await stand.verify(Span(3, 1497))
    assert told(report) == {"equal": 299}
    assert stand.old.read == [None, None], "the first and the last window, which are shorter"
    assert [span.end - span.start for span in stand.old.summed] == [PAGE * SIZE, PAGE * SIZE, 280]


async def test_enrichment_that_is_ignored_and_fields_that_are_cost_no_reading() -> None:
    stand = Stand(rules=[{"path": "/noise", "compare": "ignore"}])
    for at in range(30):
        stand.old.put([Row("a", at, {"value": at, "noise": at})])
        stand.new.put([Row("a", at, {"value": at, "noise": -at, "weather": 7})])
    assert told(await stand.verify(Span(0, 30))) == {"equal": 30}
    assert stand.new.read == []
    strict = Stand(rules=[{"path": "/noise", "compare": "ignore"}], only_new="compare")
    strict.old, strict.new = stand.old, stand.new
    assert told(await strict.verify(Span(0, 30))) == {"different": 30}
    named = Stand(rules=[{"path": "/weather", "compare": "exact"}, {"path": "/noise", "compare": "ignore"}])
    named.old, named.new = stand.old, stand.new
    assert told(await named.verify(Span(0, 30))) == {"different": 30}


async def test_what_changed_places_is_seen_when_every_row_is_read() -> None:
    """The limit of sums, which the report says; nothing else."""
    stand = Stand()
    stand.old.put([Row("a", 3, {"value": 1}), Row("a", 4, {"value": 2})])
    stand.new.put([Row("a", 3, {"value": 2}), Row("a", 4, {"value": 1})])
    assert told(await stand.verify(Span(0, 10))) == {"equal": 2}
    assert told(await stand.verify(Span(0, 10), is_coarse=False)) == {"different": 2}


async def test_a_store_that_makes_no_sums_for_now_is_inconclusive() -> None:
    stand = Stand()
    for at in range(30):
        stand.both("a", at, value=at)
    stand.new.errors.append(StoreUnreachable("new", "no answer"))
    report = await stand.verify(Span(0, 30))
    assert report.verdict == "inconclusive"
    assert report.as_dict((), 10)["windows"] == {"judged": 2, "pending": 0, "inconclusive": 1}


async def test_a_window_is_not_counted_twice_when_it_is_judged_again() -> None:
    stand = Stand()
    for at in range(20):
        stand.both("a", at, value=at)
    grid, report = Grid(Span(0, 20), SIZE), Report(("events",), Span(0, 20), "two-way")
    checker = checker_of(
        stand.check, Rules(()), (stand.old, stand.new), NoRecords(), is_inside=lambda _: True, back_off=()
    )
    one = OneWindow(checker, None, Coarse(stand.check, stand.old, stand.new, SIZE, 20))
    for window in (*grid.windows(), *grid.windows()):
        report.add(await one.judge(window, ()))
    assert report.counts.classes[Class.EQUAL] == 20


@pytest.mark.parametrize(
    ("old", "new", "rules", "said"),
    [
        (POINTS, POINTS, [], True),
        (POINTS, POINTS, [{"path": "/value", "compare": "tolerance", "abs": 1}], True),
        (POINTS, POINTS, [{"path": "/state", "compare": "regex", "pattern": "o."}], False),
        (POINTS, POINTS._replace(fingerprint="others"), [], False),
        (POINTS._replace(fingerprint=""), POINTS._replace(fingerprint=""), [], False),
    ],
)
async def test_where_it_is_possible(old: Traits, new: Traits, rules: list[dict[str, Any]], said: bool) -> None:
    check = Stand(rules=rules).check
    assert is_possible(check, MemoryStore(traits=old), MemoryStore(name="new", traits=new)) is said
