"""Old is incomplete from the first event that new answered without owing it to old, and not before."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.control.completeness import Completeness
from proxy.control.link import WorkerStats
from proxy.control.state import LiveState, RouteState
from proxy.control.tally import Tally
from tests.control.fakes import Plane, worker_stats
from tests.control.helpers import make_settings

LIVE, COMPLETE = RouteState(50.0, "durable"), RouteState(100.0, "none")


def said(epoch: int, new: int) -> WorkerStats:
    return worker_stats(epoch=epoch, chosen={"events": (7, new)})


class Watch:
    """A clock, a tally, and one worker's reports in a row."""

    def __init__(self, tmp_path: Any) -> None:
        self.now = 1_700_000_000.0
        self.tally = Tally(tmp_path / "counters", 1)
        routes = {route.name: route for route in make_settings(tmp_path).routes}
        self.completeness = Completeness(routes, self.tally, lambda: self.now)
        self.last: WorkerStats | None = None

    def position(self, epoch: int, state: RouteState) -> None:
        self.completeness.take(LiveState(1, epoch, {"events": state}))

    def report(self, epoch: int, new: int) -> str:
        """The date after a report a second later."""
        self.now += 1
        stats = said(epoch, new)
        self.completeness.heard(0, self.last, stats)
        self.last = stats
        return self.tally.old_incomplete.get("events", "")


@pytest.fixture
def watch(tmp_path: Any) -> Watch:
    return Watch(tmp_path)


def test_the_position_alone_claims_nothing(watch: Watch) -> None:
    watch.position(1, LIVE)
    assert watch.report(1, 5) == ""
    watch.position(2, COMPLETE)
    assert watch.report(2, 5) == ""
    watch.position(3, LIVE)
    assert watch.report(3, 5) == ""
    assert watch.report(3, 9) == ""


def test_the_first_event_dates_it_no_later_than_it_came(watch: Watch) -> None:
    watch.position(1, LIVE)
    watch.report(1, 0)
    watch.position(2, COMPLETE)
    watch.report(2, 0)
    assert watch.report(2, 1) == "2023-11-14T22:13:22.000Z"  # the second report's moment
    assert watch.report(2, 2) == "2023-11-14T22:13:22.000Z"


def test_an_event_is_not_missed_when_the_position_is_over_before_the_report(watch: Watch) -> None:
    watch.position(1, LIVE)
    watch.report(1, 0)
    watch.position(2, COMPLETE)
    watch.report(2, 0)
    watch.position(3, LIVE)
    assert watch.report(3, 1)


def test_a_late_report_of_the_epoch_before_claims_nothing(watch: Watch) -> None:
    watch.position(1, LIVE)
    watch.report(1, 0)
    watch.position(2, COMPLETE)
    assert watch.report(1, 4) == ""


def test_a_worker_that_is_new_counts_from_nothing(watch: Watch) -> None:
    watch.position(1, COMPLETE)
    assert watch.report(1, 1)


def test_the_date_outlives_the_supervisor_but_not_the_route(watch: Watch, tmp_path: Any) -> None:
    watch.position(1, COMPLETE)
    since = watch.report(1, 1)
    watch.tally.old_incomplete["gone"] = since
    watch.tally.save()
    assert Watch(tmp_path).tally.old_incomplete == {"events": since}


@pytest.mark.asyncio
async def test_status_and_the_next_change_have_the_date(plane: Plane) -> None:
    await plane.change("stage", stage="complete")
    status = await plane.get("/api/v1/status")
    assert status["routes"][0]["old_incomplete_since"] is None
    assert status["warnings"] == []
    tally = plane.supervisor.instance.tally
    plane.workers[0].say(chosen={"events": (0, 1)})
    await plane.heard(lambda: tally.old_incomplete)
    since = tally.old_incomplete["events"]
    assert (await plane.get("/api/v1/status"))["routes"][0]["old_incomplete_since"] == since
    assert not (await plane.change("stage", stage="complete"))["changed"]
    await plane.change("rollback")
    assert plane.supervisor.instance.state is not None
    assert plane.supervisor.instance.state.routes["events"].old_incomplete_since == since
    await plane.restart()
    assert (await plane.get("/api/v1/status"))["routes"][0]["old_incomplete_since"] == since
