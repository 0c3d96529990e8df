"""Messages of a session: where they go, under which key, and whose answers the client hears."""

from __future__ import annotations

import pytest

from proxy.core.routing import Dials
from tests.http.rig import COMPLETE, DUAL, LIVE, OFF, SHADOW, SPLIT, key_for
from tests.http.wire import until
from tests.websocket.clients import Closed
from tests.websocket.rig import Opens, make_route, text

pytestmark = pytest.mark.asyncio


async def test_messages_reach_both_sides_byte_for_byte_and_in_order(crossed: Opens) -> None:
    async with crossed() as rig:
        client = await rig.client()
        sent: list[str | bytes] = [text(n) for n in range(200)]
        sent[7] = b"\x00\xff binary"
        sent[9] = "é€𝄞" * 500
        for message in sent:
            await client.send(message)
        await until(lambda: len(rig.old.got) == len(rig.new.got) == 200, "all are there")
        assert rig.old.got == rig.new.got == sent
        await until(
            lambda: all(rig.rig.story(f"m{n}") == ("D", "D") for n in range(200) if n not in (7, 9)), "receipts"
        )
        (route,) = rig.rig.plane.routes
        size = sum(len(each.encode() if isinstance(each, str) else each) for each in sent)
        assert [sum(figures.body_bytes for figures in side) for side in route.figures] == [size, size]


@pytest.mark.parametrize(
    ("dials", "side", "story"),
    [(OFF, 0, ("D", "-")), (COMPLETE, 1, ("-", "D")), (DUAL, 0, ("D", "D")), (SHADOW, 0, ("D", "-"))],
    ids=["off", "complete", "dualwrite", "shadow"],
)
async def test_each_position_of_the_dials(paired: Opens, dials: Dials, side: int, story: tuple[str, str]) -> None:
    async with paired(dials=dials) as rig:
        client = await rig.client()
        backend = (rig.old, rig.new)[side]
        if dials is SHADOW:
            await until(lambda: bool(rig.new.connections), "the shadow is connected")
        await client.send(text(1))
        await until(lambda: backend.got == [text(1)], "it has it")
        await until(lambda: "m1" in rig.rig.fake.events and rig.rig.story("m1") == story, "its receipt")
        other = (rig.new, rig.old)[side]
        if dials in (DUAL, SHADOW):
            await until(lambda: other.got == [text(1)], "so has the other")
        else:
            assert other.got == []


async def test_split_by_key_on_one_connection_and_both_sides_are_heard(crossed: Opens) -> None:
    async with crossed(dials=SPLIT) as rig:
        rig.old.replies = rig.new.replies = True
        client = await rig.opened()
        old_key, new_key = key_for(0, SPLIT), key_for(1, SPLIT)
        await client.send(text(1, old_key))
        await client.send(text(2, new_key))
        heard = {await client.recv(), await client.recv()}
        assert heard == {f"old:{text(1, old_key)}", f"new:{text(2, new_key)}"}
        assert (rig.old.got, rig.new.got) == ([text(1, old_key)], [text(2, new_key)])


async def test_a_weight_change_reaches_the_next_message_of_an_open_session(crossed: Opens) -> None:
    async with crossed(dials=DUAL) as rig:
        rig.old.replies = rig.new.replies = True
        client = await rig.opened()
        key = key_for(1, LIVE)
        await client.send(text(1, key))
        assert await client.recv() == f"old:{text(1, key)}"
        rig.rig.turn(LIVE)
        await client.send(text(2, key))
        assert await client.recv() == f"new:{text(2, key)}"
        rig.rig.turn(DUAL)
        await client.send(text(3, key))
        assert await client.recv() == f"old:{text(3, key)}"
        await until(lambda: len(rig.old.got) == len(rig.new.got) == 3, "both have all")


async def test_unit_connection_stays_where_it_began_until_the_weight_is_zero(paired: Opens) -> None:
    async with paired(make_route({"unit": "connection"}, key="query:k"), dials=SPLIT) as rig:
        key = key_for(0, SPLIT)
        client = await rig.client(query=f"?k={key}")
        rig.rig.turn(Dials(99.99, "none"))
        await client.send(text(1))
        await until(lambda: rig.old.got == [text(1)], "still old")
        other = await rig.client(query=f"?k={key_for(1, SPLIT)}")
        await other.send(text(2))
        await until(lambda: rig.new.got == [text(2)], "new")
        rig.rig.turn(OFF)
        await other.send(text(3))
        await until(lambda: rig.old.got == [text(1), text(3)], "back to old at weight 0")


