"""What a change would move: events are counted, keys estimated."""

from __future__ import annotations

import random
from math import inf

import pytest

from proxy.core.choose import BUCKETS, bucket_of, plan
from proxy.core.event import NEW, OLD
from proxy.core.moving import Moving, density, estimate, moved, occupied_density
from proxy.core.routing import Dials
from proxy.core.spread import SAMPLE_BITS, SAMPLED, Spread
from tests.conftest import SOAK

SEED = 11


def spread_of(keys: list[str]) -> tuple[list[int], int]:
    spread = Spread(SEED)
    for key in keys:
        spread.count(bucket_of(key, SEED), key)
    counts, seen = spread.take()
    return counts, int.from_bytes(seen, "little")


def spread_of_many(keys: int, chance: random.Random) -> tuple[list[int], int]:
    """The same for hashes drawn at random instead of keys, which a million would take too long for."""
    counts, seen = [0] * BUCKETS, 0
    bits = bytearray(SAMPLE_BITS)
    for _ in range(keys):
        hashed = chance.getrandbits(64)
        bucket = hashed % BUCKETS
        counts[bucket] += 1
        if bucket & SAMPLED == 0:
            bits[hashed // BUCKETS % SAMPLE_BITS] = 1
    for bit, is_set in enumerate(bits):
        seen |= is_set << bit
    return counts, seen


def change(before: Dials, after: Dials, counts: list[int], seen: int = 0, *, carry_over: bool = True) -> Moving:
    return moved(plan(before, carry_over=carry_over), plan(after, carry_over=carry_over), counts, seen)


@pytest.mark.parametrize(("low", "high"), [(0.0, 25.0), (25.0, 0.0), (10.0, 10.01), (0.0, 100.0), (30.0, 30.0)])
def test_events_are_exact_and_few_keys_nearly_so(low: float, high: float) -> None:
    keys = [f"k{i}" for i in range(200)]
    events = keys + ["k7"] * 500
    counts, seen = spread_of(events)
    moving = change(Dials(low), Dials(high), counts, seen)
    cut = sorted((round(low * 100), round(high * 100)))
    going = {key for key in keys if cut[0] <= bucket_of(key, SEED) < cut[1]}
    assert moving.events == sum(key in going for key in events)
    assert moving.all_events == 700
    assert moving.share == pytest.approx(abs(high - low) / 100)
    assert moving.to == (NEW if high >= low else OLD)
    assert moving.keys.low <= len(going) <= moving.keys.high
    assert moving.keys.high - moving.keys.low <= 0.1 * len(going) + 4
    assert moving.all_keys.low <= 200 <= moving.all_keys.high


@pytest.mark.parametrize(
    ("keys", "error"), [(1_000, 0.02), (10_000, 0.02), (45_000, 0.05), (60_000, 0.1), (1_000_000, 0.04)]
)
def test_the_interval_holds_the_number_of_keys(keys: int, error: float) -> None:
    """95 % of the time; and it is narrow enough to be of use."""
    rounds = 40 if SOAK else 12 if keys < 100_000 else 1
    chance = random.Random(keys)
    held = held_part = 0
    for _ in range(rounds):
        counts, seen = spread_of_many(keys, chance)
        whole = change(Dials(0), Dials(100), counts, seen).all_keys
        held += whole.low <= keys <= whole.high
        assert whole.high - whole.low < 2 * error * keys
        assert not whole.is_least
        part = change(Dials(0), Dials(20), counts, seen).keys
        held_part += part.low <= sum(counts[:2000]) <= part.high  # each hash came once: an event is a key
    assert held >= 0.8 * rounds
    assert held_part >= 0.8 * rounds


def test_more_keys_than_can_be_told_apart() -> None:
    found = change(Dials(0), Dials(50), [3] * BUCKETS, (1 << SAMPLE_BITS) - 1)
    assert found.all_keys.is_least
    assert found.keys.is_least
    assert 10e6 < found.all_keys.low < found.all_keys.high < inf


def test_no_event_no_key() -> None:
    found = change(Dials(0), Dials(50), [0] * BUCKETS)
    assert (found.events, found.keys.value, found.all_keys.high) == (0, 0.0, 0.0)


def test_an_occupied_bucket_holds_a_key() -> None:
    full = occupied_density(10, 10)
    assert full.is_least
    assert estimate(10, full).low >= 10
    assert density([1] + [0] * (BUCKETS - 1), 0).mean == pytest.approx(1e-4, rel=1e-3)


DURABLE, NONE, BEST = "durable", "none", "best-effort"


@pytest.mark.parametrize(
    ("before", "after", "old", "new"),
    [
        (Dials(0, NONE), Dials(0, DURABLE), (10, 10), (0, 10)),  # off -> dualwrite: every event to new as well
        (Dials(0, NONE), Dials(0, BEST), (10, 10), (0, 10)),  # off -> shadow
        (Dials(0, DURABLE), Dials(25, DURABLE), (10, 10), (10, 10)),  # dualwrite -> live: who answers alone
        (Dials(0, NONE), Dials(25, NONE), (10, 6), (0, 4)),  # off -> split: what is deferred old gets later
        (Dials(100, DURABLE), Dials(100, NONE), (10, 0), (10, 10)),  # rampdown -> complete
        (Dials(25, NONE), Dials(0, NONE), (6, 10), (4, 0)),
    ],
)
def test_what_each_side_gets(before: Dials, after: Dials, old: tuple[int, int], new: tuple[int, int]) -> None:
    counts = [0] * BUCKETS
    counts[0], counts[2499], counts[2500], counts[9999] = 1, 3, 1, 5
    assert change(before, after, counts).sides == (old, new)
    assert change(before, after, counts, carry_over=False).sides == (old, new)
