"""The split check: event for event, by what workers tell."""

from __future__ import annotations

from array import array

import pytest

from proxy.control.link import RouteSpread
from proxy.control.splits import REMEMBERED, Splits
from proxy.core.choose import BUCKETS, plan
from proxy.core.routing import Dials
from tests.control.fakes import Plane
from tests.control.helpers import eventually

HALF = plan(Dials(50.0, "durable"), carry_over=True)


def spread(chosen_new: int, epoch: int = 1, **events: int) -> RouteSpread:
    """events: by bucket, such as b0=5."""
    counts = array("I", bytes(4 * BUCKETS))
    for name, number in events.items():
        counts[int(name[1:])] = number
    return RouteSpread("events", 10.0, counts.tobytes(), b"", chosen_new, epoch)


def test_each_event_is_where_its_bucket_is() -> None:
    splits = Splits()
    assert splits.take(0, spread(7, b0=5, b4999=2, b5000=3, b9999=1), HALF, 0.0) == 0
    assert splits.take(0, RouteSpread("events", 10.0, b"", b"", 0, 1), HALF, 0.0) == 0
    assert splits.doubt("events", 0.0) == ""


@pytest.mark.parametrize(("chosen", "wrong", "said"), [(8, 1, "1 too many of 11"), (4, 3, "3 too few of 11")])
def test_what_is_elsewhere_is_a_doubt_for_a_minute(chosen: int, wrong: int, said: str) -> None:
    splits = Splits()
    assert splits.take(1, spread(chosen, b0=5, b4999=2, b5000=3, b9999=1), HALF, 100.0) == wrong
    assert splits.doubt("events", 100.0 + REMEMBERED) == f"worker 1 gave new {said} events, by their buckets"
    assert splits.doubt("events", 100.1 + REMEMBERED) == ""
    assert splits.doubt("other", 100.0) == ""


@pytest.mark.asyncio
async def test_a_wrong_split_is_told_unless_the_dials_were_turned(plane: Plane) -> None:
    await plane.change("stage", stage="live", weight=50)
    epoch = plane.supervisor.instance.epoch
    own = plane.supervisor.instance.tally.own
    plane.workers[0].link.send(spread(9, 0, b0=5))
    plane.workers[0].link.send(spread(9, epoch - 1, b0=5))
    plane.workers[0].link.send(spread(5, epoch, b0=5))
    plane.workers[1].link.send(spread(7, epoch, b0=5))
    await eventually(lambda: own["misplaced_events"], "the report")
    assert own["misplaced_events"] == 2
    said = "events: worker 1 gave new 2 too many of 5 events, by their buckets"
    assert said in (await plane.get("/api/v1/status"))["warnings"]
