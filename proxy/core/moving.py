"""What a change of a route's dials would move, from how its events and keys lie over the buckets."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log, sqrt
from typing import Final, NamedTuple

from proxy.core.choose import BUCKETS, Choice, Plan
from proxy.core.event import NEW, OLD
from proxy.core.spread import SAMPLE_BITS, SAMPLED

_Z: Final = 1.96
"""Of a 95 % interval."""
_CROWDED: Final = 5.0
"""Keys per bucket from which the sample tells more: there counting occupied buckets has an error of 2.4 %."""
_SAMPLED_BUCKETS: Final = len(range(0, BUCKETS, SAMPLED + 1))


class Estimate(NamedTuple):
    """A number of keys and its 95 % interval. is_least: there are more than can be told apart."""

    value: float
    low: float
    high: float
    is_least: bool = False


class Moving(NamedTuple):
    """What changes its authority. share: of the buckets, 0-1; events: of those counted; keys: estimates.

    sides: events that (old, new) would have got (before, after).
    """

    share: float
    to: int
    events: int
    all_events: int
    keys: Estimate
    all_keys: Estimate
    sides: tuple[tuple[int, int], tuple[int, int]]


class Density(NamedTuple):
    """Keys per bucket, and the standard deviation of that."""

    mean: float
    deviation: float
    is_least: bool = False


def occupied_density(slots: int, occupied: int) -> Density:
    """Keys per slot when so many slots of an even hash are occupied (linear counting)."""
    is_full = occupied >= slots
    mean = -log(1 - (occupied - 0.5 if is_full else occupied) / slots)
    return Density(mean, sqrt(max(exp(mean) - mean - 1, 0.0) / slots), is_full)


def density(counts: Sequence[int], seen: int) -> Density:
    """Keys per bucket. seen: the sample's bits as one number."""
    direct = occupied_density(len(counts), sum(1 for count in counts if count))
    if direct.mean < _CROWDED:
        return direct
    sample = occupied_density(SAMPLE_BITS, seen.bit_count())
    keys = sample.mean * SAMPLE_BITS
    # The sampled buckets are a part of all: that they hold this many keys is chance, too.
    deviation = sqrt((sample.deviation * SAMPLE_BITS) ** 2 + keys)
    return Density(keys / _SAMPLED_BUCKETS, deviation / _SAMPLED_BUCKETS, sample.is_least)


def estimate(occupied: int, keys: Density) -> Estimate:
    """How many keys some of the buckets hold. occupied: how many of them had an event.

    An occupied bucket holds at least one key, and by Poisson's law the more the denser the keys lie; where
    they lie thin, this is a plain count.
    """
    if occupied == 0:
        return Estimate(0.0, 0.0, 0.0)
    mean, empty = keys.mean, exp(-keys.mean)
    each = mean / (1 - empty)
    slope = (1 - empty - mean * empty) / (1 - empty) ** 2
    chance = occupied * max(each * (1 + mean - each), 0.0)
    spread = _Z * sqrt(chance + (occupied * slope * keys.deviation) ** 2)
    value = occupied * each
    return Estimate(value, max(value - spread, float(occupied)), value + spread, keys.is_least)


def moved(before: Plan, after: Plan, counts: Sequence[int], seen: int) -> Moving:
    """What the change from one plan to another moves. counts: events by bucket; seen: the sample's bits."""
    low, high = sorted((before.threshold, after.threshold))
    keys = density(counts, seen)
    part = counts[low:high]
    occupied = sum(1 for count in part if count)
    everything = sum(1 for count in counts if count)
    return Moving(
        share=(high - low) / BUCKETS,
        to=NEW if after.threshold >= before.threshold else OLD,
        events=sum(part),
        all_events=sum(counts),
        keys=estimate(occupied, keys),
        all_keys=estimate(everything, keys),
        sides=(
            (_events_at(OLD, before, counts), _events_at(OLD, after, counts)),
            (_events_at(NEW, before, counts), _events_at(NEW, after, counts)),
        ),
    )


def _events_at(side: int, plan: Plan, counts: Sequence[int]) -> int:
    """Events that a side gets at once: as authority or as a copy, owed or best effort, but not what is deferred."""
    at_new = sum(counts[: plan.threshold]) if _gets(side, plan.new) else 0
    return at_new + (sum(counts[plan.threshold :]) if _gets(side, plan.old) else 0)


def _gets(side: int, choice: Choice) -> bool:
    return choice.shadow or bool((choice.owed & ~choice.deferred) >> side & 1)
