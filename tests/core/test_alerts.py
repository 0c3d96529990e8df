"""What a notification asks for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from config.hooks import AlertmanagerHook
from proxy.core.alerts import (
    AHEAD,
    MAX_NAME,
    MAX_PAIRS,
    MAX_TEXT,
    Alert,
    Done,
    Due,
    Notification,
    asked,
    evidence,
    key,
    named,
    reason,
    reference,
    title,
)

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
ROUTES = ("events", "orders")
HOOK = AlertmanagerHook.model_validate(
    {
        "max_age": "1h",
        "rules": (
            {"labels": {"alertname": "NewFails", "severity": "critical"}, "route": "events", "action": "revert"},
            {"labels": {"alertname": "NewFails", "team": ""}, "route": "orders", "action": "pause"},
            {"labels": {"severity": "critical"}, "route": "*", "action": "revert"},
        ),
    }
)


def alert(*, age: float = 60.0, fingerprint: str = "f1", status: str = "firing", **labels: str) -> dict[str, Any]:
    started = NOW - timedelta(seconds=age)
    return {"status": status, "labels": labels, "startsAt": started.isoformat(), "fingerprint": fingerprint}


def notification(*alerts: dict[str, Any], group: str = "g1") -> Notification:
    body = {"version": "4", "groupKey": group, "alerts": list(alerts), "receiver": "crossfade", "externalURL": "x"}
    return msgspec.convert(body, Notification)


def due(*alerts: dict[str, Any], known: Mapping[str, Done] = {}, group: str = "g1", token: str = "am") -> set[Due]:
    return set(asked(HOOK, notification(*alerts, group=group), ROUTES, known, NOW.timestamp(), token).due)


def did(*wanted: Due, age: float = 60.0, alert: str = "") -> dict[str, Done]:
    return {key("am", "g1", each): Done("am", NOW.timestamp() - age, alert) for each in wanted}


def test_the_first_rule_with_all_labels_takes_it() -> None:
    assert due(alert(alertname="NewFails", severity="critical", team="a")) == {Due("events", "revert")}
    assert due(alert(alertname="NewFails", severity="warning")) == {Due("orders", "pause")}
    assert due(alert(alertname="NewFails", severity="warning", team="a")) == set()
    assert due(alert(alertname="Other", severity="critical")) == {Due("events", "revert"), Due("orders", "revert")}


def test_alerts_that_ask_for_the_same_are_one_thing_to_do() -> None:
    both = [alert(alertname="NewFails", severity="critical", fingerprint=name) for name in ("f1", "f2")]
    found = asked(HOOK, notification(*both), ROUTES, {}, NOW.timestamp())
    assert [(each, len(firing)) for each, firing in found.due.items()] == [(Due("events", "revert"), 2)]


@pytest.mark.parametrize(
    ("age", "counts"),
    [(3600.0, {}), (3601.0, {"ignored": 1}), (-AHEAD, {}), (-AHEAD - 1, {"future": 1}), (1e9, {"ignored": 1})],
)
def test_what_is_too_old_or_of_the_future_does_nothing(age: float, counts: dict[str, int]) -> None:
    found = asked(HOOK, notification(alert(age=age, severity="critical")), ROUTES, {}, NOW.timestamp())
    assert found.counts == counts
    assert bool(found.due) == (not counts)
    assert found.latest == (NOW.timestamp() - age if "future" in counts else 0)


def test_unmatched_ones_are_counted() -> None:
    found = asked(HOOK, notification(alert(alertname="Other"), alert()), ROUTES, {}, NOW.timestamp())
    assert (found.due, found.counts) == ({}, {"unmatched": 2})


def test_one_is_known_by_token_group_and_start() -> None:
    first = alert(alertname="NewFails", severity="critical")
    reverts = Due("events", "revert")
    known = did(reverts)
    assert due(first, known=known) == set()
    found = asked(HOOK, notification(first), ROUTES, known, NOW.timestamp(), "am")
    assert found.counts == {"known": 1}
    assert due(first | {"fingerprint": "f2"}, known=known) == set(), "it fired when the other one did it"
    assert due(alert(age=61, alertname="NewFails", severity="critical"), known=known) == set()
    assert due(alert(age=59.999, alertname="NewFails", severity="critical"), known=known) == {reverts}
    assert due(first, known=known, group="g2") == {reverts}
    assert due(first, known=known, token="another") == {reverts}
    assert due(first, known=did(Due("events", "pause"), Due("orders", "revert"))) == {reverts}


def test_a_route_that_is_still_to_be_done_is_due_alone() -> None:
    assert due(alert(severity="critical"), known=did(Due("events", "revert"))) == {Due("orders", "revert")}


def test_a_resolved_one_does_nothing_and_ends_what_it_did() -> None:
    fired = alert(alertname="NewFails", severity="critical")
    resolved = fired | {"status": "resolved"}
    name = named(msgspec.convert(fired, Alert))
    reverts = Due("events", "revert")
    for known, ended in (
        ({}, []),
        (did(reverts), []),
        (did(reverts, alert="another"), []),
        (did(reverts, alert=name), ["events"]),
        ({each: msgspec.structs.replace(was, ended=True) for each, was in did(reverts, alert=name).items()}, []),
    ):
        found = asked(HOOK, notification(resolved, resolved), ROUTES, known, NOW.timestamp(), "am")
        assert (found.due, found.counts) == ({}, {"resolved": 2})
        assert [each.route for each in found.ended] == ended
    assert len({name, *(named(msgspec.convert(each, Alert)) for each in (
        alert(fingerprint="f2"), alert(age=59.999999), fired | {"labels": {}},
    ))}) == 3  # fmt: skip


def test_the_reason_is_one_short_line() -> None:
    plain = alert(alertname="NewFails", severity="critical")
    told = plain | {"annotations": {"summary": "5 % of new's\nanswers fail", "description": "more"}}
    wordy = plain | {"annotations": {"description": "x" * 5000}}
    said = [
        reason(firing)
        for each in (plain, told, wordy)
        for firing in asked(HOOK, notification(each), ROUTES, {}, NOW.timestamp()).due[Due("events", "revert")]
    ]
    assert said[:2] == [
        "the alert NewFails is firing (severity=critical)",
        "the alert NewFails is firing (severity=critical): 5 % of new's answers fail",
    ]
    assert len(said[2]) == MAX_TEXT


def test_evidence_is_bounded() -> None:
    labels = {f"label_{number:04}": "x" * 5000 for number in range(1000)}
    kept = evidence("g" * 5000, msgspec.convert(alert() | {"labels": labels, "annotations": labels}, Alert))
    assert (len(kept["labels"]), len(kept["annotations"])) == (MAX_PAIRS, MAX_PAIRS)
    assert len(msgspec.json.encode(kept)) < 2 * MAX_PAIRS * (MAX_TEXT + 20) + 3 * MAX_TEXT
    assert kept["starts_at"] == (NOW - timedelta(seconds=60)).isoformat()
    assert title(msgspec.convert(alert(), Alert)) == "without a name"
    long = msgspec.convert(alert(fingerprint="f" * 5000, alertname="a" * 5000), Alert)
    assert reference(long) == {"alert": "a" * MAX_TEXT, "fingerprint": "f" * MAX_NAME}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"version": "3"}, "$.version"),
        ({"groupKey": 5}, "$.groupKey"),
        ({"alerts": {}}, "$.alerts"),
        ({"alerts": [alert() | {"status": "burning"}]}, "$.alerts[0].status"),
        ({"alerts": [alert(), alert() | {"startsAt": "yesterday"}]}, "$.alerts[1].startsAt"),
        ({"alerts": [alert() | {"startsAt": "2026-01-31T12:00:00"}]}, "$.alerts[0].startsAt"),
        ({"alerts": [alert() | {"labels": {"a": 1}}]}, "$.alerts[0].labels"),
    ],
)
def test_what_is_malformed_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert({"version": "4", "groupKey": "g", "alerts": []} | change, Notification)
    assert field in str(caught.value)
