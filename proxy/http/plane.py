"""The data plane of one worker: takes a request, makes an event of it, starts its exchange; keeps the timers.

Client.data_received --> DataPlane.begin(client, head, body) --> Exchange.launch
                               |
                               +--> refusal | pass-through
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from random import random
from time import monotonic
from typing import Final, Protocol

from config.model import Route, Settings
from proxy.core.answers import LONGEST, MOST, AnsweredPair
from proxy.core.choose import Choice, bucket_of
from proxy.core.event import BOTH, OLD, Event
from proxy.core.identity import IdSource
from proxy.core.routing import Routing
from proxy.http import remedies
from proxy.http.access import AccessLog
from proxy.http.arrival import Arrival, read_arrival
from proxy.http.budget import LEG, SMALL, TIMES_HELD, Budget, Charge
from proxy.http.claim import Claim
from proxy.http.downstream import Client, Upgrading
from proxy.http.exchange import Exchange
from proxy.http.head import RequestHead
from proxy.http.matching import Matcher
from proxy.http.pair import Pair
from proxy.http.passing import Passing
from proxy.http.request_body import RequestBody
from proxy.http.route import LOAD_HEADER, EventRoute
from proxy.http.steering import Steered, bare_host
from proxy.http.tick import Tick
from proxy.http.tracing import Tracer
from proxy.http.uploading import Upload, side_for_upload
from proxy.http.upstream import CROWDED, Upstream
from proxy.ledger.client import LedgerClient
from proxy.ledger.marks import LOW_DISK, Marks

log = logging.getLogger(__name__)

_AWAY: Final = 1.0
"""Seconds without a ledger after which events that need it are refused before dispatch."""
_BACKLOG_POLL: Final = 0.005
_HOUSEKEEPING: Final = 0.1
_UNBOUNDED: Final = 2**50
_OLD_ALONE: Final = Choice(OLD, 1 << OLD, 0, False)


class Upgrader(Protocol):
    """Who takes the requests of routes that are of another protocol."""

    def begin(
        self, client: Client, route: EventRoute, head: RequestHead, params: Mapping[str, str]
    ) -> Upgrading | None:
        """Begin with such a request; None when it was answered at once."""


class DataPlane:
    """What one worker serves. seed: of the salted key hash; upstreams: by backend name; max_decoded, memory: bytes.

    slots: where in the marks each route is, by its name; in the order of the routes when absent.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        default: str | None,
        upstreams: Mapping[str, Upstream],
        ledger: LedgerClient,
        marks: Marks,
        tick: Tick,
        loop: asyncio.AbstractEventLoop,
        seed: int,
        stream: int,
        max_decoded: int,
        memory: int = _UNBOUNDED,
        slots: Mapping[str, int] | None = None,
    ) -> None:
        self.budget = Budget(memory)
        if slots is None:
            slots = {route.name: index for index, route in enumerate(routes)}
        self.routes = [EventRoute(slots[r.name], r, (upstreams[r.old], upstreams[r.new]), seed) for r in routes]
        self.upstreams = upstreams
        self.ledger = ledger
        self.marks = marks.memory
        self.tick = tick
        self.counters: dict[str, int] = {}
        self.compared: list[AnsweredPair] = []
        """What the checker gets with the next report."""
        self.epoch = 0
        self.upgrader: Upgrader | None = None
        """Set where a route needs one."""
        self.consumers: Upgrader | None = None
        """Who takes those that connect to a fanout route."""
        self.tracer: Tracer | None = None
        """Set where traces are told."""
        self.access: AccessLog | None = None
        """Set where answers are logged."""
        self._default = upstreams[default] if default is not None else None
        self._previews = {
            route.preview_host.lower().encode(): upstreams[route.new] for route in routes if route.preview_host
        }
        """By host: where what no route takes goes."""
        self._matcher = Matcher(self.routes)
        self.ids = IdSource(stream)
        self._seed = seed
        self.max_decoded = max_decoded
        self._loop = loop
        self._backlogged: list[tuple[Exchange, bool]] = []
        self._timer: asyncio.TimerHandle | None = None

    def apply(self, routing: Routing) -> None:
        """Use this routing from the next event on."""
        for route in self.routes:
            dials = routing.routes.get(route.name)
            if dials is not None:
                route.apply(dials)
        self.epoch = routing.epoch

    def adopt(self, settings: Settings) -> None:
        """Go by these settings from now on; they differ in live keys alone (`config.changes`)."""
        for name, upstream in self.upstreams.items():
            upstream.adopt(settings.backends[name])
        by_name = {route.name: route for route in settings.routes}
        for route in self.routes:
            route.adopt(by_name[route.name])

    def bucket(self, key: str) -> int:
        """The bucket of a key."""
        return bucket_of(key, self._seed)

    @property
    def has_low_disk(self) -> bool:
        """Is there no room on the disk for further records?"""
        return bool(self.marks[LOW_DISK])

    def count(self, name: str) -> None:
        """One more of something worth counting."""
        self.counters[name] = self.counters.get(name, 0) + 1

    # a request

    def begin(self, client: Client, head: RequestHead, body: bytes) -> Exchange | Passing | Claim | Upgrading | None:
        """Serve a request; None when it was answered at once."""
        if (self.budget.is_full or len(body) > SMALL) and not self._has_memory(len(body)):
            route, _ = self._matcher.find(head)
            self.refuse(client, 503, "this instance is out of memory for requests", "refused_memory", route=route)
            return None
        route, params = self._matcher.find(head)
        if route is None:
            return self._pass(client, head, body)
        if route.upgrades:
            assert self.upgrader is not None
            return self.upgrader.begin(client, route, head, params)
        if route.is_fanout and head.method == b"GET":
            assert self.consumers is not None
            return self.consumers.begin(client, route, head, params)
        if route.for_load is not None and head.wanted and LOAD_HEADER in head.wanted:
            route = route.for_load
            self.count("load_events")
        if self.refuses_for_room(client, route):
            return None
        wall = time.time_ns()
        arrival = read_arrival(self, client, route, head, params, body, wall)
        if arrival is None:
            return None
        if route.dedupe_wait and arrival.is_clients_id and not route.forces(arrival):
            return self._claim(client, arrival)
        return self.admit(client, arrival, self.ledger.next_number(), wall)

    def admit(self, client: Client, arrival: Arrival, number: int, wall: int) -> Exchange | None:
        """Make an event of a request and launch it; None when it was refused. wall: nanoseconds since 1970."""
        route, head, body, key = arrival.route, arrival.head, arrival.body, arrival.key
        bucket = bucket_of(key, self._seed)
        choice, steered = self._choose(arrival, bucket)
        if route.sides[choice.authority].is_crowded and self._is_crowded_out(route, choice, steered):
            self.refuse(client, 503, CROWDED, "refused_pending", route=route)
            return None
        is_forced = steered is not None and steered.is_forced
        context = client.context(head)
        trace = None if self.tracer is None else self.tracer.begin(head)
        if trace is not None:
            context = trace.enter(context)
        event = Event(
            number,
            arrival.event_id,
            route.name,
            key,
            bucket,
            self.epoch,
            choice.authority,
            choice.owed,
            0,
            choice.deferred,
            route.is_sequential,
            wall,
            "http",
            context,
            body,
            arrival.read(route.time_reader, client.peer) if route.time_reader else "",
            tuple([arrival.read(each, client.peer) for each in route.identity_readers])
            if route.identity_readers
            else (),
            # The ledger would take a forced event for the first of its id.
            arrival.is_clients_id and not (is_forced and route.dedupe_wait),
        )
        if steered is None:
            route.chosen[choice.authority] += 1
            if choice is not _OLD_ALONE:
                route.spread.count(bucket, key)
        exchange = Exchange(self, route, event, choice.authority, head.method, choice.shadow, client)
        if trace is not None:
            exchange.trace, exchange.is_told = trace, True
        if len(body) > SMALL:
            exchange.charge = Charge(self.budget, TIMES_HELD * len(body))
        if route.compared_share and (choice.shadow or (choice.owed == BOTH and not choice.deferred)):
            self._compare(exchange)
        if is_forced:
            exchange.is_forced = True
            exchange.may_repeat = arrival.is_clients_id
            self.count("forced")
        if route.needs_ledger or choice.deferred:
            return self._begin_recorded(exchange, client)
        exchange.launch(False, client.since)
        return exchange

    def _compare(self, exchange: Exchange) -> None:
        """Have the answers to an event compared, if it is in the sample and there is room.

        By chance: every N-th event could be the same sensor's each time.
        """
        if random() >= exchange.route.compared_share:
            return
        self.count("answers_sampled")
        event = exchange.event
        if len(self.compared) < MOST and len(event.body) <= LONGEST and len(event.context) <= LONGEST:
            exchange.pair = Pair(self.compared, event)

    def _choose(self, arrival: Arrival, bucket: int) -> tuple[Choice, Steered | None]:
        """Where an event goes, and why when that is not what the weight says."""
        route, has_key = arrival.route, arrival.has_key
        if route.steering is not None:
            steered = route.steer(arrival.head, arrival.params, bucket, arrival.key if has_key else None)
            if steered is not None:
                return steered.choice, steered
        if not has_key and route.settings.key_missing == "old":
            return _OLD_ALONE, None
        return route.plan.choose(bucket), None

    def begin_upload(self, client: Client, head: RequestHead, body: RequestBody) -> Upload | None:
        """Serve a request whose body is passed on as it comes; None when it was answered at once."""
        route, params = self._matcher.find(head)
        assert route is not None  # `streams` has said so
        if route.for_load is not None and head.wanted and LOAD_HEADER in head.wanted:
            route = route.for_load
        arrival = read_arrival(self, client, route, head, params, b"", time.time_ns())
        if arrival is None:
            return None
        choice, steered = self._choose(arrival, bucket_of(arrival.key, self._seed))
        is_forced = steered is not None and steered.is_forced
        side = side_for_upload(route, choice.authority, is_forced=is_forced, now=monotonic())
        if side is None:
            self.refuse(client, 503, "no backend can take this now", "refused_no_backend", retry_after=1, route=route)
            return None
        self.count("streamed")
        if choice.owed != 1 << choice.authority:
            self.count("streamed_without_copy")
        upload = Upload(client, head.method, body, route, side, self.budget)
        upload.start(client.context(head), arrival.event_id.encode(), -1 if head.chunked else head.length)
        return upload

    def streams(self, head: RequestHead) -> bool:
        """Does its route pass on what is too long for an event?"""
        route, _ = self._matcher.find(head)
        return route is not None and route.settings.stream

    def _is_crowded_out(self, route: EventRoute, choice: Choice, steered: Steered | None) -> bool:
        """Would the event only be refused by its backend's line, and its client hear of that?"""
        is_forced = steered is not None and steered.is_forced
        return route.sides[choice.authority].is_line_full and remedies.fails_alone(route.settings, is_forced=is_forced)

    def refuses_for_room(self, client: Client, route: EventRoute) -> bool:
        """Is there no room for another event's record? Its client is told so."""
        if self.has_low_disk or self.ledger.is_full:
            self.refuse(client, 503, "no room to record events", "refused_no_room", retry_after=1, route=route)
            return True
        return False

    def _claim(self, client: Client, arrival: Arrival) -> Claim | None:
        """The client gave the id: is there a twin?"""
        now = monotonic()
        if self.ledger.away_since is not None and now - self.ledger.away_since > _AWAY:
            self._refuse_without_ledger(client, arrival.route)
            return None
        claim = Claim(self, client, arrival, now + arrival.route.dedupe_wait)
        claim.ask()
        return claim

    def _begin_recorded(self, exchange: Exchange, client: Client) -> Exchange | None:
        """Events that cannot go without the ledger: refused while it is away."""
        away = self.ledger.away_since
        settings = exchange.route.settings
        if away is not None and monotonic() - away > _AWAY:
            self._refuse_without_ledger(client, exchange.route)
            return None
        if settings.ack == "accepted" or exchange.route.by_ledger >> exchange.authority & 1:
            exchange.launch_accepted()
        elif settings.ordering == "strict":
            self.ledger.add(exchange.event)
            self.ledger.wait_turn(exchange.event, exchange)
            self.tick.schedule()
        elif settings.durability == "before-send":
            exchange.hold(False)
        else:
            exchange.launch(False, client.since)
        return exchange

    def _refuse_without_ledger(self, client: Client, route: EventRoute) -> None:
        self.refuse(client, 503, "the ledger is not available", "refused_ledger_away", retry_after=1, route=route)

    def refuse(
        self, client: Client, status: int, detail: str, counter: str, retry_after: int = 0,
        route: EventRoute | None = None,
    ) -> None:  # fmt: skip
        """Answer a request that no exchange is begun for. route: that it would have been an event of."""
        self.count(counter)
        if route is not None:
            route.count_answer(status)
        client.answer_problem(status, detail, retry_after)

    def shed_body(self, head: RequestHead | None) -> None:
        """There is no memory for the body of a request, which is answered 503."""
        self.count("refused_bodies")
        route = None if head is None else self._matcher.find(head)[0]
        if route is not None:
            route.count_answer(503)

    def _pass(self, client: Client, head: RequestHead, body: bytes) -> Passing | None:
        backend = self._previews.get(bare_host(head.host), self._default) if self._previews else self._default
        if backend is None:
            self.refuse(client, 404, "no route takes this request", "refused_no_route")
            return None
        self.count("passed_through")
        passing = Passing(client, head.method)
        charge = Charge(self.budget, 2 * len(body)) if len(body) > SMALL else None
        passing.send(backend, client.context(head), head, body, charge)
        return passing

    # memory

    def _has_memory(self, size: int) -> bool:
        """May a request with a body of so many bytes be served? Small ones only ask whether the budget is used up."""
        if size <= SMALL:
            return not self.budget.is_full
        self.look_at_memory()
        return self.budget.has_room(TIMES_HELD * size)

    def look_at_memory(self) -> None:
        """Tell the budget of what does not count there by itself."""
        ledger = self.ledger
        waiting = len(self._backlogged) + ledger.waiting
        for upstream in self.upstreams.values():
            waiting += upstream.outstanding
        self.budget.see_others(ledger.kept_bytes + waiting * LEG)

    # what is watched

    def watch_copy(self, exchange: Exchange) -> None:
        """The authority has answered: park the exchange's copy if it takes longer than `copy_wait`."""
        route = exchange.route
        wait = route.settings.copy_wait
        copies = route.copies
        while copies and copies[0][1].is_answered:
            copies.popleft()
        copies.append((monotonic() + wait, exchange))
        if route.copies_timer is None:
            route.copies_timer = self._loop.call_later(wait, self._check_copies, route)

    def _check_copies(self, route: EventRoute) -> None:
        now = monotonic()
        copies = route.copies
        while copies and (copies[0][1].is_answered or copies[0][0] <= now):
            remedies.park(copies.popleft()[1])
        route.copies_timer = (
            self._loop.call_later(max(copies[0][0] - now, 0.001), self._check_copies, route) if copies else None
        )

    def watch_backlog(self, exchange: Exchange, is_recorded: bool) -> None:
        """Launch the exchange once its authority's bucket has no backlog any more."""
        if not self._backlogged:
            self._loop.call_later(_BACKLOG_POLL, self._check_backlogs)
        self._backlogged.append((exchange, is_recorded))

    def _check_backlogs(self) -> None:
        waiting, self._backlogged = self._backlogged, []
        now = monotonic()
        for exchange, is_recorded in waiting:
            exchange.launch(is_recorded, now)

    def start(self) -> None:
        """Start the housekeeping timer."""
        self._timer = self._loop.call_later(_HOUSEKEEPING, self._keep_house)

    def _keep_house(self) -> None:
        now = monotonic()
        self.look_at_memory()
        for upstream in self.upstreams.values():
            upstream.check_times(now)
        self.ledger.check_time(now)
        away = self.ledger.away_since
        if away is not None and now - away > _AWAY:
            self.ledger.fail_waiters()
        self._timer = self._loop.call_later(_HOUSEKEEPING, self._keep_house)

    @property
    def is_idle(self) -> bool:
        """No event waits for a backlog and no leg is on its way."""
        return not self._backlogged and all(upstream.is_idle for upstream in self.upstreams.values())

    def close(self) -> None:
        """Stop the timers and close the backends' connections."""
        routes = [*self.routes, *[route.for_load for route in self.routes if route.for_load is not None]]
        for timer in (self._timer, *[route.copies_timer for route in routes]):
            if timer is not None:
                timer.cancel()
        for upstream in self.upstreams.values():
            upstream.close()
