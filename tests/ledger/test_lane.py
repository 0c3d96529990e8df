"""A lane keeps the order of a key whatever is read and settled at the same time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from proxy.core.owed import DELIVERED
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
    )
    return cast(Book, fake)


def item(seq: int) -> Item:
    return Item(seq=seq, event=event(seq), attempts=0, other_state=DELIVERED, has_body=True)


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
