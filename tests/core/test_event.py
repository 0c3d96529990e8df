"""Event, attempt, outcome, and what an HTTP status says about an event."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.event import (
    BOTH,
    DELIVERED,
    NEW,
    OLD,
    PAUSE,
    REFUSED,
    RETRY,
    SIDES,
    UNREACHABLE,
    Attempt,
    Event,
    Outcome,
    classify,
)

STATUSES = {
    DELIVERED: [200, 201, 202, 204, 206, 226, 299],
    REFUSED: [400, 409, 410, 413, 415, 422],
    PAUSE: [401, 403, 404, 405],
    RETRY: [408, 421, 425, 429, 500, 501, 502, 503, 504, 507, 599],
}


@pytest.mark.parametrize(("status", "kind"), [(status, kind) for kind, row in STATUSES.items() for status in row])
def test_a_status_is_classified(status: int, kind: int) -> None:
    assert classify(status) == kind


@pytest.mark.parametrize("status", [100, 199, 300, 301, 304, 402, 406, 407, 411, 412, 414, 416, 428, 431, 451])
def test_any_other_status_is_tried_again_because_nothing_definite_was_said(status: int) -> None:
    assert classify(status) == RETRY


@given(st.integers(100, 599))
def test_only_2xx_is_a_delivery(status: int) -> None:
    assert (classify(status) == DELIVERED) == (status // 100 == 2)


def test_a_status_alone_is_never_unreachable() -> None:
    assert UNREACHABLE not in {classify(status) for status in range(100, 600)}


def test_the_kinds_of_an_outcome_are_distinct() -> None:
    assert len({DELIVERED, REFUSED, PAUSE, RETRY, UNREACHABLE}) == 5


def test_masks_are_made_of_sides() -> None:
    assert (1 << OLD) | (1 << NEW) == BOTH
    assert (SIDES[OLD], SIDES[NEW]) == ("old", "new")


def test_an_outcome_needs_no_reason() -> None:
    assert Outcome(DELIVERED, 204).reason == ""


def test_an_attempt_names_side_role_and_number() -> None:
    assert Attempt(NEW, "copy", 1)._asdict() == {"side": NEW, "role": "copy", "number": 1, "seq": 0}


events = st.builds(
    Event,
    n=st.integers(1, 2**53),
    id=st.text(max_size=40),
    route=st.text(max_size=10),
    key=st.text(max_size=40),
    bucket=st.integers(0, 9_999),
    epoch=st.integers(0, 2**53),
    authority=st.sampled_from((OLD, NEW)),
    owed=st.integers(0, BOTH),
    handed=st.integers(0, BOTH),
    deferred=st.integers(0, BOTH),
    after_authority=st.booleans(),
    accepted_ns=st.integers(0, 2**63 - 1),
    transport=st.just("http"),
    context=st.binary(max_size=200),
    body=st.binary(max_size=200),
    event_time=st.text(max_size=30),
    identities=st.lists(st.text(max_size=10), max_size=3).map(tuple),
    client_id=st.booleans(),
)


@given(events)
def test_an_event_travels_to_the_ledger_unchanged(event: Event) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(event), type=Event) == event


def test_an_event_without_the_optional_fields_has_none_of_them() -> None:
    event = Event(1, "id", "r", "k", 7, 3, OLD, BOTH, 0, 0, False, 1, "http", b"POST / HTTP/1.1\r\n", b"{}")
    assert (event.event_time, event.identities, event.client_id) == ("", (), False)
