"""history and why."""

from __future__ import annotations

from typing import Any

import pytest

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


@pytest.mark.parametrize(
    ("detect", "recover", "line"),
    [
        (1.5, 0.012, "  detected after 1.50 s at most, applied by every worker 12.0 ms after the decision"),
        (None, 61.0, "  applied by every worker 1m 1s after the decision"),
        (90.0, None, "  detected after 1m 30s at most"),
    ],
)
def test_why_says_how_long_it_took(
    ctl: Ctl, admin: FakeAdmin, detect: float | None, recover: float | None, line: str
) -> None:
    answer = {"text": "reverted", "entry": REVERT, "seconds_to_detect": detect, "seconds_to_recover": recover}
    admin.forced = lambda method, path: (200, answer)
    assert ctl("why").out.splitlines()[1] == line
    admin.forced = lambda method, path: (200, answer | {"seconds_to_detect": None, "seconds_to_recover": None})
    assert "detected" not in ctl("why").out


def test_a_test_of_failures_counts_from_when_they_were_told(ctl: Ctl, admin: FakeAdmin) -> None:
    entry = REVERT | {"evidence": {"trigger": "error-rate"}}
    admin.forced = lambda method, path: (200, {"text": "reverted", "entry": entry, "seconds_to_detect": 0.25})
    assert ctl("why").out.splitlines()[1] == "  detected after 250.0 ms at most, counted from the first that was told"


def test_what_had_no_answer_is_none_and_has_no_latency(ctl: Ctl, admin: FakeAdmin) -> None:
    new = {"backend": "shop-b", "code_classes": {"error": 3}, "p99": 0.0}
    admin.entries = [REVERT | {"evidence": {"trigger": "breaker", "window_seconds": 10.2, "new": new}}]
    assert ctl("why").out.splitlines()[-1] == "  new (shop-b): 3 events without an answer in the 10 s before"


def test_why_says_why_a_breaker_was_open(ctl: Ctl, admin: FakeAdmin) -> None:
    evidence = {"trigger": "breaker", "workers": [0], "last_failure": "no answer within 10 s", "in_a_row": 5}
    admin.entries = [REVERT | {"evidence": evidence | {"lasts": 10.2}}]
    lines = ctl("why").out.splitlines()
    for line in ("last failure: no answer within 10 s", "in a row: 5", "failing for: 10 s"):
        assert f"  {line}" in lines


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
        "  new (shop-b): 1,204 answers in the 10 s before, 1,200 2xx, 4 5xx, 1 event without an answer, p99 5.6 ms",
        "  seen: a 1, 2.5, b yes, c -",
    ]
    assert ctl("why", "-o", "json").json["entry"]["evidence"]["new"] == new


def test_why_tells_of_changes_and_of_what_comes_next(ctl: Ctl, admin: FakeAdmin) -> None:
    high: dict[str, Any] = {"weight": 50.0, "stage": "live", "copy": "durable", "latched": False}
    low = high | {"weight": 25.0}
    shut = high | {"weight": 0.0, "stage": "dualwrite", "latched": True}
    turn = {"epoch": 6, "actor": "alice", "action": "set-weight", "before": low, "after": high}
    before = REVERT | turn | {"reason": "go\x1b[31m"}
    turn = {"epoch": 8, "actor": "alice", "action": "rearm", "before": shut, "after": shut | {"latched": False}}
    rearmed = REVERT | turn | {"reason": ""}
    answer = {"text": "reverted", "entry": REVERT | {"evidence": {}}, "changes": [rearmed, before]}
    admin.forced = lambda method, path: (200, answer | {"now": "weight 0 %", "next": "mend new"})
    assert ctl("why").out.splitlines()[1:] == [
        "  before: 2026-01-31T12:00:00Z alice set-weight, live 25 % to live 50 % (go\\x1b[31m)",
        "  since: 2026-01-31T12:00:00Z alice rearm, dualwrite 0 % latched to dualwrite 0 %",
        "  now: weight 0 %",
        "  next: mend new",
    ]


def test_why_says_what_a_share_of_mismatches_went_by(ctl: Ctl, admin: FakeAdmin) -> None:
    test = {"total": 200, "failed": 100, "seconds": 6.0, "limit": 0.001, "value": 1e9, "alarm_from": 4e6}
    admin.entries = [REVERT | {"evidence": {"trigger": "mismatch-rate", "test": test}}]
    assert ctl("why").out.splitlines()[-1] == "  test: 100 of 200 settled events differ in 6.0 s, limit 0.1 %"


def test_why_says_where_the_rollout_was_and_what_the_gates_said(ctl: Ctl, admin: FakeAdmin) -> None:
    gates = {"smoke": {"answer": "no", "said": "exit 1"}, "cpu": {"answer": "no answer", "said": ""}}
    admin.entries = [REVERT | {"evidence": {"trigger": "gate", "gates": gates, "step": 2, "of": 4, "held_s": 61.0}}]
    assert ctl("why").out.splitlines()[1:] == [
        "  trigger: gate",
        "  rollout: at step 2 of 4, for 1m 1s",
        "  gate smoke: no (exit 1)",
        "  gate cpu: no answer",
    ]


@pytest.mark.parametrize(
    ("evidence", "said"),
    [
        (
            {"trigger": "silence", "lasts": 10.0, "limit": 10.0, "waiting": 8, "pending": 0},
            "silent for: 10 s; limit: 10 s; sent and not answered: 8; still owed: 0",
        ),
        (
            {"trigger": "availability", "down": 31.0, "down_alone": 30.0, "failed_probes": 31, "limit": 30.0}
            | {"window": 300.0, "seconds": 142.0},
            (
                "down for: 31 s; while old was not: 30 s; probes that failed: 31; limit: 30 s; of the last: 5m 0s; "
                "since the first: 2m 22s"
            ),
        ),
        (
            {"trigger": "lag", "owed": 9, "taken": 2, "seconds": 60.0, "pending": 7, "oldest_age": 61.0, "lasts": 65.0},
            "owed to new: 9; taken by new: 2; in: 1m 0s; still waiting: 7; the oldest waited: 1m 1s; behind for: 1m 5s",
        ),
    ],
    ids=["silence", "availability", "lag"],
)
def test_why_says_what_a_time_went_by(ctl: Ctl, admin: FakeAdmin, evidence: dict[str, Any], said: str) -> None:
    admin.entries = [REVERT | {"evidence": evidence}]
    lines = ctl("why").out.splitlines()[1:]
    assert "; ".join(line.strip() for line in lines) == f"trigger: {evidence['trigger']}; {said}"


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ({}, "4 of 120 answers failed in 3.1 s, limit 1 %"),
        ({"seconds_allowed": 0.012, "quantile": 0.95}, "4 of 120 answers took longer than 12.0 ms in 3.1 s, limit 1 %"),
    ],
)
def test_why_says_what_a_test_went_by(ctl: Ctl, admin: FakeAdmin, test: dict[str, float], said: str) -> None:
    test = {"total": 120, "failed": 4, "seconds": 3.1, "limit": 0.01, "value": 2e6} | test
    admin.entries = [REVERT | {"evidence": {"trigger": "error-rate", "test": test, "oldest_age": 61.0}}]
    out = ctl("why").out
    assert f"  test: {said}\n" in out
    assert "  the oldest waited: 1m 1s\n" in out


def test_why_of_no_revert(ctl: Ctl, admin: FakeAdmin) -> None:
    assert ctl("why").out == "no revert yet\n"
    assert ctl("why", "-o", "json").json["entry"] is None
