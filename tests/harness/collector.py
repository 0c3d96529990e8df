"""A collector of OpenTelemetry's, as far as its protocol goes: OTLP over HTTP in protobuf, read by its own messages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

PATH = "/v1/traces"


class Collector:
    """What it got, and how it answers. statuses: of its next answers, then 200; rejects: so many spans of each."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.resources: list[dict[str, Any]] = []
        self.requests: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.statuses: list[int] = []
        self.rejects = 0
        self.asks = ""
        """`Retry-After` of answers that are none of 200."""
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        """One request, held against the protocol."""
        self.requests.append(request)
        body = await request.read()  # aiohttp has taken the coding off
        self.bodies.append(body)
        assert request.headers["Content-Type"] == "application/x-protobuf"
        if self.statuses and (status := self.statuses.pop(0)) != 200:
            return web.Response(status=status, headers={"Retry-After": self.asks} if self.asks else {})
        message = ExportTraceServiceRequest.FromString(body)
        for resource in message.resource_spans:
            self.resources.append(values(resource.resource.attributes))
            for scope in resource.scope_spans:
                self.spans += scope.spans
        answer = ExportTraceServiceResponse()
        if self.rejects:
            answer.partial_success.CopyFrom(ExportTracePartialSuccess(rejected_spans=self.rejects))
        return web.Response(body=answer.SerializeToString(), content_type="application/x-protobuf")

    def named(self, begins: str) -> list[Span]:
        """Spans by the beginning of their names."""
        return [span for span in self.spans if span.name.startswith(begins)]


def values(attributes: Any) -> dict[str, Any]:
    """Attributes as a dictionary."""
    pairs: list[KeyValue] = list(attributes)
    return {each.key: _value(each.value) for each in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    assert kind is not None
    found = getattr(value, kind)
    return [_value(each) for each in found.values] if kind == "array_value" else found


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """One, listening."""
    collector = Collector()
    app = web.Application(client_max_size=2**24)
    app.router.add_post(PATH, collector.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}{PATH}"
    try:
        yield collector
    finally:
        await runner.cleanup()
