"""What must fit together in a configuration file although each key by itself is right.

A check is left out when a key that it reads is wrong in itself: a second complaint about the same slip
helps nobody. All other checks still run, so that one reading finds everything.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel

from config import deliver_checks, fanout_checks
from config.consistency import Check
from config.errors import Loc
from config.explain import Finding
from config.hooks import EVERY_ROUTE
from config.model import Admin, Backend, Ledger, Limits, Route, Settings
from config.patterns import covers, path_parameters
from config.plan import falling, mixed
from config.probe import Probe
from config.programs import fault_of
from config.secret_files import unreadable
from config.sources import Source
from config.stores import NEAR, HttpStore, InfluxDB1Store, InfluxDB2Store
from config.units import (
    BODY_KINDS,
    Address,
    format_duration,
    format_size,
    nearest,
    parse_address,
    parse_backend_url,
    parse_source,
)

_LONGEST_SOCKET = "/run/control.sock"
_SOCKET_PATH = 107
"""Bytes of a Unix socket's path on Linux: sun_path holds 108, the last is the terminator (unix(7))."""

_TIMES_IN_MEMORY = 8
"""An event is held four times on its way, and connections may take half of the budget: one can always be served."""
_MAX_EVENT = 64 * 2**20
"""Bytes. An event travels to the ledger in one message of at most 256 MiB, together with others."""


class Draft(NamedTuple):
    """What can be read of a file: a wrong key has its default here, a wrong part is None or left out.

    wrong: the keys that are not usable; a check asks `is_sound` about those that it reads.
    """

    settings: Settings
    admin: Admin | None
    limits: Limits | None
    ledger: Ledger | None
    backend_names: tuple[str, ...]
    backends: dict[str, Backend]
    routes: tuple[Route | None, ...]
    checks: tuple[Check | None, ...]
    wrong: frozenset[Loc]

    def is_sound(self, *locs: Loc) -> bool:
        """Whether nothing at, in or around these places is wrong."""
        return not any(bad[: len(loc)] == loc or loc[: len(bad)] == bad for bad in self.wrong for loc in locs)


def check(draft: Draft) -> Iterator[Finding]:
    """Everything that does not fit together."""
    for index, route in enumerate(draft.routes):
        if route is not None:
            yield from _of_route(draft, route, ("routes", index))
    yield from _names_are_unique(draft)
    yield from _routes_are_reachable(draft)
    default = draft.settings.default
    if default is not None and _is_missing(draft, default) and draft.is_sound(("default",)):
        yield Finding(("default",), *_no_such_backend(draft, default))
    elif default in draft.backends and draft.backends[default].deliver.websocket is not None:
        yield Finding(("default",), f"backend {default} takes messages alone, and no requests that are no events")
    elif default in draft.backends and draft.backends[default].consumer is not None:
        yield Finding(("default",), f"backend {default} is a consumer, and takes no requests")
    yield from _addresses(draft)
    yield from _listeners(draft)
    yield from _backends(draft)
    yield from _limits(draft)
    yield from _ledger(draft)
    yield from _admin(draft)
    yield from _socket_paths(draft)
    yield from _drain(draft)
    yield from _consistency(draft)
    yield from _gates(draft)
    yield from _hooks(draft)
    yield from _receivers(draft)
    yield from _event_sources(draft)


def _of_route(draft: Draft, route: Route, at: Loc) -> Iterator[Finding]:
    for keys, check_route in _ROUTE_CHECKS:
        if draft.is_sound(*((*at, key) for key in keys)):
            for finding in check_route(draft, route):
                yield finding._replace(loc=(*at, *finding.loc))


def _no_such_backend(draft: Draft, name: str) -> tuple[str, str]:
    return f"there is no backend '{name}'; there is {', '.join(draft.backend_names)}", nearest(
        name, draft.backend_names
    )


def _is_missing(draft: Draft, name: str) -> bool:
    return name not in draft.backend_names and ("backends",) not in draft.wrong


