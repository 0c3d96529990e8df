"""What still needs old: everything that would fail, wait for ever or go unseen if old were switched off now.

All functions here take the settings and the status, and ask nobody.

    of a route      weight, pins, override, keys without a value, copies, rollout, drill
                    what the record holds for old, what is on its way, when the last event went there
                    the check that reads old's store, answers that are compared; new itself, alone from then on
    of the others   the default backend, a route that has this backend on its other side, a source that is read from it
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from config.model import Route, Settings
from proxy.control.audit import iso
from proxy.control.views import DependentView, LedgerCounts, RouteView, SourceView, Status
from proxy.core.rollout import ENDED
from proxy.core.routing import COPY_NONE

QUIET: Final = 60.0
"""Seconds without an event to old that are long enough, where nobody says otherwise."""
_DEFAULT_PORTS: Final = {"ws": 80, "wss": 443, "http": 80, "https": 443}


class Seen(NamedTuple):
    """Of a route's past, seconds since 1970. last: the end of the interval in which old was sent an event last, None
    where none is on record; since: when that record begins, None without one.
    """

    last: float | None
    since: float | None


def dependents(
    settings: Settings, status: Status, seen: Mapping[str, Seen], *, only: str | None, quiet: float, now: float
) -> list[DependentView]:
    """All of them, in the order of the configuration.

    seen: by route; only: a route alone, and nothing of what is no route's; quiet: seconds that count as long enough;
    now: seconds since 1970
    """
    routes = {route.name: route for route in settings.routes}
    found: list[DependentView] = []
    for view in status.routes:
        if only is None or view.name == only:
            found += _of_route(settings, routes[view.name], view, status)
            found += _last_event(view, seen.get(view.name, Seen(None, None)), quiet, now)
    if only is None:
        found += _of_the_instance(settings, status)
    found += _record(status)
    return found


def _of_route(settings: Settings, route: Route, view: RouteView, status: Status) -> Iterator[DependentView]:
    yield from _dials(route, view)
    yield from _who_may_choose(route)
    yield from _under_way(view)
    yield from _owed(view)
    yield from _compared(settings, route, status)
    yield from _new_alone(view)


def _dials(route: Route, view: RouteView) -> Iterator[DependentView]:
    name = route.name
    if view.weight_target < 100:
        detail = f"old answers {100 - view.weight_target:g} % of the keys (stage {view.stage})"
        yield DependentView(name, "weight", detail, f"proxyctl rollout start --route {name}, up to 100 %")
    if view.copy != COPY_NONE:
        detail = f"copies are {view.copy} (stage {view.stage}): old gets what new answers"
        yield DependentView(name, "copies", detail, f"proxyctl stage complete --route {name}, when everything holds")


def _who_may_choose(route: Route) -> Iterator[DependentView]:
    """What sends events to old at every weight."""
    name = route.name
    if route.pins.old:
        detail = f"{len(route.pins.old)} keys are pinned to old, which answers them at every weight"
        yield DependentView(name, "pins", detail, f"take pins.old of route {name} out of the configuration")
    if route.override is not None:
        detail = f"whoever sends {route.override} with the value old is answered by old"
        yield DependentView(name, "override", detail, f"take override of route {name} out of the configuration")
    if route.key_missing == "old":
        detail = "events without a key go to old (key_missing: old)"
        yield DependentView(name, "keys", detail, f"set key_missing of route {name} to event-id or reject")


def _under_way(view: RouteView) -> Iterator[DependentView]:
    name = view.name
    if view.rollout is not None and view.rollout.phase not in ENDED:
        detail = f"a rollout is {view.rollout.phase} at step {view.rollout.step} of {view.rollout.of}, and may go back"
        yield DependentView(name, "rollout", detail, f"proxyctl rollout status --route {name}; let it end")
    if view.drill is not None:
        detail = "a drill is under way, and may revert to old"
        yield DependentView(name, "drill", detail, f"proxyctl rehearse --end --route {name}")
    on_its_way = sum(each.outstanding for each in view.sides["old"].endpoints)
    if on_its_way:
        yield DependentView(name, "on-its-way", f"{on_its_way} events are on their way to old", "wait for its answers")


def _owed(view: RouteView) -> Iterator[DependentView]:
    """What the record still has for old."""
    name, ledger = view.name, view.sides["old"].ledger
    for number, kind, detail, remedy in _held(name, ledger) if ledger is not None else ():
        if number:
            yield DependentView(name, kind, f"{number} events {detail}", remedy)


def _held(name: str, ledger: LedgerCounts) -> Iterator[tuple[int, str, str, str]]:
    yield (
        ledger.pending,
        "owed",
        f"are owed to old, the oldest for {ledger.oldest_age_s:.0f} s",
        "proxyctl status --wait, until they are delivered",
    )
    yield (
        ledger.deferred,
        "deferred",
        "are kept for old, so that a rollback would complete it",
        "wait until ledger.carry_over_for has released them, or shorten it and restart: there is no way back then",
    )
    yield (
        ledger.dead,
        "dead",
        "are dead letters of old: it was to have them, and has not",
        f"proxyctl dead ls --route {name} --side old; then dead requeue, or dead discard if old need not have them",
    )


def _compared(settings: Settings, route: Route, status: Status) -> Iterator[DependentView]:
    name = route.name
    if any(name in check.routes for check in settings.consistency):
        detail = "the consistency check reads old's store, and tells nothing without it"
        remedy = f"proxyctl verify --route {name} once more, then take {name} out of consistency in the configuration"
        yield DependentView(name, "check", detail, remedy)
    if any(each.route == name and each.comparing for each in status.answers):
        detail = "answers of old are compared with those of new"
        yield DependentView(name, "answers", detail, f"take compare_answers of route {name} out of the configuration")


def _new_alone(view: RouteView) -> Iterator[DependentView]:
    """Old is what clients would have if new failed: new must be well before that is given up."""
    new, wrong = view.sides["new"], []
    if new.breaker != "closed":
        wrong.append(f"its breaker is {new.breaker}")
    if new.healthy is False:
        wrong.append("its health probe fails")
    if new.paused:
        wrong.append(f"deliveries to it are paused: {new.paused}")
    if new.ledger is not None and new.ledger.pending:
        wrong.append(f"{new.ledger.pending} events are owed to it, which old may have alone")
    if new.ledger is not None and new.ledger.dead:
        wrong.append(f"{new.ledger.dead} dead letters of it, which old may have alone")
    if view.verdict.name == "fail":
        wrong.append(f"the verdict is fail: {'; '.join(view.verdict.reasons)}")
    if view.latched:
        wrong.append(f"the route is latched: {view.latch_reason}")
    if wrong:
        detail = f"new is not well, and nobody stands in for it then: {'; '.join(wrong)}"
        yield DependentView(view.name, "health", detail, f"proxyctl status --route {view.name}; mend new first")


def _last_event(view: RouteView, seen: Seen, quiet: float, now: float) -> Iterator[DependentView]:
    name, backend = view.name, view.sides["old"].backend
    remedy = f"find who sends it: proxyctl ledger ls --route {name} --side old --since {quiet:g}s; then wait that long"
    if view.sides["old"].rate > 0 or (seen.last is not None and now - seen.last < quiet):
        at = now if seen.last is None or view.sides["old"].rate > 0 else seen.last
        detail = f"the last event went to {backend} at {iso(at)}; {quiet:g} s without one are wanted"
        yield DependentView(name, "last-event", detail, remedy)
    elif seen.since is None or now - seen.since < quiet:
        since = "nothing is known of the past" if seen.since is None else f"the past is known since {iso(seen.since)}"
        detail = f"{since}; {quiet:g} s without an event to {backend} are wanted"
        yield DependentView(name, "last-event", detail, "wait that long")


def _of_the_instance(settings: Settings, status: Status) -> Iterator[DependentView]:
    olds = {route.old for route in settings.routes}
    if settings.default in olds:
        detail = f"what no route matches is passed to {settings.default}: {status.passed_through} requests so far"
        remedy = "name another backend under default in the configuration, or none, which answers 404"
        yield DependentView("", "default", detail, remedy)
    for route in settings.routes:
        if route.new in olds:
            detail = f"backend {route.new} is new here and old of another route"
            yield DependentView(route.name, "backend", detail, f"give route {route.name} a backend of its own as new")
    for source in settings.sources:
        names = sorted(name for name in olds if _place(source.kind.url) in _places(settings, name))
        if names:
            view = next((each for each in status.sources if each.name == source.name), None)
            yield _source(source.name, source.route, names[0], view)


def _source(name: str, route: str, backend: str, view: SourceView | None) -> DependentView:
    state = view.state if view is not None else "not running"
    detail = f"source {name} ({state}) is subscribed to at an address of backend {backend}"
    return DependentView(route, "source", detail, f"let source {name} subscribe to whom new gets its events from")


def _places(settings: Settings, backend: str) -> set[tuple[str, int]]:
    return {_place(url.removeprefix("srv+")) for url in settings.backends[backend].url}


def _place(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme]


def _record(status: Status) -> Iterator[DependentView]:
    """Without the record nobody can tell what old is owed."""
    ledger = status.ledger
    if not ledger.alive or not ledger.balanced:
        what = "is not balanced: keep its files and report this"
        if ledger.balanced is None:
            what = "has not told of itself"
        if not ledger.alive:
            what = "does not answer"
        yield DependentView("", "record", f"the ledger {what}; what old is owed is not known", "proxyctl ledger status")
    elif not status.ready:
        yield DependentView("", "instance", f"not ready: {'; '.join(status.not_ready)}", "proxyctl status")
