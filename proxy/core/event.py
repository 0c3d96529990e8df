"""The event, the same for every transport, and what came of one attempt to deliver it.

An `Event` is written by the worker that accepted it and travels unchanged to the ledger:

    client --> worker --+--> authority            Event(context, body) --deliver(event, attempt)--> Outcome
                        +--> the other side            ^
                        +--> ledger (as msgpack) ------+ later, for a side that is still owed
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, TypeAlias

import msgspec

OLD: Final = 0
NEW: Final = 1
SIDES: Final = ("old", "new")
BOTH: Final = 3
"""Masks of sides: bit `1 << side`; 1 is old alone, 2 is new alone, 3 is both."""


class Event(msgspec.Struct, array_like=True, gc=False):
    """One accepted event. Everything needed to deliver it again, and its receipt's fields.

    n: number within the stream (one life of one worker), from 1
    id: the event id, from the client or generated (time-ordered)
    route: the route's name
    key: what it is sticky and ordered by
    bucket: 0 to 9,999
    epoch: routing revision that decided it
    authority: OLD or NEW
    owed, handed, deferred: masks of sides; handed and deferred are parts of owed
    after_authority: the side that is not the authority waits for the authority's 2xx
    accepted_ns: wall clock, nanoseconds
    transport: "http"
    context: what the transport needs beside the body; for HTTP the request line and the end-to-end
        headers, each line ended by CRLF, without framing and without Crossfade's own headers
    body: the payload, byte for byte
    event_time: the event's own time as the client wrote it, or empty
    identities: the configured values that name it in the stores
    client_id: the id came from the client, and the event is not outside its route's dedupe window, as a forced one is
    """

    n: int
    id: str
    route: str
    key: str
    bucket: int
    epoch: int
    authority: int
    owed: int
    handed: int
    deferred: int
    after_authority: bool
    accepted_ns: int
    transport: str
    context: bytes
    body: bytes
    event_time: str = ""
    identities: tuple[str, ...] = ()
    client_id: bool = False


class Attempt(NamedTuple):
    """One try to deliver an event. role: authority, copy or replay; number: from 1; side: OLD or NEW.

    seq: the event's place in the record, which rises in the order of acceptance; 0 where it is not known.
    """

    side: int
    role: str
    number: int
    seq: int = 0


# What an attempt showed. A definite refusal is an answer about this event; PAUSE is an answer about
# our right to ask (a wrong credential must not empty a backlog into the dead letters); RETRY is a
# failure that may pass; UNREACHABLE is a failure before the backend could have seen the event; DENIED is
# an answer about what the event itself brings, such as its client's credentials: it waits, and nothing is
# said of the backend. UNFIT is no attempt: what the backend takes cannot be made of the event, now or later.
DELIVERED: Final = 1
REFUSED: Final = 2
PAUSE: Final = 3
RETRY: Final = 4
UNREACHABLE: Final = 5
DENIED: Final = 6
UNFIT: Final = 7

UNFIT_STATUS: Final = 600
"""What the record shows in the place of a status where an event was unfit; no answer has it."""

DEFINITE_REFUSALS: Final = frozenset({400, 409, 410, 413, 415, 422})
PAUSING: Final = frozenset({401, 403, 404, 405})


class Outcome(NamedTuple):
    """What came of one attempt. kind: DELIVERED..UNFIT; status: the answer's, or 0 without one.

    lost: how often before that it went out on a connection that was lost; the backend may have seen it then, also when
    it is unreachable now
    is_own: there was no answer, but the failure is this event's own: others went through meanwhile
    is_echo: it failed in one request with others, one of which says so already
    """

    kind: int
    status: int
    reason: str = ""
    lost: int = 0
    is_own: bool = False
    is_echo: bool = False

    @property
    def tries(self) -> int:
        """How often the backend may have seen it."""
        return self.lost + (self.kind not in (UNREACHABLE, UNFIT))


def classify(status: int) -> int:
    """What an HTTP status says about the event: DELIVERED, REFUSED, PAUSE or RETRY."""
    if 200 <= status < 300:
        return DELIVERED
    if status in DEFINITE_REFUSALS:
        return REFUSED
    if status in PAUSING:
        return PAUSE
    return RETRY


Deliver: TypeAlias = Callable[[Event, Attempt], Awaitable[Outcome]]
"""The port that each transport implements: it never raises for what a backend does."""
