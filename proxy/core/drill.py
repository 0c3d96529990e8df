"""A drill: for a short time the copies of a route to new fail at the proxy, as if new did. What it is, and when.

    fault    a copy
    errors   is answered 503
    dead     finds nobody there
    slow     goes out so much later

Nothing of it is seen by a client, and nothing is lost: a copy that a drill failed stays owed, and is delivered
afterwards. So it is only for routes where that is so, and where nobody else hangs on what the guard will think of new.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from config.model import Route
from proxy.core.errors import BadChange, NoDrill
from proxy.core.routing import COPY_DURABLE, Dials

ERRORS: Final = "errors"
DEAD: Final = "dead"
SLOW: Final = "slow"
FAULTS: Final = (ERRORS, DEAD, SLOW)

MOST: Final = 300.0
"""Seconds that a drill lasts at most: one that nobody ends must end."""
MOST_DELAY: Final = 10.0
"""Seconds that a copy is held back at most."""
WHY: Final = "a drill fails it"
"""The reason of what failed so. As it is not the backend's, no event becomes a dead letter for it."""
_WAY_BACK: Final = ("rollback", "revert", "rearm")
_STEP: Final = "rollout-step"


class Fault(msgspec.Struct, frozen=True):
    """What copies meet for so many seconds more. delay: seconds that they are held back, of `slow` alone."""

    kind: str
    seconds: float
    delay: float = 0.0


def fault(kind: str, seconds: float, delay: float) -> Fault:
    """The fault that is asked for. Raises BadChange for one that is none."""
    if kind not in FAULTS:
        raise BadChange(f"there is no fault {kind!r}; there are {', '.join(FAULTS)}")
    if not 0 < seconds <= MOST:
        raise BadChange(f"a drill lasts more than 0 and at most {MOST:g} seconds, not {seconds:.15g}")
    if kind != SLOW:
        return Fault(kind, seconds)
    if not 0 < delay <= MOST_DELAY:
        raise BadChange(f"copies are held back for more than 0 and at most {MOST_DELAY:g} seconds, not {delay:.15g}")
    return Fault(kind, seconds, delay)


def check(route: Route, kind: str, dials: Mapping[str, Dials], others: Mapping[str, Route]) -> None:
    """Raises NoDrill where a drill of a route would cost events or be felt by clients, and BadChange where it would
    fail nothing. dials: of all routes by name; others: all routes but this one.
    """
    name, own = route.name, dials[route.name]
    if own.copy != COPY_DURABLE:
        raise NoDrill(f"copies of {name} are {own.copy}: what a drill fails would be lost")
    if route.durability == "off":
        raise NoDrill(f"{name} has `durability: off`: what a drill fails would be lost")
    if own.weight == 100:
        raise BadChange(f"the weight of {name} is 100 %: there are no copies to new that could fail")
    if route.ack == "both":
        raise NoDrill(f"{name} has `ack: both`: its clients would hear of each copy that fails")
    if kind == SLOW and route.websocket is not None:
        raise BadChange(f"{name} takes sessions, whose copies cannot be held back: {ERRORS} or {DEAD}")
    for other in others.values():
        if route.new == other.old or (route.new == other.new and dials[other.name].weight > 0):
            said = (
                f"clients of {other.name} get answers of {route.new}, too, and its guard would take the drill for real"
            )
            raise NoDrill(said)


def is_allowed(action: str, *, is_lower: bool) -> bool:
    """May the routing be changed so during a drill? Back always; more weight would meet what copies still wait for new.

    is_lower: the weight is less afterwards.
    """
    return action in _WAY_BACK or (action == _STEP and is_lower)
