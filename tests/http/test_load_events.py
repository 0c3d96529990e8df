"""Events that a load test has marked: recorded as all others, and left out of what is judged where the route says so.

That is the route's figures, and the breakers of its backends.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest

from proxy.core.event import NEW, OLD
from proxy.http.balanced import BalancedUpstream
from proxy.http.route import AUTHORITY, COPY, EventRoute
from proxy.worker.stats import worker_stats
from tests.http.backend import always, reply
from tests.http.rig import LIVE, PATH, Rig, event_bytes, key_for, make_route, running

pytestmark = pytest.mark.asyncio
MARK = b"X-Crossfade-Load: test\r\n"
BREAKER: Final = {"breaker": {"failures": 2, "reset": "10s"}}
ONE: Final[dict[str, Any]] = {}
NAMED: Final = {"url": "http://localhost:{port}"}
"""Its endpoints are chosen among, be there one or two: the name may have an address of each family."""


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


# the breaker


async def fail(rig: Rig, event_id: str, *, is_marked: bool, status: int = 503) -> None:
    """An event that new does not take."""
    assert (await rig.ask(event(event_id, NEW, is_marked=is_marked))).status == status


@pytest.mark.parametrize("backend", [ONE, NAMED], ids=["an address", "a name"])
@pytest.mark.parametrize("policy", ["count", "leave-out"])
async def test_failures_of_marked_events_open_no_breaker(policy: str, backend: dict[str, Any]) -> None:
    route = make_route(load_events=policy, on_authority_down="fail")
    async with running(route, dials=LIVE, backend=BREAKER | backend) as rig:
        rig.new.behave = always(reply(503))
        breaker = rig.upstreams["new"].breaker
        for number in range(5):
            await fail(rig, f"m{number}", is_marked=True)
        assert (breaker.opened, breaker.row == 0) == ((1, False) if policy == "count" else (0, True))
        if policy == "leave-out":
            await fail(rig, "a", is_marked=False)
            assert breaker.is_closed, "one failure in a row"
            await fail(rig, "b", is_marked=False)
            assert breaker.opened == 1


@pytest.mark.parametrize("backend", [ONE, NAMED], ids=["an address", "a name"])
async def test_marked_events_that_cannot_be_sent_open_no_breaker(backend: dict[str, Any]) -> None:
    route = make_route(load_events="leave-out", on_authority_down="fail")
    async with running(route, dials=LIVE, backend=BREAKER | backend, down=["new"]) as rig:
        upstream = rig.upstreams["new"]
        for number in range(5):
            await fail(rig, f"m{number}", is_marked=True, status=502)
        assert (upstream.breaker.opened, upstream.breaker.row) == (0, 0)
        if isinstance(upstream, BalancedUpstream):
            assert {(each.state, each.trouble) for each in upstream.endpoints(asyncio.get_running_loop().time())} == {
                ("out", "")
            }, "it is chosen only when there is no other"
        await fail(rig, "a", is_marked=False, status=502)
        await rig.ask(event("b", NEW, is_marked=False))
        assert upstream.breaker.opened == 1


async def test_copies_and_silence_of_marked_events_open_no_breaker() -> None:
    settings = BREAKER | {"response_timeout": "50ms"}
    async with running(make_route(load_events="leave-out"), dials=LIVE, backend=settings) as rig:
        rig.new.behave = lambda seen, connection: None
        for number in range(3):
            assert (await rig.ask(event(f"m{number}", OLD, is_marked=True))).status == 200
        await rig.settled()
        assert [rig.story(f"m{number}")[1] for number in range(3)] == ["PH"] * 3
        assert (rig.upstreams["new"].breaker.opened, rig.upstreams["new"].breaker.row) == (0, 0)


async def test_marked_bodies_that_are_passed_on_open_no_breaker() -> None:
    route = make_route(load_events="leave-out", stream=True, key="header:X-Key")
    async with running(route, dials=LIVE, backend=BREAKER, limits={"max_event_size": "100B"}) as rig:
        rig.new.behave = rig.old.behave = always(reply(503))
        head = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nX-Key: {key_for(NEW)}\r\n%sContent-Length: 200\r\n\r\n"
        for _ in range(5):
            assert (await rig.ask((head % MARK.decode()).encode() + b"b" * 200)).status == 503
        breaker = rig.upstreams["new"].breaker
        assert (breaker.opened, breaker.row) == (0, 0)
        for _ in range(2):
            assert (await rig.ask((head % "").encode() + b"b" * 200)).status == 503
        assert breaker.opened == 1
        assert rig.plane.counters["streamed"] == 7


@pytest.mark.parametrize("backend", [ONE, NAMED], ids=["an address", "a name"])
async def test_successes_of_marked_events_keep_no_breaker_closed(backend: dict[str, Any]) -> None:
    route = make_route(load_events="leave-out", on_authority_down="fail")
    settings = {"breaker": {"failures": 4, "reset": "10s"}} | backend
    async with running(route, dials=LIVE, backend=settings) as rig:
        for number in range(4):
            rig.new.behave = always(reply(503))
            await fail(rig, f"e{number}", is_marked=False)
            rig.new.behave = always(reply(200))
            if number < 3:
                assert (await rig.ask(event(f"m{number}", NEW, is_marked=True))).status == 200
        assert not rig.upstreams["new"].breaker.is_closed


@pytest.mark.parametrize("backend", [ONE, NAMED], ids=["an address", "a name"])
async def test_an_open_breaker_holds_for_marked_events_which_are_no_trial(backend: dict[str, Any]) -> None:
    """Nobody would hear how such a trial ended, and the next one could be one again."""
    route = make_route(load_events="leave-out", on_authority_down="fail")
    settings = {"breaker": {"failures": 2, "reset": "50ms"}} | backend
    async with running(route, dials=LIVE, backend=settings) as rig:
        rig.new.behave = always(reply(503))
        for number in range(2):
            await fail(rig, f"e{number}", is_marked=False)
        breaker = rig.upstreams["new"].breaker
        rig.new.behave = always(reply(200))
        await asyncio.sleep(0.06)
        for number in range(3):
            await fail(rig, f"m{number}", is_marked=True)
        assert sorted(rig.new.ids()) == ["e0", "e1"]
        assert not breaker.is_closed
        assert (await rig.ask(event("live", NEW, is_marked=False))).status == 200
        assert breaker.is_closed
        assert (await rig.ask(event("m", NEW, is_marked=True))).status == 200
