"""A span checked on demand between two SQLite files, as `proxyctl verify` does it, and repaired."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import apsw
import pytest
import yaml

from config.loader import load
from consistency.__main__ import main
from consistency.grid import Grid
from consistency.rows import Span
from consistency.stores.protocol import Traits

COLUMNS = "id TEXT, at INTEGER, temperature REAL, state TEXT, body TEXT"
SAME = {"table": "event", "identity": ["id"], "time": "at", "file": "old.db"}
API = {"http": {"url": "http://127.0.0.1:1/?{start}&{end}", "identity": ["/id"], "time": "/at"}}
BEGIN = 1_769_860_800
"""2026-01-31T12:00:00Z"""


def configuration(directory: Path, **check: Any) -> Path:
    """A configuration file with one check, of two files beside it."""
    table = {"table": "event", "identity": ["id"], "time": "at"}
    document = {
        "version": 1,
        "salt": "a salt for these tests",
        "backends": {"old": {"url": "http://127.0.0.1:1"}, "new": {"url": "http://127.0.0.1:2"}},
        "routes": [{"name": "events", "match": {"path": "/e"}}, {"name": "other", "match": {"path": "/o"}}],
        "consistency": [
            {"routes": ["events"]}
            | {side: {"sqlite": table | {"file": f"{side}.db"}} for side in ("old", "new")}
            | check
        ],
    }
    path = directory / "crossfade.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def put(directory: Path, side: str, *rows: tuple[Any, ...]) -> None:
    """Rows into a side's file, which is made if need be."""
    db = apsw.Connection(str(directory / f"{side}.db"))
    with db:
        db.execute(f"CREATE TABLE IF NOT EXISTS event ({COLUMNS})")
        db.executemany("INSERT INTO event VALUES (?, ?, ?, ?, ?)", rows)
    db.close()


def rows(directory: Path, side: str) -> list[tuple[Any, ...]]:
    db = apsw.Connection(str(directory / f"{side}.db"))
    found = list(db.execute("SELECT * FROM event ORDER BY id, at"))
    db.close()
    return found


def event(number: int, **changes: Any) -> tuple[Any, ...]:
    values = {"id": f"e{number:04}", "at": BEGIN + number, "temperature": number / 4, "state": "on", "body": '{"n": 1}'}
    return tuple((values | changes).values())


def ask(path: Path, **request: Any) -> dict[str, Any]:
    """The answer of `python -m consistency`; the span is that of the events, an hour."""
    span = {"from_ns": BEGIN * 10**9, "to_ns": (BEGIN + 3600) * 10**9}
    return main(json.dumps({"do": "verify", "config": str(path)} | span | request))


def names(answer: dict[str, Any]) -> dict[str, str]:
    return {each["identity"]: each["class"] for each in answer["findings"]}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Suspects are read again without waiting."""
    monkeypatch.setattr("consistency.__main__.BACK_OFF", (0.0, 0.0, 0.0))


pytestmark = pytest.mark.usefixtures("quick")


def test_all_is_well(tmp_path: Path) -> None:
    for side in ("old", "new"):
        put(tmp_path, side, *map(event, range(300)))
    answer = ask(configuration(tmp_path))
    assert (answer["result"], answer["classes"]["equal"], answer["mismatch_rate"]) == ("pass", 300, 0.0)
    assert answer["windows"] == {"judged": 60, "pending": 0, "inconclusive": 0}
    assert answer["record"] == "two-way: no instance is running"


def test_nothing_there_is_no_data(tmp_path: Path) -> None:
    put(tmp_path, "old", event(1))
    put(tmp_path, "new", event(1))
    answer = ask(configuration(tmp_path), from_ns=0, to_ns=10**9)
    assert (answer["result"], answer["settled"], answer["mismatch_rate"]) == ("nodata", 0, None)


def test_every_difference_is_named(tmp_path: Path) -> None:
    put(tmp_path, "old", *map(event, range(300)))
    put(tmp_path, "new", *[event(n) for n in range(300) if n not in (7, 8, 130, 131, 132, 133)])
    put(tmp_path, "new", event(130, state="off"), event(131, temperature=131 / 4 + 1e-9), event(132, body='{"n":1}'))
    put(tmp_path, "new", event(133, at=BEGIN + 134), event(300), event(5))
    path = configuration(
        tmp_path,
        json_fields=["body"],
        rules=[
            {"path": "/temperature", "compare": "tolerance", "abs": 1e-6},
            {"path": "/tempratrue", "compare": "ignore"},
        ],
    )
    answer = ask(path)
    assert answer["result"] == "fail"
    assert names(answer) == {
        "e0007": "unrecorded",
        "e0008": "unrecorded",
        "e0300": "unrecorded",
        "e0130": "different",
        "e0133": "different",
        "e0005": "duplicate",
    }
    assert (answer["classes"]["tolerated"], answer["classes"]["equal"]) == (1, 294)
    assert answer["fields"] == {"different": {"/state": 1, "(time)": 1}, "tolerated": {"/temperature": 1}}
    assert answer["unused_rules"] == ["/tempratrue ignore"]
    told = ask(path, top=2)
    assert (len(told["findings"]), told["findings_untold"]) == (2, 4)


def test_a_copy_in_a_later_window_is_a_duplicate_all_the_same(tmp_path: Path) -> None:
    """Each window alone sees one row at each side, or one side's row that the other has elsewhere."""
    put(tmp_path, "old", event(10), event(100))
    put(tmp_path, "new", event(10), event(100), event(10, at=BEGIN + 1000), event(100, at=BEGIN + 5))
    answer = ask(configuration(tmp_path, time="ignore"))
    assert names(answer) == {"e0010": "duplicate", "e0100": "duplicate"}
    assert answer["settled"] == 2, "each is counted once"


