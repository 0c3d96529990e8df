"""When the client may be answered, and with whose answer.

Each side of an event has a standing: what is known of it that matters for the answer.

    ABSENT    nothing is due there before the answer (not owed, best effort, deferred and durable)
    WAITING   sent, or about to be; nothing known yet
    OK        the backend gave 2xx
    REFUSED   the backend gave a definite answer that is not 2xx
    FAILED    connect failure, timeout, 5xx; not yet in the ledger's hands
    SAFE      its record is durable in the ledger, which will deliver it

`ack: authority`: the authority's answer, and 2xx only when the other side has it or is SAFE; 202 when
the authority itself is only SAFE (its bucket has a backlog, or `on_authority_down: accept`).
`ack: both`: 2xx only if both gave 2xx, else the failing side's answer, so never a 202.
`ack: accepted`: 202 once each side has settled or is SAFE (or absent).

A side whose answer is due may have none of its own (it is FAILED or SAFE): its failure is the answer, 504.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

ABSENT: Final = 0
WAITING: Final = 1
OK: Final = 2
REFUSED: Final = 3
FAILED: Final = 4
SAFE: Final = 5
STANDINGS: Final = (ABSENT, WAITING, OK, REFUSED, FAILED, SAFE)


class Answer(Enum):
    """What to do about the client now."""

    WAIT = "nothing yet"
    AUTHORITY = "the authority's answer"
    OTHER = "the other side's answer"
    ACCEPTED = "202 Accepted"
    DOWN = "the authority failed: apply on_authority_down"


def answer(ack: str, authority: int, other: int) -> Answer:
    """The rule. ack: authority, both or accepted; authority, other: standings."""
    if authority in (ABSENT, WAITING):
        return Answer.WAIT
    if authority == REFUSED:
        return Answer.AUTHORITY
    if authority == FAILED:
        return Answer.WAIT if ack == "accepted" else Answer.DOWN
    if ack == "both":
        return _both(authority, other)
    if other in (WAITING, FAILED):
        return Answer.WAIT
    return Answer.AUTHORITY if authority == OK and ack == "authority" else Answer.ACCEPTED


def _both(authority: int, other: int) -> Answer:
    """The rest of `ack: both`: the authority is OK or SAFE, and SAFE is not a 2xx."""
    if other == WAITING:
        return Answer.WAIT
    return Answer.OTHER if authority == OK and other in (REFUSED, FAILED, SAFE) else Answer.AUTHORITY


def tabulate(ack: str) -> tuple[Answer, ...]:
    """The rule as a table for the hot path: index `authority * 6 + other`."""
    return tuple(answer(ack, authority, other) for authority in STANDINGS for other in STANDINGS)
