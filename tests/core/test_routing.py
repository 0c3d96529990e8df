"""The two dials: every stage both ways, the latch, and what is refused in which words."""

from __future__ import annotations

from math import inf, nan

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.errors import BadChange, CrossfadeError
from proxy.core.routing import (
    COPY_BEST_EFFORT,
    COPY_DURABLE,
    COPY_NONE,
    STAGES,
    Dials,
    Routing,
    check_weight,
    lowered,
    rearmed,
    rolled_back,
    with_stage,
    with_weight,
)

# stage, weight asked for, and the position of the dials: read from left to right and back.
POSITIONS = [
    ("off", None, Dials(0.0, COPY_NONE)),
    ("shadow", None, Dials(0.0, COPY_BEST_EFFORT)),
    ("dualwrite", None, Dials(0.0, COPY_DURABLE)),
    ("live", 0.01, Dials(0.01, COPY_DURABLE)),
    ("live", 40.0, Dials(40.0, COPY_DURABLE)),
    ("live", 99.99, Dials(99.99, COPY_DURABLE)),
    ("split", 0.01, Dials(0.01, COPY_NONE)),
    ("split", 40.0, Dials(40.0, COPY_NONE)),
    ("split", 99.99, Dials(99.99, COPY_NONE)),
    ("rampdown", None, Dials(100.0, COPY_DURABLE)),
    ("complete", None, Dials(100.0, COPY_NONE)),
]
LATCHED = "the route is latched after a revert; re-arm it first"


@pytest.mark.parametrize(("stage", "weight", "dials"), POSITIONS)
def test_a_stage_sets_both_dials(stage: str, weight: float | None, dials: Dials) -> None:
    assert with_stage(Dials(), stage, weight) == dials


@pytest.mark.parametrize(("stage", "weight", "dials"), POSITIONS)
def test_a_position_has_its_name(stage: str, weight: float | None, dials: Dials) -> None:
    assert dials.stage == stage


def test_every_stage_is_in_the_table() -> None:
    assert {stage for stage, _, _ in POSITIONS} == set(STAGES)


@pytest.mark.parametrize("start", [dials for _, _, dials in POSITIONS])
@pytest.mark.parametrize(("stage", "weight", "dials"), POSITIONS)
def test_every_stage_is_reached_from_every_other(start: Dials, stage: str, weight: float | None, dials: Dials) -> None:
    assert with_stage(start, stage, weight) == dials


def test_live_at_100_is_called_rampdown() -> None:
    assert with_stage(Dials(), "live", 100).stage == "rampdown"


@pytest.mark.parametrize("stage", ["live", "split"])
def test_live_and_split_keep_the_present_weight(stage: str) -> None:
    assert with_stage(Dials(25.0, COPY_DURABLE), stage).weight == 25.0


@pytest.mark.parametrize(
    ("stage", "weight", "message"),
    [
        ("lvie", None, "unknown stage 'lvie'; stages are off, shadow, dualwrite, live, split, rampdown, complete"),
        ("off", 5.0, "stage off has weight 0"),
        ("shadow", 5.0, "stage shadow has weight 0"),
        ("dualwrite", 5.0, "stage dualwrite has weight 0"),
        ("rampdown", 50.0, "stage rampdown has weight 100"),
        ("complete", 0.0, "stage complete has weight 100"),
        ("complete", nan, "stage complete has weight 100"),
        ("live", 0.0, "stage live needs a weight above 0"),
        ("live", 0.004, "stage live needs a weight above 0"),
        ("live", None, "stage live needs a weight above 0; add --weight 25"),
        ("split", None, "stage split needs a weight above 0 and below 100; add --weight 25"),
        ("split", 100.0, "stage split needs a weight above 0 and below 100"),
        ("split", 99.996, "stage split needs a weight above 0 and below 100"),
        ("live", 101.0, "weight must be between 0 and 100 percent, not 101"),
        ("split", nan, "weight must be between 0 and 100 percent, not nan"),
    ],
)
def test_a_stage_that_cannot_be(stage: str, weight: float | None, message: str) -> None:
    with pytest.raises(BadChange) as caught:
        with_stage(Dials(), stage, weight)
    assert str(caught.value) == message
    assert not caught.value.blocked


def test_a_fixed_stage_may_be_given_its_own_weight() -> None:
    assert with_stage(Dials(), "complete", 100).stage == "complete"
    assert with_stage(Dials(40.0, COPY_NONE), "off", 0).stage == "off"


@pytest.mark.parametrize(
    ("weight", "shown"),
    [(-1, "-1"), (-0.01, "-0.01"), (101, "101"), (100.0001, "100.0001"), (nan, "nan"), (inf, "inf"), (-inf, "-inf")],
)
def test_a_weight_out_of_range_is_refused_with_the_range(weight: float, shown: str) -> None:
    with pytest.raises(BadChange) as caught:
        check_weight(weight)
    assert str(caught.value) == f"weight must be between 0 and 100 percent, not {shown}"
    assert not caught.value.blocked
    with pytest.raises(BadChange):
        with_weight(Dials(0.0, COPY_DURABLE), weight)


@pytest.mark.parametrize(
    ("weight", "kept"), [(0, "0.0"), (-0.0, "0.0"), (5, "5.0"), (12.345678, "12.35"), (99.99, "99.99"), (100, "100.0")]
)
def test_a_weight_has_two_decimals(weight: float, kept: str) -> None:
    assert repr(check_weight(weight)) == kept


