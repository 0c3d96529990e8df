"""Who is slow, silent or too much: held up, asked, let go, and never at the price of memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from proxy.ledger.marks import LOW_DISK
from proxy.websocket.session import Session
from tests.http.rig import OFF, SPLIT
from tests.http.wire import until
from tests.websocket.backends import Talk
from tests.websocket.byhand import BINARY, CONTINUATION, PING, PONG, TEXT, HandClient, sent
from tests.websocket.rig import Opens, SessionRig, by_hand, make_route, text

pytestmark = pytest.mark.asyncio

BOUND = 8 * 2**20
"""What may wait for a peer that does not read: the loop reads up to 2 MiB before it says that a buffer is full."""


def unread(session: Session) -> int:
    """Bytes that wait for the client."""
    assert session._transport is not None
    return session._transport.get_write_buffer_size()


async def that_reads_nothing(rig: SessionRig) -> HandClient:
    """A client that reads nothing of what comes behind its 101."""
    client = await rig.by_hand(limit=1024)
    client.wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
    return client


@asynccontextmanager
async def pushing(*talks: Talk) -> AsyncIterator[None]:
    """Backends say more than any buffer takes, for the length of a block."""

    async def push(talk: Talk) -> None:
        with contextlib.suppress(ConnectionResetError):
            for _ in range(10_000):
                await talk.send(b"x" * 10_000)

    tasks = [asyncio.ensure_future(push(talk)) for talk in talks]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# slow readers


async def test_a_client_that_does_not_read_holds_its_backends_and_is_closed_with_1013(paired: Opens) -> None:
    async with paired(limits={"keepalive_timeout": "300ms"}) as rig:
        client = await rig.by_hand(limit=1024)
        async with pushing(rig.old.connection):
            await until(lambda: rig.counted("clients_not_reading") == 1, "closed")
        assert rig.counted("websocket_messages_to_clients") < 5_000, "the backend was held"
        assert await client.closed() == (1013, "too slow a reader")


async def test_a_client_that_reads_on_in_time_has_everything(paired: Opens) -> None:
    async with paired(limits={"keepalive_timeout": "5s"}) as rig:
        client = await that_reads_nothing(rig)
        async with pushing(rig.old.connection):
            await until(lambda: rig.only_session._is_full, "full")
        client.wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
        sending = asyncio.ensure_future(rig.old.connection.send("the last one"))
        while (frame := await client.frame()).opcode == BINARY:
            assert len(frame.payload) == 10_000
        assert frame.payload == b"the last one"
        await sending
        assert rig.counted("clients_not_reading") == 0


async def test_a_client_that_does_not_read_costs_no_backend_its_connection(paired: Opens) -> None:
    async with paired(backend_settings={"response_timeout": "200ms"}) as rig:
        client = await that_reads_nothing(rig)
        connection = rig.old.connection
        async with pushing(connection):
            await until(lambda: rig.only_session._is_full, "full")
            await asyncio.sleep(0.6)
            assert "websocket_backend_lost" not in rig.rig.plane.counters
            rig.only_session.links[0].drop(1000, "so that there is a new one")
            await until(lambda: connection not in rig.old.connections and bool(rig.old.connections), "a new one")
            async with pushing(rig.old.connection):
                await asyncio.sleep(0.3)
                assert unread(rig.only_session) < BOUND
        client.wire.reset()


async def test_a_side_that_is_heard_from_now_on_waits_for_a_client_that_does_not_read(paired: Opens) -> None:
    async with paired() as rig:
        client = await that_reads_nothing(rig)
        async with pushing(rig.old.connection):
            await until(lambda: rig.only_session._is_full, "full")
        before = rig.counted("websocket_messages_to_clients")
        rig.rig.turn(SPLIT)
        async with pushing(rig.new.connection):
            await asyncio.sleep(0.5)
            assert rig.counted("websocket_messages_to_clients") - before < 2 * 2**20 // 10_000
            assert unread(rig.only_session) < BOUND
        client.wire.reset()


# the silent


async def test_a_client_that_says_nothing_is_asked_and_then_let_go(paired: Opens) -> None:
    async with paired(make_route({"ping_interval": "200ms"})) as rig:
        client = await rig.opened()
        silent = await rig.by_hand()
        assert [(frame.opcode, frame.payload) for frame in [await silent.frame()]] == [(PING, b"")]
        assert await silent.closed() == (1001, "no answer to a Ping")
        assert rig.counted("websocket_silent") == 1
        await asyncio.sleep(0.4)
        await client.send(text(1))  # it answers Pings by itself, and so does the backend
        await until(lambda: rig.new.got == [text(1)], "still there")
        assert "websocket_backend_lost" not in rig.rig.plane.counters


async def test_a_backend_that_says_nothing_is_asked_and_then_let_go() -> None:
    async with by_hand(make_route({"ping_interval": "200ms"})) as stand:
        stand.new.pongs = False
        client = await stand.rig.opened()
        await until(lambda: stand.new.closed == [1006], "let go")
        assert (PING, b"") in [(frame.opcode, frame.payload) for frame in stand.new.talks[0].frames]
        assert stand.old.closed == []
        await until(lambda: len(stand.new.connections) == 1, "there is a new connection")
        await client.ping()


async def test_a_message_that_does_not_end_is_given_up() -> None:
    async with by_hand(limits={"body_timeout": "200ms"}) as stand:
        client = await stand.rig.by_hand()
        client.send(sent(TEXT, b"x" * 50_000)[:-1])
        assert await client.closed() == (1008, "the rest of a message took too long")


async def test_a_message_in_fragments_that_does_not_end_is_given_up_however_lively_the_client() -> None:
    async with by_hand(limits={"body_timeout": "300ms"}) as stand:
        client = await stand.rig.by_hand()
        client.send(sent(TEXT, b"x", fin=False))
        for _ in range(4):
            await client.ping()
            client.send(sent(CONTINUATION, b"x", fin=False))
            await asyncio.sleep(0.02)
        assert (await client.closed())[0] == 1008


async def stream(client: HandClient, piece: int) -> int:
    """Messages for much longer than the rest of one may take, none of whose ends is a read's; how many were whole."""
    data = b"".join(sent(BINARY, b"%04d" % n * 70) for n in range(40))
    at = 0
    while at + piece < len(data):
        client.send(data[at : at + piece])
        at += piece
        await asyncio.sleep(0.03)
    return at // len(sent(BINARY, bytes(280)))


