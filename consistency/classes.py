"""What became of one identity: the table of CLASSES, from what the ledger and both stores say of it.

    ledger says                                  old store, new store       class
    -------------------------------------------  -------------------------  -----------------------------------
    a side has acknowledged it                   not in that side's store   lost (by that side)
    a side is still owed it                      any                        pending
    both sides have acknowledged it              in both                    equal, tolerated, different, duplicate, ...
    a side has it as dead, refused, ...          any                        dead, refused, discarded, unsafe, released
    owed to one side alone, or kept for later    in that side's store       one-sided
    nothing, and it would know                   any                        foreign
    nothing, and it would not know               in one                     unrecorded
    nothing, and it would not know               in both                    equal, tolerated, different, duplicate

The first row that fits holds. So what one side has lost is named even while the other side is still owed it. What two
rows say of each other is the business of `compare`; how often an identity stands in a store, of `of_copies`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from proxy.core import checked, owed
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


MISMATCHES: Final = frozenset(Class(name) for name in checked.MISMATCHES)
"""What counts against a side, once it is persistent."""
UNJUDGED: Final = frozenset({Class.FOREIGN, Class.PENDING})
"""What is no part of the rate's denominator: not ours, or not settled."""

_EXPLAINED: Final = (
    (owed.PENDING, Class.PENDING),
    (owed.DEAD, Class.DEAD),
    (owed.REFUSED, Class.REFUSED),
    (owed.DISCARDED, Class.DISCARDED),
    (owed.LOST, Class.UNSAFE),
    (owed.RELEASED, Class.RELEASED),
)
"""States that explain why a side may lack it; of two the first in this list names the class."""
_ORDER: Final = (*(state for state, _ in _EXPLAINED), owed.NOT_OWED)


class SideRecord(NamedTuple):
    """What the ledger says of an identity at one side, over all events that bear it.

    acknowledged: how many events this side said yes to; unsettled: the state (`proxy.core.owed`) that explains why it
    may lack another one, NOT_OWED when there is none; tries: deliveries that were begun
    """

    acknowledged: int = 0
    unsettled: int = owed.NOT_OWED
    tries: int = 0
    is_deferred: bool = False
    """One is kept for a rollback."""

    @classmethod
    def of(cls, state: int, attempts: int) -> SideRecord:
        """Of one event. What is deferred is kept for a rollback, and not owed for now."""
        if state == owed.DELIVERED:
            return cls(1, owed.NOT_OWED, max(attempts, 1))
        if state in (owed.NOT_OWED, owed.DEFERRED):
            return cls(0, owed.NOT_OWED, 0, state == owed.DEFERRED)
        return cls(0, state, attempts)

    def joined(self, other: SideRecord) -> SideRecord:
        """With other events."""
        return SideRecord(
            self.acknowledged + other.acknowledged,
            min(self.unsettled, other.unsettled, key=_ORDER.index),
            self.tries + other.tries,
            self.is_deferred or other.is_deferred,
        )


class Record(NamedTuple):
    """What the ledger says of an identity at each side."""

    old: SideRecord
    new: SideRecord

    @classmethod
    def of(cls, old: int, new: int, old_attempts: int = 1, new_attempts: int = 1) -> Record:
        """Of one event: its state (`proxy.core.owed`) and attempts at each side."""
        return cls(SideRecord.of(old, old_attempts), SideRecord.of(new, new_attempts))

    def at(self, side: int) -> SideRecord:
        """At one side, OLD or NEW."""
        return self.new if side == NEW else self.old

    def joined(self, other: Record) -> Record:
        """With other events of the same identity."""
        return Record(self.old.joined(other.old), self.new.joined(other.new))


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
    return tuple(side for side in (OLD, NEW) if record.at(side).acknowledged and not presence.at(side))


def of_presence(record: Record | None, presence: Presence, *, is_covered: bool) -> Class | None:
    """The class, or None when it depends on what the rows of both sides say.

    record: None when the ledger has no event of that identity; is_covered: whether it would have one, had the event
    come by us
    """
    if record is None:
        if is_covered:
            return Class.FOREIGN
        return None if presence.old and presence.new else Class.UNRECORDED
    if lost_by(record, presence):
        return Class.LOST
    unsettled = record.old.unsettled, record.new.unsettled
    if owed.PENDING in unsettled:
        return Class.PENDING
    if record.old.acknowledged and record.new.acknowledged:
        return None
    return next((name for state, name in _EXPLAINED if state in unsettled), Class.ONE_SIDED)


def too_often(record: Record | None, presence: Presence) -> tuple[Class | None, tuple[int, ...]]:
    """DUPLICATE or REDELIVERED, and the sides whose store has it too often; None and no side when none has.

    Without a record one row is right. With one, as many as were acknowledged, and as many as were tried are explained.
    """
    doubled: list[int] = []
    retried: list[int] = []
    for side in (OLD, NEW):
        count, known = presence.at(side), record.at(side) if record is not None else SideRecord(1, tries=1)
        if known.acknowledged and count > known.acknowledged:
            (doubled if count > known.tries else retried).append(side)
    if doubled:
        return Class.DUPLICATE, tuple(doubled)
    return (Class.REDELIVERED, tuple(retried)) if retried else (None, ())


def too_seldom(record: Record | None, presence: Presence) -> bool:
    """Several events bear it, and one store has a row for each, the other fewer: not two that keep one row each."""
    if record is None or presence.old == presence.new:
        return False
    whole = [presence.at(side) >= record.at(side).acknowledged for side in (OLD, NEW)]
    return whole[OLD] != whole[NEW] and max(presence) > 1
