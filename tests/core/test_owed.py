"""States of an owed event: every row of the table, every row that is not there, and the balance."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from proxy.core.event import UNFIT_STATUS
from proxy.core.owed import (
    DEAD,
    DEFERRED,
    DELIVERED,
    DISCARDED,
    LOST,
    NOT_OWED,
    OPEN,
    PENDING,
    REFUSED,
    RELEASED,
    STATE_NAMES,
    TRANSITIONS,
    Balance,
    Cause,
    lets_follow,
    next_state,
)

STATES = range(len(STATE_NAMES))

# Written out by hand, so that a row added to the table or lost from it is noticed here.
SCRIPT = """
    pending    ACCEPTED     delivered
    pending    REFUSED      refused
    pending    GAVE_UP      dead
    pending    DISCARDED    discarded
    pending    LOST         lost
    deferred   ROLLED_BACK  pending
    deferred   RELEASED     released
    deferred   DISCARDED    discarded
    dead       REQUEUED     pending
    dead       DISCARDED    discarded
    delivered  REPLAYED     pending
    delivered  TAKEN_BACK   pending
    refused    AUTHORITY_REQUEUED  pending
"""
ROWS = [
    (STATE_NAMES.index(before), Cause[cause], STATE_NAMES.index(after))
    for before, cause, after in (line.split() for line in SCRIPT.strip().splitlines())
]
ILLEGAL = [(state, cause) for state in STATES for cause in Cause if (state, cause) not in TRANSITIONS]


@pytest.mark.parametrize(("before", "cause", "after"), ROWS)
def test_a_transition(before: int, cause: Cause, after: int) -> None:
    assert next_state(before, cause) == after


def test_the_script_names_every_row_of_the_table() -> None:
    assert {(before, cause): after for before, cause, after in ROWS} == TRANSITIONS


@pytest.mark.parametrize(("state", "cause"), ILLEGAL)
def test_what_the_table_does_not_name_changes_nothing(state: int, cause: Cause) -> None:
    assert next_state(state, cause) == state


def test_legal_and_illegal_are_all_there_is() -> None:
    assert len(ROWS) + len(ILLEGAL) == len(STATES) * len(Cause)


@pytest.mark.parametrize("cause", Cause)
def test_a_report_that_comes_twice_changes_nothing(cause: Cause) -> None:
    for state in STATES:
        once = next_state(state, cause)
        assert next_state(once, cause) == once


def test_what_is_not_owed_never_becomes_owed_by_a_cause() -> None:
    assert {next_state(NOT_OWED, cause) for cause in Cause} == {NOT_OWED}
    assert NOT_OWED not in TRANSITIONS.values()


@pytest.mark.parametrize("state", [REFUSED, DISCARDED, LOST, RELEASED])
def test_what_is_settled_for_good_stays(state: int) -> None:
    by_a_person = {Cause.AUTHORITY_REQUEUED} if state == REFUSED else set()
    assert {next_state(state, cause) for cause in Cause if cause not in by_a_person} == {state}


def test_lost_comes_from_a_lost_best_effort_copy_alone() -> None:
    assert [key for key, after in TRANSITIONS.items() if after == LOST] == [(PENDING, Cause.LOST)]


def test_a_deferred_event_is_delivered_only_by_way_of_pending() -> None:
    assert next_state(DEFERRED, Cause.ACCEPTED) == DEFERRED
    assert next_state(next_state(DEFERRED, Cause.ROLLED_BACK), Cause.ACCEPTED) == DELIVERED


def test_only_a_person_or_a_lost_connection_brings_a_settled_event_back() -> None:
    assert {PENDING, DEFERRED} == OPEN
    back = {(before, cause) for (before, cause), after in TRANSITIONS.items() if before not in OPEN and after in OPEN}
    by_a_person = {(DEAD, Cause.REQUEUED), (DELIVERED, Cause.REPLAYED), (REFUSED, Cause.AUTHORITY_REQUEUED)}
    assert back == by_a_person | {(DELIVERED, Cause.TAKEN_BACK)}


def test_a_new_balance_is_empty() -> None:
    balance = Balance()
    assert balance.owed == 0
    assert set(balance.as_dict().values()) == {0}
    assert balance.is_sound()


def test_balance_as_figures() -> None:
    balance = Balance()
    for state in (PENDING, PENDING, PENDING, DEFERRED):
        balance.owe(state)
    balance.move(PENDING, DELIVERED)
    balance.move(PENDING, DEAD)
    assert balance.as_dict() == {
        "owed": 4,
        "pending": 1,
        "deferred": 1,
        "delivered": 1,
        "refused": 0,
        "dead": 1,
        "discarded": 0,
        "lost": 0,
        "released": 0,
    }


def test_what_is_not_owed_is_not_in_the_sum() -> None:
    balance = Balance()
    balance.owe(NOT_OWED)
    assert balance.owed == 0
    assert "not_owed" not in balance.as_dict()


def test_a_balance_continues_from_stored_counts() -> None:
    balance = Balance([7, 2, 0, 5, 0, 0, 0, 0, 0])
    balance.move(PENDING, DELIVERED)
    assert (balance.owed, balance.counts[PENDING], balance.counts[DELIVERED]) == (7, 1, 6)
    assert balance.is_sound()
    assert not Balance([7, 1, 0, 5, 0, 0, 0, 0, 0]).is_sound(), "one is in no state"


def test_moving_more_than_there_is_shows() -> None:
    balance = Balance()
    balance.owe(PENDING)
    balance.move(PENDING, DELIVERED)
    assert balance.is_sound()
    balance.move(PENDING, DELIVERED)
    assert not balance.is_sound()


@given(st.sampled_from([PENDING, DEFERRED]), st.lists(st.sampled_from(Cause), max_size=30))
def test_an_event_that_was_not_best_effort_is_never_lost(state: int, causes: list[Cause]) -> None:
    for cause in causes:
        if cause is not Cause.LOST:
            state = next_state(state, cause)
    assert state not in (LOST, NOT_OWED)


class BalanceMachine(RuleBasedStateMachine):
    """Events enter and causes reach them in any order; the balance is compared with a plain recount."""

    events = Bundle("events")

    @initialize()
    def start(self) -> None:
        self.balance = Balance()
        self.states: list[int] = []

    @rule(target=events, state=st.sampled_from([PENDING, DEFERRED]))
    def owe(self, state: int) -> int:
        self.balance.owe(state)
        self.states.append(state)
        return len(self.states) - 1

    @rule(event=events, cause=st.sampled_from(Cause))
    def happen(self, event: int, cause: Cause) -> None:
        before = self.states[event]
        after = next_state(before, cause)
        self.balance.move(before, after)
        self.states[event] = after

    @invariant()
    def balanced(self) -> None:
        figures = self.balance.as_dict()
        owed = figures.pop("owed")
        assert owed == len(self.states) == sum(figures.values())
        assert figures == {name: self.states.count(i) for i, name in enumerate(STATE_NAMES) if i != NOT_OWED}
        assert self.balance.is_sound()


TestBalance = BalanceMachine.TestCase


@pytest.mark.parametrize("state", STATES)
def test_what_waits_for_an_authority_follows_it_or_one_that_could_not_be_given_it(state: int) -> None:
    assert lets_follow(state, 200) == (state in (DELIVERED, NOT_OWED))
    assert lets_follow(state, UNFIT_STATUS) == (state in (DELIVERED, NOT_OWED, DEAD))
