"""The record as the checker keeps it: read once, states anew, by time and by identity, and gone on with later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from consistency.classes import Record
from consistency.ledger import STATES_PAGE, LedgerRecords, by_event_id, by_values, event_moment
from consistency.recorded import Recorded, RecordsUnavailable
from consistency.rows import Key, Span
from proxy.core import owed

pytestmark = pytest.mark.asyncio

ALWAYS = Span(-(2**62), 2**62)
SECOND = 1_000_000_000
BOTH = Record(owed.DELIVERED, owed.DELIVERED)


class Ledger:
    """An admin API with a record that tests change. page: receipts of one answer."""

    def __init__(self, page: int = 3) -> None:
        self.rows: list[list[Any]] = []
        self.from_ns: int | None = 0
        self.gaps: list[list[int]] = []
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.error = ""
        self._page = page

    def add(self, id: str, at: int, record: Record = BOTH, *, event_time: str = "", values: list[str] = []) -> None:  # noqa: B006
        texts = orjson.dumps(values).decode() if values else ""
        seq = len(self.rows) + 1
        self.rows.append([seq, id, at, event_time, texts, record.old, record.old_tries, record.new, record.new_tries])

    def change(self, id: str, old: int, new: int, new_tries: int = 1) -> None:
        for row in self.rows:
            if row[1] == id:
                row[5:] = [old, 1, new, new_tries]

    def drop(self, id: str) -> None:
        self.rows = [row for row in self.rows if row[1] != id]

    def count(self, path: str) -> int:
        return sum(each == path for each, _ in self.asked)

    async def ask(self, path: str, **query: Any) -> dict[str, Any]:
        self.asked.append((path, query))
        if self.error:
            raise RecordsUnavailable(self.error)
        if path == "ledger/covered":
            return {"from_ns": self.from_ns, "gaps": self.gaps}
        if path == "ledger/settled":
            seqs = {int(seq) for seq in query["seqs"].split(",")}
            assert len(seqs) <= STATES_PAGE
            return {"rows": [list(row) for row in self.rows if row[0] in seqs]}
        assert (path, query["route"]) == ("ledger/recorded", "events")
        behind = [list(row) for row in self.rows if row[0] > query["after_seq"]]
        page = behind[: self._page]
        return {"rows": page, "after_seq": page[-1][0] if page else query["after_seq"], "more": len(behind) > len(page)}


def records(ledger: Ledger, file: str = ":memory:") -> LedgerRecords:
    return LedgerRecords(ledger, "events", by_event_id, file)


async def test_events_of_a_span_over_many_pages() -> None:
    ledger = Ledger()
    for number in range(10):
        ledger.add(f"e{number}", number)
    found = await records(ledger).within(Span(2, 9))
    assert found == [Recorded(f"e{number}", BOTH, number, (f"e{number}",)) for number in range(2, 9)]


async def test_each_receipt_is_read_once() -> None:
    ledger = Ledger()
    ledger.add("a", 1)
    known = records(ledger)
    assert len(await known.within(ALWAYS)) == 1
    ledger.add("b", 2)
    assert len(await known.within(ALWAYS)) == 2
    assert [query["after_seq"] for path, query in ledger.asked if path == "ledger/recorded"] == [0, 1]
    assert ledger.count("ledger/settled") == 0, "nothing is open"


async def test_what_is_open_is_asked_for_again_until_it_is_settled() -> None:
    ledger = Ledger()
    ledger.add("a", 1, Record(owed.DELIVERED, owed.PENDING))
    ledger.add("b", 1, Record(owed.DEFERRED, owed.DELIVERED))
    ledger.add("c", 1, Record(owed.DELIVERED, owed.DEAD))
    known = records(ledger)
    await known.within(ALWAYS)
    ledger.change("a", owed.DELIVERED, owed.DELIVERED, 4)
    found = {each.identity: each.record for each in await known.within(ALWAYS)}
    assert found["a"] == Record(owed.DELIVERED, owed.DELIVERED, 1, 1, 4)
    assert [query["seqs"] for path, query in ledger.asked if path == "ledger/settled"] == ["1,2,3"]
    await known.within(ALWAYS)
    assert ledger.asked[-2][1] == {"seqs": "2,3"}


async def test_many_open_events_are_asked_for_in_bounded_questions() -> None:
    ledger = Ledger(page=5000)
    for number in range(2 * STATES_PAGE + 1):
        ledger.add(f"e{number}", 1, Record(owed.DELIVERED, owed.PENDING))
    known = records(ledger)
    await known.within(ALWAYS)
    for row in ledger.rows:
        row[7] = owed.DELIVERED
    assert {each.record for each in await known.within(ALWAYS)} == {BOTH}
    assert ledger.count("ledger/settled") == 3


async def test_suspects_are_looked_at_afresh() -> None:
    """Delivered when it was read, pending again since: a person replays, or a session's connection was lost."""
    ledger = Ledger()
    ledger.add("a", 7)
    known = records(ledger)
    await known.refresh()
    ledger.change("a", owed.DELIVERED, owed.PENDING)
    assert await known.find([Key("a", 0), Key("never heard of", 0)]) == [
        Recorded("a", Record(owed.DELIVERED, owed.PENDING), 7, ("a",))
    ]
    assert await known.find([Key("never heard of", 0)]) == []