def _old_exists(draft: Draft, route: Route) -> Iterator[Finding]:
    if _is_missing(draft, route.old):
        yield Finding(("old",), *_no_such_backend(draft, route.old))


def _new_exists(draft: Draft, route: Route) -> Iterator[Finding]:
    if _is_missing(draft, route.new):
        yield Finding(("new",), *_no_such_backend(draft, route.new))


def _sides_differ(draft: Draft, route: Route) -> Iterator[Finding]:
    if route.old == route.new:
        yield Finding(("new",), f"old and new are the same backend '{route.new}': there is nothing to migrate to")


def _weight_fits_stage(draft: Draft, route: Route) -> Iterator[Finding]:
    weight, stage = route.weight, route.stage
    if stage in ("live", "split"):
        if weight is None:
            yield Finding(("stage",), f"stage {stage} needs a weight: add `weight: 1` or more")
        elif weight == 0:
            yield Finding(
                ("weight",), f"stage {stage} needs a weight above 0", "dualwrite" if stage == "live" else "off"
            )
        elif weight == 100 and stage == "split":
            yield Finding(("weight",), "stage split needs a weight below 100; at 100 it is called complete")
        return
    fixed = 100 if stage in ("rampdown", "complete") else 0
    if weight is not None and weight != fixed:
        yield Finding(("weight",), f"stage {stage} has weight {fixed}; only live and split take one")


def _sources_fit(draft: Draft, route: Route) -> Iterator[Finding]:
    given = path_parameters(route.match.path)
    for loc, text in _sources(route):
        source = parse_source(text)
        if source.kind == "path" and source.name not in given:
            close = nearest(source.name, given)
            yield Finding(
                loc,
                f"match.path has no parameter {{{source.name}}}; it is '{route.match.path}'",
                f"path:{close}" if close else "",
            )
        if source.kind == "client" and loc != ("key",):
            yield Finding(loc, f"the client's address is no {loc[0]}: all of a client's events would share it")


def _override_is_a_testers(draft: Draft, route: Route) -> Iterator[Finding]:
    if route.override is not None and parse_source(route.override).kind not in ("header", "cookie", "query"):
        yield Finding(("override",), f"a tester sets a header, cookie or query parameter, not {route.override}")


def _pins_are_one_sided(draft: Draft, route: Route) -> Iterator[Finding]:
    for index, key in enumerate(route.pins.new):
        if key in route.pins.old:
            yield Finding(("pins", "new", index), f"'{key}' is pinned to old, too")


def _sources(route: Route) -> Iterator[tuple[Loc, str]]:
    yield ("key",), route.key
    if route.event_time is not None:
        yield ("event_time",), route.event_time
    for index, text in enumerate(route.event_id):
        yield ("event_id", index), text
    for index, text in enumerate(route.identities):
        yield ("identities", index), text


def _accepted_is_durable(draft: Draft, route: Route) -> Iterator[Finding]:
    if route.ack == "accepted" and route.durability == "off":
        yield Finding(("ack",), "ack: accepted promises what durability: off does not keep", "authority")


def _answers_can_be_compared(draft: Draft, route: Route) -> Iterator[Finding]:
    made = route.compare_answers
    if made is None:
        return
    at: Loc = ("compare_answers",)
    if route.websocket is not None:
        yield Finding(at, "a route of WebSocket sessions has no answers that could be compared", on_key=True)
    if route.ack == "accepted":
        yield Finding(at, "with ack: accepted the ledger delivers, and nobody hears what backends answer", on_key=True)
    for index, rule in enumerate(made.rules):
        if rule.path.split("/")[1] not in ("status", "body", "*"):
            yield Finding((*at, "rules", index, "path"), f"{rule.path} is neither /status nor in /body")
    if made.noise is None:
        return
    if made.noise.startswith("srv+"):
        yield Finding((*at, "noise"), "must be http://host:port or https://host:port")
        return
    url = parse_backend_url(made.noise)
    target = Address(url.host, url.port)
    for name, backend in draft.backends.items():
        if any(_reaches(target, Address(each.host, each.port)) for each in map(parse_backend_url, backend.url)):
            yield Finding((*at, "noise"), f"is backend {name}: it would store every such event twice")
    if draft.is_sound(("listen",)) and any(
        _reaches(target, parse_address(each.address)) for each in draft.settings.listen
    ):
        yield Finding((*at, "noise"), "is this very proxy")


