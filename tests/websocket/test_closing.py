"""RFC 6455, section 7, through a whole session: who closes, with which code, and who hears of it.

A client's code reaches both backends and comes back to it. A backend's does not reach the client, for its connection is
made anew, but where the authority ends the session on purpose. Codes that must not be on the wire are broken frames of
whoever sends them.
"""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from tests.http.wire import until
from tests.websocket.byhand import CLOSE, CONTINUATION, TEXT, closing, sent
from tests.websocket.clients import Client, Closed
from tests.websocket.rig import Opens, by_hand, make_route, text

pytestmark = pytest.mark.asyncio

SENT = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
ON_PURPOSE = [1008, 3000, 3999, 4000, 4999]
NEVER_SENT = [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535]
BROKEN = {
    **{f"7.4 code {code}": (closing(code), 1002) for code in NEVER_SENT},
    **{f"7.4 code {code} with a reason": (closing(code, b"why"), 1002) for code in (1006, 2999)},
    "5.5.1 half a code": (sent(CLOSE, b"\x03"), 1002),
    "5.5.1 a reason that is not UTF-8": (closing(1000, b"\xff"), 1007),
    "5.5.1 a reason that ends in a character": (closing(1000, b"\xe2\x82"), 1007),
}


# the client closes


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
async def test_a_client_closes_and_everybody_hears_its_code(crossed: Opens, code: int) -> None:
    async with crossed() as rig:
        client = await rig.opened()
        await client.send(text(1))
        await client.close(code, "done")
        assert client.close_code == code
        assert list(rig.rig.fake.events) == ["m1"]
        await until(lambda: rig.old.closed == rig.new.closed == [code], "backends hear it")
        await until(lambda: rig.is_received("m1"), "receipts")


@pytest.mark.parametrize("code", SENT)
async def test_7_4_each_code_that_may_be_sent_comes_back(code: int) -> None:
    async with by_hand() as stand:
        client = await stand.rig.by_hand()
        client.send(closing(code, b"why"))
        assert await client.closed() == (code, "")
        await until(lambda: stand.old.closed == stand.new.closed == [code], "backends hear it")


async def test_7_1_5_a_close_without_a_code_ends_it_in_order() -> None:
    async with by_hand() as stand:
        client = await stand.rig.by_hand()
        client.send(closing(None))
        assert (await client.closed())[0] in (None, 1000)
        await until(lambda: len(stand.old.closed) == len(stand.new.closed) == 1, "backends hear it")
        assert {*stand.old.closed, *stand.new.closed} <= {None, 1000}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_close_that_must_not_be_sent_is_answered_with_what_is_wrong(name: str) -> None:
    data, code = BROKEN[name]
    async with by_hand() as stand:
        client = await stand.rig.by_hand()
        client.send(data)
        assert (await client.closed())[0] == code
        await until(lambda: stand.old.closed == stand.new.closed == [1001], "backends hear that it has gone")


async def test_5_5_1_nothing_is_read_behind_a_close() -> None:
    async with by_hand() as stand:
        client = await stand.rig.by_hand()
        client.send(sent(TEXT, text(1).encode()), closing(1000), sent(TEXT, text(2).encode()))
        assert (await client.closed())[0] == 1000
        await until(lambda: stand.old.closed == stand.new.closed == [1000], "backends hear it")
        assert stand.old.got == stand.new.got == [text(1).encode()]
        assert list(stand.rig.rig.fake.events) == ["m1"]


async def test_5_4_a_close_in_the_middle_of_a_message_ends_it_and_the_half_goes_nowhere() -> None:
    async with by_hand() as stand:
        client = await stand.rig.by_hand()
        client.send(sent(TEXT, b"half", fin=False), closing(1000), sent(CONTINUATION, b"whole"))
        assert (await client.closed())[0] == 1000
        await until(lambda: stand.old.closed == stand.new.closed == [1000], "backends hear it")
        assert stand.old.data_frames == stand.new.data_frames == []


