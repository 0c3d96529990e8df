"""A worker's figures, gathered from where they are counted: cumulative, every 250 ms."""

from __future__ import annotations

from array import array
from pathlib import Path
from resource import getpagesize
from time import monotonic
from typing import Final

from proxy.control.link import Requests, RouteSpread, WorkerStats
from proxy.core.event import SIDES
from proxy.http.downstream import Service
from proxy.http.plane import DataPlane
from proxy.http.route import ROLES, EventRoute

_CLASSES: Final = ("error", "1xx", "2xx", "3xx", "4xx", "5xx")
_PAGE: Final = getpagesize()


def rss_bytes() -> int:
    """This process's resident memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def worker_stats(plane: DataPlane, service: Service) -> WorkerStats:
    """The present figures of one worker."""
    now = monotonic()
    busy = sum(1 for client in service.clients if client.is_busy)
    return WorkerStats(
        epoch=plane.epoch,
        accepted={route.name: _accepted(route) for route in plane.routes},
        chosen={route.name: (route.chosen[0], route.chosen[1]) for route in plane.routes},
        requests=[requests for route in plane.routes for requests in _requests(route)],
        breakers={name: upstream.breaker.state(now) for name, upstream in plane.upstreams.items()},
        open_connections={name: upstream.open for name, upstream in plane.upstreams.items()},
        clients=len(service.clients),
        in_flight=busy,
        counters=dict(plane.counters),
        rss_bytes=rss_bytes(),
    )


def route_spread(route: EventRoute, seconds: float) -> RouteSpread:
    """Where a route's events lay since this was asked last, `seconds` ago; it is counted anew from now on."""
    counts, seen = route.spread.take()
    if not any(counts):
        return RouteSpread(route.name, seconds, b"", b"")
    return RouteSpread(route.name, seconds, array("I", counts).tobytes(), seen)


def _accepted(route: EventRoute) -> int:
    """Load events, too: they are in the record as all others."""
    return route.accepted + (route.for_load.accepted if route.for_load is not None else 0)


def _requests(route: EventRoute) -> list[Requests]:
    found = []
    for side in range(len(SIDES)):
        for role, name in enumerate(ROLES):
            figures = route.figures[side][role]
            classes = {_CLASSES[i]: n for i, n in enumerate(figures.classes) if n}
            if classes:
                backend = route.sides[side].name
                found.append(Requests(route.name, side, backend, name, classes, dict(figures.latency.buckets)))
    return found
