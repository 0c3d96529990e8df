"""What top says of a status, as plain values: which routes, in which order, and the figures of their sides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proxy.cli.output import age, clean, count, percent, rate, seconds, share, size

Json = dict[str, Any]
SIDES = ("old", "new")
MOST_WARNINGS = 3
_HIGHEST: dict[str, Callable[[Json], float]] = {
    "rate": lambda route: route.get("rate") or 0.0,
    "errors": lambda route: _most(route, lambda side: side.get("error_rate")),
    "p99": lambda route: _most(route, lambda side: side.get("p99")),
    "pending": lambda route: _most(route, lambda side: (side.get("ledger") or {}).get("pending")),
}


def _most(route: Json, of: Callable[[Json], float | None]) -> float:
    return max((of(side) or 0.0 for side in (route.get("sides") or {}).values()), default=0.0)


def routes(status: Json, only: str | None, sort: str) -> list[Json]:
    """The routes to show: all, or one; by name, or the highest first."""
    found = [each for each in status.get("routes", []) if only is None or each.get("name") == only]
    if sort in _HIGHEST:
        return sorted(found, key=_HIGHEST[sort], reverse=True)
    return sorted(found, key=lambda each: str(each.get("name")))


def cells(side: Json) -> dict[str, str]:
    """The figures of a side, by column."""
    ledger = side.get("ledger") or {}
    breaker = side.get("breaker")
    state = "UNHEALTHY" if side.get("healthy") is False else clean(breaker) if breaker != "closed" else ""
    return {
        "rate": rate(side.get("rate")),
        "errors": share(side.get("error_rate")),
        "p50": seconds(side.get("p50")),
        "p95": seconds(side.get("p95")),
        "p99": seconds(side.get("p99")),
        "pending": count(ledger.get("pending")),
        "oldest": age(ledger.get("oldest_age_s")) if ledger.get("pending") else "-",
        "dead": count(ledger.get("dead")),
        "state": state,
    }


def troubles(route: Json) -> list[str]:
    """What stands out of a route, in a word or two each."""
    rollout = route.get("rollout") or {}
    verdict = (route.get("verdict") or {}).get("name")
    return [
        *(["LATCHED"] if route.get("latched") else []),
        *(["FROZEN"] if route.get("frozen") else []),
        *([f"verdict {clean(verdict)}"] if verdict not in (None, "pass", "nodata") else []),
        *([f"rollout {clean(rollout.get('phase'))} {rollout.get('step')}/{rollout.get('of')}"] if rollout else []),
    ]


def head(status: Json) -> str:
    """The instance in a few words."""
    if "away" in status:
        return f"AWAY: {clean(status['away'])}"
    state = "DRAINING" if status.get("draining") else "ready" if status.get("ready") else "NOT READY"
    workers = status.get("workers", [])
    alive = sum(1 for each in workers if each.get("alive"))
    warned = len(status.get("warnings", []))
    warnings = f", {warned} warnings" if warned else ""
    return f"{state}, epoch {clean(status.get('epoch'))}, {alive} of {len(workers)} workers{warnings}"


def foot(status: Json) -> list[str]:
    """The record, what the checker has found, and what a person should know: the first warnings."""
    if "away" in status:
        return []
    ledger = status.get("ledger") or {}
    if ledger.get("alive") and ledger.get("balanced") is None:
        found = ["ledger: it has not told of itself yet"]
    elif ledger.get("alive"):
        balance = "balanced" if ledger.get("balanced") else "NOT BALANCED"
        room = f"{size(ledger.get('disk_free'))} free, commit p99 {seconds(ledger.get('commit_p99_s'))}"
        found = [f"ledger {balance}, {count(ledger.get('pending'))} pending, {count(ledger.get('dead'))} dead, {room}"]
    else:
        found = ["ledger DOWN"]
    for check in status.get("consistency") or []:
        trial = check.get("since_change") or {}
        judged = f"{count(trial.get('mismatches'))} mismatches of {count(trial.get('settled'))} events"
        found.append(f"consistency {clean(', '.join(check.get('routes', [])))}: {judged}")
    warnings = status.get("warnings", [])
    found += [f"warning: {clean(warning)}" for warning in warnings[:MOST_WARNINGS]]
    more = len(warnings) - MOST_WARNINGS
    return [*found, f"{more} more warnings: proxyctl status"] if more > 0 else found


def weight(route: Json) -> str:
    """`25 % (24.7 % seen)`."""
    return f"{percent(route.get('weight_target'))} ({percent(route.get('weight_observed'))} seen)"


def lines(status: Json, only: str | None, sort: str) -> list[str]:
    """One line for each route; one that says that the instance is away."""
    if "away" in status:
        return [head(status)]
    return [_line(route) for route in routes(status, only, sort)]


def _line(route: Json) -> str:
    parts = [f"{clean(route.get('name'))} {clean(route.get('stage'))} {weight(route)}"]
    for name in SIDES:
        side = (route.get("sides") or {}).get(name)
        if side is not None:
            found = cells(side)
            pending = f", {found['pending']} pending" if found["pending"] not in ("0", "-") else ""
            state = f", {found['state']}" if found["state"] else ""
            parts.append(f"{name} {found['rate']} {found['errors']} p99 {found['p99']}{pending}{state}")
    return " | ".join([*parts, *troubles(route)])
