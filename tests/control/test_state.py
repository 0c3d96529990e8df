"""Live state: how it changes, and how it is fitted to the configuration."""

from __future__ import annotations

import pytest

from proxy.control.state import LiveState, RouteState, leaves_old_incomplete, reconcile
from proxy.core.errors import RefuseToStart
from proxy.core.routing import Dials, rearmed, rolled_back, with_stage
from tests.control.helpers import make_settings


def test_the_latch_keeps_its_first_reason_until_rearmed() -> None:
    state = RouteState().turned(with_stage(Dials(), "live", 25))
    latched = state.turned(rolled_back(state.dials, latch=True), reason="breaker")
    assert latched.latched
    assert latched.latch_reason == "breaker"
    again = latched.turned(rolled_back(latched.dials, latch=True), reason="error rate")
    assert again.latch_reason == "breaker"
    open_again = again.turned(rearmed(again.dials))
    assert not open_again.latched
    assert open_again.latch_reason == ""


@pytest.mark.parametrize(
    ("stage", "weight", "carry_over", "incomplete"),
    [
        ("off", None, True, False),
        ("shadow", None, False, False),
        ("dualwrite", None, False, False),
        ("live", 50, False, False),
        ("rampdown", None, False, False),
        ("split", 50, True, False),
        ("split", 50, False, True),
        ("complete", None, True, True),
        ("complete", None, False, True),
    ],
)
def test_when_old_becomes_incomplete(stage: str, weight: float | None, carry_over: bool, incomplete: bool) -> None:
    dials = with_stage(Dials(), stage, weight)
    assert leaves_old_incomplete(dials, carry_over=carry_over) is incomplete


def test_a_turn_keeps_what_is_known_of_olds_completeness() -> None:
    state = RouteState(100.0, "none", old_incomplete_since="2026-01-01T00:00:00Z")
    assert state.turned(rolled_back(state.dials)).old_incomplete_since == "2026-01-01T00:00:00Z"
    assert RouteState().turned(with_stage(Dials(), "complete")).old_incomplete_since == ""


def test_routing_carries_only_what_workers_need() -> None:
    state = LiveState(1, 7, {"events": RouteState(weight=5.0, copy="durable", latch_reason="")})
    assert state.routing.epoch == 7
    assert state.routing.routes == {"events": Dials(5.0, "durable", False)}


def test_new_routes_get_their_stage_and_missing_ones_go() -> None:
    settings = make_settings(
        "/x",
        routes=[
            {"name": "kept", "match": {"path": "/a"}, "stage": "off"},
            {"name": "fresh", "match": {"path": "/b"}, "stage": "live", "weight": 25},
        ],
    )
    kept = RouteState(weight=50.0, copy="durable")
    before = LiveState(1, 3, {"kept": kept, "gone": RouteState()})
    wanted = reconcile(settings, before)
    assert wanted.routes == {"kept": kept, "fresh": RouteState(weight=25.0, copy="durable")}
    assert wanted.added == ("fresh",)
    assert wanted.dropped == ("gone",)


def test_an_impossible_first_stage_is_refused_by_route() -> None:
    settings = make_settings("/x", routes=[{"name": "events", "match": {"path": "/a"}, "stage": "live"}])
    with pytest.raises(RefuseToStart, match="route events: stage live needs a weight"):
        reconcile(settings, None)
