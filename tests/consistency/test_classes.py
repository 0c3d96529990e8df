"""The table of classes, whole: every pair of states, every presence."""

from __future__ import annotations

import itertools

import pytest

from consistency.classes import (
    MISMATCHES,
    UNJUDGED,
    Class,
    Presence,
    Record,
    SideRecord,
    lost_by,
    of_presence,
    too_often,
    too_seldom,
)
from proxy.core import checked, owed
from proxy.core.event import NEW, OLD

STATES = range(len(owed.STATE_NAMES))
NOWHERE, AT_OLD, AT_NEW, AT_BOTH = Presence(0, 0), Presence(1, 0), Presence(0, 1), Presence(1, 1)
PRESENCES = (NOWHERE, AT_OLD, AT_NEW, AT_BOTH)
BOTH = Record.of(owed.DELIVERED, owed.DELIVERED)


@pytest.mark.parametrize(
    ("record", "presence", "found"),
    [
        (BOTH, AT_OLD, Class.LOST),
        (BOTH, AT_NEW, Class.LOST),
        (BOTH, NOWHERE, Class.LOST),
        (BOTH, AT_BOTH, None),
        (Record.of(owed.DELIVERED, owed.NOT_OWED), AT_OLD, Class.ONE_SIDED),
        (Record.of(owed.DELIVERED, owed.NOT_OWED), AT_BOTH, Class.ONE_SIDED),
        (Record.of(owed.DELIVERED, owed.NOT_OWED), AT_NEW, Class.LOST),
        (Record.of(owed.NOT_OWED, owed.DELIVERED), AT_NEW, Class.ONE_SIDED),
        (Record.of(owed.NOT_OWED, owed.DELIVERED), NOWHERE, Class.LOST),
        (Record.of(owed.DEFERRED, owed.DELIVERED), AT_NEW, Class.ONE_SIDED),
        (Record.of(owed.DEFERRED, owed.DELIVERED), AT_OLD, Class.LOST),
        (Record.of(owed.RELEASED, owed.DELIVERED), AT_NEW, Class.RELEASED),
        (Record.of(owed.DELIVERED, owed.PENDING), AT_OLD, Class.PENDING),
        (Record.of(owed.DELIVERED, owed.PENDING), AT_BOTH, Class.PENDING),
        (Record.of(owed.DELIVERED, owed.PENDING), NOWHERE, Class.LOST),
        (Record.of(owed.PENDING, owed.PENDING), NOWHERE, Class.PENDING),
        (Record.of(owed.PENDING, owed.DEAD), NOWHERE, Class.PENDING),
        (Record.of(owed.DELIVERED, owed.DEAD), AT_OLD, Class.DEAD),
        (Record.of(owed.DELIVERED, owed.REFUSED), AT_OLD, Class.REFUSED),
        (Record.of(owed.DELIVERED, owed.REFUSED), AT_BOTH, Class.REFUSED),
        (Record.of(owed.REFUSED, owed.DISCARDED), AT_NEW, Class.REFUSED),
        (Record.of(owed.DELIVERED, owed.DISCARDED), AT_OLD, Class.DISCARDED),
        (Record.of(owed.DELIVERED, owed.LOST), AT_OLD, Class.UNSAFE),
        (Record.of(owed.DELIVERED, owed.LOST), AT_BOTH, Class.UNSAFE),
    ],
)
def test_the_rows_of_the_table(record: Record, presence: Presence, found: Class | None) -> None:
    assert of_presence(record, presence, is_covered=True) is found
    assert of_presence(record, presence, is_covered=False) is found, "what is on record is on record"


@pytest.mark.parametrize(
    ("presence", "covered", "uncovered"),
    [
        (AT_OLD, Class.FOREIGN, Class.UNRECORDED),
        (AT_NEW, Class.FOREIGN, Class.UNRECORDED),
        (AT_BOTH, Class.FOREIGN, None),
    ],
)
def test_what_the_ledger_does_not_know(presence: Presence, covered: Class, uncovered: Class | None) -> None:
    assert of_presence(None, presence, is_covered=True) is covered
    assert of_presence(None, presence, is_covered=False) is uncovered


