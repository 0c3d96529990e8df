"""A route as the data plane uses it: its settings compiled, its plan of the present epoch, its figures."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from config.model import Match, Route
from config.units import BODY_KINDS, parse_source
from proxy.core.acknowledge import tabulate
from proxy.core.choose import Plan, plan
from proxy.core.contribution import Contributions
from proxy.core.event import SIDES
from proxy.core.routing import COPY_DURABLE, Dials
from proxy.core.spread import Spread
from proxy.http.head import RequestHead
from proxy.http.steering import Steered, Steering
from proxy.http.upstream import Figures, Upstream
from proxy.http.values import headers_read, key_and_id_reader, reader
from proxy.ledger.marks import Marks

if TYPE_CHECKING:
    from proxy.http.arrival import Arrival
    from proxy.http.exchange import Exchange
    from proxy.http.faults import CopyFault

AUTHORITY: Final = 0
COPY: Final = 1
STREAM: Final = 2
ROLES: Final = ("authority", "copy", "stream")
"""What a backend was asked as. stream: what is no event, passed on in pieces."""


LOAD_HEADER: Final = b"x-crossfade-load"
"""Marks the events of a load test. Never forwarded, as all that begins so."""


def event_id_sources(route: Route) -> list[str]:
    """Where the id of an event is looked for. A session's handshake has none: all of its messages would share it."""
    if route.websocket is None:
        return [*route.event_id]
    return [text for text in route.event_id if parse_source(text).kind in BODY_KINDS]


def sources_of(route: Route) -> list[str]:
    """Everything that a route reads of a request."""
    optional = [text for text in (route.event_time, route.override) if text is not None]
    return [route.key, *event_id_sources(route), *route.identities, *optional]


def headers_wanted(routes: Sequence[Route]) -> frozenset[bytes]:
    """Lower-case names of the headers that these routes read."""
    sources = [text for route in routes for text in sources_of(route)]
    if any(route.load_events == "leave-out" for route in routes):
        sources.append(f"header:{LOAD_HEADER.decode()}")
    return headers_read(sources)


def steering_of(route: Route) -> Steering | None:
    """What a route says of events that do not follow the weight; None when it says nothing."""
    steering = Steering(route)
    return None if steering.is_idle else steering


def answer_lines_of(route: Route) -> list[bytes] | None:
    """By side, the header line that names the backend; None when a route's answers have none."""
    if not route.backend_header:
        return None
    return [f"{route.backend_header}: {name}\r\n".encode() for name in (route.old, route.new)]


