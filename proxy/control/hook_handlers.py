"""The operations of the hooks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from proxy.control import bodies, views
from proxy.control.admin import Call
from proxy.control.hooks import Hooks, Outcome
from proxy.core.alerts import Notification

MOST_TOLD: Final = 100
"""Outcomes in an answer."""


class HookHandlers:
    """hooks: those of the instance."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks

    async def hook_alertmanager(self, call: Call) -> views.HookDone:
        """A notification of an Alertmanager."""
        body = call.body
        assert isinstance(body, Notification)
        outcomes, idle = await self._hooks.alertmanager(body, call.who.actor, call.token)
        return _done(outcomes, idle, dry_run=False)

    async def hook_webhook(self, call: Call) -> views.HookDone:
        """One thing to do."""
        body = call.body
        assert isinstance(body, bodies.Hook)
        outcomes = await self._hooks.webhook(body.action, body.route, call.who, call.token)
        return _done(outcomes, {}, dry_run=body.dry_run)


def _done(outcomes: list[Outcome], idle: Mapping[str, int], *, dry_run: bool) -> views.HookDone:
    told = [views.HookOutcome(*each.due, each.outcome, each.detail) for each in outcomes[:MOST_TOLD]]
    return views.HookDone(told, dict(idle), dry_run)
