"""The record as the checker keeps it: read once, states anew, by time and by identity, and gone on with later."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import apsw
import pytest

from consistency.classes import Record
from consistency.ledger import (
    FEW,
    LEAST_DELAY,
    MOST_IDS,
    STATES_PAGE,
    LedgerRecords,
    by_event_id,
    by_values,
    event_moment,
)
from consistency.recorded import Recorded, RecordsUnavailable
from consistency.rows import Key, Span
from proxy.core.owed import DEAD, DEFERRED, DELIVERED, NOT_OWED, PENDING, REFUSED
from tests.consistency.fakes import Ledger

pytestmark = pytest.mark.asyncio

ALWAYS = Span(-(2**62), 2**62)
NEVER = Span(0, 0)
SECOND = 1_000_000_000
NOON = 1_769_860_800 * SECOND
"""2026-01-31T12:00:00Z"""
BOTH = Record.of(DELIVERED, DELIVERED)


def records(ledger: Ledger, file: str = "") -> LedgerRecords:
    return LedgerRecords(ledger, ["events"], by_event_id, db=apsw.Connection(file))


def states(found: list[Recorded]) -> dict[str, Record]:
    return {each.identity: each.record for each in found}


async def test_events_of_a_span_over_many_pages() -> None:
    ledger = Ledger()
    for number in range(10):
        ledger.add(f"e{number}", number)
    found = await records(ledger).about(Span(2, 9), [])
    assert found == [Recorded(f"e{number}", BOTH, number, (f"e{number}",)) for number in range(2, 9)]


async def test_what_is_deferred_is_asked_about_some_at_a_time_until_it_is_owed() -> None:
    ledger = Ledger(page=2000)
    for number in range(STATES_PAGE + 100):
        ledger.add(f"e{number}", number, old=DEFERRED)
    noted: list[int] = []
    read = LedgerRecords(ledger, ["events"], by_event_id, on_receipts=noted.extend)
    await read.refresh()
    noted.clear()
    for _ in range(2):
        await read.look_at_deferred()
    assert noted == [], "nothing is new"
    ledger.change("e7", PENDING, DELIVERED)
    ledger.change(f"e{STATES_PAGE + 7}", DELIVERED, DELIVERED)
    ledger.asked.clear()
    for _ in range(2):
        await read.look_at_deferred()
    assert sorted(noted) == [7, STATES_PAGE + 7]
    assert [len(seqs.split(",")) for seqs in ledger.questions("ledger/settled", "seqs")] == [STATES_PAGE, 100]
    assert await read.is_pending(Span(7, 8))
    ledger.asked.clear()
    for _ in range(2):
        await read.look_at_deferred()
    assert sum(len(seqs.split(",")) for seqs in ledger.questions("ledger/settled", "seqs")) == STATES_PAGE + 98


async def test_identities_by_name_whatever_their_time_is() -> None:
    ledger = Ledger()
    for number in range(10):
        ledger.add(f"e{number}", number)
    keys = [Key("e1", 777), Key("e8", 8), Key("never heard of", 0), Key("e1", 778)]
    assert sorted(states(await records(ledger).about(NEVER, keys))) == ["e1", "e8"]
    assert sorted(states(await records(ledger).about(Span(8, 10), keys))) == ["e1", "e8", "e9"]


async def test_each_receipt_is_read_once() -> None:
    ledger = Ledger()
    ledger.add("a", 1)
    known = records(ledger)
    assert len(await known.about(ALWAYS, [])) == 1
    ledger.add("b", 2)
    assert len(await known.about(ALWAYS, [])) == 2
    assert ledger.questions("ledger/recorded", "after_seq") == [0, 1]
    assert ledger.questions("ledger/settled", "seqs") == [], "nothing is open"


async def test_several_routes_that_share_their_stores() -> None:
    ledger = Ledger()
    for number in range(9):
        ledger.add(f"e{number}", number, route=("events", "stream", "other")[number % 3])
    known = LedgerRecords(ledger, ["events", "stream"], by_event_id)
    for _ in range(2):
        assert sorted(states(await known.about(ALWAYS, []))) == ["e0", "e1", "e3", "e4", "e6", "e7"]


async def test_receipts_from_long_before_are_not_read() -> None:
    ledger = Ledger()
    for number in range(10):
        ledger.add(f"e{number}", NOON + number * SECOND)
    known = LedgerRecords(ledger, ["events"], by_event_id, since=NOON + 7 * SECOND)
    assert sorted(states(await known.about(ALWAYS, []))) == ["e7", "e8", "e9"]
    assert not known.covers(NOON), "and nothing is said of that time"


async def test_what_is_not_settled_for_good_is_asked_for_again_when_it_matters() -> None:
    ledger = Ledger()
    ledger.add("pending", 1, DELIVERED, PENDING)
    ledger.add("refused", 2, DELIVERED, REFUSED)
    ledger.add("dead", 3, DELIVERED, DEAD)
    ledger.add("deferred", 4, DEFERRED, DELIVERED)
    ledger.add("settled", 5, DELIVERED, NOT_OWED)
    ledger.add("another time", 100, DELIVERED, PENDING)
    known = records(ledger)
    await known.about(Span(0, 10), [])
    for name in ("pending", "refused", "dead", "deferred"):
        ledger.change(name, DELIVERED, DELIVERED, 4)
    found = states(await known.about(Span(0, 10), []))
    assert {found[name] for name in ("pending", "refused", "dead", "deferred")} == {
        Record.of(DELIVERED, DELIVERED, 1, 4)
    }
    assert ledger.questions("ledger/settled", "seqs") == ["1,2,3,4"] * 2
    await known.about(Span(0, 10), [])
    assert len(ledger.questions("ledger/settled", "seqs")) == 2, "they are delivered now"


async def test_many_open_events_are_asked_for_in_bounded_questions() -> None:
    ledger = Ledger(page=5000)
    for number in range(2 * STATES_PAGE + 1):
        ledger.add(f"e{number}", 1, DELIVERED, PENDING)
    known = records(ledger)
    await known.about(ALWAYS, [])
    for row in ledger.rows:
        row[7] = DELIVERED
    assert set(states(await known.about(ALWAYS, [])).values()) == {BOTH}
    assert len(ledger.questions("ledger/settled", "seqs")) == 6


async def test_what_the_ledger_has_dropped_meanwhile_is_known_as_it_was() -> None:
    ledger = Ledger()
    ledger.add("a", 7)
    ledger.add("b", 8)
    known = records(ledger)
    await known.refresh()
    del ledger.rows[0]
    assert states(await known.about(NEVER, [Key("a", 7)])) == {"a": BOTH}


async def test_another_ledger_whose_numbers_began_anew_is_read_from_its_beginning() -> None:
    ledger = Ledger()
    for number in range(5):
        ledger.add(f"e{number}", number, DELIVERED, PENDING)
    known = records(ledger)
    await known.refresh()
    ledger.wipe()
    ledger.add("new one", 1)
    assert states(await known.about(ALWAYS, [])) == {"new one": BOTH}


async def test_a_state_is_only_of_its_own_event() -> None:
    """A number that means another event by now changes nothing."""
    ledger = Ledger()
    ledger.add("a", 1, DELIVERED, PENDING)
    known = records(ledger)
    await known.refresh()
    ledger.wipe()
    ledger.add("another", 1)
    assert states(await known.about(NEVER, [Key("a", 1)]))["a"] == Record.of(DELIVERED, PENDING)


async def test_several_events_of_one_identity_are_one() -> None:
    ledger = Ledger()
    ledger.add("a", 5, tries=2)
    ledger.add("a", 3, DELIVERED, PENDING)
    (found,) = await records(ledger).about(Span(5, 6), [])
    joined = Record.of(DELIVERED, DELIVERED, 1, 2).joined(Record.of(DELIVERED, PENDING))
    assert found == Recorded("a", joined, 3, ("a",)), "with the one that is outside of the span"


async def test_identities_from_recorded_values() -> None:
    ledger = Ledger()
    ledger.add("id-1", 1, values=("sensor.a", "12:00"))
    ledger.add("id-2", 2, values=("only",))
    ledger.add("id-3", 3)
    ledger.add("id-4", 4, values=("",))
    ledger.add("id-5", 5, values=("sensor.a", ""))
    found = await LedgerRecords(ledger, ["events"], by_values).about(ALWAYS, [])
    assert {each.identity: each.ids for each in found} == {
        '["sensor.a","12:00"]': ("id-1",),
        "only": ("id-2",),
        "id-3": ("id-3",),
        "id-4": ("id-4",),
        "id-5": ("id-5",),
    }


async def test_not_all_of_a_million_ids_are_named() -> None:
    ledger = Ledger(page=5000)
    for number in range(MOST_IDS + 30):
        ledger.add(f"id-{number}", 1, values=("same",))
    (found,) = await LedgerRecords(ledger, ["events"], by_values).about(ALWAYS, [])
    assert (len(found.ids), found.record.new.acknowledged) == (MOST_IDS, MOST_IDS + 30)


async def test_the_events_own_time_counts_where_it_can_be_believed() -> None:
    ledger = Ledger(page=100)
    times = {
        "2026-01-31T11:59:53Z": NOON - 7 * SECOND,
        str(NOON // SECOND - 60): NOON - 60 * SECOND,
        "yesterday": NOON,
        "": NOON,
        "1970-01-01T00:00:00Z": NOON,
        "0001-01-01T00:00:00Z": NOON,
        "9999-12-31T23:59:59Z": NOON,
        "1e300": NOON,
        "9" * 25: NOON,
        "nan": NOON,
    }
    for number, text in enumerate(times):
        ledger.add(f"e{number}", NOON, event_time=text)
    known = records(ledger)
    found = {each.identity: each.at for each in await known.about(ALWAYS, [])}
    assert [found[f"e{number}"] for number in range(len(times))] == list(times.values())
    assert known.timeless == 7


async def test_coverage_begins_and_has_gaps() -> None:
    ledger = Ledger()
    known = records(ledger)
    assert not known.covers(NOON), "before anything is known"
    ledger.from_ns, ledger.gaps = NOON, [[NOON + 60 * SECOND, NOON + 70 * SECOND]]
    await known.refresh()
    sure = NOON + LEAST_DELAY
    assert [known.covers(at) for at in (NOON, sure - 1, sure)] == [False, False, True]
    gap = NOON + 60 * SECOND
    assert [known.covers(at) for at in (gap - LEAST_DELAY - 1, gap - LEAST_DELAY, gap, gap + 10 * SECOND)] == [
        True,
        False,
        False,
        True,
    ]
    ledger.from_ns = None
    await known.refresh()
    assert not known.covers(sure), "an empty record covers nothing"


async def test_what_was_under_way_when_the_record_began_is_foreign() -> None:
    ledger = Ledger()
    ledger.from_ns = NOON
    known = LedgerRecords(ledger, ["events"], by_event_id, since=NOON - 10 * SECOND, foreign_from=NOON + SECOND)
    await known.refresh()
    sure = NOON + LEAST_DELAY
    assert [known.covers(at) for at in (NOON, NOON + SECOND, sure)] == [False, True, True]


async def test_what_takes_long_to_arrive_may_have_arrived_in_a_gap() -> None:
    ledger = Ledger()
    ledger.from_ns, ledger.gaps = NOON - 3600 * SECOND, [[NOON, NOON + SECOND]]
    ledger.add("slow", NOON + 60 * SECOND, event_time="2026-01-31T12:00:30Z")
    known = records(ledger)
    await known.refresh()
    assert [known.covers(NOON - seconds * SECOND) for seconds in (29, 30, 31)] == [False, False, True]


async def test_one_goes_on_later_where_one_was(tmp_path: Path) -> None:
    ledger = Ledger()
    for number in range(7):
        ledger.add(f"e{number}", number, DELIVERED, PENDING)
    file = str(tmp_path / "index.db")
    first = records(ledger, file)
    await first.refresh()
    first.close()
    for row in ledger.rows:
        row[7] = DELIVERED
    ledger.add("later", 8)
    ledger.asked.clear()
    second = records(ledger, file)
    assert list(states(await second.about(ALWAYS, [])).values()) == [BOTH] * 8
    assert ledger.questions("ledger/recorded", "after_seq") == [7]
    second.close()
    third = LedgerRecords(ledger, ["stream"], by_event_id, db=apsw.Connection(file))
    ledger.asked.clear()
    await third.refresh()
    assert ledger.questions("ledger/recorded", "route") == ["stream"], (
        "a route that is checked no more is not asked for"
    )


async def test_a_ledger_that_does_not_answer_is_an_error_and_may_answer_later() -> None:
    ledger = Ledger()
    ledger.add("a", 1)
    ledger.error = "the ledger is not connected"
    known = records(ledger)
    with pytest.raises(RecordsUnavailable, match="not connected"):
        await known.about(ALWAYS, [])
    ledger.error = ""
    assert len(await known.about(ALWAYS, [])) == 1


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
        ("0001-01-01T00:00:00Z", None),
        ("9" * 5000, None),
    ],
)
async def test_times_as_events_have_them(text: str, at: int | None) -> None:
    assert event_moment(text) == at


async def test_a_span_is_pending_as_long_as_one_of_its_events_is() -> None:
    ledger = Ledger()
    for number in range(3 * FEW):
        ledger.add(f"e{number}", number, DELIVERED, PENDING)
    known = records(ledger)
    await known.refresh()
    ledger.asked.clear()
    assert await known.is_pending(ALWAYS)
    assert len(ledger.questions("ledger/settled", "seqs")) == 1, "a few that are pending say enough"
    assert not await known.is_pending(Span(3 * FEW, 9 * FEW)), "nothing of this span is"
    for row in ledger.rows[:-1]:
        row[7] = DELIVERED
    assert await known.is_pending(ALWAYS), "the last one"
    assert not await known.is_pending(Span(0, 3 * FEW - 1))
    ledger.rows[-1][7] = DEAD
    assert not await known.is_pending(ALWAYS), "what is dead is not owed any more"


async def test_what_was_pending_and_is_not_on_record_any_more_is_forgotten() -> None:
    """The ledger drops what is settled and old; what became of it nobody can say."""
    ledger = Ledger()
    ledger.add("pending", 1, DELIVERED, PENDING)
    ledger.add("refused", 2, DELIVERED, REFUSED)
    ledger.add("last", 3)
    known = records(ledger)
    await known.refresh()
    del ledger.rows[:2]
    assert not await known.is_pending(ALWAYS)
    assert sorted(states(await known.about(ALWAYS, []))) == ["last", "refused"], "what is known of others stays"


async def test_what_is_delivered_is_asked_for_anew_where_it_matters() -> None:
    ledger = Ledger()
    ledger.add("a", 1)
    ledger.add("b", 2)
    known = records(ledger)
    assert sorted(states(await known.about(ALWAYS, []))) == ["a", "b"]
    ledger.change("a", DELIVERED, PENDING)
    assert states(await known.about(ALWAYS, []))["a"] == BOTH, "it was read when it was delivered"
    found = states(await known.again([Key("a", 1), Key("never heard of", 1)]))
    assert found == {"a": Record.of(DELIVERED, PENDING)}
    assert states(await known.about(ALWAYS, []))["a"] == Record.of(DELIVERED, PENDING), "and it is known from then on"


async def test_who_is_told_of_receipts_writes_with_them(tmp_path: Path) -> None:
    ledger, db = Ledger(page=2), apsw.Connection(str(tmp_path / "index.db"))
    db.execute("CREATE TABLE seen (at INTEGER)")
    told: list[list[int]] = []

    def note(times: Sequence[int]) -> None:
        told.append(list(times))
        db.executemany("INSERT INTO seen VALUES (?)", [(at,) for at in times])
        if len(told) == 2:
            raise apsw.FullError("the disk is full")

    for number in range(5):
        ledger.add(f"e{number}", number)
    known = LedgerRecords(ledger, ["events"], by_event_id, db=db, on_receipts=note)
    with pytest.raises(apsw.FullError):
        await known.refresh()
    assert told == [[0, 1], [2, 3]]
    assert [at for (at,) in db.execute("SELECT at FROM seen")] == [0, 1]
    again = LedgerRecords(ledger, ["events"], by_event_id, db=db, on_receipts=note)
    await again.refresh()
    assert [at for (at,) in db.execute("SELECT at FROM seen")] == [0, 1, 2, 3, 4], "each with its receipt, once"


async def test_the_newest_and_which_side_has_them() -> None:
    ledger = Ledger()
    for number, (old, new) in enumerate(((DELIVERED, DELIVERED), (DELIVERED, PENDING), (NOT_OWED, DELIVERED)), 1):
        ledger.add(f"e{number}", number, old, new)
    known = records(ledger)
    await known.refresh()
    assert known.newest(2, 0) == [(3, Key("e3", 3), (False, True)), (2, Key("e2", 2), (True, False))]
    assert known.newest(10, 2) == [(3, Key("e3", 3), (False, True))]


async def test_what_is_forgotten_is_not_asked_about() -> None:
    ledger = Ledger()
    for number in range(10):
        ledger.add(f"e{number}", number, DELIVERED, PENDING)
    known = records(ledger)
    await known.refresh()
    known.forget(7)
    assert sorted(states(await known.about(ALWAYS, []))) == ["e7", "e8", "e9"]
    assert ledger.questions("ledger/recorded", "after_seq")[-1] == 10, "nor read again"
