"""A lane keeps the order of a key whatever is read and settled at the same time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from proxy.core.event import UNFIT_STATUS
from proxy.core.owed import DEAD, DELIVERED, DISCARDED, PENDING, REFUSED
from proxy.ledger.book import Book
from proxy.ledger.gate import Gate
from proxy.ledger.lane import Lane
from proxy.ledger.reader import Chunk, Item
from tests.ledger.support import ROUTE, event


def nothing_known() -> Book:
    """A book that remembers no event: all are the ledger's, on disk."""
    fake = SimpleNamespace(
        committed_number=0,
        group_number=0,
        is_settled=lambda seq, side: False,
        is_held=lambda seq, side: False,
        is_parked=lambda seq, side: False,
        tries=lambda seq, side, read: read,
    )
    return cast(Book, fake)


def item(seq: int) -> Item:
    return Item(seq=seq, event=event(seq), attempts=0, other_state=DELIVERED, other_status=200, has_body=True)


def load(lane: Lane, *seqs: int, next_seq: int) -> None:
    assert lane.end_load(Chunk([item(seq) for seq in seqs], next_seq, False)) == []


def take(lane: Lane) -> Item:
    taken = lane.next()
    assert taken is not None
    return taken


def test_what_is_read_while_a_failed_event_succeeds_does_not_overtake_what_was_dropped() -> None:
    lane = Lane(ROUTE, 1, cast(Gate, SimpleNamespace(is_open=True)), nothing_known())
    lane.begin_load()
    load(lane, 1, 2, next_seq=3)
    lane.stall(take(lane))  # 1 failed: 2 is dropped from memory
    lane.retry("k")
    assert lane.begin_load() == (1, [])
    load(lane, 1, 2, next_seq=3)
    first = take(lane)
    assert first.seq == 1
    assert lane.next() is None

    # 3 has come to disk; while it is read from there, 1 succeeds and its key is free.
    lane.has_more()
    assert lane.begin_load() == (3, [])
    lane.finish(first)
    load(lane, 3, next_seq=4)
    assert lane.next() is None, "2 goes before 3"
    assert lane.wants_load()
    assert lane.begin_load() == (1, [])
    load(lane, 2, 3, next_seq=4)
    for seq in (2, 3):
        delivered = take(lane)
        assert delivered.seq == seq
        lane.finish(delivered)


def test_an_event_that_is_parked_after_it_was_passed_by_blocks_what_comes_after_it() -> None:
    held = {1}
    book = nothing_known()
    book.is_held = lambda seq, side: seq in held  # type: ignore[method-assign]
    lane = Lane(ROUTE, 1, cast(Gate, SimpleNamespace(is_open=True)), book)
    lane.begin_load()
    load(lane, 1, next_seq=2)
    assert lane.next() is None, "its worker is on it, and nobody was promised an order"
    lane.parked(1, "k")  # now it is: the client may be answered, and send 2
    lane.has_more()
    assert lane.begin_load() == (2, ["k"])
    load(lane, next_seq=3)
    held.clear()
    lane.handed(1, "k")
    assert lane.begin_load() == (1, [])
    load(lane, 1, 2, next_seq=3)
    first = take(lane)
    assert first.seq == 1
    assert lane.next() is None
    lane.finish(first)
    assert take(lane).seq == 2


def given_back_while_a_later_one_is_in_flight() -> tuple[Lane, Item]:
    """A worker had 1 when 2 of the same key was read; 2 is in flight now, and 1 is the ledger's and to be read."""
    held = {1}
    book = nothing_known()
    book.is_held = lambda seq, side: seq in held  # type: ignore[method-assign]
    lane = Lane(ROUTE, 1, cast(Gate, SimpleNamespace(is_open=True)), book)
    lane.begin_load()
    load(lane, 1, 2, next_seq=3)
    second = take(lane)
    assert second.seq == 2
    held.clear()
    lane.handed(1, "k")
    assert lane.begin_load() == (1, [])
    return lane, second


def test_an_event_that_is_being_read_while_a_later_one_of_its_key_fails_is_read_again() -> None:
    lane, second = given_back_while_a_later_one_is_in_flight()
    lane.stall(second)
    load(lane, 1, 2, next_seq=3)
    lane.retry("k")
    lane.begin_load()
    load(lane, 2, next_seq=3)
    lane.finish(take(lane))
    assert lane.begin_load() == (1, [])
    load(lane, 1, next_seq=3)
    assert take(lane).seq == 1


