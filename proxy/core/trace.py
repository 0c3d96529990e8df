"""Traces: what came with an event, which events are traced, and what is told of one.

    traceparent: 00-<trace>-<span>-<flags>        W3C Trace Context, Level 1

A trace that begins here is drawn by the last 56 bits of its id, as OpenTelemetry's consistent probability sampling
does it: whoever sees the same id comes to the same end, the ledger too, without being told.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import msgspec

_TRACEPARENT: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})((?:-[\x21-\x7e]*)?)")
RANDOM_BITS: Final = 56
"""Of a trace's id, by which it is drawn."""
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16

ARRIVAL: Final = 0
"""From a request's arrival to its answer."""
DELIVERY: Final = 1
"""An event on its way to one backend."""
REPLAY: Final = 2
"""The same by the ledger."""
SESSION: Final = 3
"""From a handshake to the end of its connection."""
MESSAGE: Final = 4
"""From a message's arrival to its being safe."""


class TraceParent(NamedTuple):
    """Where a trace comes from. trace, span: 32 and 16 hexadecimal digits."""

    trace: str
    span: str
    is_sampled: bool


class Span(msgspec.Struct, array_like=True, gc=False):
    """What is told of one span. Neither a body nor a header nor a path is in it.

    trace, id, parent: hexadecimal; parent is empty where the trace begins
    kind: ARRIVAL, DELIVERY, REPLAY, SESSION or MESSAGE; start_ns, end_ns: since 1970
    side: OLD or NEW, -1 where it is of none; role: authority, copy or replay, empty where there is none
    status: the answer's, 0 without one; reason: why there was none, in our own words
    handed: mask of sides that were left to the ledger; attempt: from 1, of a replay
    links: spans that it belongs with and is not a child of, (trace, id)
    """

    trace: str
    id: str
    parent: str
    kind: int
    start_ns: int
    end_ns: int
    route: str
    method: str
    epoch: int
    event_id: str
    side: int = -1
    role: str = ""
    status: int = 0
    reason: str = ""
    handed: int = 0
    attempt: int = 0
    links: tuple[tuple[str, str], ...] = ()


def parse_traceparent(value: bytes) -> TraceParent | None:
    """What a `traceparent` says; None for what is none, which counts as if it was not there (W3C, 2.2.2 and 4.3)."""
    match = _TRACEPARENT.fullmatch(value)
    if match is None:
        return None
    version, trace, span, flags, more = match.groups()
    if version == b"ff" or (version == b"00" and more):
        return None
    parent = TraceParent(trace.decode(), span.decode(), bool(int(flags, 16) & 1))
    return None if parent.trace == _NO_TRACE or parent.span == _NO_SPAN else parent


class Sampler:
    """Which traces are told. share: of those that begin here, 0-1; follows: others as they say themselves."""

    __slots__ = ("follows", "threshold")

    def __init__(self, share: float, *, follows: bool) -> None:
        self.follows = follows
        self.threshold = round((1.0 - share) * 2**RANDOM_BITS)
        """The last bits of an id that is drawn are this at least."""

    def takes(self, parent: TraceParent) -> bool:
        """Is this trace told?"""
        if self.follows:
            return parent.is_sampled
        return bool(int(parent.trace[-RANDOM_BITS // 4 :], 16) >= self.threshold)
