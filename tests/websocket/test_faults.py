"""A drill of a route with sessions: copies are the ledger's at once, and both connections stay."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from config.model import Backend
from proxy.core.drill import DEAD, ERRORS, Fault
from proxy.core.event import NEW, OLD
from proxy.http.faults import CopyFault
from proxy.http.route import COPY
from tests.http.rig import LIVE, key_for
from tests.http.wire import until
from tests.websocket.rig import Opens, text

pytestmark = pytest.mark.asyncio


def fault(kind: str) -> CopyFault:
    backend = Backend.model_validate({"url": ("http://127.0.0.1:1",), "breaker": {"failures": 2, "reset": "1m"}})
    return CopyFault(Fault(kind, 60.0), "new", backend, asyncio.get_running_loop())


@pytest.mark.parametrize("kind", [DEAD, ERRORS])
async def test_copies_are_handed_and_counted_as_failures(paired: Opens, kind: str) -> None:
    async with paired() as rig:
        client = await rig.opened()
        await client.send(text(1))
        await until(lambda: rig.rig.fake.holds_event("m1") and rig.is_received("m1"), "both have it")
        route = rig.rig.plane.routes[0]
        route.fault = found = fault(kind)
        for n in (2, 3):
            await client.send(text(n))
        await until(lambda: rig.rig.fake.holds_event("m3"), "recorded")
        await until(lambda: [rig.rig.story(f"m{n}") for n in (2, 3)] == [("D", "h"), ("D", "h")], "new is owed them")
        assert route.figures[NEW][COPY].classes[0] == found.failed == 2
        assert found.breaker.state(monotonic()) == "open"
        route.fault = None
        await client.send(text(4))
        await until(lambda: rig.new.got == [text(1), text(4)], "live again, on the same connection")
        assert len(rig.new.connections) == 1


async def test_what_new_answers_itself_is_let_be(paired: Opens) -> None:
    async with paired(dials=LIVE) as rig:
        client = await rig.opened()
        rig.rig.plane.routes[0].fault = found = fault(DEAD)
        await client.send(text(1, key_for(NEW)))
        await until(lambda: rig.rig.fake.holds_event("m1") and rig.is_received("m1"), "both have it")
        assert found.failed == 0
        await client.send(text(2, key_for(OLD)))
        await until(lambda: rig.rig.fake.holds_event("m2") and rig.rig.story("m2") == ("D", "h"), "new is owed it")
