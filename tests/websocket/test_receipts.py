"""What a client is promised by the Pong to its Ping, and by the answer to its Close."""

from __future__ import annotations

import asyncio

import pytest

from tests.http.rig import OFF
from tests.http.wire import until
from tests.websocket.byhand import PING, TEXT, closing, sent
from tests.websocket.rig import Opens, make_route, text

pytestmark = pytest.mark.asyncio


async def test_a_ping_is_answered_once_what_came_before_it_is_safe(paired: Opens) -> None:
    async with paired() as rig:
        rig.rig.fake.holds = True
        client = await rig.opened()
        await client.ping()
        rig.new.mute()
        await client.send(text(1))
        waiting = asyncio.ensure_future(client.ping())
        await until(lambda: "m1" in rig.rig.fake.events and rig.rig.story("m1") == ("D", "P"), "parked")
        await asyncio.sleep(0.05)
        assert not waiting.done()
        rig.rig.fake.holds = False
        rig.rig.fake.release()
        await asyncio.wait_for(waiting, 5)
        rig.new.unmute()
        await until(lambda: rig.rig.story("m1") == ("D", "PD"), "the copy was on its way all the time")


async def test_a_close_is_answered_once_what_came_before_it_is_safe(paired: Opens) -> None:
    async with paired() as rig:
        client = await rig.opened()
        for n in range(50):
            await client.send(text(n))
        await client.close(4001, "done")
        assert client.close_code == 4001
        assert len(rig.rig.fake.events) == 50
        await until(lambda: len(rig.old.got) == len(rig.new.got) == 50, "all are there")
        await until(lambda: rig.old.closed == rig.new.closed == [4001], "backends hear the code")


async def test_a_client_that_just_leaves_takes_nothing_with_it(paired: Opens) -> None:
    async with paired() as rig:
        client = await rig.opened()
        for n in range(50):
            await client.send(text(n))
        client.abort()
        await until(lambda: not rig.sessions.open, "the session is over")
        names = sorted(rig.rig.fake.events)
        await until(lambda: all(rig.rig.story(name) == ("D", "D") for name in names), "receipts")
        await until(lambda: len(rig.old.got) == len(rig.new.got) == len(names), "all are there")


async def test_pings_that_wait_are_limited(paired: Opens) -> None:
    async with paired(make_route(on_authority_down="accept"), dials=OFF) as rig:
        rig.rig.fake.holds = True
        client = await rig.by_hand(new=False)
        rig.old.mute()
        client.send(sent(TEXT, text(1).encode()), sent(PING) * 2_000)
        assert await client.closed() == (1008, "too many Pings")
        rig.old.unmute()


async def test_a_close_frame_that_crosses_ours_is_no_receipt(paired: Opens) -> None:
    async with paired(make_route({"redeliver_window": "5s"})) as rig:
        client = await rig.opened()
        rig.new.mute()
        await client.send(text(1))
        await until(lambda: rig.old.got == [text(1)], "old has it")
        client.abort()
        await until(lambda: rig.only_session.is_over, "the client is gone")
        rig.new.connection.write(closing(1001, masked=False))
        await until(lambda: rig.rig.story("m1")[1] == "H", "handed")
