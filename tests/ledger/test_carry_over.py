"""Deferred events that become old's: marked before the routing is applied, in order, and no more than those."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.core.event import UNREACHABLE, Event, Outcome
from proxy.core.owed import DELIVERED, DISCARDED, REFUSED
from proxy.core.routing import COPY_DURABLE, Dials, Routing
from tests.ledger.support import ROUTE, Clock, Desk, Ledgers, bucket, event, frame, until

LOW = next(key for key in map(str, range(1000)) if bucket(key) < 2500)
MID = next(key for key in map(str, range(1000)) if 2500 <= bucket(key) < 5000)
NEW_GOT = ("deferred", "delivered")
BOTH_GOT = ("delivered", "delivered")


def routing(epoch: int, weight: float, copy: str = "none") -> Routing:
    return Routing(epoch, {ROUTE: Dials(weight, copy)})


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "ledger")
    yield desk
    desk.store.close()


def deferred(n: int, key: str) -> Event:
    """Answered by new under epoch 1, just now."""
    return event(n, key=key, authority=1, deferred=1, accepted_ns=Clock()())


def mark(key: str) -> tuple[int, int, int]:
    return (0, 0, bucket(key))


@pytest.mark.asyncio
async def test_a_partial_fall_carries_over_the_buckets_that_fell(ledgers: Ledgers) -> None:
    keeper = await ledgers.start()
    keeper.set_routing(routing(1, 50.0))
    worker = await ledgers.worker()
    events = [deferred(n, (LOW, MID)[n % 2]) for n in range(1, 1401)]
    await worker.say_durably(events, [(n, 1, DELIVERED, 200) for n in range(1, 1401)])
    ledgers.backends.open.clear()
    keeper.set_routing(routing(2, 25.0))
    assert ledgers.marks.is_set(0, 0, bucket(MID)), "marked when the routing is applied, not a moment later"
    assert not ledgers.marks.is_set(0, 0, bucket(LOW))
    later = event(1401, key=MID, owed=1, handed=1, epoch=2)
    await worker.say_durably([later])
    ledgers.backends.open.set()
    fell = [f"id-{n}" for n in range(1, 1401, 2)]
    await until(lambda: len(ledgers.backends.got) == 701, "carried over")
    assert ledgers.backends.order(0) == [*fell, "id-1401"]
    await until(lambda: ledgers.marks.count(0, 0) == 0, "no marks are left")
    assert ledgers.states()["id-2"] == NEW_GOT
    keeper.set_routing(routing(3, 0.0))
    await until(lambda: len(ledgers.backends.got) == 1401, "the rest")
    assert keeper.counters()["carried_over"] == 1400


@pytest.mark.asyncio
@pytest.mark.parametrize(("weight", "copy", "is_moved"), [
    (75.0, "none", False), (100.0, "none", False), (50.0, COPY_DURABLE, True), (0.0, COPY_DURABLE, True),
])  # fmt: skip
async def test_what_each_position_does_with_deferred_events(
    ledgers: Ledgers, weight: float, copy: str, is_moved: bool
) -> None:
    keeper = await ledgers.start()
    keeper.set_routing(routing(1, 50.0))
    worker = await ledgers.worker()
    await worker.say_durably([deferred(1, LOW)], [(1, 1, DELIVERED, 200)])
    keeper.set_routing(routing(2, weight, copy))
    assert ledgers.marks.is_set(0, 0, bucket(LOW)) == is_moved
    # What comes next for old goes out after what was moved, if it was.
    await worker.say_durably([event(2, key=LOW, owed=1, handed=1, epoch=2)])
    await until(lambda: "id-2" in ledgers.backends.order(0), "delivered")
    assert ledgers.backends.order(0) == (["id-1", "id-2"] if is_moved else ["id-2"])


@pytest.mark.asyncio
@pytest.mark.parametrize("is_old", [True, False])
async def test_the_next_ledger_carries_on_and_delivers_nothing_before_it_knows(ledgers: Ledgers, is_old: bool) -> None:
    keeper = await ledgers.start()
    keeper.set_routing(routing(1, 50.0))
    worker = await ledgers.worker()
    ledgers.backends.default[0] = Outcome(UNREACHABLE, 502)
    await worker.say_durably([deferred(1, LOW)], [(1, 1, DELIVERED, 200)])
    await worker.say_durably([event(2, key=LOW, owed=1, handed=1)])
    await worker.die()
    await ledgers.stop(clean=False)
    ledgers.backends.default[0] = Outcome(1, 200)
    keeper = await ledgers.start()
    assert ledgers.marks.is_set(0, 0, bucket(LOW))
    await until(lambda: keeper.replayer._is_running, "the replayer runs")
    await asyncio.sleep(0)
    assert ledgers.backends.got == []
    keeper.set_routing(routing(2, 0.0 if is_old else 50.0))
    await until(lambda: "id-2" in ledgers.backends.order(0), "delivered")
    assert ledgers.backends.order(0) == (["id-1", "id-2"] if is_old else ["id-2"])
    await until(lambda: ledgers.marks.count(0, 0) == 0, "no marks are left")


@pytest.mark.asyncio
async def test_a_ledger_that_gets_no_routing_delivers_in_the_end_and_says_so(
    ledgers: Ledgers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = await ledgers.start()
    keeper.set_routing(routing(1, 50.0))
    worker = await ledgers.worker()
    await worker.say_durably([deferred(1, LOW)], [(1, 1, DELIVERED, 200)])
    await worker.die()
    await ledgers.stop()
    monkeypatch.setattr("proxy.ledger.keeper.ROUTING_GRACE", 0.05)
    keeper = await ledgers.start()
    again = await ledgers.worker("s2")
    await again.say_durably([event(2, key=MID, owed=1, handed=1)])
    await until(lambda: ledgers.backends.order(0) == ["id-2"], "delivered without a routing")
    assert keeper.counters()["delivered_without_routing"] == 1
    assert "no routing from the supervisor" in caplog.text


def test_what_an_old_epoch_still_defers_is_marked_and_pending(desk: Desk) -> None:
    desk.book.turn(routing(2, 25.0))
    stream = desk.book.hello("s1", 0)
    said = [event(1, key=MID, authority=1, deferred=1, epoch=1), event(2, key=LOW, authority=1, deferred=1, epoch=1)]
    desk.book.take_frame(stream, frame(1, said, [(1, 1, DELIVERED, 200), (2, 1, DELIVERED, 200)]))
    assert desk.marks.marked == {mark(MID)}
    desk.commit()
    assert desk.states() == {"id-1": ("pending", "delivered"), "id-2": NEW_GOT}
    assert ("has_more", 0) in desk.observer.told


def test_a_worker_ahead_of_the_ledger_is_believed(desk: Desk) -> None:
    desk.book.turn(routing(2, 0.0))
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(
        stream, frame(1, [event(1, key=LOW, authority=1, deferred=1, epoch=3)], [(1, 1, DELIVERED, 200)])
    )
    desk.commit()
    assert desk.states() == {"id-1": NEW_GOT}
    assert not desk.marks.marked


@pytest.mark.parametrize("is_committed", [True, False])
@pytest.mark.parametrize("is_refused", [True, False])
def test_in_flight_at_new_it_is_marked_at_once_and_old_waits_for_news_answer(
    desk: Desk, is_committed: bool, is_refused: bool
) -> None:
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [deferred(1, LOW)]))
    if is_committed:
        desk.commit()
    [due] = desk.book.turn(routing(2, 0.0))
    desk.commit()
    assert desk.marks.marked == {mark(LOW)}
    assert desk.states() == {"id-1": ("deferred", "pending")}
    desk.book.carry.unmark(due.route, due.buckets)
    assert desk.marks.marked == {mark(LOW)}, "the event holds the mark"
    if is_refused:
        desk.book.take_frame(stream, frame(2, [], [(1, 1, REFUSED, 422), (1, 0, DISCARDED, 422)]))
        desk.commit()
        assert desk.states() == {"id-1": ("discarded", "refused")}
        assert not desk.marks.marked
        return
    desk.book.take_frame(stream, frame(2, [], [(1, 1, DELIVERED, 200)]))
    desk.commit()
    assert desk.states() == {"id-1": ("pending", "delivered")}
    assert ("handed", 0, 1) in desk.observer.told
    assert desk.book.settle(1, ROUTE, 0, bucket(LOW), DELIVERED, 200, 1)
    desk.commit()
    assert desk.states() == {"id-1": BOTH_GOT}
    assert not desk.marks.marked


def test_a_turn_without_deferred_events_marks_and_moves_nothing(desk: Desk) -> None:
    assert desk.book.turn(routing(2, 50.0)) == []
    assert desk.book.turn(routing(3, 0.0)) == []
    assert not desk.marks.marked
    assert not desk.book.has_changes()