async def test_a_client_that_never_stops_sending_is_no_slow_one() -> None:
    async with by_hand(limits={"body_timeout": "300ms"}) as stand:
        client = await stand.rig.by_hand()
        whole = await stream(client, 301)  # each read ends in the middle of a message
        await until(lambda: len(stand.old.got) == len(stand.new.got) == whole, "all that was whole")
        assert stand.rig.counted("websocket_slow_messages") == 0


async def test_the_beginning_of_a_message_behind_a_ping_is_no_slow_one() -> None:
    async with by_hand(limits={"body_timeout": "300ms"}) as stand:
        client = await stand.rig.by_hand()
        frames = sent(PING, b"x" * 100) * 30
        for at in range(50, len(frames), 106):
            client.send(frames[max(0, at - 106) : at])
            await asyncio.sleep(0.03)
        assert stand.rig.counted("websocket_slow_messages") == 0


async def test_the_time_of_a_message_stands_still_while_its_client_is_held_up(paired: Opens) -> None:
    async with paired(limits={"body_timeout": "300ms"}) as rig:
        client = await rig.by_hand()
        rig.rig.marks.set_flag(LOW_DISK, True)
        message = sent(TEXT, text(2).encode())
        client.send(sent(TEXT, text(1).encode()) + message[:9])
        await asyncio.sleep(0.6)
        rig.rig.marks.set_flag(LOW_DISK, False)
        await until(lambda: rig.old.got == [text(1)], "it is taken")
        await asyncio.sleep(0.15)
        client.send(message[9:])
        await until(lambda: rig.old.got == [text(1), text(2)], "and so is what could not come meanwhile")


# no room


async def test_while_there_is_no_room_for_records_the_client_is_held_up(paired: Opens) -> None:
    async with paired() as rig:
        client = await rig.opened()
        rig.rig.marks.set_flag(LOW_DISK, True)
        for n in range(20):
            await client.send(text(n))
        await asyncio.sleep(0.1)
        assert not rig.rig.fake.events
        rig.rig.marks.set_flag(LOW_DISK, False)
        await until(lambda: len(rig.old.got) == len(rig.new.got) == 20, "then all go")
        assert rig.old.got == [text(n) for n in range(20)]


