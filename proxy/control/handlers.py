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
from proxy.control.admin import Call, Handler
from proxy.control.audit import Entry, iso
from proxy.control.bodies import SetStage, SetWeight
from proxy.control.changes import Changed, Turn, position
from proxy.control.check_handlers import CheckHandlers
from proxy.control.instance import VERSION, Instance
from proxy.control.ledger_handlers import LedgerHandlers
from proxy.control.metrics import exposition, registry_of
from proxy.control.notes import next_command, notes, trouble_at_new
from proxy.control.operations import OPERATIONS, openapi
from proxy.control.problems import Problem
from proxy.control.rollout_handlers import RolloutHandlers
from proxy.control.rollouts import Rollouts
from proxy.control.spreads import moves_view
from proxy.control.state import Conflict
from proxy.control.status import status, worst_breaker
from proxy.core.choose import plan
from proxy.core.routing import rearmed, rolled_back, with_stage, with_weight

WEIGHT_RANGE: Final = "weight must be between 0 and 100 percent, not "


class Handlers:
    """The handlers of one instance, beside those of rollouts, the ledger and checks."""

    def __init__(self, instance: Instance, rollouts: Rollouts) -> None:
        self._instance = instance
        self._rollouts = rollouts
        self._registry = registry_of(instance)
        self._openapi = openapi(VERSION)

    def table(self) -> Mapping[str, Handler]:
        """Every operation's handler by the operation's name."""
        families = (
            self,
            RolloutHandlers(self._instance, self._rollouts, self._route),
            LedgerHandlers(self._instance, self.record),
            CheckHandlers(self._instance, self.record),
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
        """Prometheus exposition."""
        return web.Response(body=exposition(self._registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    async def openapi(self, _call: Call) -> dict[str, Any]:
        """The description of this API."""
        return self._openapi

    async def status(self, _call: Call) -> views.Status:
        """Everything at a glance."""
        return status(self._instance)

    async def routes(self, _call: Call) -> views.Routes:
        """The settings of all routes."""
        settings = self._instance.settings
        plain = [each.address for each in settings.listen if each.tls is None]
        over_tls = [each.address for each in settings.listen if each.tls is not None]
        return views.Routes(plain, over_tls, [route.model_dump(mode="json") for route in settings.routes])

    async def history(self, call: Call) -> views.History:
        """The audit trail, newest first."""
        audit = self._instance.audit
        entries = await audit.history(call.integer("limit", 50, 1, 1000), call.query.get("route"))
        return views.History(entries, audit.damaged)

    async def why(self, call: Call) -> views.Why:
        """The last revert of a route, and whether its latch still holds."""
        route = self._route(call.query.get("route", "-"))
        found = await self._instance.audit.history(1, route.name, "revert")
        entry = found[0] if found else None
        state = self._instance.state
        latched = state is not None and state.routes[route.name].latched
        return views.Why(route.name, entry, latched, explain(route.name, entry, latched))

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
        """Weight 0 at once; the latch stays as it is."""
        return await self._turn(call, "rollback", rolled_back)

    async def rearm(self, call: Call) -> views.RoutingChanged:
        """Open the latch."""
        return await self._turn(call, "rearm", rearmed)

    async def _turn(self, call: Call, action: str, turn: Turn) -> views.RoutingChanged:
        route = self._route(call.path["route"])
        changed = await self._instance.changes.turn(route.name, action, turn, call.who)
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

    async def drain(self, call: Call) -> views.Draining:
        """Not ready from now on; the launcher stops everything gracefully."""
        await self.record(call, "drain", {})
        if not call.who.dry_run:
            self._instance.draining = True
            self._instance.stop()
        return views.Draining(self._instance.draining, call.who.dry_run)

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


def explain(route: str, entry: Entry | None, latched: bool) -> str:
    """The last revert in words."""
    if entry is None:
        return f"No revert of {route} is recorded."
    text = (
        f"At {entry.at} the proxy moved the weight of {route} from {entry.before.get('weight', 0):g} % to 0 % "
        f"(epoch {entry.previous_epoch} to {entry.epoch}): {entry.reason}."
    )
    if latched:
        return f"{text} It is latched: when new is well again, proxyctl rearm --route {route}."
    return f"{text} It was re-armed since."
