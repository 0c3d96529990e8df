"""What an instance carries over from one configuration to the next, beside what lies on disk.

slots     where in the marks each route is, by its name. The position in the file would not do: workers of the old file
          and of the new one write and read the same memory while one after the other is replaced.
retired   routes that the file has no more. Their debts stay the ledger's: it delivers what is pending, and what workers
          of the old file still tell it, until this instance ends. After that they are in the record under their names,
          and are delivered once the file has the route again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from config.model import Backend, Route, Settings


@dataclass(frozen=True)
class Retired:
    """A route that left the file. backends: those that it had, by name, as they were then."""

    route: Route
    backends: Mapping[str, Backend]


@dataclass(frozen=True)
class Carried:
    """See the module."""

    slots: Mapping[str, int]
    retired: Mapping[str, Retired] = field(default_factory=dict)

    @classmethod
    def first(cls, settings: Settings) -> Carried:
        """Of an instance that starts."""
        return cls({route.name: index for index, route in enumerate(settings.routes)})

    @property
    def size(self) -> int:
        """For how many routes the marks must have room."""
        return max(self.slots.values(), default=-1) + 1

    def after(self, before: Settings, now: Settings) -> Carried:
        """What is carried on when the settings `before` are followed by `now`. A slot is never given twice."""
        names = {route.name for route in now.routes}
        fresh = [route.name for route in now.routes if route.name not in self.slots]
        slots = dict(self.slots) | {name: self.size + index for index, name in enumerate(fresh)}
        left = {r.name: Retired(r, {name: before.backends[name] for name in (r.old, r.new)}) for r in before.routes}
        retired = {name: each for name, each in {**self.retired, **left}.items() if name not in names}
        return Carried(slots, retired)


def of_ledger(settings: Settings, carried: Carried) -> Settings:
    """The settings as the ledger goes by them: with the retired routes, which no worker has.

    A backend that the file still has is the one that it has; else it is as it was.
    """
    if not carried.retired:
        return settings
    backends: dict[str, Backend] = {}
    for each in carried.retired.values():
        backends |= each.backends
    routes = tuple(each.route for each in carried.retired.values())
    return settings.model_copy(update={"routes": (*settings.routes, *routes), "backends": backends | settings.backends})
