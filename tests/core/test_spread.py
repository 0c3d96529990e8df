"""How events and keys lie over the buckets."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from proxy.core.choose import BUCKETS, bucket_of
from proxy.core.spread import SAMPLE_BITS, SAMPLED, Spread

SEED = 7


def counted(keys: list[str]) -> Spread:
    spread = Spread(SEED)
    for key in keys:
        spread.count(bucket_of(key, SEED), key)
    return spread


@given(st.lists(st.text(max_size=4), max_size=50))
def test_every_event_is_counted_at_its_bucket(keys: list[str]) -> None:
    counts, seen = counted(keys).take()
    assert len(counts) == BUCKETS
    assert {i: n for i, n in enumerate(counts) if n} == Counter(bucket_of(key, SEED) for key in keys)
    sampled = {key for key in keys if bucket_of(key, SEED) & SAMPLED == 0}
    assert int.from_bytes(seen, "little").bit_count() <= len(sampled)
    assert (int.from_bytes(seen, "little") != 0) == bool(sampled)


def test_the_bits_are_those_of_the_keys_however_often_they_come() -> None:
    keys = [key for key in map(str, range(20_000)) if bucket_of(key, SEED) & SAMPLED == 0]
    assert len(keys) > 200
    once = counted(keys).take()[1]
    assert counted(keys + keys[::-1] + [keys[0]] * 9).take()[1] == once
    assert len(once) * 8 == SAMPLE_BITS
    assert int.from_bytes(once, "little").bit_count() >= len(keys) - 3  # two may share a bit


def test_what_was_taken_is_counted_anew() -> None:
    key = next(key for key in map(str, range(1_000)) if bucket_of(key, SEED) & SAMPLED == 0)
    spread = counted([key])
    first = spread.take()
    assert spread.take() == ([0] * BUCKETS, bytes(SAMPLE_BITS // 8))
    spread.count(bucket_of(key, SEED), key)  # the key that came last before is sampled again
    assert spread.take() == first
