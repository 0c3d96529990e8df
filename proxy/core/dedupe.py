"""When two events are one: their fingerprint, and what a record says about the first's success.

An event whose client gave it an id is a *twin* of an earlier one with that id at the same route. The first
one to come holds the *claim* on the id until its outcome is known:

    claimed by nobody             --> FIRST      it goes on as any event
    claimed, not answered yet     --> (waits)
    answered 2xx in the window    --> DONE       the twin is answered the same, and goes nowhere
    the same id, something else   --> CONFLICT   422
    the first was not accepted    --> FIRST      for the twin that waits for longest
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from proxy.core.owed import DEAD, DEFERRED, DELIVERED, NOT_OWED, PENDING

FIRST: Final = 1
DONE: Final = 2
CONFLICT: Final = 3

DIGEST_BYTES: Final = 16
"""Of a SHA-256, for ids and contents alike: who chooses them must not be able to make two that agree."""


def is_accepted(status: int) -> bool:
    """Was a client that got this status told that its event is accepted?"""
    return 200 <= status < 300


def id_digest(event_id: str) -> bytes:
    """What stands for an event id, 16 bytes whatever its length."""
    return sha256(event_id.encode()).digest()[:DIGEST_BYTES]


def body_digest(body: bytes) -> bytes:
    """What a receipt keeps of a body, 16 bytes."""
    return sha256(body).digest()[:DIGEST_BYTES]


def fingerprint(line: bytes, digest: bytes) -> bytes:
    """What two events with one id must agree in, 16 bytes. line: `POST /path HTTP/1.1`; digest: of the body.

    Both are in a receipt. The line counts because a body may be empty: `DELETE /a` is not `DELETE /b`.
    """
    return sha256(line + b"\n" + digest).digest()[:DIGEST_BYTES]


def recorded_status(
    ack: str, accepted: int, authority: int, old_state: int, old_status: int, new_state: int, new_status: int
) -> int:
    """What the record says that the client was told, or would have been: a 2xx, or 0 for not accepted.

    For events whose answer is not known any more. accepted: what a client hears of an event that nobody has answered
    yet; authority: OLD or NEW; states: of proxy.core.owed. What is pending at its authority is the ledger's to
    deliver, so it counts as accepted.
    """
    state, status = (new_state, new_status) if authority else (old_state, old_status)
    other = old_state if authority else new_state
    if ack == "both" and (state != DELIVERED or other not in (DELIVERED, NOT_OWED, DEFERRED)):
        return 0
    if state == DELIVERED:
        return status if is_accepted(status) and ack != "accepted" else accepted
    return accepted if state in (PENDING, DEFERRED, DEAD) else 0