# floods


async def test_a_flood_of_pings_is_answered_one_by_one_and_stands_in_nobodys_way(paired: Opens) -> None:
    async with paired() as rig:
        client = await rig.by_hand()
        for n in range(5_000):
            client.send(sent(PING, b"%d" % n))
        client.send(sent(TEXT, text(1).encode()))
        for n in range(5_000):
            assert (await client.frame())[:3] == (PONG, True, b"%d" % n)
        await until(lambda: rig.old.got == rig.new.got == [text(1)], "both have the message")


async def test_a_flood_of_pings_without_reading_takes_no_memory(paired: Opens) -> None:
    async with paired() as rig:
        client = await that_reads_nothing(rig)
        for _ in range(100):
            client.send(sent(PING, b"x" * 125) * 2_000)
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.2)
        assert unread(rig.only_session) < BOUND
        client.wire.reset()


async def test_a_flood_of_pings_of_a_backend_that_takes_no_pongs_takes_no_memory() -> None:
    async with by_hand() as stand:
        client = await stand.rig.by_hand()
        stand.old.mute()
        talk = stand.old.talks[0]
        for _ in range(100):
            talk.write(sent(PING, b"x" * 125, masked=False) * 2_000)
            await asyncio.sleep(0.001)
        await until(lambda: stand.rig.only_session.links[0].is_full, "full")
        await asyncio.sleep(0.2)
        wire = stand.rig.only_session.links[0]._wire
        assert wire is not None
        assert wire.transport.get_write_buffer_size() < BOUND
        stand.old.unmute()
        client.send(sent(TEXT, text(1).encode()))
        await until(lambda: stand.new.got == [text(1).encode()], "the session goes on")


async def push_fragments(client: HandClient, number: int) -> None:
    """A message's fragments of one byte, as many as are taken."""
    with contextlib.suppress(ConnectionError):
        client.send(sent(BINARY, b"x", fin=False))
        for _ in range(number // 1000):
            client.send(sent(CONTINUATION, b"x", fin=False) * 1000)
            await client.wire.writer.drain()


async def test_a_million_tiny_fragments_cost_no_more_than_their_limit() -> None:
    most = 65536
    async with by_hand(make_route({"max_fragments": most})) as stand:
        client = await stand.rig.by_hand()
        peak, sending = 0, asyncio.ensure_future(push_fragments(client, 1_000_000))
        while stand.rig.sessions.open and not stand.rig.only_session.is_over:
            peak = max(peak, stand.rig.only_session.intake.held)
            assert stand.rig.rig.plane.budget.held < 2 * 2**20
            await asyncio.sleep(0)
        await sending
        assert stand.rig.counted("websocket_closed_1009") == 1
        assert 0 < peak <= 8 * most + 64 * 1024, "seven bytes and a payload of each"
        assert stand.old.data_frames == stand.new.data_frames == []


async def test_many_messages_of_tiny_fragments_pass_and_leave_nothing(soak: bool) -> None:
    messages = 1000 if soak else 20
    async with by_hand(make_route({"max_fragments": 1000}), dials=OFF) as stand:
        client = await HandClient.shake_hands(await stand.rig.rig.wire())
        message = sent(BINARY, b"x", fin=False) + sent(CONTINUATION, b"x", fin=False) * 998 + sent(CONTINUATION, b"x")
        peak = 0
        for _ in range(messages):
            client.send(message)
            await client.ping()
            peak = max(peak, stand.rig.rig.plane.budget.held)
        await until(lambda: len(stand.old.got) == messages, "all are there")
        assert {*stand.old.got} == {b"x" * 1000}
        assert peak < 2**20


async def test_bytes_one_by_one_cost_no_more_than_others() -> None:
    async with by_hand() as stand:
        client = await stand.rig.by_hand()
        data = sent(BINARY, bytes(30_000))
        peak = 0
        for i in range(0, len(data), 16):
            client.send(data[i : i + 16])
            await asyncio.sleep(0)
            peak = max(peak, stand.rig.only_session.intake.held)
        await client.ping()
        assert 0 < peak <= len(data)
        assert stand.old.got == [bytes(30_000)]
