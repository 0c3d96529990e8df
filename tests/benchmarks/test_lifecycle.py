"""What `make bench-lifecycle` makes of what clients saw."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from benchmarks.lifecycle import __main__ as command
from benchmarks.lifecycle.figures import Moved, Seen, Span, drain_targets, moved_targets, quantile, split, targets
from benchmarks.lifecycle.switches import SWITCHES
from proxy.demo.record import Promise

SEEN = Seen(
    spans=[Span(1.0, 1.5), Span(3.0, 5.0)],
    events=4_000,
    asked=4_000.0,
    answered=3_990.0,
    errors="none",
    refused=0,
    broken=0,
    closed=0,
    excused=0,
    lost=0,
    misordered=0,
    normal=0.004,
    switching=0.008,
)


def promise(sent: float, answered: float) -> Promise:
    return Promise("id", "key", "old", 200, sent, answered)


def test_events_are_of_a_switch_when_they_were_on_their_way_during_it() -> None:
    spans = [Span(10.0, 11.0), Span(20.0, 22.0)]
    inside = [promise(9.9, 10.1), promise(10.2, 10.3), promise(10.9, 11.4), promise(9.0, 30.0), promise(21.0, 21.5)]
    outside = [promise(1.0, 2.0), promise(9.8, 9.9), promise(11.1, 11.2), promise(12.0, 19.9), promise(22.5, 23.0)]
    found = split([*outside, *inside], spans)
    assert found == (*([each.answered - each.sent for each in part] for part in (outside, inside)), [])
    assert split(outside, []) == ([each.answered - each.sent for each in outside], [], [])


def test_what_was_sent_twice_is_neither_usual_nor_of_a_switch() -> None:
    twice = promise(10.5, 10.75)._replace(tried=10.5 + 0.125)
    assert split([promise(1.0, 1.5), twice], [Span(10.0, 11.0)]) == ([0.5], [], [0.125])


def test_quantile_is_of_values_in_any_order() -> None:
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([float(n) for n in range(1_000)], 0.99) == 990.0
    assert quantile([], 0.99) == 0.0


def test_all_is_well_when_nobody_noticed() -> None:
    found = targets("reloads", SEEN)
    assert [target.met for target in found] == [True, True, True]
    assert found[0].name.startswith("2 reloads (median 2.00 s, worst 2.00 s)")
    assert "8.0 ms, 4.0 ms else: 2.00" in found[1].measured


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({"refused": 1}, 0),
        ({"broken": 1}, 0),
        ({"closed": 1}, 0),
        ({"lost": 1}, 0),
        ({"misordered": 1}, 0),
        ({"excused": 3, "broken": 2, "closed": 2}, 0),
        ({"excused": 3, "refused": 1}, 0),
        ({"switching": 0.012}, 1),
        ({"answered": 3_800.0}, 2),
        ({"answered": 3_700.0, "unsent": 179.0}, 2),
    ],
    ids=str,
)
def test_each_thing_that_clients_noticed_is_a_missed_target(change: dict[str, Any], missed: int) -> None:
    met = [target.met for target in targets("kills", SEEN._replace(**change))]
    assert met[:3] == [index != missed for index in range(3)]
    assert all(met[3:])


def test_connections_of_the_killed_may_end() -> None:
    seen = SEEN._replace(excused=3, broken=1, closed=2, away=2.0, again=0.25, answered=3_700.0, unsent=180.0)
    found = targets("kills", seen)
    assert [target.met for target in found] == [True] * 4
    assert found[1].measured == "8.0 ms, 4.0 ms else: 2.00; 250.0 ms of what had to be sent again"
    assert found[2].measured == "3,700/s, and 180/s were due on sessions that were closed"


def test_sessions_of_the_killed_come_back_soon() -> None:
    found = targets("kills", SEEN._replace(excused=3, closed=2, away=2.1))
    assert [target.met for target in found] == [True, True, True, False]
    assert found[3].measured == "2.10 s"


DRAINED = SEEN._replace(closed=50, told_to_go=50, exits=[3.5, 3.1])


def test_sessions_may_be_told_to_go_by_a_drain() -> None:
    errors, exits = drain_targets(DRAINED, 23.0)
    assert errors.met
    assert errors.name.startswith("2 drains")
    assert (exits.met, exits.measured) == (True, "median 3.50 s, worst 3.50 s")


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({"refused": 1}, 0),
        ({"broken": 1}, 0),
        ({"closed": 51}, 0),
        ({"lost": 1}, 0),
        ({"misordered": 1}, 0),
        ({"exits": [3.0, 23.1]}, 1),
    ],
    ids=str,
)
def test_each_error_of_a_drain_is_a_missed_target(change: dict[str, Any], missed: int) -> None:
    met = [target.met for target in drain_targets(DRAINED._replace(**change), 23.0)]
    assert met == [index != missed for index in range(2)]


@pytest.mark.parametrize("change", [{}, {"failed": 1}, {"lost": 1}, {"one_sided": 1}, {"through": 0}], ids=str)
def test_nobody_notices_that_the_proxy_comes_and_goes(change: dict[str, Any]) -> None:
    moved = Moved(100, 0, [], 2, 60, 0, 0, 0.002, 0.004, [0.5, 1.5])
    first, second = moved_targets(msgspec.structs.replace(moved, **change))
    assert (first.met, second.met) == (not change, True)
    assert "4.0 ms, 2.0 ms direct: 2.00" in second.measured


def test_each_switch_has_its_counts() -> None:
    assert command.TIMES.keys() == SWITCHES.keys()
    assert command.parse_arguments(["--only", "kills", "insertion", "--quick"]).only == ["kills", "insertion"]
