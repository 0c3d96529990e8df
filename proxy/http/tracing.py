"""Traces of events in a worker: who is drawn, which `traceparent` each backend gets, and what is told in the end.

    client --traceparent--> Tracer.begin --> Trace -- of the event: the span of its arrival, the parent of
                                 |             +-- leg to the authority: a span of its own
                                 None          +-- leg to the other side: another one, linked with the first

An event that is not drawn is untouched: what its client sent, `tracestate` too, stands in its context as any header
does. One that is drawn has our own span there in the client's place, in the record as well, so that what the ledger
delivers of it later belongs to the same trace. Each leg puts its own span's id in the place of the event's.
"""

from __future__ import annotations

import re
import time
from random import getrandbits
from time import monotonic
from typing import TYPE_CHECKING, Final

from proxy.core.trace import ARRIVAL, DELIVERY, MESSAGE, RANDOM_BITS, SESSION, Sampler, Span, parse_traceparent
from proxy.http.head import RequestHead

if TYPE_CHECKING:
    from proxy.core.event import Event
    from proxy.http.leg import Leg

HEADER: Final = b"traceparent"
MOST: Final = 4096
"""Spans that wait for the supervisor; of more the newest are dropped, and counted."""
_PARENT_LINES: Final = re.compile(rb"(?mi)^traceparent:[^\r\n]*+\r\n")
_TRACE_LINES: Final = re.compile(rb"(?mi)^trace(?:parent|state):[^\r\n]*+\r\n")
_ROLES: Final = ["authority", "copy"]


def new_span() -> str:
    """The id of a span. Not zero, which means none."""
    return f"{getrandbits(64) or 1:016x}"


class Tracer:
    """Of one process. spans: what was told and is not on its way yet; dropped: how many there was no room for."""

    __slots__ = ("_sampler", "_threshold", "dropped", "spans")

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self._threshold = sampler.threshold
        self.spans: list[Span] = []
        self.dropped = 0

    def begin(self, head: RequestHead) -> Trace | None:
        """The trace of a request; None when it is not drawn."""
        given = head.wanted.get(HEADER) if head.wanted is not None else None
        if given is None:
            return self.draw()
        parent = parse_traceparent(given)
        if parent is None:
            return self.draw()
        return Trace(self, parent.trace, parent.span) if self._sampler.takes(parent) else None

    def draw(self) -> Trace | None:
        """A trace that begins here; None when it is not drawn."""
        low = getrandbits(RANDOM_BITS)
        if low < self._threshold:
            return None
        return Trace(self, f"{getrandbits(128 - RANDOM_BITS):018x}{low:014x}", "")

    def go_on(self, trace: str, parent: str, span: str, started_ns: int) -> Trace:
        """A trace that another process has begun. span: the id of its span; started_ns: wall clock."""
        found = Trace(self, trace, parent)
        found.id, found.started_ns = span, started_ns
        return found

    def tell(self, span: Span) -> None:
        """One more, if there is room."""
        if len(self.spans) < MOST:
            self.spans.append(span)
        else:
            self.dropped += 1

    def take(self) -> list[Span]:
        """What was told since the last time."""
        spans, self.spans = self.spans, []
        return spans


class Trace:
    """The trace of one event, session or message. id: of its span; parent: of the client's, empty where it begins."""

    __slots__ = ("_legs", "_tracer", "id", "parent", "started_ns", "trace")

    def __init__(self, tracer: Tracer, trace: str, parent: str) -> None:
        self._tracer = tracer
        self._legs = ["", ""]
        self.trace = trace
        self.parent = parent
        self.id = new_span()
        self.started_ns = time.time_ns()

    def enter(self, context: bytes) -> bytes:
        """A context with our span in the client's place. A state that came without a valid parent goes (W3C, 3.3)."""
        lines = _PARENT_LINES if self.parent else _TRACE_LINES
        return b"%btraceparent: 00-%b-%b-01\r\n" % (lines.sub(b"", context), self.trace.encode(), self.id.encode())

    def enter_leg(self, side: int, context: bytes) -> bytes:
        """The same with a span of a leg to this side; untouched where its backend gets no `traceparent`."""
        leg = self._legs[side] = new_span()
        return context.replace(self.id.encode(), leg.encode(), 1)

    def leg_ended(self, event: Event, leg: Leg) -> None:
        """The outcome of a leg is known."""
        now = time.time_ns()
        taken = monotonic() - leg.sent_at if leg.sent_at else 0.0
        # A copy belongs with what its authority gets: neither is the cause of the other.
        other = self._legs[1 - leg.side]
        self._tracer.tell(Span(
            self.trace, self._legs[leg.side], self.id, DELIVERY, now - int(taken * 1e9), now, event.route,
            leg.method.decode(), event.epoch, event.id, leg.side, _ROLES[leg.role],
            leg.status if leg.head is not None else 0, leg.reason, 0, 1,
            ((self.trace, other),) if other and leg.role else (),
        ))  # fmt: skip

    def answered(self, event: Event, method: bytes, status: int, reason: str, handed: int) -> None:
        """Its client is answered. reason: of an answer of our own that is none."""
        self._tracer.tell(Span(
            self.trace, self.id, self.parent, ARRIVAL, event.accepted_ns, time.time_ns(), event.route, method.decode(),
            event.epoch, event.id, event.authority, "", status, reason, handed,
        ))  # fmt: skip

    def session_ended(self, route: str, epoch: int, status: int) -> None:
        """A session is over. status: 101, or 0 when it never began."""
        self._tracer.tell(Span(
            self.trace, self.id, self.parent, SESSION, self.started_ns, time.time_ns(), route, "GET", epoch, "", -1,
            "", status, "" if status else "no session came of its handshake",
        ))  # fmt: skip

    def message_safe(self, route: str, epoch: int, event_id: str, authority: int, session: Trace | None) -> None:
        """A message is safe. session: its session's, if that is traced."""
        self._tracer.tell(Span(
            self.trace, self.id, "", MESSAGE, self.started_ns, time.time_ns(), route, "", epoch, event_id, authority,
            "", 0, "", 0, 0, ((session.trace, session.id),) if session is not None else (),
        ))  # fmt: skip