@pytest.mark.parametrize(
    ("dials", "weight", "stage"),
    [
        (Dials(0.0, COPY_DURABLE), 10, "live"),
        (Dials(10.0, COPY_DURABLE), 100, "rampdown"),
        (Dials(10.0, COPY_DURABLE), 0, "dualwrite"),
        (Dials(0.0, COPY_NONE), 10, "split"),
        (Dials(10.0, COPY_NONE), 100, "complete"),
        (Dials(10.0, COPY_NONE), 0, "off"),
        (Dials(0.0, COPY_BEST_EFFORT), 0, "shadow"),
    ],
)
def test_set_weight_turns_only_the_first_dial(dials: Dials, weight: float, stage: str) -> None:
    turned = with_weight(dials, weight)
    assert (turned.weight, turned.copy, turned.stage) == (weight, dials.copy, stage)


def test_shadow_takes_no_weight_because_new_may_lack_events() -> None:
    with pytest.raises(BadChange, match="best effort, so new may lack events; go to dualwrite, live") as caught:
        with_weight(Dials(0.0, COPY_BEST_EFFORT), 5)
    assert not caught.value.blocked


@pytest.mark.parametrize(("stage", "weight", "dials"), POSITIONS)
def test_the_latch_blocks_every_stage_with_a_weight(stage: str, weight: float | None, dials: Dials) -> None:
    latched = Dials(0.0, COPY_DURABLE, latched=True)
    if dials.weight == 0:
        assert with_stage(latched, stage, weight) == Dials(0.0, dials.copy, latched=True)
        return
    with pytest.raises(BadChange) as caught:
        with_stage(latched, stage, weight)
    assert str(caught.value) == LATCHED
    assert caught.value.blocked


def test_the_latch_blocks_a_weight_until_the_route_is_rearmed() -> None:
    dials = rolled_back(Dials(40.0, COPY_DURABLE), latch=True)
    assert dials == Dials(0.0, COPY_DURABLE, latched=True)
    assert with_weight(dials, 0) == dials
    with pytest.raises(BadChange) as caught:
        with_weight(dials, 0.01)
    assert (str(caught.value), caught.value.blocked) == (LATCHED, True)
    assert with_weight(rearmed(dials), 0.01) == Dials(0.01, COPY_DURABLE)


def test_a_rollback_by_a_person_sets_no_latch_and_lifts_none() -> None:
    assert not rolled_back(Dials(40.0, COPY_DURABLE)).latched
    assert rolled_back(Dials(0.0, COPY_DURABLE, latched=True)).latched


@pytest.mark.parametrize("dials", [dials for _, _, dials in POSITIONS])
@pytest.mark.parametrize("latch", [False, True])
def test_rollback_is_always_allowed_leaves_copy_and_may_be_repeated(dials: Dials, latch: bool) -> None:
    back = rolled_back(dials, latch=latch)
    assert back == Dials(0.0, dials.copy, latch)
    assert rolled_back(back, latch=latch) == back


def test_a_part_of_the_way_back_raises_nothing_and_keeps_copy_and_latch() -> None:
    dials = Dials(40.0, COPY_DURABLE)
    assert [lowered(dials, weight).weight for weight in (40, 12.344, 0)] == [40, 12.34, 0]
    assert lowered(Dials(0.0, COPY_DURABLE, latched=True), 0) == Dials(0.0, COPY_DURABLE, latched=True)
    for weight in (40.01, 100, -1, 101):
        with pytest.raises(BadChange):
            lowered(dials, weight)


def test_rearming_moves_nothing() -> None:
    assert rearmed(Dials(30.0, COPY_NONE, latched=True)) == Dials(30.0, COPY_NONE)


def test_a_bad_change_is_one_of_our_own_errors() -> None:
    assert issubclass(BadChange, CrossfadeError)


def test_dials_are_frozen() -> None:
    with pytest.raises(AttributeError):
        Dials().weight = 5.0  # type: ignore[misc]


steps = st.one_of(
    st.tuples(st.just("weight"), st.floats(allow_nan=True, allow_infinity=True)),
    st.tuples(st.just("weight"), st.floats(0, 100)),
    st.tuples(st.sampled_from((*STAGES, "none")), st.none() | st.floats(0, 100)),
    st.tuples(st.sampled_from(("rollback", "revert", "rearm")), st.none()),
)


def take(dials: Dials, step: tuple[str, float | None]) -> Dials:
    """One change as a person or the trigger makes it; a refused one leaves the dials as they are."""
    name, weight = step
    if name in ("rollback", "revert"):
        return rolled_back(dials, latch=name == "revert")
    if name == "rearm":
        return rearmed(dials)
    try:
        if name == "weight":
            assert weight is not None
            return with_weight(dials, weight)
        return with_stage(dials, name, weight)
    except BadChange:
        return dials


@given(st.lists(steps, max_size=30))
def test_no_sequence_of_changes_leads_to_a_position_without_a_name(changes: list[tuple[str, float | None]]) -> None:
    dials = Dials()
    for change in changes:
        was_latched = dials.latched
        dials = take(dials, change)
        assert 0 <= dials.weight <= 100
        assert dials.weight == round(dials.weight, 2)
        assert dials.weight == 0 or not dials.latched, "latched means weight 0"
        assert dials.weight == 0 or dials.copy != COPY_BEST_EFFORT
        assert with_stage(rearmed(dials), dials.stage, dials.weight) == rearmed(dials)
        assert dials.latched or not was_latched or change[0] == "rearm", "only re-arming lifts the latch"


def test_routing_is_stored_and_read_again() -> None:
    routing = Routing(7, {"events": Dials(12.5, COPY_DURABLE), "orders": Dials(0.0, COPY_NONE, latched=True)})
    assert msgspec.json.decode(msgspec.json.encode(routing), type=Routing) == routing
