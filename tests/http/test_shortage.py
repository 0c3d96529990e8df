"""Without descriptors no connection to a backend can be opened: what is open is used, else 503, and nobody is blamed.

And a backend whose line is full: 503 before anything is sent or recorded, where the client would only hear of that.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.harness.descriptors import no_descriptors
from tests.http.backend import BackendConnection, always, reply
from tests.http.rig import COMPLETE, DUAL, OFF, SPLIT, event_bytes, key_for, make_route, running
from tests.http.wire import until

pytestmark = pytest.mark.asyncio

NAMED = {"url": "http://localhost:{port}", "connections": 4}
LITERAL = {"connections": 4}


@pytest.mark.parametrize("backend", [LITERAL, NAMED], ids=["an address", "a name"])
async def test_without_any_connection_events_are_refused_and_nobody_is_blamed(backend: dict[str, Any]) -> None:
    breaker = {"breaker": {"failures": 1, "reset": "10s"}}
    async with running(dials=DUAL, backend=backend | breaker) as rig:
        wire = await rig.wire()
        if backend is NAMED:
            await until(lambda: all(upstream.endpoints(0.0) for upstream in rig.upstreams.values()), "looked up")
        with no_descriptors():
            for _ in range(3):
                answer = await wire.ask(event_bytes("a", key="k"))
                assert (answer.status, answer.headers["retry-after"]) == (503, "1")
                assert answer.detail == "this instance has no descriptors left"
            passed = await wire.ask(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n", "GET")
            assert (passed.status, passed.headers["retry-after"]) == (503, "1")
        assert all(upstream.breaker.is_closed for upstream in rig.upstreams.values())
        assert all(state.state == "up" for each in rig.upstreams.values() for state in each.endpoints(1e9))
        assert rig.plane.counters["refused_descriptors"] == 3
        assert rig.plane.routes[0].figures[0][0].classes == [0] * 6
        await until(lambda: not any(each._short_until for each in rig.upstreams.values()), "it may connect again")
        assert (await wire.ask(event_bytes("b", key="k"))).status == 200
        await rig.settled()
        assert rig.story("b") == ("D", "D")
        rig.fake.numbers.pop("a")  # refused three times under one id: each is a receipt of its own
        rig.check_ends()


@pytest.mark.parametrize("backend", [LITERAL, NAMED], ids=["an address", "a name"])
async def test_what_is_open_is_shared_by_all(backend: dict[str, Any]) -> None:
    async with running(dials=OFF, backend=backend) as rig:
        wires = [await rig.wire() for _ in range(6)]
        assert (await wires[0].ask(event_bytes("first", key="k"))).status == 200
        held: list[BackendConnection] = []
        rig.old.behave = lambda seen, connection: held.append(connection)
        with no_descriptors():
            asked = [asyncio.create_task(wire.ask(event_bytes(f"e{n}", key="k"))) for n, wire in enumerate(wires)]
            await until(lambda: held and rig.upstreams["old"].outstanding == 6, "all are here")
            rig.old.behave = always(reply(200))
            held[0].write(reply(200))
            assert [(await each).status for each in asked] == [200] * 6
        assert rig.old.open == 1
        assert 1 <= rig.upstreams["old"].shortages <= 4


async def test_copies_go_to_the_ledger() -> None:
    async with running(dials=OFF) as rig:
        wire = await rig.wire()
        assert (await wire.ask(event_bytes("before", key="k"))).status == 200
        rig.turn(DUAL)
        with no_descriptors():
            assert (await wire.ask(event_bytes("a", key="k"))).status == 200
            await rig.settled()
        assert rig.story("a") == ("D", "H")
        assert rig.upstreams["new"].breaker.is_closed


@pytest.mark.parametrize("policy", ["failover", "accept"])
async def test_the_other_side_does_not_answer_for_it(policy: str) -> None:
    async with running(make_route(on_authority_down=policy), dials=OFF) as rig:
        wire = await rig.wire()
        assert (await wire.ask(event_bytes("before", key="k"))).status == 200
        rig.turn(SPLIT)
        with no_descriptors():
            answer = await wire.ask(event_bytes("a", key=key_for(1, SPLIT)))
            await rig.settled()
        assert answer.status == (503 if policy == "failover" else 202)
        assert rig.old.ids() == ["before"]
        assert rig.story("a") == (("-", "X") if policy == "failover" else ("-", "H"))


@pytest.mark.parametrize("named", [False, True], ids=["an address", "a name"])
@pytest.mark.parametrize("policy", [{"on_authority_down": "fail"}, {"ack": "both"}], ids=["fail", "both"])
async def test_a_full_line_refuses_before_dispatch(policy: dict[str, str], named: bool) -> None:
    backend = {"connections": 1, "pending": 2} | ({"url": "http://localhost:{port}"} if named else {})
    async with running(make_route(**policy), dials=DUAL, backend={"old": backend}) as rig:
        held: list[BackendConnection] = []
        rig.old.behave = lambda seen, connection: held.append(connection)
        wires = [await rig.wire() for _ in range(5)]
        asked = []
        for n, wire in enumerate(wires[:3]):
            asked.append(asyncio.create_task(wire.ask(event_bytes(f"e{n}", key="k"))))
            await until(lambda: rig.upstreams["old"].outstanding == len(asked), "in line")
        for wire in wires[3:]:
            answer = await wire.ask(event_bytes("refused", key="k"))
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert answer.detail == "too many events wait for this backend"
        await until(lambda: len(rig.new.seen) == 3, "copies")
        assert "refused" not in rig.fake.events
        assert rig.plane.counters["refused_pending"] == 2
        rig.old.behave = always(reply(200))
        await until(lambda: held, "asked")
        held[0].write(reply(200))
        assert [(await each).status for each in asked] == [200] * 3
        assert (await wires[4].ask(event_bytes("later", key="k"))).status == 200
        await rig.settled()
        # The three of three clients were open at once, each on a connection of its own: none comes first by right.
        assert sorted(rig.new.ids()[:3]) == ["e0", "e1", "e2"]
        assert rig.new.ids()[3:] == ["later"]


async def test_without_a_line_a_busy_backend_refuses_and_a_free_one_serves() -> None:
    async with running(
        make_route(on_authority_down="fail"), dials=COMPLETE, backend={"new": {"connections": 1, "pending": 0}}
    ) as rig:
        held: list[BackendConnection] = []
        rig.new.behave = lambda seen, connection: held.append(connection)
        first, second = await rig.wire(), await rig.wire()
        first.send(event_bytes("a", key="k"))
        await until(lambda: held, "asked")
        for _ in range(3):
            assert (await second.ask(event_bytes("b", key="k"))).status == 503
        rig.new.behave = always(reply(200))
        held[0].write(reply(200))
        assert (await first.answer()).status == 200
        assert (await second.ask(event_bytes("c", key="k"))).status == 200
        assert rig.new.ids() == ["a", "c"]
