"""How a route's events and keys lie over the buckets: what a change of weight would move.

The worker counts, for 10 to 20 ns per event (compiled); the rest is worked out when somebody asks:

    event --> Spread.count(bucket) --every 10 s--> counts by bucket --> sums over workers and minutes --> moved()

Events per bucket are counted, because they are skewed: one key may have half of them. Keys need no counting:
the hash spreads them evenly, so the share of occupied buckets tells how many there are (linear counting:
Whang, Vander-Zanden, Taylor, ACM TODS 1990). That ends when nearly every bucket is occupied, some 50,000
keys. So each key of every 64th bucket also sets one of 65,536 bits, by the rest of its hash: the same
estimate, of a sample of the keys, which goes to some 20 million.
"""

from __future__ import annotations

from typing import Final

from xxhash import xxh64_intdigest

from proxy.core.choose import BUCKETS

SAMPLED: Final = 63
"""Buckets of which these bits are 0 are sampled: every 64th, from 0 on."""
SAMPLE_BITS: Final = 65_536


class Spread:
    """One route's events since it was taken last. counts: by bucket; seen: bits, set by keys of sampled buckets."""

    __slots__ = ("_last", "counts", "seed", "seen")

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.counts: list[int] = [0] * BUCKETS
        self.seen: bytearray = bytearray(SAMPLE_BITS // 8)
        self._last = ""

    def count(self, bucket: int, key: str) -> None:
        """Count one event. bucket: of its key."""
        self.counts[bucket] += 1
        # One key may be most of the traffic, and its bucket a sampled one: it is hashed once.
        if bucket & SAMPLED == 0 and key != self._last:
            self._sample(key)

    def _sample(self, key: str) -> None:
        # The bucket was the remainder of this hash, so the quotient is as good as another hash.
        bit = int(xxh64_intdigest(key.encode(), self.seed) // BUCKETS) % SAMPLE_BITS
        self.seen[bit >> 3] |= 1 << (bit & 7)
        self._last = key

    def take(self) -> tuple[list[int], bytes]:
        """Counts and bits, which begin anew."""
        counts, seen = self.counts, bytes(self.seen)
        self.counts = [0] * BUCKETS
        self.seen = bytearray(SAMPLE_BITS // 8)
        self._last = ""
        return counts, seen
