"""Live state: what was changed with proxyctl or by a revert, under one revision. The revision is the epoch.

A `ControlStore` keeps it. The local file is the first one; replicas that share a store come later, so
changes are compare-and-set by revision and news comes by watching, even in one process.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Final, Literal, NamedTuple, Protocol

import msgspec

from config.model import Route, Settings
from proxy.core.errors import BadChange, CrossfadeError, RefuseToStart
from proxy.core.routing import COPY_NONE, Dials, Routing, with_stage

STATE_SCHEMA: Final = 1
OLDEST_STATE_SCHEMA: Final = 1
READABLE_FROM: Final = 1
"""The oldest schema whose readers may go on with what this version writes."""


class RouteState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One route. latch_reason: why the proxy reverted it, empty when not latched.

    old_incomplete_since: from this moment (ISO 8601, UTC) on, old lacks events that new answered;
    empty while old is complete. `proxy.control.completeness` finds it; it is written here with the next change.
    """

    weight: float = 0.0
    copy: Literal["none", "best-effort", "durable"] = "none"
    latched: bool = False
    latch_reason: str = ""
    old_incomplete_since: str = ""

    @property
    def dials(self) -> Dials:
        """What the workers need of it."""
        return Dials(self.weight, self.copy, self.latched)

    def turned(self, dials: Dials, *, reason: str = "") -> RouteState:
        """This route with other dials. reason: of a latch that is set now."""
        return RouteState(
            weight=dials.weight,
            copy=dials.copy,  # type: ignore[arg-type]
            latched=dials.latched,
            latch_reason=(self.latch_reason or reason) if dials.latched else "",
            old_incomplete_since=self.old_incomplete_since,
        )


def leaves_old_incomplete(dials: Dials, *, carry_over: bool) -> bool:
    """Does new answer events at this position that old is never owed?"""
    if dials.weight == 0:
        return False
    return dials.copy == COPY_NONE and (dials.weight == 100 or not carry_over)


class LiveState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that is live. revision: from 1, never reused; readable_from: see `proxy.core.versions`."""

    schema: int
    revision: int
    routes: dict[str, RouteState]
    readable_from: int = 0

    @property
    def routing(self) -> Routing:
        """What the workers get."""
        return Routing(self.revision, {name: route.dials for name, route in self.routes.items()})


class Conflict(CrossfadeError):
    """Somebody else changed the state first. current: the revision that stands."""

    def __init__(self, current: int) -> None:
        super().__init__(f"the routing is at epoch {current} now")
        self.current = current


class ControlStore(Protocol):
    """Keeps the live state; all implementations pass one suite of tests.

    floor: revisions up to this one are never given, even if there is no state.
    """

    @property
    def floor(self) -> int:
        """The highest revision that is known to have been used before."""

    async def get(self) -> LiveState | None:
        """The present state; None when there never was one."""

    async def compare_and_set(self, expected: int, routes: Mapping[str, RouteState]) -> LiveState:
        """Replace the state if its revision is still `expected` (0: there is none); the new state.

        It is durable when this returns. Raises Conflict, or OSError when it cannot be written.
        """

    def watch(self) -> AsyncIterator[LiveState]:
        """The present state and every later one; a slow watcher may miss some, never the last."""


class Reconciled(NamedTuple):
    """The routes that the configuration wants, and what had to be added and dropped for it."""

    routes: dict[str, RouteState]
    added: tuple[str, ...]
    dropped: tuple[str, ...]


def reconcile(settings: Settings, state: LiveState | None) -> Reconciled:
    """Fit the live state to the configuration: a new route gets its configured stage, a missing one goes.

    Raises RefuseToStart when a configured stage and weight do not fit.
    """
    before = state.routes if state is not None else {}
    routes = {route.name: before.get(route.name) or initial(route) for route in settings.routes}
    added = tuple(name for name in routes if name not in before)
    return Reconciled(routes, added, tuple(name for name in before if name not in routes))


def initial(route: Route) -> RouteState:
    """The first state of a route, as its configuration says."""
    try:
        dials = with_stage(Dials(), route.stage, route.weight)
    except BadChange as error:
        raise RefuseToStart(f"route {route.name}: {error}") from None
    return RouteState().turned(dials)