def _downtime_can_be_reached(draft: Draft, route: Route) -> Iterator[Finding]:
    trigger = route.trigger
    new = draft.backends.get(route.new)
    if trigger.downtime > trigger.downtime_window:
        key = "downtime" if "downtime" in trigger.model_fields_set else "downtime_window"
        window = format_duration(trigger.downtime_window)
        longest = f"downtime: {format_duration(trigger.downtime)} is longer than downtime_window: {window}"
        yield Finding(("trigger", key), f"{longest}, so it is never reached")
    elif "downtime" in trigger.model_fields_set and trigger.downtime and new is not None and new.health is None:
        why = f"is never reached: backend {route.new} has no `health`, and its probe alone knows of downtime"
        yield Finding(("trigger", "downtime"), why, on_key=True)


def _dedupe_has_ids(draft: Draft, route: Route) -> Iterator[Finding]:
    if route.dedupe and not route.event_id:
        yield Finding(("dedupe",), "needs ids that clients give: event_id is empty", "0s")
    if "dedupe_ids" in route.model_fields_set and not route.dedupe:
        yield Finding(("dedupe_ids",), "means nothing without `dedupe`", on_key=True)


_ONLY_FOR_REQUESTS = {
    "ack": "authority",
    "durability": "before-ack",
    "ordering": "answered",
    "copy_order": "parallel",
    "dedupe": 0.0,
    "stream": False,
    "load_events": "count",
    "backend_header": None,
}
"""Keys that a route of sessions has no use for, or not yet, with the values that it takes."""


def _websocket_fits(draft: Draft, route: Route) -> Iterator[Finding]:
    if route.websocket is None:
        if "websocket" in route.model_fields_set:
            yield Finding(("websocket",), "nothing stands behind it; {} takes sessions with all defaults", on_key=True)
        return
    for key, only in _ONLY_FOR_REQUESTS.items():
        value = getattr(route, key)
        if value == only or (key, value) in (("durability", "off"), ("ordering", "none")):
            continue
        yield Finding((key,), f"a route of WebSocket sessions takes no {key}: {value}", on_key=True)
    if route.websocket.receipt == "reply" and route.websocket.reply is None:
        yield Finding(("websocket", "receipt"), "receipt: reply needs to know which message is one: reply is missing")
    if route.websocket.receipt != "reply" and route.websocket.reply is not None:
        yield Finding(("websocket", "reply"), f"with receipt: {route.websocket.receipt} no reply is looked for")
    for index, text in enumerate(route.event_id if "event_id" in route.model_fields_set else ()):
        if parse_source(text).kind not in BODY_KINDS:
            yield Finding(("event_id", index), f"{text} is of the handshake: all messages of a session would share it")


_RouteCheck = Callable[[Draft, Route], Iterator[Finding]]


def _plan_fits(draft: Draft, route: Route) -> Iterator[Finding]:
    """What a plan's file is refused for, and gates that are not there."""
    if route.rollout is None:
        return
    for finding in (*falling(route.rollout), *mixed(route.rollout)):
        yield finding._replace(loc=("rollout", *finding.loc))
    if not draft.is_sound(("gates",)):
        return
    known = tuple(gate.name for gate in draft.settings.gates)
    for name, loc in route.rollout.named_gates():
        if name not in known:
            there = f"; there is {', '.join(known)}" if known else ": there are no `gates`"
            yield Finding(("rollout", *loc), f"there is no gate '{name}'{there}", nearest(name, known))


