"""Every change of the live routing goes through here: check, audit, write, push, wait until it is applied.

    person or trigger --> turn() --> audit line (durable) --> compare-and-set --> watch --> workers --> Applied

Changes go one at a time. What is refused or makes no difference leaves neither an audit line nor a new epoch.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

from config.model import Route, Settings
from proxy.control.audit import Audit, Entry
from proxy.control.configuration import Configuration
from proxy.control.peers import Peers
from proxy.control.state import Conflict, ControlStore, LiveState, RouteState, reconcile
from proxy.control.tally import Tally
from proxy.core.errors import BadChange
from proxy.core.routing import Dials, with_stage

log = logging.getLogger(__name__)

APPLY_WAIT: Final = 2.0
"""Seconds that a change waits for all workers before it answers."""
OWN_ACTOR: Final = "crossfade"
"""The actor of what the proxy does by itself."""

MOST_TOLD: Final = 200
"""Changes of a configuration that its line of the audit trail lists."""

MOST_NAMED: Final = 5
"""Of these, that its reason names."""

Turn = Callable[[Dials], Dials]


@dataclass(frozen=True)
class Who:
    """Who changes something, and why. expected: the epoch that he believes in, None for any."""

    actor: str
    reason: str = ""
    expected: int | None = None
    dry_run: bool = False


@dataclass(frozen=True)
class Changed:
    """What a change did. workers: how many had applied it after `seconds`."""

    route: Route
    before: RouteState
    after: RouteState
    epoch: int
    previous_epoch: int
    dry_run: bool
    workers: int = 0
    seconds: float = 0.0

    @property
    def is_change(self) -> bool:
        """Did anything change, or would it without dry_run?"""
        return self.before != self.after


def position(state: RouteState) -> dict[str, Any]:
    """A route's position as people see it."""
    dials = state.dials
    return {"weight": dials.weight, "copy": dials.copy, "stage": dials.stage, "latched": dials.latched}


def at_start(dials: Dials, route: Route) -> Dials:
    """Where the file says that a route begins; raises BadChange where its latch does not let it."""
    return with_stage(dials, route.stage, route.weight)


class Guarding(Protocol):
    """What may stand against a change: freezes, drills."""

    def allow(self, route: str, action: str, *, is_lower: bool = False) -> None:
        """Raises BadChange where it does. is_lower: the weight would be less."""


