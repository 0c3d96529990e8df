"""Positions of earlier epochs: the chain of the audit trail, what was never applied, what is missing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.control.audit import Entry
from proxy.control.past import dials_at
from proxy.core.errors import BadChange
from proxy.core.routing import Dials

pytestmark = pytest.mark.filterwarnings("error")
COPIES = st.sampled_from(["none", "durable"])


def told(dials: Dials | None) -> dict[str, Any]:
    return {} if dials is None else {"weight": dials.weight, "copy": dials.copy, "latched": dials.latched}


def entry(
    epoch: int, previous: int, before: Dials | None, after: Dials | None, action: str = "stage", route: str = "a"
) -> Entry:
    return Entry("", epoch, previous, "ann@host", action, route, told(before), told(after))


OFF, HALF, FULL = Dials(0.0, "none"), Dials(50.0, "durable"), Dials(100.0, "durable")
TRAIL = [
    entry(1, 0, None, OFF, "route-added"),
    entry(1, 0, None, OFF, "route-added", "b"),
    entry(2, 1, OFF, HALF),
    entry(3, 2, OFF, FULL, route="b"),
    entry(3, 3, None, None, "rollout-start"),
    entry(5, 3, HALF, FULL),
    entry(6, 5, FULL, None, "route-dropped"),
    entry(6, 5, None, OFF, "route-added", "c"),
    entry(7, 6, None, HALF, "route-added"),
    entry(8, 7, HALF, FULL),
]


def at(wanted: int, route: str = "a", trail: list[Entry] = TRAIL, present: Dials = FULL, epoch: int = 8) -> Dials:
    return dials_at(reversed(trail), route, present, epoch, wanted)


def test_each_epoch_of_each_route() -> None:
    assert [at(wanted) for wanted in (1, 2, 3, 5, 7, 8)] == [OFF, HALF, HALF, FULL, HALF, FULL]
    assert [at(wanted, "b") for wanted in (1, 2, 3, 5, 8)] == [OFF, OFF, FULL, FULL, FULL]


@pytest.mark.parametrize(
    ("wanted", "route", "message"),
    [
        (0, "a", "there is no epoch 0: they go from 1 to the present one, 8"),
        (-3, "a", "there is no epoch -3"),
        (9, "a", "there is no epoch 9"),
        (4, "a", "epoch 4 was never live: 3 is the last one before it"),
        (6, "a", "there was no route a at epoch 6"),
        (5, "c", "there was no route c at epoch 5"),
    ],
)
def test_epochs_without_a_position(wanted: int, route: str, message: str) -> None:
    with pytest.raises(BadChange, match=message) as refused:
        at(wanted, route)
    assert not refused.value.blocked


def test_what_was_never_applied_is_no_part_of_it() -> None:
    trail = [
        entry(1, 0, None, OFF, "route-added"),
        entry(2, 1, OFF, HALF),
        entry(3, 2, HALF, OFF),  # could not be written, as the next line says
        entry(2, 2, None, None, "not-applied"),
        entry(3, 2, HALF, FULL),
        entry(4, 3, FULL, OFF),  # written; the process died before it took effect
        entry(5, 3, FULL, HALF),
    ]
    found = [at(wanted, trail=trail, present=HALF, epoch=5) for wanted in (1, 2, 3, 5)]
    assert found == [OFF, HALF, FULL, HALF]
    with pytest.raises(BadChange, match="epoch 4 was never live"):
        at(4, trail=trail, present=HALF, epoch=5)
    # The present is what took effect, also while a later line is on disk already.
    assert at(2, trail=[*trail, entry(6, 5, HALF, OFF)], present=HALF, epoch=5) == HALF


def test_a_trail_that_lacks_a_change_goes_back_no_further() -> None:
    lacking = [each for each in TRAIL if each.epoch != 3]
    assert [at(wanted, trail=lacking) for wanted in (3, 5)] == [HALF, FULL]
    with pytest.raises(BadChange, match="does not say what epoch 3 changed"):
        at(2, trail=lacking)
    for trail in ([], TRAIL[:-1]):
        with pytest.raises(BadChange, match="does not say what epoch 8 changed"):
            at(7, trail=trail)


@pytest.mark.parametrize(
    "before", [{"weight": "much", "copy": "none"}, {"weight": 5.0}, {"weight": 500, "copy": "none"}]
)
def test_an_entry_that_does_not_say_where_it_stood(before: dict[str, Any]) -> None:
    with pytest.raises(BadChange):
        at(1, trail=[Entry("", 2, 1, "ann", "stage", "a", before)], epoch=2)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b"]),
            st.integers(0, 100),
            COPIES,
            st.sampled_from(["applied", "applied", "not-applied", "died", "beside"]),
        ),
        max_size=30,
    )
)
def test_every_epoch_is_found_as_it_was(steps: list[tuple[str, int, str, str]]) -> None:
    """Whatever failed in between: as `Changes` and `FileStore` number them."""
    now, epoch, floor = {"a": OFF, "b": OFF}, 1, 0
    trail = [entry(1, 0, None, OFF, "route-added", name) for name in now]
    was = {1: dict(now)}
    for route, weight, copy, fate in steps:
        if fate == "beside":
            trail.append(entry(epoch, epoch, None, None, "rollout-pause", route))
            continue
        after, number = Dials(float(weight), copy), max(epoch, floor) + 1
        trail.append(entry(number, epoch, now[route], after, "stage", route))
        if fate == "not-applied":
            trail.append(entry(epoch, epoch, None, None, "not-applied", route))
        elif fate == "died":
            floor = number
        else:
            epoch, now = number, now | {route: after}
            was[epoch] = dict(now)
    for wanted in range(1, epoch + 1):
        for route in now:
            if wanted in was:
                assert dials_at(reversed(trail), route, now[route], epoch, wanted) == was[wanted][route]
            else:
                with pytest.raises(BadChange, match="never live"):
                    dials_at(reversed(trail), route, now[route], epoch, wanted)