def _delivery_fits(draft: Draft, route: Route) -> Iterator[Finding]:
    sound = {name: backend for name, backend in draft.backends.items() if draft.is_sound(("backends", name, "deliver"))}
    yield from deliver_checks.of_route(route, sound)


def _fanout_fits(draft: Draft, route: Route) -> Iterator[Finding]:
    sound = {name: each for name, each in draft.backends.items() if draft.is_sound(("backends", name, "consumer"))}
    yield from fanout_checks.of_route(route, sound)


_ROUTE_CHECKS: tuple[tuple[tuple[str, ...], _RouteCheck], ...] = (
    (("old",), _old_exists),
    (("new",), _new_exists),
    (("old", "new"), _sides_differ),
    (("weight", "stage"), _weight_fits_stage),
    (("match", "key", "event_id", "event_time", "identities"), _sources_fit),
    (("ack", "durability"), _accepted_is_durable),
    (("override",), _override_is_a_testers),
    (("pins",), _pins_are_one_sided),
    (("new", "trigger"), _downtime_can_be_reached),
    (("dedupe", "dedupe_ids", "event_id"), _dedupe_has_ids),
    (("rollout",), _plan_fits),
    (("compare_answers", "ack", "websocket"), _answers_can_be_compared),
    (("websocket", "event_id", *_ONLY_FOR_REQUESTS), _websocket_fits),
    (("old", "new", "match", "preview_host", "websocket", *_ONLY_FOR_REQUESTS, "compare_answers"), _delivery_fits),
    (("old", "new", "match", "stage", "preview_host", "websocket", "fanout", *_ONLY_FOR_REQUESTS), _fanout_fits),
)


def _names_are_unique(draft: Draft) -> Iterator[Finding]:
    first: dict[str, int] = {}
    for index, route in enumerate(draft.routes):
        if route is None or not draft.is_sound(("routes", index, "name")):
            continue
        if route.name in first:
            yield Finding(("routes", index, "name"), f"route {first[route.name] + 1} is called '{route.name}' already")
        first.setdefault(route.name, index)


def _gates(draft: Draft) -> Iterator[Finding]:
    names = [gate.name for gate in draft.settings.gates]  # none where one is wrong
    for index, name in enumerate(names):
        if name in names[:index]:
            yield Finding(("gates", index, "name"), f"gate {names.index(name) + 1} is called '{name}' already")


def outside(draft: Draft, folder: Path) -> Iterator[Finding]:
    """Commands of gates that could not be run, and files that could not be read. folder: that of the file."""
    for index, gate in enumerate(draft.settings.gates):
        if fault := fault_of(gate, folder):
            yield Finding(("gates", index, "command", 0), f"gate '{gate.name}': {fault}")
    parts: list[tuple[Loc, BaseModel]] = [((), draft.settings)]
    parts += [(("backends", name), backend) for name, backend in draft.backends.items()]
    parts += [(("consistency", index), each) for index, each in enumerate(draft.checks) if each is not None]
    for loc, part in parts:
        yield from (Finding(at, why) for at, why in unreadable(part, loc) if draft.is_sound(at))


def _routes_are_reachable(draft: Draft) -> Iterator[Finding]:
    earlier: list[Route] = []
    for index, route in enumerate(draft.routes):
        if route is None or not draft.is_sound(("routes", index, "match")):
            continue
        above = next((other for other in earlier if _takes_all_of(other, route)), None)
        if above is not None:
            message = f"never reached: route '{above.name}' above takes all of it, and the first match wins"
            yield Finding(("routes", index, "match"), message)
        earlier.append(route)


def _takes_all_of(earlier: Route, later: Route) -> bool:
    """Whether every request of `later` matches `earlier`, as far as the patterns alone tell."""
    one, two = earlier.taken, later.taken
    return covers(one.path, two.path) and one.host in (None, two.host) and set(two.methods) <= set(one.methods)


