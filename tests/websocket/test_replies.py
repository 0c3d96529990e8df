"""`receipt: reply`: a backend has a message when it has answered it, and the client hears that when it is safe."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from typing import Any

import pytest

from config.model import Route, WebSocket
from config.replies import ReplyRule
from proxy.core.event import DELIVERED, REFUSED, RETRY, Outcome
from proxy.websocket.replies import Replies, Reply
from tests.http.rig import LIVE, OFF, key_for
from tests.http.wire import until
from tests.websocket.backends import AiohttpBackend, WebsocketsBackend, WsBackend
from tests.websocket.rig import Opens, SessionRig, make_route, sessions, text
from tests.websocket.test_deliver import couriers, event

pytestmark = pytest.mark.asyncio

RULE: dict[str, Any] = {
    "message_id": "/id",
    "reply_id": "/to",
    "only": {"pointer": "/type", "equals": "result"},
    "success": {"pointer": "/ok", "equals": "true"},
}


def route(changes: Mapping[str, Any] | None = None, **others: Any) -> Route:
    return make_route({"receipt": "reply", "reply": RULE} | dict(changes or {}), **others)


def answer(by: str, message: str | bytes, *, ok: bool = True) -> str:
    return json.dumps({"to": json.loads(message).get("id"), "type": "result", "ok": ok, "by": by})


def answering(*backends: WsBackend, ok: bool = True) -> None:
    for backend in backends:
        backend.answers = lambda message, by=backend.name: answer(by, message, ok=ok)


def held(rig: SessionRig) -> int:
    """What the memory budget counts beside the session itself."""
    return rig.rig.plane.budget.held - 16 * 1024


# the rule


@pytest.mark.parametrize(
    ("message", "reply"),
    [
        ('{"to": 7, "type": "result", "ok": true}', Reply("7", True)),
        ('{"to": "7", "type": "result", "ok": false}', Reply("7", False)),
        ('{"to": 7, "type": "result"}', Reply("7", False)),
        ('{"to": 7, "type": "event", "ok": true}', None),
        ('{"type": "result", "ok": true}', None),
        ("no JSON", None),
    ],
)
async def test_what_is_a_reply(message: str, reply: Reply | None) -> None:
    assert Replies(ReplyRule.model_validate(RULE)).read(message.encode()) == reply


async def test_a_rule_of_two_pointers_takes_all_that_names_a_message_for_a_yes() -> None:
    rule = Replies(ReplyRule(message_id="/a/b", reply_id="/0"))
    assert rule.id_of(b'{"a": {"b": "x"}}') == "x"
    assert rule.id_of(b"[]") == ""
    assert rule.read(b'["x"]') == Reply("x", True)


# a session


async def test_the_authoritys_reply_is_the_clients_and_both_settle(paired: Opens) -> None:
    async with paired(route()) as rig:
        answering(rig.old, rig.new)
        client = await rig.opened()
        await client.send(text(1))
        assert await client.recv() == answer("old", text(1))
        await until(lambda: rig.rig.story("m1") == ("D", "D"), "settled by their replies")
        assert held(rig) == 0
        assert rig.counted("websocket_messages_dropped") == 1
        (plain,) = rig.rig.plane.routes
        assert [sum(figures.body_bytes for figures in side) for side in plain.figures] == [len(text(1))] * 2


async def test_a_reply_waits_until_its_message_is_safe(paired: Opens) -> None:
    async with paired(route(copy_wait="10ms")) as rig:
        answering(rig.old)  # new says nothing
        rig.rig.fake.holds = True
        client = await rig.opened()
        await client.send(text(1))
        await until(lambda: "m1" in rig.rig.fake.events and rig.rig.story("m1") == ("D", "P"), "left to the ledger")
        waiting = asyncio.ensure_future(client.recv())
        await asyncio.sleep(0.1)
        assert not waiting.done(), "it is not on disk"
        rig.rig.fake.holds = False
        rig.rig.fake.release()
        assert await waiting == answer("old", text(1))
        answering(rig.new)
        await rig.new.connection.send(answer("new", text(1)))
        await until(lambda: rig.rig.story("m1") == ("D", "PD"), "the copy's reply comes late")
        assert held(rig) == 0


async def test_what_a_backend_says_of_itself_waits_for_nothing(paired: Opens) -> None:
    async with paired(route()) as rig:
        rig.rig.fake.holds = True
        rig.old.answers = lambda message: json.dumps({"to": json.loads(message)["id"], "type": "event"})
        client = await rig.opened()
        await client.send(text(1))
        assert json.loads(await client.recv())["type"] == "event"
        assert rig.rig.story("m1")[0] == ""
        answering(rig.old, rig.new)
        for backend in (rig.old, rig.new):
            await backend.connection.send(answer(backend.name, text(1)))
        assert json.loads(await client.recv())["by"] == "old"


async def test_replies_may_come_in_any_order(paired: Opens) -> None:
    async with paired(route()) as rig:
        client = await rig.opened()
        for n in (1, 2, 3):
            await client.send(text(n))
        await until(lambda: len(rig.old.got) == len(rig.new.got) == 3, "both have them")
        for n in (3, 1, 2):
            await rig.new.connection.send(answer("new", text(n)))
        for n in (2, 3, 1):
            await rig.old.connection.send(answer("old", text(n)))
            assert json.loads(await client.recv())["to"] == f"m{n}"


async def test_a_no_is_final_and_the_authoritys_reaches_the_client(paired: Opens) -> None:
    async with paired(route()) as rig:
        answering(rig.old, ok=False)
        answering(rig.new)
        client = await rig.opened()
        await client.send(text(1))
        assert json.loads(await client.recv())["ok"] is False
        await until(lambda: rig.rig.story("m1") == ("R", "D"), "refused by one, taken by the other")


async def test_what_has_no_id_or_one_that_is_awaited_has_its_receipt_by_pong(paired: Opens) -> None:
    async with paired(route(event_id=("json:/name",))) as rig:
        client = await rig.opened()
        await client.send(json.dumps({"name": "none", "key": "a"}))
        await until(lambda: "none" in rig.rig.fake.events and rig.rig.story("none") == ("D", "D"), "by Pong")
        for name in ("first", "second"):
            await client.send(json.dumps({"name": name, "key": "a", "id": "x"}))
        await until(lambda: "second" in rig.rig.fake.events and rig.rig.story("second") == ("D", "D"), "by Pong")
        assert rig.rig.story("first") == ("", "")
        for backend in (rig.old, rig.new):
            await backend.connection.send(answer(backend.name, json.dumps({"id": "x"})))
        await until(lambda: rig.rig.story("first") == ("D", "D"), "by its reply")


async def test_in_split_the_side_of_the_message_answers_it(paired: Opens) -> None:
    async with paired(route(), dials=LIVE) as rig:
        answering(rig.old, rig.new)
        client = await rig.opened()
        for n in range(4):
            message = text(n, key_for(n % 2, LIVE))
            await client.send(message)
            assert await client.recv() == answer(("old", "new")[n % 2], message)


async def test_what_had_no_reply_when_its_connection_was_lost_is_sent_again_and_answered(paired: Opens) -> None:
    async with paired(route(), dials=OFF) as rig:
        client = await rig.opened(new=False)
        for n in (1, 2):
            await client.send(text(n))
        await until(lambda: len(rig.old.got) == 2, "old has them")
        answering(rig.old)
        rig.old.cut()
        replies = [json.loads(await client.recv())["to"] for _ in (1, 2)]
        assert replies == ["m1", "m2"]
        assert rig.old.got == [text(1), text(2), text(1), text(2)]
        await until(lambda: rig.rig.story("m1") == rig.rig.story("m2") == ("PD", "-"), "settled by the second")
        assert rig.counted("websocket_replies_missed") == 0
        assert rig.counted("websocket_sent_again") == 2
        assert held(rig) == 0


async def test_what_had_no_reply_twice_is_the_ledgers(paired: Opens) -> None:
    async with paired(route(), dials=OFF) as rig:
        client = await rig.opened(new=False)
        await client.send(text(1))
        await until(lambda: len(rig.old.got) == 1, "old has it")
        rig.old.cut()
        await until(lambda: len(rig.old.got) == 2, "old has it again")
        rig.old.cut()
        await until(lambda: rig.rig.story("m1") == ("PH", "-"), "handed")
        assert rig.counted("websocket_replies_missed") == 1
        assert held(rig) == 0
        await client.ping()


async def test_while_its_backend_is_away_a_message_without_a_reply_is_safe_and_then_the_ledgers() -> None:
    async with sessions(route(), dials=OFF, backend_settings={"response_timeout": "300ms"}) as rig:
        client = await rig.opened(new=False)
        await client.send(text(1))
        await until(lambda: len(rig.old.got) == 1, "old has it")
        await rig.old.stop()
        await client.ping()
        assert rig.rig.story("m1")[0] in {"P", "PH"}, "the ledger knows of it before the client is told"
        await client.send(text(2))
        await until(lambda: rig.rig.fake.holds_event("m2") and rig.rig.story("m2")[0] == "h", "it waits behind it")
        await until(lambda: rig.rig.story("m1")[0] == "PH", "long enough")
        assert rig.counted("websocket_replies_missed") >= 1
        assert held(rig) == 0


async def test_a_backend_that_talks_and_does_not_reply_is_cut_and_the_ledger_tries() -> None:
    async with sessions(route(), dials=OFF, backend_settings={"response_timeout": "300ms"}) as rig:
        client = await rig.opened(new=False)
        await client.send(text(1))
        await until(lambda: rig.old.got == [text(1)], "old has it")
        over = asyncio.Event()

        async def talk() -> None:
            while not over.is_set():
                for connection in tuple(rig.old.connections):
                    await connection.send('{"type": "event"}')
                await asyncio.sleep(0.1)

        talking = asyncio.ensure_future(talk())
        await until(lambda: rig.rig.story("m1")[0] == "H", "handed, and not kept for the next connection")
        over.set()
        with contextlib.suppress(ConnectionResetError):  # it may be cut while it talks
            await talking
        assert rig.old.got == [text(1)]


async def test_a_client_that_leaves_takes_no_message_along(paired: Opens) -> None:
    async with paired(route(), dials=OFF) as rig:
        client = await rig.opened(new=False)
        await client.send(text(1))
        await until(lambda: len(rig.old.got) == 1, "old has it")
        client.abort()
        await until(lambda: rig.rig.story("m1") == ("H", "-"), "handed")
        assert rig.rig.plane.budget.held <= 16 * 1024


# the ledger's own sessions


REPLYING = WebSocket.model_validate({"receipt": "reply", "reply": {"message_id": "/id", "reply_id": "/to"} | {
    "success": {"pointer": "/ok", "equals": "true"}
}})  # fmt: skip


@pytest.mark.parametrize("library", [WebsocketsBackend, AiohttpBackend])
@pytest.mark.parametrize(("ok", "kind"), [(True, DELIVERED), (False, REFUSED)])
async def test_a_courier_waits_for_the_reply(library: type[WsBackend], ok: bool, kind: int) -> None:
    async with couriers(library, settings=REPLYING) as rig:
        answering(rig.backend, ok=ok)
        first, second = event(1), event(2)
        first.body, second.body = text(1).encode(), text(2).encode()
        assert await rig.deliver(first, second) == [Outcome(kind, 0), Outcome(kind, 0)]
        assert rig.backend.got == [text(1), text(2)]


async def test_a_courier_whose_backend_does_not_reply_tries_again() -> None:
    async with couriers(WebsocketsBackend, settings=REPLYING, response_timeout="200ms") as rig:
        one = event(1)
        one.body = text(1).encode()
        [outcome] = await rig.deliver(one)
        assert outcome == Outcome(RETRY, 0, "no receipt within 0.2 s", is_own=True)