def test_an_event_that_is_being_read_while_a_later_one_of_its_key_is_parked_is_read_again() -> None:
    lane = Lane(ROUTE, 1, cast(Gate, SimpleNamespace(is_open=True)), nothing_known())
    lane.begin_load()
    load(lane, next_seq=3)
    lane.handed(1, "k")
    assert lane.begin_load() == (1, [])
    lane.parked(2, "k")
    load(lane, 1, next_seq=3)
    lane.settled(2, "k")
    assert lane.begin_load() == (1, [])
    load(lane, 1, next_seq=3)
    assert take(lane).seq == 1


def test_an_event_that_is_dropped_when_a_later_one_of_its_key_fails_is_read_again() -> None:
    lane, second = given_back_while_a_later_one_is_in_flight()
    load(lane, 1, next_seq=3)
    lane.stall(second)
    assert lane.queued == 0
    lane.retry("k")
    lane.begin_load()
    load(lane, 2, next_seq=3)
    lane.finish(take(lane))
    assert lane.begin_load() == (1, [])


def test_after_a_hold_everything_that_was_dropped_is_read_again() -> None:
    lane, second = given_back_while_a_later_one_is_in_flight()
    load(lane, 1, next_seq=3)
    lane.put_back(second)  # behind 1
    lane.hold()
    lane.resume()
    assert lane.queued == 0
    assert lane.begin_load() == (1, [])


def test_what_a_hold_drops_of_a_key_that_waits_for_a_parked_event_is_read_when_it_waits_no_longer() -> None:
    lane = Lane(ROUTE, 1, cast(Gate, SimpleNamespace(is_open=True)), nothing_known())
    lane.begin_load()
    load(lane, 1, 2, next_seq=3)
    lane.parked(3, "k")
    lane.hold()
    lane.resume()
    assert lane.begin_load() == (1, ["k"])
    load(lane, next_seq=4)
    lane.settled(3, "k")
    assert lane.begin_load() == (1, [])
    load(lane, 1, 2, next_seq=4)
    assert take(lane).seq == 1


def test_a_failing_key_holds_no_memory_and_comes_back_with_one_event() -> None:
    lane = Lane(ROUTE, 1, cast(Gate, SimpleNamespace(is_open=True)), nothing_known())
    lane.begin_load()
    load(lane, 1, 2, 3, next_seq=4)
    stall = lane.stall(take(lane))
    stall.failures = 1
    assert lane.queued == 0
    assert not lane.wants_load(), "there is nothing else to read"
    lane.retry("k")
    assert lane.wants_load()
    assert lane.begin_load() == (1, [])
    load(lane, 1, 2, 3, next_seq=4)
    assert lane.queued == 1
    lane.finish(take(lane))
    assert not lane.stalls
    assert lane.begin_load() == (1, [])


def test_what_was_put_back_goes_first() -> None:
    lane = Lane(ROUTE, 1, cast(Gate, SimpleNamespace(is_open=True)), nothing_known())
    lane.begin_load()
    load(lane, 1, 2, next_seq=3)
    first = take(lane)
    lane.put_back(first)
    assert take(lane) is first
    assert lane.next() is None


def test_what_was_settled_meanwhile_is_not_read_again() -> None:
    lane = Lane(ROUTE, 1, cast(Gate, SimpleNamespace(is_open=True)), nothing_known())
    lane.begin_load()
    load(lane, 1, 2, next_seq=3)
    lane.finish(take(lane))
    lane.read_again(1)
    assert lane.begin_load() == (1, [])
    lane.left(2)
    load(lane, 1, 2, 3, next_seq=4)
    assert [take(lane).seq] == [2], "it was queued before"
    assert lane.queued == 2


def test_while_the_gate_is_shut_only_one_chunk_is_kept_for_its_trial() -> None:
    gate = SimpleNamespace(is_open=False)
    lane = Lane(ROUTE, 1, cast(Gate, gate), nothing_known())
    assert lane.wants_load()
    lane.begin_load()
    load(lane, 1, next_seq=2)
    lane.has_more()
    assert not lane.wants_load()
    gate.is_open = True
    assert lane.wants_load()


