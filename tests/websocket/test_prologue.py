"""What both sides must have been told first, through a whole session."""

from __future__ import annotations

import json
from functools import partial

import pytest

from proxy.websocket.context import unpack_context
from tests.http.rig import DUAL, OFF
from tests.http.wire import until
from tests.websocket.backends import WsBackend
from tests.websocket.clients import Closed
from tests.websocket.rig import Opens, make_route, text

pytestmark = pytest.mark.asyncio


async def test_the_prologue_is_told_both_sides_and_first_of_all_on_each_new_connection(paired: Opens) -> None:
    route = make_route({"broadcast_first": 1, "broadcast": ({"pointer": "/type", "equals": "subscribe"},)})
    async with paired(route, dials=OFF) as rig:
        client = await rig.opened(new=False)
        login, subscribe = '{"type": "auth", "token": "secret"}', '{"type": "subscribe"}'
        await client.send(login)
        await client.send(text(1))
        await client.send(subscribe)
        await client.send(subscribe)
        await client.send(text(2))
        await until(lambda: len(rig.old.got) == 5, "old has them as they came")
        rig.rig.turn(DUAL)
        await client.send(text(3))
        await until(lambda: rig.new.got == [login, subscribe], "new is told as soon as it is there")
        assert sorted(rig.rig.fake.events) == ["m1", "m2", "m3"]
        rig.old.cut()
        await until(lambda: rig.old.got[-2:] == [login, subscribe], "and old again")
        await client.send(text(4))
        await until(lambda: rig.old.got[-1] == text(4), "then what is live")
        _, message = unpack_context(rig.rig.fake.events["m4"].context)
        assert message.prologue == ((1, login.encode()), (1, subscribe.encode()))


async def test_a_prologue_is_bounded(paired: Opens) -> None:
    async with paired(make_route({"broadcast": ({"pointer": "/type", "equals": "subscribe"},)})) as rig:
        client = await rig.opened()
        for n in range(70):
            await client.send(json.dumps({"type": "subscribe", "n": n, "pad": "x" * 1000}))
        with pytest.raises(Closed) as closed:
            await client.recv()
        assert closed.value.code == 1009


async def test_what_the_authority_says_to_it_once_more_is_the_clients(paired: Opens) -> None:
    """Nothing tells it from what the client has missed meanwhile: a subscription may begin with the state."""
    async with paired(make_route({"broadcast": ({"pointer": "/type", "equals": "subscribe"},)})) as rig:
        for backend in (rig.old, rig.new):
            backend.greeting, backend.replies = f"{backend.name} greets", True
        client = await rig.opened()
        subscribe = '{"type": "subscribe"}'
        await client.send(subscribe)
        assert [await client.recv() for _ in "12"] == ["old greets", f"old:{subscribe}"]

        def told_again(backend: WsBackend) -> bool:
            return backend.got == [subscribe] * 2

        for backend in (rig.new, rig.old):
            backend.cut()
            await until(partial(told_again, backend), "told again")
        assert [await client.recv() for _ in "12"] == ["old greets", f"old:{subscribe}"]
        await client.ping()
        assert rig.counted("websocket_messages_to_clients") == 4


async def test_what_is_kept_of_it_is_counted_in_the_memory_budget(paired: Opens) -> None:
    async with paired(make_route({"broadcast": ({"pointer": "/type", "equals": "subscribe"},)})) as rig:
        client = await rig.opened()
        budget = rig.rig.plane.budget
        before = budget.held
        for n in range(5):
            await client.send(json.dumps({"type": "subscribe", "n": n, "pad": "x" * 10_000}))
        await until(lambda: len(rig.new.got) == 5, "kept")
        assert budget.held - before > 2 * 5 * 10_000
        await client.send(json.dumps({"type": "subscribe", "n": 0, "pad": "x" * 10_000}))
        await until(lambda: len(rig.new.got) == 6, "said once more")
        assert budget.held - before < 2 * 6 * 10_000
        await client.close()
        await until(lambda: budget.held == 0, "given back")


async def test_the_last_word_of_a_prologue_counts(paired: Opens) -> None:
    rules = tuple({"pointer": "/type", "equals": name} for name in ("on", "off"))
    async with paired(make_route({"broadcast": rules})) as rig:
        client = await rig.opened()
        on, off = '{"type":"on"}', '{"type":"off"}'
        for message in (on, off, on):
            await client.send(message)
        await until(lambda: rig.old.got == [on, off, on], "live")
        rig.old.cut()
        await until(lambda: rig.old.got[3:] == [off, on], "again")


async def test_a_client_that_says_the_same_again_is_not_too_long(paired: Opens) -> None:
    async with paired(make_route({"broadcast": ({"pointer": "/type", "equals": "on"},)})) as rig:
        client = await rig.opened()
        on = json.dumps({"type": "on", "pad": "x" * 60_000})
        for _ in range(5):
            await client.send(on)
        await client.send(text(1))
        await until(lambda: rig.new.got == [on] * 5 + [text(1)], "all of it")


async def test_a_backend_that_takes_nothing_does_not_pile_up_broadcasts(paired: Opens) -> None:
    async with paired(make_route({"broadcast": ({"pointer": "/type", "equals": "on"},)})) as rig:
        client = await rig.opened()
        rig.new.mute()
        for _ in range(800):
            await client.send(json.dumps({"type": "on", "pad": "x" * 30_000}))
        await until(lambda: rig.counted("websocket_backend_lost") >= 1, "let go")
