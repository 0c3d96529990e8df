"""Claims on event ids over the socket: workers that die, a ledger that is started again, what receipts say."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
import pytest_asyncio

from proxy.core.dedupe import CONFLICT, DONE, FIRST, id_digest
from proxy.core.event import REFUSED as TURNED_AWAY
from proxy.core.event import Event, Outcome
from proxy.core.owed import DELIVERED, DISCARDED, REFUSED
from proxy.ledger import recall as recall_module
from proxy.ledger.arbiter import Arbiter, Policy
from proxy.ledger.keeper import Keeper
from proxy.ledger.protocol import HANDED, PARKED
from proxy.ledger.recall import Recall, Recalled
from proxy.ledger.remembered import Remembered
from proxy.ledger.segment import unlink_segment
from tests.ledger.support import (
    ROUTE,
    SECOND,
    Desk,
    FakeWorker,
    Ledgers,
    content,
    event,
    frame,
    settings_for,
    short_directory,
    until,
)

pytestmark = pytest.mark.asyncio

ROUTE_KEYS: dict[str, Any] = {"dedupe": "60s", "dedupe_ids": 100}
BODY = b"x"
OK = [(1, 0, DELIVERED, 201), (1, 1, DELIVERED, 200)]


def named(n: int, id: str, body: bytes = BODY, **changes: Any) -> Event:
    """An event whose client gave it its id."""
    return event(n, id=id, body=body, **({"client_id": True, "accepted_ns": 1_700_000_000 * SECOND + n} | changes))


@pytest_asyncio.fixture
async def ledgers() -> AsyncIterator[Ledgers]:
    """Keepers of one route with a dedupe window; ended with their workers."""
    with short_directory() as directory:
        made = Ledgers(directory, settings_for(directory, route=ROUTE_KEYS))
        yield made
        for worker in made.workers:
            await worker.die()
        await made.stop()
        assert made.deaths == []


async def heard(worker: FakeWorker, *verdicts: tuple[int, int, int]) -> None:
    """Wait for exactly these verdicts, and forget them."""
    await until(lambda: len(worker.verdicts) >= len(verdicts), f"{verdicts}; so far {worker.verdicts}")
    assert worker.verdicts == list(verdicts)
    worker.verdicts.clear()


async def restart(ledgers: Ledgers, *, clean: bool = False) -> None:
    """A new ledger on the same record. The workers' connections end with the old one."""
    await ledgers.stop(clean=clean)
    for worker in ledgers.workers:
        await worker.die()
    await ledgers.start()


async def test_twins_at_two_workers(ledgers: Ledgers) -> None:
    await ledgers.start()
    one, two = await ledgers.worker("s1"), await ledgers.worker("s2", 1)
    one.ask((1, "a", BODY))
    await heard(one, (1, FIRST, 0))
    two.ask((1, "a", BODY), (2, "a", b"y"), (3, "b", BODY))
    await heard(two, (2, CONFLICT, 0), (3, FIRST, 0))
    await one.say_durably([named(1, "a")], OK, answers=[(1, 201)])
    await heard(two, (1, DONE, 201))
    two.ask((4, "a", BODY))
    await heard(two, (4, DONE, 201))
    ledgers.clock.go(61)
    two.ask((5, "a", BODY))
    await heard(two, (5, FIRST, 0))


async def test_what_was_refused_or_failed_is_the_next_ones(ledgers: Ledgers) -> None:
    await ledgers.start()
    one, two = await ledgers.worker("s1"), await ledgers.worker("s2", 1)
    one.ask((1, "a", BODY), (2, "b", BODY))
    two.ask((1, "a", BODY), (2, "b", BODY))
    await heard(one, (1, FIRST, 0), (2, FIRST, 0))
    one.say([named(1, "a"), named(2, "b")])
    one.say([], [(1, 0, REFUSED, 422), (1, 1, DISCARDED, 0)], answers=[(1, 422)])
    await heard(two, (1, FIRST, 0))
    one.ask(withdrawn=[2])
    one.say([], [(2, 0, DISCARDED, 504), (2, 1, DISCARDED, 504)], answers=[(2, 504)])
    await heard(two, (2, FIRST, 0))