def test_long_bodies_are_read_as_far_as_memory_is_for_them() -> None:
    lane = Lane(ROUTE, 1, cast(Gate, SimpleNamespace(is_open=True)), nothing_known())
    lane.begin_load()
    bodies = [event(seq, body=bytes(3 * 2**20), key=f"k{seq}") for seq in (1, 2, 3)]
    long = [msgspec.structs.replace(item(each.n), event=each) for each in bodies]
    assert lane.end_load(Chunk(long, 4, True)) == []
    assert not lane.wants_load(), "though there are only three"
    lane.finish(take(lane))
    assert lane.wants_load()
    lane.begin_load()
    load(lane, 4, next_seq=5)
    lane.has_more()
    lane.stall(take(lane))
    lane.finish(take(lane))
    lane.finish(take(lane))
    assert (lane.queued, lane._loaded_bytes) == (0, 0)


def test_what_was_released_is_forgotten_while_the_gate_is_shut() -> None:
    book = nothing_known()
    lane = Lane(ROUTE, 1, cast(Gate, SimpleNamespace(is_open=False)), book)
    lane.begin_load()
    load(lane, 1, next_seq=2)
    for seq in range(2, 20_000):
        lane.released(seq, "k")
        lane.remember_settled(seq)
        book.group_number = seq
        book.committed_number = seq - 500
        assert not lane.wants_load()
    assert len(lane._released) + len(lane._settled) < 5_000


def test_what_is_queued_stays_settled_however_long_it_is_queued() -> None:
    book = nothing_known()
    lane = Lane(ROUTE, 1, cast(Gate, SimpleNamespace(is_open=True)), book)
    lane.begin_load()
    load(lane, 1, 2, next_seq=3)
    lane.settled(2, "k")
    book.committed_number = book.group_number = 5
    lane.has_more()
    lane.begin_load()
    load(lane, next_seq=3)
    lane.finish(take(lane))
    assert lane.next() is None, "2 was settled by somebody else"
    assert lane.queued == 0


def waiting(seq: int) -> Item:
    """An event of a key of its own that waits for its authority."""
    its = event(seq, key=f"k{seq}", after_authority=True)
    return Item(seq=seq, event=its, attempts=0, other_state=PENDING, other_status=0, has_body=True)


def test_keys_that_wait_are_bounded_and_reading_goes_on_when_one_does_not_wait_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("proxy.ledger.lane.MOST_STALLS", 3)
    lane = Lane(ROUTE, 1, cast(Gate, SimpleNamespace(is_open=True)), nothing_known())
    found = [waiting(1), waiting(2), waiting(3), item(4), waiting(5), waiting(6)]
    lane.begin_load()
    assert lane.end_load(Chunk(found, 7, True)) == []
    assert sorted(lane.stalls) == ["k1", "k2", "k3"]
    assert not lane.wants_load()
    ready = take(lane)
    assert ready.seq == 4, "it waits for nobody"
    lane.finish(ready)
    assert not lane.wants_load()
    lane.released(2, "k2")
    assert lane.wants_load()
    assert lane.begin_load() == (2, ["k1", "k3"])
    assert lane.end_load(Chunk([found[1], *found[3:]], 7, False)) == []
    second = take(lane)
    assert second.seq == 2
    lane.finish(second)
    assert sorted(lane.stalls) == ["k1", "k3", "k5"]
    lane.released(1, "k1")
    assert lane.begin_load() == (1, ["k3", "k5"])
    assert lane.end_load(Chunk([found[0], found[5]], 7, False)) == []
    assert sorted(lane.stalls) == ["k3", "k5", "k6"]


def test_what_is_settled_without_a_delivery_leaves_its_keys_delivery_in_flight() -> None:
    lane = Lane(ROUTE, 1, cast(Gate, SimpleNamespace(is_open=True)), nothing_known())
    lane.begin_load()
    load(lane, 1, 3, next_seq=4)
    first = take(lane)
    bare = item(2)
    bare.has_body = False
    lane.begin_load()
    assert lane.end_load(Chunk([bare], 4, False)) == [(bare, DEAD)]
    lane.finish(bare)
    assert lane.next() is None, "1 is in flight"
    lane.finish(first)
    assert take(lane).seq == 3


