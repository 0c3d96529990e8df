"""Both answers to an event, put aside when they are whole."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.core.answers import LONGEST, MOST, Answered, AnsweredPair
from proxy.core.event import NEW, OLD
from proxy.http.pair import Pair
from proxy.http.response_head import parse_response_head


class Leg:
    """As much of a leg as a pair looks at."""

    def __init__(self, side: int, status: int = 200, body: bytes = b"{}", **changes: Any) -> None:
        self.side, self.status, self.body = side, status, body
        self.head = parse_response_head(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\nX-A: 1" % (status, len(body)))
        self.is_started = self.truncated = False
        self.request = b"POST /as/old/has/it HTTP/1.1\r\nA: b\r\n\r\nin"
        for name, value in changes.items():
            setattr(self, name, value)


class Event:
    route, id, context, body = "events", "e1", b"POST / HTTP/1.1\r\n", b"in"


def taken(*legs: Leg, held: list[AnsweredPair] | None = None) -> list[AnsweredPair]:
    found: list[AnsweredPair] = [] if held is None else held
    pair = Pair(found, Event())  # type: ignore[arg-type]
    for leg in legs:
        pair.take(leg)  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("sides", [(OLD, NEW), (NEW, OLD)])
def test_both_make_a_pair_whichever_is_first(sides: tuple[int, int]) -> None:
    (pair,) = taken(*(Leg(side, 200 + side, b"%d" % side) for side in sides))
    assert (pair.route, pair.id, pair.body) == ("events", "e1", b"in")
    assert pair.request == b"POST /as/old/has/it HTTP/1.1\r\nA: b"
    assert pair.old == Answered(200, b"HTTP/1.1 200 X\r\nX-A: 1\r\n", b"0")
    assert pair.new == Answered(201, b"HTTP/1.1 201 X\r\nX-A: 1\r\n", b"1")


@pytest.mark.parametrize(
    "other",
    [
        None,
        Leg(NEW, head=None),
        Leg(NEW, is_started=True),
        Leg(NEW, truncated=True),
        Leg(NEW, body=b"x" * (LONGEST + 1)),
    ],
)
def test_what_is_not_whole_or_long_makes_none(other: Leg | None) -> None:
    assert taken(Leg(OLD), *([other] if other is not None else [])) == []


def test_a_second_try_makes_no_second_pair() -> None:
    assert len(taken(Leg(OLD), Leg(NEW), Leg(NEW))) == 1


def test_no_more_are_held_than_fit_into_a_report() -> None:
    held: list[AnsweredPair] = []
    for _ in range(MOST + 5):
        taken(Leg(OLD), Leg(NEW), held=held)
    assert len(held) == MOST