async def test_a_no_to_the_client_is_not_the_outcome_while_the_authority_may_get_it(ledgers: Ledgers) -> None:
    await ledgers.start()
    one, two = await ledgers.worker("s1"), await ledgers.worker("s2", 1)
    one.ask((1, "handed", BODY), (2, "late", BODY), (3, "refused", BODY), (4, "meanwhile", BODY))
    await heard(one, (1, FIRST, 0), (2, FIRST, 0), (3, FIRST, 0), (4, FIRST, 0))
    one.say([named(1, "handed"), named(2, "late"), named(3, "refused"), named(4, "meanwhile")])
    one.say([], [(1, 0, HANDED, 0), (1, 1, HANDED, 0)], answers=[(1, 503), (2, 503), (3, 503)])
    two.ask((1, "handed", BODY), (2, "late", BODY), (3, "refused", BODY))
    await heard(two, (1, DONE, 202))
    one.say([], [(2, 0, DELIVERED, 200), (3, 0, REFUSED, 400), (3, 1, DISCARDED, 0)])
    await until(lambda: len(two.verdicts) == 2, "both known")
    assert sorted(two.verdicts) == [(2, DONE, 200), (3, FIRST, 0)]
    two.verdicts.clear()
    two.ask((4, "meanwhile", BODY))
    one.say([], [(4, 0, DELIVERED, 201)], answers=[(4, 503)])
    await heard(two, (4, DONE, 201))


# a worker dies


async def test_of_a_dead_worker_the_record_is_the_outcome_once_it_is_durable(ledgers: Ledgers) -> None:
    ledgers.backends.open.clear()
    await ledgers.start()
    one, two = await ledgers.worker("s1"), await ledgers.worker("s2", 1)
    ids = ("in flight", "delivered", "refused", "never sent")
    one.ask(*((n, id, BODY) for n, id in enumerate(ids, 1)))
    await until(lambda: len(one.verdicts) == 4, "granted")
    one.say([named(n, id) for n, id in enumerate(ids[:3], 1)])
    one.say([], [(2, 0, DELIVERED, 201), (3, 0, REFUSED, 409), (3, 1, DISCARDED, 0)])
    two.ask(*((n, id, BODY) for n, id in enumerate(ids, 1)))
    await one.die()
    await until(lambda: len(two.verdicts) == 4, "all known")
    assert sorted(two.verdicts) == [(1, DONE, 202), (2, DONE, 201), (3, FIRST, 0), (4, FIRST, 0)]
    ledgers.backends.open.set()
    await until(lambda: ledgers.states()["in flight"] == ("delivered", "delivered"), "the ledger delivers what is owed")
    assert ledgers.backends.attempts.total() == 3, "each once"


async def test_an_event_without_its_clients_id_is_nobodys_first(ledgers: Ledgers) -> None:
    desk = Desk(ledgers.directory)
    arbiter = desk.book.arbiter = Arbiter({ROUTE: Policy("authority", 202, Remembered(60, 100))})
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [named(1, "ours", client_id=False)]))
    assert len(arbiter) == 0
    desk.store.close()


async def test_what_is_not_on_disk_is_no_outcome_of_a_dead_worker(ledgers: Ledgers) -> None:
    desk = Desk(ledgers.directory)
    arbiter = desk.book.arbiter = Arbiter({ROUTE: Policy("authority", 202, Remembered(60, 100))})
    arbiter.release(desk.clock())
    one, two = desk.book.hello("s1", 0), desk.book.hello("s2", 1)
    arbiter.claim((one.id, 1), ROUTE, id_digest("a"), content(BODY), False, desk.clock())
    desk.book.take_frame(one, frame(1, [named(1, "a")]))
    arbiter.claim((two.id, 1), ROUTE, id_digest("a"), content(BODY), False, desk.clock())
    arbiter.said.clear()
    desk.book.lost(one)
    desk.book.hand_over(one)
    assert arbiter.said == []
    assert desk.book.has_changes()
    desk.commit()
    assert arbiter.said == [(two.id, (1, DONE, 202))]
    desk.store.close()


async def test_answers_to_come_are_not_needed_once_all_is_settled(ledgers: Ledgers) -> None:
    await ledgers.start()
    one, two = await ledgers.worker("s1"), await ledgers.worker("s2", 1)
    one.ask((1, "a", BODY))
    two.ask((1, "a", BODY))
    await one.say_durably([named(1, "a")], [(1, 0, DELIVERED, 201), (1, 1, HANDED, 503)])
    await one.die()
    await heard(two, (1, DONE, 201))


