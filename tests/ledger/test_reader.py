"""The reader's chunks: bounded, complete, in order, byte for byte."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from proxy.core.owed import DELIVERED
from proxy.ledger.reader import Reader
from tests.ledger.support import ROUTE, Desk, bucket, event, frame, short_directory


def everything(reader: Reader, rows: int = 3, size: int = 10**6, without: list[str] | None = None) -> list[str]:
    """Ids of all that is pending at new, chunk by chunk."""
    found: list[str] = []
    at, more = 0, True
    while more:
        items, at, more = reader.pending(ROUTE, 1, at, without or [], rows, size)
        assert len(items) <= rows
        found += [item.event.id for item in items]
    return found


def test_chunks_go_over_segments_and_leave_out_keys(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "ledger")
    stream = desk.book.hello("s1", 0)
    for number in range(1, 11):
        desk.book.take_frame(stream, frame(number, [event(number, key=f"k{number % 3}", handed=2)]))
        desk.commit()
        if number in (4, 5, 8):
            desk.store.roll()
    desk.book.settle(6, ROUTE, 1, bucket("k0"), DELIVERED, 200, 1)
    desk.commit()
    reader = Reader(lambda: desk.store.segments)
    assert everything(reader) == [f"id-{n}" for n in (1, 2, 3, 4, 5, 7, 8, 9, 10)]
    assert everything(reader, rows=1, without=["k1", "other"]) == [f"id-{n}" for n in (2, 3, 5, 8, 9)]
    assert reader.oldest_pending(ROUTE, 1) == (1, 1000)
    assert reader.oldest_pending(ROUTE, 0) == (1, 1000)
    assert reader.oldest_pending("other", 0) == (0, 0)
    reader.close()
    desk.store.close()


def test_a_chunk_ends_when_enough_bytes_are_there(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "ledger")
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [event(n, handed=2, body=b"b" * 1000) for n in range(1, 11)]))
    desk.commit()
    reader = Reader(lambda: desk.store.segments)
    items, at, more = reader.pending(ROUTE, 1, 0, [], 100, 2500)
    assert [item.seq for item in items] == [1, 2, 3]
    assert (at, more) == (4, True)
    items, _, _ = reader.pending(ROUTE, 1, 0, [], 100, 1)
    assert len(items) == 1, "one larger than the bound is read all the same"
    assert everything(reader, rows=100, size=2500) == [f"id-{n}" for n in range(1, 11)]
    reader.close()
    desk.store.close()


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    key=text,
    id=text,
    body=st.binary(max_size=300),
    context=st.binary(max_size=100),
    identities=st.lists(text, max_size=3),
)
def test_an_event_comes_back_as_it_was(key: str, id: str, body: bytes, context: bytes, identities: list[str]) -> None:
    told = event(
        1, id=id, key=key, body=body, context=context, identities=tuple(identities), event_time=id, client_id=True,
        authority=1, after_authority=True, handed=3,
    )  # fmt: skip
    with short_directory() as directory:
        desk = Desk(directory / "ledger")
        desk.book.take_frame(desk.book.hello("s1", 0), frame(1, [told]))
        desk.commit()
        reader = Reader(lambda: desk.store.segments)
        [item] = reader.pending(ROUTE, 1, 0, [], 10, 10**6).items
        told.handed = 0
        assert item.event == told
        assert everything(reader, without=[key]) == []
        reader.close()
        desk.store.close()


def test_what_is_deferred_by_bucket_and_seq(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "ledger")
    stream = desk.book.hello("s1", 0)
    desk.book.take_frame(stream, frame(1, [
        event(n, key=f"k{n % 2}", owed=1, authority=1, deferred=1) for n in range(1, 9)
    ]))  # fmt: skip
    desk.commit()
    reader = Reader(lambda: desk.store.segments)
    (low, high), key = sorted((bucket("k0"), bucket("k1"))), "k1" if bucket("k0") < bucket("k1") else "k0"
    odd = int(key[1])
    assert [row[0] for row in reader.deferred(ROUTE, low, 0, 100, 100)] == list(range(1, 9))
    above = reader.deferred(ROUTE, low + 1, 0, 100, 100)
    assert above == [(n, ROUTE, high, True) for n in range(1, 9) if n % 2 == odd]
    assert reader.deferred(ROUTE, high + 1, 0, 100, 100) == []
    assert [row[0] for row in reader.deferred(ROUTE, 0, 3, 7, 3)] == [3, 4, 5]
    assert [row[0] for row in reader.deferred(ROUTE, 0, 6, 7, 3)] == [6]
    assert {(route, side, at) for route, side, at, _ in desk.store.deferred_by_bucket()} == {
        (ROUTE, 0, low), (ROUTE, 0, high),
    }  # fmt: skip
    reader.close()
    desk.store.close()
