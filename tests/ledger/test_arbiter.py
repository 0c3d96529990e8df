"""Who is first among events with one id: scripts of claims and answers, and the verdicts that come of them."""

from __future__ import annotations

from time import process_time

from proxy.core.dedupe import CONFLICT, DONE, FIRST, id_digest
from proxy.core.owed import DELIVERED, DISCARDED, PENDING, REFUSED
from proxy.ledger.arbiter import Arbiter, Policy
from proxy.ledger.entry import Entry
from proxy.ledger.remembered import Remembered
from tests.ledger.support import ROUTE, SECOND, content, event

A, B, C, D = (1, 1), (2, 1), (1, 2), (2, 2)
NOW = 1_700_000_000 * SECOND


def arbiter(*, ack: str = "authority", seconds: float = 60.0, is_released: bool = True) -> Arbiter:
    made = Arbiter({ROUTE: Policy(ack, 202, Remembered(seconds, 100))})
    if is_released:
        made.release(NOW)
    return made


def ask(
    one: Arbiter, place: tuple[int, int], body: bytes = b"x", *, id: str = "id", granted: bool = False, at: float = 0.0
) -> list[tuple[tuple[int, int], int, int]]:
    """Claim, and what is said then."""
    one.claim(place, ROUTE, id_digest(id), content(body), granted, NOW + int(at * SECOND))
    return said(one)


def said(one: Arbiter) -> list[tuple[tuple[int, int], int, int]]:
    """(place, verdict, status) of everything said since the last look."""
    found = [((stream, n), kind, status) for stream, (n, kind, status) in one.said]
    one.said.clear()
    return found


def entry(place: tuple[int, int], body: bytes = b"x", *, id: str = "id", **changes: int) -> Entry:
    """An event's entry."""
    e = event(place[1], id=id, body=body, client_id=True, accepted_ns=NOW)
    row = tuple(getattr(e, name) for name in e.__struct_fields__)
    made = Entry(row, place[1], place[0])
    for name, value in changes.items():
        setattr(made, name, value)
    return made


# among live workers


def test_the_first_goes_on_and_its_twins_get_its_answer() -> None:
    one = arbiter()
    assert ask(one, A) == [(A, FIRST, 0)]
    assert ask(one, B) == ask(one, C) == []
    one.recorded(entry(A))
    one.answered(A, 201)
    assert said(one) == [(B, DONE, 201), (C, DONE, 201)]
    assert ask(one, D) == [(D, DONE, 201)]
    assert len(one) == 0


def test_another_content_is_a_conflict_in_flight_and_later() -> None:
    one = arbiter()
    ask(one, A)
    assert ask(one, B, b"y") == [(B, CONFLICT, 0)]
    one.answered(A, 200)
    assert ask(one, C, b"y") == [(C, CONFLICT, 0)]
    assert ask(one, D) == [(D, DONE, 200)]


def test_after_the_window_it_is_a_new_event() -> None:
    one = arbiter(seconds=60)
    ask(one, A)
    one.answered(A, 200)
    assert ask(one, B, at=59.9) == [(B, DONE, 200)]
    assert ask(one, C, b"y", at=60) == [(C, FIRST, 0)]


def test_a_first_that_was_not_accepted_hands_the_claim_to_the_oldest_twin() -> None:
    one = arbiter()
    for place in (A, B, C):
        ask(one, place)
    one.recorded(entry(A))
    one.answered(A, 503)
    assert said(one) == [(B, FIRST, 0)]
    one.recorded(entry(B))
    one.answered(B, 422)
    assert said(one) == [(C, FIRST, 0)]
    one.answered(C, 409)
    assert said(one) == []
    assert ask(one, D, b"y") == [(D, FIRST, 0)], "and nothing is remembered of what was refused"


def test_who_leaves_is_forgotten_and_who_held_the_claim_passes_it_on() -> None:
    one = arbiter()
    for place in (A, B, C):
        ask(one, place)
    one.withdraw(B)
    one.withdraw(A)
    assert said(one) == [(C, FIRST, 0)]
    one.withdraw(C)
    assert len(one) == 0
    one.withdraw(C)


def test_who_takes_over_has_no_event_yet() -> None:
    one = arbiter()
    for place in (A, B, C):
        ask(one, place)
    one.recorded(entry(A))
    one.doubt(A)
    one.answered(A, 503)
    assert said(one) == [(B, FIRST, 0)]
    assert not one.has_event(B)
    assert one.verdict_of_record(entry(B, old_state=DELIVERED, old_status=201)) is None
    one.withdraw(B)
    assert said(one) == [(C, FIRST, 0)]


def test_a_recorded_event_cannot_be_withdrawn() -> None:
    one = arbiter()
    ask(one, A)
    ask(one, B)
    one.recorded(entry(A))
    one.withdraw(A)
    assert said(one) == []
    one.answered(A, 202)
    assert said(one) == [(B, DONE, 202)]


def test_thousands_of_twins_of_one_id_come_and_go_quickly() -> None:
    one = arbiter()
    ask(one, A)
    for n in range(10_000):
        ask(one, (2, n))
    began = process_time()
    for n in range(5_000):
        one.withdraw((2, 2 * n))
    one.keep_only(2, {1, 3, 5})
    one.answered(A, 500)
    for n in (1, 3, 5):
        assert said(one) == [((2, n), FIRST, 0)]
        one.answered((2, n), 500)
    assert len(one) == 0
    assert process_time() - began < 1.0