async def test_who_waits_dies_with_its_worker(ledgers: Ledgers) -> None:
    keeper = await ledgers.start()
    one, two, three = await ledgers.worker("s1"), await ledgers.worker("s2", 1), await ledgers.worker("s3", 2)
    one.ask((1, "a", BODY))
    await heard(one, (1, FIRST, 0))
    two.ask((1, "a", BODY))
    assert keeper.book.arbiter is not None
    arbiter = keeper.book.arbiter
    await until(lambda: len(arbiter._places) == 2, "asked")
    await two.die()
    await until(lambda: len(arbiter._places) == 1, "forgotten")
    three.ask((1, "a", BODY))
    one.say([named(1, "a")], [(1, 0, DISCARDED, 500), (1, 1, DISCARDED, 500)], answers=[(1, 500)])
    await heard(three, (1, FIRST, 0))


# a worker's connection ends, and it comes back to the same ledger


async def test_what_a_worker_does_not_name_again_is_the_next_ones(ledgers: Ledgers) -> None:
    await ledgers.start()
    one, two = await ledgers.worker("s1"), await ledgers.worker("s2", 1)
    one.ask((1, "left", BODY), (2, "waits", BODY))
    await heard(one, (1, FIRST, 0), (2, FIRST, 0))
    two.ask((1, "left", BODY), (2, "waits", BODY))
    await one.die()
    await one.connect()
    one.ask((2, "waits", BODY, True), anew=True)
    await heard(one, (2, FIRST, 0))
    await heard(two, (1, FIRST, 0))


async def test_what_a_worker_says_again_counts_before_what_it_asks_again(ledgers: Ledgers) -> None:
    """Its event was recorded and answered while the connection was lost, so there is no claim any more."""
    keeper = await ledgers.start()
    one, two = await ledgers.worker("s1"), await ledgers.worker("s2", 1)
    one.ask((1, "a", BODY))
    await heard(one, (1, FIRST, 0))
    two.ask((1, "a", BODY))
    await until(lambda: keeper.book.arbiter is not None and len(keeper.book.arbiter._places) == 2, "asked")
    await one.die()
    await one.connect()
    one.say([named(1, "a")], OK, answers=[(1, 201)])
    one.ask(anew=True)
    await heard(two, (1, DONE, 201))


# the ledger is started again


async def test_the_receipts_are_the_window(ledgers: Ledgers) -> None:
    await ledgers.start()
    one = await ledgers.worker()
    ids = ("both", "owed", "refused", "ours", "old", "again", "again")
    started = 1_700_000_000 * SECOND
    events = [named(n, id, accepted_ns=started + n) for n, id in enumerate(ids, 1)]
    events[3].client_id = False
    events[4].accepted_ns = started - 60 * SECOND
    ledgers.backends.open.clear()
    reports = [(n, side, DELIVERED, 201) for n in (1, 4, 5) for side in (0, 1)]
    reports += [(2, 0, HANDED, 503), (2, 1, DELIVERED, 200), (3, 0, REFUSED, 422), (3, 1, DISCARDED, 0)]
    reports += [(6, 0, REFUSED, 400), (6, 1, DISCARDED, 0), (7, 0, DELIVERED, 204), (7, 1, DELIVERED, 200)]
    await one.say_durably(events, reports)
    await restart(ledgers)
    two = await ledgers.worker("s2", 1)
    two.ask(*((n, id, BODY) for n, id in enumerate(ids[:6], 1)), (7, "both", b"y"))
    await until(lambda: len(two.verdicts) == 7, "all known")
    assert sorted(two.verdicts) == [
        (1, DONE, 201), (2, DONE, 202), (3, FIRST, 0), (4, FIRST, 0), (5, FIRST, 0), (6, DONE, 204), (7, CONFLICT, 0),
    ]  # fmt: skip
    ledgers.backends.open.set()


async def test_nobody_is_first_before_the_receipts_are_read(ledgers: Ledgers, monkeypatch: pytest.MonkeyPatch) -> None:
    await ledgers.start()
    one = await ledgers.worker()
    await one.say_durably([named(1, "a")], OK, answers=[(1, 201)])
    go_on, step = threading.Event(), Recall.step

    def slow_step(recall: Recall) -> list[Recalled] | None:
        assert go_on.wait(20)
        return step(recall)

    monkeypatch.setattr(Recall, "step", slow_step)
    try:
        await restart(ledgers)
        two = await ledgers.worker("s2", 1)
        two.ask((1, "a", BODY), (2, "b", BODY))
        keeper = cast(Keeper, ledgers.keeper)
        await until(lambda: keeper._claims_wait_for == {"receipts"}, "every worker had time to come back")
        two.ask((3, "c", BODY))
        await two.say_durably([named(4, "d")])
        assert two.verdicts == []
    finally:
        go_on.set()
    await until(lambda: len(two.verdicts) == 3, "all known, without a word of anybody", 3)
    assert sorted(two.verdicts) == [(1, DONE, 201), (2, FIRST, 0), (3, FIRST, 0)]