def _addresses(draft: Draft) -> Iterator[Finding]:
    """No address twice, and no backend that is ourselves: that would be an endless loop."""
    taken: list[tuple[Address, str]] = []
    for loc, text in _own_addresses(draft):
        address = parse_address(text)
        holder = next((written for other, written in taken if _collide(address, other)), None)
        if holder is not None:
            yield Finding(loc, f"the address {text} is taken already, by {holder}")
        taken.append((address, f"{loc[0] if loc[0] == 'listen' else 'admin.tcp'} {text}"))
    for name, backend in draft.backends.items():
        if not draft.is_sound(("backends", name, "url")):
            continue
        for index, url in enumerate(backend.url):
            target = parse_backend_url(url).address
            own = next((written for address, written in taken if _reaches(target, address)), None)
            if own is not None:
                yield Finding(("backends", name, "url", index), f"this is the proxy's own address, {own}")


def _own_addresses(draft: Draft) -> Iterator[tuple[Loc, str]]:
    if draft.is_sound(("listen",)):
        for index, each in enumerate(draft.settings.listen):
            yield ("listen", index), each.address
    if draft.admin is not None and draft.admin.tcp != "off" and draft.is_sound(("admin", "tcp")):
        yield ("admin", "tcp"), draft.admin.tcp


def _collide(one: Address, two: Address) -> bool:
    # Port 0 is another free port each time.
    return one.port == two.port != 0 and (one.host == two.host or one.is_any() or two.is_any())


def _reaches(target: Address, own: Address) -> bool:
    here = target.host == own.host or (target.is_loopback() and (own.is_any() or own.is_loopback()))
    return here and target.port == own.port


def _listeners(draft: Draft) -> Iterator[Finding]:
    for index, each in enumerate(draft.settings.listen if draft.is_sound(("listen",)) else ()):
        tls = each.tls
        if tls is not None and tls.client_ca is None and "client_certificate" in tls.model_fields_set:
            at = ("listen", index, "tls", "client_certificate")
            yield Finding(at, "needs client_ca beside it: the authorities whose certificates are believed")


def _backends(draft: Draft) -> Iterator[Finding]:
    ledger = draft.ledger if draft.is_sound(("ledger", "replay_concurrency")) else None
    for name, backend in draft.backends.items():
        at: Loc = ("backends", name)
        if draft.is_sound((*at, "deliver"), (*at, "rewrite_prefix")):
            concurrency = ledger.replay_concurrency if ledger is not None else None
            for finding in deliver_checks.of_backend(backend, concurrency):
                yield finding._replace(loc=(*at, *finding.loc))
        if draft.is_sound(at):
            for finding in fanout_checks.of_backend(backend):
                yield finding._replace(loc=(*at, *finding.loc))
        if not draft.is_sound((*at, "url"), (*at, "tls")) or not backend.url:
            continue
        tls = backend.tls
        for index, url in enumerate(backend.url):
            if parse_backend_url(url).is_tls != backend.is_tls:
                yield Finding((*at, "url", index), "http and https endpoints in one backend: make it two")
            if url in backend.url[:index]:
                yield Finding((*at, "url", index), f"{url} is listed already")
        if tls.model_fields_set and not backend.is_tls:
            suggestion = backend.url[0].replace("http", "https", 1)
            yield Finding((*at, "tls"), "is for a url that begins with https://", suggestion, on_key=True)
        if (tls.cert is None) != (tls.key is None):
            given, lacking = ("key", "cert") if tls.cert is None else ("cert", "key")
            yield Finding((*at, "tls", given), f"{given} needs {lacking} beside it")
        if tls.insecure and tls.ca is not None:
            yield Finding((*at, "tls", "insecure"), "makes `ca` mean nothing: leave one of the two out")
    if all(draft.is_sound(("routes", index, key)) for index in range(len(draft.routes)) for key in ("old", "new")):
        yield from fanout_checks.fed_by_one(draft.routes, draft.backends)


