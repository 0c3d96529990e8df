"""rollback --gradual: down in steps, and to 0 at once when new fails. A step waits while old is not well.

The steps are taken from here, one rollback to a lower weight after the other, each only if the epoch is still the one
that the step before has made: whoever changes the routing meanwhile is not overruled.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from proxy.cli.failure import CONFLICT, ROLLED_BACK, TIMEOUT, Failure
from proxy.cli.instances import on_each
from proxy.cli.output import clean, percent
from proxy.cli.routing import change_body, change_dials, render_change, route_path
from proxy.cli.waiting import Clock, look

if TYPE_CHECKING:
    from proxy.cli.client import Admin, Json

STEPS = (75.0, 50.0, 25.0, 10.0)
HOLD = 60.0
LOOK = 1.0
"""Seconds from one look at new to the next."""
PATIENCE = 600.0
"""Seconds for which a step waits for old to be well, beyond its own time."""
OLD_FAILS = 0.01
"""Share of events that fail at old from which on it is given no more of them."""


def rollback_gradually(args: argparse.Namespace) -> int:
    """`rollback --gradual`."""
    return on_each(args, lambda admin: descend(admin, args), render)


def descend(admin: Admin, args: argparse.Namespace, clock: Clock | None = None) -> Json:
    """Take the steps below the present weight; the last change's answer with `steps` beside it.

    Raises Failure: exit 3 when new failed and the weight went to 0 at once, 5 when somebody else changed the routing.
    """
    args = argparse.Namespace(**vars(args))  # its epoch goes on with each step, for this instance alone
    route = _route(admin.get("/api/v1/status"), args.route)
    ahead = [step for step in args.steps or STEPS if 0 < step < route["weight_target"]]
    taken: list[float] = []
    trouble = ""
    if not args.dry_run:
        try:
            trouble = _take(admin, args, route["name"], ahead, taken, clock or Clock())
        except (Failure, KeyboardInterrupt):
            if taken:
                _say(args, admin, f"the weight stays at {percent(taken[-1])}; to 0 at once: proxyctl rollback")
            raise
    if trouble:
        args.if_epoch = None  # to 0 whatever anybody else has done
    answer = change_dials(admin, args, "POST", "rollback") | {"steps": [*(ahead if args.dry_run else taken), 0.0]}
    if trouble:
        message = f"{clean(trouble)}: rolled back to 0 % at once\n{render_change(answer)}"
        raise Failure(ROLLED_BACK, message, cause=trouble, change=answer)
    return answer


def _take(
    admin: Admin, args: argparse.Namespace, name: str, ahead: list[float], taken: list[float], clock: Clock
) -> str:
    """Take the steps one by one, noting each in `taken`; what is wrong with new, or nothing at the end.

    Afterwards `args.if_epoch` is the epoch of the last step.
    """
    hold = HOLD if args.hold is None else args.hold
    for step in ahead:
        change = admin.change("POST", route_path(name, "rollback"), change_body(args, weight=step), args.if_epoch)
        args.if_epoch = epoch = change["epoch"]
        taken.append(step)
        _say(args, admin, f"{clean(change['route'])}: weight {percent(step)} for {hold:g} s, epoch {epoch}")
        trouble = _watch(admin, change["route"], epoch, hold, clock, lambda line: _say(args, admin, line))
        if trouble:
            return trouble
    return ""


def _route(status: Json, name: str | None) -> Json:
    """The route that is meant, by the API's own rule; without one the API refuses the first change and says why."""
    routes: list[Json] = status.get("routes", [])
    meant = [route for route in routes if route.get("name") == name] if name else routes if len(routes) == 1 else []
    return meant[0] if meant else {"name": name or "-", "weight_target": 100.0}


def _watch(admin: Admin, name: str, epoch: int, hold: float, clock: Clock, say: Callable[[str], None]) -> str:
    """Look at new until the step is over and old can take more; what is wrong with new, or nothing.

    Raises Failure: exit 5 when the epoch is another one and new is well, for that was a person; 4 when old stays
    unwell.
    """
    end = clock.now() + hold
    said = ""
    while True:
        status = look(admin)  # None while the supervisor restarts: the next look or the next step tells
        trouble = failure_of_new(_route(status, name)) if status else ""
        if trouble:
            return trouble
        if status and status.get("epoch") != epoch:
            raise Failure(
                CONFLICT,
                f"the routing was changed meanwhile: epoch {status.get('epoch')}, not {epoch}; the rollback stops here",
                hint="see what changed it: proxyctl history; to go on at once: proxyctl rollback",
            )
        left = end - clock.now()
        unwell = failure_of_old(_route(status, name)) if status else said
        if left <= 0 and not unwell:
            return ""
        if left <= -PATIENCE:
            raise Failure(
                TIMEOUT, f"{clean(unwell)}: the weight goes no further down", hint="at once: proxyctl rollback"
            )
        if left <= 0 and unwell != said:
            said = unwell
            say(f"{clean(name)}: {clean(unwell)}; waiting until it can take more")
        clock.sleep(min(LOOK, left) if left > 0 else LOOK)


def failure_of_new(route: Json) -> str:
    """What is wrong with new in a status: latch, breaker, probe, or any failed event; empty when nothing is."""
    new = route.get("sides", {}).get("new", {})
    if route.get("latched"):
        return route.get("latch_reason") or "the route is latched"
    if new.get("breaker") == "open":
        return "breaker open at new"
    if new.get("healthy") is False:
        return "new is unhealthy"
    if new.get("error_rate"):
        return f"{new['error_rate'] * 100:.2g} % of the events fail at new"
    return ""


def failure_of_old(route: Json) -> str:
    """What is wrong with old in a status: breaker, probe, or more failed events than a few; empty when nothing is."""
    old = route.get("sides", {}).get("old", {})
    if old.get("breaker") == "open":
        return "breaker open at old"
    if old.get("healthy") is False:
        return "old is unhealthy"
    if (old.get("error_rate") or 0.0) > OLD_FAILS:
        return f"{old['error_rate'] * 100:.2g} % of the events fail at old"
    return ""


def _say(args: argparse.Namespace, admin: Admin, line: str) -> None:
    if args.output == "text":
        print(f"{admin.label}{line}", flush=True)


def render(answer: Json) -> str:
    """The whole descent for people."""
    steps = ", ".join(percent(step) for step in answer["steps"])
    return f"{render_change(answer)}\nsteps: {steps}"
