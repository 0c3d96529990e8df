"""Traces of what the ledger delivers, and how those of a process come to the supervisor."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Final

import msgspec

from config.model import Settings
from proxy.control.link import Spans, ToSupervisor
from proxy.core.event import Attempt, Deliver, Event, Outcome
from proxy.core.trace import REPLAY, Sampler, Span, TraceParent, parse_traceparent
from proxy.http.tracing import Tracer, new_span

_LINE: Final = re.compile(rb"(?i)\r\ntraceparent:[ \t]*([^\r\n]*?)[ \t]*(?=\r\n|\Z)")
_SPAN_AT: Final = len("00-") + 32 + len("-")
"""Where the span's id stands in a `traceparent`."""
_END: Final = b"\r\n\r\n"
"""Behind it stands what is no header, in the context of a session's message."""


def tracer_of(settings: Settings) -> Tracer | None:
    """Of one process; None where nothing is traced."""
    tracing = settings.tracing
    return None if tracing is None else Tracer(_sampler_of(settings))


def _sampler_of(settings: Settings) -> Sampler:
    assert settings.tracing is not None
    return Sampler(settings.tracing.sample, follows=settings.tracing.incoming == "follow")


def send_spans(tracer: Tracer, send: Callable[[ToSupervisor], bool]) -> None:
    """Hand what was told to the supervisor. Without one it is dropped, and counted there later."""
    spans, dropped = tracer.take(), tracer.dropped
    if not spans and not dropped:
        return
    if send(Spans(spans, dropped)):
        tracer.dropped = 0
    else:
        tracer.dropped += len(spans)


class TracedDelivery:
    """The ledger's deliveries of events that are traced: each attempt is a span, linked with the event's arrival."""

    def __init__(self, settings: Settings, deliver: Deliver, tracer: Tracer) -> None:
        self._deliver = deliver
        self._tracer = tracer
        self._sampler = _sampler_of(settings)

    async def deliver(self, event: Event, attempt: Attempt) -> Outcome:
        """One attempt. The backend hears its span's id, but in a session, which has one handshake for all."""
        parent = parent_of(event)
        if parent is None or not self._sampler.takes(parent):
            return await self._deliver(event, attempt)
        own, started = new_span(), time.time_ns()
        sent = event
        if event.transport == "http":
            sent = msgspec.structs.replace(event, context=_with_span(event.context, own))
        outcome = await self._deliver(sent, attempt)
        method = event.context.partition(b" ")[0].decode("latin-1") if event.transport == "http" else ""
        self._tracer.tell(Span(
            parent.trace, own, parent.span, REPLAY, started, time.time_ns(), event.route, method, event.epoch, event.id,
            attempt.side, attempt.role, outcome.status, outcome.reason, 0, attempt.number,
            ((parent.trace, parent.span),),
        ))  # fmt: skip
        return outcome


def parent_of(event: Event) -> TraceParent | None:
    """Where an event's trace comes from, as its record has it: of a traced one, our own span of its arrival."""
    found = _LINE.findall(event.context.partition(_END)[0])
    return parse_traceparent(found[0]) if len(found) == 1 else None


def _with_span(context: bytes, span: str) -> bytes:
    """A context whose one `traceparent` names this span; nothing else of it is touched, whatever else has that id."""
    match = _LINE.search(context)
    assert match is not None
    at = match.start(1) + _SPAN_AT
    return context[:at] + span.encode() + context[at + len(span) :]
