"""Where events lay in the last minutes, summed over workers and time."""

from __future__ import annotations

from array import array

import pytest

from proxy.control.link import RouteSpread
from proxy.control.spreads import SLOT, SLOTS, Seen, Spreads, moves_view
from proxy.core.choose import BUCKETS, plan
from proxy.core.routing import Dials
from tests.control.fakes import Plane


def spread(
    counts: dict[int, int] | None = None, *, seconds: float = 10.0, seen: int = 0, route: str = "events"
) -> RouteSpread:
    """What a worker tells. counts: by bucket."""
    listed = array("I", bytes(4 * BUCKETS))
    for bucket, count in (counts or {}).items():
        listed[bucket] = count
    return RouteSpread(route, seconds, listed.tobytes() if counts else b"", seen.to_bytes(8192, "little"))


def found(spreads: Spreads, now: float, route: str = "events") -> Seen:
    seen = spreads.seen(route, now)
    assert seen is not None
    return seen


def test_workers_are_added_and_their_time_is_averaged() -> None:
    spreads = Spreads()
    spreads.take(0, spread({1: 3, 2: 1}, seen=0b1), 5.0)
    spreads.take(1, spread({1: 4}, seconds=6.0, seen=0b110), 6.0)
    spreads.take(0, spread(), 15.0)
    seen = found(spreads, 16.0)
    assert (seen.seconds, list(seen.counts[:4]), seen.seen) == (13.0, [0, 7, 1, 0], 0b111)
    assert spreads.seen("other", 16.0) is None


def test_what_is_older_than_the_window_is_dropped() -> None:
    spreads = Spreads()
    spreads.take(0, spread({1: 3}, seen=1), 5.0)
    spreads.take(0, spread({1: 4}, seen=2), 5.0 + SLOT)
    last = SLOT * SLOTS
    assert found(spreads, last - 0.1).counts[1] == 7
    assert (found(spreads, last + 0.1).counts[1], found(spreads, last + 0.1).seen) == (4, 2)
    assert spreads.seen("events", last + SLOT + 0.1) is None


def test_memory_is_bounded_however_long_it_runs() -> None:
    spreads = Spreads()
    for second in range(0, 3_000, 10):
        spreads.take(0, spread({9: 1}), float(second))
    assert len(spreads._slots["events"]) == SLOTS
    assert found(spreads, 2_999.0).seconds == pytest.approx(SLOT * SLOTS)


def test_counts_of_another_length_are_none() -> None:
    spreads = Spreads()
    spreads.take(0, RouteSpread("events", 10.0, b"1234", b""), 5.0)
    assert sum(found(spreads, 6.0).counts) == 0


def test_no_time_no_rate() -> None:
    nothing = plan(Dials(), carry_over=True)
    assert moves_view(None, nothing, nothing) is None
    assert moves_view(Seen(0.0, array("I", bytes(4 * BUCKETS)), 0), nothing, nothing) is None


@pytest.mark.asyncio
async def test_a_dry_run_says_what_would_move(plane: Plane) -> None:
    assert (await plane.change("stage", stage="live", weight=25, dry_run=True))["moves"] is None
    for worker, counts in zip(plane.workers, ({100: 90, 2500: 10}, {100: 20, 9999: 80}), strict=True):
        assert worker.link.send(spread(counts))
        assert worker.link.send(spread({1: 1}, route="gone"))
    instance = plane.supervisor.instance

    def told() -> bool:
        seen = instance.spreads.seen("events", plane.clock.now)
        return seen is not None and sum(seen.counts) == 200

    await plane.heard(told)
    assert (await plane.change("stage", stage="live", weight=25, dry_run=True))["moves"] == {
        "window_seconds": 10.0,
        "to": "new",
        "buckets_percent": 25.0,
        "keys": {"estimate": 1, "low": 1, "high": 2, "is_least": False},
        "all_keys": {"estimate": 3, "low": 3, "high": 4, "is_least": False},
        "rate": 11.0,
        "all_rate": 20.0,
        "sides": {"old": {"before": 20.0, "after": 20.0}, "new": {"before": 0.0, "after": 20.0}},
    }
    assert (await plane.change("stage", stage="live", weight=25))["moves"] is None
    back = (await plane.change("rollback", dry_run=True))["moves"]
    assert (back["to"], back["rate"]) == ("old", 11.0)
    assert instance.spreads.seen("gone", plane.clock.now) is None
