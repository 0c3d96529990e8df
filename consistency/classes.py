"""What became of one identity: the table of CLASSES, from what the ledger and both stores say of it.

    ledger says                            old store, new store        class
    -------------------------------------  --------------------------  -----------------------------------
    a side has acknowledged it             not in that side's store    lost (by that side)
    a side is still owed it                any                         pending
    a side has it as dead, refused, ...    any                         dead, refused, discarded, unsafe, released
    owed to one side alone                 in that side's store        one-sided
    owed to both, acknowledged by both     in both                     equal, tolerated, different, duplicate, ...
    nothing, and it would know             any                         foreign
    nothing, and it would not know         in one                      unrecorded
    nothing, and it would not know         in both                     equal, tolerated, different, duplicate

The first row that fits holds. So what one side has lost is named even while the other side is still owed it. What two
rows say of each other is the business of `compare`; how often an identity stands in a store, of `of_copies`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from proxy.core import owed
from proxy.core.event import NEW, OLD


class Class(StrEnum):
    """One word for what became of an identity, as reports, metrics and the API have it."""

    EQUAL = "equal"
    TOLERATED = "tolerated"
    """Different, and a rule lets it pass."""
    DIFFERENT = "different"
    DUPLICATE = "duplicate"
    """More often in a store than it was delivered."""
    REDELIVERED = "redelivered"
    """More often in a store than it was accepted, and not more often than we tried: a retry whose first try arrived."""
    LATE = "late"
    """Equal or tolerated, and it was not there yet when its window was first judged."""
    ONE_SIDED = "one-sided"
    """As it should be: owed to one side alone, which has it."""
    LOST = "lost"
    UNRECORDED = "unrecorded"
    """In one store alone, and the ledger cannot know why."""
    PENDING = "pending"
    REFUSED = "refused"
    DEAD = "dead"
    DISCARDED = "discarded"
    UNSAFE = "unsafe"
    """A best-effort copy that failed (`durability: off`), counted as lost by the ledger itself."""
    RELEASED = "released"
    """A deferred event that was kept past its bound."""
    FOREIGN = "foreign"
    """Somebody else wrote it."""


MISMATCHES: Final = frozenset({Class.LOST, Class.UNRECORDED, Class.DIFFERENT, Class.DUPLICATE})
"""What counts against a side, once it is persistent."""
UNJUDGED: Final = frozenset({Class.FOREIGN, Class.PENDING})
"""What is no part of the rate's denominator: not ours, or not settled."""

_EXPLAINED: Final = (
    (owed.PENDING, Class.PENDING),
    (owed.DEFERRED, Class.PENDING),
    (owed.DEAD, Class.DEAD),
    (owed.REFUSED, Class.REFUSED),
    (owed.DISCARDED, Class.DISCARDED),
    (owed.LOST, Class.UNSAFE),
    (owed.RELEASED, Class.RELEASED),
)
"""States that explain whatever the stores say; of two states the first in this list names the class."""


class Record(NamedTuple):
    """What the ledger says of an identity, over all events that bear it.

    old, new: the state at each side (`proxy.core.owed`), of several events the one that is furthest from settled
    events: how many events bear it
    old_tries, new_tries: deliveries that were begun at each side, over all of them; at least one where it is delivered
    """

    old: int
    new: int
    events: int = 1
    old_tries: int = 1
    new_tries: int = 1

    def state(self, side: int) -> int:
        """Of one side, OLD or NEW."""
        return self.new if side == NEW else self.old

    def tries(self, side: int) -> int:
        """Of one side, OLD or NEW."""
        return self.new_tries if side == NEW else self.old_tries

    def joined(self, other: Record) -> Record:
        """With another event of the same identity."""
        return Record(
            _less_settled(self.old, other.old),
            _less_settled(self.new, other.new),
            self.events + other.events,
            self.old_tries + other.old_tries,
            self.new_tries + other.new_tries,
        )


_ORDER: Final = (*(state for state, _ in _EXPLAINED), owed.DELIVERED, owed.NOT_OWED)


def _less_settled(one: int, other: int) -> int:
    # A side that was owed one of two events must have the identity, so NOT_OWED comes last.
    return min(one, other, key=_ORDER.index)


class Presence(NamedTuple):
    """How often an identity stands in each store."""

    old: int
    new: int

    def at(self, side: int) -> int:
        """In one side's store."""
        return self.new if side == NEW else self.old


def lost_by(record: Record | None, presence: Presence) -> tuple[int, ...]:
    """The sides that have acknowledged it and do not have it."""
    if record is None:
        return ()
    return tuple(side for side in (OLD, NEW) if record.state(side) == owed.DELIVERED and not presence.at(side))


def of_presence(record: Record | None, presence: Presence, *, is_covered: bool) -> Class | None:
    """The class, or None when it depends on what both rows say.

    record: None when the ledger has no event of that identity; is_covered: whether it would have one, had the event
    come by us
    """
    if record is None:
        if is_covered:
            return Class.FOREIGN
        return None if presence.old and presence.new else Class.UNRECORDED
    if lost_by(record, presence):
        return Class.LOST
    states = (record.old, record.new)
    for state, name in _EXPLAINED:
        if state in states:
            return name
    return None if states == (owed.DELIVERED, owed.DELIVERED) else Class.ONE_SIDED


def of_copies(record: Record | None, presence: Presence) -> Class | None:
    """DUPLICATE or REDELIVERED when a store has it too often, else None.

    Without a record one row is right. With one, as many as there are events, and as many as were tried are explained.
    """
    found = None
    for side in (OLD, NEW):
        count = presence.at(side)
        if count > (1 if record is None else max(record.tries(side), record.events)):
            return Class.DUPLICATE
        if count > (1 if record is None else record.events):
            found = Class.REDELIVERED
    return found
