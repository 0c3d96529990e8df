"""The rest of an event's way: open breakers, full lines, clients that leave, long answers, keys and ids."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from proxy.core.event import NEW
from proxy.core.routing import Dials
from tests.http.acts import Gate, ask, never
from tests.http.backend import BackendConnection, Seen, always, reply
from tests.http.rig import LIVE, OFF, event_bytes, key_for, make_route, running
from tests.http.wire import until

LATCHED = Dials(0.0, "durable", latched=True)


# breakers and pools


BREAKER = {"failures": 1, "reset": "10ms"}


@pytest.mark.asyncio
@pytest.mark.parametrize("order", ["parallel", "sequential"])
async def test_a_copys_open_breaker_closes_again_by_a_trial(order: str) -> None:
    async with running(make_route(copy_order=order), backend={"new": {"breaker": BREAKER}}) as rig:
        rig.new.behave = always(reply(500))
        assert (await rig.ask(event_bytes("bad", key="k"))).status == 200
        rig.new.behave = always(reply(200))
        deadline = monotonic() + 10
        while not rig.upstreams["new"].breaker.is_closed:
            assert monotonic() < deadline, "no trial was ever sent"
            assert (await rig.ask(event_bytes(key="k"))).status == 200
            await rig.settled()
        rig.check_ends()


@pytest.mark.asyncio
async def test_an_authority_with_an_open_breaker_is_failed_over_without_a_byte() -> None:
    settings = {"new": {"breaker": {"failures": 1, "reset": "60s"}}}
    async with running(dials=LIVE, backend=settings) as rig:
        key = key_for(NEW)
        rig.new.behave = always(reply(500))
        assert (await rig.ask(event_bytes("e", key=key))).status == 200
        assert (await rig.ask(event_bytes("f", key=key))).status == 200
        await rig.settled()
        assert rig.new.ids() == ["e"]
        assert rig.story("f") == ("AD", "H")
        assert rig.plane.counters["failovers"] == 2


@pytest.mark.asyncio
async def test_a_latched_route_never_fails_over_to_new() -> None:
    async with running(dials=LATCHED, down=("old",)) as rig:
        assert (await rig.ask(event_bytes("e", key="k"))).status == 202
        await rig.settled()
        assert rig.story("e") == ("H", "D")


@pytest.mark.asyncio
async def test_a_stalled_copy_goes_to_the_ledger_once_its_line_is_long() -> None:
    async with running(backend={"new": {"connections": 2, "response_timeout": "60s"}}) as rig:
        rig.new.behave = never
        asked = [await rig.ask(event_bytes(f"e{i}", key=f"k{i}")) for i in range(8)]
        assert {answer.status for answer in asked} == {200}
        await until(lambda: rig.ledger.is_flushed, "recorded")
        stories = [rig.story(f"e{i}")[1] for i in range(8)]
        assert stories == ["P"] * 4 + ["h"] * 4
        rig.upstreams["new"].close()
        await until(lambda: rig.plane.is_idle, "closed")
        await rig.settled()
        rig.check_ends()


@pytest.mark.asyncio
async def test_a_full_line_is_a_failed_authority() -> None:
    settings = {"old": {"connections": 1, "pending": 1, "response_timeout": "60s"}}
    async with running(make_route(on_authority_down="fail"), dials=OFF, backend=settings) as rig:
        gate = Gate(reply(200))
        rig.old.behave = gate
        first = ask(rig, "e1")
        await until(lambda: rig.old.seen, "sent")
        second = ask(rig, "e2")
        await until(lambda: not rig.upstreams["old"].is_idle and rig.upstreams["old"]._waiting, "waits")
        answer = await rig.ask(event_bytes("e3", key="k"))
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        gate.open()
        assert (await first).status == 200
        await until(lambda: len(rig.old.seen) == 2, "sent")
        gate.open()
        assert (await second).status == 200
        await rig.settled()
        assert "e3" not in rig.fake.events  # nothing is recorded of what was not taken


# clients that leave


@pytest.mark.asyncio
@pytest.mark.parametrize("word", ["parallel", "sequential"])
async def test_an_event_goes_on_when_its_client_leaves(word: str) -> None:
    async with running(make_route(copy_order=word)) as rig:
        gate = Gate(reply(200))
        rig.old.behave = gate
        wire = await rig.wire()
        wire.send(event_bytes("e", key="k"))
        await until(lambda: rig.old.seen, "sent")
        wire.reset()
        await until(lambda: not rig.service.clients, "gone")
        gate.open()
        await until(lambda: rig.new.seen, "the copy too")
        await rig.settled()
        assert rig.story("e") == ("D", "D")
        assert rig.plane.routes[0].accepted == 1


@pytest.mark.asyncio
async def test_reports_reach_the_ledger_though_nobody_is_there_to_be_answered() -> None:
    async with running(dials=OFF) as rig:
        gate = Gate(reply(400))
        rig.old.behave = gate
        wire = await rig.wire()
        wire.send(event_bytes("e", key="k"))
        await until(lambda: rig.old.seen, "sent")
        wire.reset()
        await until(lambda: not rig.service.clients, "gone")
        gate.open()
        await until(lambda: rig.story("e") == ("R", "-"), "reported")


# long answers


LONG = b"x" * 300_000
HEAD = b"HTTP/1.1 %d Said\r\nContent-Length: 300000\r\n\r\n"


def long_reply(status: int, seen: Seen, connection: BackendConnection) -> None:
    """A head, and its long body a moment later."""
    connection.write(HEAD % status)
    asyncio.get_running_loop().call_later(0.002, connection.write, LONG)


@pytest.mark.asyncio
async def test_a_failed_authoritys_long_answer_holds_nothing_up() -> None:
    async with running(dials=LIVE) as rig:
        rig.new.behave = lambda seen, connection: long_reply(500, seen, connection)
        answer = await rig.ask(event_bytes("e", key=key_for(NEW)))
        assert (answer.status, answer.body) == (200, b"ok")
        await rig.settled()
        assert rig.story("e") in (("AD", "H"), ("DA", "H"))
        assert rig.upstreams["new"].open == 1, "it was read to its end and is used again"


@pytest.mark.asyncio
async def test_an_authoritys_long_answer_is_kept_until_the_copy_is_safe_and_then_passed_on() -> None:
    async with running(make_route(copy_wait="60s")) as rig:
        gate = Gate(reply(200))
        rig.new.behave = gate
        rig.old.behave = lambda seen, connection: long_reply(200, seen, connection)
        asked = ask(rig, "e")
        await until(lambda: rig.new.seen and rig.old.seen, "sent")
        await asyncio.wait({asked}, timeout=0.02)
        assert not asked.done()
        gate.open()
        answer = await asked
        assert (answer.status, answer.body) == (200, LONG)
        await rig.settled()


@pytest.mark.asyncio
async def test_ack_both_drops_the_authoritys_long_answer_when_the_copy_is_refused() -> None:
    async with running(make_route(ack="both")) as rig:
        gate = Gate(reply(409, b"no"))
        rig.new.behave = gate
        rig.old.behave = lambda seen, connection: long_reply(200, seen, connection)
        asked = ask(rig, "e")
        await until(lambda: rig.new.seen and rig.old.seen, "sent")
        await asyncio.wait({asked}, timeout=0.02)
        gate.open()
        answer = await asked
        assert (answer.status, answer.body) == (409, b"no")
        await rig.settled()
        assert rig.upstreams["old"].open == 1, "it was read to its end and is used again"


@pytest.mark.asyncio
@pytest.mark.parametrize(("status", "told"), [(200, 202), (409, 409), (499, 202)])
async def test_a_copys_answer_that_is_too_long_to_keep_still_tells_what_became_of_the_event(
    status: int, told: int
) -> None:
    async with running(dials=LIVE) as rig:
        gate = Gate(reply(500))
        rig.new.behave = gate
        rig.old.behave = lambda seen, connection: long_reply(status, seen, connection)
        asked = ask(rig, "e", key_for(NEW))
        await until(lambda: rig.new.seen and rig.old.seen, "sent")
        await until(lambda: rig.upstreams["old"].is_idle, "the copy's answer is over")
        gate.open()
        assert (await asked).status == told
        await rig.settled()
        rig.check_ends()


# keys and ids


@pytest.mark.asyncio
@pytest.mark.parametrize(("missing", "status"), [("event-id", 200), ("old", 200), ("reject", 400)])
@pytest.mark.parametrize("body", [b"", b"no JSON", b"{}", b'{"key":null}', b'{"key":' + b"[" * 5000, b'{"key":""}'])
async def test_an_event_without_a_key(missing: str, status: int, body: bytes) -> None:
    async with running(make_route(key_missing=missing), dials=Dials(100.0, "durable")) as rig:
        head = b"POST /events HTTP/1.1\r\nHost: a\r\nX-Event-Id: e\r\nContent-Length: %d\r\n\r\n" % len(body)
        assert (await rig.ask(head + body)).status == status
        await rig.settled()
        assert rig.plane.counters["key_missing"] == 1
        if missing == "reject":
            assert not rig.fake.events
        elif missing == "old":
            assert rig.story("e") == ("D", "-")
        else:
            assert rig.fake.events["e"].key == "e"
            assert rig.story("e") == ("D", "D")


@pytest.mark.asyncio
@pytest.mark.parametrize(("length", "status"), [(511, 200), (512, 200), (513, 400)])
async def test_a_key_has_a_bounded_length(length: int, status: int) -> None:
    async with running() as rig:
        assert (await rig.ask(event_bytes("e", key="k" * length))).status == status


@pytest.mark.asyncio
async def test_ids_are_generated_in_the_order_of_time() -> None:
    async with running() as rig:
        wire = await rig.wire()
        for _ in range(5):
            assert (await wire.ask(event_bytes(key="k"))).status == 200
        await rig.settled()
        ids = [event.id for event in sorted(rig.fake.events.values(), key=lambda event: event.n)]
        assert ids == sorted(ids)
        assert all(not event.client_id and len(event.id) == 28 for event in rig.fake.events.values())


@pytest.mark.asyncio
async def test_a_receipt_has_what_the_route_reads() -> None:
    route = make_route(event_time="json:/at", identities=("json:/key", "header:X-Tenant", "json:/none"))
    async with running(route) as rig:
        data = event_bytes("e", key="k", at="2026-01-01T00:00:00Z").replace(b"Host: a", b"Host: a\r\nX-Tenant: t")
        assert (await rig.ask(data)).status == 200
        await rig.settled()
        event = rig.fake.events["e"]
        assert (event.route, event.key, event.client_id, event.transport) == ("events", "k", True, "http")
        assert (event.event_time, event.identities) == ("2026-01-01T00:00:00Z", ("k", "t", ""))
        assert event.context.startswith(b"POST /events HTTP/1.1\r\nHost: a\r\n")
        assert b"X-Event-Id" not in event.context
        assert b"Content-Length" not in event.context
