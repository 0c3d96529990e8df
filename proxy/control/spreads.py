"""Where each route's events lay in the last minutes, over all workers: for what a change would move.

Kept in slots of half a minute, of which the oldest is dropped; 40 KB for each slot and route. A new supervisor
begins anew, and says so by the window that it names.
"""

from __future__ import annotations

from array import array
from collections import deque
from math import ceil, floor
from typing import Final, NamedTuple

from proxy.control.link import RouteSpread
from proxy.control.views import KeysView, MovesView, SideMoves
from proxy.core.choose import BUCKETS, Plan
from proxy.core.event import OLD, SIDES
from proxy.core.moving import Estimate, moved

SLOT: Final = 30.0
"""Seconds."""
SLOTS: Final = 10


class Seen(NamedTuple):
    """What was seen of a route. seconds: how long, on the average of the workers; seen: the sample's bits."""

    seconds: float
    counts: array[int]
    seen: int


class _Slot:
    """Half a minute of one route. seconds: by worker, how much of it that worker has told."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.counts = _empty()
        self.seen = 0
        self.seconds: dict[int, float] = {}

    def take(self, worker: int, spread: RouteSpread) -> None:
        self.seconds[worker] = self.seconds.get(worker, 0.0) + spread.seconds
        self.seen |= int.from_bytes(spread.seen, "little")
        self.counts = _added(self.counts, spread.counts)


def _empty() -> array[int]:
    return array("I", bytes(4 * BUCKETS))


def _added(counts: array[int], more: bytes) -> array[int]:
    """The sums; counts that are not of all the buckets are dropped, since they can be of none."""
    others = array("I")
    if len(more) == others.itemsize * BUCKETS:
        others.frombytes(more)
        return array("I", [one + other for one, other in zip(counts, others, strict=True)])
    return counts


class Spreads:
    """All routes of an instance."""

    def __init__(self) -> None:
        self._slots: dict[str, deque[_Slot]] = {}

    def take(self, worker: int, spread: RouteSpread, now: float) -> None:
        """What a worker saw of a route. now: monotonic seconds."""
        slots = self._slots.setdefault(spread.route, deque())
        number = int(now // SLOT)
        if not slots or slots[-1].number != number:
            slots.append(_Slot(number))
        self._drop(slots, now)
        slots[-1].take(worker, spread)

    def seen(self, route: str, now: float) -> Seen | None:
        """The sum of the last minutes; None when no worker has told anything of them."""
        slots = self._slots.get(route, deque())
        self._drop(slots, now)
        workers = {worker for slot in slots for worker in slot.seconds}
        if not workers:
            return None
        told = sum(seconds for slot in slots for seconds in slot.seconds.values())
        counts, seen = _empty(), 0
        for slot in slots:
            counts = _added(counts, slot.counts.tobytes())
            seen |= slot.seen
        return Seen(told / len(workers), counts, seen)

    @staticmethod
    def _drop(slots: deque[_Slot], now: float) -> None:
        while slots and slots[0].number <= now // SLOT - SLOTS:
            slots.popleft()


def moves_view(seen: Seen | None, before: Plan, after: Plan) -> MovesView | None:
    """What a change would move, by what was seen lately; None when nothing was."""
    if seen is None or seen.seconds <= 0:
        return None
    moving = moved(before, after, seen.counts, seen.seen)
    return MovesView(
        window_seconds=round(seen.seconds, 1),
        to=SIDES[moving.to],
        buckets_percent=round(100 * moving.share, 2),
        keys=_keys(moving.keys),
        all_keys=_keys(moving.all_keys),
        rate=_rate(moving.events, seen.seconds),
        all_rate=_rate(moving.all_events, seen.seconds),
        sides={
            SIDES[side]: SideMoves(*(_rate(count, seen.seconds) for count in counts))
            for side, counts in enumerate(moving.sides, OLD)
        },
    )


def _keys(estimate: Estimate) -> KeysView:
    return KeysView(round(estimate.value), floor(estimate.low), ceil(estimate.high), estimate.is_least)


def _rate(events: int, seconds: float) -> float:
    return round(events / seconds, 3)
