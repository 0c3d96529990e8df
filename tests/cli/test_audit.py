"""history and why."""

from __future__ import annotations

from tests.cli.conftest import Ctl
from tests.cli.fake_admin import FakeAdmin

REVERT = {
    "at": "2026-01-31T12:00:00Z",
    "epoch": 7,
    "previous_epoch": 6,
    "actor": "crossfade",
    "action": "revert",
    "route": "events",
    "before": {"weight": 50.0, "stage": "live", "copy": "durable", "latched": False},
    "after": {"weight": 0.0, "stage": "dualwrite", "copy": "durable", "latched": True},
    "reason": "breaker open at new\x1b[31m",
    "evidence": {"worker": 1, "failures": 5},
}
TOKEN = REVERT | {"action": "token-create", "route": "", "before": {}, "after": {"name": "ci"}, "reason": ""}


def test_history(ctl: Ctl, admin: FakeAdmin) -> None:
    admin.entries = [REVERT, TOKEN]
    lines = ctl("history").out.splitlines()
    assert lines[0].split() == ["at", "epoch", "who", "did", "route", "before", "after", "reason"]
    assert "live 50 %  dualwrite 0 % latched  breaker open at new\\x1b[31m" in lines[1]
    assert lines[2].split()[3:] == ["token-create", "-", "-", "name", "ci", "-"]
    assert ctl("history", "-o", "json").json["entries"][0]["evidence"] == {"worker": 1, "failures": 5}


def test_history_is_bounded_and_of_one_route(ctl: Ctl, admin: FakeAdmin) -> None:
    admin.entries = [REVERT, TOKEN]
    assert len(ctl("history", "--limit", "1", "--route", "events").out.splitlines()) == 2
    assert admin.requests[0][1] == "/api/v1/history?limit=1&route=events"


def test_no_history(ctl: Ctl, admin: FakeAdmin) -> None:
    assert ctl("history").out == "nothing was changed yet\n"


def test_why(ctl: Ctl, admin: FakeAdmin) -> None:
    admin.entries = [REVERT]
    out = ctl("why", "--route", "events").out
    assert "reverted: breaker open at new" in out
    assert "  failures: 5" in out
    assert admin.requests[0][1] == "/api/v1/why?route=events"


def test_why_says_figures_in_words(ctl: Ctl, admin: FakeAdmin) -> None:
    new = {"backend": "shop-b", "code_classes": {"2xx": 1200, "5xx": 4, "error": 1}, "p99": 0.0056}
    sides = {"old": {"backend": "shop-a", "code_classes": {}, "p99": 0.0}, "new": new}
    evidence = {"trigger": "breaker", "workers": [0, 2], "weight": 25.0, "window_seconds": 10.2} | sides
    admin.entries = [REVERT | {"evidence": evidence | {"seen": {"a": [1, 2.5], "b": True, "c": {}}}}]
    assert ctl("why").out.splitlines()[1:] == [
        "  trigger: breaker, in worker 0, 2",
        "  weight then: 25 %",
        "  old (shop-a): no answers in the 10 s before",
        "  new (shop-b): 1,205 answers in the 10 s before, 1,200 2xx, 4 5xx, 1 without an answer, p99 5.6 ms",
        "  seen: a 1, 2.5, b yes, c -",
    ]
    assert ctl("why", "-o", "json").json["entry"]["evidence"]["new"] == new


def test_why_of_no_revert(ctl: Ctl, admin: FakeAdmin) -> None:
    assert ctl("why").out == "no revert yet\n"
    assert ctl("why", "-o", "json").json["entry"] is None
