"""The ledger's files with each fault planted, and what its process says of itself."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from proxy.control.doctor import record
from proxy.control.doctor.finding import Finding
from proxy.control.inherit import places_of
from proxy.control.link import SideStats
from proxy.control.places import Places
from proxy.control.salt import check_salt
from tests.control.fakes import balance, ledger_stats
from tests.control.helpers import make_settings

SALT = "a-salt-for-tests"


def state(finding: Finding) -> str:
    assert bool(finding.advice) == (finding.state != "ok")
    return finding.state


def a_record(root: Path) -> Places:
    """Two segments, a reserve, the salt's fingerprint."""
    places = places_of(make_settings(root))
    places.ledger.mkdir(parents=True)
    check_salt(places.salt, SALT)
    for number in (1, 2):
        db = apsw.Connection(str(places.ledger / f"segment-0000000{number}.db"))
        db.execute("PRAGMA journal_mode = WAL").fetchall()
        db.execute("CREATE TABLE receipt (seq INTEGER PRIMARY KEY, id TEXT)")
        db.execute("CREATE INDEX of_id ON receipt (id)")
        db.executemany("INSERT INTO receipt VALUES (?, ?)", [(seq, f"event-{seq}" * 20) for seq in range(500)])
        db.close()
    (places.ledger / "reserve").write_bytes(b"\0" * 2**20)
    return places


def looked(root: Path, **changes: Any) -> dict[str, Finding]:
    settings = make_settings(root, ledger={"reserve": "1MiB"}, **changes)
    return {each.name: each for each in record.files(settings, places_of(settings))}


def test_a_sound_one(state_dir: Path) -> None:
    a_record(state_dir)
    before = sorted(path.name for path in (state_dir / "ledger").iterdir())
    found = looked(state_dir)
    assert {state(each) for each in found.values()} == {"ok"}, found
    assert found["integrity"].seen == "2 segments are sound"
    assert sorted(path.name for path in (state_dir / "ledger").iterdir()) == before, "nothing is left"


def test_none_yet(state_dir: Path) -> None:
    assert [state(each) for each in looked(state_dir).values()] == ["ok"]


def damage(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * 4096)


def truncate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def replace(path: Path) -> None:
    path.write_bytes(b"not a database" * 100)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("fault", [damage, truncate, replace, empty])
def test_a_segment_that_is_broken(state_dir: Path, fault: Callable[[Path], object]) -> None:
    places = a_record(state_dir)
    fault(places.ledger / "segment-00000001.db")
    finding = looked(state_dir)["integrity"]
    assert state(finding) == "fail"
    assert "segment-00000001.db" in finding.seen


def test_what_there_is_no_time_for_is_said(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_record(state_dir)
    monkeypatch.setattr(record, "QUICK", 0.0)
    assert looked(state_dir)["integrity"].seen == "0 segments are sound, 2 not looked at for want of time"


def test_another_salt_a_spent_reserve_and_a_log_that_grows(state_dir: Path) -> None:
    places = a_record(state_dir)
    (places.ledger / "reserve").unlink()
    with (places.ledger / "segment-00000002.db-wal").open("wb") as file:
        file.truncate(300 * 2**20)
    found = looked(state_dir, salt="another-salt")
    assert {name: state(each) for name, each in found.items() if each.state != "ok"} == {
        "salt": "fail",
        "reserve": "warn",
        "log not in its file": "warn",
    }
    places.salt.unlink()
    assert state(looked(state_dir)["salt"]) == "warn"


def test_who_holds_the_directory(state_dir: Path) -> None:
    places = places_of(make_settings(state_dir))
    assert not record.is_running(places)
    with places.lock.open("w") as lock:
        assert not record.is_running(places)
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert record.is_running(places)


def test_a_process_that_is_well() -> None:
    assert {state(each) for each in record.process(ledger_stats())} == {"ok"}


@pytest.mark.parametrize(
    ("changes", "name", "expected"),
    [
        ({"commit_p99": 0.3}, "commits", "warn"),
        ({"commit_p99": 3.0}, "commits", "fail"),
        ({"low_disk": True}, "room", "fail"),
        ({"gaps": 2}, "gaps", "warn"),
        ({"new": {"owed": 3, "pending": 1}}, "balance", "fail"),
        ({"new": balance(pending=5), "age": 120.0}, "backlog of events to new", "warn"),
        ({"new": balance(pending=5), "age": 7200.0}, "backlog of events to new", "fail"),
        ({"new": balance(dead=1)}, "dead letters of events to new", "warn"),
        ({"paused": "status 401"}, "events to new", "fail"),
    ],
)
def test_each_trouble_of_its_process(changes: dict[str, Any], name: str, expected: str) -> None:
    age, paused, new = changes.pop("age", 0.0), changes.pop("paused", ""), changes.pop("new", None)
    stats = ledger_stats(new=new, **changes)
    side = stats.sides[1]
    stats.sides[1] = SideStats("events", 1, "new", side.balance, age, 0, paused)
    assert {each.name: state(each) for each in record.process(stats) if each.state != "ok"} == {name: expected}


def test_no_process() -> None:
    assert [state(each) for each in record.process(None)] == ["fail"]
