"""Whether old may be switched off."""

from __future__ import annotations

import msgspec


class DependentView(msgspec.Struct):
    """Something that still needs old. route: empty where it is no route's; kind: in a word; detail: what was seen;
    remedy: what ends it.
    """

    route: str
    kind: str
    detail: str
    remedy: str


class LastEventView(msgspec.Struct):
    """When old of a route was sent an event last, to ten seconds. at, ago_s: null when none is on record; since: when
    that record, of a month at most, begins, null without one.
    """

    route: str
    backend: str
    at: str | None
    ago_s: float | None
    since: str | None


class DecommissionView(msgspec.Struct):
    """May old be switched off? clear: nothing depends on it; quiet_s: how long it was to have had no event."""

    clear: bool
    epoch: int
    quiet_s: float
    dependents: list[DependentView]
    last_events: list[LastEventView]
