"""A freeze: for a time the routing of a route does not change, but for going back, which is always allowed."""

from __future__ import annotations

from typing import Final

import msgspec

from proxy.core.errors import BadChange

MOST: Final = 30 * 86_400.0
"""Seconds that a freeze lasts at most: one that nobody remembers must end."""
_GO_BACK: Final = ("rollback", "revert")
_STEP: Final = "rollout-step"


class Freeze(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """since, until: seconds since 1970, for it outlasts the process; actor: who froze the route, and why."""

    since: float
    until: float
    actor: str
    reason: str = ""

    def holds(self, now: float) -> bool:
        """Has it not ended yet? now: seconds since 1970."""
        return now < self.until


def begin(now: float, seconds: float, actor: str, reason: str = "") -> Freeze:
    """A freeze from now on. Raises BadChange for a time that is none, or longer than MOST."""
    if not 0 < seconds <= MOST:
        most = f"{MOST / 86_400:g} days ({MOST:.0f} seconds)"
        raise BadChange(f"a freeze lasts more than 0 and at most {most}, not {seconds:.15g} seconds")
    return Freeze(now, now + seconds, actor, reason)


def later(present: Freeze | None, wanted: Freeze) -> Freeze:
    """The one that ends later: nobody shortens another one's freeze by a freeze."""
    return wanted if present is None or wanted.until > present.until else present


def is_way_back(action: str, *, is_lower: bool) -> bool:
    """May it be done while the route is frozen? Rollbacks and reverts may, and a rollout that a gate sends a step back.

    is_lower: the weight is less afterwards.
    """
    return action in _GO_BACK or (action == _STEP and is_lower)
