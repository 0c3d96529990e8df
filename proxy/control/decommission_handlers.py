"""The operation that tells what still depends on old."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from config.model import Route
from proxy.control import views
from proxy.control.admin import Call
from proxy.control.audit import iso
from proxy.control.dependents import QUIET, Seen, dependents
from proxy.control.figure_handlers import OneReader
from proxy.control.figures_file import last_sent
from proxy.control.instance import Instance
from proxy.control.status import status
from proxy.core.event import OLD

MOST_QUIET: Final = 30 * 86_400
"""Seconds: what is kept of the past."""


class DecommissionHandlers:
    """route: finds a route by the name of a call, or raises Problem; reader: of past figures."""

    def __init__(self, instance: Instance, route: Callable[[str], Route], reader: OneReader) -> None:
        self._instance = instance
        self._route = route
        self._reader = reader

    async def decommission(self, call: Call) -> views.DecommissionView:
        """Everything that would miss old, and when it was sent its last event."""
        named = call.query.get("route")
        only = None if named is None else self._route(named).name
        quiet = call.integer("quiet", int(QUIET), 0, MOST_QUIET)
        routes = [route for route in self._instance.settings.routes if only in (None, route.name)]
        path, names = self._instance.figures_path, [route.name for route in routes]
        seen = await self._reader.read(lambda: _seen(path, names))
        now, present = self._instance.wall(), status(self._instance)
        found = dependents(self._instance.settings, present, seen, only=only, quiet=quiet, now=now)
        return views.DecommissionView(
            clear=not found,
            epoch=present.epoch,
            quiet_s=quiet,
            dependents=found,
            last_events=[_last(route, seen[route.name], now) for route in routes],
        )


def _seen(path: Path, routes: Sequence[str]) -> dict[str, Seen]:
    return {route: Seen(*last_sent(path, route, OLD)) for route in routes}


def _last(route: Route, seen: Seen, now: float) -> views.LastEventView:
    return views.LastEventView(
        route=route.name,
        backend=route.old,
        at=iso(seen.last) if seen.last is not None else None,
        ago_s=round(max(0.0, now - seen.last), 1) if seen.last is not None else None,
        since=iso(seen.since) if seen.since is not None else None,
    )
