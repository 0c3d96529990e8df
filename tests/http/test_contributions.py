"""What a worker tells of its connections: how much of each is heard, and what is still without an answer."""

from __future__ import annotations

import pytest

from proxy.core.contribution import SAVED
from proxy.core.event import NEW, OLD
from proxy.worker.stats import worker_stats
from tests.http.backend import always, reply
from tests.http.rig import LIVE, PATH, Rig, event_bytes, key_for, make_route, running
from tests.http.test_load_events import event
from tests.http.wire import Wire, until

pytestmark = pytest.mark.asyncio
HEARD = int(SAVED)


async def send(wire: Wire, side: int, count: int, name: str = "e") -> None:
    """So many events on a connection, one after the other."""
    for number in range(count):
        await wire.ask(event_bytes(f"{name}{number}", key=key_for(side)))


def left_out(rig: Rig) -> tuple[tuple[int, int], tuple[int, int]]:
    return worker_stats(rig.plane, rig.service).left_out["events"]


async def test_of_a_burst_on_one_connection_a_bounded_part_counts() -> None:
    """Failures and successes alike, and of each side by itself."""
    async with running(make_route(on_authority_down="fail"), dials=LIVE) as rig:
        rig.new.behave = always(reply(503))
        wire = await rig.wire()
        await send(wire, NEW, 40)
        await rig.settled()
        assert left_out(rig) == ((40 - HEARD, 0), (40 - HEARD, 40 - HEARD)), "old got the copies"
        await send(await rig.wire(), NEW, HEARD, "o")
        await rig.settled()
        assert left_out(rig) == ((40 - HEARD, 0), (40 - HEARD, 40 - HEARD)), "another one is heard all the same"


async def test_as_many_on_many_connections_all_count() -> None:
    async with running(make_route(on_authority_down="fail"), dials=LIVE) as rig:
        rig.new.behave = always(reply(503))
        for number in range(8):
            await send(await rig.wire(), NEW, HEARD, f"c{number}-")
        await rig.settled()
        assert left_out(rig) == ((0, 0), (0, 0))
        assert sum(rig.plane.routes[0].figures[NEW][0].classes) == 8 * HEARD


async def test_what_has_no_answer_and_what_a_client_did_not_wait_for_is_the_connections_too() -> None:
    async with running(make_route(on_authority_down="fail"), dials=LIVE, backend={"response_timeout": "100ms"}) as rig:
        rig.new.behave = lambda seen, connection: None
        wire = await rig.wire()
        await send(wire, NEW, HEARD + 2)
        wire.send(event_bytes("last", key=key_for(NEW)))
        await until(lambda: rig.plane.routes[0].outstanding[NEW] == 1, "it was sent")
        wire.close()
        await rig.settled()
        assert rig.plane.routes[0].figures[NEW][0].classes[0] == HEARD + 3
        assert left_out(rig)[NEW] == (3, 3)


async def test_marked_events_that_are_left_out_contribute_nothing() -> None:
    async with running(make_route(load_events="leave-out", on_authority_down="fail"), dials=LIVE) as rig:
        rig.new.behave = always(reply(503))
        wire = await rig.wire()
        for number in range(40):
            await wire.ask(event(f"m{number}", NEW, is_marked=True))
        await send(wire, NEW, HEARD)
        await rig.settled()
        assert left_out(rig) == ((0, 0), (0, 0)), "nor do they take the room of others"


async def test_bodies_that_are_passed_on_contribute() -> None:
    route = make_route(stream=True, key="header:X-Key")
    async with running(route, dials=LIVE, limits={"max_event_size": "16B"}) as rig:
        rig.new.behave = always(reply(503))
        head = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nX-Key: {key_for(NEW)}\r\nContent-Length: 20\r\n\r\n"
        wire = await rig.wire()
        for _ in range(20):
            assert (await wire.ask(head.encode() + b"x" * 20)).status == 503
        await rig.settled()
        assert left_out(rig) == ((0, 0), (20 - HEARD, 20 - HEARD))


async def test_what_has_no_answer_yet_is_told_by_side() -> None:
    async with running(dials=LIVE) as rig:
        rig.new.behave = lambda seen, connection: None
        wires = [await rig.wire() for _ in range(3)]
        for number, wire in enumerate(wires):
            wire.send(event_bytes(f"e{number}", key=key_for(OLD)))
        outstanding = rig.plane.routes[0].outstanding
        await until(lambda: outstanding == [0, 3] and len(rig.new.ids()) == 3, "old has answered, new has not")
        assert worker_stats(rig.plane, rig.service).outstanding == {"events": (0, 3)}
        rig.upstreams["new"].check_times(1e12)  # the time to answer is over
        await until(lambda: outstanding == [0, 0], "they count as failed")
