"""Key to bucket to choice: even, sticky, the same everywhere, and one way when the weight rises."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.choose import BUCKETS, Choice, bucket_of, plan, seed_of, takes_back
from proxy.core.event import BOTH, NEW, OLD
from proxy.core.routing import COPY_BEST_EFFORT, COPY_DURABLE, COPY_NONE, Dials

ONLY_OLD, ONLY_NEW = 1 << OLD, 1 << NEW
KEYS = [f"sensor.room_{number}" for number in range(100_000)]
SALTS = ("crossfade", "crossfade-2", "salt-of-a-test")

weights = st.integers(0, 10_000).map(lambda hundredths: hundredths / 100)
copies = st.sampled_from((COPY_NONE, COPY_BEST_EFFORT, COPY_DURABLE))

# These must never change: replicas and versions have to agree on them in the middle of a migration.
GOLDEN = """
    crossfade       1350 2472 7733  795 1180  242
    crossfade-2     5322 1707  500 5319 1006 1688
    salt-of-a-test  3953 5495 2574 3697 5109 4857
"""
GOLDEN_KEYS = ("", "a", "sensor.kitchen", "sensor.küche", "light.hall", "2001:db8::1")


@pytest.mark.parametrize("line", GOLDEN.strip().splitlines())
def test_every_replica_finds_the_same_bucket(line: str) -> None:
    salt, *buckets = line.split()
    assert [bucket_of(key, seed_of(salt)) for key in GOLDEN_KEYS] == [int(bucket) for bucket in buckets]


@pytest.mark.parametrize(
    ("text", "digest"), [("", 0xEF46DB3751D8E999), ("a", 0xD24EC4F1A98C6E5B), ("abc", 0x44BC2CF5AD770999)]
)
def test_the_hash_is_xxh64(text: str, digest: int) -> None:
    assert seed_of(text) == digest
    assert bucket_of(text, 0) == digest % BUCKETS


@given(st.text(max_size=200), st.text(max_size=40))
def test_a_bucket_is_in_range_and_a_key_keeps_it(key: str, salt: str) -> None:
    bucket = bucket_of(key, seed_of(salt))
    assert 0 <= bucket < BUCKETS
    assert bucket_of(key, seed_of(salt)) == bucket


@pytest.mark.parametrize("salt", SALTS)
def test_buckets_are_evenly_filled(salt: str) -> None:
    seed = seed_of(salt)
    counts = Counter(bucket_of(key, seed) for key in KEYS)
    expected = len(KEYS) / BUCKETS
    chi_square = sum((counts[bucket] - expected) ** 2 / expected for bucket in range(BUCKETS))
    freedom = BUCKETS - 1
    # Near normal with this mean and a variance of twice that: four standard deviations either way.
    assert abs(chi_square - freedom) < 4 * (2 * freedom) ** 0.5


@pytest.mark.parametrize("weight", [0.5, 1.0, 10.0, 25.0, 50.0, 99.0])
@pytest.mark.parametrize("salt", SALTS)
def test_new_gets_its_share_of_the_keys(salt: str, weight: float) -> None:
    seed = seed_of(salt)
    chosen = plan(Dials(weight, COPY_DURABLE), carry_over=True)
    at_new = sum(chosen.choose(bucket_of(key, seed)).authority == NEW for key in KEYS)
    expected = len(KEYS) * weight / 100
    rest = len(KEYS) - expected
    chi_square = (at_new - expected) ** 2 / expected + (len(KEYS) - at_new - rest) ** 2 / rest
    assert chi_square < 10.83  # one degree of freedom, 0.1 %


def test_another_salt_deals_the_keys_anew() -> None:
    one, other = (seed_of(salt) for salt in SALTS[:2])
    cells = Counter((bucket_of(key, one) < BUCKETS // 2, bucket_of(key, other) < BUCKETS // 2) for key in KEYS)
    expected = len(KEYS) / 4
    assert len(cells) == 4
    assert sum((count - expected) ** 2 / expected for count in cells.values()) < 16.27  # three degrees, 0.1 %
    assert sum(bucket_of(key, one) == bucket_of(key, other) for key in KEYS) < 50  # 10 by chance


@given(st.integers(0, BUCKETS - 1), weights, weights, copies, copies, st.booleans())
def test_raising_the_weight_only_moves_buckets_from_old_to_new(
    bucket: int, one: float, other: float, copy: str, later_copy: str, carry_over: bool
) -> None:
    low, high = sorted((one, other))
    before = plan(Dials(low, copy), carry_over=carry_over).choose(bucket).authority
    after = plan(Dials(high, later_copy), carry_over=carry_over).choose(bucket).authority
    assert (before, after) != (NEW, OLD)


@given(st.text(max_size=30), st.lists(weights, min_size=2, max_size=10).map(sorted))
def test_a_key_changes_side_at_most_once_while_the_weight_rises(key: str, rising: list[float]) -> None:
    bucket = bucket_of(key, seed_of("crossfade"))
    sides = [plan(Dials(weight, COPY_DURABLE), carry_over=True).choose(bucket).authority for weight in rising]
    assert sides == sorted(sides)


@given(weights, copies)
def test_the_weight_is_exact_to_a_hundredth_of_a_percent(weight: float, copy: str) -> None:
    chosen = plan(Dials(weight, copy), carry_over=False)
    at_new = sum(chosen.choose(bucket).authority == NEW for bucket in range(BUCKETS))
    assert at_new == round(weight * 100)


def test_the_ends_of_the_scale_are_whole() -> None:
    nothing, everything = (plan(Dials(weight, COPY_DURABLE), carry_over=True) for weight in (0.0, 100.0))
    assert {nothing.choose(bucket).authority for bucket in range(BUCKETS)} == {OLD}
    assert {everything.choose(bucket).authority for bucket in range(BUCKETS)} == {NEW}


# The stages: what an event of a bucket at old, and one at new, is owed to.
SCRIPT = [
    # stage        weight copy              carry  at old                            at new
    ("off", 0.0, COPY_NONE, True, Choice(OLD, ONLY_OLD, 0, False), None),
    ("shadow", 0.0, COPY_BEST_EFFORT, True, Choice(OLD, ONLY_OLD, 0, True), None),
    ("dualwrite", 0.0, COPY_DURABLE, True, Choice(OLD, BOTH, 0, False), None),
    ("live", 40.0, COPY_DURABLE, True, Choice(OLD, BOTH, 0, False), Choice(NEW, BOTH, 0, False)),
    ("split", 40.0, COPY_NONE, True, Choice(OLD, ONLY_OLD, 0, False), Choice(NEW, BOTH, ONLY_OLD, False)),
    ("split", 40.0, COPY_NONE, False, Choice(OLD, ONLY_OLD, 0, False), Choice(NEW, ONLY_NEW, 0, False)),
    ("rampdown", 100.0, COPY_DURABLE, True, None, Choice(NEW, BOTH, 0, False)),
    ("complete", 100.0, COPY_NONE, False, None, Choice(NEW, ONLY_NEW, 0, False)),
    ("complete", 100.0, COPY_NONE, True, None, Choice(NEW, ONLY_NEW, 0, False)),
]


@pytest.mark.parametrize(("stage", "weight", "copy", "carry_over", "at_old", "at_new"), SCRIPT)
def test_what_a_stage_owes(
    stage: str, weight: float, copy: str, carry_over: bool, at_old: Choice | None, at_new: Choice | None
) -> None:
    dials = Dials(weight, copy)
    chosen = plan(dials, carry_over=carry_over)
    made = {chosen.choose(bucket) for bucket in range(BUCKETS)}
    assert dials.stage == stage
    assert made == {choice for choice in (at_old, at_new) if choice is not None}


@given(weights, copies, st.booleans(), st.integers(0, BUCKETS - 1))
def test_every_choice_makes_sense(weight: float, copy: str, carry_over: bool, bucket: int) -> None:
    choice = plan(Dials(weight, copy), carry_over=carry_over).choose(bucket)
    mine = 1 << choice.authority
    assert choice.owed & mine, "the authority is always owed the event"
    assert choice.deferred & ~choice.owed == 0, "deferred is a part of owed"
    assert not choice.deferred & mine, "the authority is never deferred"
    assert choice.shadow == (copy == COPY_BEST_EFFORT)
    assert not (choice.shadow and choice.owed == BOTH), "a best effort copy is not owed"
    if copy == COPY_DURABLE:
        assert (choice.owed, choice.deferred) == (BOTH, 0), "both sides are complete at every weight"


@pytest.mark.parametrize(
    ("before", "after", "is_back"),
    [
        (Dials(50.0), Dials(25.0), True),
        (Dials(50.0), Dials(0.0), True),
        (Dials(100.0), Dials(50.0), True),
        (Dials(50.0), Dials(50.0, COPY_DURABLE), True),
        (Dials(100.0), Dials(100.0, COPY_DURABLE), True),
        (Dials(25.0), Dials(50.0), False),
        (Dials(50.0), Dials(100.0), False),
        (Dials(50.0), Dials(50.0), False),
        (Dials(50.0, COPY_DURABLE), Dials(25.0, COPY_DURABLE), False),
        (Dials(0.0, COPY_DURABLE), Dials(50.0), False),
    ],
)
def test_which_changes_deliver_what_was_deferred(before: Dials, after: Dials, is_back: bool) -> None:
    assert takes_back(before, after) is is_back
