"""Traces on their way to a collector: what they say there, and that nobody waits for one that does not take them."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from proxy.control import span_export
from proxy.control.link import Spans
from proxy.control.span_export import BATCH, MOST_WAITING, SpanExport, encoder_of
from proxy.core.errors import RefuseToStart
from proxy.core.event import NEW, OLD
from proxy.core.trace import ARRIVAL, DELIVERY, MESSAGE, REPLAY, SESSION, Span
from tests.control.conftest import MakePlane
from tests.control.helpers import eventually, make_settings
from tests.harness.collector import Collector, collecting, values

pytestmark = pytest.mark.asyncio
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def span(kind: int = ARRIVAL, number: int = 1, **changes: Any) -> Span:
    given: dict[str, Any] = {
        "trace": TRACE, "id": f"{number:016x}", "parent": "", "kind": kind, "start_ns": 10**18, "end_ns": 10**18 + 5000,
        "route": "events", "method": "POST", "epoch": 7, "event_id": "e", "side": OLD, "status": 200,
    }  # fmt: skip
    return Span(**(given | changes))


class Scene:
    """An export to a collector of its own."""

    def __init__(self, collector: Collector, tmp_path: Path, **tracing: Any) -> None:
        url = f"{collector.url}"
        backends = {"old": {"url": "http://10.0.0.1:9001"}, "new": {"url": ["http://10.0.0.2:1", "http://10.0.0.2:2"]}}
        settings = make_settings(tmp_path, backends=backends, tracing={"url": url} | tracing)
        assert settings.tracing is not None
        self.collector = collector
        self.counts: Counter[str] = Counter()
        self.export = SpanExport(settings.tracing, encoder_of(settings, "edge-1", "1.2"), self.counts)


@pytest_asyncio.fixture
async def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    monkeypatch.setattr(span_export, "EVERY", 0.02)
    monkeypatch.setattr(span_export, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(span_export, "FLUSH", 60.0)
    async with collecting() as collector:
        made = Scene(collector, tmp_path, authorization="Bearer a-secret", headers={"X-Tenant": "7"})
        _ = made.export.start()
        yield made
        await made.export.close()


async def test_what_is_said_of_each_kind(scene: Scene) -> None:
    other = "f" * 16
    scene.export.take(
        [
            span(handed=1 << NEW, parent=other),
            span(DELIVERY, 2, parent=f"{1:016x}", role="authority", attempt=1),
            span(
                DELIVERY, 3, side=NEW, role="copy", attempt=1, status=0, reason="reset", links=((TRACE, f"{2:016x}"),)
            ),
            span(REPLAY, 4, side=NEW, role="replay", attempt=3, status=422),
            span(SESSION, 5, side=-1, status=101, method="GET", event_id=""),
            span(MESSAGE, 6, status=0, method=""),
        ],
        0,
    )
    await eventually(lambda: len(scene.collector.spans) == 6, "the spans")
    arrival, old, new, replay, session, message = scene.collector.spans
    assert scene.collector.resources == [
        {"service.name": "crossfade", "service.version": "1.2", "service.instance.id": "edge-1"}
    ]
    assert [each.name for each in scene.collector.spans] == [
        "POST /api/v1/events", "POST authority old", "POST copy new", "POST replay new", "GET /api/v1/events",
        "message /api/v1/events",
    ]  # fmt: skip
    kinds = ["SERVER", "CLIENT", "CLIENT", "CLIENT", "SERVER", "CONSUMER"]
    assert [each.SpanKind.Name(each.kind) for each in scene.collector.spans] == [f"SPAN_KIND_{kind}" for kind in kinds]
    assert (arrival.trace_id.hex(), arrival.parent_span_id.hex()) == (TRACE, other)
    assert (arrival.start_time_unix_nano, arrival.end_time_unix_nano) == (10**18, 10**18 + 5000)
    assert values(arrival.attributes) == {
        "crossfade.route": "events", "crossfade.epoch": 7, "http.request.method": "POST",
        "http.response.status_code": 200, "crossfade.event.id": "e", "http.route": "/api/v1/events",
        "crossfade.authority": "old", "crossfade.handed": ["new"],
    }  # fmt: skip
    assert values(old.attributes) == {
        "crossfade.route": "events", "crossfade.epoch": 7, "http.request.method": "POST",
        "http.response.status_code": 200, "crossfade.event.id": "e", "crossfade.backend": "old",
        "crossfade.side": "old", "crossfade.role": "authority", "crossfade.attempt": 1, "server.address": "10.0.0.1",
        "server.port": 9001,
    }  # fmt: skip
    assert (values(new.attributes)["error.type"], new.status.message) == ("no_answer", "reset")
    assert "server.address" not in values(new.attributes), "it has two"
    assert [link.span_id.hex() for link in new.links] == [f"{2:016x}"]
    assert values(replay.attributes)["error.type"] == "422"
    failed = [each.status.code == each.status.STATUS_CODE_ERROR for each in scene.collector.spans]
    assert failed == [False, False, True, True, False, False]
    assert session.parent_span_id == message.parent_span_id == b""
    (request,) = scene.collector.requests
    assert request.headers["Authorization"] == "Bearer a-secret"
    assert (request.headers["X-Tenant"], request.headers["Content-Encoding"]) == ("7", "gzip")
    assert scene.counts == {"spans:exported": 6}


@pytest.mark.parametrize("status", [429, 503])
async def test_it_is_tried_again(scene: Scene, status: int) -> None:
    scene.collector.statuses = [status, status]
    scene.export.take([span()], 0)
    await eventually(lambda: scene.collector.spans, "the span")
    assert len(scene.collector.requests) == 3
    assert len(set(scene.collector.bodies)) == 1
    await eventually(lambda: scene.counts == {"spans:exported": 1}, "the count")


async def test_the_collector_says_when_to_come_again(scene: Scene) -> None:
    """As the protocol has it; `FIRST_WAIT` of these tests is a hundredth of a second."""
    scene.collector.statuses, scene.collector.asks = [503], "1"
    begun = time.monotonic()
    scene.export.take([span()], 0)
    await eventually(lambda: scene.collector.spans, "the span")
    assert time.monotonic() - begun >= 1


async def test_spans_of_a_route_that_is_gone_are_told(scene: Scene) -> None:
    """The ledger goes on delivering what it is owed; nothing else of its batch is lost for that."""
    scene.export.take(
        [span(), span(DELIVERY, 2, route="gone", side=NEW, role="copy"), span(MESSAGE, 3, route="gone")], 0
    )
    await eventually(lambda: len(scene.collector.spans) == 3, "the spans")
    delivered = scene.collector.named("POST copy")[0]
    assert delivered.name == "POST copy new"
    assert values(delivered.attributes)["crossfade.route"] == "gone"


async def test_what_is_refused_is_dropped_and_the_next_goes(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.collector.statuses = [400]
    scene.export.take([span()], 2)
    await eventually(lambda: scene.counts["spans:dropped"] == 3, "the count")
    assert scene.export.why() == "status 400"
    scene.export.take([span(number=2)], 0)
    await eventually(lambda: scene.collector.spans, "the span")
    await eventually(lambda: not scene.export.why(), "no trouble")
    assert "a-secret" not in caplog.text
    assert scene.collector.url not in caplog.text


async def test_what_a_collector_rejects_is_counted(scene: Scene) -> None:
    scene.collector.rejects = 1
    scene.export.take([span(), span(number=2)], 0)
    await eventually(lambda: scene.counts == {"spans:exported": 1, "spans:rejected": 1}, "the counts")


async def test_batches_are_bounded_and_what_is_left_goes_at_the_end(scene: Scene) -> None:
    scene.export.take([span(number=number) for number in range(1, 2 * BATCH + 4)], 0)
    await scene.export.close()
    assert len(scene.collector.spans) == 2 * BATCH + 3
    assert scene.counts["spans:exported"] + scene.counts["spans:dropped"] == 2 * BATCH + 3
    assert scene.counts["spans:dropped"] == 0


async def test_memory_is_bounded_while_nobody_takes_them(tmp_path: Path) -> None:
    async with collecting() as collector:
        scene = Scene(collector, tmp_path)
        scene.export.take([span()] * (MOST_WAITING + 5), 0)
        assert scene.counts == {"spans:dropped": 5}
        await scene.export.close()
    assert scene.counts["spans:dropped"] == MOST_WAITING + 5


async def test_a_collector_that_is_away_is_a_warning_and_a_metric(
    make_plane: MakePlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(span_export, "EVERY", 0.01)
    plane = make_plane(tracing={"url": "http://127.0.0.1:9/v1/traces"})
    await plane.start()
    plane.supervisor.instance.tally.own["spans:exported"] += 3
    assert plane.workers[0].link.send(Spans([span()], 4))
    await eventually(plane.supervisor.instance.traces_trouble, "the trouble")
    status = await plane.get("/api/v1/status")
    assert any(each.startswith("traces are not sent: no connection") for each in status["warnings"]), status["warnings"]
    metrics = await plane.get("/metrics")
    assert 'crossfade_spans_total{outcome="dropped"} 4.0' in metrics
    assert 'crossfade_spans_total{outcome="exported"} 3.0' in metrics


async def test_without_its_package_it_refuses_to_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "proxy.control.otlp", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.proto.collector.trace.v1.trace_service_pb2", None)
    with pytest.raises(RefuseToStart, match=r"pip install 'crossfade\[otel\]'"):
        encoder_of(make_settings(tmp_path, tracing={"url": "http://127.0.0.1:9/v1/traces"}), "edge-1", "1")
