"""What a notification of an Alertmanager asks for: pure functions of the rules, the time, and what was done before.

    resolved ------------------------------------> resolved: never raises a weight
    firing --> too old ---------------------------> ignored
           --> no rule has its labels ------------> unmatched
           --> of the future ---------------------> future: to be sent again
           --> its group did this since it fires -> known
           --> Due(route, action), once for all alerts that ask for the same

What was done is known by who sent it, the group, the route and the action, with the latest start of an alert that asked
for it: a repeated notification has none later, and an alert that fires anew has. So what is to be remembered does not
grow with the number of alerts. Payload: prometheus.io/docs/alerting/latest/configuration, webhook_config.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec

from config.hooks import EVERY_ROUTE, AlertmanagerHook, AlertRule

AHEAD: Final = 300.0
"""Seconds that another machine's clock may be before ours."""
MAX_TEXT: Final = 300
"""Characters kept of a label, an annotation and a reason."""
MAX_PAIRS: Final = 32
"""Labels, and annotations, kept of an alert."""

MAX_NAME: Final = 64
"""Characters of a fingerprint, kept where an alert is named only."""

UNMATCHED: Final = "unmatched"
IGNORED: Final = "ignored"
FUTURE: Final = "future"
KNOWN: Final = "known"
RESOLVED: Final = "resolved"


class Alert(msgspec.Struct, frozen=True, rename="camel"):
    """One alert, as far as it is looked at."""

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    starts_at: Annotated[datetime, msgspec.Meta(tz=True)]
    fingerprint: str
    annotations: dict[str, str] = {}


class Notification(msgspec.Struct, frozen=True, rename="camel"):
    """What an Alertmanager posts. truncated_alerts: how many its `max_alerts` left out."""

    version: Literal["4"]
    group_key: str
    alerts: list[Alert]
    truncated_alerts: int = 0


class Due(NamedTuple):
    """What is to be done to a route. action: pause or revert."""

    route: str
    action: str


class Firing(NamedTuple):
    """An alert that asks for something. started: when it began to fire, seconds since 1970."""

    alert: Alert
    rule: AlertRule
    started: float


class Done(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was done before. token: name of the one that it was asked with; started: the latest start of an alert that
    asked for it; alert: names the one that the audit trail names, empty when there was nothing to do; ended: that one
    is resolved.
    """

    token: str
    started: float
    alert: str = ""
    ended: bool = False


class Ended(NamedTuple):
    """The alert that did something is resolved. key: of what it did."""

    key: str
    route: str
    alert: Alert


class Asked(NamedTuple):
    """Everything that a notification asks for. counts: alerts of which nothing comes, by the reason; latest: start of
    the one that is furthest in the future, seconds since 1970, 0 without any.
    """

    due: dict[Due, list[Firing]]
    ended: list[Ended]
    counts: Counter[str]
    latest: float


def asked(
    hook: AlertmanagerHook,
    notification: Notification,
    routes: Sequence[str],
    known: Mapping[str, Done],
    now: float,
    token: str = "",
) -> Asked:
    """What is to be done. routes: all there are; known: what was done, by key; now: seconds since 1970; token: name of
    the one that it came with.
    """
    due: dict[Due, list[Firing]] = {}
    ended: dict[str, Ended] = {}
    counts: Counter[str] = Counter()
    latest = 0.0
    group = _digest(token, notification.group_key)
    for alert in notification.alerts:
        rule = rule_of(hook.rules, alert.labels)
        started = alert.starts_at.timestamp()
        reason = _idle(alert, rule, started, now, hook.max_age)
        if reason:
            counts[reason] += 1
        if reason == FUTURE:
            latest = max(latest, started)
        if rule is None or reason not in ("", RESOLVED):
            continue
        for route in routes if rule.route == EVERY_ROUTE else (rule.route,):
            each = Due(route, rule.action)
            done = known.get(_key(group, each))
            if reason == RESOLVED:
                if done is not None and not done.ended and done.alert and done.alert == named(alert):
                    ended.setdefault(_key(group, each), Ended(_key(group, each), route, alert))
            elif done is not None and started <= done.started:
                counts[KNOWN] += 1
            else:
                due.setdefault(each, []).append(Firing(alert, rule, started))
    return Asked(due, list(ended.values()), counts, latest)


def _idle(alert: Alert, rule: AlertRule | None, started: float, now: float, max_age: float) -> str:
    """Why nothing comes of an alert, whatever was done before; empty when something may."""
    if alert.status == "resolved":
        return RESOLVED
    if started < now - max_age:
        return IGNORED
    if rule is None:
        return UNMATCHED
    return FUTURE if started > now + AHEAD else ""


def key(token: str, group_key: str, due: Due) -> str:
    """Names what a group of alerts asks for."""
    return _key(_digest(token, group_key), due)


def named(alert: Alert) -> str:
    """Names an alert, and since when it fires."""
    return _digest(alert.fingerprint, alert.starts_at.isoformat())


def rule_of(rules: Sequence[AlertRule], labels: Mapping[str, str]) -> AlertRule | None:
    """The first rule of which an alert has all labels."""
    for rule in rules:
        if all(labels.get(name, "") == value for name, value in rule.labels.items()):
            return rule
    return None


def reason(firing: Firing) -> str:
    """Why something is done, in a line."""
    labels = ", ".join(f"{name}={value}" for name, value in firing.rule.labels.items() if name != "alertname")
    named = f"the alert {title(firing.alert)} is firing" + (f" ({labels})" if labels else "")
    said = firing.alert.annotations.get("summary") or firing.alert.annotations.get("description") or ""
    return _line(f"{named}: {said}" if said else named)


def title(alert: Alert) -> str:
    """What people call it."""
    return _line(alert.labels.get("alertname", "") or "without a name")


def evidence(group_key: str, alert: Alert, *, further: int = 0) -> dict[str, Any]:
    """What is kept of an alert, bounded in size. further: how many others said the same with it."""
    kept = {
        "alert": title(alert),
        "labels": _bounded(alert.labels),
        "annotations": _bounded(alert.annotations),
        "starts_at": alert.starts_at.isoformat(),
        "group_key": group_key[:MAX_TEXT],
        "fingerprint": alert.fingerprint[:MAX_TEXT],
    }
    return kept | ({"further_alerts": further} if further else {})


def reference(alert: Alert) -> dict[str, Any]:
    """What is kept where an alert is named again."""
    return {"alert": title(alert), "fingerprint": alert.fingerprint[:MAX_NAME]}


def _bounded(pairs: Mapping[str, str]) -> dict[str, str]:
    return {name[:MAX_TEXT]: value[:MAX_TEXT] for name, value in sorted(pairs.items())[:MAX_PAIRS]}


def _line(text: str) -> str:
    return " ".join(text.split())[:MAX_TEXT]


def _key(group: str, due: Due) -> str:
    return f"{group}:{due.route}:{due.action}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
