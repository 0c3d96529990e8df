"""RECEIVED at its edges: segments, restarts, persons, windows that end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config.model import Ledger
from proxy.core.event import BOTH
from proxy.core.owed import DEAD, DELIVERED
from proxy.ledger.backlog import Backlog
from proxy.ledger.book import Book
from proxy.ledger.protocol import HANDED, RECEIVED, LedgerFrame, Report
from proxy.ledger.reader import Reader
from tests.ledger.support import (
    ROUTE,
    SECOND,
    Desk,
    FakeMarks,
    FakeObserver,
    Ledgers,
    bucket,
    counted,
    event,
    frame,
    rows,
    until,
)

WINDOW = 5.0
SESSIONS = {"websocket": {}, "carry_over": False}
RECEIVED_BY_BOTH: list[Report] = [(1, 0, RECEIVED, 0), (1, 1, RECEIVED, 0)]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "ledger", window=WINDOW)
    yield desk
    assert desk.store.balance() == counted(desk.store), "the balance is not what the rows say"
    desk.store.close()


def begun(desk: Desk, *reports: Report) -> Any:
    """A stream whose one event is on disk, with these reports."""
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [event(1)], list(reports)))
    desk.commit()
    return stream


def again(desk: Desk) -> Any:
    """The stream after a restart of the ledger."""
    desk.crash()
    desk.open()
    return desk.book.streams["s1"]


def pending_bodies(desk: Desk, side: int = 0) -> list[bytes]:
    """The bodies that the replayer would deliver to a side."""
    reader = Reader(lambda: desk.store.segments)
    try:
        return [item.event.body for item in reader.pending(ROUTE, side, 0, [], 10, 10_000).items]
    finally:
        reader.close()


def test_what_is_received_after_its_segment_was_closed_is_found_after_a_restart(desk: Desk) -> None:
    stream = begun(desk)
    desk.store.roll()
    desk.book.take_frame(stream, frame(2, [], RECEIVED_BY_BOTH))
    desk.commit()
    stream = again(desk)
    desk.book.hand_over(stream)
    desk.commit()
    assert desk.states() == {"id-1": ("pending", "pending")}
    assert pending_bodies(desk) == [event(1).body]


def test_nothing_is_owed_again_without_its_body_after_a_restart(desk: Desk) -> None:
    stream = begun(desk, (1, 0, RECEIVED, 0), (1, 1, HANDED, 0))
    desk.book.take_frame(stream, frame(2, [], [(1, 0, DELIVERED, 0)]))  # its client left in order
    assert desk.book.settle(1, ROUTE, 1, bucket("k"), DELIVERED, 0, 1)  # and the ledger delivered the rest
    desk.commit()
    assert desk.bodies() == set()
    stream = again(desk)
    desk.book.hand_over(stream)
    desk.commit()
    assert [body for body in pending_bodies(desk) if not body] == [], "an empty message would be delivered"


def test_what_is_received_in_the_next_segment_is_taken_back_with_its_body_after_a_restart(desk: Desk) -> None:
    stream = begun(desk, (1, 1, RECEIVED, 0))  # its body is on disk for old
    desk.store.roll()
    desk.book.take_frame(stream, frame(2, [], [(1, 0, RECEIVED, 0)]))
    desk.commit()
    stream = again(desk)
    desk.book.hand_over(stream)
    desk.commit()
    assert pending_bodies(desk) == [event(1).body], "its content is lost"


def test_a_side_that_the_ledger_delivers_after_a_restart_leaves_no_mark_behind(desk: Desk) -> None:
    begun(desk, (1, 0, RECEIVED, 0), (1, 1, HANDED, 0))
    again(desk)
    desk.book.hello("s1", 0)
    assert desk.marks.marked == {(0, 1, bucket("k"))}
    assert desk.book.settle(1, ROUTE, 1, bucket("k"), DELIVERED, 0, 1)
    desk.commit()
    assert desk.states() == {"id-1": ("delivered", "delivered")}
    assert not desk.marks.marked, "nothing is owed, and every later event of the bucket takes the way by the ledger"


def test_segments_that_are_closed_quickly_hide_nothing_from_a_restart(desk: Desk) -> None:
    stream = begun(desk, *RECEIVED_BY_BOTH)
    for number in (2, 3):
        desk.store.roll()
        desk.book.take_frame(stream, frame(number, [event(number, key="other", owed=1)]))
        desk.commit()
    stream = again(desk)
    desk.book.hand_over(stream)
    desk.commit()
    assert desk.states()["id-1"] == ("pending", "pending")


def test_the_bytes_that_are_kept_for_windows_are_bounded() -> None:
    book = Book(Backlog({ROUTE: 0}, FakeMarks()), FakeObserver(), next_seq=1, windows={ROUTE: 5 * SECOND})
    stream = book.hello("s1", 0)
    large = b"x" * 2**20  # one object: what counts is that 4 GiB stay referred to
    most = 0
    for n in range(1, 4097):
        row = (n, f"id-{n}", ROUTE, "k", 1, 1, 0, BOTH, 0, 0, False, n, "websocket", b"", large, "", (), False)
        book.take_frame(stream, LedgerFrame(n, False, [row], [(n, 0, RECEIVED, 0), (n, 1, RECEIVED, 0)]))
        if n % 64 == 0:
            book.committed(book.take(SECOND + n))
        most = max(most, sum(len(entry.body) for entry in stream.live.values()))
    assert most < 2**30


@pytest.mark.asyncio
@pytest.mark.parametrize("ledgers", [{"route": SESSIONS, "retain_bodies": True}], indirect=True)
async def test_what_is_taken_back_while_a_person_replays_it_does_not_kill_the_ledger(ledgers: Ledgers) -> None:
    keeper = await ledgers.start()
    worker = await ledgers.worker()
    await worker.say_durably([event(1)], RECEIVED_BY_BOTH)
    begun, go_on = threading.Event(), threading.Event()
    move = keeper._store.move

    def slowly(*arguments: Any) -> list[int]:
        begun.set()
        go_on.wait(5)
        return move(*arguments)

    keeper._store.move = slowly  # type: ignore[method-assign,assignment]
    replaying = asyncio.create_task(keeper.moves.replay(0, 0, None))
    await until(begun.is_set, "the move is in the writing thread")
    worker.say([], [(1, 0, HANDED, 0)], urgent=True)  # the backend is restarted meanwhile
    await until(lambda: keeper.book.counters["taken_back"] == 1 and not keeper.book._dirty, "it is to be written")
    go_on.set()
    await replaying
    await asyncio.sleep(0.2)
    died, ledgers.deaths = list(ledgers.deaths), []
    if died:  # there is nothing that could be stopped in order
        ledgers.keeper = None
        keeper.server.close()
        for task in keeper._tasks:
            task.cancel()
        await keeper.replayer.close()
    assert died == []


@pytest.mark.parametrize("before", [False, True])
def test_what_is_taken_back_after_retain_bodies_was_changed_has_its_body(tmp_path: Path, before: bool) -> None:
    desk = Desk(tmp_path / "ledger", window=WINDOW, retain_bodies=before)
    begun(desk, *RECEIVED_BY_BOTH)
    desk.settings = Ledger.model_validate({"retain_bodies": not before})
    stream = again(desk)
    desk.book.hand_over(stream)
    desk.commit()  # ConstraintError, when the body is there
    assert desk.states() == {"id-1": ("pending", "pending")}
    assert desk.bodies() == {"id-1"}, "it can never be delivered"
    desk.store.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("ledgers", [{"route": SESSIONS}], indirect=True)
async def test_what_is_taken_back_while_a_late_report_of_it_is_remembered_is_delivered(ledgers: Ledgers) -> None:
    await ledgers.start()
    await asyncio.sleep(0.4)  # the replayer runs
    ledgers.backends.open.clear()
    worker = await ledgers.worker()
    await worker.say_durably([event(1)])
    await worker.die()
    await until(lambda: ledgers.backends.in_flight == 2, "the ledger delivers it")
    await worker.connect()  # it was only away for long
    await worker.say_durably([], RECEIVED_BY_BOTH)
    await worker.say_durably([], [(1, 0, HANDED, 0), (1, 1, HANDED, 0)])
    ledgers.backends.open.set()
    await until(lambda: ledgers.states() == {"id-1": ("delivered", "delivered")}, "delivered", seconds=3)


def test_while_a_side_may_be_taken_back_a_person_moves_neither(desk: Desk) -> None:
    begun(desk, (1, 0, RECEIVED, 0), (1, 1, HANDED, 0))
    assert desk.book.settle(1, ROUTE, 1, bucket("k"), DEAD, 500, 1)
    desk.commit()
    assert not desk.book.may_move(1, 1, DEAD), "a body that goes with it would be missing"
    assert not desk.book.may_move(1, 0, DELIVERED)
    desk.clock.go(WINDOW + 1)
    desk.commit()
    assert desk.book.may_move(1, 1, DEAD)


def test_a_ledger_that_dies_between_two_segments_can_still_take_back(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = begun(desk)
    desk.store.roll()
    told = frame(2, [event(2, key="other")], RECEIVED_BY_BOTH)
    desk.book.take_frame(stream, told)
    group = desk.book.take(desk.clock())
    with monkeypatch.context() as patch:
        apply = type(desk.store.newest).apply

        def dies(self: Any, *arguments: Any, newest: bool) -> None:
            if newest:
                raise SystemExit
            apply(self, *arguments, newest=newest)

        patch.setattr(type(desk.store.newest), "apply", dies)
        with pytest.raises(SystemExit):
            desk.store.commit(group)
    stream = again(desk)
    desk.book.hello("s1", 0)
    desk.book.take_frame(stream, told)  # the worker sends it again
    desk.commit()
    desk.book.take_frame(stream, frame(3, [], [(1, 0, HANDED, 0)]))  # and a backend is lost within the window
    desk.commit()
    assert desk.states()["id-1"] == ("pending", "delivered")


def test_after_a_restart_what_may_be_taken_back_is_marked_until_its_worker_is_there(desk: Desk) -> None:
    begun(desk, *RECEIVED_BY_BOTH)
    stream = again(desk)
    assert desk.marks.marked == {(0, 0, bucket("k")), (0, 1, bucket("k"))}, "as `lost` marks it"
    desk.book.hand_over(stream)
    desk.commit()


def test_bodies_of_what_is_settled_do_not_stay_on_disk(desk: Desk) -> None:
    stream = begun(desk, *RECEIVED_BY_BOTH)
    for number in (2, 3):
        desk.clock.go(60)
        settled: list[Report] = [(number, 0, DELIVERED, 0), (number, 1, DELIVERED, 0)]
        desk.book.take_frame(stream, frame(number, [event(number)], settled))
        desk.commit()
    assert rows(desk.store.newest.path, "SELECT at_ns FROM received") == [], "its window was over two minutes ago"
    desk.book.take_frame(stream, frame(4, [event(4)], [(4, 0, RECEIVED, 0), (4, 1, RECEIVED, 0)]))
    desk.commit()
    before = desk.store.newest.path
    desk.store.roll()
    desk.clock.go(60)
    desk.book.take_frame(stream, frame(5, [event(5)], [(5, 0, RECEIVED, 0), (5, 1, RECEIVED, 0)]))
    desk.commit()
    assert rows(before, "SELECT at_ns FROM received") == []


def test_a_segment_with_what_may_be_taken_back_is_not_dropped(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "ledger", window=WINDOW, retain="1s")
    stream = begun(desk, *RECEIVED_BY_BOTH)
    desk.clock.go(2)
    desk.store.roll()
    desk.store.drop_old()
    desk.book.take_frame(stream, frame(2, [], [(1, 0, HANDED, 0)]))
    desk.commit()  # LedgerBroken
    assert desk.states() == {"id-1": ("pending", "delivered")}
    desk.store.close()


def test_after_a_restart_only_what_was_received_by_a_connection_is_taken_back(desk: Desk) -> None:
    stream = begun(desk, (1, 0, RECEIVED, 0), (1, 1, HANDED, 0))
    assert desk.book.settle(1, ROUTE, 1, bucket("k"), DELIVERED, 0, 1)  # the ledger's own doing
    desk.commit()
    stream = again(desk)
    desk.book.hand_over(stream)
    desk.commit()
    assert desk.states() == {"id-1": ("pending", "delivered")}


def test_what_was_lost_at_the_end_of_its_window_is_taken_back_although_the_news_takes_a_moment(desk: Desk) -> None:
    stream = begun(desk, *RECEIVED_BY_BOTH)
    # The worker sees the connection lost after 4.99 s; its report comes 50 ms later.
    desk.clock.go(WINDOW + 0.04)
    desk.commit()
    desk.book.take_frame(stream, frame(2, [], [(1, 0, HANDED, 0)]))
    desk.commit()
    assert desk.states() == {"id-1": ("pending", "delivered")}


def test_a_short_window_ends_although_a_longer_one_of_another_route_goes_on() -> None:
    windows = {"slow": 60 * SECOND, "fast": SECOND}
    book = Book(Backlog({"slow": 0, "fast": 1}, FakeMarks()), FakeObserver(), next_seq=1, windows=windows)
    stream = book.hello("s1", 0)
    reports: list[Report] = [(n, side, RECEIVED, 0) for n in (1, 2) for side in (0, 1)]
    book.take_frame(stream, frame(1, [event(1, route="slow"), event(2, route="fast")], reports))
    book.committed(book.take(SECOND))
    book.committed(book.take(3 * SECOND))
    assert set(stream.live) == {1}