async def test_a_window_with_many_receipts_is_read_in_steps_until_it_is_full(
    ledgers: Ledgers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recall_module, "_RANGE", 7)
    await ledgers.start()
    one = await ledgers.worker()
    count = 130
    events = [named(n, f"e{n}") for n in range(1, count + 1)]
    reports = [(n, side, DELIVERED, 200) for n in range(1, count + 1) for side in (0, 1)]
    await one.say_durably(events, reports)
    await restart(ledgers)
    two = await ledgers.worker("s2", 1)
    two.ask(*((n, f"e{n}", BODY) for n in range(1, count + 1)))
    await until(lambda: len(two.verdicts) == count, "all known")
    kept = sorted(n for n, kind, _ in two.verdicts if kind == DONE)
    assert kept == list(range(count - len(kept) + 1, count + 1)), "the newest"
    assert len(kept) == 100
    assert ledgers.keeper is not None
    assert ledgers.keeper.counters()["dedupe_ids_dropped"] > 0
    assert ledgers.keeper.remembered() == {"events": 100}


async def test_the_window_reaches_behind_a_segment_that_was_just_begun(ledgers: Ledgers) -> None:
    keeper = await ledgers.start()
    one = await ledgers.worker()
    await one.say_durably([named(1, "a")], OK, answers=[(1, 201)])
    await keeper.committer.write(keeper._store.roll)
    await restart(ledgers, clean=True)
    two = await ledgers.worker("s2", 1)
    two.ask((1, "a", BODY))
    await heard(two, (1, DONE, 201))


async def test_a_segment_that_is_dropped_before_it_is_read_ends_the_window(ledgers: Ledgers) -> None:
    keeper = await ledgers.start()
    one = await ledgers.worker()
    await one.say_durably([named(1, "a")], OK, answers=[(1, 201)])
    await keeper.committer.write(keeper._store.roll)
    await one.say_durably([named(2, "b")], [(2, side, code, status) for _, side, code, status in OK])
    assert keeper.book.arbiter is not None
    store = keeper._store
    recall = Recall(store.segments, keeper.book.arbiter.routes, store.next_seq, ledgers.clock())
    assert [each.id for each in recall.step() or []] == [id_digest("b")]
    unlink_segment(store.segments[0].path)
    assert recall.step() is None


async def test_events_in_flight_are_awaited_over_a_restart(ledgers: Ledgers) -> None:
    await ledgers.start()
    one = await ledgers.worker("s1")
    ids = ("durable", "not durable", "granted", "asked")
    one.ask(*((n, id, BODY) for n, id in enumerate(ids[:3], 1)))
    await until(lambda: len(one.verdicts) == 3, "granted")
    one.verdicts.clear()
    await one.say_durably([named(1, "durable")])
    await restart(ledgers)
    two = await ledgers.worker("s2", 1)
    two.ask(*((n, id, BODY) for n, id in enumerate(ids, 1)))
    await one.connect()
    one.say([named(2, "not durable")])
    one.ask((2, ids[1], BODY, True), (3, ids[2], BODY, True), (4, ids[3], b"y"), anew=True)
    await until(lambda: {n for n, *_ in one.verdicts} == {2, 3, 4}, "known at the first worker")
    assert {n: kind for n, kind, _ in one.verdicts} == {2: FIRST, 3: FIRST, 4: CONFLICT}
    await heard(two, (4, FIRST, 0))
    one.say([], [(n, side, DELIVERED, 201) for n in (1, 2) for side in (0, 1)], answers=[(1, 201), (2, 201)])
    await until(lambda: len(two.verdicts) == 2, "known at the second worker")
    assert sorted(two.verdicts) == [(1, DONE, 201), (2, DONE, 201)]
    two.verdicts.clear()
    one.ask(withdrawn=[3])
    await heard(two, (3, FIRST, 0))