def _limits(draft: Draft) -> Iterator[Finding]:
    limits = draft.limits
    if limits is None or not draft.is_sound(("limits",)):
        return
    if limits.max_target_size > limits.max_head_size:
        yield Finding(("limits", "max_target_size"), "larger than max_head_size, of which the target is a part")
    if limits.max_event_size > _MAX_EVENT:
        yield Finding(("limits", "max_event_size"), "must be at most 64MiB: events are held in memory", "64MiB")
        return
    workers = draft.settings.workers
    least = limits.max_event_size * _TIMES_IN_MEMORY * workers
    if draft.is_sound(("workers",)) and limits.memory < least:
        why = f"too little: each of {workers} workers must be able to hold max_event_size {_TIMES_IN_MEMORY} times"
        yield Finding(("limits", "memory"), why, format_size(least))


def _ledger(draft: Draft) -> Iterator[Finding]:
    ledger, limits = draft.ledger, draft.limits
    if ledger is None or not draft.is_sound(("ledger",)):
        return
    if ledger.retry_initial > ledger.retry_max:
        yield Finding(("ledger", "retry_initial"), "longer than retry_max")
    if ledger.retain_bodies and ledger.retain == 0:
        yield Finding(("ledger", "retain_bodies"), "nothing is retained while `retain` is 0s")
    for index, route in enumerate(draft.routes):
        if route is not None and draft.is_sound(("routes", index, "dedupe")) and route.dedupe > ledger.retain:
            message = "longer than ledger.retain: a restarted ledger would not know the older ids"
            yield Finding(("routes", index, "dedupe"), message)
    if limits is not None and draft.is_sound(("limits",)) and ledger.segment_size < limits.max_event_size:
        yield Finding(("ledger", "segment_size"), "smaller than limits.max_event_size: an event would not fit")


def _admin(draft: Draft) -> Iterator[Finding]:
    admin = draft.admin
    if admin is None or not draft.is_sound(("admin", "tls_cert"), ("admin", "tls_key"), ("admin", "tcp")):
        return
    if (admin.tls_cert is None) != (admin.tls_key is None):
        given, lacking = ("tls_key", "tls_cert") if admin.tls_cert is None else ("tls_cert", "tls_key")
        yield Finding(("admin", given), f"{given} needs {lacking} beside it")
    elif admin.tls_cert is None and admin.tcp != "off" and not parse_address(admin.tcp).is_loopback():
        message = f"{admin.tcp} can be reached from other machines: it needs tls_cert and tls_key"
        yield Finding(("admin", "tcp"), message, f"127.0.0.1:{parse_address(admin.tcp).port}")


def _socket_paths(draft: Draft) -> Iterator[Finding]:
    state_dir, room = draft.settings.state_dir, _SOCKET_PATH - len(_LONGEST_SOCKET)
    if draft.is_sound(("state_dir",)) and len(os.fsencode(state_dir)) > room:
        yield Finding(("state_dir",), f"too long for the Unix sockets in it: at most {room} bytes for '{state_dir}'")
    if (
        draft.admin is not None
        and draft.admin.socket is not None
        and len(os.fsencode(draft.admin.socket)) > _SOCKET_PATH
    ):
        yield Finding(("admin", "socket"), f"too long for a Unix socket: at most {_SOCKET_PATH} bytes")


def _drain(draft: Draft) -> Iterator[Finding]:
    settings = draft.settings
    over, grace = settings.drain.close_over, settings.stop_grace
    if over > grace and draft.is_sound(("drain", "close_over"), ("stop_grace",)):
        message = f"{format_duration(over)} is longer than stop_grace ({format_duration(grace)}), which ends everything"
        yield Finding(("drain", "close_over"), message, format_duration(grace))


