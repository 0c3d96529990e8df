"""The handshake through a whole session: what backends are asked, what clients are answered."""

from __future__ import annotations

import asyncio
import contextlib
from time import monotonic

import pytest

from proxy.core.event import OLD
from proxy.core.routing import Dials
from proxy.websocket.upstream import OPEN
from tests.http.rig import DUAL, LIVE, OFF, key_for
from tests.http.wire import until
from tests.websocket.byhand import GET, GOOD, HANDSHAKE, KEY, TEXT, sent
from tests.websocket.clients import Refused
from tests.websocket.rig import PATH, Opens, by_hand, make_route, sessions, text

pytestmark = pytest.mark.asyncio


async def test_backends_get_the_clients_handshake_without_its_extensions(crossed: Opens) -> None:
    async with crossed() as rig:
        client = await rig.client(
            headers={"Authorization": "Bearer t", "Cookie": "c=1"},
            origin="http://app",
            deflate=True,
        )
        assert not client.has_extensions
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


async def test_the_authoritys_subprotocol_is_the_clients(crossed: Opens) -> None:
    async with crossed() as rig:
        for backend in (rig.old, rig.new):
            await backend.stop()
            backend.subprotocols = ["b"]
            await backend.start()
        client = await rig.client(subprotocols=["a", "b"])
        assert client.subprotocol == "b"
        await client.send(text(1))
        await until(lambda: rig.new.got == rig.old.got == [text(1)], "both have it")


async def test_a_copy_that_chooses_another_subprotocol_counts_as_refusing(paired: Opens) -> None:
    async with paired() as rig:
        for backend, protocol in ((rig.old, "a"), (rig.new, "b")):
            await backend.stop()
            backend.subprotocols = [protocol]
            await backend.start()
        client = await rig.client(subprotocols=["a", "b"])
        assert client.subprotocol == "a"
        await until(lambda: rig.counted("websocket_protocols_differ") > 0, "it was seen")
        await client.send(text(1))
        await until(lambda: rig.old.got == [text(1)], "old has it")
        await until(lambda: rig.rig.story("m1") == ("D", "h"), "new is owed it")
        assert rig.new.got == []


@pytest.mark.parametrize("status", [401, 403, 404, 503])
async def test_what_the_authority_refuses_is_the_clients_answer(paired: Opens, status: int) -> None:
    async with paired() as rig:
        rig.old.refusal = status
        with pytest.raises(Refused) as refused:
            await rig.client()
        assert refused.value.status == status
        assert not rig.rig.fake.events


async def test_a_copy_that_refuses_does_not_keep_the_session_from_going_on(paired: Opens) -> None:
    async with paired() as rig:
        rig.new.refusal = 403
        client = await rig.client()
        await client.send(text(1))
        await until(lambda: rig.rig.fake.holds_event("m1") and rig.rig.story("m1") == ("D", "h"), "new is owed it")
        assert rig.old.got == [text(1)]
        assert rig.rig.plane.counters["websocket_handshakes_refused"] > 0
        rig.new.refusal = None  # and it is asked again
        await until(lambda: len(rig.new.connections) == 1, "new has agreed")


async def test_a_copy_that_refuses_is_warned_of_once_and_told(paired: Opens, caplog: pytest.LogCaptureFixture) -> None:
    async with paired() as rig:
        rig.new.refusal = 403
        for _ in range(3):
            await rig.client()
        await until(lambda: rig.counted("websocket_handshakes_refused") >= 6, "it was asked again")
        assert rig.sessions.refusals(monotonic()) == {"new": "it answers 403"}
        assert rig.sessions.refusals(monotonic() + 60) == {}
        assert caplog.text.count("a backend refuses sessions") == 1


async def test_a_client_that_the_authority_refuses_is_no_warning(
    paired: Opens, caplog: pytest.LogCaptureFixture
) -> None:
    async with paired(dials=OFF) as rig:
        rig.old.refusal = 401
        with pytest.raises(Refused):
            await rig.client()
        assert rig.sessions.refusals(monotonic()) == {}
        assert not caplog.records


