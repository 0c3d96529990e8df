"""A worker's figures, gathered from where they are counted: cumulative, every 250 ms."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from time import monotonic
from typing import Final

from proxy.control.link import CertificateStats, EndpointStats, Requests, RouteSpread, WorkerStats
from proxy.core.event import SIDES
from proxy.http.plane import DataPlane
from proxy.http.route import ROLES, EventRoute
from proxy.http.service import Service
from proxy.net.kernel import resident_bytes
from proxy.net.server_tls import ServerTls

_CLASSES: Final = ("error", "1xx", "2xx", "3xx", "4xx", "5xx")


def worker_stats(
    plane: DataPlane, service: Service, listeners: Sequence[ServerTls] = (), sheds: str = ""
) -> WorkerStats:
    """The present figures of one worker. listeners: those that speak TLS; sheds: why clients are turned away."""
    now = monotonic()
    busy = sum(1 for client in service.clients if client.is_busy)
    return WorkerStats(
        epoch=plane.epoch,
        accepted={route.name: _accepted(route) for route in plane.routes},
        chosen={route.name: (route.chosen[0], route.chosen[1]) for route in plane.routes},
        requests=[requests for route in plane.routes for requests in _requests(route)],
        breakers={name: upstream.breaker.state(now) for name, upstream in plane.upstreams.items()},
        open_connections={name: upstream.open + len(upstream.lasting) for name, upstream in plane.upstreams.items()},
        clients=len(service.clients) + service.others,
        sessions=service.others,
        in_flight=busy,
        counters=plane.counters | _files_and_names(plane, listeners),
        rss_bytes=resident_bytes(),
        held_bytes=plane.budget.used,
        budget_bytes=plane.budget.limit,
        sheds=sheds,
        certificates=[
            CertificateStats(tls.address, each.file, each.names, each.expires_at, tls.live.loaded_at, tls.live.trouble)
            for tls in listeners
            for each in tls.certificates
        ],
        endpoints=[
            EndpointStats(name, *figures)
            for name, upstream in plane.upstreams.items()
            for figures in upstream.endpoints(now)
        ],
        lookups={
            name: upstream.lookup_trouble for name, upstream in plane.upstreams.items() if upstream.lookup_trouble
        },
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


def _files_and_names(plane: DataPlane, listeners: Sequence[ServerTls]) -> dict[str, int]:
    """What happened to certificates, ours towards backends too, and to names."""
    live = [tls.live for tls in listeners]
    live += [upstream.tls.live for upstream in plane.upstreams.values() if upstream.tls is not None]
    counted = {
        "tls_reloads": sum(each.reloads for each in live),
        "tls_reload_failures": sum(each.failures for each in live),
        "lookup_failures": sum(upstream.lookup_failures for upstream in plane.upstreams.values()),
        "connect_shortages": sum(upstream.shortages for upstream in plane.upstreams.values()),
    }
    return {name: count for name, count in counted.items() if count}


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
