"""Order: events behind a backlog, and events that wait for their turn."""

from __future__ import annotations

import asyncio

import pytest

from proxy.core.event import NEW, OLD
from tests.http.acts import ask, turns
from tests.http.backend import BackendConnection, Seen, always, reply
from tests.http.rig import LIVE, event_bytes, key_for, make_route, running
from tests.http.wire import until

# backlogs


@pytest.mark.asyncio
async def test_the_copy_of_a_marked_bucket_goes_to_the_ledger_before_the_answer() -> None:
    async with running() as rig:
        rig.fake.holds = True
        rig.mark(NEW, "k")
        asked = ask(rig, "e")
        await until(lambda: rig.old.seen, "the authority got it")
        await turns()
        assert not asked.done()
        rig.fake.holds = False
        rig.fake.release()
        assert (await asked).status == 200
        await rig.settled()
        assert rig.story("e") == ("D", "h")
        assert rig.new.seen == []


@pytest.mark.asyncio
async def test_a_marked_copy_is_taken_back_when_the_authority_refuses() -> None:
    async with running() as rig:
        rig.mark(NEW, "k")
        rig.old.behave = always(reply(400))
        assert (await rig.ask(event_bytes("e", key="k"))).status == 400
        await rig.settled()
        assert rig.story("e") == ("R", "hX")


@pytest.mark.asyncio
async def test_without_ordering_a_mark_is_not_looked_at() -> None:
    async with running(make_route(ordering="none")) as rig:
        rig.mark(NEW, "k")
        rig.mark(OLD, "k")
        assert (await rig.ask(event_bytes("e", key="k"))).status == 200
        await rig.settled()
        assert rig.story("e") == ("D", "D")


@pytest.mark.asyncio
async def test_an_event_waits_until_its_authority_has_no_backlog() -> None:
    async with running(make_route(drain_wait="60s", on_authority_down="accept")) as rig:
        rig.mark(OLD, "k")
        asked = ask(rig, "e")
        await until(lambda: rig.plane.counters.get("waited_for_backlog"), "waits")
        assert rig.old.seen == rig.new.seen == []
        rig.mark(OLD, "k", marked=False)
        assert (await asked).status == 200
        await rig.settled()
        assert rig.story("e") == ("D", "D")


@pytest.mark.asyncio
@pytest.mark.parametrize(("down", "status", "story"), [("accept", 202, ("H", "H")), ("fail", 503, ("X", "X"))])
async def test_a_backlog_that_does_not_drain_in_time(down: str, status: int, story: tuple[str, str]) -> None:
    async with running(make_route(drain_wait="10ms", on_authority_down=down)) as rig:
        rig.mark(OLD, "k")
        answer = await rig.ask(event_bytes("e", key="k"))
        assert answer.status == status
        assert (answer.headers.get("retry-after") == "1") == (status == 503)
        await rig.settled()
        assert rig.story("e") == story
        assert rig.old.seen == rig.new.seen == []


@pytest.mark.asyncio
@pytest.mark.parametrize("durability", ["before-send", "before-ack"])
async def test_past_a_backlog_the_other_side_answers(durability: str) -> None:
    async with running(make_route(durability=durability, drain_wait="60s"), dials=LIVE) as rig:
        key = key_for(NEW)
        rig.mark(NEW, key)
        early: list[str] = []

        def behave(seen: Seen, connection: BackendConnection) -> None:
            if not rig.fake.holds_event(seen.id):
                early.append(seen.id)
            connection.write(reply(201))

        rig.old.behave = behave
        assert (await rig.ask(event_bytes("e", key=key))).status == 201
        await rig.settled()
        assert rig.story("e") == ("AD", "H")
        assert rig.new.seen == []
        assert rig.old.seen[0].role == "authority"
        assert durability == "before-ack" or not early


@pytest.mark.asyncio
async def test_with_both_sides_behind_the_ledger_takes_the_event() -> None:
    async with running(make_route(drain_wait="10ms"), dials=LIVE) as rig:
        key = key_for(NEW)
        rig.mark(NEW, key)
        rig.mark(OLD, key)
        assert (await rig.ask(event_bytes("e", key=key))).status == 202
        await rig.settled()
        assert rig.story("e") == ("H", "H")


@pytest.mark.asyncio
async def test_ack_both_waits_for_a_backlog_in_vain_and_everything_stays_owed() -> None:
    async with running(make_route(ack="both", drain_wait="10ms"), dials=LIVE) as rig:
        key = key_for(NEW)
        rig.mark(NEW, key)
        assert (await rig.ask(event_bytes("e", key=key))).status == 503
        await rig.settled()
        assert rig.story("e") == ("H", "H")


# strict order


@pytest.mark.asyncio
async def test_strict_ordering_waits_for_the_turn() -> None:
    async with running(make_route(ordering="strict")) as rig:
        rig.fake.grants = False
        first, second = ask(rig, "e1"), ask(rig, "e2")
        await until(lambda: len(rig.fake.wanted_turns) == 2, "both wait")
        await turns()
        assert rig.old.seen == []
        numbers = [rig.fake.events[event_id].n for event_id in ("e1", "e2")]
        rig.fake.grant(numbers[0])
        assert (await first).status == 200
        assert not second.done()
        rig.fake.grant(numbers[1])
        assert (await second).status == 200
        await rig.settled()
        rig.check_ends()
        assert rig.old.ids() == rig.new.ids() == ["e1", "e2"]


@pytest.mark.asyncio
async def test_a_turn_that_comes_again_is_nothing_new() -> None:
    async with running(make_route(ordering="strict")) as rig:
        assert (await rig.ask(event_bytes("e", key="k"))).status == 200
        rig.fake.grant(1)
        assert (await rig.ask(event_bytes("f", key="k"))).status == 200
        await rig.settled()
        assert rig.old.ids() == ["e", "f"]


@pytest.mark.asyncio
async def test_strict_ordering_hands_the_copy_of_a_marked_bucket() -> None:
    async with running(make_route(ordering="strict")) as rig:
        rig.mark(NEW, "k")
        assert (await rig.ask(event_bytes("e", key="k"))).status == 200
        await rig.settled()
        assert rig.story("e") == ("D", "H")


@pytest.mark.asyncio
async def test_the_wait_for_a_backlog_begins_when_the_event_is_there_and_not_with_its_first_byte() -> None:
    async with running(make_route(drain_wait="200ms", on_authority_down="fail"), dials=LIVE) as rig:
        key = key_for(OLD)
        rig.mark(OLD, key)
        data = event_bytes("e", key=key)
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        writer.write(data[:20])
        await asyncio.sleep(0.3)
        asyncio.get_running_loop().call_later(0.05, rig.mark, OLD, key, False)
        writer.write(data[20:])
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        await rig.settled()
