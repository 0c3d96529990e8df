"""Who is next: by what is outstanding, by weight, by priority, and who is left out."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from proxy.http.balance import Balance
from proxy.http.endpoint import Endpoint
from proxy.net.lookup import Address

RESET = 2.0


def balance(*weights: int, priorities: tuple[int, ...] = (), most: int = 100) -> Balance:
    made = Balance(most)
    priorities = priorities or (0,) * len(weights)
    made.endpoints = [
        Endpoint(Address(f"10.0.0.{index}", 80, "a", weight, priority))
        for index, (weight, priority) in enumerate(zip(weights, priorities, strict=True), 1)
    ]
    return made


def turns(made: Balance, count: int, now: float = 0.0) -> Counter[str]:
    """Who gets so many legs, one after the other."""
    found: Counter[str] = Counter()
    for _ in range(count):
        chosen = made.choose(now)
        assert chosen is not None
        made.take(chosen, now, RESET)
        found[chosen.address.host[-1]] += 1
    return found


def test_nobody() -> None:
    assert Balance(1).choose(0.0) is None


def test_turns_are_even() -> None:
    assert turns(balance(1, 1, 1), 30) == {"1": 10, "2": 10, "3": 10}


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6))
def test_turns_go_by_weight(weights: list[int]) -> None:
    found = turns(balance(*weights), 20 * sum(weights))
    for index, weight in enumerate(weights, 1):
        assert abs(found[str(index)] - 20 * weight) <= len(weights) + 1


def test_a_weight_of_nothing_is_hardly_ever_chosen() -> None:
    assert turns(balance(1, 0), 1000)["2"] in range(5, 15)


def test_the_least_outstanding_is_next() -> None:
    made = balance(1, 1, 1)
    for endpoint, busy in zip(made.endpoints, (3, 1, 2), strict=True):
        endpoint.open = busy
    order = []
    for _ in range(6):
        chosen = made.choose(0.0)
        assert chosen is not None
        chosen.open += 1
        order.append(chosen.address.host[-1])
    assert order[0] == "2"
    assert Counter(order) == {"2": 3, "3": 2, "1": 1}


def test_who_was_away_does_not_get_what_it_missed() -> None:
    made = balance(1, 1)
    made.endpoints[1].failed(0.0, RESET, "refused", is_out=True)
    assert turns(made, 50) == {"1": 50}
    made.endpoints[1].succeeded()
    assert turns(made, 20)["2"] in (10, 11)


def test_who_was_busy_does_not_get_what_it_missed() -> None:
    made = balance(1, 1)
    made.endpoints[1].open = 1
    assert turns(made, 50) == {"1": 50}
    made.endpoints[1].open = 0
    assert turns(made, 20)["2"] in (10, 11)


def test_priorities() -> None:
    made = balance(1, 1, 1, priorities=(10, 10, 20), most=1)
    assert turns(made, 20) == {"1": 10, "2": 10}
    made.endpoints[0].open = made.endpoints[1].open = 1
    chosen = made.choose(0.0)
    assert chosen is not None
    assert chosen.address.priority == 10, "a full endpoint can be used, only later"
    made.endpoints[0].is_healthy = False
    made.endpoints[1].failed(0.0, RESET, "refused", is_out=True)
    assert turns(made, 5) == {"3": 5}


def test_a_full_endpoint_is_passed_over() -> None:
    made = balance(100, 1, most=1)
    made.endpoints[0].open = 1
    chosen = made.choose(0.0)
    assert chosen is made.endpoints[1]


def test_when_all_are_out_the_first_to_come_back_is_tried() -> None:
    made = balance(1, 1)
    made.endpoints[0].failed(0.0, RESET, "refused", is_out=True)
    made.endpoints[1].failed(0.5, RESET, "refused", is_out=True)
    assert made.choose(1.0) is made.endpoints[0]
    assert not made.is_any_usable(1.0)
    assert made.is_any_usable(2.0)


def test_one_leg_tries_an_endpoint_that_failed() -> None:
    made = balance(1, 1)
    made.endpoints[0].failed(0.0, RESET, "refused", is_out=True)
    assert turns(made, 10, now=RESET) == {"1": 1, "2": 9}
    made.endpoints[0].succeeded()
    assert turns(made, 10, now=RESET)["1"] >= 5


def test_a_load_test_that_is_left_out_is_no_trial() -> None:
    made = balance(1, 1)
    made.endpoints[0].failed(0.0, RESET, "refused", is_out=True)
    made.take(made.endpoints[0], RESET, RESET, is_for_load=True)
    assert made.endpoints[0].is_usable(RESET)
    made.take(made.endpoints[0], RESET, RESET)
    assert not made.endpoints[0].is_usable(RESET)


def test_an_endpoint_that_is_left_out_without_a_failure() -> None:
    endpoint = Endpoint(Address("10.0.0.1", 80, "a"))
    assert endpoint.leave_out(0.0, RESET)
    assert not endpoint.leave_out(1.0, RESET), "it was left out before"
    assert (endpoint.state(RESET), endpoint.state(RESET + 1.0)) == ("out", "up")
    assert (endpoint.row, endpoint.outs) == (0, 0)
    endpoint.failed(RESET + 1.0, 10.0, "refused", is_out=True)
    endpoint.leave_out(RESET + 2.0, 1.0)
    assert not endpoint.is_usable(RESET + 10.0), "it stays out for as long as it was"


def test_who_fails_again_is_left_out_for_longer() -> None:
    endpoint = Endpoint(Address("10.0.0.1", 80, "a"))
    assert endpoint.failed(0.0, RESET, "refused", is_out=True)
    assert (endpoint.is_usable(1.9), endpoint.is_usable(2.0)) == (False, True)
    assert not endpoint.failed(2.0, RESET, "refused", is_out=True), "the same again is no news"
    assert (endpoint.is_usable(5.9), endpoint.is_usable(6.0)) == (False, True)
    for _ in range(30):
        endpoint.failed(10.0, RESET, "refused", is_out=True)
    assert endpoint.is_usable(40.0)
    assert endpoint.state(39.0) == "out"
    endpoint.succeeded()
    assert (endpoint.state(10.0), endpoint.row, endpoint.last_trouble) == ("up", 0, "")
