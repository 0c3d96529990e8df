"""Fingerprints, and what a record says of the first's success."""

from __future__ import annotations

import pytest

from proxy.core.dedupe import DIGEST_BYTES, body_digest, fingerprint, id_digest, is_accepted, recorded_status
from proxy.core.event import NEW, OLD
from proxy.core.owed import DEAD, DEFERRED, DELIVERED, DISCARDED, LOST, NOT_OWED, PENDING, REFUSED, RELEASED

LINE = b"POST /events HTTP/1.1"


def test_a_fingerprint_is_of_method_target_and_body() -> None:
    made = {
        fingerprint(line, body_digest(body))
        for line in (LINE, b"PUT /events HTTP/1.1", b"POST /events?a=1 HTTP/1.1")
        for body in (b"", b"{}", b"{ }")
    }
    assert len(made) == 9
    assert fingerprint(LINE, body_digest(b"{}")) == fingerprint(LINE, body_digest(b"{}"))


def test_digests_are_short_whatever_is_digested() -> None:
    assert {len(each) for each in (id_digest("i"), id_digest("i" * 512), body_digest(b"b" * 10**6))} == {DIGEST_BYTES}
    assert id_digest("a") != id_digest("b")


def test_only_2xx_is_accepted() -> None:
    assert [status for status in (0, 100, 199, 200, 202, 299, 300, 304, 422, 500, 503) if is_accepted(status)] == [
        200, 202, 299,
    ]  # fmt: skip


@pytest.mark.parametrize("authority", [OLD, NEW])
@pytest.mark.parametrize(
    ("state", "status", "told"),
    [
        (DELIVERED, 201, 201),
        (DELIVERED, 0, 202),
        (PENDING, 0, 202),
        (PENDING, 503, 202),
        (DEAD, 500, 202),
        (DEFERRED, 0, 202),
        (REFUSED, 422, 0),
        (DISCARDED, 503, 0),
        (LOST, 0, 0),
        (RELEASED, 0, 0),
        (NOT_OWED, 0, 0),
    ],
)
@pytest.mark.parametrize("other", [NOT_OWED, PENDING, DELIVERED, REFUSED, LOST])
def test_the_authority_decides(authority: int, state: int, status: int, told: int, other: int) -> None:
    sides = ((other, 409), (state, status)) if authority == NEW else ((state, status), (other, 409))
    assert recorded_status("authority", 202, authority, *sides[0], *sides[1]) == told
    assert recorded_status("accepted", 204, authority, *sides[0], *sides[1]) == (204 if told else 0)


@pytest.mark.parametrize(
    ("state", "other", "told"),
    [
        (DELIVERED, DELIVERED, 201),
        (DELIVERED, NOT_OWED, 201),
        (DELIVERED, DEFERRED, 201),
        (DELIVERED, PENDING, 0),
        (DELIVERED, REFUSED, 0),
        (DELIVERED, DEAD, 0),
        (PENDING, DELIVERED, 0),
    ],
)
def test_under_both_the_other_side_counts_too(state: int, other: int, told: int) -> None:
    assert recorded_status("both", 202, OLD, state, 201, other, 0) == told