@pytest.mark.parametrize(
    "rest", [b"", sent(TEXT, b"half", fin=False), sent(TEXT, b"half")[:-1]], ids=["whole", "in a message", "in a frame"]
)
async def test_7_1_1_a_client_that_leaves_without_a_close_is_going_away_for_backends(rest: bytes) -> None:
    async with by_hand() as stand:
        client = await stand.rig.by_hand()
        client.send(sent(TEXT, text(1).encode()), rest)
        await until(lambda: stand.old.got == stand.new.got == [text(1).encode()], "they have it")
        client.wire.close()
        await until(lambda: stand.old.closed == stand.new.closed == [1001], "backends hear that it has gone")
        assert len(stand.old.data_frames) == len(stand.new.data_frames) == 1
        await until(lambda: stand.rig.is_received("m1"), "receipts")


# a backend closes


@pytest.mark.parametrize("side", ["authority", "copy"])
@pytest.mark.parametrize("code", [code for code in SENT if code not in ON_PURPOSE])
async def test_a_backend_closes_and_the_client_does_not_hear_of_it(paired: Opens, side: str, code: int) -> None:
    async with paired() as rig:
        client = await rig.opened()
        backend = rig.old if side == "authority" else rig.new
        rig.old.replies = True
        await backend.connection.close(code, "restart")
        await until(lambda: backend.closed == [code], "it hears its own code")
        await until(lambda: len(backend.connections) == 1, "there is a new connection")
        await client.send(text(1))
        assert await client.recv() == f"old:{text(1)}"
        await until(lambda: rig.old.got == rig.new.got == [text(1)], "both have it")
        await client.ping()
        assert client.close_code is None
        assert rig.counted("websocket_backend_closed") == 1


@pytest.mark.parametrize("code", ON_PURPOSE)
async def test_an_authority_that_ends_a_session_on_purpose_is_heard_and_nothing_is_lost(
    paired: Opens, code: int
) -> None:
    async with paired() as rig:
        client = await rig.opened()
        rig.old.mute()
        rig.new.mute()
        await client.send(text(1))
        await until(lambda: "m1" in rig.rig.fake.events, "on its way")
        for connection in tuple(rig.old.connections):
            connection.write(closing(code, b"your token has expired", masked=False))
        with pytest.raises(Closed) as closed:
            await client.recv()
        assert closed.value.code == code
        await until(lambda: rig.rig.story("m1")[0] == "H", "old is owed it")
        rig.new.unmute()
        await until(lambda: rig.rig.story("m1")[1] in ("D", "PD"), "and new has it")
        rig.old.unmute()
        assert rig.counted("websocket_closed_by_authority") == 1
        await until(lambda: rig.new.closed == [1001], "the other side hears that its client has gone")


@pytest.mark.parametrize("code", ON_PURPOSE)
async def test_a_copy_that_ends_a_session_on_purpose_is_not_heard(paired: Opens, code: int) -> None:
    async with paired() as rig:
        client = await rig.opened()
        await rig.new.connection.close(code, "not you")
        await until(lambda: len(rig.new.requests) == 2, "it is asked again")
        await client.send(text(1))
        await client.ping()
        assert not rig.counted("websocket_closed_by_authority")


@pytest.mark.parametrize("side", ["authority", "copy"])
async def test_a_backend_that_is_gone_without_a_close_is_not_heard_of_either(paired: Opens, side: str) -> None:
    """1006, as the RFC calls it (7.1.5)."""
    async with paired() as rig:
        client = await rig.opened()
        backend = rig.old if side == "authority" else rig.new
        rig.old.replies = True
        backend.cut()
        await until(lambda: rig.counted("websocket_backend_lost") == len(backend.closed) == 1, "it was seen")
        await until(lambda: len(backend.connections) == 1, "there is a new connection")
        await client.send(text(1))
        assert await client.recv() == f"old:{text(1)}"
        await until(lambda: rig.old.got == rig.new.got == [text(1)], "both have it")
        assert client.close_code is None