async def test_a_copy_that_is_only_away_refuses_nobody(paired: Opens) -> None:
    async with paired() as rig:
        await rig.opened()
        await rig.new.stop()
        await until(lambda: rig.counted("websocket_backend_lost") == 1, "it was seen")
        await asyncio.sleep(0.3)
        assert not rig.counted("websocket_handshakes_refused")


async def test_old_down_at_the_handshake_new_answers_when_it_may(paired: Opens) -> None:
    async with paired(dials=LIVE, down=["old"]) as rig:
        client = await rig.client()
        await client.send(text(1, key_for(0)))
        await until(lambda: rig.new.got == [text(1, key_for(0))], "new has it")
        await until(lambda: rig.rig.story("m1") == ("h", "D"), "old is owed it")


@pytest.mark.parametrize("policy", ["failover", "accept"])
async def test_old_down_at_the_handshake_its_messages_are_accepted_for_it(paired: Opens, policy: str) -> None:
    """At weight 0 new must not answer instead of old; but it speaks the same, so the session may begin without old."""
    async with paired(make_route(on_authority_down=policy), dials=DUAL, down=["old"]) as rig:
        rig.old.replies = rig.new.replies = True
        client = await rig.client()
        await client.send(text(1))
        await client.ping()
        await until(lambda: rig.new.got == [text(1)], "new has its copy")
        assert rig.rig.fake.holds_event("m1")
        await until(lambda: rig.rig.story("m1") == ("h", "D"), "old is owed it")
        assert rig.counted("websocket_opened_without_authority") == 1
        await rig.old.start()
        await until(lambda: rig.only_session.links[OLD].state == OPEN, "old is asked again")
        await client.send(text(2, "b"))
        assert await client.recv() == f"old:{text(2, 'b')}", "what new said is for nobody"


async def test_when_the_other_side_refuses_too_the_authority_that_is_back_is_asked(paired: Opens) -> None:
    async with paired(dials=DUAL, down=["old"]) as rig:
        rig.new.gate, rig.new.refusal = asyncio.Event(), 403
        opening = asyncio.ensure_future(rig.client())
        await until(lambda: bool(rig.new.requests), "new is asked, in old's place")
        await rig.old.start()
        await until(lambda: bool(rig.old.connections), "old has agreed")
        rig.new.gate.set()
        client = await opening
        await client.send(text(1))
        await until(lambda: rig.old.got == [text(1)], "old has it")
        assert rig.counted("websocket_opened_without_authority") == 0


async def test_an_authority_that_fails_at_once_does_not_keep_the_other_side_from_being_asked(paired: Opens) -> None:
    """Of a backend whose names are not known a leg fails before anything was sent."""
    nowhere = {"old": {"url": "http://old.invalid:1"}}
    async with paired(dials=LIVE, backend_settings=nowhere) as rig:
        await until(lambda: rig.rig.upstreams["old"].lookup_failures > 0, "it cannot be looked up")
        client = await rig.client(f"?entity_id={key_for(0)}")
        await client.send(text(1, key_for(0)))
        await until(lambda: rig.new.got == [text(1, key_for(0))], "new has it")


@pytest.mark.parametrize("dials", [OFF, DUAL])
async def test_old_down_at_the_handshake_is_a_bad_gateway_where_that_is_the_policy(paired: Opens, dials: Dials) -> None:
    async with paired(make_route(on_authority_down="fail"), dials=dials, down=["old"]) as rig:
        with pytest.raises(Refused) as refused:
            await rig.client()
        assert refused.value.status == 502
        assert rig.rig.plane.routes[0].failed == 1


async def test_both_down_is_a_bad_gateway(paired: Opens) -> None:
    async with paired(down=["old", "new"]) as rig:
        with pytest.raises(Refused) as refused:
            await rig.client()
        assert refused.value.status == 502


