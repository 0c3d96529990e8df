"""The operations that freeze routes, and that end a freeze."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from config.model import Route
from proxy.control import views
from proxy.control.admin import Call
from proxy.control.audit import Entry, iso
from proxy.control.bodies import Freeze as FreezeBody
from proxy.control.bodies import Unfreeze as UnfreezeBody
from proxy.control.changes import OWN_ACTOR
from proxy.control.freezes import said
from proxy.control.instance import Instance
from proxy.control.state import Conflict
from proxy.control.status import freeze_view
from proxy.core import freeze
from proxy.core.freeze import Freeze
from proxy.core.rollout import PAUSED

Turn = Callable[[Freeze | None], Freeze | None]
_ON_ITS_WAY: Final = {"freeze": "waits with its next step until then", "unfreeze": "goes on"}
_PAUSED: Final = {
    "freeze": "is paused, and cannot be resumed before that",
    "unfreeze": "is paused still; to go on: proxyctl rollout resume --route {route}",
}
"""By action, what becomes of a rollout."""


class FreezeHandlers:
    """find: the route that is named, or Problem 404."""

    def __init__(self, instance: Instance, find: Callable[[str], Route]) -> None:
        self._instance = instance
        self._find = find

    async def freeze(self, call: Call) -> views.FreezeChanged:
        """Freeze a route, or all of them."""
        body: FreezeBody = call.body
        wanted = freeze.begin(self._instance.wall(), body.seconds, call.who.actor, call.who.reason)
        return await self._turn(call, "freeze", body.route, lambda present: freeze.later(present, wanted))

    async def unfreeze(self, call: Call) -> views.FreezeChanged:
        """End the freeze of a route, or of all of them."""
        body: UnfreezeBody = call.body
        return await self._turn(call, "unfreeze", body.route, lambda _present: None)

    async def _turn(self, call: Call, action: str, route: str | None, turn: Turn) -> views.FreezeChanged:
        instance, who = self._instance, call.who
        names = list(instance.routes) if route is None else [self._find(route).name]
        async with instance.changes.one_at_a_time:
            epoch = instance.epoch
            if who.expected is not None and who.expected != epoch:
                raise Conflict(epoch)
            before = {name: instance.freezes.of(name) for name in names}
            after = {name: turn(before[name]) for name in names}
            changed = {name: after[name] for name in names if after[name] != before[name]}
            if changed and not who.dry_run:
                await self._write(call, action, before, changed)
        return views.FreezeChanged(
            routes=[
                views.RouteFreeze(name, freeze_view(before[name]), freeze_view(after[name]), name in changed)
                for name in names
            ],
            epoch=epoch,
            changed=bool(changed) and not who.dry_run,
            dry_run=who.dry_run,
            notes=self._notes(action, after, changed),
        )

    async def _write(
        self, call: Call, action: str, before: Mapping[str, Freeze | None], changed: dict[str, Freeze | None]
    ) -> None:
        """Audit, then effect. An effect that fails gets audit lines that say so."""
        for name, after in changed.items():
            evidence = {"frozen_until": _until(after), "before": _until(before[name])}
            await self._audit(name, call.who.actor, action, call.who.reason, evidence)
        try:
            await self._instance.freezes.put(changed)
        except OSError as error:
            for name in changed:
                await self._audit(name, OWN_ACTOR, "not-applied", str(error), {"action": action})
            raise

    async def _audit(self, route: str, actor: str, action: str, reason: str, evidence: Mapping[str, object]) -> None:
        epoch = self._instance.epoch
        entry = Entry("", epoch, epoch, actor, action, route, reason=reason, evidence=dict(evidence))
        await self._instance.audit.write(entry)

    def _notes(
        self, action: str, after: Mapping[str, Freeze | None], changed: Mapping[str, Freeze | None]
    ) -> list[str]:
        """What a person should know: freezes that end later than the one that was asked for, rollouts that wait."""
        notes = [
            f"{said(name, each)}, which is later and stands; to end it: proxyctl freeze --off --route {name}"
            for name, each in after.items()
            if each is not None and name not in changed
        ]
        rollouts = self._instance.rollouts
        for name in changed:
            if name not in rollouts or rollouts[name].progress.is_over:
                continue
            what = _PAUSED if rollouts[name].progress.phase == PAUSED else _ON_ITS_WAY
            notes.append(f"the rollout of {name} {what[action].format(route=name)}")
        return notes


def _until(found: Freeze | None) -> str | None:
    return None if found is None else iso(found.until)
