"""Traces of requests: what is forwarded, what is begun, and what is told of each event."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from config.model import Route
from proxy.core.event import NEW, OLD
from proxy.core.trace import ARRIVAL, DELIVERY, Sampler, Span
from proxy.http.head import HeadParser
from proxy.http.route import headers_wanted
from proxy.http.tracing import HEADER, MOST, Tracer
from tests.http.backend import always, reply
from tests.http.rig import DUAL, LIVE, Rig, event_bytes, key_for, make_route, running

pytestmark = pytest.mark.asyncio
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GIVEN = f"traceparent: 00-{TRACE}-{SPAN}-01\r\nTraceState: vendor=1\r\n"


@asynccontextmanager
async def traced(
    share: float = 1.0, *routes: Route, follows: bool = True, **arguments: Any
) -> AsyncIterator[tuple[Rig, Tracer]]:
    """A rig that tells traces."""
    async with running(*routes, **arguments) as rig:
        tracer = rig.plane.tracer = Tracer(Sampler(share, follows=follows))
        rig.service.parser = HeadParser(
            headers_wanted([route.settings for route in rig.plane.routes]) | {HEADER}, 100, 8192
        )
        yield rig, tracer


def request(event_id: str = "e", lines: str = "", key: str = "k") -> bytes:
    return event_bytes(event_id, key=key).replace(b"Host: a\r\n", b"Host: a\r\n" + lines.encode())


def by_kind(tracer: Tracer) -> dict[tuple[int, int], Span]:
    return {(span.kind, span.side): span for span in tracer.take()}


async def test_without_tracing_what_came_is_forwarded_as_it_came() -> None:
    async with running(dials=DUAL) as rig:
        await rig.ask(request(lines=GIVEN))
        await rig.settled()
        for backend in rig.backends:
            assert GIVEN.encode() in backend.seen[0].head
        assert GIVEN.encode() in rig.fake.events["e"].context


@pytest.mark.parametrize("lines", ["", GIVEN.replace("-01\r", "-00\r")], ids=["none", "not sampled"])
async def test_what_is_not_drawn_is_untouched(lines: str) -> None:
    async with traced(0.0) as (rig, tracer):
        await rig.ask(request(lines=lines))
        await rig.settled()
        assert [backend.seen[0].head.count(b"trace") for backend in rig.backends] == [bool(lines)] * 2
        assert lines.encode() in rig.old.seen[0].head
        assert tracer.take() == []


async def test_a_trace_that_comes_is_followed_to_both_sides() -> None:
    async with traced(0.0, dials=DUAL) as (rig, tracer):
        assert (await rig.ask(request(lines=GIVEN))).status == 200
        await rig.settled()
        spans = by_kind(tracer)
        arrival, old, new = spans[ARRIVAL, OLD], spans[DELIVERY, OLD], spans[DELIVERY, NEW]
        assert {span.trace for span in (arrival, old, new)} == {TRACE}
        assert arrival.parent == SPAN
        assert old.parent == new.parent == arrival.id
        assert (old.role, new.role) == ("authority", "copy")
        assert (old.links, new.links) == ((), ((TRACE, old.id),)), "the copy is linked with what its authority got"
        for backend, span in ((rig.old, old), (rig.new, new)):
            assert backend.seen[0].header("traceparent") == f"00-{TRACE}-{span.id}-01"
            assert backend.seen[0].header("tracestate") == "vendor=1"
        assert f"traceparent: 00-{TRACE}-{arrival.id}-01\r\n".encode() in rig.fake.events["e"].context
        assert [(span.status, span.event_id, span.epoch, span.method) for span in (arrival, old, new)] == [
            (200, "e", rig.plane.epoch, "POST")
        ] * 3
        assert arrival.start_ns <= old.start_ns <= old.end_ns <= arrival.end_ns


async def test_a_trace_begins_here_and_ids_are_never_used_twice() -> None:
    async with traced() as (rig, tracer):
        wire = await rig.wire()
        for number in range(20):
            await wire.ask(request(f"e{number}"))
        await rig.settled()
        spans = tracer.take()
        assert len(spans) == 60
        assert len({span.id for span in spans}) == 60
        arrivals = [span for span in spans if span.kind == ARRIVAL]
        assert len({span.trace for span in arrivals}) == 20
        assert {span.parent for span in arrivals} == {""}
        assert all(len(span.trace) == 32 and len(span.id) == 16 for span in spans)


@pytest.mark.parametrize(
    "lines",
    [GIVEN.replace("00-", "ff-"), GIVEN + GIVEN, f"Traceparent: nonsense\r\n{GIVEN}"],
    ids=["version", "twice", "two spellings"],
)
async def test_what_is_no_traceparent_counts_as_none_and_refuses_nobody(lines: str) -> None:
    async with traced() as (rig, tracer):
        assert (await rig.ask(request(lines=lines))).status == 200
        await rig.settled()
        arrival = by_kind(tracer)[ARRIVAL, OLD]
        assert arrival.trace != TRACE
        assert arrival.parent == ""
        head = rig.old.seen[0].head.lower()
        assert (head.count(b"traceparent:"), head.count(b"tracestate:")) == (1, 0)


async def test_who_does_not_follow_draws_by_the_id() -> None:
    low, high = "1" * 18 + "0" * 14, "1" * 18 + "f" * 14
    async with traced(0.5, follows=False) as (rig, tracer):
        for event_id, trace, flags in (("a", low, "01"), ("b", high, "00")):
            await rig.ask(request(event_id, f"traceparent: 00-{trace}-{SPAN}-{flags}\r\n"))
        await rig.settled()
        assert {(span.event_id, span.trace) for span in tracer.take()} == {("b", high)}
        seen = {each.id: each.header("traceparent") for each in rig.old.seen}
        assert seen["a"] == f"00-{low}-{SPAN}-01"
        assert seen["b"].endswith("-01")


async def test_a_backend_that_is_to_get_none_gets_none() -> None:
    async with traced(backend={"new": {"headers": {"remove": ("traceparent",)}}}) as (rig, _):
        await rig.ask(request())
        await rig.settled()
        assert rig.old.seen[0].header("traceparent")
        assert not rig.new.seen[0].header("traceparent")


async def test_a_failover_is_seen() -> None:
    async with traced(dials=LIVE) as (rig, tracer):
        rig.new.behave = always(reply(503, b"secret"))
        assert (await rig.ask(request(key=key_for(NEW)))).status == 200
        await rig.settled()
        spans = by_kind(tracer)
        assert (spans[DELIVERY, NEW].status, spans[DELIVERY, OLD].status) == (503, 200)
        arrival = spans[ARRIVAL, NEW]
        assert (arrival.status, arrival.handed) == (200, 1 << NEW), "new has it from the ledger later"
        assert "secret" not in repr(spans)


async def test_no_answer_is_told_in_our_own_words() -> None:
    async with traced(1.0, make_route(on_authority_down="fail"), dials=DUAL, down=("old",)) as (rig, tracer):
        assert (await rig.ask(request())).status == 502
        await rig.settled()
        spans = by_kind(tracer)
        assert (spans[DELIVERY, OLD].status, spans[DELIVERY, OLD].reason) == (0, "cannot connect to the backend old")
        assert spans[ARRIVAL, OLD].status == 502


async def test_what_there_is_no_room_for_is_counted() -> None:
    tracer = Tracer(Sampler(1.0, follows=True))
    span = Span("1" * 32, "2" * 16, "", ARRIVAL, 1, 2, "events", "POST", 1, "e")
    for _ in range(MOST + 3):
        tracer.tell(span)
    assert (len(tracer.take()), tracer.dropped, tracer.take()) == (MOST, 3, [])
