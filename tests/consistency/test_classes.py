"""The table of classes, whole: every pair of states, every presence."""

from __future__ import annotations

import itertools

import pytest

from consistency.classes import MISMATCHES, UNJUDGED, Class, Presence, Record, lost_by, of_copies, of_presence
from proxy.core import owed
from proxy.core.event import NEW, OLD

STATES = range(len(owed.STATE_NAMES))
NOWHERE, AT_OLD, AT_NEW, AT_BOTH = Presence(0, 0), Presence(1, 0), Presence(0, 1), Presence(1, 1)
PRESENCES = (NOWHERE, AT_OLD, AT_NEW, AT_BOTH)
BOTH = Record(owed.DELIVERED, owed.DELIVERED)


@pytest.mark.parametrize(
    ("record", "presence", "found"),
    [
        (BOTH, AT_OLD, Class.LOST),
        (BOTH, AT_NEW, Class.LOST),
        (BOTH, NOWHERE, Class.LOST),
        (BOTH, AT_BOTH, None),
        (Record(owed.DELIVERED, owed.NOT_OWED), AT_OLD, Class.ONE_SIDED),
        (Record(owed.DELIVERED, owed.NOT_OWED), AT_BOTH, Class.ONE_SIDED),
        (Record(owed.DELIVERED, owed.NOT_OWED), AT_NEW, Class.LOST),
        (Record(owed.NOT_OWED, owed.DELIVERED), AT_NEW, Class.ONE_SIDED),
        (Record(owed.NOT_OWED, owed.DELIVERED), NOWHERE, Class.LOST),
        (Record(owed.DEFERRED, owed.DELIVERED), AT_NEW, Class.PENDING),
        (Record(owed.RELEASED, owed.DELIVERED), AT_NEW, Class.RELEASED),
        (Record(owed.DELIVERED, owed.PENDING), AT_OLD, Class.PENDING),
        (Record(owed.DELIVERED, owed.PENDING), AT_BOTH, Class.PENDING),
        (Record(owed.DELIVERED, owed.PENDING), NOWHERE, Class.LOST),
        (Record(owed.PENDING, owed.PENDING), NOWHERE, Class.PENDING),
        (Record(owed.PENDING, owed.DEAD), NOWHERE, Class.PENDING),
        (Record(owed.DELIVERED, owed.DEAD), AT_OLD, Class.DEAD),
        (Record(owed.DELIVERED, owed.REFUSED), AT_OLD, Class.REFUSED),
        (Record(owed.DELIVERED, owed.REFUSED), AT_BOTH, Class.REFUSED),
        (Record(owed.REFUSED, owed.DISCARDED), AT_NEW, Class.REFUSED),
        (Record(owed.DELIVERED, owed.DISCARDED), AT_OLD, Class.DISCARDED),
        (Record(owed.DELIVERED, owed.LOST), AT_OLD, Class.UNSAFE),
        (Record(owed.DELIVERED, owed.LOST), AT_BOTH, Class.UNSAFE),
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
        record = Record(old, new)
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


@pytest.mark.parametrize(
    ("record", "presence", "found"),
    [
        (BOTH, AT_BOTH, None),
        (BOTH, Presence(1, 2), Class.DUPLICATE),
        (BOTH, Presence(2, 1), Class.DUPLICATE),
        (BOTH._replace(new_tries=2), Presence(1, 2), Class.REDELIVERED),
        (BOTH._replace(new_tries=2), Presence(2, 2), Class.DUPLICATE),
        (BOTH._replace(new_tries=2), Presence(1, 3), Class.DUPLICATE),
        (BOTH._replace(old_tries=3, new_tries=2), Presence(3, 2), Class.REDELIVERED),
        (BOTH._replace(events=2, old_tries=2, new_tries=2), Presence(2, 2), None),
        (BOTH._replace(events=2, old_tries=2, new_tries=2), Presence(1, 2), None),
        (BOTH._replace(events=2, old_tries=2, new_tries=3), Presence(2, 3), Class.REDELIVERED),
        (None, AT_BOTH, None),
        (None, Presence(2, 1), Class.DUPLICATE),
        (None, Presence(0, 1), None),
    ],
)
def test_copies(record: Record | None, presence: Presence, found: Class | None) -> None:
    assert of_copies(record, presence) is found


def test_two_events_of_one_identity_are_as_settled_as_the_less_settled() -> None:
    """In any order, and of any number."""
    for one, other in itertools.product(STATES, STATES):
        joined = Record(one, owed.DELIVERED).joined(Record(other, owed.DELIVERED))
        assert joined.old in (one, other)
        assert joined.new == owed.DELIVERED
        assert joined == Record(other, owed.DELIVERED).joined(Record(one, owed.DELIVERED))
    delivered, pending = Record(owed.DELIVERED, owed.NOT_OWED), Record(owed.DELIVERED, owed.PENDING, 1, 1, 4)
    assert delivered.joined(pending) == Record(owed.DELIVERED, owed.PENDING, 2, 2, 5)
    one_side, other_side = Record(owed.DELIVERED, owed.NOT_OWED), Record(owed.NOT_OWED, owed.DELIVERED)
    joined = one_side.joined(other_side)
    assert (joined.old, joined.new) == (owed.DELIVERED, owed.DELIVERED), "each side was owed one of them"


def test_every_state_of_the_ledger_is_explained() -> None:
    for state in STATES:
        record = Record(owed.DELIVERED, state)
        assert of_presence(record, AT_BOTH, is_covered=True) is not Class.FOREIGN
    assert not MISMATCHES & UNJUDGED