class Changes:
    """The one who changes. against: what may stand against a change; clock: monotonic seconds."""

    def __init__(
        self,
        settings: Settings,
        store: ControlStore,
        audit: Audit,
        peers: Peers,
        tally: Tally,
        *against: Guarding,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._routes = {route.name: route for route in settings.routes}
        self._store = store
        self._audit = audit
        self._peers = peers
        self._tally = tally
        self._against = against
        self._clock = clock
        self.one_at_a_time = asyncio.Lock()
        """Held by whoever changes the routing, or what a change goes by."""

    async def reconcile(self, configuration: Configuration | None = None) -> LiveState:
        """Fit the live state to the configuration, once at start; the state that holds now.

        A configuration that is another one than before is a new epoch, whatever it changes.
        Raises RefuseToStart when the configured stage of a new route is impossible.
        """
        state = await self._store.get()
        wanted = reconcile(self._settings, state)
        epoch = state.revision if state is not None else 0
        is_other = configuration is not None and configuration.is_other
        if state is not None and not wanted.added and not wanted.dropped and not is_other:
            return state
        before = state.routes if state is not None else {}
        if configuration is not None and is_other:
            await self._audit.write(self._reloaded(configuration, epoch))
        for action, names in (("route-added", wanted.added), ("route-dropped", wanted.dropped)):
            for name in names:
                entry = Entry(
                    at="",
                    epoch=max(epoch, self._store.floor) + 1,
                    previous_epoch=epoch,
                    actor=OWN_ACTOR,
                    action=action,
                    route=name,
                    before=position(before[name]) if name in before else {},
                    after=position(wanted.routes[name]) if name in wanted.routes else {},
                    reason="the configuration changed" if state is not None else "first start",
                )
                await self._audit.write(entry)
        return await self._store.compare_and_set(epoch, wanted.routes)

    def _reloaded(self, configuration: Configuration, epoch: int) -> Entry:
        actor, reason = configuration.who
        found = configuration.changes
        keys = ", ".join(each.key for each in found[:MOST_NAMED]) + ", ..." * (len(found) > MOST_NAMED)
        told = [{"key": each.key, "before": each.before, "after": each.after} for each in found[:MOST_TOLD]]
        return Entry(
            at="",
            epoch=max(epoch, self._store.floor) + 1,
            previous_epoch=epoch,
            actor=actor,
            action="reload",
            reason=f"{reason} ({keys})" if reason else keys,
            evidence={
                "file": str(configuration.file),
                "configuration": configuration.digest,
                "changed": len(found),
                "changes": told,
            },
        )

    async def follow_file(self, configuration: Configuration) -> None:
        """Move routes to their positions in the file, where these are others than before; what may not be is told."""
        for name in configuration.moving:
            route = self._routes[name]
            actor, reason = configuration.actor, configuration.reason
            who = Who(actor or OWN_ACTOR, f"configuration: {reason}" if reason else "configuration")
            try:
                await self.turn(name, "stage", partial(at_start, route=route), who)
            except BadChange as error:
                log.warning("%s stays where it is, not as in the file: %s", name, error)
                await self._not_applied(name, "stage", str(error))
            except (OSError, Conflict) as error:
                log.error("%s does not follow the file yet, the next start tries again: %s", name, error)
                continue
            await asyncio.to_thread(configuration.moved, name)

    async def turn(
        self,
        name: str,
        action: str,
        turn: Turn,
        who: Who,
        *,
        latch_reason: str = "",
        evidence: Mapping[str, Any] | None = None,
    ) -> Changed:
        """Turn a route's dials and wait until every worker has applied it, at most APPLY_WAIT.

        Raises BadChange when `turn` refuses, Frozen or Drilled while the route is so and this is no way back, Conflict
        for another epoch than expected, OSError when the change cannot be written; nothing changed then.
        """
        route = self._routes[name]
        async with self.one_at_a_time:
            begun = self._clock()
            state = await self._store.get()
            if state is None:
                raise BadChange("there is no live state yet")
            if who.expected is not None and who.expected != state.revision:
                raise Conflict(state.revision)
            before = self._tally.dated(name, state.routes[name])
            after = before.turned(turn(before.dials), reason=latch_reason)
            for each in self._against:
                each.allow(name, action, is_lower=after.weight < before.weight)
            if after == before or who.dry_run:
                return Changed(route, before, after, state.revision, state.revision, who.dry_run)
            entry = Entry(
                at="",
                epoch=max(state.revision, self._store.floor) + 1,
                previous_epoch=state.revision,
                actor=who.actor,
                action=action,
                route=name,
                before=position(before),
                after=position(after),
                reason=who.reason or latch_reason,
                evidence=dict(evidence or {}),
            )
            new = await self._write(state, name, after, entry)
            if (after.weight, after.copy) != (before.weight, before.copy):
                self._tally.turns[name] += 1
            if before.latched and not after.latched:
                self._tally.beginnings[name] += 1
            if after.weight != before.weight:
                self._tally.cut(name, self._clock())
        workers = await self._peers.wait_applied(new.revision, APPLY_WAIT)
        seconds = round(self._clock() - begun, 6)
        return Changed(route, before, after, new.revision, state.revision, False, workers, seconds)

    async def note(self, changed: Changed, action: str, evidence: Mapping[str, Any]) -> None:
        """What is known of a change of our own after it. Raises OSError."""
        await self._audit.write(
            Entry(
                at="",
                epoch=changed.epoch,
                previous_epoch=changed.epoch,
                actor=OWN_ACTOR,
                action=action,
                route=changed.route.name,
                evidence=dict(evidence),
            )
        )

    async def _write(self, state: LiveState, name: str, after: RouteState, entry: Entry) -> LiveState:
        """Audit, then effect. An effect that fails gets an audit line that says so."""
        await self._audit.write(entry)
        try:
            return await self._store.compare_and_set(state.revision, {**state.routes, name: after})
        except (OSError, Conflict) as error:
            log.error("the change could not be written: %s", error)
            await self._not_applied(name, entry.action, str(error), state.revision)
            raise

    async def _not_applied(self, name: str, action: str, reason: str, epoch: int | None = None) -> None:
        if epoch is None:
            state = await self._store.get()
            epoch = state.revision if state is not None else 0
        await self._audit.write(
            Entry(
                at="",
                epoch=epoch,
                previous_epoch=epoch,
                actor=OWN_ACTOR,
                action="not-applied",
                route=name,
                reason=reason,
                evidence={"action": action},
            )
        )
