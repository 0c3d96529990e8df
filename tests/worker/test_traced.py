"""Traces of what the ledger delivers."""

from __future__ import annotations

import pytest

from config.model import Settings
from proxy.control.link import Spans, ToSupervisor
from proxy.core.event import DELIVERED, NEW, RETRY, Attempt, Event, Outcome
from proxy.core.trace import REPLAY, Sampler, Span
from proxy.http.tracing import Tracer
from proxy.websocket.context import SessionMessage, pack_context
from proxy.worker.traced import TracedDelivery, parent_of, send_spans, tracer_of
from tests.ledger.support import HEAD, event

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
LINE = f"traceparent: 00-{TRACE}-{SPAN}-01\r\n".encode()
DOCUMENT = {
    "version": 1,
    "salt": "a-salt-for-tests",
    "backends": {"old": {"url": "http://127.0.0.1:1"}, "new": {"url": "http://127.0.0.1:2"}},
    "routes": ({"name": "events", "match": {"path": "/events"}},),
}
SETTINGS = Settings.model_validate(DOCUMENT | {"tracing": {"url": "http://127.0.0.1:4318/v1/traces"}})


class Scene:
    """A transport that answers as it is told."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.sent: list[Event] = []
        self.tracer = Tracer(Sampler(1.0, follows=True))
        self.delivery = TracedDelivery(SETTINGS, self.deliver, self.tracer)

    async def deliver(self, event: Event, attempt: Attempt) -> Outcome:
        self.sent.append(event)
        return self.outcome


@pytest.mark.asyncio
@pytest.mark.parametrize("outcome", [Outcome(DELIVERED, 200), Outcome(RETRY, 0, "nothing within 10 s")])
async def test_each_attempt_is_a_span_linked_with_the_arrival(outcome: Outcome) -> None:
    scene, given = Scene(outcome), event(1, context=HEAD + LINE)
    assert await scene.delivery.deliver(given, Attempt(NEW, "replay", 3)) == outcome
    (span,) = scene.tracer.take()
    assert (span.kind, span.trace, span.parent, span.links) == (REPLAY, TRACE, SPAN, ((TRACE, SPAN),))
    assert (span.side, span.role, span.attempt, span.event_id) == (NEW, "replay", 3, "id-1")
    assert (span.status, span.reason) == (outcome.status, outcome.reason)
    assert scene.sent[0].context == HEAD + LINE.replace(SPAN.encode(), span.id.encode())
    assert given.context == HEAD + LINE, "the record's event is as it was"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "context", [HEAD, HEAD + LINE.replace(b"-01\r", b"-00\r"), HEAD + LINE + LINE, HEAD + b"traceparent: x\r\n"]
)
async def test_what_is_not_traced_goes_as_it_is(context: bytes) -> None:
    scene, given = Scene(Outcome(DELIVERED, 200)), event(1, context=context)
    await scene.delivery.deliver(given, Attempt(NEW, "replay", 1))
    assert scene.sent == [given]
    assert scene.sent[0] is given
    assert scene.tracer.take() == []


@pytest.mark.asyncio
async def test_a_path_that_has_the_spans_id_stays() -> None:
    context = HEAD.replace(b" HTTP", f"/{SPAN} HTTP".encode(), 1) + LINE
    scene = Scene(Outcome(DELIVERED, 200))
    await scene.delivery.deliver(event(1, context=context), Attempt(NEW, "replay", 1))
    (span,) = scene.tracer.take()
    assert scene.sent[0].context == context[: -len(LINE)] + LINE.replace(SPAN.encode(), span.id.encode())


@pytest.mark.asyncio
async def test_a_message_belongs_to_its_sessions_trace_and_its_handshake_stays() -> None:
    context = pack_context(HEAD + LINE, SessionMessage("s", 1, ((1, LINE),)))
    scene, given = Scene(Outcome(DELIVERED, 0)), event(1, context=context, transport="websocket")
    assert parent_of(given) is not None
    await scene.delivery.deliver(given, Attempt(NEW, "replay", 1))
    (span,) = scene.tracer.take()
    assert (span.parent, scene.sent[0].context) == (SPAN, context)


def test_what_cannot_be_handed_over_is_counted_until_it_can() -> None:
    tracer, sent = Tracer(Sampler(1.0, follows=True)), list[ToSupervisor]()
    span = Span(TRACE, SPAN, "", REPLAY, 1, 2, "events", "POST", 1, "e")
    send_spans(tracer, lambda _: False)
    tracer.tell(span)
    send_spans(tracer, lambda _: False)
    assert tracer.dropped == 1
    tracer.tell(span)
    send_spans(tracer, lambda message: not sent.append(message))  # type: ignore[func-returns-value]
    assert sent == [Spans([span], 1)]
    assert tracer.dropped == 0


def test_without_configuration_there_is_none() -> None:
    assert tracer_of(Settings.model_validate(DOCUMENT)) is None