def _consistency(draft: Draft) -> Iterator[Finding]:
    """Checks are of routes that are there, each of which has one, and name events by what these routes record."""
    seen: set[str] = set()
    for index, check_ in enumerate(draft.checks):
        at: Loc = ("consistency", index)
        if check_ is None:
            continue
        if draft.is_sound((*at, "routes")):
            for number, name in enumerate(check_.routes):
                if name in seen:
                    yield Finding((*at, "routes", number), f"route '{name}' is checked already: once is enough")
                seen.add(name)
            yield from _checked_routes(draft, check_, at)
        if check_.probe is not None and draft.is_sound((*at, "probe")):
            yield from _probe(draft, check_, check_.probe, (*at, "probe"))
        if draft.is_sound((*at, "old"), (*at, "new"), (*at, "identity")) and _is_misnamed(check_):
            yield Finding(
                (*at, "identity") if "identity" in check_.model_fields_set else at,
                "points of InfluxDB are named by their series and time, which the ledger does not know: identity: none",
            )
        if check_.identity == "content" and draft.is_sound((*at, "identity")):
            yield from _by_content(check_, at)
        for side in ("old", "new"):
            if draft.is_sound((*at, side)) and _is_lost_sight_of(check_, side):
                yield Finding(
                    (*at, side, "http"),
                    "without `event_url` an event is looked for within a second of its time, and these times may lie "
                    "further apart: set event_url",
                )


def _probe(draft: Draft, check_: Check, probe: Probe, at: Loc) -> Iterator[Finding]:
    if (
        probe.url is None
        and draft.is_sound(("listen",))
        and all(each.tls is not None for each in draft.settings.listen)
    ):
        yield Finding(at, "no address of `listen` speaks plain HTTP: `url` must say where clients reach the proxy")
    if probe.every is not None and not check_.is_live:
        yield Finding((*at, "every"), "exported files show no new event: they are not checked live")


def _checked_routes(draft: Draft, check_: Check, at: Loc) -> Iterator[Finding]:
    if not all(route is not None for route in draft.routes):
        return
    routes = {route.name: route for route in draft.routes if route is not None}
    for number, name in enumerate(check_.routes):
        place: Loc = (*at, "routes", number)
        if name not in routes:
            message = f"there is no route '{name}'; there is {', '.join(routes)}"
            yield Finding(place, message, nearest(name, tuple(routes)))
        elif check_.identity == "identities" and not routes[name].identities:
            yield Finding(place, f"route '{name}' has no `identities` that could name an event in the stores")


def _is_misnamed(check_: Check) -> bool:
    sides = (check_.old.settings, check_.new.settings)
    return check_.identity != "none" and any(isinstance(each, InfluxDB1Store | InfluxDB2Store) for each in sides)


def _by_content(check_: Check, at: Loc) -> Iterator[Finding]:
    """What is called by its content is the same or another one: nothing in between."""
    if check_.time != "compare" or check_.time_within:
        yield Finding(
            at, "rows that are named by their content are of the same time: time: compare, and no time_within"
        )
    if check_.only_new != "compare":
        yield Finding(at, "a row with more fields has another content: identity: content needs only_new: compare")
    for index, rule in enumerate(check_.rules):
        if rule.compare != "ignore":
            yield Finding(
                (*at, "rules", index), "what differs has another content: identity: content takes `ignore` alone"
            )


def _is_lost_sight_of(check_: Check, side: str) -> bool:
    """Whether an event of a JSON API may be there and not be found again, which would look like a loss."""
    settings = getattr(check_, side).settings
    is_apart = check_.time == "ignore" or check_.time_within > NEAR
    return is_apart and isinstance(settings, HttpStore) and settings.event_url is None


