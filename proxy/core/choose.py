"""Which side answers an event, and which sides it is owed to: key -> bucket -> choice."""

from __future__ import annotations

from typing import Final, NamedTuple

from xxhash import xxh64_intdigest

from proxy.core.event import BOTH, NEW, OLD
from proxy.core.routing import COPY_BEST_EFFORT, COPY_DURABLE, COPY_NONE, Dials

BUCKETS: Final = 10_000


def seed_of(salt: str) -> int:
    """The 64-bit seed that a salt stands for."""
    return int(xxh64_intdigest(salt.encode()))


def bucket_of(key: str, seed: int) -> int:
    """The bucket 0-9,999 of a key (XXH64 of its UTF-8 form, seeded by the salt, modulo 10,000)."""
    return int(xxh64_intdigest(key.encode(), seed) % BUCKETS)


class Choice(NamedTuple):
    """What the routing says about one event. owed and deferred are masks of sides.

    shadow: a copy to the other side is sent but not owed.
    """

    authority: int
    owed: int
    deferred: int
    shadow: bool


class Plan(NamedTuple):
    """One route's dials, worked out once per epoch so that an event costs one comparison.

    Buckets below `threshold` take `new`, the others `old`; raising the weight only moves buckets
    from old to new.
    """

    threshold: int
    old: Choice
    new: Choice

    def choose(self, bucket: int) -> Choice:
        """The choice for an event of this bucket."""
        return self.new if bucket < self.threshold else self.old


def plan(dials: Dials, *, carry_over: bool) -> Plan:
    """Work out a route's dials.

    In split with carry-over, what new answers is owed to old as well, but deferred: kept in the
    ledger and delivered only after a rollback.
    """
    if dials.copy == COPY_DURABLE:
        old, new = Choice(OLD, BOTH, 0, False), Choice(NEW, BOTH, 0, False)
    elif dials.copy == COPY_BEST_EFFORT:
        old, new = Choice(OLD, 1 << OLD, 0, True), Choice(NEW, 1 << NEW, 0, True)
    else:
        keeps = carry_over and dials.copy == COPY_NONE and 0 < dials.weight < 100
        old = Choice(OLD, 1 << OLD, 0, False)
        new = Choice(NEW, BOTH, 1 << OLD, False) if keeps else Choice(NEW, 1 << NEW, 0, False)
    return Plan(round(dials.weight * BUCKETS / 100), old, new)


def keeps_deferred_below(dials: Dials) -> int:
    """What is deferred to old stays so for buckets below this one; that of all others is to be delivered now.

    A bucket that is old's (again) gets it, and with durable copy all do, since old is to be complete then.
    At `complete` everything is kept until its bound.
    """
    return 0 if dials.copy == COPY_DURABLE else plan(dials, carry_over=True).threshold


def takes_back(before: Dials, after: Dials) -> bool:
    """Does this change deliver deferred events? Then the ledger must apply it before any worker does."""
    return keeps_deferred_below(after) < keeps_deferred_below(before)
