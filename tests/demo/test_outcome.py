"""The demo succeeds only when every one of its promises was kept."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import yaml

from proxy.demo.admin import LedgerStatus, RouteStatus, Side, SideLedger, Status
from proxy.demo.comparison import Comparison
from proxy.demo.outcome import Injection, Outcome, parse_injection
from proxy.demo.run import encoded

COMPLETE = Comparison(rows=12, stored=10, lost=(), different=(), unknown=(), unanswered=(), misordered=())


def status(*, owed: int = 10, delivered: int = 10, pending: int = 0, balanced: bool = True) -> Status:
    """Of two routes; the figures are the second one's."""
    ledgers = [SideLedger(7, 0, 0, 7, 0, 0, 0, 0, 0), SideLedger(owed, pending, 0, delivered, 0, 0, 0, 0, 0)]
    routes = [
        RouteStatus(
            route, "rampdown", 100.0, None, False, None, 10,
            {name: Side("closed", 0.0, 0.0, None, ledger) for name in ("old", "new")},
        )
        for route, ledger in zip(("events", "stream"), ledgers, strict=True)
    ]  # fmt: skip
    return Status(9, True, routes, [], LedgerStatus(True, balanced, pending, 0, 0))


VERIFIED = {
    "result": "pass",
    "record": "three-way",
    "classes": {"equal": 9, "redelivered": 1},
    "findings": [],
    "inconclusive": [],
}
GOOD = Outcome(
    requests=6,
    messages=4,
    sessions=8,
    closed=0,
    client_errors=0,
    errors_text="none",
    old=COMPLETE,
    new=COMPLETE,
    reverts=1,
    time_to_revert=0.4321,
    weights=[0, 10, 0, 100],
    injected={},
    status=status(),
    verification=VERIFIED,
    duration=20.04,
)


def test_good() -> None:
    assert GOOD.is_ok
    assert GOOD.problems() == []
    assert GOOD.summary().startswith(
        "ok: lost 0 of 10 accepted (6 over HTTP, 4 over WebSocket in 8 sessions, 0 closed); old stored 10"
    )


@pytest.mark.parametrize(
    "bad",
    [
        replace(GOOD, requests=0),
        replace(GOOD, messages=0),
        replace(GOOD, client_errors=1, errors_text="1x 503"),
        replace(GOOD, old=replace(COMPLETE, lost=("a",))),
        replace(GOOD, new=replace(COMPLETE, different=("a",))),
        replace(GOOD, new=replace(COMPLETE, unknown=("a",))),
        replace(GOOD, new=replace(COMPLETE, misordered=(("k", "a", "b"),))),
        replace(GOOD, reverts=0),
        replace(GOOD, status=status(delivered=9, pending=1)),
        replace(GOOD, status=status(delivered=9)),
        replace(GOOD, status=status(balanced=False)),
        replace(GOOD, verification=VERIFIED | {"result": "fail"}),
        replace(GOOD, verification=VERIFIED | {"result": "inconclusive"}),
    ],
)
def test_one_broken_promise_fails_it(bad: Outcome) -> None:
    assert not bad.is_ok
    assert bad.summary().startswith("FAILED")
    assert bad.as_dict()["result"] == "failed"


def test_the_object_has_the_documented_form() -> None:
    assert GOOD.as_dict() == {
        "result": "ok",
        "accepted": 10,
        "http": {"accepted": 6},
        "websocket": {"accepted": 4, "sessions": 8, "closed": 0},
        "old": {"stored": 10, "duplicates": 2},
        "new": {"stored": 10, "duplicates": 2},
        "lost": 0,
        "client_errors": 0,
        "reverts": 1,
        "time_to_revert_s": 0.432,
        "injected": {},
        "weights": [0, 10, 0, 100],
        "ledger": {"pending": 0, "dead": 0, "balanced": True},
        "verify": {
            "result": "pass",
            "record": "three-way",
            "classes": {"equal": 9, "redelivered": 1},
            "findings": [],
        },
        "duration_s": 20.0,
    }


def test_problems_name_what_is_missing() -> None:
    bad = replace(GOOD, new=replace(COMPLETE, lost=("a", "b")), client_errors=2, errors_text="2x reset")
    assert bad.problems() == ["new: 2 lost: a, b", "client errors: 2x reset"]
    assert bad.lost == 2


def test_what_the_checker_found_is_named() -> None:
    finding = {"class": "different", "by": [], "identity": "a", "differences": [{"path": "/body", "reason": "value"}]}
    lost = {"class": "lost", "by": ["new"], "identity": "b", "differences": []}
    refused = {"class": "refused", "by": [], "identity": "c", "differences": []}
    said = {"result": "fail", "classes": {"equal": 7, "lost": 1}, "findings": [finding, lost, refused]}
    bad = replace(GOOD, verification=VERIFIED | said | {"inconclusive": [{"reason": "store old: busy"}]})
    assert bad.problems() == [
        "verify fail (three-way): 7 equal, 1 lost",
        "  different: a (/body value)",
        "  lost by new: b",
        "  inconclusive: store old: busy",
    ]
    assert "verify fail: 7 equal, 1 lost; 20 s" in bad.summary()


def test_a_different_body_is_not_called_lost() -> None:
    bad = replace(GOOD, new=replace(COMPLETE, different=("a",)))
    assert bad.summary().startswith("FAILED: lost 0 of 10 accepted, different 1 (")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, Injection()),
        ("lost:3", Injection(lost=3)),
        ("lost:3,different:2", Injection(lost=3, different=2)),
        ("different:1", Injection(different=1)),
    ],
)
def test_injection(text: str | None, expected: Injection) -> None:
    assert parse_injection(text) == expected


@pytest.mark.parametrize("text", ["lost", "lost:-1", "lost:x", "stolen:1", "lost:1,lost:2", "lost:1,", ":"])
def test_bad_injection(text: str) -> None:
    with pytest.raises(ValueError, match="expected lost:N"):
        parse_injection(text)


def test_the_object_is_the_same_in_json_and_yaml() -> None:
    found = GOOD.as_dict()
    assert yaml.safe_load(encoded(found, "yaml")) == json.loads(encoded(found, "json")) == found