def test_a_repair_closes_what_is_missing_and_nothing_else(tmp_path: Path) -> None:
    put(tmp_path, "old", *[event(n) for n in range(300) if n % 10 != 3])
    put(tmp_path, "new", *[event(n) for n in range(300) if n % 10 != 4])
    path = configuration(tmp_path)
    before = {side: rows(tmp_path, side) for side in ("old", "new")}
    error = ask(path, repair=True)["error"]
    assert "needs the ledger, which knows what each side is owed; two-way: no instance is running" in error["message"]
    answer = ask(path, repair=True, two_way=True, dry_run=True)
    assert answer["repair"] == {
        "dry_run": True,
        "written": {"old": 30, "new": 30},
        "in_no_store": 0,
        "broke_off": "",
        "not_looked_at": 0,
    }
    assert (answer["result"], {side: rows(tmp_path, side) for side in before}) == ("fail", before)
    answer = ask(path, repair=True, two_way=True)
    assert (answer["repair"]["written"], answer["repair"]["broke_off"]) == ({"old": 30, "new": 30}, "")
    assert (answer["result"], answer["classes"]["equal"]) == ("pass", 300)
    assert rows(tmp_path, "old") == rows(tmp_path, "new") == [event(n) for n in range(300)]
    assert ask(path, repair=True, two_way=True)["repair"]["written"] == {"old": 0, "new": 0}


def test_a_repair_that_breaks_off_leaves_what_was_found(tmp_path: Path) -> None:
    put(tmp_path, "old", event(1), event(2), event(2))
    put(tmp_path, "new", event(3))
    db = apsw.Connection(str(tmp_path / "new.db"))
    db.execute("CREATE TRIGGER no BEFORE INSERT ON event BEGIN SELECT raise(ABORT, 'read only'); END")
    db.close()
    path = configuration(tmp_path)
    dry = ask(path, repair=True, two_way=True, dry_run=True)["repair"]["written"]
    assert dry == {"old": 1, "new": 2}, "of what stands there twice, one"
    answer = ask(path, repair=True, two_way=True)
    assert (answer["result"], answer["mismatches"]) == ("fail", 3)
    assert "read only" in answer["repair"]["broke_off"]


def test_json_fields_that_no_row_has_are_told(tmp_path: Path) -> None:
    for side in ("old", "new"):
        put(tmp_path, side, event(1))
    assert ask(configuration(tmp_path, json_fields=["body", "bodi"]))["unseen_json_fields"] == ["bodi"]


def test_a_store_that_is_not_there_is_inconclusive(tmp_path: Path) -> None:
    put(tmp_path, "old", event(1))
    answer = ask(configuration(tmp_path))
    assert (answer["result"], answer["settled"]) == ("inconclusive", 0)
    assert "store new: " in answer["inconclusive"][0]["reason"]
    assert not (tmp_path / "new.db").exists()


def test_a_column_that_is_not_there_is_inconclusive(tmp_path: Path) -> None:
    for side in ("old", "new"):
        put(tmp_path, side, event(1))
    path = configuration(tmp_path)
    path.write_text(path.read_text().replace("time: at", "time: fired"))
    answer = ask(path)
    assert answer["result"] == "inconclusive"
    assert "fired" in answer["inconclusive"][0]["reason"]


