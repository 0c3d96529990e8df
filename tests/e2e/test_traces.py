"""Traces of real processes, at a collector: arrival, authority, copy, and what the ledger delivers later."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.harness.collector import Collector, collecting, values
from tests.harness.scene import Scene, scene

pytestmark = pytest.mark.asyncio
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PATIENCE = 20.0


async def told(collector: Collector, trace: str, names: set[str]) -> dict[str, Span]:
    """The spans of a trace by name, once all of these are here."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = {span.name: span for span in collector.spans if span.trace_id.hex() == trace}
            if names <= found.keys():
                return found
            await asyncio.sleep(0.05)


async def post(at: Scene, event_id: str, trace: str) -> None:
    url = f"http://{at.instance.address.host}:{at.instance.address.port}/api/v1/events"
    headers = {"X-Event-Id": event_id, "traceparent": f"00-{trace}-{SPAN}-01", "Authorization": "Bearer a-secret"}
    body = {"entity_id": "light.a", "password": "a-secret"}
    async with aiohttp.ClientSession() as session, session.post(url, json=body, headers=headers) as answer:
        assert answer.ok, await answer.text()


async def test_an_event_and_its_replay_are_one_trace() -> None:
    async with collecting() as collector:

        def configure(config: dict[str, Any]) -> None:
            config["tracing"] = {"url": collector.url, "sample": "0%"}

        async with scene(configure) as at:
            await post(at, "healthy", TRACE)
            names = {"POST /api/v1/events", "POST authority old", "POST copy new"}
            spans = await told(collector, TRACE, names)
            arrival = spans["POST /api/v1/events"]
            assert arrival.parent_span_id.hex() == SPAN
            assert {spans[name].parent_span_id for name in names} == {arrival.parent_span_id, arrival.span_id}
            assert [link.span_id for link in spans["POST copy new"].links] == [spans["POST authority old"].span_id]
            other = TRACE.replace("4", "5")
            await at.new.kill()
            await post(at, "owed", other)
            await at.new.restart()
            await at.settled()
            spans = await told(collector, other, {"POST /api/v1/events", "POST replay new"})
            arrival, replay = spans["POST /api/v1/events"], spans["POST replay new"]
            assert values(arrival.attributes)["crossfade.handed"] == ["new"]
            assert [link.span_id for link in replay.links] == [arrival.span_id]
            assert values(replay.attributes)["crossfade.role"] == "replay"
            assert values(replay.attributes)["crossfade.event.id"] == "owed"
        assert not any(b"a-secret" in body for body in collector.bodies)
