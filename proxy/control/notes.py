"""What a person should know about a change of the routing, and the next sensible command."""

from __future__ import annotations

from proxy.control.changes import Changed
from proxy.control.link import LedgerStats
from proxy.control.state import RouteState, leaves_old_incomplete
from proxy.control.status import side_stats
from proxy.core.event import NEW, OLD
from proxy.core.routing import COPY_BEST_EFFORT, COPY_DURABLE


def notes(action: str, changed: Changed, ledger: LedgerStats | None, breaker: str) -> list[str]:
    """Remarks on a change, in the order of their weight.

    ledger: its present figures, if it is there; breaker: the worst state of new's breakers.
    """
    after = changed.after
    said = []
    if meets_new(action, changed):
        said += trouble_at_new(changed.route.name, ledger, breaker)
    if action == "rollback":
        said += _rollback(changed, ledger)
    elif after.old_incomplete_since:
        said.append(f"old is incomplete since {after.old_incomplete_since}")
    elif leaves_old_incomplete(after.dials, carry_over=changed.route.carry_over):
        said.append("from now on old does not get what new answers: a rollback will leave old incomplete")
    if after.copy == COPY_BEST_EFFORT and changed.is_change:
        said.append("copies are best effort: new may lack events, so weight stays 0 in this stage")
    if action != "rollback" and after.latched:
        said.append(f"the route is latched: {after.latch_reason}")
    return said


def meets_new(action: str, changed: Changed) -> bool:
    """Does this change give new more to do, or open the way to that?"""
    return action == "rearm" or changed.after.weight > changed.before.weight


def trouble_at_new(route: str, ledger: LedgerStats | None, breaker: str) -> list[str]:
    """Why new is not ready for more: its breaker, what the ledger still holds for it, deliveries that are paused."""
    said = []
    if breaker != "closed":
        state = "open" if breaker == "open" else "half-open: the next event tries it"
        said.append(f"the breaker at new is {state}; the trigger reverts again while new does not answer")
    side = side_stats(ledger, route, NEW)
    if side is not None and side.balance.get("pending", 0):
        count, age = side.balance["pending"], side.oldest_pending_age
        said.append(
            f"{count} events wait in the ledger for new, the oldest for {age:.0f} s; later ones of their keys wait, too"
        )
    if side is not None and side.paused:
        said.append(f"deliveries from the ledger to new are paused: {side.paused}")
    return said


def _rollback(changed: Changed, ledger: LedgerStats | None) -> list[str]:
    before, old = changed.before, side_stats(ledger, changed.route.name, OLD)
    said = []
    if _carries_over(changed):
        count = f"{old.balance.get('deferred', 0)} " if old is not None else ""
        said.append(f"{count}deferred events, which new answered, are being delivered to old")
    if changed.after.old_incomplete_since:
        said.append(f"old is incomplete since {changed.after.old_incomplete_since}: it lacks what new answered then")
    if old is not None and old.balance.get("released", 0):
        said.append(f"{old.balance['released']} deferred events were past carry_over_for and released: old lacks them")
    if before.copy == COPY_DURABLE and old is not None and old.balance.get("pending", 0):
        said.append(f"{old.balance['pending']} events are still being delivered to old, in order")
    return said


def _carries_over(changed: Changed) -> bool:
    before = changed.before
    return changed.route.carry_over and before.dials.stage == "split" and changed.is_change


def next_command(action: str, route: str, after: RouteState, *, dry_run: bool, is_new_ready: bool = True) -> str:
    """What a person would sensibly type now. is_new_ready: nothing is in the way of giving new more."""
    if dry_run:
        return "the same without --dry-run"
    if action == "rearm" and is_new_ready:
        return f"proxyctl set-weight 5 --route {route} --wait"
    if after.latched:
        return f"proxyctl why --route {route}"
    return "proxyctl status --wait"
