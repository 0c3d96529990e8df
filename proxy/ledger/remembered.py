"""The ids of one route that were accepted within its dedupe window, in as little memory as plain Python allows.

    {digest of the id: fingerprint, status, when}     and the digests once more, oldest first

Pure: the time is given, wall clock in nanoseconds, for that is what receipts have. Two bytes objects and their
places in a dict and a deque are 150 to 250 bytes per id. When there are more than `most`, the oldest go before their
time. Many small dicts instead of one, because one of a million ids grows in one go: for 200 ms.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

_MILLISECOND: Final = 1_000_000
_STATUS_AT: Final = 16
_TIME_AT: Final = 18
_TIME_BYTES: Final = 6
_SHELVES: Final = 64
_TRIM: Final = 4
"""Expired ids that are let go with each new one: more than come, so that they cannot pile up."""


class Memory(NamedTuple):
    """What is remembered of an accepted event. status: what its client was told."""

    fingerprint: bytes
    status: int


class Remembered:
    """One route's window. seconds: how long an id is remembered; most: how many are."""

    def __init__(self, seconds: float, most: int) -> None:
        self.seconds = seconds
        self.most = most
        self.dropped = 0
        """Ids that went before their time, because there were too many."""
        self._milliseconds = int(seconds * 1000)
        self._shelves: list[dict[bytes, bytes]] = [{} for _ in range(_SHELVES)]
        self._count = 0
        self._order: deque[bytes] = deque()

    def __len__(self) -> int:
        """How many ids are in memory."""
        return self._count

    def _shelf(self, id: bytes) -> dict[bytes, bytes]:
        return self._shelves[id[0] % _SHELVES]

    def get(self, id: bytes, now_ns: int) -> Memory | None:
        """What is remembered of an id (its digest); None when it is new, or its window is over."""
        packed = self._shelf(id).get(id)
        if packed is None or self._is_over(packed, now_ns):
            return None
        return Memory(packed[:_STATUS_AT], int.from_bytes(packed[_STATUS_AT:_TIME_AT], "big"))

    def put(self, id: bytes, fingerprint: bytes, status: int, at_ns: int) -> None:
        """Remember an event that was accepted at `at_ns`."""
        shelf = self._shelf(id)
        if id in shelf:
            self._order.remove(id)  # its window is over, so it is among the first
        else:
            self._count += 1
        self._order.append(id)
        shelf[id] = self._pack(fingerprint, status, at_ns)
        self.trim(at_ns, _TRIM)
        while self._count > self.most:
            self._forget_oldest()
            self.dropped += 1

    def put_older(self, id: bytes, fingerprint: bytes, status: int, at_ns: int) -> None:
        """Remember one that is older than all others, unless the id is known or there is no more room."""
        shelf = self._shelf(id)
        if id in shelf:
            return
        if self.is_full:
            self.dropped += 1
            return
        shelf[id] = self._pack(fingerprint, status, at_ns)
        self._order.appendleft(id)
        self._count += 1

    @property
    def is_full(self) -> bool:
        """Would one more displace the oldest?"""
        return self._count >= self.most

    def trim(self, now_ns: int, count: int) -> None:
        """Let go of ids whose window is over, at most `count`."""
        while count and self._order and self._is_over(self._shelf(self._order[0])[self._order[0]], now_ns):
            self._forget_oldest()
            count -= 1

    def _pack(self, fingerprint: bytes, status: int, at_ns: int) -> bytes:
        return fingerprint + status.to_bytes(2, "big") + (at_ns // _MILLISECOND).to_bytes(_TIME_BYTES, "big")

    def _is_over(self, packed: bytes, now_ns: int) -> bool:
        return now_ns // _MILLISECOND - int.from_bytes(packed[_TIME_AT:], "big") >= self._milliseconds

    def _forget_oldest(self) -> None:
        id = self._order.popleft()
        del self._shelf(id)[id]
        self._count -= 1
