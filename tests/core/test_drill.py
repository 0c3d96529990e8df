"""Which faults there are, where a drill may be, and what it stands against."""

from __future__ import annotations

import re
from typing import Any

import pytest

from config.model import Route
from proxy.core import drill
from proxy.core.drill import DEAD, ERRORS, FAULTS, MOST, SLOW, Fault
from proxy.core.errors import BadChange, NoDrill
from proxy.core.routing import Dials


def route(name: str = "events", **changes: Any) -> Route:
    document: dict[str, Any] = {"name": name, "match": {"path": f"/{name}"}, "key": "client"}
    return Route.model_validate(document | {"carry_over": False} | changes)


def test_a_fault_is_what_was_asked_for() -> None:
    assert drill.fault(ERRORS, 60.0, 1.0) == Fault(ERRORS, 60.0)
    assert drill.fault(DEAD, MOST, -1.0) == Fault(DEAD, MOST), "a delay is of slow alone"
    assert drill.fault(SLOW, 0.1, 0.5) == Fault(SLOW, 0.1, 0.5)


@pytest.mark.parametrize(
    ("kind", "seconds", "delay", "said"),
    [
        ("broken", 60.0, 1.0, "there is no fault 'broken'; there are errors, dead, slow"),
        (DEAD, 0.0, 1.0, "more than 0 and at most 300 seconds, not 0"),
        (DEAD, -1.0, 1.0, "not -1"),
        (DEAD, 300.5, 1.0, "not 300.5"),
        (DEAD, float("nan"), 1.0, "not nan"),
        (SLOW, 60.0, 0.0, "more than 0 and at most 10 seconds, not 0"),
        (SLOW, 60.0, 11.0, "not 11"),
        (SLOW, 60.0, float("nan"), "not nan"),
    ],
)
def test_what_is_no_fault(kind: str, seconds: float, delay: float, said: str) -> None:
    with pytest.raises(BadChange, match=re.escape(said)):
        drill.fault(kind, seconds, delay)


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("weight", [0.0, 25.0, 99.99])
def test_where_copies_are_durable_there_may_be_one(kind: str, weight: float) -> None:
    drill.check(route(), kind, {"events": Dials(weight, "durable", latched=weight == 0)}, {})


@pytest.mark.parametrize(
    ("dials", "changes", "error", "said"),
    [
        (Dials(0.0, "none"), {}, NoDrill, "copies of events are none: what a drill fails would be lost"),
        (Dials(0.0, "best-effort"), {}, NoDrill, "copies of events are best-effort"),
        (Dials(100.0, "none"), {}, NoDrill, "copies of events are none"),
        (Dials(0.0, "durable"), {"durability": "off"}, NoDrill, "events has `durability: off`"),
        (Dials(0.0, "durable"), {"ack": "both"}, NoDrill, "its clients would hear of each copy that fails"),
        (Dials(100.0, "durable"), {}, BadChange, "the weight of events is 100 %: there are no copies to new"),
    ],
)
def test_where_it_would_cost_events_or_be_felt_there_is_none(
    dials: Dials, changes: dict[str, Any], error: type[BadChange], said: str
) -> None:
    with pytest.raises(BadChange, match=re.escape(said)) as found:
        drill.check(route(**changes), DEAD, {"events": dials}, {})
    assert type(found.value) is error
    assert found.value.blocked == (error is NoDrill)


def test_copies_of_sessions_are_not_held_back() -> None:
    sessions, dials = route(websocket={}), {"events": Dials(0.0, "durable")}
    drill.check(sessions, DEAD, dials, {})
    with pytest.raises(BadChange, match="cannot be held back: errors or dead"):
        drill.check(sessions, SLOW, dials, {})


@pytest.mark.parametrize(
    ("other", "weight", "may"),
    [
        (route("orders"), 0.0, True),
        (route("orders"), 1.0, False),
        (route("orders", new="newer"), 50.0, True),
        (route("orders", old="new", new="newer"), 0.0, False),
    ],
)
def test_nobody_else_hangs_on_it(other: Route, weight: float, may: bool) -> None:
    dials = {"events": Dials(0.0, "durable"), "orders": Dials(weight, "durable")}
    if may:
        drill.check(route(), DEAD, dials, {"orders": other})
        return
    with pytest.raises(NoDrill, match="clients of orders get answers of new, too"):
        drill.check(route(), DEAD, dials, {"orders": other})


@pytest.mark.parametrize(
    ("action", "is_lower", "may"),
    [
        ("rollback", True, True), ("revert", True, True), ("rearm", False, True), ("rollout-step", True, True),
        ("rollout-step", False, False), ("set-weight", True, False), ("set-weight", False, False),
        ("stage", True, False), ("restore", False, False), ("rollout-start", False, False),
    ],
)  # fmt: skip
def test_only_the_way_back_is_open_meanwhile(action: str, is_lower: bool, may: bool) -> None:
    assert drill.is_allowed(action, is_lower=is_lower) == may
