"""What may pause or revert a route from outside: alerts of an Alertmanager, and a plain webhook."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from config.frozen import Frozen
from config.patterns import NAME_PATTERN, Name
from config.units import SomeTime, UnitError, Written

EVERY_ROUTE: Final = "*"
HookAction = Literal["pause", "revert"]
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


def _check_label(text: str) -> str:
    if not _LABEL.fullmatch(text):
        raise UnitError(f"a label's name is a-z, A-Z, 0-9 and '_' and begins with no digit, unlike {text!r}")
    return text


def _check_route(text: str) -> str:
    if text != EVERY_ROUTE and not re.fullmatch(NAME_PATTERN, text):
        raise UnitError(f'expected a route\'s name, or "*" for all of them, not {text!r}')
    return text


LabelName = Annotated[str, AfterValidator(_check_label), Written("label", str)]
RouteOrAll = Annotated[str, AfterValidator(_check_route), Written('name or "*"', str)]


class AlertRule(Frozen):
    """What a firing alert does. The first rule whose labels the alert has takes it."""

    labels: dict[LabelName, str] = Field(
        min_length=1,
        description="labels that the alert has with these very values; an empty one: that it does not have",
        examples=["{alertname: NewFails, severity: critical}"],
    )
    route: RouteOrAll = Field(description='route that it is about, or "*" for all', examples=["events", '"*"'])
    action: HookAction = Field(
        description="pause: the rollout under way stays where it is. revert: weight 0, latched until `proxyctl rearm`",
        examples=["revert"],
    )


class AlertmanagerHook(Frozen):
    """`POST /api/v1/hooks/alertmanager` takes an Alertmanager's webhook (version 4) with a token of the role `hook`."""

    rules: tuple[AlertRule, ...] = Field(
        min_length=1,
        description="what which alert does; others are counted and do nothing",
        examples=["[{labels: {alertname: NewFails}, route: events, action: revert}]"],
    )
    max_age: SomeTime = Field(
        86400.0, description="an alert that has been firing for longer than this does nothing any more"
    )


class WebhookHook(Frozen):
    """`POST /api/v1/hooks/webhook` takes `{"action": "revert", "route": "events", "reason": "x"}`; token as there.

    The body is JSON, with `Content-Type: application/json`. `action` is `pause` or `revert`; `route` a name, or `*` for
    all that it may be about; `reason` is needed, 1 to 1000 characters. `dry_run: true` says what would be done.
    """

    routes: tuple[Name, ...] = Field((), description="routes that it may be about; empty: all", examples=["[events]"])
    actions: tuple[HookAction, ...] = Field(
        ("pause", "revert"), min_length=1, description="what it may do", examples=["[pause]"]
    )


class Hooks(Frozen):
    """What may pause or revert from outside; nothing unless it stands here. No hook raises a weight."""

    alertmanager: AlertmanagerHook | None = Field(
        None,
        description="alerts of Prometheus",
        examples=["{rules: [{labels: {alertname: NewFails}, route: events, action: revert}]}"],
    )
    webhook: WebhookHook | None = Field(None, description="anything that can send JSON", examples=["{}"])
