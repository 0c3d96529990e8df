"""A store against the recorder: what is missing is lost, unless it fell into a gap and a later state was told."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deploy.home_assistant.demo.compared import Change, Span, compare, stored_states
from deploy.home_assistant.recorded import Recorded
from deploy.influxdb import Points

ALL = Span(100, 200)
GAP = Span(140, 160)


def recorded(*changes: tuple[str, int, str | None]) -> list[Recorded]:
    return [Recorded(entity, state, {}, at, "") for entity, at, state in changes]


def test_points_are_changes() -> None:
    points: Points = {
        ("sensor", (("entity_id", "sensor.a"),)): {
            1_795_980_000_000_123_000: {"id": "1", "state": "20.5", "value": 20.5},
            1_795_980_000_000_124_000: {"id": "2", "removed": True},
        },
        ("light", (("entity_id", "light.b"),)): {7_000: {"id": "3", "state": "on"}},
    }
    assert stored_states(points) == {
        ("sensor.a", 1_795_980_000_000_123): "20.5",
        ("sensor.a", 1_795_980_000_000_124): None,
        ("light.b", 7): "on",
    }


def test_what_is_there_alike_is_complete() -> None:
    found = compare(
        recorded(("sensor.a", 100, "1"), ("sensor.a", 200, None), ("sensor.a", 99, "0"), ("sensor.a", 201, "9")),
        {("sensor.a", 100): "1", ("sensor.a", 200): None, ("sensor.a", 98): "0"},
        ALL,
        [],
    )
    assert (found.stored, found.unrecorded, found.problems()) == (2, 0, [])
    assert found.is_complete


def test_what_is_missing_or_another_one_is_named() -> None:
    stored: dict[Change, str | None] = {("sensor.a", 110): "2", ("sensor.a", 130): "3"}
    changes = recorded(("sensor.a", 110, "1"), ("sensor.a", 120, "2"), ("sensor.b", 130, None))
    found = compare(changes, stored, ALL, [])
    assert found.different == (("sensor.a", 110),)
    assert found.lost == (("sensor.a", 120), ("sensor.b", 130))
    assert found.unrecorded == 1
    assert not found.is_complete
    assert found.problems() == ["2 lost: sensor.a at 120, sensor.b at 130", "1 different: sensor.a at 110"]


def test_in_a_gap_the_last_state_is_enough() -> None:
    changes = recorded(("sensor.a", 141, "1"), ("sensor.a", 145, "2"), ("sensor.a", 150, "3"))
    found = compare(changes, {("sensor.a", 150): "3"}, ALL, [GAP])
    assert (found.superseded, found.lost) == ((("sensor.a", 141), ("sensor.a", 145)), ())


def test_the_last_state_of_a_gap_is_missed() -> None:
    changes = recorded(("sensor.a", 141, "1"), ("sensor.a", 150, "3"), ("sensor.a", 170, "4"))
    found = compare(changes, {("sensor.a", 141): "1", ("sensor.a", 170): "4"}, ALL, [GAP])
    assert found.lost == (("sensor.a", 150),), "what came after the gap is no word of what was in it"


def test_only_the_entity_itself_and_only_a_gap_excuse() -> None:
    changes = recorded(("sensor.a", 145, "1"), ("sensor.c", 130, "1"))
    stored: dict[Change, str | None] = {("sensor.b", 150): "2", ("sensor.c", 135): "2"}
    assert compare(changes, stored, ALL, [GAP]).lost == (("sensor.a", 145), ("sensor.c", 130))


@given(
    st.dictionaries(st.tuples(st.sampled_from(["sensor.a", "sensor.b"]), st.integers(90, 210)), st.text(max_size=2)),
    st.data(),
)
def test_every_change_is_stored_lost_or_superseded_by_one_that_is_stored(
    states: dict[Change, str], data: st.DataObject
) -> None:
    missing = data.draw(st.sets(st.sampled_from(sorted(states)))) if states else set()
    stored: dict[Change, str | None] = {change: state for change, state in states.items() if change not in missing}
    found = compare([Recorded(e, s, {}, at, "") for (e, at), s in states.items()], stored, ALL, [GAP])
    assert {*found.lost, *found.superseded} == {change for change in missing if ALL.has(change[1])}
    assert not set(found.lost) & set(found.superseded)
    assert found.stored == sum(ALL.has(at) for _, at in stored)
    assert not found.different
    for entity, at in found.superseded:
        assert GAP.has(at)
        assert [when for name, when in stored if name == entity and at < when <= GAP.ended]
    for entity, at in found.lost:
        assert not GAP.has(at) or not [when for name, when in stored if name == entity and at < when <= GAP.ended]
