"""What workers and the ledger say to each other over a Unix stream socket.

Each message is msgpack, framed by `proxy.ledger.framing`. A worker's life is a
*stream* with a random name; what it says travels in numbered frames, one per loop iteration at most:

    worker                                      ledger
      Hello(stream)               -->
                                  <--           Welcome(durable)   resend everything after `durable`
      Frame(1, events, reports)   -->
      Frame(2, ...)               -->           one transaction
                                  <--           Durable(2)         frames 1 and 2 are on disk
      Frame(3, turns=[7])         -->
                                  <--           Turn(7)            strict: event 7 may go out now
      Claims([8, route, ...])     -->
                                  <--           Verdicts([8, FIRST])   event 8 has no twin: it may go out

A worker keeps each frame until it is durable and resends it to a restarted ledger, so a record is
written exactly once: the last durable frame of each stream is stored in the records' transaction.
Claims are not kept: a worker says again which ones it has when it comes back.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final, TypeAlias

import msgspec

from proxy.core.event import Event

# Codes of a report beside the settled states of proxy.core.owed (DELIVERED, REFUSED, DISCARDED, LOST).
PARKED: Final = 20
"""The worker is still trying this side, but wants to answer: set the mark and make it durable."""
HANDED: Final = 21
"""The worker gives this side to the ledger; status says why: an answer's, 0 when nothing was sent, or UNANSWERED."""
UNANSWERED: Final = 1
"""Status of a HANDED side to which the event went out without an answer: it may have it; the next try is the second."""
ANSWERED: Final = 22
"""This side's answer is the client's answer: it is the authority now, whoever was meant to be."""
OWED: Final = 23
"""This side is owed from now on (a failover with copy off)."""
RECEIVED: Final = 24
"""The backend has it and may still lose it: delivered, but HANDED may follow within the route's window, or the worker
may die within it, and then it is to be delivered again. DELIVERED after it says that neither matters any more.
Its status is the number of further events, of those that follow, of which the same is said."""


Report: TypeAlias = tuple[int, int, int, int]
"""What became of one side of an event of this stream: its number, the side, a state or PARKED..RECEIVED, the status."""


ClaimRow: TypeAlias = tuple[int, str, bytes, bytes, bool]
"""Number of the event, route, digest of its id, fingerprint, and whether its worker was told FIRST before."""
Verdict: TypeAlias = tuple[int, int, int]
"""Number of the event, FIRST, DONE or CONFLICT of proxy.core.dedupe, and what the first's client was told (DONE)."""


class Hello(msgspec.Struct, tag="hello", array_like=True):
    """A worker introduces its stream. worker: index from 0."""

    stream: str
    worker: int
    pid: int


class Frame(msgspec.Struct, tag="frame", array_like=True):
    """New events first, then reports, in the order in which they happened.

    events: one without a context has that of the event before it, if the `Welcome` says that this is understood
    urgent: somebody waits for this frame to be durable, commit at once.
    turns: numbers of events (in `events`) that wait for their turn under `ordering: strict`.
    answers: (number, status) of events that hold a claim: what their clients were told.
    """

    number: int
    urgent: bool
    events: list[Event]
    reports: list[Report]
    turns: list[int] = []
    answers: list[tuple[int, int]] = []


class Claims(msgspec.Struct, tag="claims", array_like=True):
    """Events that wait for a verdict, and events that need none any more. anew: these are all that there are."""

    asked: list[ClaimRow]
    withdrawn: list[int] = []
    anew: bool = False


EventRow: TypeAlias = tuple[
    int, str, str, str, int, int, int, int, int, int, bool, int, str, bytes, bytes, str, tuple[str, ...], bool
]
"""The fields of an `Event`, in their order: what the ledger makes its own entry of, without an `Event` in between."""
ROUTE: Final = 2
ACCEPTED_NS: Final = 11
CLIENT_ID: Final = 17
"""Where these stand in it."""


class LedgerFrame(msgspec.Struct, tag="frame", array_like=True):
    """`Frame` as the ledger reads it."""

    number: int
    urgent: bool
    events: list[EventRow]
    reports: list[Report]
    turns: list[int] = []
    answers: list[tuple[int, int]] = []


class Welcome(msgspec.Struct, tag="welcome", array_like=True):
    """The last frame of this stream that is durable; 0 for a new stream.

    shares_context: events without a context are understood, see `Frame`; a ledger of the version before does not say so
    """

    durable: int
    shares_context: bool = False


class Durable(msgspec.Struct, tag="durable", array_like=True):
    """Every frame of this stream up to `number` is on disk."""

    number: int


class Turn(msgspec.Struct, tag="turn", array_like=True):
    """Event `n` is the only outstanding one of its key now."""

    n: int


class Verdicts(msgspec.Struct, tag="verdicts", array_like=True):
    """Answers to claims."""

    verdicts: list[Verdict]


FromWorker = Hello | Frame | Claims
FromLedger = Welcome | Durable | Turn | Verdicts

encoder: Final = msgspec.msgpack.Encoder()
from_worker: Final = msgspec.msgpack.Decoder(FromWorker)
to_ledger: Final = msgspec.msgpack.Decoder(Hello | LedgerFrame | Claims)
"""As `from_worker`, with events as rows."""
from_ledger: Final = msgspec.msgpack.Decoder(FromLedger)


def with_contexts(payload: bytes) -> Frame:
    """A frame that was packed, each of its events with a context of its own."""
    frame = from_worker.decode(payload)
    assert isinstance(frame, Frame)
    for before, event in pairwise(frame.events):
        event.context = event.context or before.context
    return frame
