"""Backends that come and go while a session goes on, and what becomes of its messages."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from config.model import Route
from proxy.core.routing import Dials
from proxy.websocket.upstream import DOWN
from tests.http.rig import COMPLETE, LIVE, OFF, SPLIT, key_for
from tests.http.wire import until
from tests.websocket.clients import Closed, Refused
from tests.websocket.rig import Opens, make_route, text

pytestmark = pytest.mark.asyncio


def one_sided(policy: str = "failover", **changes: Any) -> Route:
    """A route whose sessions have the side that the key of their handshake has."""
    return make_route({"unit": "connection"}, key="query:k", on_authority_down=policy, **changes)


@pytest.mark.parametrize("how", ["goodbye", "reset"])
async def test_a_copy_that_restarts_is_not_seen_and_misses_nothing(crossed: Opens, how: str) -> None:
    async with crossed() as rig:
        client = await rig.opened()
        await client.send(text(1))
        await until(lambda: rig.rig.fake.holds_event("m1") and rig.rig.story("m1") == ("D", "D"), "both have it")
        if how == "reset":
            rig.new.cut()
        await rig.new.stop()
        await until(lambda: rig.counted("websocket_backend_lost") == 1, "it was seen")
        for n in (2, 3):
            await client.send(text(n))
        await until(lambda: rig.rig.fake.holds_event("m3"), "recorded")
        await until(lambda: [rig.rig.story(f"m{n}") for n in (2, 3)] == [("D", "h"), ("D", "h")], "new is owed them")
        await rig.new.start()
        await until(lambda: bool(rig.new.connections), "it is back")
        await client.send(text(4))
        await until(lambda: rig.new.got == [text(1), text(4)], "live again: the ledger's part is not here")
        await until(lambda: rig.old.got == [text(n) for n in (1, 2, 3, 4)], "old has all")


async def test_nothing_overtakes_what_the_ledger_has(paired: Opens) -> None:
    async with paired() as rig:
        client = await rig.opened()
        rig.rig.mark(1, "a")
        await client.send(text(1))
        await until(lambda: rig.rig.fake.holds_event("m1"), "recorded")
        assert rig.rig.story("m1")[1] == "h"
        rig.rig.fake.holds = True
        rig.rig.mark(1, "a", False)
        await client.send(text(2))  # m1's record is durable, its mark is gone: sent
        await until(lambda: rig.new.got == [text(2)], "sent")
        rig.rig.mark(1, "a")
        await client.send(text(3))  # handed, and not confirmed
        await until(lambda: "m3" in rig.rig.fake.events, "recorded")
        rig.rig.mark(1, "a", False)  # as it looks before the ledger has set it
        await client.send(text(4))
        await until(lambda: "m4" in rig.rig.fake.events, "recorded")
        assert rig.rig.story("m4")[1] == "h"
        assert rig.new.got == [text(2)]


async def test_what_has_no_pong_is_handed_when_the_connection_is_lost(paired: Opens) -> None:
    async with paired() as rig:
        client = await rig.opened()
        rig.new.mute()
        await client.send(text(1))
        await until(lambda: "m1" in rig.rig.fake.events and rig.rig.story("m1")[0] == "D", "old has it")
        assert rig.rig.story("m1")[1] == ""
        rig.new.cut()
        await until(lambda: rig.rig.story("m1")[1] == "H", "handed")


async def test_what_was_ponged_a_moment_before_the_connection_was_lost_is_sent_again(paired: Opens) -> None:
    async with paired(make_route({"redeliver_window": "30s"})) as rig:
        client = await rig.opened()
        await client.send(text(1))
        await client.ping()  # it is safe
        await until(lambda: rig.new.got == [text(1)], "new has it")
        await until(lambda: rig.rig.story("m1") == ("r", "r"), "told, and it may yet be taken back")
        rig.new.cut()
        await until(lambda: rig.rig.story("m1") == ("r", "rH"), "handed")
        await client.close()
        await until(lambda: rig.rig.story("m1") == ("rD", "rH"), "a close in order settles")


async def test_the_window_ends(paired: Opens) -> None:
    async with paired(make_route({"redeliver_window": "200ms"})) as rig:
        client = await rig.opened()
        await client.send(text(1))
        await until(lambda: "m1" in rig.rig.fake.events and rig.rig.story("m1") == ("r", "r"), "received")
        await until(lambda: not rig.only_session.links[1].unsettled, "forgotten")
        rig.new.cut()
        await until(lambda: rig.counted("websocket_backend_lost") == 1, "it was seen")
        assert rig.rig.story("m1") == ("r", "r")


async def test_the_authority_restarts_and_the_client_hears_from_the_other_side(crossed: Opens) -> None:
    async with crossed(dials=LIVE) as rig:
        rig.old.replies = rig.new.replies = True
        client = await rig.opened()
        key = key_for(0, LIVE)
        await client.send(text(1, key))
        assert await client.recv() == f"old:{text(1, key)}"
        await rig.old.stop()
        await client.send(text(2, key))
        assert await client.recv() == f"new:{text(2, key)}"
        await until(lambda: rig.rig.fake.holds_event("m2") and rig.rig.story("m2") == ("h", "D"), "old is owed it")
        assert rig.rig.plane.counters["failovers"] == 1


async def test_without_a_failover_messages_are_accepted_for_the_authority(paired: Opens) -> None:
    async with paired(dials=OFF) as rig:
        client = await rig.opened(new=False)
        await rig.old.stop()
        await client.send(text(1))
        await client.ping()
        assert rig.rig.story("m1") == ("h", "-")
        assert rig.rig.fake.holds_event("m1")


async def test_on_authority_down_fail_closes_with_1013(paired: Opens) -> None:
    async with paired(make_route(on_authority_down="fail"), dials=OFF) as rig:
        client = await rig.opened(new=False)
        await rig.old.stop()
        await until(lambda: rig.counted("websocket_backend_lost") == 1, "it was seen")
        await client.send(text(1))
        with pytest.raises(Closed) as closed:
            await client.recv()
        assert closed.value.code == 1013
        assert not rig.rig.fake.events
        assert rig.rig.plane.routes[0].failed == 1


async def test_a_backend_that_answers_no_ping_is_let_go(paired: Opens) -> None:
    async with paired(backend_settings={"response_timeout": "200ms"}) as rig:
        client = await rig.opened()
        rig.new.mute()
        await client.send(text(1))
        await until(lambda: "m1" in rig.rig.fake.events and rig.rig.story("m1") == ("D", "H"), "handed")


async def test_a_backend_that_breaks_the_rules_is_let_go_and_the_client_does_not_see_it(paired: Opens) -> None:
    async with paired() as rig:
        client = await rig.opened()
        rig.new.connection.write(b"\x83\x00")
        await until(lambda: rig.counted("websocket_backend_broken") == 1, "it was seen")
        await client.send(text(1))
        await until(lambda: rig.old.got == [text(1)], "the session goes on")


async def test_what_is_handed_waits_for_what_is_still_in_the_link(paired: Opens) -> None:
    async with paired() as rig:
        client = await rig.opened()
        rig.new.mute()
        n = 0
        events = rig.rig.fake.events
        while not any(event.handed for id, event in events.items() if id.startswith("m")):
            await client.send(json.dumps({"id": f"m{n}", "key": "a", "pad": "x" * 30_000}))
            await client.send(json.dumps({"id": f"b{n}", "key": "b"}))
            await asyncio.sleep(0)
            n += 1
        first = next(n for n in range(n) if f"m{n}" in events and events[f"m{n}"].handed)
        before = [f"m{n}" for n in range(first)]
        await until(lambda: all(rig.rig.story(name)[1] == "P" for name in before), "the ledger knows of them all")
        rig.new.unmute()


# a session that has one side


@pytest.mark.parametrize("side", [0, 1], ids=["old", "new"])
async def test_unit_connection_its_side_down_at_the_handshake_the_other_one_answers(paired: Opens, side: int) -> None:
    lost = ("old", "new")[side]
    async with paired(one_sided(), dials=SPLIT, down=[lost]) as rig:
        lost_backend, other = (rig.old, rig.new)[side], (rig.new, rig.old)[side]
        other.greeting, other.replies = "hello", True
        client = await rig.client(query=f"?k={key_for(side, SPLIT)}")
        assert await client.recv() == "hello"
        await client.send(text(1))
        assert await client.recv() == f"{other.name}:{text(1)}"
        assert not rig.counted("accepted_for_authority")
        await lost_backend.start()
        await until(lambda: bool(lost_backend.connections), "it is asked again")
        await client.send(text(2))
        await until(lambda: lost_backend.got == [text(2)], "and has its session back")


@pytest.mark.parametrize("policy", ["accept", "fail"])
async def test_unit_connection_its_side_down_at_the_handshake_the_policy_is_applied(paired: Opens, policy: str) -> None:
    async with paired(one_sided(policy), dials=SPLIT, down=["new"]) as rig:
        query = f"?k={key_for(1, SPLIT)}"
        if policy == "fail":
            with pytest.raises(Refused) as refused:
                await rig.client(query=query)
            assert refused.value.status == 502
            assert not rig.old.requests
            return
        client = await rig.client(query=query)
        await client.send(text(1))
        await client.ping()
        assert rig.rig.story("m1") == ("-", "h")
        assert rig.counted("websocket_opened_without_authority") == 1


@pytest.mark.parametrize("dials", [OFF, COMPLETE], ids=["off", "complete"])
async def test_unit_connection_a_side_that_has_no_part_does_not_answer(paired: Opens, dials: Dials) -> None:
    lost = "new" if dials is COMPLETE else "old"
    async with paired(one_sided(), dials=dials, down=[lost]) as rig:
        with pytest.raises(Refused) as refused:
            await rig.client(query="?k=a")
        assert refused.value.status == 502
        assert not rig.old.requests + rig.new.requests


async def test_unit_connection_who_asks_for_a_side_gets_no_other_one(paired: Opens) -> None:
    async with paired(one_sided(override="header:X-Side"), dials=SPLIT, down=["new"]) as rig:
        with pytest.raises(Refused) as refused:
            await rig.client(headers={"X-Side": "new"})
        assert refused.value.status == 502
        assert not rig.old.requests


async def test_unit_connection_both_down_is_a_bad_gateway(paired: Opens) -> None:
    async with paired(one_sided(), dials=SPLIT, down=["old", "new"]) as rig:
        with pytest.raises(Refused) as refused:
            await rig.client(query=f"?k={key_for(1, SPLIT)}")
        assert refused.value.status == 502


@pytest.mark.parametrize("dials", [SPLIT, COMPLETE], ids=["split", "complete"])
@pytest.mark.parametrize("side", [0, 1], ids=["old", "new"])
async def test_unit_connection_its_side_is_lost_and_the_other_one_has_the_first_message(
    paired: Opens, side: int, dials: Dials
) -> None:
    async with paired(one_sided(drain_wait="5s"), dials=SPLIT) as rig:
        lost, other = (rig.old, rig.new)[side], (rig.new, rig.old)[side]
        other.replies = True
        client = await rig.client(query=f"?k={key_for(side, SPLIT)}")
        rig.rig.turn(dials)
        await lost.stop()
        await until(lambda: rig.counted("websocket_backend_lost") == 1, "it was seen")
        assert not other.requests
        await client.send(text(1))
        await client.send(text(2))
        if side == 1 and dials is COMPLETE:
            await client.ping()
            assert rig.rig.story("m1") == ("-", "h"), "old has no part any more"
            return
        assert [await client.recv(), await client.recv()] == [f"{other.name}:{text(n)}" for n in (1, 2)]
        assert not rig.counted("accepted_for_authority")
        assert rig.counted("failovers") == 2


@pytest.mark.parametrize("policy", ["accept", "fail"])
async def test_unit_connection_its_side_is_lost_and_the_policy_is_applied(paired: Opens, policy: str) -> None:
    async with paired(one_sided(policy), dials=SPLIT) as rig:
        client = await rig.client(query=f"?k={key_for(1, SPLIT)}")
        await rig.new.stop()
        await until(lambda: rig.counted("websocket_backend_lost") == 1, "it was seen")
        await client.send(text(1))
        if policy == "fail":
            with pytest.raises(Closed) as closed:
                await client.recv()
            assert closed.value.code == 1013
        else:
            await client.ping()
            assert rig.rig.story("m1") == ("-", "h")
        assert not rig.old.requests


async def test_unit_connection_a_side_that_takes_over_is_waited_for_once(paired: Opens) -> None:
    async with paired(one_sided(drain_wait="300ms"), dials=SPLIT) as rig:
        rig.old.gate = gate = asyncio.Event()
        client = await rig.client(query=f"?k={key_for(1, SPLIT)}")
        await rig.new.stop()
        await until(lambda: rig.counted("websocket_backend_lost") == 1, "it was seen")
        for n in (1, 2):
            await client.send(text(n))
        await until(lambda: bool(rig.old.requests), "old is asked")
        assert not rig.rig.fake.events
        await until(lambda: rig.counted("accepted_for_authority") == 2, "it does not answer in time")
        gate.set()


async def test_unit_connection_with_both_sides_lost_its_messages_are_accepted(paired: Opens) -> None:
    async with paired(one_sided(drain_wait="1h"), dials=SPLIT) as rig:
        client = await rig.client(query=f"?k={key_for(1, SPLIT)}")
        await rig.old.stop()
        await rig.new.stop()
        await until(lambda: rig.only_session.links[1].state == DOWN, "it was seen")
        await client.send(text(1))
        await client.ping()
        assert rig.rig.story("m1") == ("-", "h")
