"""What each operation of the admin API does. A handler's name is its operation's name."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from config.model import Route
from proxy.control import views
from proxy.control.account import LOOK_BACK, around, explain, lasted, outlook, present
from proxy.control.admin import Call, Handler
from proxy.control.audit import Entry, iso
from proxy.control.bodies import Drain, RecordBaseline, Reload, Restore, Rollback, SetStage, SetWeight
from proxy.control.changes import Changed, Turn, position
from proxy.control.check_handlers import CheckHandlers
from proxy.control.decommission_handlers import DecommissionHandlers
from proxy.control.doctor_handlers import DoctorHandlers
from proxy.control.drill_handlers import DrillHandlers
from proxy.control.event_stream import EventStream
from proxy.control.figure_handlers import FigureHandlers, OneReader
from proxy.control.freeze_handlers import FreezeHandlers
from proxy.control.hook_handlers import HookHandlers
from proxy.control.hooks import Hooks
from proxy.control.instance import Instance
from proxy.control.ledger_handlers import LedgerHandlers
from proxy.control.metrics import Exposition
from proxy.control.notes import next_command, notes, trouble_at_new
from proxy.control.operations import OPERATIONS, openapi
from proxy.control.past import dials_at
from proxy.control.problems import Problem
from proxy.control.reloads import Reloads
from proxy.control.rollout_handlers import RolloutHandlers
from proxy.control.rollouts import Rollouts
from proxy.control.spreads import moves_view
from proxy.control.state import Conflict
from proxy.control.status import status, worst_breaker
from proxy.control.streams import MOST_WATCHERS, Streams
from proxy.control.switch_handlers import SwitchHandlers
from proxy.control.version import VERSION
from proxy.core.choose import plan
from proxy.core.errors import BadChange
from proxy.core.routing import lowered, rearmed, restored, rolled_back, with_stage, with_weight
from proxy.core.verdict import NOTHING_YET

_PROCESSES: Final = ("worker", "ledger", "checker")
_SUPERVISOR: Final = "supervisor"
_HEAR_WAIT: Final = 10.0
"""Seconds that workers and ledger have to say something before metrics are told without them."""
WEIGHT_RANGE: Final = "weight must be between 0 and 100 percent, not "


class Handlers:
    """The handlers of one instance, beside those of rollouts, freezes, drills, hooks, the ledger and checks."""

    def __init__(
        self, instance: Instance, rollouts: Rollouts, hooks: Hooks, reloads: Reloads, streams: Streams
    ) -> None:
        self._instance = instance
        self._reloads = reloads
        self._rollouts = rollouts
        self._hooks = hooks
        self._streams = streams
        self._exposition = Exposition(instance)
        self._began = instance.clock()

    def table(self) -> Mapping[str, Handler]:
        """Every operation's handler by the operation's name."""
        reader = OneReader()
        families = (
            self,
            RolloutHandlers(self._instance, self._rollouts, self._route),
            FreezeHandlers(self._instance, self._route),
            DrillHandlers(self._instance, self._route),
            DoctorHandlers(self._instance),
            HookHandlers(self._hooks),
            LedgerHandlers(self._instance, self.record),
            CheckHandlers(self._instance, self.record),
            SwitchHandlers(self._instance, self.record),
            FigureHandlers(self._instance, self._route, reader),
            DecommissionHandlers(self._instance, self._route, reader),
        )
        return {
            each.name: next(getattr(family, each.name) for family in families if hasattr(family, each.name))
            for each in OPERATIONS
        }

    async def record(self, call: Call, action: str, evidence: dict[str, Any], route: str = "") -> None:
        """Check the expected epoch and write the audit line of a change that is not one of the routing."""
        epoch = self._instance.epoch
        if call.who.expected is not None and call.who.expected != epoch:
            raise Conflict(epoch)
        if call.who.dry_run:
            return
        await self._instance.audit.write(
            Entry(
                at="",
                epoch=epoch,
                previous_epoch=epoch,
                actor=call.who.actor,
                action=action,
                route=route,
                reason=call.who.reason,
                evidence=evidence,
            )
        )

    # --- looking -------------------------------------------------------------------------------------------

    async def healthz(self, _call: Call) -> views.Health:
        """The supervisor answers."""
        return views.Health("ok")

    async def readyz(self, _call: Call) -> web.Response:
        """200 or 503, with the reasons."""
        reasons = self._instance.not_ready()
        body = {"ready": not reasons, "reasons": reasons}
        return web.json_response(body, status=503 if reasons else 200)

    async def metrics(self, _call: Call) -> web.Response:
        """Prometheus exposition; 503 while a new supervisor knows less than the last one had told: what then rose again
        would be taken for a restart, and everything ever counted for an increase.
        """
        instance = self._instance
        tally, now = instance.tally, instance.clock()
        unheard = tally.unheard(instance.settings.workers)
        if tally.goes_on and unheard and now - self._began < _HEAR_WAIT:
            who = ", ".join(unheard)
            raise Problem(503, f"{who} must say first what was counted before this supervisor began", retry_after=1)
        instance.scraped_at = now
        return web.Response(body=self._exposition.text(), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    async def openapi(self, _call: Call) -> dict[str, Any]:
        """The description of this API."""
        return openapi(VERSION)

    async def status(self, _call: Call) -> views.Status:
        """Everything at a glance."""
        return status(self._instance)

    async def status_stream(self, call: Call) -> web.StreamResponse:
        """The same again and again, as it changes."""
        if self._streams.is_full:
            raise Problem(429, f"{MOST_WATCHERS} streams are open, which is the most: close one", retry_after=5)
        return EventStream(self._streams, views.Welcome(call.role, call.token), call.may_still)

    async def routes(self, _call: Call) -> views.Routes:
        """The settings of all routes."""
        settings = self._instance.settings
        plain = [each.address for each in settings.listen if each.tls is None]
        over_tls = [each.address for each in settings.listen if each.tls is not None]
        return views.Routes(plain, over_tls, [route.model_dump(mode="json") for route in settings.routes])

    async def history(self, call: Call) -> views.History:
        """The audit trail, newest first."""
        audit = self._instance.audit
        entries = await audit.history(
            call.integer("limit", 50, 1, 1000),
            call.query.get("route"),
            since=call.moment("since"),
            until=call.moment("until"),
            offset=call.integer("offset", 0, 0, 10**9),
        )
        return views.History(entries, audit.damaged)

    async def why(self, call: Call) -> views.Why:
        """The last revert of a route, and whether its latch still holds."""
        route = self._route(call.query.get("route", "-"))
        audit, state = self._instance.audit, self._instance.state
        found = await audit.history(1, route.name, "revert")
        entry = found[0] if found else None
        applied = await audit.history(1, route.name, "revert-applied") if entry is not None else []
        detect, recover = lasted(entry, applied[0] if applied else None)
        latched = state is not None and state.routes[route.name].latched
        text = explain(route.name, entry, latched)
        if entry is None or state is None:
            return views.Why(route.name, entry, detect, recover, latched, text)
        position, verdict = state.routes[route.name], self._instance.tally.verdicts.get(route.name, NOTHING_YET)
        changes = around(entry, await audit.history(LOOK_BACK, route.name))
        now, following = present(position, verdict), outlook(route.name, position)
        return views.Why(route.name, entry, detect, recover, latched, text, changes, now, following)

    async def baseline(self, call: Call) -> views.BaselineView:
        """What old's answers were like."""
        return self._baseline(self._route(call.path["route"]).name)

    async def record_baseline(self, call: Call) -> views.BaselineView:
        """Record what old's answers are like from now on."""
        body: RecordBaseline = call.body
        route = self._route(call.path["route"]).name
        self._instance.baselines.check(route, body.seconds)
        await self.record(call, "record-baseline", {"seconds": body.seconds}, route)
        if not call.who.dry_run:
            self._instance.baselines.begin(route, body.seconds, self._instance.epoch)
        return self._baseline(route)

    def _baseline(self, route: str) -> views.BaselineView:
        baselines = self._instance.baselines
        left = baselines.left(route)
        return views.BaselineView(
            route, None if left is None else round(left, 1), baselines.of(route), baselines.trouble.get(route)
        )

    # --- routing -------------------------------------------------------------------------------------------

    async def set_weight(self, call: Call) -> views.RoutingChanged:
        """Turn the weight."""
        body: SetWeight = call.body
        weight = number(body.weight)
        return await self._turn(call, "set-weight", lambda dials: with_weight(dials, weight))

    async def set_stage(self, call: Call) -> views.RoutingChanged:
        """Set both dials."""
        body: SetStage = call.body
        weight = None if body.weight is None else number(body.weight)
        return await self._turn(call, "stage", lambda dials: with_stage(dials, body.stage, weight))

    async def rollback(self, call: Call) -> views.RoutingChanged:
        """Weight 0 at once, or a part of the way; the latch stays as it is."""
        body: Rollback = call.body
        if body.weight is None:
            return await self._turn(call, "rollback", rolled_back)
        weight = number(body.weight)
        return await self._turn(call, "rollback", lambda dials: lowered(dials, weight))

    async def restore(self, call: Call) -> views.RoutingChanged:
        """Both dials as they were at an earlier epoch."""
        body: Restore = call.body
        instance, route = self._instance, self._route(call.path["route"]).name
        if instance.state is None:
            raise BadChange("there is no live state yet")
        present, epoch = instance.state.routes[route].dials, instance.epoch
        past = await instance.audit.read(lambda entries: dials_at(entries, route, present, epoch, body.epoch))
        return await self._turn(call, "restore", lambda dials: restored(dials, past), {"restored_epoch": body.epoch})

    async def rearm(self, call: Call) -> views.RoutingChanged:
        """Open the latch."""
        return await self._turn(call, "rearm", rearmed)

    async def _turn(
        self, call: Call, action: str, turn: Turn, evidence: Mapping[str, Any] | None = None
    ) -> views.RoutingChanged:
        route = self._route(call.path["route"])
        changed = await self._instance.changes.turn(route.name, action, turn, call.who, evidence=evidence)
        return self._describe(action, changed)

    def _describe(self, action: str, changed: Changed) -> views.RoutingChanged:
        instance = self._instance
        of = instance.settings.workers
        workers = changed.workers if changed.is_change else instance.peers.applied(changed.epoch)
        name = changed.route.name
        ledger, breaker = instance.tally.ledger, worst_breaker(instance, changed.route.new)
        return views.RoutingChanged(
            route=name,
            before=views.Position(**position(changed.before)),
            after=views.Position(**position(changed.after)),
            epoch=changed.epoch,
            previous_epoch=changed.previous_epoch,
            changed=changed.is_change and not changed.dry_run,
            dry_run=changed.dry_run,
            notes=notes(action, changed, ledger, breaker),
            next=next_command(
                action,
                name,
                changed.after,
                dry_run=changed.dry_run,
                is_new_ready=not trouble_at_new(name, ledger, breaker),
            ),
            applied=None if changed.dry_run else views.AppliedView(workers, of, changed.seconds),
            moves=self._moves(changed) if changed.dry_run else None,
        )

    def _moves(self, changed: Changed) -> views.MovesView | None:
        """What a dry run would move, by the events of the last minutes."""
        route, instance = changed.route, self._instance
        before, after = (plan(each.dials, carry_over=route.carry_over) for each in (changed.before, changed.after))
        return moves_view(instance.spreads.seen(route.name, instance.clock()), before, after)

    def _route(self, name: str) -> Route:
        routes = self._instance.routes
        if name == "-":
            if len(routes) > 1:
                raise Problem(422, f"which route? one of {', '.join(routes)}", routes=list(routes))
            return next(iter(routes.values()))
        if name not in routes:
            raise Problem(404, f"there is no route {name!r}; routes are {', '.join(routes)}", routes=list(routes))
        return routes[name]

    # --- the instance --------------------------------------------------------------------------------------

    async def config(self, _call: Call) -> views.ConfigView:
        """Which configuration is served."""
        return self._reloads.view()

    async def reload(self, call: Call) -> views.ReloadView:
        """Read the file again; what is different, what stands against it, and whether it is applied."""
        body: Reload = call.body
        if call.who.dry_run:
            return await self._reloads.would(call.who, leave_owed=body.leave_owed)
        return await self._reloads.ask(call.who, leave_owed=body.leave_owed)

    async def drain(self, call: Call) -> views.Draining:
        """Not ready from now on; the launcher stops everything gracefully."""
        body: Drain = call.body
        await self.record(call, "drain", {"until_empty": True} if body.until_empty else {})
        if not call.who.dry_run:
            self._instance.draining = True
            self._instance.until_empty = body.until_empty
            self._instance.stop()
        return views.Draining(self._instance.draining, call.who.dry_run)

    async def log_level(self, call: Call) -> views.LogLevelSet:
        """Log more, or less, for a while."""
        instance, body, level = self._instance, call.body, call.body.level or ""
        kinds = (*_PROCESSES, _SUPERVISOR) if body.process == "all" else (body.process,)
        evidence = {"level": level or instance.log_level.usual, "process": body.process, "seconds": body.seconds}
        await self.record(call, "log-level", evidence)
        told = 0
        if not call.who.dry_run:
            told = instance.peers.set_log_level(kinds, level, body.seconds)
            if _SUPERVISOR in kinds:
                instance.log_level.set(level, body.seconds)
                told += 1
        until = iso(instance.wall() + body.seconds) if level else None
        return views.LogLevelSet(level or instance.log_level.usual, body.process, told, until, call.who.dry_run)

    async def tokens(self, _call: Call) -> views.TokenList:
        """All tokens without their secrets."""
        found = self._instance.tokens.listed()
        return views.TokenList([views.TokenView(each.name, each.role, each.created_at) for each in found])

    async def token_create(self, call: Call) -> views.TokenCreated:
        """A new token."""
        tokens, body = self._instance.tokens, call.body
        if tokens.has(body.name):
            raise Problem(422, f"there is a token {body.name!r} already; revoke it, or choose another name")
        await self.record(call, "token-create", {"name": body.name, "role": body.role})
        secret = ""
        if not call.who.dry_run:
            now = iso(self._instance.wall())
            secret = await asyncio.to_thread(tokens.create, body.name, body.role, now)
        return views.TokenCreated(body.name, body.role, secret, call.who.dry_run)

    async def token_revoke(self, call: Call) -> views.TokenRevoked:
        """A token that is no longer believed."""
        tokens, name = self._instance.tokens, call.path["name"]
        if not tokens.has(name):
            raise Problem(404, f"there is no token {name!r}")
        await self.record(call, "token-revoke", {"name": name})
        if not call.who.dry_run:
            await asyncio.to_thread(tokens.revoke, name)
        return views.TokenRevoked(name, call.who.dry_run)


def number(value: Any) -> float:
    """A weight as JSON may bring it; raises Problem 422 that names the range for all that is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Problem(422, WEIGHT_RANGE + json.dumps(value)[:100])
    try:
        return float(value)
    except OverflowError:
        raise Problem(422, WEIGHT_RANGE + "a number of hundreds of digits") from None
