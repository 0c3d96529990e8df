"""Dials that are turned while sessions are open: nothing goes astray, and nobody is dropped for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proxy.core.routing import Dials
from tests.http.rig import COMPLETE, DUAL, OFF, SPLIT, key_for
from tests.http.wire import until
from tests.websocket.clients import Client, Closed
from tests.websocket.rig import Opens, SessionRig, make_route, text

pytestmark = pytest.mark.asyncio

REPLIES = {"receipt": "reply", "reply": {"message_id": "/id", "reply_id": "/id"}}


@asynccontextmanager
async def gated(rig: SessionRig, side: int) -> AsyncIterator[asyncio.Event]:
    """A backend whose handshakes wait for this."""
    backend = (rig.old, rig.new)[side]
    backend.gate = gate = asyncio.Event()
    try:
        yield gate
    finally:
        gate.set()


async def opened(rig: SessionRig, dials: Dials) -> Client:
    """A session that began at these dials, where one side alone has a part in it."""
    client = await rig.client()
    backend = rig.new if dials is COMPLETE else rig.old
    await until(lambda: bool(backend.connections), "its backend is connected")
    return client


@pytest.mark.parametrize("policy", ["failover", "accept", "fail"])
@pytest.mark.parametrize("dials", [SPLIT, COMPLETE], ids=["split", "complete"])
async def test_the_first_messages_that_are_for_new_go_there(paired: Opens, dials: Dials, policy: str) -> None:
    async with paired(make_route(on_authority_down=policy), dials=OFF) as rig:
        client = await opened(rig, OFF)
        key = key_for(1, SPLIT)
        await client.send(text(1, key))
        await until(lambda: rig.old.got == [text(1, key)], "old has it")
        rig.rig.turn(dials)
        for n in (2, 3):
            await client.send(text(n, key))
        await until(lambda: rig.new.got == [text(2, key), text(3, key)], "new has them")
        await until(
            lambda: [rig.rig.story(f"m{n}") for n in (2, 3)] == [("-", "D"), ("-", "D")], "and owes no failover"
        )
        assert not rig.counted("failovers")
        assert rig.counted("websocket_held") >= 1


async def test_the_first_messages_after_a_rollback_are_answered_by_old(paired: Opens) -> None:
    async with paired(dials=COMPLETE) as rig:
        rig.old.replies = True
        client = await opened(rig, COMPLETE)
        rig.rig.turn(OFF)
        await client.send(text(1))
        assert await client.recv() == f"old:{text(1)}"
        assert rig.rig.story("m1") == ("D", "-")
        assert not rig.counted("accepted_for_authority")


@pytest.mark.parametrize("dials", [SPLIT, DUAL], ids=["split", "dualwrite"])
async def test_a_side_that_gets_a_part_is_connected_before_there_is_a_message(paired: Opens, dials: Dials) -> None:
    async with paired(dials=OFF) as rig:
        rig.new.greeting = "hello"
        clients = [await opened(rig, OFF) for _ in range(3)]
        await asyncio.sleep(0.2)  # in the middle of a round that has looked at all of them
        assert not rig.new.connections
        rig.rig.turn(dials)
        await until(lambda: len(rig.new.connections) == 3, "all of them are")
        if dials is SPLIT:
            assert [await client.recv() for client in clients] == ["hello"] * 3


async def test_dials_that_are_turned_all_the_time_leave_no_session_out(paired: Opens) -> None:
    async with paired(dials=OFF) as rig:
        for _ in range(8):
            await rig.client()
        await until(lambda: not rig.sessions.watched, "nothing is to happen soon")
        for n in range(100):
            rig.rig.turn(Dials(50.0 + n % 2, "none"))
            await asyncio.sleep(0.005)  # between any two steps of a round
        assert len(rig.new.connections) == 8


async def test_a_first_handshake_that_takes_too_long_is_an_authority_that_is_down(paired: Opens) -> None:
    async with paired(make_route(drain_wait="300ms"), dials=OFF) as rig, gated(rig, 1) as gate:
        client = await opened(rig, OFF)
        rig.rig.turn(SPLIT)
        for n in (1, 2):
            await client.send(text(n, key_for(1, SPLIT)))
            await client.send(text(n + 10, key_for(1, SPLIT, start=500)))
        await asyncio.sleep(0.1)
        assert rig.old.got == []
        await until(lambda: len(rig.old.got) == 4, "old has them instead, of all keys after one wait")
        assert rig.counted("failovers") == 4
        gate.set()
        await until(lambda: bool(rig.new.connections), "it is there")
        await client.send(text(3, key_for(1, SPLIT)))
        await until(lambda: rig.new.got == [text(3, key_for(1, SPLIT))], "and has its part")


async def test_a_first_handshake_that_fails_is_not_waited_for(paired: Opens) -> None:
    async with paired(make_route(drain_wait="1h"), dials=OFF, down=["new"]) as rig:
        client = await opened(rig, OFF)
        rig.rig.turn(SPLIT)
        await client.send(text(1, key_for(1, SPLIT)))
        await until(lambda: rig.old.got == [text(1, key_for(1, SPLIT))], "old has it instead")


# a backlog at an authority that is connected


async def test_under_fail_a_backlog_is_waited_for(paired: Opens) -> None:
    async with paired(make_route(on_authority_down="fail"), dials=OFF) as rig:
        rig.old.replies = True
        client = await opened(rig, OFF)
        rig.rig.mark(0, "a")
        await client.send(text(1))
        await until(lambda: rig.counted("waited_for_backlog") == 1, "it waits")
        await asyncio.sleep(0.1)
        assert rig.old.got == []
        rig.rig.mark(0, "a", False)
        assert await client.recv() == f"old:{text(1)}"


async def test_under_fail_a_backlog_that_does_not_drain_ends_the_session(paired: Opens) -> None:
    async with paired(make_route(on_authority_down="fail", drain_wait="200ms"), dials=OFF) as rig:
        client = await opened(rig, OFF)
        rig.rig.mark(0, "a")
        await client.send(text(1))
        with pytest.raises(Closed) as closed:
            await client.recv()
        assert closed.value.code == 1013
        assert rig.rig.fake.events == {}


@pytest.mark.parametrize("websocket", [{}, REPLIES], ids=["pong", "reply"])
async def test_who_waits_for_a_reply_has_it_behind_the_backlog(paired: Opens, websocket: dict[str, Any]) -> None:
    async with paired(make_route(websocket, drain_wait="300ms"), dials=OFF) as rig:
        rig.old.answers = str
        client = await opened(rig, OFF)
        rig.rig.mark(0, "a")
        await client.send(text(1))
        if not websocket:
            await until(lambda: rig.rig.fake.holds_event("m1"), "it is safe with the ledger, and nobody waits")
            assert rig.rig.story("m1")[0] == "h"
            return
        await asyncio.sleep(0.1)
        rig.rig.mark(0, "a", False)
        assert await client.recv() == text(1)
        rig.rig.mark(0, "a")
        await client.send(text(2))
        await until(lambda: rig.rig.fake.holds_event("m2") and rig.rig.story("m2")[0] == "h", "it does not drain")
        waited = rig.counted("waited_for_backlog")
        await client.send(text(3))
        await until(lambda: rig.rig.fake.holds_event("m3"), "nor is it waited for once more")
        assert rig.counted("waited_for_backlog") == waited
        rig.rig.mark(0, "a", False)
        await until(lambda: rig.only_session.links[0].can_take(rig.rig.plane.bucket("a")), "drained")
        await client.send(text(4))
        assert await client.recv() == text(4)


async def test_a_side_is_waited_for_although_the_other_one_was_in_vain(paired: Opens) -> None:
    key = key_for(1, SPLIT)
    async with paired(make_route(REPLIES, drain_wait="500ms"), dials=OFF) as rig, gated(rig, 1) as gate:
        rig.new.answers = str
        client = await opened(rig, OFF)
        rig.rig.mark(0, key)
        await client.send(text(1, key))
        await until(lambda: rig.rig.fake.holds_event("m1"), "old was waited for, and its backlog did not drain")
        rig.rig.turn(SPLIT)
        await client.send(text(2, key))
        await until(lambda: bool(rig.new.requests), "new is asked for the first time")
        gate.set()
        assert await client.recv() == text(2, key)
        assert rig.rig.story("m2") == ("-", "D")
