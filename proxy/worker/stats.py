"""A worker's figures, gathered from where they are counted: cumulative, every 250 ms."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Final

from proxy.control.link import CertificateStats, EndpointStats, Requests, RouteSpread, SourceStats, WorkerStats
from proxy.core.breaker import BreakerTrouble
from proxy.core.event import NEW, SIDES
from proxy.http.faults import Faults
from proxy.http.plane import DataPlane
from proxy.http.route import ROLES, EventRoute
from proxy.http.service import Service
from proxy.net.kernel import resident_bytes
from proxy.net.server_tls import ServerTls

_CLASSES: Final = ("error", "1xx", "2xx", "3xx", "4xx", "5xx")


def worker_stats(
    plane: DataPlane,
    service: Service,
    listeners: Sequence[ServerTls] = (),
    sheds: str = "",
    faults: Faults | None = None,
    sources: Sequence[SourceStats] = (),
    loop_lag: float = 0.0,
    refusals: Mapping[str, str] | None = None,
) -> WorkerStats:
    """The present figures of one worker, which settle what its connections contributed until now.

    listeners: those that speak TLS; sheds: why clients are turned away; faults: of drills, whose
    breakers stand for those of their backends; sources: that it runs; loop_lag: seconds;
    refusals: what backends have against sessions.
    """
    now = monotonic()
    busy = sum(1 for client in service.clients if client.is_busy)
    return WorkerStats(
        epoch=plane.epoch,
        accepted={route.name: _accepted(route) for route in plane.routes},
        answered={route.name: _answered(route) for route in plane.routes},
        failed={route.name: _failed(route) for route in plane.routes},
        chosen={route.name: (route.chosen[0], route.chosen[1]) for route in plane.routes},
        requests=[requests for route in plane.routes for requests in _requests(route)],
        left_out={route.name: _left_out(route, now) for route in plane.routes},
        outstanding={route.name: (route.outstanding[0], route.outstanding[1]) for route in plane.routes},
        breakers={name: upstream.breaker.state(now) for name, upstream in plane.upstreams.items()}
        | (faults.breakers(now) if faults is not None else {}),
        breaker_troubles=_troubles(plane, now) | (faults.troubles(now) if faults is not None else {}),
        open_connections={name: upstream.open + len(upstream.lasting) for name, upstream in plane.upstreams.items()},
        clients=len(service.clients) + service.others,
        sessions=service.others,
        in_flight=busy,
        counters=plane.counters | _files_and_backends(plane, listeners),
        rss_bytes=resident_bytes(),
        held_bytes=plane.budget.used,
        budget_bytes=plane.budget.limit,
        sheds=sheds,
        sources=[*sources],
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
        loop_lag=loop_lag,
        refusals=dict(refusals or {}),
    )


def _troubles(plane: DataPlane, now: float) -> dict[str, BreakerTrouble]:
    """Of breakers that are not closed, by backend."""
    found = {name: upstream.breaker.trouble(now) for name, upstream in plane.upstreams.items()}
    return {name: trouble for name, trouble in found.items() if trouble is not None}


def route_spread(route: EventRoute, seconds: float, epoch: int) -> RouteSpread:
    """Where a route's events lay since this was asked last, `seconds` ago; it is counted anew from now on."""
    counts, seen = route.spread.take()
    chosen_new = route.chosen[NEW] - route.chosen_before
    # In sessions steering and a fixed side decide as well, and are counted with the rest.
    epoch = epoch if route.has_steady_dials and route.settings.websocket is None else 0
    route.chosen_before, route.has_steady_dials = route.chosen[NEW], True
    if not any(counts):
        return RouteSpread(route.name, seconds, b"", b"", chosen_new, epoch)
    return RouteSpread(route.name, seconds, array("I", counts).tobytes(), seen, chosen_new, epoch)


def _left_out(route: EventRoute, now: float) -> tuple[tuple[int, int], tuple[int, int]]:
    """What load events contribute is settled, too, and no test goes by it."""
    if route.for_load is not None:
        _left_out(route.for_load, now)
    old, new = route.contributions
    return old.settle(now), new.settle(now)


def _answered(route: EventRoute) -> int:
    load = route.for_load.answered_else if route.for_load is not None else 0
    return _accepted(route) + _failed(route) + route.answered_else + load


def _failed(route: EventRoute) -> int:
    return route.failed + (route.for_load.failed if route.for_load is not None else 0)


def _accepted(route: EventRoute) -> int:
    """Load events, too: they are in the record as all others."""
    return route.accepted + (route.for_load.accepted if route.for_load is not None else 0)


def _files_and_backends(plane: DataPlane, listeners: Sequence[ServerTls]) -> dict[str, int]:
    """What happened to certificates, ours towards backends too, to names, and to connections to backends."""
    live = [tls.live for tls in listeners]
    live += [upstream.tls.live for upstream in plane.upstreams.values() if upstream.tls is not None]
    counted = {
        "tls_reloads": sum(each.reloads for each in live),
        "tls_reload_failures": sum(each.failures for each in live),
        "lookup_failures": sum(upstream.lookup_failures for upstream in plane.upstreams.values()),
        "connect_shortages": sum(upstream.shortages for upstream in plane.upstreams.values()),
        "requests_cut_after_yes": sum(upstream.cut_rests for upstream in plane.upstreams.values()),
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
                latency = dict(figures.latency.buckets)
                found.append(Requests(route.name, side, backend, name, classes, latency, figures.body_bytes))
    return found
