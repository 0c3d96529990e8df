"""Events that a load test has marked: recorded as all others, and left out of the figures where the route says so."""

from __future__ import annotations

import pytest

from proxy.core.event import NEW, OLD
from proxy.http.route import AUTHORITY, COPY, EventRoute
from proxy.worker.stats import worker_stats
from tests.http.backend import always, reply
from tests.http.rig import LIVE, PATH, Rig, event_bytes, key_for, make_route, running

pytestmark = pytest.mark.asyncio
MARK = b"X-Crossfade-Load: test\r\n"


def event(event_id: str, side: int, *, is_marked: bool) -> bytes:
    data = event_bytes(event_id, key=key_for(side))
    return data.replace(b"Host: a\r\n", b"Host: a\r\n" + MARK) if is_marked else data


def counted(route: EventRoute) -> list[list[int]]:
    """How many answers of each side, as authority and as copy."""
    return [[sum(route.figures[side][role].classes) for role in (AUTHORITY, COPY)] for side in (OLD, NEW)]


async def send_all(rig: Rig, *, is_marked: bool) -> None:
    """One event for each authority on one connection: the second head is made from the first one's."""
    wire = await rig.wire()
    for side, event_id in ((OLD, f"o-{is_marked}"), (NEW, f"n-{is_marked}")):
        assert (await wire.ask(event(event_id, side, is_marked=is_marked))).status == 200
    await rig.settled()


@pytest.mark.parametrize("policy", ["count", "leave-out"])
async def test_marked_events_are_proxied_recorded_and_counted_as_the_route_says(policy: str) -> None:
    async with running(make_route(load_events=policy), dials=LIVE) as rig:
        await send_all(rig, is_marked=True)
        (route,) = rig.plane.routes
        is_left_out = policy == "leave-out"
        assert counted(route) == ([[0, 0], [0, 0]] if is_left_out else [[1, 1], [1, 1]])
        assert route.chosen == ([0, 0] if is_left_out else [1, 1])
        await send_all(rig, is_marked=False)
        assert counted(route) == ([[1, 1], [1, 1]] if is_left_out else [[2, 2], [2, 2]])
        stats = worker_stats(rig.plane, rig.service)
        assert stats.accepted == {"events": 4}
        assert stats.counters.get("load_events", 0) == (2 if is_left_out else 0)
        assert {rig.story(event_id) for event_id in rig.fake.events} == {("D", "D")}
        rig.check_ends()
        for backend in rig.backends:
            assert sorted(backend.ids()) == ["n-False", "n-True", "o-False", "o-True"]
            assert b"load" not in backend.received.lower()


async def test_failures_of_marked_events_are_left_out_too() -> None:
    async with running(make_route(load_events="leave-out", on_authority_down="fail"), dials=LIVE) as rig:
        rig.new.behave = always(reply(503))
        answer = await rig.ask(event("e", NEW, is_marked=True))
        await rig.settled()
        assert answer.status == 503
        assert counted(rig.plane.routes[0]) == [[0, 0], [0, 0]]


async def test_the_copies_of_marked_events_are_watched() -> None:
    """They are parked after `copy_wait` as all others."""
    route = make_route(load_events="leave-out")
    async with running(route, dials=LIVE, backend={"response_timeout": "300ms"}) as rig:
        rig.new.behave = lambda seen, connection: None
        answer = await rig.ask(event("e", OLD, is_marked=True))
        assert answer.status == 200
        await rig.settled()
        assert rig.story("e") == ("D", "PH")


async def test_the_mark_reaches_no_backend_by_the_default_route() -> None:
    async with running(dials=LIVE) as rig:
        data = event("e", OLD, is_marked=True).replace(PATH.encode(), b"/elsewhere", 1)
        assert (await rig.ask(data)).status == 200
        assert b"load" not in rig.other.received.lower()
