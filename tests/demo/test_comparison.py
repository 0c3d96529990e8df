"""Each kind of difference between record and store is found, and named."""

from __future__ import annotations

from collections import Counter

from proxy.demo.comparison import Comparison, compare
from proxy.demo.record import Promise, Record, joined
from proxy.demo.store import Stored


def record_of(**accepted: str) -> Record:
    """Ids of one letter by key, each answered before the next one is sent; the digest of `a` is 97."""
    promises = [Promise(id, key, "old", 201, n, n + 0.5) for key, ids in accepted.items() for n, id in enumerate(ids)]
    return Record(promises=promises, digests={promise.id: ord(promise.id) for promise in promises})


def rows_of(ids: str) -> list[Stored]:
    return [Stored(n, id, "authority", "1", ord(id)) for n, id in enumerate(ids, 1)]


def found(record: Record, ids: str) -> Comparison:
    return compare(record, rows_of(ids))


def test_equal() -> None:
    result = found(record_of(k="ab", m="c"), "cab")
    assert (result.rows, result.stored, result.duplicates) == (3, 3, 0)
    assert result.is_complete
    assert result.problems() == []


def test_lost() -> None:
    result = found(record_of(k="ab"), "a")
    assert result.lost == ("b",)
    assert not result.is_complete
    assert result.problems() == ["1 lost: b"]


def test_duplicates_are_no_loss_and_the_first_one_counts_for_order() -> None:
    result = found(record_of(k="ab"), "aba")
    assert (result.stored, result.duplicates) == (2, 1)
    assert result.is_complete
    assert not result.misordered


def test_misordered() -> None:
    result = found(record_of(k="ab", m="cd"), "cbad")
    assert result.misordered == (("k", "a", "b"),)
    assert result.problems() == ["1 misordered: k: b stored before a"]


def test_a_lost_event_between_two_hides_no_disorder() -> None:
    assert found(record_of(k="abc"), "ca").misordered == (("k", "a", "c"),)


def test_different() -> None:
    record = record_of(k="ab")
    result = compare(record, [*rows_of("a"), Stored(2, "b", "copy", "1", 0)])
    assert result.different == ("b",)
    assert not result.is_complete


def test_unknown_and_unanswered() -> None:
    record = record_of(k="a")
    record.digests["b"] = ord("b")
    result = found(record, "abz")
    assert result.unanswered == ("b",)
    assert result.unknown == ("z",)
    assert not result.is_complete


def test_events_on_their_way_together_may_be_stored_in_any_order() -> None:
    record = record_of(k="abc")
    record.promises[0] = record.promises[0]._replace(answered=1.1)
    assert found(record, "bac").misordered == ()
    assert found(record, "bca").misordered == (("k", "a", "c"),)


def of_a_session(ids: str) -> Record:
    """Messages of key k, sent one after another and promised together."""
    promises = [Promise(id, "k", "", 0, n, 100.0, is_message=True) for n, id in enumerate(ids)]
    return Record(promises=promises, digests={promise.id: ord(promise.id) for promise in promises})


def test_messages_of_a_session_are_stored_as_they_were_sent() -> None:
    assert found(of_a_session("abc"), "abc").problems() == []
    assert found(of_a_session("abc"), "bac").misordered == (("k", "a", "b"),)


def test_requests_and_messages_of_one_name_are_of_two_routes() -> None:
    both = joined([record_of(k="xy"), of_a_session("ab")])
    assert both.accepted == 4
    assert found(both, "axby").problems() == []
    assert found(both, "xyab").problems() == []
    assert found(both, "xbya").misordered == (("k", "a", "b"),)
    assert found(both, "xab").lost == ("y",)
    assert found(both, "xyb").lost == ("a",)


def test_joined_records_count_together() -> None:
    one = Record(statuses=Counter({201: 3, 503: 2}), failures=Counter({"reset": 1}), reopened=1, retry_after=2)
    other = Record(failures=Counter({"reset": 1, "session closed (1011)": 1}), closed=1)
    both = joined([one, other])
    assert (both.client_errors, both.closed, both.reopened, both.retry_after) == (5, 1, 1, 2)
    assert both.errors_text() == "2x 503, 2x reset, 1x session closed (1011)"