def test_an_instance_that_does_not_answer_is_not_taken_for_none(tmp_path: Path) -> None:
    """Somebody listens: then the record counts, and without it nothing is said."""
    for side in ("old", "new"):
        put(tmp_path, side, event(1))
    path = configuration(tmp_path)
    state = tmp_path / "crossfade-state"
    state.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(state / "admin.sock"))
        assert ask(path)["record"] == "two-way: no instance is running", "nobody listens: it was left behind"
        listener.listen(100)
        threading.Thread(target=_hang_up, args=(listener,), daemon=True).start()
        answer = ask(path)
    assert (answer["result"], answer["record"]) == ("inconclusive", "three-way")
    # By when it hangs up, one of several errors says so.
    assert sum(told["windows"] for told in answer["inconclusive"]) == 60
    assert all("admin.sock does not say: " in told["reason"] for told in answer["inconclusive"])


def _hang_up(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        connection.close()


@pytest.mark.parametrize(
    ("check", "message"),
    [
        ({"routes": ["evnts"]}, "there is no route 'evnts'; there is events, other (did you mean 'events'?)"),
        ({"routes": ["events", "events"]}, "route 'events' is checked already"),
        ({"identity": "identities"}, "route 'events' has no `identities`"),
        ({"new": {"sqlite": SAME}}, "is the same store as `old`"),
        (
            {"old": {}},
            "a store is of one kind (sqlite, postgres, influxdb1, influxdb2, http, files, plugin), and none is given",
        ),
        ({"old": {"sqlite": {"file": "x"}}}, "missing key 'table'"),
        (
            {"rules": [{"path": "/t/*", "compare": "ignore"}, {"path": "/t", "compare": "set"}]},
            "rule /t/* is about a part of /t, which is compared as a set",
        ),
        ({"rules": [{"path": "/a", "compare": "exact", "abs": 1.0}]}, "`abs` means nothing to compare: exact"),
        (
            {"old": {"influxdb1": {"url": "http://127.0.0.1:1", "database": "home"}}},
            "points of InfluxDB are named by their series and time, which the ledger does not know: identity: none",
        ),
        ({"new": API, "time": "ignore"}, "without `event_url` an event is looked for within a second of its time"),
        ({"new": API, "time_within": "2s"}, "these times may lie further apart: set event_url"),
    ],
)
def test_bad_configurations(tmp_path: Path, check: dict[str, Any], message: str) -> None:
    error = ask(configuration(tmp_path, **check))["error"]
    assert message in "\n".join(error["lines"])


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"do": "guess"}, "there is nothing called 'guess' to do"),
        ({"route": "other"}, "there is no `consistency` for route 'other'; there is events"),
        ({"from_ns": 5, "to_ns": 5}, "the span ends before it begins"),
        ({"from_ns": 2 * 10**18, "to_ns": None}, "what is in it has not settled yet"),
        ({"to_ns": 10**21}, "more than a day from now"),
        ({"from_ns": 0}, "windows"),
        ({"config": "/nowhere.yaml"}, "/nowhere.yaml has 1 error"),
        ({"unknown": 1}, "not a request"),
    ],
)
def test_bad_requests(tmp_path: Path, request_: dict[str, Any], message: str) -> None:
    assert message in ask(configuration(tmp_path), **request_)["error"]["message"]


def test_what_is_too_young_is_left_out_and_told(tmp_path: Path) -> None:
    path = configuration(tmp_path)
    assert ask(path)["left_out_s"] == 0
    assert ask(path, from_ns=time.time_ns() - 10**10, to_ns=None)["left_out_s"] == 5
    assert ask(path, from_ns=time.time_ns() - 10**10, to_ns=None, settle_ns=0)["left_out_s"] == 0


def test_a_configuration_without_stores(tmp_path: Path) -> None:
    path = configuration(tmp_path)
    path.write_text(yaml.safe_dump({k: v for k, v in yaml.safe_load(path.read_text()).items() if k != "consistency"}))
    assert "has no `consistency`" in ask(path)["error"]["message"]


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (check,) = load(configuration(tmp_path)).consistency
    assert check.old.sqlite is not None
    assert check.old.sqlite.file == str(tmp_path / "old.db")


@pytest.mark.parametrize("size", [1, 7, 60, 1000])
@pytest.mark.parametrize("precision", [1, 10])
def test_windows_cover_a_span_without_gap_or_overlap(size: int, precision: int) -> None:
    grid = Grid(Span(13, 190), size, precision)
    windows = list(grid.windows())
    first = 13 if precision == 1 else 20
    assert [windows[0].start, *[each.end for each in windows]] == [*[each.start for each in windows], 190]
    assert (windows[0].start, len(grid)) == (first, len(windows))
    assert all(each % precision == 0 for window in windows for each in window)
    assert all(grid.of(at) == window for window in windows for at in (window.start, window.end - 1))
    assert (grid.of(first - 1), grid.of(190)) == (None, None)