@pytest.mark.parametrize("old", STATES)
@pytest.mark.parametrize("new", STATES)
def test_a_side_is_judged_by_what_it_acknowledged_and_by_nothing_else(old: int, new: int) -> None:
    for presence in PRESENCES:
        record = Record.of(old, new)
        gone = {
            side
            for side, state, count in ((OLD, old, presence.old), (NEW, new, presence.new))
            if state == owed.DELIVERED and count == 0
        }
        assert set(lost_by(record, presence)) == gone
        found = of_presence(record, presence, is_covered=True)
        assert (found is Class.LOST) is bool(gone)
        if found is None:
            assert (old, new, presence) == (owed.DELIVERED, owed.DELIVERED, AT_BOTH)
        elif not gone:
            assert found not in MISMATCHES, "what a side has not acknowledged is never held against it"


TWICE = BOTH.joined(BOTH)
RETRIED = Record.of(owed.DELIVERED, owed.DELIVERED, 1, 2)
ONE_SIDED = Record.of(owed.DELIVERED, owed.NOT_OWED)


@pytest.mark.parametrize(
    ("record", "presence", "found", "sides"),
    [
        (BOTH, AT_BOTH, None, ()),
        (BOTH, Presence(1, 2), Class.DUPLICATE, (NEW,)),
        (BOTH, Presence(2, 2), Class.DUPLICATE, (OLD, NEW)),
        (RETRIED, Presence(1, 2), Class.REDELIVERED, (NEW,)),
        (RETRIED, Presence(2, 2), Class.DUPLICATE, (OLD,)),
        (RETRIED, Presence(1, 3), Class.DUPLICATE, (NEW,)),
        (TWICE, Presence(2, 2), None, ()),
        (TWICE, Presence(1, 1), None, ()),
        (TWICE, Presence(2, 3), Class.DUPLICATE, (NEW,)),
        (TWICE.joined(RETRIED), Presence(3, 4), Class.REDELIVERED, (NEW,)),
        (ONE_SIDED, Presence(2, 0), Class.DUPLICATE, (OLD,)),
        (ONE_SIDED, Presence(1, 5), None, ()),
        (None, AT_BOTH, None, ()),
        (None, Presence(2, 1), Class.DUPLICATE, (OLD,)),
        (None, Presence(0, 1), None, ()),
    ],
)
def test_too_often(record: Record | None, presence: Presence, found: Class | None, sides: tuple[int, ...]) -> None:
    assert too_often(record, presence) == (found, sides)


@pytest.mark.parametrize(
    ("record", "presence", "found"),
    [
        (TWICE, Presence(2, 1), True),
        (TWICE, Presence(1, 2), True),
        (TWICE, Presence(2, 2), False),
        (TWICE, Presence(1, 1), False),
        (BOTH, Presence(1, 2), False),
        (None, Presence(2, 1), False),
    ],
)
def test_too_seldom(record: Record | None, presence: Presence, found: bool) -> None:
    assert too_seldom(record, presence) is found


def test_what_one_event_was_acknowledged_for_is_not_excused_by_another() -> None:
    """A client that tries again and is refused as a duplicate: the first event is there or lost all the same."""
    for state in (owed.REFUSED, owed.DEAD, owed.DISCARDED, owed.LOST, owed.RELEASED, owed.PENDING):
        joined = BOTH.joined(Record.of(owed.DELIVERED, state))
        assert of_presence(joined, AT_OLD, is_covered=True) is Class.LOST
        assert lost_by(joined, AT_OLD) == (NEW,)
        found = of_presence(joined, AT_BOTH, is_covered=True)
        assert found is (Class.PENDING if state == owed.PENDING else None)


def test_events_are_joined_in_any_order() -> None:
    for one, other in itertools.product(STATES, STATES):
        first, second = Record.of(one, owed.DELIVERED, 3), Record.of(other, owed.NOT_OWED, 2)
        assert first.joined(second) == second.joined(first)
        assert first.joined(second).new == first.new
    assert ONE_SIDED.joined(Record.of(owed.NOT_OWED, owed.DELIVERED)) == BOTH, "each side was owed one of them"
    assert Record.of(owed.PENDING, owed.NOT_OWED, 4).joined(BOTH).old.tries == 5
    assert Record.of(owed.NOT_OWED, owed.DEFERRED, 9, 9) == Record(SideRecord(), SideRecord(is_deferred=True)), (
        "nobody tried there"
    )


def test_every_state_of_the_ledger_is_explained() -> None:
    for state in STATES:
        assert of_presence(Record.of(owed.DELIVERED, state), AT_BOTH, is_covered=True) is not Class.FOREIGN
    assert not MISMATCHES & UNJUDGED


def test_the_control_plane_uses_the_same_words() -> None:
    assert {str(kind) for kind in MISMATCHES} == checked.MISMATCHES == {"lost", "unrecorded", "different", "duplicate"}
