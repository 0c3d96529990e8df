"""The memory budget by itself: what it counts, and when it refuses and takes again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.http.budget import SMALL, Budget, Charge, charge


def test_it_is_full_above_its_limit_and_not_before() -> None:
    budget = Budget(1000)
    budget.add(1000)
    assert not budget.is_full
    budget.add(1)
    assert budget.is_full


def test_it_takes_again_when_a_fifth_is_free() -> None:
    budget = Budget(1000)
    budget.add(1001)
    budget.add(-201)
    assert budget.is_full
    budget.add(-1)
    assert not budget.is_full
    budget.add(100)
    assert not budget.is_full


def test_what_is_only_looked_at_counts_like_the_rest() -> None:
    budget = Budget(1000)
    budget.add(600)
    budget.see_others(401)
    assert budget.is_full
    assert budget.used == budget.most == 1001
    budget.see_others(199)
    assert not budget.is_full
    assert (budget.used, budget.most) == (799, 1001)


def test_there_is_room_up_to_the_limit_unless_it_is_full() -> None:
    budget = Budget(1000)
    budget.add(400)
    assert budget.has_room(600)
    assert not budget.has_room(601)
    budget.add(601)
    budget.add(-101)
    assert not budget.has_room(1)


def test_open_connections_alone_never_fill_it() -> None:
    budget = Budget(1000)
    opened = 0
    while budget.takes_connections:
        budget.connected(60)
        opened += 1
    assert opened == 9
    assert not budget.is_full
    budget.connected(-60)
    assert budget.takes_connections
    budget.add(1000)
    assert not budget.takes_connections


def test_a_charge_lasts_as_long_as_somebody_has_it() -> None:
    budget = Budget(1000)
    first = Charge(budget, 300)
    second = first
    del first
    assert budget.held == 300
    del second
    assert budget.held == 0


def test_what_is_small_is_not_charged() -> None:
    budget = Budget(2**20)
    assert charge(budget, SMALL) is None
    held = charge(budget, SMALL + 1)
    assert held is not None
    assert budget.held == SMALL + 1


@given(st.lists(st.one_of(st.tuples(st.just("add"), st.integers(1, 500)), st.tuples(st.just("drop"), st.integers(0)))))
def test_it_is_what_a_list_of_charges_says(steps: list[tuple[str, int]]) -> None:
    budget, charges, is_full = Budget(1000), list[Charge](), False
    sizes: list[int] = []
    for what, value in steps:
        if what == "add":
            charges.append(Charge(budget, value))
            sizes.append(value)
        elif charges:
            place = value % len(charges)
            del charges[place], sizes[place]
        used = sum(sizes)
        is_full = used > 1000 or (is_full and used >= 800)
        assert (budget.held, budget.is_full) == (used, is_full)
