"""Events that do not follow the weight: the preview host, testers' overrides, pinned keys.

    preview_host    Host: new.example.com   new alone        for who looks at new before all others
    override        X-Side: new             that side alone  for testers; off by default, as any client can say so
    pins            these keys              as at weight 0 or 100, with the copy that the stage says

The first two are *forced*: nothing is owed to the other side, nothing fails over, and no backlog is waited for: a
tester wants this side's own answer. A latch sends pinned keys to old like all others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from config.model import Route
from config.units import parse_source
from proxy.core.choose import Choice, Plan
from proxy.core.event import NEW, OLD
from proxy.http.head import RequestHead
from proxy.http.values import reader

FORCED: Final = (Choice(OLD, 1 << OLD, 0, False), Choice(NEW, 1 << NEW, 0, False))
_SIDES: Final = {"old": OLD, "new": NEW}


def bare_host(host: bytes) -> bytes:
    """A Host header without its port, in lower case."""
    name, colon, port = host.lower().rpartition(b":")
    return name if colon and port.isdigit() else host.lower()


class Steered(NamedTuple):
    """Where an event goes that does not follow the weight. is_forced: that side alone, also while it fails."""

    choice: Choice
    is_forced: bool


class Steering:
    """What one route says of such events. `is_idle`: it says nothing."""

    __slots__ = ("_override", "_pins", "is_idle", "preview_host")

    def __init__(self, settings: Route) -> None:
        self.preview_host = settings.preview_host.lower().encode() if settings.preview_host else None
        self._override = reader(parse_source(settings.override)) if settings.override else None
        self._pins = dict.fromkeys(settings.pins.old, OLD) | dict.fromkeys(settings.pins.new, NEW)
        self.is_idle = self.preview_host is None and self._override is None and not self._pins

    def choose(
        self, head: RequestHead, params: Mapping[str, str], plan: Plan, latched: bool, bucket: int, key: str | None
    ) -> Steered | None:
        """Where this event goes; None: where the weight says. key: None when the event has none of its own."""
        forced = self.forced(head, params)
        if forced is not None:
            return Steered(forced, True)
        pinned = self.pinned(plan, latched, bucket, key) if key is not None else None
        return Steered(pinned, False) if pinned is not None else None

    def forced(self, head: RequestHead, params: Mapping[str, str]) -> Choice | None:
        """The choice of a request that is for one side alone; None for the others."""
        if self.preview_host is not None and bare_host(head.host) == self.preview_host:
            return FORCED[NEW]
        if self._override is not None:
            side = _SIDES.get(self._override(head, b"", params, "") or "")
            if side is not None:
                return FORCED[side]
        return None

    def pinned(self, plan: Plan, latched: bool, bucket: int, key: str) -> Choice | None:
        """The choice of a key that always has the same authority; None for the others."""
        side = self._pins.get(key)
        if side is None or (side == NEW and latched):
            return None
        if side == OLD:
            return plan.old
        if plan.new.deferred and bucket >= plan.threshold:
            # The bucket is old's, which would get at once what is deferred to it.
            return FORCED[NEW]
        return plan.new