async def test_what_the_ledger_has_dropped_meanwhile_is_known_as_it_was() -> None:
    ledger = Ledger()
    ledger.add("a", 7)
    known = records(ledger)
    await known.refresh()
    ledger.drop("a")
    assert [each.record for each in await known.find([Key("a", 7)])] == [BOTH]


async def test_several_events_of_one_identity_are_one() -> None:
    ledger = Ledger()
    ledger.add("a", 5, Record(owed.DELIVERED, owed.DELIVERED, 1, 1, 2))
    ledger.add("a", 3, Record(owed.DELIVERED, owed.PENDING))
    (found,) = await records(ledger).within(ALWAYS)
    assert found == Recorded("a", Record(owed.DELIVERED, owed.PENDING, 2, 2, 3), 3, ("a",))


async def test_identities_from_recorded_values() -> None:
    ledger = Ledger()
    ledger.add("id-1", 1, values=["sensor.a", "12:00"])
    ledger.add("id-2", 2, values=["only"])
    ledger.add("id-3", 3)
    found = await LedgerRecords(ledger, "events", by_values).within(ALWAYS)
    assert [(each.identity, each.ids) for each in found] == [
        ('["sensor.a","12:00"]', ("id-1",)),
        ("only", ("id-2",)),
        ("id-3", ("id-3",)),
    ]


async def test_the_events_own_time_counts_where_it_can_be_read() -> None:
    ledger = Ledger()
    ledger.add("a", 999, event_time="1970-01-01T00:00:07Z")
    ledger.add("b", 999, event_time="yesterday")
    ledger.add("c", 999)
    known = records(ledger)
    found = {each.identity: each.at for each in await known.within(ALWAYS)}
    assert found == {"a": 7 * SECOND, "b": 999, "c": 999}
    assert known.timeless == 1


async def test_coverage() -> None:
    ledger = Ledger()
    known = records(ledger)
    assert not known.covers(5), "before anything is known"
    ledger.from_ns, ledger.gaps = 10, [[20, 30]]
    await known.refresh()
    assert [known.covers(at) for at in (9, 10, 19, 20, 29, 30)] == [False, True, True, False, False, True]
    ledger.from_ns = None
    await known.refresh()
    assert not known.covers(10), "an empty record covers nothing"


async def test_one_goes_on_later_where_one_was(tmp_path: Path) -> None:
    ledger = Ledger()
    for number in range(7):
        ledger.add(f"e{number}", number, Record(owed.DELIVERED, owed.PENDING))
    file = str(tmp_path / "index.db")
    first = records(ledger, file)
    await first.refresh()
    first.close()
    for row in ledger.rows:
        row[7] = owed.DELIVERED
    ledger.add("later", 8)
    ledger.asked.clear()
    second = records(ledger, file)
    assert [each.record for each in await second.within(ALWAYS)] == [BOTH] * 8
    assert [query["after_seq"] for path, query in ledger.asked if path == "ledger/recorded"] == [7]


async def test_a_ledger_that_does_not_answer_is_an_error_and_may_answer_later() -> None:
    ledger = Ledger()
    ledger.add("a", 1)
    ledger.error = "the ledger is not connected"
    known = records(ledger)
    with pytest.raises(RecordsUnavailable, match="not connected"):
        await known.within(ALWAYS)
    ledger.error = ""
    assert len(await known.within(ALWAYS)) == 1


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("1700000000", 1_700_000_000 * SECOND),
        ("1700000000.25", 1_700_000_000 * SECOND + 250_000_000),
        ("1700000000123", 1_700_000_000_123_000_000),
        ("soon", None),
        ("nan", None),
        ("", None),
    ],
)
async def test_times_as_events_have_them(text: str, at: int | None) -> None:
    assert event_moment(text) == at
