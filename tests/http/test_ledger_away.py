"""A ledger that is away, comes back, or has no room."""

from __future__ import annotations

from time import monotonic

import pytest

from proxy.ledger.marks import LOW_DISK
from tests.http.acts import ask
from tests.http.backend import always, reply
from tests.http.rig import event_bytes, make_route, running
from tests.http.wire import until


@pytest.mark.asyncio
async def test_while_the_ledger_is_away_healthy_events_go_on_and_are_recorded_later() -> None:
    async with running() as rig:
        rig.fake.stop()
        await until(lambda: not rig.ledger.is_connected, "away")
        wire = await rig.wire()
        for i in range(5):
            assert (await wire.ask(event_bytes(f"e{i}", key="k"))).status == 200
        assert not rig.fake.events
        await rig.fake.start()
        await rig.settled()
        assert [rig.story(f"e{i}") for i in range(5)] == [("D", "D")] * 5
        rig.check_ends()


@pytest.mark.asyncio
async def test_a_ledger_that_was_started_again_gets_exactly_what_it_had_not_made_durable() -> None:
    async with running() as rig:
        assert (await rig.ask(event_bytes("durable", key="k"))).status == 200
        await rig.settled()
        durable = rig.fake.durable
        rig.fake.holds = True
        assert (await rig.ask(event_bytes("forgotten", key="k"))).status == 200
        await until(lambda: "forgotten" in rig.fake.events, "received")
        rig.fake.stop()
        assert durable == rig.fake.durable == max(rig.fake.frames)
        rig.fake.holds = False
        assert "forgotten" not in rig.fake.events
        await until(lambda: not rig.ledger.is_connected, "away")
        await rig.fake.start()
        await rig.settled()
        assert rig.story("forgotten") == ("D", "D")
        assert len(rig.fake.hellos) == 2
        assert rig.fake.hellos[0] == rig.fake.hellos[1]
        rig.check_ends()


@pytest.mark.asyncio
async def test_an_event_that_needs_the_ledger_waits_a_second_for_it() -> None:
    async with running() as rig:
        rig.plane.start()
        rig.fake.holds = True
        rig.new.behave = always(reply(500))
        asked = ask(rig, "e")
        await until(lambda: rig.ledger._waiters, "waits")
        rig.fake.stop()
        await until(lambda: rig.ledger.away_since is not None, "away")
        assert not asked.done()
        rig.ledger.away_since = monotonic() - 1.1
        answer = await asked
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert rig.plane.counters["ledger_unavailable"] == 1
        rig.fake.holds = False
        await rig.fake.start()
        await rig.settled()
        assert rig.story("e") == ("D", "H"), "what was recorded stays owed"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "policy", [{"ack": "accepted"}, {"durability": "before-send"}, {"ordering": "strict"}], ids=str
)
async def test_events_that_need_the_ledger_are_refused_while_it_is_away(policy: dict[str, str]) -> None:
    async with running(make_route(**policy)) as rig:
        rig.fake.stop()
        await until(lambda: rig.ledger.away_since is not None, "away")
        rig.ledger.away_since = monotonic() - 1.1
        answer = await rig.ask(event_bytes("e", key="k"))
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert rig.old.seen == rig.new.seen == []
        assert (rig.plane.counters["refused_ledger_away"], rig.plane.routes[0].failed) == (1, 1)
        await rig.fake.start()
        await until(lambda: rig.ledger.is_connected, "back")
        assert (await rig.ask(event_bytes("f", key="k"))).status in (200, 202)
        await rig.settled()
        assert "e" not in rig.fake.events


@pytest.mark.asyncio
async def test_a_strict_event_outlives_a_ledger_that_is_started_again() -> None:
    async with running(make_route(ordering="strict")) as rig:
        rig.fake.grants = False
        asked = ask(rig, "e")
        await until(lambda: rig.fake.wanted_turns, "waits")
        rig.fake.stop()
        await until(lambda: not rig.ledger.is_connected, "away")
        await rig.fake.start()
        await until(lambda: rig.ledger.is_connected, "back")
        rig.fake.grant(1)
        assert (await asked).status == 200


@pytest.mark.asyncio
async def test_low_disk_refuses_before_dispatch() -> None:
    async with running() as rig:
        rig.marks.set_flag(LOW_DISK, True)
        answer = await rig.ask(event_bytes("e", key="k"))
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert rig.old.seen == rig.new.seen == []
        assert not rig.fake.events
        assert (rig.plane.counters["refused_no_room"], rig.plane.routes[0].failed) == (1, 1)
        rig.marks.set_flag(LOW_DISK, False)
        assert (await rig.ask(event_bytes("f", key="k"))).status == 200
