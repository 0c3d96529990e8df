"""The account of a route's last revert, as `why` gives it: what happened, how long it took, what is so now, what comes
next.
"""

from __future__ import annotations

from typing import Final

from proxy.control.audit import Entry
from proxy.control.changes import OWN_ACTOR
from proxy.control.state import RouteState
from proxy.core.routing import COPY_NONE
from proxy.core.verdict import Verdict

BEFORE: Final = 3
SINCE: Final = 5
"""Changes that are told of, at most: the last before a revert, and the last of all."""
LOOK_BACK: Final = 200
"""Entries in which they are looked for."""


def lasted(revert: Entry | None, applied: Entry | None) -> tuple[float | None, float | None]:
    """Seconds to detect and to recover, as far as they are on record. applied: the newest line of its kind."""
    detect = revert.evidence.get("seconds_to_detect") if revert is not None else None
    is_its = revert is not None and applied is not None and applied.epoch == revert.epoch
    recover = applied.evidence.get("seconds_to_recover") if applied is not None and is_its else None
    return detect, recover


def explain(route: str, entry: Entry | None, latched: bool) -> str:
    """The last revert in words."""
    if entry is None:
        return f"No revert of {route} is recorded."
    who = "the proxy" if entry.actor == OWN_ACTOR else entry.actor
    text = (
        f"At {entry.at} {who} moved the weight of {route} from {entry.before.get('weight', 0):g} % to 0 % "
        f"(epoch {entry.previous_epoch} to {entry.epoch}): {entry.reason}."
    )
    if latched:
        return f"{text} It is latched: when new is well again, proxyctl rearm --route {route}."
    return f"{text} It was re-armed since."


def around(revert: Entry, entries: list[Entry]) -> list[Entry]:
    """The changes of the route just before its revert, and the last ones since. entries: newest first, as returned."""
    changes = [entry for entry in entries if entry.before and entry.after not in ({}, entry.before)]
    since = [entry for entry in changes if entry.epoch > revert.epoch]
    before = [entry for entry in changes if entry.epoch < revert.epoch]
    return since[:SINCE] + before[:BEFORE]


def present(state: RouteState, verdict: Verdict) -> str:
    """What is so now."""
    latched = ", latched" if state.latched else ""
    reasons = f" ({'; '.join(verdict.reasons)})" if verdict.reasons else ""
    return f"weight {state.weight:g} %, copy {state.copy}{latched}; the verdict on new is {verdict.name}{reasons}"


def outlook(route: str, state: RouteState) -> str:
    """What happens next by itself, and what a person does."""
    if not state.latched:
        return f"the guard goes on; proxyctl history --route {route} has every change"
    copies = (
        "new gets nothing, so nothing is learnt of it"
        if state.copy == COPY_NONE
        else "new still gets copies, and the verdict is on these"
    )
    return (
        f"nothing raises the weight by itself; {copies}. Mend new, look at proxyctl diff --route {route} and at the "
        f"verdict, then proxyctl rearm --route {route}, and proxyctl rollout start --from-step N or proxyctl set-weight"
    )
