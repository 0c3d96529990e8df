"""The states of an event at one side it is owed to, and the balance over all of them.

    pending  --> delivered | refused | dead | discarded | lost
    deferred --> pending (rollback) | released (past its bound, or old was decommissioned)
                 | discarded (the authority refused what was deferred beside its own attempt)
    dead     --> pending (`dead requeue`) | discarded (`dead discard`)
    delivered --> pending (`ledger replay`: the backend was restored from an older state; or the connection by which
                  it had received the event was lost soon after: see `ledger.protocol.RECEIVED`)
    refused   --> pending (never sent, for its authority refused it; the authority's dead letter is requeued)

In flight and unknown count as pending. `lost` can only come from `durability: off`. The last four rows
are a person's doing, but for connections that are lost. A transition moves one event from one state to
another. The ledger makes them itself, many at a time; `TRANSITIONS` is the rule that its tests hold it to.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from proxy.core.event import UNFIT_STATUS

NOT_OWED: Final = 0
PENDING: Final = 1
DEFERRED: Final = 2
DELIVERED: Final = 3
REFUSED: Final = 4
DEAD: Final = 5
DISCARDED: Final = 6
LOST: Final = 7
RELEASED: Final = 8

STATE_NAMES: Final = (
    "not_owed",
    "pending",
    "deferred",
    "delivered",
    "refused",
    "dead",
    "discarded",
    "lost",
    "released",
)
EVER_OWED: Final = NOT_OWED
"""In a balance's counts, in the place that no owed event's state takes: how many events were ever owed."""
OPEN: Final = frozenset({PENDING, DEFERRED})
"""States that keep an event's body and its segment."""


def lets_follow(state: int, status: int) -> bool:
    """What waits for an event's authority: does it go to the other side after this? status: the authority's.

    Once the authority has it, and also where that can never be given it in its form: somebody was told 202, and of the
    other side that says nothing.
    """
    return state in (DELIVERED, NOT_OWED) or (state == DEAD and status == UNFIT_STATUS)


class Cause(Enum):
    """Why a state changes."""

    ACCEPTED = "the backend answered 2xx"
    REFUSED = "the backend refused it for good"
    GAVE_UP = "it failed too often while others succeeded"
    DISCARDED = "the authority refused it, or a person discarded it"
    LOST = "a best effort copy failed"
    ROLLED_BACK = "the route went back to weight 0"
    RELEASED = "past the bound of carry-over, or old was decommissioned"
    REQUEUED = "a person requeued a dead letter"
    AUTHORITY_REQUEUED = "a person requeued what the authority had refused, and with it this side"
    REPLAYED = "a person replays what a restored backend is missing"
    TAKEN_BACK = "the connection by which the backend had received it was lost soon after"


TRANSITIONS: Final[dict[tuple[int, Cause], int]] = {
    (PENDING, Cause.ACCEPTED): DELIVERED,
    (PENDING, Cause.REFUSED): REFUSED,
    (PENDING, Cause.GAVE_UP): DEAD,
    (PENDING, Cause.DISCARDED): DISCARDED,
    (PENDING, Cause.LOST): LOST,
    (DEFERRED, Cause.ROLLED_BACK): PENDING,
    (DEFERRED, Cause.RELEASED): RELEASED,
    (DEFERRED, Cause.DISCARDED): DISCARDED,
    (DEAD, Cause.REQUEUED): PENDING,
    (DEAD, Cause.DISCARDED): DISCARDED,
    (DELIVERED, Cause.REPLAYED): PENDING,
    (DELIVERED, Cause.TAKEN_BACK): PENDING,
    (REFUSED, Cause.AUTHORITY_REQUEUED): PENDING,
}


def next_state(state: int, cause: Cause) -> int:
    """The state after `cause`; the same state when the table has no such row.

    A report that comes twice (a worker that resends after the ledger's restart) changes nothing.
    """
    return TRANSITIONS.get((state, cause), state)


class Balance:
    """How many events are in each state at one side, and how many were ever owed: counted on its own, as they come."""

    __slots__ = ("counts",)

    def __init__(self, counts: list[int] | None = None) -> None:
        self.counts = counts if counts is not None else [0] * len(STATE_NAMES)

    def owe(self, state: int) -> None:
        """A new event enters in `state`."""
        if state != NOT_OWED:
            self.counts[EVER_OWED] += 1
            self.counts[state] += 1

    def move(self, before: int, after: int) -> None:
        """One event changes its state."""
        self.counts[before] -= 1
        self.counts[after] += 1

    @property
    def owed(self) -> int:
        """Events that were ever owed to this side."""
        return self.counts[EVER_OWED]

    def is_sound(self) -> bool:
        """Every event that was ever owed is in one state, and no state holds fewer than zero."""
        return self.owed == sum(self.counts[PENDING:]) and min(self.counts) >= 0

    def as_dict(self) -> dict[str, int]:
        """Counts by state name, and `owed`."""
        return {"owed": self.owed} | dict(zip(STATE_NAMES[PENDING:], self.counts[PENDING:], strict=True))