REFUSED = {
    "no Upgrade": (GET + "\r\n", 426, "only WebSocket"),
    "another protocol": (GOOD.replace("websocket", "h2c") + KEY + "\r\n", 426, "only WebSocket"),
    "version 8": (GOOD.replace("13", "8") + KEY + "\r\n", 426, "version 13"),
    "version 14": (GOOD.replace("13", "14") + KEY + "\r\n", 426, "version 13"),
    "no version": (GOOD.replace("Sec-WebSocket-Version: 13\r\n", "") + KEY + "\r\n", 426, "version 13"),
    "two versions": (GOOD + "Sec-WebSocket-Version: 13\r\n" + KEY + "\r\n", 426, "version 13"),
    "no key": (GOOD + "\r\n", 400, "Sec-WebSocket-Key"),
    "two keys": (GOOD + KEY + KEY + "\r\n", 400, "Sec-WebSocket-Key"),
    "a key of 15 bytes": (GOOD + "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA\r\n\r\n", 400, "Sec-WebSocket-Key"),
    "no Host": (GOOD.replace("Host: a\r\n", "") + KEY + "\r\n", 400, "Host"),
    "two Hosts": (GOOD + KEY + "Host: b\r\n\r\n", 400, "Host"),
    "HTTP/1.0": (GOOD.replace("1.1", "1.0") + KEY + "\r\n", 400, "HTTP/1.1"),
    "a body": (GOOD + KEY + "Content-Length: 1\r\n\r\nx", 400, "body"),
    "a body in chunks": (GOOD + KEY + "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", 400, "body"),
    "a body that is still to come": (GOOD + KEY + "Content-Length: 9\r\nExpect: 100-continue\r\n\r\n", 400, "body"),
    "bytes behind it": (GOOD + KEY + "\r\nmore", 400, "bytes behind"),
    "a frame behind it": (
        GOOD + KEY + "\r\n" + sent(TEXT, b"early", masked=False).decode("latin-1"),
        400,
        "bytes behind",
    ),
    "another request behind it": ((GOOD + KEY + "\r\n") * 2, 400, "bytes behind"),
    "a subprotocol twice": (GOOD + KEY + "Sec-WebSocket-Protocol: a, a\r\n\r\n", 400, "Sec-WebSocket-Protocol"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_malformed_handshake_is_refused_with_its_reason_and_no_backend_hears_of_it(name: str) -> None:
    request, status, reason = REFUSED[name]
    async with sessions() as rig:
        wire = await rig.rig.wire()
        answer = await wire.ask(request.encode("latin-1"), "GET")
        assert (answer.status, reason in answer.detail) == (status, True), answer.detail
        if status == 426:  # RFC 6455, 4.4
            assert answer.headers["sec-websocket-version"] == "13"
            assert answer.headers["upgrade"] == "websocket"
        assert await wire.is_cut()
        assert rig.old.requests == rig.new.requests == []
        assert not rig.sessions.open


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://app", 101),
        ("https://app:8443", 101),
        ("https://app", 403),
        ("http://app:80", 403),
        ("http://app.evil", 403),
        ("null", 403),
        ("", 403),
        ("http://app\r\nOrigin: http://app", 403),
    ],
)
async def test_4_2_2_only_origins_of_the_routes_list_are_let_in(origin: str, status: int) -> None:
    async with sessions(make_route({"origins": ("http://app", "https://app:8443")})) as rig:
        wire = await rig.rig.wire()
        line = f"Origin: {origin}\r\n" if origin else ""
        wire.send((GOOD + KEY + line + "\r\n").encode())
        assert (await wire.reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 %d " % status)
        assert len(rig.old.requests) == (status == 101)


async def test_clients_of_libraries_are_let_in_by_their_origin(paired: Opens) -> None:
    async with paired(make_route({"origins": ("http://app",)})) as rig:
        client = await rig.client(origin="http://app")
        await client.ping()
        for origin in ("http://evil", None):
            with pytest.raises(Refused) as refused:
                await rig.client(origin=origin)
            assert refused.value.status == 403


async def test_the_authoritys_refusal_is_passed_on_whole(paired: Opens) -> None:
    async with paired() as rig:
        rig.old.refusal = 401
        wire = await rig.rig.wire()
        answer = await wire.ask(HANDSHAKE, "GET")
        assert (answer.status, answer.body) == (401, b"no, says old")


@pytest.mark.parametrize(
    "breaks",
    [
        (b"Upgrade: websocket\r\n", b""),
        (b"Connection: Upgrade\r\n", b""),
        (b"Sec-WebSocket-Accept: ", b"Sec-WebSocket-Accept: A"),
        (b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"),
        (b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: other\r\n\r\n"),
    ],
    ids=["no Upgrade", "no Connection", "another Accept", "an extension", "a subprotocol"],
)
async def test_4_1_an_authority_that_agrees_to_something_else_is_a_bad_gateway(breaks: tuple[bytes, bytes]) -> None:
    async with by_hand(dials=OFF) as stand:
        stand.old.breaks = breaks
        with pytest.raises(Refused) as refused:
            await stand.rig.client()
        assert refused.value.status == 502
        await until(lambda: not stand.old.connections, "nobody keeps it")


async def test_bytes_that_come_before_the_101_are_not_passed_on(paired: Opens) -> None:
    async with paired(make_route()) as rig:
        gate = asyncio.Event()
        rig.old.gate = rig.new.gate = gate
        wire = await rig.rig.wire()
        wire.send(HANDSHAKE)
        await until(lambda: len(rig.old.requests) == 1, "old is asked")
        wire.send(sent(TEXT, b"early"))
        await asyncio.sleep(0.05)
        gate.set()
        answer = await wire.answer("GET")
        assert answer.status == 400
        assert rig.old.got == []


async def test_what_the_authority_says_at_once_is_heard(paired: Opens) -> None:
    async with paired(make_route(copy_wait="200ms")) as rig:
        rig.new.gate = asyncio.Event()
        rig.old.greeting = "hello"
        client = await rig.client()
        assert await client.recv() == "hello"
        rig.new.gate.set()


async def test_an_authority_that_has_agreed_and_is_lost_before_the_101_does_not_count(paired: Opens) -> None:
    route = make_route(key="query:k", copy_wait="100ms")
    async with paired(route, dials=LIVE) as rig:
        for backend in (rig.old, rig.new):
            await backend.stop()
            backend.subprotocols = [backend.name]
            await backend.start()
        rig.new.gate = asyncio.Event()
        opening = asyncio.ensure_future(rig.client(query=f"?k={key_for(OLD)}", subprotocols=["old", "new"]))
        await until(lambda: bool(rig.sessions.open), "it asks")
        await until(lambda: rig.only_session.links[OLD].state == OPEN, "old has agreed")
        rig.old.refusal = 503
        rig.only_session.links[OLD].drop(1000, "as if it were lost")  # it is not read yet
        assert rig.counted("failovers") == 1
        await asyncio.sleep(0.3)
        assert not opening.done(), "a 101 that nobody stands behind"
        rig.new.gate.set()
        client = await opening
        assert client.subprotocol == "new"
        await client.send(text(1))
        await until(lambda: rig.new.got == [text(1)], "new has it")


async def test_at_a_stop_who_is_being_opened_is_answered_and_nobody_new_is_let_in(paired: Opens) -> None:
    async with paired() as rig:
        rig.old.gate = asyncio.Event()
        opening, late = await rig.rig.wire(), await rig.rig.wire()
        opening.send(HANDSHAKE)
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


async def test_an_answer_to_the_handshake_without_an_end_is_a_bad_gateway(paired: Opens) -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A RuntimeError is uvloop's way to say that the connection has ended, when it hears of it late.
        with contextlib.suppress(ConnectionError, RuntimeError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                writer.write(b"data: x\n\n")
                await writer.drain()
                await asyncio.sleep(0.05)
        is_over.set()

    is_over = asyncio.Event()
    async with paired(dials=OFF, backend_settings={"response_timeout": "200ms"}) as rig:
        await rig.old.stop()
        server = await asyncio.start_server(endless, "127.0.0.1", rig.old.port)
        try:
            with pytest.raises(Refused) as refused:
                await rig.client()
            assert refused.value.status == 502
            await until(is_over.is_set, "the backend is rid of it")
        finally:
            server.close()
