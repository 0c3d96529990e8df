"""Very much is taken back at once: some with each commit, so that nobody waits long, and with a note of the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.core.event import NEW, OLD
from proxy.core.owed import DELIVERED
from proxy.ledger.book import TAKEN_BACK_AT_ONCE
from proxy.ledger.entry import Stream
from proxy.ledger.protocol import HANDED, RECEIVED, Report
from proxy.ledger.reader import Reader
from tests.ledger.support import ROUTE, Desk, Ledgers, bucket, counted, event, frame, until

WINDOW = 5.0
MANY = 2 * TAKEN_BACK_AT_ONCE + 100
"""Takes three commits."""
MARKED = {(0, NEW, bucket(f"k{n}")) for n in range(1, MANY + 1)}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "ledger", window=WINDOW)
    yield desk
    assert desk.store.balance() == counted(desk.store), "the balance is not what the rows say"
    desk.store.close()


def begun(desk: Desk, count: int = MANY) -> Stream:
    """A stream of which both sides have received so many events, on disk."""
    stream = desk.book.hello("s1", 0)
    row: list[Report] = [(1, side, RECEIVED, count - 1) for side in (OLD, NEW)]
    desk.book.take_frame(stream, frame(1, [event(n, key=f"k{n}") for n in range(1, count + 1)], row))
    desk.commit()
    return stream


def hand(desk: Desk, stream: Stream, side: int = NEW, count: int = MANY) -> None:
    """A side's connection is lost."""
    reports: list[Report] = [(n, side, HANDED, 0) for n in range(1, count + 1)]
    desk.book.take_frame(stream, frame(stream.received + 1, [], reports))


def pending(desk: Desk, side: int = NEW) -> list[int]:
    """Numbers of the events whose bodies the replayer would find for a side."""
    reader = Reader(lambda: desk.store.segments)
    try:
        items = reader.pending(ROUTE, side, 0, [], 10 * MANY, 10**9).items
    finally:
        reader.close()
    assert all(item.event.body == event(item.event.n).body for item in items)
    return [item.event.n for item in items]


def commit_all(desk: Desk) -> int:
    """Commit until nothing is left; how often."""
    for number in range(100):
        if not desk.book.has_changes():
            return number
        desk.commit()
    raise AssertionError("it does not end")


def test_each_commit_takes_some_back_until_all_are_pending(desk: Desk) -> None:
    stream = begun(desk)
    hand(desk, stream)
    found = []
    while desk.book.has_changes():
        desk.commit()
        found.append(len(pending(desk)))
    assert found == [TAKEN_BACK_AT_ONCE, 2 * TAKEN_BACK_AT_ONCE, MANY]
    assert pending(desk, OLD) == []
    assert desk.marks.marked == MARKED


def test_what_was_said_is_durable_with_the_first_of_these_commits(desk: Desk) -> None:
    stream = begun(desk)
    hand(desk, stream)
    assert desk.commit() == [stream]
    assert stream.durable == stream.received == 2


def test_few_are_taken_back_with_one_commit_and_nobody_is_held_up(desk: Desk) -> None:
    stream = begun(desk, TAKEN_BACK_AT_ONCE)
    hand(desk, stream, count=TAKEN_BACK_AT_ONCE)
    desk.commit()
    assert len(pending(desk)) == TAKEN_BACK_AT_ONCE
    assert not desk.book.has_changes()
    assert ("hold", NEW) not in desk.observer.told


def test_nothing_is_delivered_to_that_side_until_all_are_pending(desk: Desk) -> None:
    """A later event of a key may be on disk before an earlier one is taken back."""
    stream = begun(desk)
    hand(desk, stream)
    assert desk.observer.told.count(("hold", NEW)) == 1
    assert ("hold", OLD) not in desk.observer.told
    desk.commit()
    desk.commit()
    assert ("resume", NEW) not in desk.observer.told
    desk.commit()
    assert desk.observer.told[-1] == ("resume", NEW)
    assert len([word for word in desk.observer.told if word[:2] == ("handed", NEW)]) == MANY


def test_more_that_comes_meanwhile_is_waited_for_as_well(desk: Desk) -> None:
    stream = begun(desk)
    hand(desk, stream)
    desk.commit()
    hand(desk, stream, OLD)
    commit_all(desk)
    assert pending(desk) == pending(desk, OLD) == list(range(1, MANY + 1))
    for side in (OLD, NEW):
        assert desk.observer.told.count(("hold", side)) == desk.observer.told.count(("resume", side)) == 1


@pytest.mark.parametrize("commits", [1, 2, 3])
@pytest.mark.parametrize("rolled", [False, True])
def test_a_ledger_that_dies_in_between_goes_on_with_it(desk: Desk, commits: int, rolled: bool) -> None:
    stream = begun(desk)
    if rolled:
        desk.store.roll()
    hand(desk, stream)
    for _ in range(commits):
        desk.commit()
    desk.crash()
    desk.clock.go(3600)  # however long that took
    desk.open()
    assert desk.marks.marked >= MARKED
    commit_all(desk)
    assert pending(desk) == list(range(1, MANY + 1))
    assert desk.observer.told.count(("hold", NEW)) == desk.observer.told.count(("resume", NEW)) == (commits == 1)


