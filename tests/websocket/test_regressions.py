"""What the suite found when it was first run over two libraries."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from proxy.core.event import RETRY
from tests.http.rig import OFF
from tests.http.wire import until
from tests.websocket.backends import AiohttpBackend, WebsocketsBackend, WsBackend
from tests.websocket.byhand import BINARY, PONG, TEXT, closing, sent
from tests.websocket.clients import AiohttpClient, Client, Closed, WebsocketsClient
from tests.websocket.rig import Opens, by_hand, make_route, sessions, text
from tests.websocket.test_deliver import couriers, event
from tests.websocket.test_pressure import that_reads_nothing, unread

pytestmark = pytest.mark.asyncio

HEARTBEAT = sent(PONG, b"1764345600", masked=False)
"""RFC 6455, 5.5.3: a Pong that nobody asked for, with what its sender likes in it, here the time."""


async def test_5_5_3_a_heartbeat_of_a_backend_is_no_receipt(paired: Opens) -> None:
    async with paired() as rig:
        client = await rig.opened()
        rig.new.mute()
        await client.send(text(1))
        await until(lambda: rig.old.got == [text(1)], "old has it")
        rig.new.connection.write(HEARTBEAT)
        await asyncio.sleep(0.1)
        assert rig.new.got == []
        assert rig.rig.story("m1")[1] == ""
        rig.new.unmute()


@pytest.mark.parametrize("library", [WebsocketsBackend, AiohttpBackend])
async def test_5_5_3_a_heartbeat_of_a_backend_is_no_receipt_for_the_ledger(library: type[WsBackend]) -> None:
    async with couriers(library, response_timeout="300ms") as rig:
        await rig.deliver(event(1))
        rig.backend.mute()
        delivering = asyncio.ensure_future(rig.deliver(event(2)))
        await asyncio.sleep(0.05)
        rig.backend.connection.write(HEARTBEAT)
        [outcome] = await delivering
        assert rig.backend.got == ["message 1"]
        assert outcome.kind == RETRY


@pytest.mark.parametrize("code", [1000, 1001, 4000])
async def test_5_5_1_a_session_that_ends_in_order_settles_whatever_code_the_backend_answers_with(
    paired: Opens, code: int
) -> None:
    """A Close is typically answered with its own code; `aiohttp` answers each with 1000."""
    async with paired(make_route({"redeliver_window": "30s"})) as rig:
        client = await rig.opened()
        await client.send(text(1))
        await client.ping()
        await client.close(code)
        await until(lambda: {*rig.rig.story("m1")} <= {"rD", "PrD"}, "neither will be sent again")
        assert rig.old.got == rig.new.got == [text(1)]


async def test_a_backend_that_closes_each_session_at_once_is_asked_ever_more_seldom(paired: Opens) -> None:
    async with paired() as rig:
        await rig.opened()
        over = asyncio.get_running_loop().time() + 2
        while asyncio.get_running_loop().time() < over:
            for connection in tuple(rig.new.connections):
                await connection.close(1008, "not you")
            await asyncio.sleep(0.005)
        assert len(rig.new.requests) <= 12, "50 ms, doubled each time, are six in two seconds"


@pytest.mark.parametrize("library", [WebsocketsClient, AiohttpClient])
async def test_7_1_1_a_client_that_sends_far_too_much_hears_1009_and_no_reset(library: type[Client]) -> None:
    """A client in a thread of its own: it is still sending when it is refused."""

    async def send_much(uri: str) -> int:
        client = await library.open(uri)
        with contextlib.suppress(Exception):
            await client.send(bytes(8 * 2**20))
        try:
            with pytest.raises(Closed) as closed:
                await client.recv()
        finally:
            client.abort()
            with contextlib.suppress(AttributeError):  # asyncio's, of a transport that is aborted a second time
                await client.close()
        return closed.value.code

    async with sessions() as rig:
        assert await asyncio.to_thread(asyncio.run, send_much(rig.uri)) == 1009


async def test_a_client_that_shuts_down_behind_its_close_has_its_code_told(paired: Opens) -> None:
    async with paired() as rig:
        client = await rig.by_hand()
        client.send(sent(TEXT, text(1).encode()), closing(4000))
        client.wire.writer.write_eof()
        await until(lambda: len(rig.old.closed) == len(rig.new.closed) == 1, "backends hear it")
        assert rig.old.closed == rig.new.closed == [4000]


async def test_a_client_whose_close_cannot_be_answered_yet_has_its_code_told_when_it_leaves() -> None:
    async with by_hand(dials=OFF) as stand:
        stand.rig.rig.fake.holds = True
        client = await stand.rig.by_hand(new=False)
        stand.old.pongs = False
        client.send(sent(TEXT, text(1).encode()), closing(4000))
        await until(lambda: len(stand.old.data_frames) == 1, "it has the message")
        client.wire.close()
        await until(lambda: len(stand.old.closed) == 1, "it hears of it")
        assert stand.old.closed == [4000]


async def test_what_a_client_leaves_unread_is_counted_in_the_memory_budget() -> None:
    async with by_hand(limits={"max_event_size": "32MiB"}) as stand:
        client = await that_reads_nothing(stand.rig)
        budget, session = stand.rig.rig.plane.budget, stand.rig.only_session
        stand.old.connection.write(sent(BINARY, bytes(24 * 2**20), masked=False))
        await until(lambda: session._is_full and unread(session) > 4 * 2**20, "it waits for the client")
        await asyncio.sleep(0.3)
        held, waits = budget.held, unread(session)
        client.wire.reset()
        assert held > waits // 2


async def test_connections_of_sessions_are_not_looked_at_with_those_of_requests() -> None:
    """There may be ten thousand of them, and every look would hold up everything else for a millisecond."""
    async with sessions() as rig:
        client = await rig.client()
        upstreams = rig.rig.upstreams.values()
        await until(lambda: [len(each.lasting) for each in upstreams] == [1, 1, 0], "they have their connections")
        await until(lambda: not any(each._lent for each in upstreams), "which speak WebSocket")
        await client.close()
        await until(lambda: not any(each.lasting for each in upstreams), "they are closed")
