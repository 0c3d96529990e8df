"""The bytes that deliveries on their way hold together."""

from __future__ import annotations

import asyncio

import pytest

from proxy.core.event import DELIVERED, NEW, Attempt, Outcome
from proxy.http.deliver import HttpDelivery
from proxy.http.room import Room
from tests.http.rig import OFF, running
from tests.http.test_deliver import EVENT, delivery
from tests.http.wire import until

pytestmark = pytest.mark.asyncio


async def test_who_enters_may_go_beyond_the_bound_and_the_next_ones_wait_in_their_order() -> None:
    room, entered = Room(100), list[int]()

    async def enter(name: int, size: int) -> None:
        await room.enter()
        entered.append(name)
        room.take(size)

    await enter(0, 99)
    await enter(1, 500)
    waiting = [asyncio.create_task(enter(name, 60)) for name in (2, 3, 4, 5)]
    await asyncio.sleep(0)
    room.give(99)
    await asyncio.sleep(0)
    assert entered == [0, 1]
    room.give(500)
    await asyncio.wait(waiting[:2])
    await asyncio.sleep(0)
    assert entered == [0, 1, 2, 3], "and the second one fills it"
    waiting[2].cancel()
    room.give(60)
    await asyncio.wait([waiting[3]])
    assert entered == [0, 1, 2, 3, 5]
    assert room.used == 120


async def test_one_that_leaves_as_its_turn_comes_leaves_it_to_the_next() -> None:
    room = Room(1)
    await room.enter()
    room.take(1)
    first, second = [asyncio.create_task(room.enter()) for _ in range(2)]
    await asyncio.sleep(0)
    room.give(1)
    first.cancel()
    await asyncio.wait_for(second, 5)


async def test_one_that_can_make_nothing_leaves_it_to_the_next() -> None:
    room = Room(1)
    await room.enter()
    room.take(1)
    first, second = [asyncio.create_task(room.enter()) for _ in range(2)]
    await asyncio.sleep(0)
    room.give(1)
    await asyncio.wait_for(first, 5)
    room.pass_on()
    await asyncio.wait_for(second, 5)


async def test_an_event_that_nothing_can_be_made_of_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(dials=OFF) as rig:
        found: HttpDelivery = delivery(rig)
        found._rooms["new"] = room = Room(10)
        room.take(10)
        waiting = [asyncio.create_task(found.deliver(EVENT, Attempt(NEW, "replay", n))) for n in (1, 2)]
        await asyncio.sleep(0)
        with monkeypatch.context() as broken:
            broken.setattr("proxy.http.deliver.rendered_for", lambda *_: 1 / 0)
            room.give(10)
            with pytest.raises(ZeroDivisionError):
                await asyncio.wait_for(waiting[0], 5)
        ended, _ = await asyncio.wait(waiting, timeout=5)
        assert len(ended) == 2


async def test_deliveries_to_a_backend_that_answers_nothing_are_bounded_and_others_go_on() -> None:
    async with running(dials=OFF) as rig:
        rig.new.behave = lambda seen, connection: None
        found: HttpDelivery = delivery(rig)
        found._rooms["new"] = room = Room(10)
        tasks = [asyncio.create_task(found.deliver(EVENT, Attempt(NEW, "replay", 1))) for _ in range(6)]
        await until(lambda: rig.new.received.count(EVENT.body) == 2, "two of them are on their way")
        assert room.used == 2 * len(EVENT.body)
        outcome: Outcome = await found.deliver(EVENT, Attempt(0, "replay", 1))
        assert outcome.kind == DELIVERED
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (room.used, found._rooms["old"].used) == (0, 0)
