"""Spans as OpenTelemetry's protocol has them: one ExportTraceServiceRequest of a batch, in protobuf.

Names of attributes are those of OpenTelemetry's semantic conventions for HTTP; ours begin with `crossfade.`. There is
no `url.path`: what stands in a path may be a secret, and `http.route` says which one it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2 as pb

from config.model import Settings
from config.units import parse_backend_url
from proxy.core.event import SIDES
from proxy.core.trace import ARRIVAL, DELIVERY, MESSAGE, REPLAY, SESSION, Span

_KINDS: Final = {
    ARRIVAL: pb.Span.SPAN_KIND_SERVER,
    DELIVERY: pb.Span.SPAN_KIND_CLIENT,
    REPLAY: pb.Span.SPAN_KIND_CLIENT,
    SESSION: pb.Span.SPAN_KIND_SERVER,
    MESSAGE: pb.Span.SPAN_KIND_CONSUMER,
}
_AT_BACKENDS: Final = (DELIVERY, REPLAY)
_SAMPLED: Final = 1
_KEPT: Final = 1000
_Value = str | int | list[str]


class _Backend(NamedTuple):
    """A backend as spans name it. address, port: where it has one url, else empty and 0."""

    name: str
    address: str
    port: int


class Encoder:
    """Of one instance. instance: what it is called; version: of this program."""

    def __init__(self, settings: Settings, instance: str, version: str) -> None:
        assert settings.tracing is not None
        self._resource = Resource(
            attributes=_attributes(
                {
                    "service.name": settings.tracing.service,
                    "service.version": version,
                    "service.instance.id": instance,
                }
            )
        )
        self._scope = InstrumentationScope(name="crossfade", version=version)
        self._patterns = {route.name: route.match.path for route in settings.routes}
        backends = {name: _backend(name, each.url) for name, each in settings.backends.items()}
        self._backends = {route.name: (backends[route.old], backends[route.new]) for route in settings.routes}
        self._kinds: dict[tuple[object, ...], bytes] = {}
        """Spans by what they have in common with others, made ready."""

    def encode(self, spans: Sequence[Span]) -> bytes:
        """The request of a batch."""
        request = ExportTraceServiceRequest()
        of_resource = request.resource_spans.add(resource=self._resource)
        scoped = of_resource.scope_spans.add(scope=self._scope)
        for span in spans:
            self._add(scoped, span)  # in its place: a message that is put into another one is copied
        return request.SerializeToString()

    def _add(self, scoped: pb.ScopeSpans, span: Span) -> None:
        made = scoped.spans.add(
            trace_id=bytes.fromhex(span.trace),
            span_id=bytes.fromhex(span.id),
            parent_span_id=bytes.fromhex(span.parent),
            start_time_unix_nano=span.start_ns,
            end_time_unix_nano=max(span.start_ns, span.end_ns),
            links=[
                pb.Span.Link(trace_id=bytes.fromhex(trace), span_id=bytes.fromhex(id), flags=_SAMPLED)
                for trace, id in span.links
            ],
        )
        made.MergeFromString(self._common(span))
        if span.event_id:
            made.attributes.add(key="crossfade.event.id").value.string_value = span.event_id

    def _common(self, span: Span) -> bytes:
        """What it has in common with others: to make that anew for each took five times as long."""
        kind = (
            span.kind, span.route, span.side, span.role, span.method, span.status, span.epoch, span.reason, span.handed,
            span.attempt,
        )  # fmt: skip
        known = self._kinds.get(kind)
        if known is None:
            if len(self._kinds) >= _KEPT:
                self._kinds.clear()
            known = self._kinds[kind] = pb.Span(
                flags=_SAMPLED,
                name=self._name(span),
                kind=_KINDS[span.kind],
                attributes=_attributes(self._attributes_of(span)),
                status=_status(span),
            ).SerializeToString()
        return known

    def _name(self, span: Span) -> str:
        """Of few different ones, as the conventions want it."""
        if span.kind in _AT_BACKENDS:
            return f"{span.method or 'message'} {span.role} {self._backend_of(span).name}"
        return f"{span.method or 'message'} {self._patterns.get(span.route, span.route)}"

    def _backend_of(self, span: Span) -> _Backend:
        """The ledger delivers for routes, too, that the configuration has no more: of those the side alone is told."""
        of_route = self._backends.get(span.route)
        return of_route[span.side] if of_route is not None else _Backend(SIDES[span.side], "", 0)

    def _attributes_of(self, span: Span) -> dict[str, _Value]:
        found: dict[str, _Value] = {"crossfade.route": span.route, "crossfade.epoch": span.epoch}
        if span.method:
            found["http.request.method"] = span.method
        if span.status:
            found["http.response.status_code"] = span.status
        if span.kind in _AT_BACKENDS:
            backend = self._backend_of(span)
            found |= {"crossfade.backend": backend.name, "crossfade.side": SIDES[span.side]}
            found |= {"crossfade.role": span.role, "crossfade.attempt": span.attempt}
            if backend.address:
                found |= {"server.address": backend.address, "server.port": backend.port}
        else:
            found["http.route"] = self._patterns.get(span.route, span.route)
            if span.side >= 0:
                found["crossfade.authority"] = SIDES[span.side]
            if span.handed:
                found["crossfade.handed"] = [name for side, name in enumerate(SIDES) if span.handed >> side & 1]
        if _failed(span):
            found["error.type"] = str(span.status) if span.status else "no_answer"
        return found


def rejected(answer: bytes) -> int:
    """How many spans a collector did not take, as its answer says; 0 for an answer that is none."""
    try:
        return ExportTraceServiceResponse.FromString(answer).partial_success.rejected_spans
    except ValueError:  # DecodeError is one
        return 0


def _backend(name: str, urls: Sequence[str]) -> _Backend:
    if len(urls) != 1:
        return _Backend(name, "", 0)
    url = parse_backend_url(urls[0])
    return _Backend(name, url.host, url.port)


def _failed(span: Span) -> bool:
    """Of what a backend says 4xx is a failure of the asking, of what we say to a client it is the client's."""
    if span.kind == MESSAGE:
        return False
    return span.status == 0 or span.status >= (400 if span.kind in _AT_BACKENDS else 500)


def _status(span: Span) -> pb.Status | None:
    return pb.Status(code=pb.Status.STATUS_CODE_ERROR, message=span.reason) if _failed(span) else None


def _attributes(values: dict[str, _Value]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_value(value)) for key, value in values.items()]


def _value(value: _Value) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    return AnyValue(array_value=ArrayValue(values=[_value(each) for each in value]))
