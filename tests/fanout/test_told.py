"""The file of what consumers were told."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from time import monotonic

import apsw
import pytest

from proxy.core.errors import RefuseToStart
from proxy.fanout.home_event import HomeEvent
from proxy.fanout.told import Told


def state(name: str, value: bytes | None, seq: int) -> HomeEvent:
    return HomeEvent(f"e{seq}", "state_changed", b"{}", name, value, seq)


def other(body: bytes, seq: int = 9) -> HomeEvent:
    return HomeEvent(f"e{seq}", "t", body, "", None, seq)


def test_states_are_the_last_ones_whichever_side_was_told_them(tmp_path: Path) -> None:
    told = Told(tmp_path / "f.db")
    told.received("old", "r", [state("b", b"1", 1), state("a", b"1", 2), state("b", b"2", 3)], 0.0, keeps=True)
    told.received("new", "r", [state("b", b"1", 1), state("c", b"x", 4)], 0.0, keeps=True)
    told.received("other", "s", [state("z", b"9", 9)], 0.0, keeps=True)
    assert told.states("r") == [b"1", b"2", b"x"]
    told.received("old", "r", [state("c", None, 5), other(b"{}", 6)], 0.0, keeps=True)
    told.received("new", "r", [state("c", b"late", 4)], 0.0, keeps=True)
    assert told.states("r") == [b"1", b"2"]
    told.close()


def test_kept_events_are_by_consumer_in_order_and_forgotten_by_age(tmp_path: Path) -> None:
    told = Told(tmp_path / "f.db")
    told.received("old", "r", [other(b"%d" % n, n) for n in range(5)], 10.0, keeps=True)
    told.received("new", "r", [other(b"n")], 10.0, keeps=True)
    told.received("old", "r", [other(b"unkept")], 20.0, keeps=False)
    first_n, until, count = told.span("old")
    assert (until - first_n, count) == (4, 5)
    first = told.kept("old", 0, until, 2)
    rest = told.kept("old", first[-1].n, until, 9)
    assert [each.body for each in (*first, *rest)] == [b"0", b"1", b"2", b"3", b"4"]
    told.received_again([first[0].n], 30.0)
    told.forget("old", 20.0)
    assert [each.body for each in told.kept("old", 0, until, 9)] == [b"0"]
    assert [each.body for each in told.kept("new", 0, told.span("new")[1], 9)] == [b"n"]
    assert told.span("nobody") == (0, 0, 0)
    told.close()


def test_what_a_consumer_died_of_too_often_is_given_up(tmp_path: Path) -> None:
    told = Told(tmp_path / "f.db")
    for consumer in ("old", "new"):
        told.received(consumer, "r", [other(b"%d" % n, n) for n in range(3)], 10.0, keeps=True)
    told.died_of_first("old")
    assert told.give_up("old", 2) == []
    told.died_of_first("old")
    assert told.give_up("old", 2) == ["e0"]
    assert [each.body for each in told.kept("old", 0, 99, 9)] == [b"1", b"2"]
    told.died_of_first("old")
    told.lived_through("old", told.span("old")[0])
    assert [each.body for each in told.kept("old", 0, 99, 9)] == [b"2"]
    assert told.give_up("old", 1) == []
    assert told.span("new")[2] == 3
    told.close()


def test_what_was_kept_before_the_machine_was_started_is_kept_anew(tmp_path: Path) -> None:
    path = tmp_path / "f.db"
    told = Told(path, "first")
    told.received("old", "r", [other(b"a")], 1.0, keeps=True)
    told.close()
    same = Told(path, "first")
    same.received("old", "r", [other(b"b")], monotonic() + 9e9, keeps=True)  # of a clock that cannot be
    same.close()
    same, now = Told(path, "first"), monotonic()
    same.forget("old", now + 1)
    assert same.span("old") == (0, 0, 0)
    same.received("old", "r", [other(b"a")], 1.0, keeps=True)
    same.close()
    started = Told(path, "second")
    started.forget("old", now)
    assert [each.body for each in started.kept("old", 0, 99, 9)] == [b"a"]
    started.close()


def test_states_that_are_gone_stay_while_a_side_may_be_told_of_earlier_ones(tmp_path: Path) -> None:
    told = Told(tmp_path / "f.db")
    told.received("new", "r", [state("a", b"1", 1), state("a", None, 5), state("b", b"2", 6)], 0.0, keeps=False)
    told.forget_gone("r", 5)
    told.received("old", "r", [state("a", b"1", 1)], 0.0, keeps=False)
    assert told.states("r") == [b"2"]
    told.forget_gone("r", 6)
    assert told._db.execute("SELECT name FROM states").fetchall() == [("b",)]
    told.close()


def test_states_of_a_record_that_was_begun_anew_are_older_than_all_of_it(tmp_path: Path) -> None:
    told = Told(tmp_path / "f.db")
    told.received("old", "r", [state("a", b"1", 900), state("b", b"1", 3)], 0.0, keeps=False)
    told.begin_record(4)
    told.received("old", "r", [state("a", b"2", 4), state("b", b"0", 2)], 0.0, keeps=False)
    assert told.states("r") == [b"2", b"1"]
    told.close()


def test_it_outlives_its_process_and_its_log_goes_into_the_file(tmp_path: Path) -> None:
    path = tmp_path / "f.db"
    told = Told(path)
    told.received("old", "r", [state("a", b"1", 1)], 5.0, keeps=True)
    beside = Told(path)  # the first one was not closed, as after a kill
    assert beside.states("r") == [b"1"]
    assert path.stat().st_mode & 0o777 == 0o600
    told.close()
    beside.checkpoint()
    assert b"state_changed" in path.read_bytes()
    beside.close()


def test_a_log_that_is_written_to_during_each_pass_begins_anew_when_it_is_long(tmp_path: Path) -> None:
    path = tmp_path / "f.db"
    told = Told(path)
    lengths = []
    for n in range(12):
        told.received("old", "r", [other(bytes(2**20), n)], 10.0, keeps=True)
        with closing(apsw.Connection(str(path))) as reader:  # as far as it looks the pass gets
            reader.execute("BEGIN; SELECT count(*) FROM kept").fetchall()
            told.received("old", "r", [other(bytes(2**20), n)], 10.0, keeps=True)
            is_long = told.checkpoint()
        if is_long:
            told.end_log()
        told.forget("old", 20.0)
        lengths.append((tmp_path / "f.db-wal").stat().st_size)
    assert max(lengths) < 12 * 2**20, "of 24 MiB"
    assert not told.checkpoint(), "it has begun anew, though its file is as long as ever"
    told.close()


@pytest.mark.parametrize("content", [b"no database at all, but long enough to be looked at" * 30, None])
def test_a_damaged_or_foreign_file_is_put_aside(
    tmp_path: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "f.db"
    told = Told(path)
    if content is None:
        told._db.execute("PRAGMA user_version = 7")
    told.close()
    if content is not None:
        path.write_bytes(content)
    again = Told(path)
    assert again.states("r") == []
    assert (tmp_path / "f.db.damaged").exists()
    assert "put aside" in caplog.text
    again.close()


def test_where_there_can_be_no_file_the_ledger_refuses_to_start(tmp_path: Path) -> None:
    (tmp_path / "f.db").mkdir()
    with pytest.raises(RefuseToStart, match="cannot be read from"):
        Told(tmp_path / "f.db")