def test_the_other_side_waits_for_its_authority() -> None:
    lane = Lane(ROUTE, 1, cast(Gate, SimpleNamespace(is_open=True)), nothing_known())
    first = item(1)
    first.event.after_authority, first.other_state = True, PENDING
    lane.begin_load()
    assert lane.end_load(Chunk([first, item(2)], 3, False)) == []
    assert lane.next() is None
    lane.released(1, "k")
    assert lane.begin_load() == (1, [])
    assert lane.end_load(Chunk([first, item(2)], 3, False)) == []
    assert take(lane).seq == 1


def test_what_can_never_be_delivered_is_given_back() -> None:
    lane = Lane(ROUTE, 1, cast(Gate, SimpleNamespace(is_open=True)), nothing_known())
    refused, bare = item(1), item(2)
    refused.event.after_authority, refused.other_state = True, REFUSED
    bare.has_body = False
    lane.begin_load()
    assert lane.end_load(Chunk([refused, bare], 3, False)) == [(refused, DISCARDED), (bare, DEAD)]


@pytest.mark.parametrize(("status", "is_next"), [(UNFIT_STATUS, True), (500, False), (0, False)])
def test_an_authority_that_could_not_be_given_it_keeps_the_other_side_from_nothing(status: int, is_next: bool) -> None:
    lane = Lane(ROUTE, 1, cast(Gate, SimpleNamespace(is_open=True)), nothing_known())
    dead = item(1)
    dead.event.after_authority, dead.other_state, dead.other_status = True, DEAD, status
    lane.begin_load()
    assert lane.end_load(Chunk([dead], 2, False)) == ([] if is_next else [(dead, DISCARDED)])
    assert (lane.next() is dead) == is_next


def test_what_is_put_back_goes_behind_what_came_back_meanwhile() -> None:
    """The second is on its way to a backend that dies; the first, which the backend had, is taken back."""
    lane = Lane(ROUTE, 1, cast(Gate, SimpleNamespace(is_open=True)), nothing_known())
    lane.begin_load()
    load(lane, 2, next_seq=3)
    second = take(lane)
    lane.hold()
    lane.handed(1, "k")
    lane.resume()
    assert lane.begin_load() == (1, [])
    load(lane, 1, 2, next_seq=3)
    lane.put_back(second)
    assert take(lane).seq == 1


def test_what_is_being_read_of_a_key_does_not_overtake_what_is_handed_meanwhile() -> None:
    held = {1, 2, 3}
    book = nothing_known()
    book.is_held = lambda seq, side: seq in held  # type: ignore[method-assign]
    lane = Lane(ROUTE, 1, cast(Gate, SimpleNamespace(is_open=True)), book)
    lane.begin_load()
    load(lane, 1, 2, 3, next_seq=4)  # their workers are on them
    lane.read_again(2)  # another worker has handed one of another key
    assert lane.begin_load() == (2, [])
    held.clear()
    lane.handed(1, "k")
    lane.handed(3, "k")
    load(lane, 3, next_seq=4)
    assert lane.next() is None, "1 goes before 3"
    assert lane.wants_load()
    assert lane.begin_load() == (1, [])
    load(lane, 1, 3, next_seq=4)
    for seq in (1, 3):
        delivered = take(lane)
        assert delivered.seq == seq
        lane.finish(delivered)


def test_what_was_read_before_what_is_handed_meanwhile_stays() -> None:
    held = {2, 3}
    book = nothing_known()
    book.is_held = lambda seq, side: seq in held  # type: ignore[method-assign]
    lane = Lane(ROUTE, 1, cast(Gate, SimpleNamespace(is_open=True)), book)
    assert lane.begin_load() == (0, [])
    held.clear()
    lane.handed(2, "k")
    lane.handed(3, "k")
    load(lane, 1, 2, 3, next_seq=4)
    first = take(lane)
    assert first.seq == 1
    lane.finish(first)
    assert lane.begin_load() == (2, [])
    load(lane, 2, 3, next_seq=4)
    for seq in (2, 3):
        delivered = take(lane)
        assert delivered.seq == seq
        lane.finish(delivered)
