"""The book on a real store, without a loop: frames in, states on disk out."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from proxy.core.event import UNFIT_STATUS
from proxy.core.owed import DEAD, DELIVERED, DISCARDED, LOST, PENDING, REFUSED
from proxy.ledger.protocol import ANSWERED, HANDED, OWED, PARKED, UNANSWERED
from proxy.ledger.reader import Reader
from tests.ledger.support import ROUTE, Desk, bucket, event, frame, rows

OLD_K = (0, 0, bucket("k"))
NEW_K = (0, 1, bucket("k"))


def test_a_healthy_event_is_written_once_and_settled_without_its_body(desk: Desk) -> None:
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [event(1)], [(1, 0, DELIVERED, 200), (1, 1, DELIVERED, 201)]))
    assert [each.name for each in desk.commit()] == ["s1"]
    assert stream.durable == 1
    assert desk.states() == {"id-1": ("delivered", "delivered")}
    assert desk.bodies() == set()
    assert not stream.live
    assert not desk.book.on_disk
    assert desk.observer.told == [("answered", 0, 1), ("answered", 1, 1)]


def test_an_event_in_flight_is_written_with_its_body_and_updated_later(desk: Desk) -> None:
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [event(1)], [(1, 0, DELIVERED, 200)]))
    desk.commit()
    assert desk.states() == {"id-1": ("delivered", "pending")}
    assert desk.bodies() == {"id-1"}
    desk.book.take_frame(stream, frame(2, [], [(1, 1, DELIVERED, 200)]))
    desk.commit()
    assert desk.states() == {"id-1": ("delivered", "delivered")}
    assert desk.bodies() == set()
    assert not stream.live
    assert not desk.marks.marked, "nobody waited, so there was no backlog"


@pytest.mark.parametrize(
    ("code", "state"),
    [(DELIVERED, "delivered"), (REFUSED, "refused"), (DISCARDED, "discarded"), (LOST, "lost")],
)
@pytest.mark.parametrize("committed", [False, True])
def test_each_settled_report_settles(desk: Desk, code: int, state: str, committed: bool) -> None:
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [event(1)], [(1, 0, DELIVERED, 200)]))
    if committed:
        desk.commit()
    desk.book.take_frame(stream, frame(2, [], [(1, 1, code, 400)]))
    desk.commit()
    assert desk.states() == {"id-1": ("delivered", state)}


def test_a_parked_side_is_marked_until_its_report_comes(desk: Desk) -> None:
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [event(1)], [(1, 0, DELIVERED, 200), (1, 1, PARKED, 0)]))
    assert desk.marks.marked == {NEW_K}, "before the frame is durable"
    desk.commit()
    assert desk.book.is_parked(1, 1)
    desk.book.take_frame(stream, frame(2, [], [(1, 1, DELIVERED, 200)]))
    assert not desk.marks.marked
    desk.commit()
    assert desk.states() == {"id-1": ("delivered", "delivered")}


@pytest.mark.parametrize("side", [0, 1])
def test_a_failover_keeps_the_body_for_the_side_that_is_owed_now(desk: Desk, side: int) -> None:
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [event(1, authority=side, owed=1 << side)]))
    desk.commit()
    other = 1 - side
    desk.book.take_frame(
        stream, frame(2, [], [(1, other, OWED, 0), (1, other, ANSWERED, 0), (1, side, DISCARDED, 502)])
    )
    desk.commit()
    assert desk.bodies() == {"id-1"}
    desk.book.lost(stream)
    desk.book.hand_over(stream)
    desk.commit()
    found = Reader(lambda: desk.store.segments).pending(ROUTE, other, 0, [], 10, 10**6)
    assert [(item.seq, item.event.body) for item in found.items] == [(1, b'{"n":1}')]
    assert desk.book.settle(1, ROUTE, other, bucket("k"), DELIVERED, 200, 1)
    desk.commit()
    assert desk.bodies() == set()


def test_a_handed_side_is_the_replayers_once_it_is_on_disk(desk: Desk) -> None:
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [event(1, handed=2)], [(1, 0, DELIVERED, 200)]))
    assert desk.marks.marked == {NEW_K}
    assert desk.observer.told == []
    desk.commit()
    assert desk.observer.told == [("left", 0, 1), ("has_more", 1), ("answered", 0, 1)]
    assert desk.book.settle(1, ROUTE, 1, bucket("k"), DELIVERED, 200, 1)
    assert not desk.marks.marked
    desk.commit()
    assert desk.states() == {"id-1": ("delivered", "delivered")}
    assert desk.bodies() == set()


def test_a_side_that_is_handed_while_it_is_being_written_is_not_passed_by(desk: Desk) -> None:
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [event(1)], [(1, 0, DELIVERED, 200)]))
    group = desk.book.take(1)
    desk.book.take_frame(stream, frame(2, [], [(1, 1, HANDED, 503)]))
    desk.store.commit(group)
    desk.book.committed(group)
    assert ("handed", 1, 1) in desk.observer.told
    desk.commit()
    assert rows(desk.store.newest.path, "SELECT held, new_status, new_attempts FROM receipt") == [(0, 503, 1)]


@pytest.mark.parametrize(("status", "known"), [(0, (0, 0)), (UNANSWERED, (0, 1)), (504, (504, 1))])
def test_what_went_out_counts_as_a_try_also_without_an_answer(desk: Desk, status: int, known: tuple[int, int]) -> None:
    """The backend may have it: the next try is the second, and two rows there are explained."""
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [event(1)], [(1, 0, DELIVERED, 200), (1, 1, HANDED, status)]))
    desk.commit()
    assert rows(desk.store.newest.path, "SELECT new_status, new_attempts FROM receipt") == [known]


def test_what_a_dead_worker_was_on_counts_as_tried(desk: Desk) -> None:
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [event(1), event(2, handed=2)], [(1, 0, DELIVERED, 200)]))
    desk.book.hand_over(stream)
    desk.commit()
    found = rows(desk.store.newest.path, "SELECT id, old_attempts, new_attempts FROM receipt ORDER BY id")
    assert found == [("id-1", 1, 1), ("id-2", 1, 0)], "what was handed from the beginning had not gone out"


def test_a_failover_changes_the_authority_and_owes_the_other_side(desk: Desk) -> None:
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [event(1, owed=2, authority=1)]))
    desk.commit()
    desk.book.take_frame(
        stream,
        frame(2, [], [(1, 1, DISCARDED, 503), (1, 0, OWED, 0), (1, 0, ANSWERED, 0), (1, 0, DELIVERED, 200)]),
    )
    desk.commit()
    assert desk.states() == {"id-1": ("delivered", "discarded")}
    assert rows(desk.store.newest.path, "SELECT authority, owed FROM receipt") == [(0, 3)]


def test_a_side_owed_while_the_settled_event_is_being_written_gets_its_body(desk: Desk) -> None:
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [event(1, owed=2)], [(1, 1, DISCARDED, 503)]))
    group = desk.book.take(1)
    desk.book.take_frame(stream, frame(2, [], [(1, 0, OWED, 0), (1, 0, HANDED, 0)]))
    desk.store.commit(group)
    desk.book.committed(group)
    desk.commit()
    assert desk.states() == {"id-1": ("pending", "discarded")}
    assert desk.bodies() == {"id-1"}


def test_deferred_is_not_backlog_and_its_body_is_kept(desk: Desk) -> None:
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [event(1, authority=1, deferred=1)], [(1, 1, DELIVERED, 200)]))
    desk.commit()
    assert desk.states() == {"id-1": ("deferred", "delivered")}
    assert desk.bodies() == {"id-1"}
    assert not desk.marks.marked
    assert not stream.live


def test_what_the_authority_refused_is_discarded_though_it_was_deferred(desk: Desk) -> None:
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [event(1, authority=1, deferred=1)]))
    desk.commit()
    desk.book.take_frame(stream, frame(2, [], [(1, 1, REFUSED, 422), (1, 0, DISCARDED, 422)]))
    desk.commit()
    assert desk.states() == {"id-1": ("discarded", "refused")}


def test_a_failover_to_the_deferred_side_delivers_it_now(desk: Desk) -> None:
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [event(1, authority=1, deferred=1)]))
    desk.commit()
    desk.book.take_frame(
        stream, frame(2, [], [(1, 1, HANDED, 0), (1, 0, OWED, 0), (1, 0, ANSWERED, 0), (1, 0, DELIVERED, 200)])
    )
    desk.commit()
    assert desk.states() == {"id-1": ("delivered", "pending")}


def test_frames_that_come_twice_change_nothing(desk: Desk) -> None:
    stream = desk.book.hello("s1", 0)
    said = [frame(1, [event(1, handed=2)]), frame(2, [event(2)], [(1, 0, DELIVERED, 200)])]
    for each in said:
        desk.book.take_frame(stream, each)
    desk.commit()
    before = desk.states()
    for number, events in ((1, [event(1, handed=2)]), (2, [event(2)])):
        desk.book.take_frame(stream, frame(number, events))
    assert not desk.book.has_changes() or desk.commit() == []
    assert desk.states() == before
    assert desk.book.counters["duplicate_frames"] == 2


def test_a_gap_in_the_frames_and_an_unknown_code_are_refused(desk: Desk) -> None:
    stream = desk.book.hello("s1", 0)
    with pytest.raises(ValueError, match="frame 2 after frame 0"):
        desk.book.take_frame(stream, frame(2, [event(1)]))
    desk.book.take_frame(stream, frame(1, [event(1)]))
    with pytest.raises(ValueError, match="unknown report code 99"):
        desk.book.take_frame(stream, frame(2, [], [(1, 0, 99, 0)]))


def test_reports_of_unknown_events_are_counted(desk: Desk) -> None:
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [], [(7, 0, DELIVERED, 200)]))
    assert desk.book.counters["late_reports"] == 1


def test_a_lost_workers_events_are_marked_at_once_and_handed_over_later(desk: Desk) -> None:
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [event(1)], [(1, 0, DELIVERED, 200)]))
    desk.commit()
    desk.book.lost(stream)
    assert desk.marks.marked == {NEW_K}
    assert desk.book.is_parked(1, 1), "it may come back: others wait, and the replayer does not deliver it yet"
    desk.book.hand_over(stream)
    desk.book.close(stream)
    assert ("handed", 1, 1) in desk.observer.told
    desk.commit()
    assert rows(desk.store.newest.path, "SELECT held FROM receipt") == [(0,)]
    assert [closed for *_, closed in desk.store.streams()] == [1]


def test_a_late_report_of_a_worker_that_came_back_settles(desk: Desk) -> None:
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [event(1)], [(1, 0, DELIVERED, 200)]))
    desk.commit()
    desk.book.lost(stream)
    desk.book.hand_over(stream)
    desk.book.close(stream)
    desk.commit()
    assert desk.book.hello("s1", 0) is stream
    desk.book.take_frame(stream, frame(2, [], [(1, 1, DELIVERED, 200)]))
    assert ("settled", 1, 1) in desk.observer.told
    assert not desk.book.settle(1, ROUTE, 1, bucket("k"), DELIVERED, 200, 1), "the replay's outcome comes second"
    desk.commit()
    assert desk.states() == {"id-1": ("delivered", "delivered")}
    assert not desk.marks.marked


def test_a_stream_that_is_away_for_long_is_forgotten(desk: Desk) -> None:
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [event(1)]))
    desk.commit()
    desk.book.lost(stream)
    desk.book.hand_over(stream)
    assert not desk.book.forget(stream), "its events are not on disk as handed yet"
    desk.book.close(stream)
    desk.commit()
    assert desk.book.forget(stream)
    assert not desk.book.on_disk
    assert desk.book.hello("s1", 0) is not stream


def test_after_a_crash_the_stream_resumes_where_it_was_durable(desk: Desk) -> None:
    stream = desk.book.hello("s1", 3)
    desk.book.take_frame(stream, frame(1, [event(1)], [(1, 0, DELIVERED, 200)]))
    desk.commit()
    desk.book.take_frame(stream, frame(2, [event(2)]))
    desk.crash()
    desk.open()
    assert desk.marks.marked == {NEW_K}, "what is pending is backlog until we know more"
    assert desk.book.is_parked(1, 1)
    stream = desk.book.hello("s1", 3)
    assert stream.durable == 1
    desk.book.take_frame(stream, frame(2, [event(2)]))
    desk.book.take_frame(stream, frame(3, [], [(1, 1, DELIVERED, 200), (2, 0, DELIVERED, 200), (2, 1, DELIVERED, 200)]))
    desk.commit()
    assert desk.states() == {"id-1": ("delivered", "delivered"), "id-2": ("delivered", "delivered")}
    assert not desk.marks.marked
    assert desk.bodies() == set()


def test_settled_outcomes_without_an_entry_update_old_rows(desk: Desk) -> None:
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [event(n, handed=3) for n in range(1, 5)]))
    desk.commit()
    assert not desk.book.on_disk
    for seq, side, state in ((1, 0, DELIVERED), (1, 1, REFUSED), (2, 0, DEAD), (3, 1, PENDING)):
        assert desk.book.settle(seq, ROUTE, side, bucket("k"), state, 503, 4)
    desk.commit()
    assert desk.states() == {
        "id-1": ("delivered", "refused"),
        "id-2": ("dead", "pending"),
        "id-3": ("pending", "pending"),
        "id-4": ("pending", "pending"),
    }
    assert desk.bodies() == {"id-2", "id-3", "id-4"}
    assert desk.backlog.count(ROUTE, 0, bucket("k")) == 2
    assert desk.backlog.count(ROUTE, 1, bucket("k")) == 3


def test_an_attempt_and_its_success_between_two_commits_are_one_update(desk: Desk) -> None:
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [event(1, handed=2)], [(1, 0, DELIVERED, 200)]))
    desk.commit()
    assert desk.book.settle(1, ROUTE, 1, bucket("k"), PENDING, 503, 1)
    assert desk.book.settle(1, ROUTE, 1, bucket("k"), DELIVERED, 200, 2)
    assert not desk.book.settle(1, ROUTE, 1, bucket("k"), DELIVERED, 200, 3)
    desk.commit()
    assert rows(desk.store.newest.path, "SELECT new_state, new_attempts FROM receipt") == [(DELIVERED, 2)]


def test_the_other_side_waits_for_the_authority_and_is_released_by_its_2xx(desk: Desk) -> None:
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [event(1, handed=2, after_authority=True)]))
    desk.commit()
    assert ("released", 1, 1) not in desk.observer.told
    desk.book.take_frame(stream, frame(2, [], [(1, 0, DELIVERED, 200)]))
    assert ("released", 1, 1) in desk.observer.told


def test_what_the_authority_refused_is_not_delivered_to_the_side_that_waited(desk: Desk) -> None:
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [event(1, handed=2, after_authority=True)]))
    desk.commit()
    desk.book.take_frame(stream, frame(2, [], [(1, 0, REFUSED, 400)]))
    desk.commit()
    assert desk.states() == {"id-1": ("refused", "discarded")}
    assert not desk.marks.marked


@pytest.mark.parametrize(("status", "state"), [(UNFIT_STATUS, "pending"), (500, "discarded")])
def test_what_the_authority_cannot_be_given_is_released_for_the_side_that_waited(
    desk: Desk, status: int, state: str
) -> None:
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [event(1, handed=2, after_authority=True)]))
    desk.commit()
    desk.book.take_frame(stream, frame(2, [], [(1, 0, HANDED, 503)]))
    assert desk.book.settle(1, ROUTE, 0, bucket("k"), DEAD, status, 1)
    desk.commit()
    assert desk.states() == {"id-1": ("dead", state)}
    assert (("released", 1, 1) in desk.observer.told) == (state == "pending")


def test_bodies_are_kept_when_they_shall_be(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "ledger", retain_bodies=True)
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [event(1), event(2)], [(1, 0, DELIVERED, 200), (1, 1, DELIVERED, 200)]))
    desk.commit()
    desk.book.take_frame(stream, frame(2, [], [(2, 0, DELIVERED, 200), (2, 1, DELIVERED, 200)]))
    desk.commit()
    assert desk.bodies() == {"id-1", "id-2"}
    desk.store.close()


def test_the_receipt_says_everything_but_headers(desk: Desk) -> None:
    stream = desk.book.hello("s1", 0)
    told = event(1, event_time="2026-01-01T00:00:00Z", identities=("a", "b"), client_id=True, epoch=9)
    desk.book.take_frame(stream, frame(1, [told], [(1, 0, DELIVERED, 200), (1, 1, DELIVERED, 204)]))
    desk.commit()
    columns = "id, epoch, head, identities, event_time, client_id, body_size, digest, new_status"
    line, digest = "POST /api/v1/events HTTP/1.1", sha256(b'{"n":1}').digest()[:16]
    assert rows(desk.store.newest.path, f"SELECT {columns} FROM receipt") == [
        ("id-1", 9, line, '["a","b"]', "2026-01-01T00:00:00Z", 1, 7, digest, 204)
    ]


def test_turns_go_one_at_a_time_in_the_order_of_arrival(desk: Desk) -> None:
    one, two = desk.book.hello("s1", 0), desk.book.hello("s2", 1)
    desk.book.take_frame(one, frame(1, [event(1)], turns=[1]))
    desk.book.take_frame(two, frame(1, [event(1)], turns=[1]))
    desk.book.take_frame(one, frame(2, [event(2, key="other")], turns=[2]))
    assert desk.book.granted == [(one.id, 1), (one.id, 2)]
    desk.book.take_frame(one, frame(3, [], [(1, 0, DELIVERED, 200)]))
    assert desk.book.granted == [(one.id, 1), (one.id, 2)], "new has it not yet"
    desk.book.take_frame(one, frame(4, [], [(1, 1, PARKED, 0)]))
    assert desk.book.granted[2:] == [(two.id, 1)]


def test_a_dead_worker_passes_its_turn_on(desk: Desk) -> None:
    one, two = desk.book.hello("s1", 0), desk.book.hello("s2", 1)
    desk.book.take_frame(one, frame(1, [event(1)], turns=[1]))
    desk.book.take_frame(two, frame(1, [event(1)], turns=[1]))
    desk.book.lost(one)
    assert desk.book.granted == [(one.id, 1), (two.id, 1)]
    assert desk.marks.marked == {OLD_K, NEW_K}, "and the next of the key sees that it must be handed over"


def test_after_a_crash_events_keep_their_place_in_line(desk: Desk) -> None:
    one, two = desk.book.hello("s1", 0), desk.book.hello("s2", 1)
    desk.book.take_frame(one, frame(1, [event(1)], turns=[1]))
    desk.book.take_frame(two, frame(1, [event(1)], turns=[1]))
    desk.commit()
    desk.crash()
    desk.open()
    two, one = desk.book.hello("s2", 1), desk.book.hello("s1", 0)
    assert desk.book.turns.holders(one.id) == [(one.id, 1)]
    assert desk.book.turns.holders(two.id) == []
    desk.book.granted.clear()
    desk.book.take_frame(one, frame(2, [], [(1, 0, DELIVERED, 200)]))
    assert desk.book.granted == []
    desk.book.take_frame(one, frame(3, [], [(1, 1, DELIVERED, 200)]))
    assert desk.book.granted == [(two.id, 1)]
