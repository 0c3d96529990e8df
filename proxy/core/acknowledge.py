"""When the client may be answered, and with whose answer.

Each side of an event has a standing: what is known of it that matters for the answer.

    ABSENT    nothing is due there before the answer (not owed, best effort, deferred and durable)
    WAITING   sent, or about to be; nothing known yet
    OK        the backend gave 2xx
    REFUSED   the backend gave a definite answer that is not 2xx
    FAILED    connect failure, timeout, 5xx; not yet in the ledger's hands
    SAFE      its record is durable in the ledger, which will deliver it

`ack: authority`: the authority's answer, and 2xx only when the other side has it or is SAFE.
`ack: both`: 2xx only if both gave 2xx, else the failing side's answer.
`ack: accepted`: 202 once both sides are SAFE (or absent).
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
    if ack == "accepted":
        return Answer.ACCEPTED if authority == SAFE and other in (SAFE, ABSENT) else Answer.WAIT
    if authority == FAILED:
        return Answer.DOWN
    if authority == REFUSED:
        return Answer.AUTHORITY
    if authority == SAFE:
        return Answer.ACCEPTED if other in (SAFE, OK, REFUSED, ABSENT) else Answer.WAIT
    if authority != OK:
        return Answer.WAIT
    if ack == "both" and other in (REFUSED, FAILED, SAFE):
        return Answer.OTHER
    return Answer.WAIT if other in (WAITING, FAILED) else Answer.AUTHORITY


def tabulate(ack: str) -> tuple[Answer, ...]:
    """The rule as a table for the hot path: index `authority * 6 + other`."""
    return tuple(answer(ack, authority, other) for authority in STANDINGS for other in STANDINGS)