class EventRoute:
    """One route of events.

    index: its slot in the marks; sides: the (old, new) upstreams; seed: of the salted key hash;
    for_load: the same route with figures of its own, by which the events of a load test go that are to be left out;
    is_for_load: it is that one, and what it sends tells the breakers nothing.
    """

    __slots__ = (
        "accepted",
        "answer_lines",
        "answered_else",
        "answers",
        "bases",
        "by_ledger",
        "chosen",
        "chosen_before",
        "compared_share",
        "contributions",
        "copies",
        "copies_timer",
        "dedupe_wait",
        "dials",
        "failed",
        "fault",
        "figures",
        "for_load",
        "has_copy",
        "has_steady_dials",
        "identity_readers",
        "index",
        "is_fanout",
        "is_for_load",
        "is_ordered",
        "is_sequential",
        "match",
        "name",
        "needs_ledger",
        "outstanding",
        "parks",
        "plan",
        "preview_host",
        "reads_body",
        "read_key_and_id",
        "settings",
        "sides",
        "steering",
        "spread",
        "time_reader",
        "upgrades",
    )

    def __init__(
        self, index: int, settings: Route, sides: tuple[Upstream, Upstream], seed: int, *, is_for_load: bool = False
    ) -> None:
        self.index = index
        self.settings = settings
        self.name = settings.name
        self.match: Match = settings.taken
        # Lists, because a compiled module makes a tuple anew for each look into one by a variable.
        self.sides = [*sides]
        self.preview_host = settings.preview_host
        self.upgrades = settings.websocket is not None
        self.steering: Steering | None = None
        self.answer_lines: list[bytes] | None = None
        """By side: what an answer is to say of where it comes from."""
        transport = "websocket" if self.upgrades else "http"
        self.by_ledger = sum(1 << side for side in (0, 1) if sides[side].settings.is_by_ledger(transport))
        """Mask of the sides to which the ledger alone delivers: they take batches, or by another transport, or connect
        to us themselves.
        """
        self.is_fanout = settings.fanout is not None
        """Consumers connect to its path with GET, and neither waits for the other."""
        self.bases = [Marks.base(index, 0), Marks.base(index, 1)]
        """Offsets of bucket 0 in the marks, by side."""
        self.read_key_and_id = key_and_id_reader(
            parse_source(settings.key), [parse_source(text) for text in event_id_sources(settings)]
        )
        self.reads_body = any(parse_source(text).kind in BODY_KINDS for text in sources_of(settings))
        self.time_reader = reader(parse_source(settings.event_time)) if settings.event_time else None
        self.identity_readers = tuple(reader(parse_source(text)) for text in settings.identities)
        self.answers = tabulate(settings.ack)
        """`proxy.core.acknowledge`'s rule: index authority standing * 6 + other standing."""
        self.is_sequential = settings.copy_order == "sequential"
        self.is_ordered = settings.ordering != "none"
        self.parks = settings.ack == "authority" and settings.durability != "off"
        """A slow copy is left to the ledger before its client has waited for long."""
        self.needs_ledger = (
            settings.ordering == "strict"
            or settings.ack == "accepted"
            or settings.durability == "before-send"
            or self.by_ledger != 0
        )
        """Nothing of this route goes out while the ledger is away."""
        self.dedupe_wait = 0.0
        """Seconds that a twin waits for the first's outcome; 0 without a dedupe window."""
        self.copies: deque[tuple[float, Exchange]] = deque()
        """Copies that the client waits for, until when; oldest first, because `copy_wait` is the route's."""
        self.copies_timer: asyncio.TimerHandle | None = None
        self.compared_share = 0.0
        """Of the events that both sides answer, the share whose answers are compared."""
        self.accepted = 0
        self.failed = 0
        """Requests and messages whose client was answered 5xx, or 1013, whoever was the cause."""
        self.answered_else = 0
        """Those that were neither accepted nor failed: refusals, bodies that were passed on, sessions that began."""
        self.chosen = [0, 0]
        self.chosen_before = 0
        """By new, when the spread was told last."""
        self.has_steady_dials = False
        """Since then they were not turned."""
        self.spread = Spread(seed)
        self.figures = [[Figures() for _ in ROLES] for _ in SIDES]
        """By side, then by role."""
        self.contributions = [Contributions(), Contributions()]
        """By side: what the connections of clients contribute to the test of failures."""
        self.outstanding = [0, 0]
        """By side: requests that were sent, or are to be as soon as there is a connection, and not answered; messages
        that were sent as their links were looked at last, while the backend says nothing.
        """
        self.fault: CopyFault | None = None
        """What a drill does to copies to new; load events that are left out are left out of it, too."""
        self.is_for_load = is_for_load
        self.for_load: EventRoute | None = None
        if settings.load_events == "leave-out" and not is_for_load:
            self.for_load = EventRoute(index, settings, sides, seed, is_for_load=True)
        self.dials = Dials()
        self.adopt(settings)

    def count_answer(self, status: int) -> None:
        """A client has this answer, and it is not that of an event that was accepted."""
        if status >= 500:
            self.failed += 1
        else:
            self.answered_else += 1

    def adopt(self, settings: Route) -> None:
        """Go by these settings from now on; they differ in live keys alone (`config.changes`).

        The route stays the same object, and so do its figures: sessions hold it for as long as they live.
        """
        self.settings = settings
        self.steering = steering_of(settings)
        self.answer_lines = answer_lines_of(settings)
        self.dedupe_wait = max(side.settings.response_timeout for side in self.sides) if settings.dedupe else 0.0
        if self.for_load is not None:
            self.for_load.adopt(settings)
        self.apply(self.dials)

    def steer(self, head: RequestHead, params: Mapping[str, str], bucket: int, key: str | None) -> Steered | None:
        """Where an event goes that does not follow the weight; else None. key: None without one of its own."""
        assert self.steering is not None
        return self.steering.choose(head, params, self.plan, self.dials.latched, bucket, key)

    def forces(self, arrival: Arrival) -> bool:
        """Is this event for one side alone, whatever the dials say?"""
        return self.steering is not None and self.steering.forced(arrival.head, arrival.params) is not None

    def apply(self, dials: Dials) -> None:
        """Use these dials from the next event on."""
        if dials != self.dials:
            self.has_steady_dials = False
        self.dials = dials
        self.plan: Plan = plan(dials, carry_over=self.settings.carry_over)
        self.has_copy = dials.copy == COPY_DURABLE
        self.compared_share = 0.0
        answers = self.settings.answers
        if self.by_ledger:
            pass  # nobody hears what it answers
        elif answers is not None and not self.is_for_load and (answers.when == "always" or dials.stage == "shadow"):
            self.compared_share = answers.sample
        if self.for_load is not None:
            self.for_load.apply(dials)