async def test_unit_connection_in_split_has_one_side_and_hears_no_other_one(crossed: Opens) -> None:
    async with crossed(make_route({"unit": "connection"}, key="query:k"), dials=SPLIT) as rig:
        for backend in (rig.old, rig.new):
            backend.greeting, backend.replies = f"{backend.name} greets", True
        for n, backend in enumerate((rig.old, rig.new)):
            client = await rig.client(query=f"?k={key_for(n, SPLIT)}")
            assert await client.recv() == f"{backend.name} greets"
            await client.send(text(n))
            assert await client.recv() == f"{backend.name}:{text(n)}"
        assert (len(rig.old.requests), len(rig.new.requests)) == (1, 1)


async def test_unit_connection_hears_the_side_that_it_has_after_a_copy_was_turned_off(paired: Opens) -> None:
    async with paired(make_route({"unit": "connection"}, key="query:k"), dials=LIVE) as rig:
        client = await rig.client(query=f"?k={key_for(0, SPLIT)}")
        await rig.connected()
        rig.rig.turn(SPLIT)
        await client.send(text(1))
        await until(lambda: rig.old.got == [text(1)], "old has it")
        await rig.new.connection.send("not for this client")
        await until(lambda: rig.counted("websocket_messages_dropped") == 1, "nobody hears it")
        await rig.old.connection.send("for this client")
        assert await client.recv() == "for this client"


async def test_messages_without_a_key_have_that_of_their_session(paired: Opens) -> None:
    async with paired() as rig:
        client = await rig.opened()
        await client.send("not json")
        await client.send(b"\x00")
        await until(lambda: len(rig.rig.fake.events) == 2 and len(rig.new.got) == 2, "recorded")
        one, two = rig.rig.fake.events.values()
        assert one.key == two.key != ""
        assert rig.rig.plane.counters["key_missing"] == 2
        other = await rig.client()
        await other.send('{"key": {}}')
        await until(lambda: len(rig.rig.fake.events) == 3, "recorded")
        assert [*rig.rig.fake.events.values()][2].key not in ("", one.key)
        assert rig.rig.plane.counters["key_missing"] == 3


async def test_key_missing_reject_ends_the_session_with_1008(paired: Opens) -> None:
    async with paired(make_route(key_missing="reject")) as rig:
        client = await rig.opened()
        await client.send("not json")
        with pytest.raises(Closed) as closed:
            await client.recv()
        assert closed.value.code == 1008
        assert not rig.rig.fake.events


@pytest.mark.parametrize("unit", ["message", "connection"])
@pytest.mark.parametrize("dials", [LIVE, SPLIT, COMPLETE], ids=["live", "split", "complete"])
async def test_key_missing_old_keeps_what_has_no_key_at_old_alone(paired: Opens, dials: Dials, unit: str) -> None:
    new_key = key_for(1, SPLIT)
    route = make_route({"unit": unit}, key_missing="old", pins={"new": (new_key,)} if unit == "connection" else {})
    async with paired(route, dials=dials) as rig:
        client = await rig.client()
        for n in range(4):
            await client.send(f"without a key, {n}")
        await until(lambda: len(rig.old.got) == 4, "old has them")
        for event in rig.rig.fake.events.values():
            assert (event.authority, event.owed) == (0, 1)
        await client.send(text(1, new_key))
        await until(lambda: rig.new.got == [text(1, new_key)], "and new what has its key")


async def test_key_missing_old_is_about_messages_where_their_key_is(paired: Opens) -> None:
    async with paired(make_route(key_missing="old"), dials=COMPLETE, down=["old"]) as rig:
        client = await rig.client()
        await client.send(text(1))
        await until(lambda: rig.new.got == [text(1)], "the handshake has no key, and need not have one")


async def test_key_missing_old_keeps_a_handshake_without_its_key_at_old(paired: Opens) -> None:
    async with paired(make_route(key="query:k", key_missing="old"), dials=COMPLETE) as rig:
        client = await rig.client()
        await client.send(text(1))
        await until(lambda: rig.old.got == [text(1)], "old has it")
        assert not rig.new.got