async def test_a_backend_that_closes_without_a_code_is_answered_in_order() -> None:
    async with by_hand() as stand:
        client = await stand.rig.by_hand()
        stand.old.connection.write(closing(None, masked=False))
        await until(lambda: len(stand.old.closed) == 1 and len(stand.old.connections) == 1, "a new connection")
        assert stand.old.closed[0] in (None, 1000)
        await client.ping()


@pytest.mark.parametrize("name", BROKEN)
async def test_a_close_that_a_backend_must_not_send_costs_it_its_connection(name: str) -> None:
    data, code = BROKEN[name]
    payload = bytes(byte ^ data[2 + i % 4] for i, byte in enumerate(data[6:]))
    async with by_hand() as stand:
        client = await stand.rig.by_hand()
        stand.old.connection.write(sent(CLOSE, payload, masked=False))
        await until(lambda: stand.old.closed == [code], "it is told why")
        assert stand.rig.counted("websocket_backend_broken") == 1
        await until(lambda: len(stand.old.connections) == 1, "there is a new connection")
        await client.ping()


# we close; several close


async def test_a_stop_is_going_away_for_everybody(crossed: Opens) -> None:
    async with crossed() as rig:
        client = await rig.opened()
        await client.send(text(1))
        await until(lambda: rig.old.got == rig.new.got == [text(1)], "both have it")
        rig.sessions.stop()
        with pytest.raises(Closed) as closed:
            await client.recv()
        assert closed.value.code == 1001
        await until(lambda: rig.old.closed == rig.new.closed == [1001], "backends hear it")


async def test_our_close_and_the_clients_cross() -> None:
    async with by_hand() as stand:
        client = await stand.rig.by_hand()
        client.send(closing(1000))
        stand.rig.sessions.stop()
        assert await client.closed() == (1001, "the proxy stops")
        await until(lambda: stand.old.closed == stand.new.closed == [1001], "backends hear ours")


@pytest.mark.parametrize("code", [1000, 1001, 4000])
async def test_a_client_and_both_backends_close_at_once(code: int) -> None:
    async with by_hand(make_route({"redeliver_window": "30s"})) as stand:
        client = await stand.rig.by_hand()
        client.send(sent(TEXT, text(1).encode()))
        await client.ping()
        for backend in (stand.old, stand.new):
            backend.connection.write(closing(code, masked=False))
        client.send(closing(4000))
        assert await client.closed() == (4000, "")
        await until(lambda: not stand.rig.sessions.open, "nobody is left")
        assert not stand.old.connections
        assert not stand.new.connections
        ends = {"rD", "rH", "PrD", "PrH", "PH"}
        await until(lambda: {*stand.rig.rig.story("m1")} <= ends, "it has an end on each side")


async def test_clients_and_backends_of_libraries_close_at_once(paired: Opens) -> None:
    async with paired() as rig:
        client = await rig.opened()
        await client.send(text(1))
        await client.ping()
        both = [backend.connection.close(1000) for backend in (rig.old, rig.new)]
        await asyncio.gather(client.close(1000), *both)
        assert client.close_code == 1000
        await until(lambda: not rig.sessions.open, "nobody is left")
        await until(lambda: rig.is_received("m1"), "receipts")


async def test_a_session_that_ended_leaves_nothing_behind(paired: Opens) -> None:
    async with paired() as rig:
        for code in (1000, 4000):
            client = await rig.opened()
            await client.close(code)
        await until(lambda: not rig.sessions.open and not rig.old.connections, "nobody is left")
        assert rig.rig.service.others == 0
        assert rig.rig.plane.budget.held == 0


async def test_farewells_are_spread_over_the_time_that_a_drain_has(crossed: Opens) -> None:
    async with crossed() as rig:
        clients = [await rig.opened() for _ in range(3)]
        rig.sessions.stop(over=0.3)
        left = await asyncio.gather(*map(gone_at, clients))
        assert max(left) - min(left) >= 0.15, "one after the other"
        await until(lambda: not rig.sessions.open, "nobody is there")
        rig.sessions.stop(over=0.1)


async def gone_at(client: Client) -> float:
    with pytest.raises(Closed) as closed:
        await client.recv()
    assert closed.value.code == 1001
    return monotonic()