@pytest.mark.parametrize("latest_first", [False, True])
def test_notes_are_where_the_receipts_are(desk: Desk, latest_first: bool) -> None:
    """The first commit writes rows of one segment, and notes of another one."""
    stream = desk.book.hello("s1", 0)
    for number, first in enumerate((1, TAKEN_BACK_AT_ONCE + 1), start=1):
        some = [event(n, key=f"k{n}") for n in range(first, first + TAKEN_BACK_AT_ONCE)]
        desk.book.take_frame(stream, frame(number, some, [(first, NEW, RECEIVED, TAKEN_BACK_AT_ONCE - 1)]))
        desk.store.roll()
        desk.commit()
    reports: list[Report] = [(n, NEW, HANDED, 0) for n in range(1, 2 * TAKEN_BACK_AT_ONCE + 1)]
    desk.book.take_frame(stream, frame(3, [], reports[::-1] if latest_first else reports))
    desk.commit()
    desk.crash()
    desk.open()
    commit_all(desk)
    assert pending(desk) == list(range(1, 2 * TAKEN_BACK_AT_ONCE + 1))


def test_it_may_die_again_and_again(desk: Desk) -> None:
    stream = begun(desk)
    hand(desk, stream)
    for _ in range(4):
        desk.commit()
        desk.crash()
        desk.clock.go(3600)
        desk.open()
    commit_all(desk)
    assert pending(desk) == list(range(1, MANY + 1))


@pytest.mark.parametrize("commits", [1, 2])
def test_so_does_what_a_dead_worker_took_along(desk: Desk, commits: int) -> None:
    stream = begun(desk)
    desk.book.lost(stream)
    desk.book.hand_over(stream)
    desk.book.close(stream)
    for _ in range(commits):
        desk.commit()
    desk.crash()
    desk.open()
    commit_all(desk)
    assert pending(desk) == pending(desk, OLD) == list(range(1, MANY + 1))


def test_windows_that_end_meanwhile_take_nothing_away(desk: Desk) -> None:
    stream = begun(desk)
    hand(desk, stream)
    desk.commit()
    desk.clock.go(10 * WINDOW)
    desk.book.take_frame(stream, frame(stream.received + 1, [event(MANY + 1)], []))
    desk.commit()
    desk.crash()
    desk.open()
    commit_all(desk)
    assert pending(desk) == list(range(1, MANY + 2)), "the later one is its worker's"


def test_what_was_taken_back_and_delivered_is_not_taken_back_after_a_restart(desk: Desk) -> None:
    stream = begun(desk)
    hand(desk, stream, OLD)
    hand(desk, stream, NEW)
    commit_all(desk)
    for seq in range(1, MANY + 1):
        for side in (OLD, NEW):
            assert desk.book.settle(seq, ROUTE, side, bucket(f"k{seq}"), DELIVERED, 0, 1)
    commit_all(desk)
    desk.crash()
    desk.open()
    commit_all(desk)
    assert pending(desk) == pending(desk, OLD) == []


def test_notes_are_forgotten_with_the_rest(desk: Desk) -> None:
    stream = begun(desk)
    hand(desk, stream)
    commit_all(desk)
    desk.clock.go(2 * WINDOW)
    desk.book.take_frame(stream, frame(stream.received + 1, [event(MANY + 1)], []))
    desk.commit()
    assert desk.store.newest.received() == []


@pytest.mark.asyncio
@pytest.mark.parametrize("ledgers", [{"route": {"websocket": {}, "carry_over": False}}], indirect=True)
async def test_a_later_event_of_a_key_is_delivered_after_what_is_taken_back(ledgers: Ledgers) -> None:
    """All of one key: what comes later is handed over while most of the earlier ones are still to be taken back."""
    keeper = await ledgers.start()
    await asyncio.sleep(0.4)  # the replayer runs
    worker = await ledgers.worker()
    row: list[Report] = [(1, side, RECEIVED, MANY - 1) for side in (OLD, NEW)]
    await worker.say_durably([event(n) for n in range(1, MANY + 1)], row)
    worker.say([], [(n, NEW, HANDED, 0) for n in range(1, MANY + 1)])
    await worker.say_durably([event(MANY + 1)], [(MANY + 1, OLD, RECEIVED, 0), (MANY + 1, NEW, HANDED, 0)])
    assert keeper.book._returning, "they are not all on disk yet"
    await until(lambda: len(ledgers.backends.got) == MANY + 1, "delivered", seconds=20)
    assert ledgers.backends.got == [(NEW, f"id-{n}") for n in range(1, MANY + 2)]