def test_ids_are_apart_and_answers_of_others_mean_nothing() -> None:
    one = arbiter()
    assert ask(one, A, id="a") == [(A, FIRST, 0)]
    assert ask(one, B, id="b") == [(B, FIRST, 0)]
    one.answered(C, 200)
    one.answered(A, 200)
    one.answered(A, 500)
    assert ask(one, C, id="a") == [(C, DONE, 200)]
    assert ask(one, D, id="b") == []
    assert one.figures(NOW) == {ROUTE: 1}
    assert one.figures(NOW + 61 * SECOND) == {ROUTE: 0}


# workers that come back


def test_a_claim_may_be_asked_for_again() -> None:
    one = arbiter()
    assert ask(one, A) == ask(one, A) == ask(one, A, granted=True) == [(A, FIRST, 0)]
    assert ask(one, B) == ask(one, B) == []
    one.answered(A, 500)
    assert said(one) == [(B, FIRST, 0)]


def test_a_worker_that_is_back_has_only_the_claims_that_it_names() -> None:
    one = arbiter()
    ask(one, A, id="a")
    ask(one, C, id="c")
    ask(one, B, id="a")
    ask(one, D, id="c")
    one.recorded(entry(C, id="c"))
    one.keep_only(1, set())
    assert said(one) == [(B, FIRST, 0)], "a was withdrawn, c is an event by now"
    one.keep_only(2, {1})
    one.answered(C, 500)
    assert said(one) == []


# after a start


def test_nobody_is_first_before_everybody_had_time_to_come_back() -> None:
    one = arbiter(is_released=False)
    assert ask(one, B) == ask(one, C) == []
    assert ask(one, A, granted=True) == [(A, FIRST, 0)], "it was first all along"
    one.release(NOW)
    assert said(one) == []
    one.answered(A, 500)
    assert said(one) == [(B, FIRST, 0)]


def test_an_event_that_is_said_again_was_first_too() -> None:
    one = arbiter(is_released=False)
    ask(one, B)
    ask(one, C, b"other")
    one.recorded(entry(A))
    assert said(one) == [(C, CONFLICT, 0)]
    one.release(NOW)
    one.answered(A, 201)
    assert said(one) == [(B, DONE, 201)]


def test_without_one_the_oldest_is_first_at_the_release() -> None:
    one = arbiter(is_released=False)
    for place, body in ((A, b"x"), (B, b"y"), (C, b"x")):
        assert ask(one, place, body) == []
    one.withdraw(A)
    one.release(NOW)
    assert said(one) == [(C, CONFLICT, 0), (B, FIRST, 0)]


def test_what_the_receipts_say_is_the_answer_at_the_release() -> None:
    one = arbiter(is_released=False)
    ask(one, A)
    ask(one, B, b"y")
    one.recall(ROUTE, id_digest("id"), content(b"x"), 201, NOW)
    assert ask(one, C) == [], "behind those who asked before"
    one.release(NOW)
    assert said(one) == [(A, DONE, 201), (B, CONFLICT, 0), (C, DONE, 201)]
    assert len(one) == 0


def test_what_is_known_is_answered_before_the_release() -> None:
    one = arbiter(is_released=False)
    one.recall(ROUTE, id_digest("id"), content(b"x"), 201, NOW)
    assert ask(one, A) == [(A, DONE, 201)]
    assert ask(one, B, b"y") == [(B, CONFLICT, 0)]


def test_of_two_that_were_told_so_by_different_ledgers_both_go_on() -> None:
    one = arbiter()
    ask(one, A)
    assert ask(one, B, granted=True) == [(B, FIRST, 0)]
    one.recorded(entry(B))
    one.answered(B, 200)
    assert ask(one, C) == [], "the first of them counts"
    one.answered(A, 201)
    assert said(one) == [(C, DONE, 201)]


# doubt


def test_of_a_doubtful_event_the_record_decides_once_its_worker_let_go() -> None:
    one = arbiter()
    ask(one, A)
    e = entry(A, held=1, old_state=PENDING, new_state=PENDING)
    one.recorded(e)
    assert one.verdict_of_record(e) is None, "nobody doubts it"
    one.doubt(A)
    assert one.verdict_of_record(e) is None, "its worker is on it"
    e.held, e.old_state, e.old_status = 0, DELIVERED, 201
    assert one.verdict_of_record(e) == 201
    assert one.verdict_of_record(e) is None, "asked for once"


def test_in_the_hands_of_the_ledger_it_counts_as_accepted_but_under_both() -> None:
    for ack, verdict in (("authority", 202), ("accepted", 202), ("both", 0)):
        one = arbiter(ack=ack)
        one.found(A, ROUTE, "id", b"POST / HTTP/1.1", b"d" * 16, NOW)
        assert one.verdict_of_record(entry(A, old_state=PENDING, new_state=PENDING)) == verdict


def test_under_both_it_waits_for_both() -> None:
    one = arbiter(ack="both")
    one.found(A, ROUTE, "id", b"POST / HTTP/1.1", b"d" * 16, NOW)
    e = entry(A, held=2, old_state=DELIVERED, old_status=200, new_state=PENDING)
    assert one.verdict_of_record(e) is None
    e.held, e.new_state = 0, DELIVERED
    assert one.verdict_of_record(e) == 200


def test_under_both_a_failed_authority_is_enough() -> None:
    one = arbiter(ack="both")
    for state in (REFUSED, DISCARDED, PENDING):
        one.found(A, ROUTE, "id", b"POST / HTTP/1.1", b"d" * 16, NOW)
        assert one.verdict_of_record(entry(A, held=2, old_state=state, new_state=PENDING)) == 0


def test_a_refusal_on_record_frees_the_id() -> None:
    for state in (REFUSED, DISCARDED):
        one = arbiter()
        one.found(A, ROUTE, "id", b"POST / HTTP/1.1", b"d" * 16, NOW)
        assert one.verdict_of_record(entry(A, old_state=state, old_status=409)) == 0
