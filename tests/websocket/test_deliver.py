"""The ledger's couriers: one session of their own for each of a client's, and what becomes of a message."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import pytest

from config.model import Backend, WebSocket
from proxy.core.event import DELIVERED, DENIED, NEW, REFUSED, RETRY, UNREACHABLE, Attempt, Event, Outcome
from proxy.http.room import MOST
from proxy.http.tick import Tick
from proxy.http.upstream import Upstream
from proxy.websocket.context import SessionMessage, pack_context, unpack_context
from proxy.websocket.deliver import WebSocketDelivery
from tests.http.wire import until
from tests.websocket.backends import AiohttpBackend, Talk, WebsocketsBackend, WsBackend

pytestmark = pytest.mark.asyncio

HANDSHAKE = b"GET /ws?a=1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer t\r\nSec-WebSocket-Protocol: p\r\n"


def event(n: int, session: str = "s", prologue: tuple[tuple[int, bytes], ...] = (), kind: int = 1) -> Event:
    context = pack_context(HANDSHAKE, SessionMessage(session, kind, prologue, len(prologue)))
    return Event(n, f"m{n}", "events", "k", 0, 1, NEW, 3, 0, 0, False, 0, "websocket", context, b"message %d" % n)


REPLYING = WebSocket.model_validate({"receipt": "reply", "reply": {"message_id": "/id", "reply_id": "/to"}})


def asking(n: int) -> Event:
    """An event to which there is a reply."""
    found = event(n)
    found.body = b'{"id":%d}' % n
    return found


class Couriers:
    """A delivery and the backend that it delivers to."""

    def __init__(self, backend: WsBackend, settings: WebSocket, response_timeout: str) -> None:
        loop = asyncio.get_running_loop()
        tick = Tick(loop, lambda: True)
        document: dict[str, Any] = {
            "url": (f"http://127.0.0.1:{backend.port}",),
            "response_timeout": response_timeout,
            "rewrite_prefix": {"prefix": "/ws", "to": "/new"},
        }
        self.backend = backend
        self.upstream = Upstream("new", Backend.model_validate(document), loop, tick)
        sides = {"events": (self.upstream, self.upstream)}
        self.delivery = WebSocketDelivery(sides, {"events": settings}, 2**20, 2**20, tick, loop)
        self._timer = loop.call_later(0.01, self._check)

    def _check(self) -> None:
        self.delivery.check_times(monotonic())
        self.upstream.check_times(monotonic())
        self._timer = asyncio.get_running_loop().call_later(0.01, self._check)

    async def deliver(self, *events: Event) -> list[Outcome]:
        return await asyncio.gather(*(self.delivery.deliver(each, Attempt(NEW, "replay", 1)) for each in events))

    def close(self) -> None:
        self._timer.cancel()
        self.delivery.close()
        self.upstream.close()


@asynccontextmanager
async def couriers(
    library: type[WsBackend] = WebsocketsBackend,
    *,
    window: str = "0s",
    response_timeout: str = "1s",
    settings: WebSocket | None = None,
) -> AsyncIterator[Couriers]:
    backend = library("new")
    await backend.start()
    settings = settings or WebSocket.model_validate({"redeliver_window": window})
    found = Couriers(backend, settings, response_timeout)
    try:
        yield found
    finally:
        found.close()
        await backend.stop()


@pytest.fixture(params=[WebsocketsBackend, AiohttpBackend], ids=["websockets", "aiohttp"])
def library(request: pytest.FixtureRequest) -> type[WsBackend]:
    """What the backend is made with."""
    found: type[WsBackend] = request.param
    return found


async def test_messages_of_one_session_go_by_one_connection_with_its_handshake(library: type[WsBackend]) -> None:
    async with couriers(library) as rig:
        outcomes = await rig.deliver(*(event(n) for n in range(20)))
        assert {outcome.kind for outcome in outcomes} == {DELIVERED}
        assert sorted(rig.backend.got) == sorted(f"message {n}" for n in range(20))
        [request] = rig.backend.requests
        assert request.path == "/new?a=1"
        assert request.headers["Authorization"] == "Bearer t"
        await rig.deliver(event(20, kind=2))
        assert rig.backend.got[-1] == b"message 20"
        await rig.deliver(event(21, session="other"))
        assert len(rig.backend.requests) == 2


async def test_the_prologue_comes_first_and_what_was_added_to_it_later(library: type[WsBackend]) -> None:
    async with couriers(library) as rig:
        await rig.deliver(event(1, prologue=((1, b"login"),)))
        await rig.deliver(event(2, prologue=((1, b"login"), (1, b"subscribe"))))
        await rig.deliver(event(3, prologue=((1, b"login"),)))
        assert rig.backend.got == ["login", "message 1", "subscribe", "message 2", "message 3"]


@pytest.mark.parametrize(("status", "kind"), [(401, DENIED), (403, DENIED), (400, DENIED), (429, RETRY), (503, RETRY)])
async def test_a_refused_handshake_says_nothing_about_the_message(
    library: type[WsBackend], status: int, kind: int
) -> None:
    async with couriers(library) as rig:
        rig.backend.refusal = status
        outcomes = await rig.deliver(event(1), event(2))
        assert [outcome[:2] for outcome in outcomes] == [(kind, status)] * 2
        assert len(rig.backend.requests) == 1
        rig.backend.refusal = None
        assert [outcome.kind for outcome in await rig.deliver(event(1))] == [DELIVERED]


async def test_nobody_there(library: type[WsBackend]) -> None:
    async with couriers(library) as rig:
        await rig.backend.stop()
        assert [outcome.kind for outcome in await rig.deliver(event(1))] == [UNREACHABLE]


async def test_a_backend_that_answers_no_ping_is_tried_again(library: type[WsBackend]) -> None:
    async with couriers(library, response_timeout="200ms") as rig:
        await rig.deliver(event(1))
        rig.backend.mute()
        [outcome] = await rig.deliver(event(2))
        assert outcome == Outcome(RETRY, 0, "no receipt within 0.2 s")
        assert [each.kind for each in await rig.deliver(event(2))] == [DELIVERED]


async def test_what_is_on_its_way_when_the_connection_is_lost_is_tried_again(library: type[WsBackend]) -> None:
    async with couriers(library) as rig:
        await rig.deliver(event(1))
        rig.backend.mute()
        waiting = asyncio.ensure_future(rig.deliver(event(2)))
        await asyncio.sleep(0.05)
        rig.backend.cut()
        [outcome] = await waiting
        assert outcome.kind == RETRY


async def test_what_was_delivered_a_moment_before_the_connection_was_lost_is_sent_again_first(
    library: type[WsBackend],
) -> None:
    async with couriers(library, window="30s") as rig:
        await rig.deliver(event(1, prologue=((1, b"login"),)))
        await rig.deliver(event(2))
        rig.backend.cut()
        await until(lambda: not rig.backend.connections, "lost")
        await rig.deliver(event(3))
        assert rig.backend.got[3:] == ["login", "message 1", "message 2", "message 3"]


async def test_it_is_sent_again_also_when_nothing_else_is_to_be_delivered(library: type[WsBackend]) -> None:
    async with couriers(library, window="30s") as rig:
        await rig.deliver(event(1))
        rig.backend.cut()
        await until(lambda: rig.backend.got == ["message 1", "message 1"], "sent again")


async def test_it_is_forgotten_after_the_window(library: type[WsBackend]) -> None:
    async with couriers(library, window="50ms") as rig:
        await rig.deliver(event(1))
        await asyncio.sleep(0.2)
        assert rig.delivery.kept_bytes == 0
        rig.backend.cut()
        await until(lambda: not rig.backend.connections, "lost")
        await rig.deliver(event(2))
        assert rig.backend.got == ["message 1", "message 2"]


async def test_what_is_sent_again_again_is_not_kept_for_longer(library: type[WsBackend]) -> None:
    async with couriers(library, window="500ms") as rig:
        await rig.deliver(event(1))
        begun = monotonic()
        while monotonic() - begun < 1.5:
            await asyncio.sleep(0.1)
            rig.backend.cut()
        await until(lambda: rig.delivery.kept_bytes == 0, "it is kept no more")
        [courier] = rig.delivery._couriers.values()
        assert not courier._again


class DeafBackend(WebsocketsBackend):
    """One that may be told to read nothing of new connections."""

    is_deaf = False

    async def _began(self, talk: Talk) -> None:
        await super()._began(talk)
        if self.is_deaf:
            self.mute()


async def test_what_was_sent_again_on_a_connection_that_is_lost_as_well_is_sent_once_more() -> None:
    async with couriers(DeafBackend, window="300ms", response_timeout="5s") as rig:
        assert isinstance(rig.backend, DeafBackend)
        await rig.deliver(event(1))
        rig.backend.is_deaf = True
        rig.backend.cut()
        await until(lambda: len(rig.backend.requests) == 2, "it is back")
        await asyncio.sleep(0.5)
        assert rig.backend.got == ["message 1"], "nothing of it was read"
        rig.backend.is_deaf = False
        rig.backend.cut()
        await until(lambda: rig.backend.got == ["message 1"] * 2, "sent again, although its window is over")


TOO_LONG = b"x" * (2**20 + 1)
"""More than `websockets` takes, which closes with 1009."""


async def test_a_message_that_is_too_big_is_refused() -> None:
    async with couriers(WebsocketsBackend) as rig:
        long = event(1)
        long.body = TOO_LONG
        [outcome] = await rig.deliver(long)
        assert (outcome.kind, outcome.is_own) == (REFUSED, False)
        assert outcome.reason.startswith("it closed with 1009")
        assert [each.kind for each in await rig.deliver(event(2))] == [DELIVERED]


async def test_of_several_on_their_way_each_goes_alone_until_the_culprit_is_found() -> None:
    async with couriers(WebsocketsBackend) as rig:
        events = [event(n) for n in range(5)]
        events[2].body = TOO_LONG
        first = await rig.deliver(*events)
        assert {(each.kind, each.is_own) for each in first if each.kind != DELIVERED} == {(RETRY, False)}
        again = [each for each, outcome in zip(events, first, strict=True) if outcome.kind == RETRY]
        assert events[2] in again
        second = await rig.deliver(*again, event(6))
        assert [each.kind for each in second] == [REFUSED if each is events[2] else DELIVERED for each in again] + [
            DELIVERED
        ]
        assert len(rig.backend.requests) == 3
        assert sorted(map(str, rig.backend.got)) == sorted(f"message {n}" for n in (0, 1, 3, 4, 6))


@pytest.mark.parametrize(("code", "is_own"), [(1011, True), (1008, True), (4000, True), (1001, False), (1000, False)])
async def test_a_close_is_of_the_message_alone_on_its_way_or_of_none(code: int, is_own: bool) -> None:
    async with couriers(WebsocketsBackend, settings=REPLYING) as rig:
        closing: list[asyncio.Task[None]] = []

        def close(message: str | bytes) -> str:
            closing.append(asyncio.ensure_future(rig.backend.connection.close(code)))
            return ""

        rig.backend.answers = close
        [outcome] = await rig.deliver(asking(1))
        assert (outcome.kind, outcome.is_own) == (RETRY, is_own)
        assert outcome.reason == f"it closed with {code}"
        rig.backend.answers = lambda message: '{"to": 2}'
        assert await rig.deliver(asking(2)) == [Outcome(DELIVERED, 0)]


async def test_of_one_message_without_a_reply_the_others_hear_nothing() -> None:
    async with couriers(WebsocketsBackend, settings=REPLYING, response_timeout="300ms") as rig:
        rig.backend.answers = lambda text: (
            "" if json.loads(text)["id"] == 1 else json.dumps({"to": json.loads(text)["id"]})
        )
        late = asyncio.ensure_future(rig.deliver(asking(1)))
        for n in range(2, 20):
            assert await rig.deliver(asking(n)) == [Outcome(DELIVERED, 0)]
            await asyncio.sleep(0.02)
        assert await late == [Outcome(RETRY, 0, "no receipt within 0.3 s", is_own=True)]
        assert len(rig.backend.requests) == 1, "the session goes on"


async def test_where_several_have_no_reply_it_is_nobodys_own() -> None:
    async with couriers(WebsocketsBackend, settings=REPLYING, response_timeout="200ms") as rig:
        assert await rig.deliver(asking(1), asking(2)) == [Outcome(RETRY, 0, "no receipt within 0.2 s")] * 2


async def test_nothing_is_delivered_that_the_backend_does_not_take() -> None:
    settings = WebSocket.model_validate({"receipt": "none", "redeliver_window": "0s"})
    async with couriers(WebsocketsBackend, settings=settings, response_timeout="10s") as rig:
        await rig.deliver(event(0))
        rig.backend.mute()
        events = [event(n) for n in range(1, 41)]
        for each in events:
            each.body = b"x" * 2**19
        tasks = [asyncio.ensure_future(rig.deliver(each)) for each in events]
        await asyncio.sleep(0.5)
        done = sum(task.done() for task in tasks)
        assert done < 20, "what the buffers of the connection hold"
        assert MOST <= rig.delivery._rooms["new"].used < MOST + 2**19, "and of 20 MiB the others wait unsent"
        rig.backend.unmute()
        outcomes = [outcome for [outcome] in await asyncio.gather(*tasks)]
        assert {(outcome.kind, outcome.reason) for outcome in outcomes} == {(DELIVERED, "")}
        await until(lambda: len(rig.backend.got) == 41, "all of them are there")
        assert rig.delivery._rooms["new"].used == 0


async def test_a_session_that_ended_while_its_message_waited_for_room_is_opened_again() -> None:
    async with couriers(WebsocketsBackend) as rig:
        await rig.deliver(event(0))
        room = rig.delivery._rooms["new"]
        room.take(MOST)
        waiting = asyncio.ensure_future(rig.deliver(event(1)))
        await until(lambda: not rig.delivery._couriers, "the idle session is thrown away")
        room.give(MOST)
        [outcome] = await waiting
        assert (outcome.kind, outcome.reason) == (DELIVERED, "")
        assert len(rig.backend.requests) == 2


async def test_a_handshake_that_is_refused_is_not_tried_again_and_again_for_what_is_sent_again() -> None:
    async with couriers(WebsocketsBackend, window="30s") as rig:
        await rig.deliver(event(1))
        rig.backend.refusal = 503
        rig.backend.cut()
        await asyncio.sleep(2.5)
        assert 2 <= len(rig.backend.requests) <= 5, "after 0.25, 0.75 and 1.75 s"
        rig.backend.refusal = None
        await until(lambda: rig.backend.got == ["message 1"] * 2, "sent again")


async def test_a_context_that_is_none_is_refused(library: type[WsBackend]) -> None:
    async with couriers(library) as rig:
        spoilt = event(1)
        spoilt.context = b"GET / HTTP/1.1\r\n"
        assert [outcome.kind for outcome in await rig.deliver(spoilt)] == [REFUSED]
        spoilt.context = HANDSHAKE + b"\r\n\xff"
        assert [outcome.kind for outcome in await rig.deliver(spoilt)] == [REFUSED]


async def test_contexts_come_back_as_they_were() -> None:
    message = SessionMessage("s", 2, ((1, b"a\r\n\r\nb"), (2, b"\xff")))
    assert unpack_context(pack_context(HANDSHAKE, message)) == (HANDSHAKE, message)
