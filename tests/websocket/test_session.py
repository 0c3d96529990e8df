"""Sessions from end to end in one process: real clients, real backends, a ledger that says what it was told."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from proxy.core.routing import Dials
from proxy.ledger.marks import LOW_DISK
from proxy.websocket.context import unpack_context
from proxy.websocket.frames import frame
from proxy.websocket.session import Session
from tests.http.rig import COMPLETE, DUAL, LIVE, OFF, SHADOW, SPLIT, key_for
from tests.http.wire import Wire, until
from tests.websocket.rig import PATH, SessionRig, make_route, sessions

pytestmark = pytest.mark.asyncio


def text(n: int, key: str = "a") -> str:
    return json.dumps({"id": f"m{n}", "key": key, "n": n})


async def test_messages_reach_both_sides_byte_for_byte_and_in_order() -> None:
    async with sessions() as rig:
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


async def opened(rig: SessionRig, *, new: bool = True) -> ClientConnection:
    """A client whose backends are connected."""
    client = await rig.client()
    await until(lambda: bool(rig.old.connections) and (bool(rig.new.connections) or not new), "backends are connected")
    return client


# the handshake


async def test_backends_get_the_clients_handshake_without_its_extensions() -> None:
    async with sessions() as rig:
        client = await rig.client(
            additional_headers={"Authorization": "Bearer t", "Cookie": "c=1"},
            origin="http://app",
            compression="deflate",
        )
        assert client.protocol.extensions == []
        await until(lambda: len(rig.new.requests) == 1, "both are asked")
        for backend in (rig.old, rig.new):
            [request] = backend.requests
            assert request.path == PATH
            assert request.headers["Authorization"] == "Bearer t"
            assert request.headers["Cookie"] == "c=1"
            assert request.headers["Origin"] == "http://app"
            assert request.headers["X-Forwarded-For"] == "127.0.0.1"
            assert request.headers["Via"] == "1.1 crossfade"
            assert "Sec-WebSocket-Extensions" not in request.headers


async def test_the_authoritys_subprotocol_is_the_clients() -> None:
    async with sessions() as rig:
        rig.old.subprotocols = rig.new.subprotocols = []
        for backend in (rig.old, rig.new):
            await backend.stop()
            backend.subprotocols = [Subprotocol("b"), Subprotocol("a")]
            await backend.start()
        client = await rig.client(subprotocols=[Subprotocol("a"), Subprotocol("b")])
        assert client.subprotocol == "b"
        await client.send(text(1))
        await until(lambda: rig.new.got == rig.old.got == [text(1)], "both have it")


async def test_a_copy_that_chooses_another_subprotocol_counts_as_refusing() -> None:
    async with sessions() as rig:
        for backend, protocol in ((rig.old, "a"), (rig.new, "b")):
            await backend.stop()
            backend.subprotocols = [Subprotocol(protocol)]
            await backend.start()
        client = await rig.client(subprotocols=[Subprotocol("a"), Subprotocol("b")])
        assert client.subprotocol == "a"
        await until(lambda: rig.rig.plane.counters.get("websocket_protocols_differ", 0) > 0, "it was seen")
        await client.send(text(1))
        await until(lambda: rig.old.got == [text(1)], "old has it")
        await until(lambda: rig.rig.story("m1") == ("D", "h"), "new is owed it")
        assert rig.new.got == []


@pytest.mark.parametrize("status", [401, 403, 404, 503])
async def test_what_the_authority_refuses_is_the_clients_answer(status: int) -> None:
    async with sessions() as rig:
        rig.old.refusal = status
        with pytest.raises(InvalidStatus) as refused:
            await rig.client()
        assert refused.value.response.status_code == status
        assert refused.value.response.body == b"no, says old"
        assert not rig.rig.fake.events


async def test_a_copy_that_refuses_does_not_keep_the_session_from_going_on() -> None:
    async with sessions() as rig:
        rig.new.refusal = 403
        client = await rig.client()
        await client.send(text(1))
        await until(lambda: rig.rig.fake.holds_event("m1") and rig.rig.story("m1") == ("D", "h"), "new is owed it")
        assert rig.old.got == [text(1)]
        assert rig.rig.plane.counters["websocket_handshakes_refused"] > 0
        rig.new.refusal = None  # and it is asked again
        await until(lambda: len(rig.new.connections) == 1, "new has agreed")


async def test_old_down_at_the_handshake_new_answers_when_it_may() -> None:
    async with sessions(dials=LIVE, down=["old"]) as rig:
        client = await rig.client()
        await client.send(text(1, key_for(0)))
        await until(lambda: rig.new.got == [text(1, key_for(0))], "new has it")
        await until(lambda: rig.rig.story("m1") == ("h", "D"), "old is owed it")


async def test_both_down_is_a_bad_gateway() -> None:
    async with sessions(down=["old", "new"]) as rig:
        with pytest.raises(InvalidStatus) as refused:
            await rig.client()
        assert refused.value.response.status_code == 502


GET = "GET /ws HTTP/1.1\r\nHost: a\r\n"
GOOD = GET + "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (GET + "\r\n", 426),
        (GOOD.replace("13", "8") + KEY + "\r\n", 426),
        (GOOD + "\r\n", 400),
        (GOOD + KEY + KEY + "\r\n", 400),
        (GOOD + KEY + "Host: b\r\n\r\n", 400),
        (GOOD + KEY + "Content-Length: 1\r\n\r\nx", 400),
        (GOOD + KEY + "\r\nmore", 400),
        (GOOD + KEY + "Origin: http://evil\r\n\r\n", 403),
    ],
    ids=["no upgrade", "version", "no key", "two keys", "two hosts", "body", "pipelined bytes", "origin"],
)
async def test_bad_handshakes(request_text: str, status: int) -> None:
    async with sessions(make_route({"origins": ("http://app",)})) as rig:
        wire = await rig.rig.wire()
        answer = await wire.ask(request_text.encode(), "GET")
        assert answer.status == status
        if status == 426:
            assert answer.headers["sec-websocket-version"] == "13"
            assert answer.headers["upgrade"] == "websocket"
        assert not rig.rig.fake.events
        assert rig.old.requests == []


async def test_bytes_that_come_before_the_101_are_not_passed_on() -> None:
    async with sessions(make_route()) as rig:
        gate = asyncio.Event()
        rig.old.gate = rig.new.gate = gate
        wire = await rig.rig.wire()
        wire.send((GOOD + KEY + "\r\n").encode())
        await until(lambda: len(rig.old.requests) == 1, "old is asked")
        wire.send(frame(1, b"early", is_client=True))
        await asyncio.sleep(0.05)
        gate.set()
        answer = await wire.answer("GET")
        assert answer.status == 400
        assert rig.old.got == []


# where messages go


@pytest.mark.parametrize(
    ("dials", "side", "story"),
    [(OFF, 0, ("D", "-")), (COMPLETE, 1, ("-", "D")), (DUAL, 0, ("D", "D")), (SHADOW, 0, ("D", "-"))],
    ids=["off", "complete", "dualwrite", "shadow"],
)
async def test_each_position_of_the_dials(dials: Dials, side: int, story: tuple[str, str]) -> None:
    async with sessions(dials=dials) as rig:
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


async def test_split_by_key_on_one_connection_and_both_sides_are_heard() -> None:
    async with sessions(dials=SPLIT) as rig:
        rig.old.replies = rig.new.replies = True
        client = await opened(rig)
        old_key, new_key = key_for(0, SPLIT), key_for(1, SPLIT)
        await client.send(text(1, old_key))
        await client.send(text(2, new_key))
        heard = {await client.recv(), await client.recv()}
        assert heard == {f"old:{text(1, old_key)}", f"new:{text(2, new_key)}"}
        assert (rig.old.got, rig.new.got) == ([text(1, old_key)], [text(2, new_key)])


async def test_a_weight_change_reaches_the_next_message_of_an_open_session() -> None:
    async with sessions(dials=DUAL) as rig:
        rig.old.replies = rig.new.replies = True
        client = await opened(rig)
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


async def test_unit_connection_stays_where_it_began_until_the_weight_is_zero() -> None:
    async with sessions(make_route({"unit": "connection"}, key="query:k"), dials=SPLIT) as rig:
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


async def test_messages_without_a_key_have_that_of_their_session() -> None:
    async with sessions() as rig:
        client = await opened(rig)
        await client.send("not json")
        await client.send(b"\x00")
        await until(lambda: len(rig.rig.fake.events) == 2 and len(rig.new.got) == 2, "recorded")
        one, two = rig.rig.fake.events.values()
        assert one.key == two.key != ""
        assert rig.rig.plane.counters["key_missing"] == 2


async def test_key_missing_reject_ends_the_session_with_1008() -> None:
    async with sessions(make_route(key_missing="reject")) as rig:
        client = await opened(rig)
        await client.send("not json")
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
        assert not rig.rig.fake.events


# backends that come and go


@pytest.mark.parametrize("how", ["goodbye", "reset"])
async def test_a_copy_that_restarts_is_not_seen_and_misses_nothing(how: str) -> None:
    async with sessions() as rig:
        client = await opened(rig)
        await client.send(text(1))
        await until(lambda: rig.rig.fake.holds_event("m1") and rig.rig.story("m1") == ("D", "D"), "both have it")
        if how == "reset":
            rig.new.cut()
        await rig.new.stop()
        await until(lambda: rig.rig.plane.counters.get("websocket_backend_lost", 0) == 1, "it was seen")
        for n in (2, 3):
            await client.send(text(n))
        await until(lambda: rig.rig.fake.holds_event("m3"), "recorded")
        await until(lambda: [rig.rig.story(f"m{n}") for n in (2, 3)] == [("D", "h"), ("D", "h")], "new is owed them")
        await rig.new.start()
        await until(lambda: bool(rig.new.connections), "it is back")
        await client.send(text(4))
        await until(lambda: rig.new.got == [text(1), text(4)], "live again: the ledger's part is not here")
        assert rig.old.got == [text(n) for n in (1, 2, 3, 4)]


async def test_nothing_overtakes_what_the_ledger_has() -> None:
    async with sessions() as rig:
        client = await opened(rig)
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


async def test_what_has_no_pong_is_handed_when_the_connection_is_lost() -> None:
    async with sessions() as rig:
        client = await opened(rig)
        rig.new.mute()
        await client.send(text(1))
        await until(lambda: "m1" in rig.rig.fake.events and rig.rig.story("m1")[0] == "D", "old has it")
        assert rig.rig.story("m1")[1] == ""
        rig.new.cut()
        await until(lambda: rig.rig.story("m1")[1] == "H", "handed")


async def test_what_was_ponged_a_moment_before_the_connection_was_lost_is_sent_again() -> None:
    async with sessions(make_route({"redeliver_window": "30s"})) as rig:
        client = await opened(rig)
        await client.send(text(1))
        pong = await client.ping()
        await pong  # it is safe
        assert rig.new.got == [text(1)]
        assert rig.rig.story("m1") == ("r", "r")  # and may yet be taken back
        rig.new.cut()
        await until(lambda: rig.rig.story("m1") == ("r", "rH"), "handed")
        await client.close()
        await until(lambda: rig.rig.story("m1") == ("rD", "rH"), "a close in order settles")


async def test_the_window_ends() -> None:
    async with sessions(make_route({"redeliver_window": "200ms"})) as rig:
        client = await opened(rig)
        await client.send(text(1))
        await until(lambda: "m1" in rig.rig.fake.events and rig.rig.story("m1") == ("r", "r"), "received")
        await until(lambda: not only_session(rig).links[1].unsettled, "forgotten")
        rig.new.cut()
        await until(lambda: rig.rig.plane.counters.get("websocket_backend_lost", 0) == 1, "it was seen")
        assert rig.rig.story("m1") == ("r", "r")


async def test_the_authority_restarts_and_the_client_hears_from_the_other_side() -> None:
    async with sessions(dials=LIVE) as rig:
        rig.old.replies = rig.new.replies = True
        client = await opened(rig)
        key = key_for(0, LIVE)
        await client.send(text(1, key))
        assert await client.recv() == f"old:{text(1, key)}"
        await rig.old.stop()
        await client.send(text(2, key))
        assert await client.recv() == f"new:{text(2, key)}"
        await until(lambda: rig.rig.fake.holds_event("m2") and rig.rig.story("m2") == ("h", "D"), "old is owed it")
        assert rig.rig.plane.counters["failovers"] == 1


async def test_without_a_failover_messages_are_accepted_for_the_authority() -> None:
    async with sessions(dials=OFF) as rig:
        client = await opened(rig, new=False)
        await rig.old.stop()
        await client.send(text(1))
        pong = await client.ping()
        await pong
        assert rig.rig.story("m1") == ("h", "-")
        assert rig.rig.fake.holds_event("m1")


async def test_on_authority_down_fail_closes_with_1013() -> None:
    async with sessions(make_route(on_authority_down="fail"), dials=OFF) as rig:
        client = await opened(rig, new=False)
        await rig.old.stop()
        await until(lambda: rig.rig.plane.counters.get("websocket_backend_lost", 0) == 1, "it was seen")
        await client.send(text(1))
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1013
        assert not rig.rig.fake.events


async def test_a_backend_that_answers_no_ping_is_let_go() -> None:
    async with sessions(backend_settings={"response_timeout": "200ms"}) as rig:
        client = await opened(rig)
        rig.new.mute()
        await client.send(text(1))
        await until(lambda: "m1" in rig.rig.fake.events and rig.rig.story("m1") == ("D", "H"), "handed")


# what both sides must have


async def test_the_prologue_is_told_both_sides_and_first_of_all_on_each_new_connection() -> None:
    route = make_route({"broadcast_first": 1, "broadcast": ({"pointer": "/type", "equals": "subscribe"},)})
    async with sessions(route, dials=OFF) as rig:
        client = await opened(rig, new=False)
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


async def test_a_prologue_is_bounded() -> None:
    async with sessions(make_route({"broadcast": ({"pointer": "/type", "equals": "subscribe"},)})) as rig:
        client = await opened(rig)
        for n in range(70):
            await client.send(json.dumps({"type": "subscribe", "n": n, "pad": "x" * 1000}))
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009


# the client's word for it


async def test_a_ping_is_answered_once_what_came_before_it_is_safe() -> None:
    async with sessions() as rig:
        rig.rig.fake.holds = True
        client = await opened(rig)
        assert await asyncio.wait_for(await client.ping(), 5) >= 0
        rig.new.mute()
        await client.send(text(1))
        waiting = asyncio.ensure_future(await client.ping())
        await until(lambda: "m1" in rig.rig.fake.events and rig.rig.story("m1") == ("D", "P"), "parked")
        await asyncio.sleep(0.05)
        assert not waiting.done()
        rig.rig.fake.holds = False
        rig.rig.fake.release()
        await asyncio.wait_for(waiting, 5)
        rig.new.unmute()
        await until(lambda: rig.rig.story("m1") == ("D", "PD"), "the copy was on its way all the time")


async def test_a_close_is_answered_once_what_came_before_it_is_safe() -> None:
    async with sessions() as rig:
        client = await opened(rig)
        for n in range(50):
            await client.send(text(n))
        await client.close(4001, "done")
        assert client.close_code == 4001
        assert len(rig.rig.fake.events) == 50
        await until(lambda: len(rig.old.got) == len(rig.new.got) == 50, "all are there")
        await until(lambda: rig.old.closed == rig.new.closed == [4001], "backends hear the code")


async def test_a_client_that_just_leaves_takes_nothing_with_it() -> None:
    async with sessions() as rig:
        client = await opened(rig)
        for n in range(50):
            await client.send(text(n))
        client.transport.abort()
        await until(lambda: not rig.sessions.open, "the session is over")
        numbers = sorted(rig.rig.fake.events)
        assert all(rig.rig.story(name) == ("D", "D") for name in numbers)
        assert len(rig.old.got) == len(rig.new.got) == len(numbers)


async def test_pings_that_wait_are_limited() -> None:
    async with sessions(make_route(on_authority_down="accept"), dials=OFF) as rig:
        rig.rig.fake.holds = True
        client = await opened(rig, new=False)
        rig.old.mute()
        await client.send(text(1))
        client.transport.write(frame(9, b"", is_client=True) * 2_000)
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008


# bad input


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x01x", 1002),
        (b"\xc1\x80\0\0\0\0", 1002),
        (b"\x81\xff" + (2**40).to_bytes(8, "big"), 1009),
        (b"\x81\x81\0\0\0\0\xff", 1007),
        (b"\x01\x80\0\0\0\0" + b"\x00\x80\0\0\0\0" * 2000, 1009),
    ],
    ids=["unmasked", "reserved", "too long", "no UTF-8", "fragments"],
)
async def test_what_a_client_must_not_send(data: bytes, code: int) -> None:
    async with sessions() as rig:
        client = await opened(rig)
        await client.send(text(1))
        client.transport.write(data)
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == code
        await until(lambda: rig.old.got == rig.new.got == [text(1)], "what came before it is there")


async def test_fragments_pass_as_they_came_with_control_frames_in_between() -> None:
    async with sessions() as rig:
        client = await opened(rig)

        async def parts() -> AsyncIterator[str]:
            for part in ('{"id":"m1",', '"key":"a"}'):
                yield part
                await (await client.ping())

        await client.send(parts())
        await until(lambda: rig.old.got == rig.new.got == ['{"id":"m1","key":"a"}'], "whole")


async def test_one_byte_segments() -> None:
    async with sessions() as rig:
        client = await opened(rig)
        for byte in frame(1, text(1).encode(), is_client=True):
            client.transport.write(bytes([byte]))
            await asyncio.sleep(0)
        await until(lambda: rig.old.got == rig.new.got == [text(1)], "whole")


async def test_a_backend_that_breaks_the_rules_is_let_go_and_the_client_does_not_see_it() -> None:
    async with sessions() as rig:
        client = await opened(rig)
        for connection in rig.new.connections:
            connection.transport.write(b"\x83\x00")
        await until(lambda: rig.rig.plane.counters.get("websocket_backend_broken", 0) == 1, "it was seen")
        await client.send(text(1))
        await until(lambda: rig.old.got == [text(1)], "the session goes on")


async def test_a_client_that_does_not_read_holds_its_backends_and_is_closed_with_1013() -> None:
    async with sessions(limits={"keepalive_timeout": "300ms"}) as rig:
        wire = await rig.rig.wire(limit=1024)
        wire.send((GOOD + KEY + "\r\n").encode())
        await until(lambda: bool(rig.old.connections), "open")
        [connection] = rig.old.connections
        pushing = asyncio.ensure_future(push_much(connection))
        await until(lambda: rig.rig.plane.counters.get("clients_not_reading", 0) == 1, "closed")
        pushing.cancel()
        await asyncio.gather(pushing, return_exceptions=True)


async def push_much(connection: ServerConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        for _ in range(10_000):
            await connection.send(b"x" * 10_000)


async def test_a_client_that_says_nothing_is_asked_and_then_let_go() -> None:
    async with sessions(make_route({"ping_interval": "200ms"})) as rig:
        client = await opened(rig)
        await asyncio.sleep(1.0)
        await client.send(text(1))  # it answers Pings by itself, and so does the backend
        await until(lambda: rig.new.got == [text(1)], "still there")
        wire = await rig.rig.wire()
        wire.send((GOOD + KEY + "\r\n").encode())
        await until(lambda: rig.rig.plane.counters.get("websocket_silent", 0) == 1, "let go")


async def test_while_there_is_no_room_for_records_the_client_is_held_up() -> None:
    async with sessions() as rig:
        client = await opened(rig)
        rig.rig.marks.set_flag(LOW_DISK, True)
        for n in range(20):
            await client.send(text(n))
        await asyncio.sleep(0.1)
        assert not rig.rig.fake.events
        rig.rig.marks.set_flag(LOW_DISK, False)
        await until(lambda: len(rig.old.got) == len(rig.new.got) == 20, "then all go")
        assert rig.old.got == [text(n) for n in range(20)]


# what a second look found


async def raw_client(rig: SessionRig) -> Wire:
    """A client that speaks by hand and reads nothing of what comes behind its 101."""
    wire = await rig.rig.wire(limit=1024)
    wire.send((GOOD + KEY + "\r\n").encode())
    await wire.reader.readuntil(b"\r\n\r\n")
    wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await until(lambda: bool(rig.old.connections) and bool(rig.new.connections), "backends are connected")
    return wire


def only_session(rig: SessionRig) -> Session:
    [session] = rig.sessions.open
    return session


def unread(session: Session) -> int:
    """Bytes that wait for the client."""
    assert session._transport is not None
    return session._transport.get_write_buffer_size()


async def test_a_close_frame_that_crosses_ours_is_no_receipt() -> None:
    async with sessions(make_route({"redeliver_window": "5s"})) as rig:
        client = await opened(rig)
        [connection] = rig.new.connections
        rig.new.mute()
        await client.send(text(1))
        await until(lambda: rig.old.got == [text(1)], "old has it")
        client.transport.abort()
        await until(lambda: only_session(rig).is_over, "the client is gone")
        connection.transport.write(frame(8, (1001).to_bytes(2, "big"), is_client=False))
        await until(lambda: rig.rig.story("m1")[1] == "H", "handed")


async def test_what_is_handed_waits_for_what_is_still_in_the_link() -> None:
    async with sessions() as rig:
        client = await opened(rig)
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


async def test_what_the_authority_says_at_once_is_heard() -> None:
    async with sessions(make_route(copy_wait="200ms")) as rig:
        rig.new.gate = asyncio.Event()
        rig.old.greeting = "hello"
        client = await rig.client()
        assert await asyncio.wait_for(client.recv(), 5) == "hello"
        rig.new.gate.set()


async def test_a_client_that_does_not_read_costs_no_backend_its_connection() -> None:
    async with sessions(backend_settings={"response_timeout": "200ms"}) as rig:
        await raw_client(rig)
        [connection] = rig.old.connections
        pushing = asyncio.ensure_future(push_much(connection))
        await until(lambda: only_session(rig)._is_full, "full")
        await asyncio.sleep(0.6)
        assert "websocket_backend_lost" not in rig.rig.plane.counters
        only_session(rig).links[0].drop(1000, "so that there is a new one")
        await until(lambda: connection not in rig.old.connections and bool(rig.old.connections), "a new one")
        [again] = rig.old.connections
        pushing_again = asyncio.ensure_future(push_much(again))
        await asyncio.sleep(0.3)
        assert unread(only_session(rig)) < 2 * 2**20
        for task in (pushing, pushing_again):
            task.cancel()
        await asyncio.gather(pushing, pushing_again, return_exceptions=True)


async def test_a_flood_of_pings_without_reading_takes_no_memory() -> None:
    async with sessions() as rig:
        wire = await raw_client(rig)
        for _ in range(100):
            wire.send(frame(9, b"x" * 125, is_client=True) * 2_000)
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.2)
        assert unread(only_session(rig)) < 2 * 2**20
        wire.reset()


async def test_a_message_that_does_not_end_is_given_up() -> None:
    async with sessions(limits={"body_timeout": "200ms"}) as rig:
        client = await opened(rig)
        client.transport.write(frame(1, b"x" * 50_000, is_client=True)[:-1])
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008


async def test_the_last_word_of_a_prologue_counts() -> None:
    rules = tuple({"pointer": "/type", "equals": name} for name in ("on", "off"))
    async with sessions(make_route({"broadcast": rules})) as rig:
        client = await opened(rig)
        on, off = '{"type":"on"}', '{"type":"off"}'
        for message in (on, off, on):
            await client.send(message)
        await until(lambda: rig.old.got == [on, off, on], "live")
        rig.old.cut()
        await until(lambda: rig.old.got[3:] == [off, on], "again")


async def test_a_client_that_says_the_same_again_is_not_too_long() -> None:
    async with sessions(make_route({"broadcast": ({"pointer": "/type", "equals": "on"},)})) as rig:
        client = await opened(rig)
        on = json.dumps({"type": "on", "pad": "x" * 60_000})
        for _ in range(5):
            await client.send(on)
        await client.send(text(1))
        await until(lambda: rig.new.got == [on] * 5 + [text(1)], "all of it")


async def test_a_backend_that_takes_nothing_does_not_pile_up_broadcasts() -> None:
    async with sessions(make_route({"broadcast": ({"pointer": "/type", "equals": "on"},)})) as rig:
        client = await opened(rig)
        rig.new.mute()
        for _ in range(800):
            await client.send(json.dumps({"type": "on", "pad": "x" * 30_000}))
        await until(lambda: rig.rig.plane.counters.get("websocket_backend_lost", 0) >= 1, "let go")


async def test_at_a_stop_who_is_being_opened_is_answered_and_nobody_new_is_let_in() -> None:
    async with sessions() as rig:
        rig.old.gate = asyncio.Event()
        opening, late = await rig.rig.wire(), await rig.rig.wire()
        opening.send((GOOD + KEY + "\r\n").encode())
        late.send(GOOD.encode())
        await until(lambda: bool(rig.old.requests), "asked")
        await asyncio.sleep(0.02)
        rig.rig.service.last_call()
        rig.sessions.stop()
        late.send((KEY + "\r\n").encode())
        for wire in (opening, late):
            assert (await wire.answer("GET")).status == 503
        rig.old.gate.set()
        await until(lambda: not rig.sessions.open, "nobody is left")


async def test_an_answer_to_the_handshake_without_an_end_is_a_bad_gateway() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                writer.write(b"data: x\n\n")
                await writer.drain()
                await asyncio.sleep(0.05)
        is_over.set()

    is_over = asyncio.Event()
    async with sessions(dials=OFF, backend_settings={"response_timeout": "200ms"}) as rig:
        await rig.old.stop()
        server = await asyncio.start_server(endless, "127.0.0.1", rig.old.port)
        with pytest.raises(InvalidStatus) as refused:
            await rig.client(open_timeout=5)
        assert refused.value.response.status_code == 502
        await is_over.wait()
        server.close()
