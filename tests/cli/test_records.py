"""ledger and dead."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from tests.cli.conftest import Ctl
from tests.cli.fake_admin import FakeAdmin, receipt


def test_ledger_status(ctl: Ctl, admin: FakeAdmin) -> None:
    out = ctl("ledger", "status").out
    assert out.splitlines()[1].split()[:6] == ["events", "old", "b", "5", "2", "-"]
    assert "balanced, 2 segments" in out
    assert "new of events is paused: 401" in out
    assert "coverage gap: from a, to b, reason power" in out
    assert ctl("ledger", "status", "-o", "json").json["balanced"] is True


def test_an_unbalanced_ledger(ctl: Ctl, admin: FakeAdmin) -> None:
    admin.forced = lambda method, path: (200, {"balanced": False, "sides": [], "segments": 0, "gaps": []})
    assert "NOT BALANCED" in ctl("ledger", "status").out


def test_ls_passes_its_filters_on(ctl: Ctl, admin: FakeAdmin) -> None:
    words = "--route events --side new --state pending --since 2026-01-31T12:00:00+01:00 --after-seq 5 --limit 10"
    assert ctl("ledger", "ls", *words.split()).code == 0
    parts = urlsplit(admin.requests[0][1])
    assert parts.path == "/api/v1/ledger/events"
    assert parse_qs(parts.query) == {
        "route": ["events"],
        "side": ["new"],
        "state": ["pending"],
        "since": ["2026-01-31T12:00:00+01:00"],
        "after_seq": ["5"],
        "limit": ["10"],
    }


def test_ls_as_a_table(ctl: Ctl, admin: FakeAdmin) -> None:
    failing = {"state": "pending", "status": 503, "attempts": 4}
    admin.receipts = [receipt(1, key="a\x1b[2Jb" + "x" * 50, new=failing), receipt(2, old=None, authority="new")]
    lines = ctl("ledger", "ls").out.splitlines()
    assert "delivered 201*  pending 503 x4" in lines[1]
    assert r"a\x1b[2Jbxx" in lines[1]
    assert "..." in lines[1]
    assert "POST /api/v1/events" in lines[1]
    assert "-               delivered 201*" in lines[2]
    assert lines[3] == "there are more: --after-seq 2"


@pytest.mark.parametrize("words", [["ledger", "ls"], ["dead", "ls"]])
def test_no_events(ctl: Ctl, admin: FakeAdmin, words: list[str]) -> None:
    admin.forced = lambda method, path: (200, {"events": []})
    assert ctl(*words).out == "no events\n"


@pytest.mark.parametrize(
    "words", [["--side", "both"], ["--state", "gone"], ["--since", "soon"], ["--limit", "0"], ["--after-seq", "-1"]]
)
def test_bad_filters_contact_nobody(ctl: Ctl, admin: FakeAdmin, words: list[str]) -> None:
    assert ctl("ledger", "ls", *words).code == 2
    assert admin.requests == []


def test_show(ctl: Ctl, admin: FakeAdmin) -> None:
    admin.receipts = [receipt(1, id="a/b c")]
    out = ctl("ledger", "show", "a/b c").out
    assert "id           a/b c\n" in out
    assert "identities   a, b\n" in out
    assert "old          state delivered, status 201, attempts 1" in out
    assert ctl("ledger", "show", "a/b c", "-o", "json").json["receipts"][0]["seq"] == 1


def test_show_of_nothing(ctl: Ctl, admin: FakeAdmin) -> None:
    done = ctl("ledger", "show", "gone")
    assert done.code == 1
    assert "no event gone" in done.err


def test_replay(ctl: Ctl, admin: FakeAdmin) -> None:
    done = ctl("ledger", "replay", "--since", "1769860800", "--to", "new", "--route", "events", "--reason", "backup")
    assert "1,204 events: delivered -> pending again" in done.out
    assert "3 more have no body" in done.out
    assert "next: proxyctl status --wait" in done.out
    assert admin.requests[0][3] == {"since": "1769860800", "side": "new", "route": "events", "reason": "backup"}


def test_replay_and_wait(ctl: Ctl, admin: FakeAdmin) -> None:
    ledger = admin.sides["new"]["ledger"]
    admin.before_status.extend([lambda: ledger.update(pending=5), lambda: ledger.update(pending=0)])
    done = ctl("ledger", "replay", "--since", "1h", "--to", "new", "--wait")
    assert done.code == 0
    assert [request[1] for request in admin.requests[1:]] == ["/api/v1/status"] * 2
    admin.before_status.append(lambda: ledger.update(pending=5))
    assert ctl("ledger", "replay", "--since", "1h", "--to", "new", "--wait", "--timeout", "20ms").code == 4


@pytest.mark.parametrize("words", [["--since", "1h"], ["--to", "new"], ["--since", "1h", "--to", "both"]])
def test_replay_needs_both(ctl: Ctl, words: list[str]) -> None:
    assert ctl("ledger", "replay", *words).code == 2


def test_dead_ls(ctl: Ctl, admin: FakeAdmin) -> None:
    assert "event-2" in ctl("dead", "ls", "--side", "new").out
    assert admin.requests[0][1] == "/api/v1/dead?side=new&limit=100"


@pytest.mark.parametrize("action", ["requeue", "discard"])
def test_dead_letters_by_id_and_all(ctl: Ctl, admin: FakeAdmin, action: str) -> None:
    done = ctl("dead", action, "a", "b", "c")
    done_all = ctl("dead", action, "--all", "--side", "new", "--route", "events")
    result = {"requeue": "pending again", "discard": "discarded"}[action]
    assert f"3 events: dead -> {result}" in done.out
    assert f"2 events: dead -> {result}" in done_all.out
    assert admin.requests[0][:2] == ("POST", f"/api/v1/dead/{action}")
    assert [body for _, _, _, body in admin.requests] == [
        {"ids": ["a", "b", "c"]},
        {"all": True, "side": "new", "route": "events"},
    ]


@pytest.mark.parametrize("action", ["requeue", "discard"])
def test_ids_that_name_nothing_fail_by_name(ctl: Ctl, admin: FakeAdmin, action: str) -> None:
    problem = {"status": 404, "detail": "nothing was moved: no dead letters are x, y", "ids": ["x", "y"]}
    admin.forced = lambda method, path: (404, problem)
    done = ctl("dead", action, "x", "a", "y")
    assert done.code == 1
    assert "no dead letters are x, y" in done.err


@pytest.mark.parametrize("action", ["requeue", "discard"])
@pytest.mark.parametrize("words", [[], ["a", "--all"]])
def test_ids_or_all(ctl: Ctl, admin: FakeAdmin, action: str, words: list[str]) -> None:
    assert ctl("dead", action, *words).code == 2
    assert admin.requests == []


def test_dead_dry_run(ctl: Ctl, admin: FakeAdmin) -> None:
    done = ctl("dead", "discard", "--all", "--dry-run", "--wait")
    assert done.out.startswith("dry run, nothing was changed: 2 events")
    assert admin.requests[0][3] == {"all": True, "dry_run": True}
    assert len(admin.requests) == 1


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("yes\n", 0), ("\n", 1), ("n\n", 1), ("", 1)])
def test_discard_asks_on_a_terminal(ctl: Ctl, admin: FakeAdmin, terminal: list[str], answer: str, code: int) -> None:
    terminal.append(answer)
    done = ctl("dead", "discard", "a")
    assert done.code == code
    assert "discard 1 dead letters?" in done.err
    assert len(admin.requests) == (code == 0)
    assert terminal == []


@pytest.mark.parametrize("words", [["dead", "discard", "a", "--yes"], ["dead", "requeue", "a"], ["drain", "--yes"]])
def test_not_asked(ctl: Ctl, admin: FakeAdmin, terminal: list[str], words: list[str]) -> None:
    terminal.append("n\n")
    assert ctl(*words).code == 0
    assert terminal == ["n\n"]