def test_a_span_without_a_whole_step_has_no_window() -> None:
    assert (list(Grid(Span(11, 19), 60, 10).windows()), len(Grid(Span(11, 19), 60, 10))) == ([], 0)


def test_points_are_not_compared_with_rows_that_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for side in ("old", "new"):
        put(tmp_path, side, event(1))
    monkeypatch.setattr(
        "consistency.stores.sqlite.SqliteStore.traits",
        property(lambda store: Traits(is_keyed_by_time=store.name == "old")),
    )
    answer = ask(configuration(tmp_path))
    assert answer["result"] == "inconclusive"
    assert "cannot be told to be the same" in answer["inconclusive"][0]["reason"]


def test_a_plugin_that_is_not_there(tmp_path: Path) -> None:
    answer = ask(configuration(tmp_path, old={"plugin": {"plugin": "clickhouse"}}))
    assert answer["result"] == "inconclusive"
    assert "no installed package brings stores of the kind 'clickhouse'" in answer["inconclusive"][0]["reason"]


def test_time_is_not_wasted_on_what_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The waits before further readings are for suspects alone."""
    monkeypatch.setattr("consistency.__main__.BACK_OFF", (30.0,))
    for side in ("old", "new"):
        put(tmp_path, side, *map(event, range(100)))
    begun = time.monotonic()
    assert ask(configuration(tmp_path))["result"] == "pass"
    assert time.monotonic() - begun < 30


def test_diff_tells_a_class_or_a_field_alone(tmp_path: Path) -> None:
    put(tmp_path, "old", *(event(number) for number in range(40)))
    put(
        tmp_path,
        "new",
        *(event(number, state="off") if number < 5 else event(number, temperature=-1.0) for number in range(10)),
        *(event(number) for number in range(12, 40)),
    )
    path = configuration(tmp_path)
    assert names(ask(path, do="diff", top=100)) == (
        dict.fromkeys((f"e{number:04}" for number in range(10)), "different")
        | dict.fromkeys(("e0010", "e0011"), "unrecorded")
    )
    lost = ask(path, do="diff", **{"class": "unrecorded"})
    assert names(lost) == dict.fromkeys(("e0010", "e0011"), "unrecorded")
    assert lost["mismatches"] == 12, "all are counted"
    put(tmp_path, "new", event(50), event(51))
    missing = {"class": "lost,unrecorded"}
    assert names(ask(path, do="diff", **missing, by="old")) == dict.fromkeys(("e0050", "e0051"), "unrecorded")
    assert names(ask(path, do="diff", **missing, by="new")) == dict.fromkeys(("e0010", "e0011"), "unrecorded")
    by_field = ask(path, do="diff", field="/state")
    assert list(names(by_field)) == [f"e{number:04}" for number in range(5)]
    assert by_field["findings"][0]["differences"] == [{"path": "/state", "reason": "value", "old": "on", "new": "off"}]
    assert ask(path, do="diff", field="/sta")["findings"] == []
    assert "there is no class 'gone'" in ask(path, do="diff", **{"class": "gone"})["error"]["message"]


def test_more_of_a_class_than_are_kept_do_not_hide_what_is_looked_for(tmp_path: Path) -> None:
    put(tmp_path, "old", *(event(number) for number in range(1500)))
    put(tmp_path, "new", *(event(n, state="off") if n < 1499 else event(n, temperature=-1.0) for n in range(1500)))
    assert list(names(ask(configuration(tmp_path), do="diff", field="/temperature"))) == ["e1499"]


def test_suggest_says_rules_and_uses_none(tmp_path: Path) -> None:
    put(tmp_path, "old", *(event(number) for number in range(40)))
    put(tmp_path, "new", *(event(number, temperature=number / 4 * (1 + 7e-10)) for number in range(40)))
    path = configuration(tmp_path)
    answer = ask(path, do="suggest")
    (made,) = answer["suggestions"]
    assert made["yaml"] == "- {path: /temperature, compare: tolerance, rel: 1e-09}"
    assert (made["differ"], made["settled"]) == (39, 40)
    assert answer["mismatches"] == 39
    answer = ask(configuration(tmp_path, rules=[made["rule"]]), do="suggest")
    assert (answer["result"], answer["suggestions"]) == ("pass", [])