def _hooks(draft: Draft) -> Iterator[Finding]:
    """Hooks are about routes that are there, and each rule can be met."""
    hooks = draft.settings.hooks
    if not draft.is_sound(("hooks",)):
        return
    rules = hooks.alertmanager.rules if hooks.alertmanager is not None else ()
    for index, rule in enumerate(rules):
        at: Loc = ("hooks", "alertmanager", "rules", index)
        if rule.route != EVERY_ROUTE:
            yield from _is_route(draft, rule.route, (*at, "route"))
        for number, earlier in enumerate(rules[:index], 1):
            if earlier.labels.items() <= rule.labels.items():
                yield Finding((*at, "labels"), f"never looked at: rule {number} takes every alert with these labels")
                break
    for index, name in enumerate(hooks.webhook.routes if hooks.webhook is not None else ()):
        yield from _is_route(draft, name, ("hooks", "webhook", "routes", index))


def _is_route(draft: Draft, name: str, at: Loc) -> Iterator[Finding]:
    routes = tuple(route.name for route in draft.routes if route is not None)
    if name not in routes and draft.is_sound(*(("routes", index, "name") for index in range(len(draft.routes)))):
        yield Finding(at, f"there is no route '{name}'; there is {', '.join(routes)}", nearest(name, routes))


def _receivers(draft: Draft) -> Iterator[Finding]:
    if not draft.is_sound(("notifications",)):
        return
    names: list[str] = []
    for index, receiver in enumerate(draft.settings.notifications):
        if receiver.name in names:
            yield Finding(("notifications", index, "name"), f"two receivers are called '{receiver.name}'")
        names.append(receiver.name)


def _event_sources(draft: Draft) -> Iterator[Finding]:
    """Sources belong to routes that are there, and that can take what they bring."""
    names: list[str] = []
    for index, source in enumerate(draft.settings.sources if draft.is_sound(("sources",)) else ()):
        at: Loc = ("sources", index)
        if source.name in names:
            yield Finding((*at, "name"), f"source {names.index(source.name) + 1} is called '{source.name}' already")
        names.append(source.name)
        yield from _is_route(draft, source.route, (*at, "route"))
        number = next((i for i, each in enumerate(draft.routes) if each is not None and each.name == source.route), -1)
        route = draft.routes[number] if number >= 0 else None
        if route is not None and draft.is_sound(("routes", number)):
            yield from _can_bring(draft, source, route, number, at)


def _can_bring(draft: Draft, source: Source, route: Route, number: int, at: Loc) -> Iterator[Finding]:
    """Is what this source brings taken by its route, by no other one, and named by what it has?"""
    place = (*at, "route")
    if route.websocket is not None:
        yield Finding(place, f"route '{route.name}' takes sessions, and a source's events are requests")
        return
    if route.stream:
        yield Finding(place, f"route '{route.name}' has stream: true, where a source's long event would be none")
    if "POST" not in route.match.methods:
        yield Finding(place, f"route '{route.name}' takes no POST")
    if parse_source(route.key).kind != "json":
        yield Finding(place, f"route '{route.name}' has key: {route.key}; that of a source's events is in their body")
    if not route.event_id or route.event_id[0].lower() != "header:x-event-id":
        yield Finding(place, f"event_id of route '{route.name}' must begin with header:X-Event-Id: a source's ids")
    path = source.path or route.match.path
    if source.path is None and ("{" in path or path.endswith("*")):
        yield Finding(at, f"needs a path: that of route '{route.name}' is {path}")
    elif not covers(route.match.path, path):
        yield Finding((*at, "path"), f"route '{route.name}' takes {route.match.path}")
    else:
        yield from _is_taken_first(draft, route, number, path, place)
    for finding in fanout_checks.of_source(source, route):
        yield finding._replace(loc=(*at, *finding.loc))


def _is_taken_first(draft: Draft, route: Route, number: int, path: str, place: Loc) -> Iterator[Finding]:
    for earlier in draft.routes[:number]:
        if earlier is None or earlier.match.host not in (None, route.match.host):
            continue
        if covers(earlier.taken.path, path) and "POST" in earlier.taken.methods:
            yield Finding(place, f"route '{earlier.name}' above takes POST {path}, and the first match wins")
            return
