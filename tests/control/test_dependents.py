"""What still needs old: nothing of a route that is done, and everything that is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from config.model import Settings
from proxy.control.dependents import Seen, dependents
from proxy.control.status import status
from proxy.control.views import (
    AnswersView,
    DependentView,
    DrillView,
    EndpointView,
    RolloutAtAGlance,
    RouteView,
    SourceView,
    Status,
)
from tests.control.conftest import MakePlane
from tests.control.fakes import Plane, ledger_stats
from tests.control.helpers import CHECK, eventually, make_settings
from tests.control.test_recorder import sample

NOW = 1_700_000_000.0
LONG_AGO = Seen(NOW - 7200, NOW - 86_400)
ROUTE: dict[str, Any] = {"name": "events", "match": {"path": "/api/v1/events"}}


async def done(plane: Plane) -> Status:
    """The status of an instance whose one route is done with old."""
    await plane.change("stage", stage="complete")
    await told(plane)
    return msgspec.convert(msgspec.to_builtins(status(plane.supervisor.instance)), Status)


async def told(plane: Plane) -> None:
    """By the ledger: nobody is owed anything."""
    assert plane.ledger is not None
    plane.ledger.tell(ledger_stats())
    await eventually(lambda: plane.supervisor.instance.tally.ledger)


async def counted(plane: Plane, old: int, new: int) -> None:
    """A worker has reported so many events with this authority."""
    plane.workers[0].say(accepted={"events": old + new}, chosen={"events": (old, new)})
    await eventually(lambda: plane.supervisor.instance.tally.total().accepted["events"] == old + new)


def kinds(found: list[DependentView]) -> list[str]:
    return [each.kind for each in found]


class Scene:
    """settings and status that a test changes before it looks."""

    def __init__(self, settings: Settings, status: Status) -> None:
        self.settings = settings
        self.status = status
        self.seen = {"events": LONG_AGO}
        self.only: str | None = None

    @property
    def route(self) -> RouteView:
        return self.status.routes[0]

    def with_settings(self, **changes: Any) -> None:
        self.settings = make_settings(self.settings.state_dir, **changes)

    def look(self) -> list[DependentView]:
        return dependents(self.settings, self.status, self.seen, only=self.only, quiet=60.0, now=NOW)


async def scene(plane: Plane) -> Scene:
    return Scene(plane.settings, await done(plane))


def route_is(**changes: Any) -> Callable[[Scene], None]:
    return lambda scene: scene.with_settings(routes=[ROUTE | changes])


def view_is(**changes: Any) -> Callable[[Scene], None]:
    def change(scene: Scene) -> None:
        for name, value in changes.items():
            setattr(scene.route, name, value)

    return change


def side_is(side: str, **changes: Any) -> Callable[[Scene], None]:
    def change(scene: Scene) -> None:
        for name, value in changes.items():
            setattr(scene.route.sides[side], name, value)

    return change


def holds(side: str, **counts: int) -> Callable[[Scene], None]:
    def change(scene: Scene) -> None:
        for name, value in counts.items():
            setattr(scene.route.sides[side].ledger, name, value)

    return change


def seen(last: float | None, since: float | None) -> Callable[[Scene], None]:
    return lambda scene: scene.seen.update(events=Seen(last, since))


def verdict_fails(scene: Scene) -> None:
    scene.route.verdict.name, scene.route.verdict.reasons = "fail", ["too many errors"]


def answers_are_compared(scene: Scene) -> None:
    scene.status.answers = [AnswersView("events", True, 0, 0, 0, 0, 0, {}, [], None)]


def a_source_at(url: str) -> Callable[[Scene], None]:
    def change(scene: Scene) -> None:
        source = {"name": "home", "route": "events", "websocket": {"url": url}}
        route = ROUTE | {"key": "json:/id", "event_id": ["header:X-Event-Id"]}
        scene.with_settings(sources=[source], routes=[route])
        running = SourceView("home", "websocket", "events", "connected", None, 0, 0.0, 0, 0, 0, 0, 0, 0, 0, 0)
        scene.status.sources = [running]

    return change


def the_ledger_is(**changes: bool) -> Callable[[Scene], None]:
    def change(scene: Scene) -> None:
        for name, value in changes.items():
            setattr(scene.status.ledger, name, value)

    return change


def not_ready(scene: Scene) -> None:
    scene.status.ready, scene.status.not_ready = False, ["draining"]


ROLLOUT = RolloutAtAGlance("holding", 2, 3, 100.0, "", None, None)
DRILL = DrillView("events", True, "dead", 60.0, 0.0, "ann", "", "", None, None, None, None, 1, False)
ON_ITS_WAY = EndpointView("127.0.0.1:9", "up", 3, 1, None)
CASES: list[tuple[str, Callable[[Scene], None], str]] = [
    ("weight", view_is(weight_target=90.0, stage="split"), "old answers 10 % of the keys (stage split)"),
    ("copies", view_is(copy="durable", stage="rampdown"), "copies are durable"),
    ("pins", route_is(pins={"old": ["sensor.boiler"]}), "1 keys are pinned"),
    ("override", route_is(override="header:X-Side"), "header:X-Side"),
    ("keys", route_is(key_missing="old"), "without a key"),
    ("rollout", view_is(rollout=ROLLOUT), "holding at step 2 of 3"),
    ("drill", view_is(drill=DRILL), "a drill"),
    ("on-its-way", side_is("old", endpoints=[ON_ITS_WAY]), "3 events"),
    ("owed", holds("old", pending=7), "7 events are owed to old"),
    ("deferred", holds("old", deferred=5), "5 events are kept for old"),
    ("dead", holds("old", dead=2), "2 events are dead letters of old"),
    ("check", lambda scene: scene.with_settings(consistency=[CHECK]), "reads old's store"),
    ("answers", answers_are_compared, "compared"),
    ("health", side_is("new", breaker="open"), "its breaker is open"),
    ("health", side_is("new", healthy=False), "its health probe fails"),
    ("health", side_is("new", paused="401"), "paused: 401"),
    ("health", holds("new", pending=4), "4 events are owed to it"),
    ("health", holds("new", dead=1), "1 dead letters of it"),
    ("health", verdict_fails, "the verdict is fail: too many errors"),
    ("health", view_is(latched=True, latch_reason="breaker"), "latched: breaker"),
    ("last-event", seen(NOW - 30, NOW - 7200), "the last event went to old at 2023-11-14T22:12:50"),
    ("last-event", side_is("old", rate=0.5), "the last event went to old at 2023-11-14T22:13:20"),
    ("last-event", seen(None, None), "nothing is known of the past"),
    ("last-event", seen(None, NOW - 20), "the past is known since"),
    ("default", lambda scene: scene.with_settings(default="old"), "what no route matches is passed to old"),
    ("source", a_source_at("ws://127.0.0.1:9/stream"), "source home (connected) is subscribed to"),
    ("record", the_ledger_is(alive=False), "does not answer"),
    ("record", the_ledger_is(balanced=False), "not balanced"),
    ("instance", not_ready, "not ready: draining"),
]


@pytest.mark.asyncio
async def test_a_route_that_is_done_needs_old_for_nothing(plane: Plane) -> None:
    assert (await scene(plane)).look() == []


@pytest.mark.asyncio
async def test_each_dependent_is_told_alone_with_what_ends_it(plane: Plane) -> None:
    whole = await scene(plane)
    for kind, change, detail in CASES:
        each = Scene(whole.settings, msgspec.convert(msgspec.to_builtins(whole.status), Status))
        change(each)
        found = each.look()
        assert kinds(found) == [kind], (kind, found)
        assert detail in found[0].detail
        assert found[0].remedy


@pytest.mark.asyncio
async def test_a_history_that_begins_long_ago_without_an_event_is_quiet(plane: Plane) -> None:
    each = await scene(plane)
    each.seen["events"] = Seen(None, NOW - 7200)
    assert each.look() == []


@pytest.mark.asyncio
async def test_a_source_elsewhere_and_what_has_ended_need_nothing(plane: Plane) -> None:
    each = await scene(plane)
    a_source_at("ws://127.0.0.1:10/stream")(each)
    each.route.rollout = msgspec.structs.replace(ROLLOUT, phase="done")
    assert each.look() == []


@pytest.mark.asyncio
async def test_one_route_is_asked_for_alone(make_plane: MakePlane) -> None:
    orders = {"name": "orders", "match": {"path": "/orders"}, "old": "new", "new": "old"}
    plane = make_plane(routes=[ROUTE, orders], default="old")
    await plane.start()
    _, _ = await plane.ask("PUT", "/api/v1/routes/events/stage", {"stage": "complete"})
    await told(plane)
    each = Scene(plane.settings, status(plane.supervisor.instance))
    each.seen["orders"] = LONG_AGO
    assert kinds(each.look()) == ["weight", "default", "backend", "backend"]
    each.only = "events"
    assert each.look() == []
    each.only = "orders"
    assert kinds(each.look()) == ["weight"]


@pytest.mark.asyncio
async def test_the_operation_tells_what_was_sent_last_and_what_depends(plane: Plane) -> None:
    await plane.change("stage", stage="complete")
    await told(plane)
    found = await plane.get("/api/v1/decommission?route=events&quiet=300")
    assert (found["clear"], [each["kind"] for each in found["dependents"]]) == (False, ["last-event"])
    assert found["last_events"] == [{"route": "events", "backend": "old", "at": None, "ago_s": None, "since": None}]
    await sample(plane)
    await counted(plane, 3, 0)
    await sample(plane)
    found = await plane.get("/api/v1/decommission")
    [last] = found["last_events"]
    assert last["at"] is not None
    assert -10 <= last["ago_s"] <= 20
    plane.clock.now += 3600
    await counted(plane, 3, 9)
    await sample(plane)
    assert plane.ledger is not None
    plane.ledger.tell(ledger_stats())
    await counted(plane, 3, 9)
    plane.workers[1].say()
    await plane.until_ready()
    found = await plane.get("/api/v1/decommission")
    assert (found["clear"], found["dependents"], found["quiet_s"]) == (True, [], 60)
    assert found["last_events"][0]["at"] == last["at"]
    assert found["last_events"][0]["ago_s"] >= 3590


@pytest.mark.asyncio
async def test_what_cannot_be_is_refused(plane: Plane) -> None:
    assert (await plane.ask("GET", "/api/v1/decommission?route=nobody"))[0] == 404
    assert (await plane.ask("GET", "/api/v1/decommission?quiet=soon"))[0] == 422
    plane.places.figures.write_bytes(b"no database" * 100)
    code, problem = await plane.ask("GET", "/api/v1/decommission")
    assert code == 503
    assert "figures cannot be read" in problem["detail"]