async def test_the_answer_of_an_event_in_flight_may_be_on_record_without_its_outcome(ledgers: Ledgers) -> None:
    await ledgers.start()
    one = await ledgers.worker("s1")
    one.ask((1, "a", BODY))
    await one.say_durably([named(1, "a")], answers=[(1, 503)])
    await restart(ledgers)
    await one.connect()
    two = await ledgers.worker("s2", 1)
    two.ask((1, "a", BODY))
    one.say([], OK)
    await heard(two, (1, DONE, 201))


async def test_an_outcome_on_record_does_not_wait_for_the_copy(ledgers: Ledgers) -> None:
    await ledgers.start()
    one = await ledgers.worker("s1")
    one.ask((1, "a", BODY))
    await one.say_durably([named(1, "a")], [(1, 0, DELIVERED, 201), (1, 1, PARKED, 0)], answers=[(1, 201)])
    await restart(ledgers)
    await one.connect()
    one.ask(anew=True)
    two = await ledgers.worker("s2", 1)
    two.ask((1, "a", BODY))
    await heard(two, (1, DONE, 201))


@pytest.mark.parametrize("ack", ["authority", "both"])
async def test_of_two_on_record_the_later_one_holds_the_claim(ledgers: Ledgers, ack: str) -> None:
    """The first was refused, with its copy on its way, and the second let through; then the ledger dies."""
    ledgers.settings = settings_for(ledgers.directory.parent, route=ROUTE_KEYS | {"ack": ack})
    await ledgers.start()
    one, two = await ledgers.worker("s1"), await ledgers.worker("s2", 1)
    one.ask((1, "a", BODY))
    await heard(one, (1, FIRST, 0))
    two.ask((1, "a", BODY))
    await one.say_durably([named(1, "a")], [(1, 0, REFUSED, 422)], answers=[(1, 422)])
    await heard(two, (1, FIRST, 0))
    await two.say_durably([named(1, "a")])
    await restart(ledgers)
    await one.connect()
    one.ask(anew=True)
    await two.connect()
    two.ask((1, "a", BODY, True), anew=True)
    three = await ledgers.worker("s3", 2)
    three.ask((1, "a", BODY))
    await one.say_durably([], [(1, 1, REFUSED, 422)])
    two.say([], OK, answers=[(1, 201)])
    await heard(three, (1, DONE, 201))


async def test_a_claim_that_is_asked_for_again_does_not_hide_what_the_record_says(ledgers: Ledgers) -> None:
    await ledgers.start()
    one = await ledgers.worker("s1")
    one.ask((1, "a", BODY))
    await one.say_durably([named(1, "a")], [(1, 0, DELIVERED, 201), (1, 1, PARKED, 0)])
    await restart(ledgers)
    await one.connect()
    one.ask((1, "a", BODY, True), anew=True)
    two = await ledgers.worker("s2", 1)
    two.ask((1, "a", BODY))
    await one.die()
    await heard(two, (1, DONE, 201))


async def test_a_worker_that_does_not_come_back_leaves_its_events_to_the_ledger(ledgers: Ledgers) -> None:
    await ledgers.start()
    one = await ledgers.worker("s1")
    one.ask((1, "a", BODY))
    await one.say_durably([named(1, "a")])
    await restart(ledgers)
    two = await ledgers.worker("s2", 1)
    two.ask((1, "a", BODY), (2, "b", BODY))
    await until(lambda: len(two.verdicts) == 2, "all known")
    assert sorted(two.verdicts) == [(1, DONE, 202), (2, FIRST, 0)]
    await until(lambda: ledgers.backends.attempts.total() == 2, "delivered to both sides, once")


async def test_a_stream_that_was_closed_before_leaves_them_too(ledgers: Ledgers) -> None:
    ledgers.backends.default[0] = Outcome(TURNED_AWAY, 400)
    ledgers.backends.open.clear()
    await ledgers.start()
    one = await ledgers.worker("s1")
    await one.say_durably([named(1, "a")])
    await one.die()
    await asyncio.sleep(0)
    await restart(ledgers, clean=True)
    two = await ledgers.worker("s2", 1)
    two.ask((1, "a", BODY))
    await heard(two, (1, DONE, 202))
    ledgers.backends.open.set()


async def test_claims_without_a_window_are_garbage(ledgers: Ledgers) -> None:
    ledgers.settings = settings_for(ledgers.directory.parent)
    keeper = await ledgers.start()
    worker = await ledgers.worker()
    worker.ask((1, "a", BODY))
    await until(lambda: worker.is_closed, "closed")
    assert keeper.counters()["garbage_connections"] == 1
    assert keeper.remembered() == {}
