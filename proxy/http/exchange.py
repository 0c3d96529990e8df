"""The way of one event, from its head to its answer: the hot path's centre, written flat.

    launch --> record (intent) --> legs to the authority and the other side --> leg_done, leg_done
                   |                                                                 |
                   +-- record_durable (only when somebody has to wait for it) -------+--> settle --> answer

What may be answered when is `proxy.core.acknowledge`'s table; what happens when the authority fails
or a side has a backlog is in `remedies`. No task and no future per event.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from proxy.core.acknowledge import ABSENT, FAILED, OK, REFUSED, SAFE, WAITING, Answer
from proxy.core.event import BOTH, DELIVERED, NEW, Event
from proxy.core.event import REFUSED as KIND_REFUSED
from proxy.core.owed import DELIVERED as STATE_DELIVERED
from proxy.core.owed import DISCARDED as STATE_DISCARDED
from proxy.core.owed import LOST as STATE_LOST
from proxy.core.owed import REFUSED as STATE_REFUSED
from proxy.core.template import Unfit
from proxy.http import remedies
from proxy.http.budget import SMALL, Charge, charge
from proxy.http.leg import NOBODY, Leg
from proxy.http.pair import Pair
from proxy.http.rendering import Rendered
from proxy.http.request import event_request
from proxy.http.response_head import ResponseHead
from proxy.http.route import AUTHORITY, COPY, EventRoute
from proxy.http.upstream import STALLED

if TYPE_CHECKING:
    from proxy.http.downstream import Client
    from proxy.http.plane import DataPlane
    from proxy.http.tracing import Trace

ROLE_NAMES: Final = [b"authority", b"copy"]
_AUTHORITY: Final = Answer.AUTHORITY
_OTHER: Final = Answer.OTHER
_ACCEPTED: Final = Answer.ACCEPTED


class Exchange:
    """One event on its way. Sides are OLD or NEW; lists of two are indexed by side.

    standing: what is known of each side (proxy.core.acknowledge)
    waits: masks of sides, oldest first, that become SAFE when the ledger says durable
    handed: mask of sides that are in the ledger's hands, deferred ones too
    parked: mask of sides that the ledger knows to be on their way although the client was answered
    is_void: the client was told no, so what is still open at the other side is discarded
    is_long: some leg's answer comes in pieces
    is_forced: for this side alone: it neither waits for a backlog nor fails over
    may_repeat: the client gave the id, so a second try cannot store it twice unseen
    charge: what the memory budget is told of a large event
    pair: gets both answers when they are to be compared
    contributions: by side, what its client's connection contributes to the test of failures
    trace: what is told of it; None for those that are not drawn
    is_told: its answer is told of, to its trace or to the access log
    """

    __slots__ = (
        "plane", "route", "event", "authority", "method", "shadow", "client", "standing", "legs", "waits", "handed",
        "parked", "is_held", "is_void", "is_answered", "is_long", "is_forced", "may_repeat", "streaming", "started_at",
        "charge", "pair", "contributions", "trace", "is_told",
    )  # fmt: skip

    def __init__(
        self, plane: DataPlane, route: EventRoute, event: Event, authority: int, method: bytes, shadow: bool,
        client: Client,
    ) -> None:  # fmt: skip
        self.plane = plane
        self.route = route
        self.event = event
        self.authority = authority
        self.method = method
        self.shadow = shadow
        self.client: Client | None = client
        self.contributions = client.contributions_to(route.index)
        self.standing = [ABSENT, ABSENT]
        self.legs: list[Leg | None] = [None, None]
        self.waits: list[int] = []
        self.handed = 0
        self.parked = 0
        self.is_held = False
        self.is_void = False
        self.is_answered = False
        self.is_long = False
        self.is_forced = False
        self.may_repeat = event.client_id
        self.streaming: Leg | None = None
        self.started_at = 0.0
        self.charge: Charge | None = None
        self.pair: Pair | None = None
        self.trace: Trace | None = None
        self.is_told = plane.access is not None

    # out

    def launch(self, is_recorded: bool, now: float) -> None:
        """Decide which sides go out now, record the event, send. is_recorded: the intent left earlier."""
        event, route, plane = self.event, self.route, self.plane
        authority = self.authority
        other = 1 - authority
        standing = self.standing
        standing[authority] = WAITING
        waits = 0
        sends_copy = is_lost = False
        if route.is_ordered and plane.marks[route.bases[authority] + event.bucket] and not self.is_forced:
            remedies.authority_has_backlog(self, is_recorded, now)
            return
        if event.owed >> other & 1 and standing[other] == ABSENT:
            standing[other] = WAITING
            upstream = route.sides[other]
            if event.deferred:
                waits = event.deferred
            elif (
                route.by_ledger
                or (route.is_ordered and plane.marks[route.bases[other] + event.bucket])
                or not upstream.has_room
                or (route.parks and upstream.parked >= STALLED and upstream.is_stalled(now))
                # A breaker's trial is not taken for a copy that may never be sent.
                or not (event.after_authority or upstream.is_ready(now, route.is_for_load))
            ):
                is_lost = route.settings.durability == "off"
                waits = 0 if is_lost else 1 << other
            else:
                sends_copy = not event.after_authority
        elif self.shadow:
            sends_copy = self._can_shadow(other, now)
        is_down = not route.sides[authority].is_ready(now, route.is_for_load)
        if not is_recorded:
            event.handed = waits & ~event.deferred
            plane.ledger.add(event)
        elif waits & ~event.deferred:
            remedies.hand(self, other, 0)
            waits = 0
        if is_lost:
            self.lose(other)
        if waits:
            self.handed |= waits
            self.wait_durable(waits)
        self._send_out(authority, other if sends_copy else None, is_down)

    def _can_shadow(self, other: int, now: float) -> bool:
        upstream = self.route.sides[other]
        if not self.route.by_ledger and upstream.has_room and upstream.is_ready(now, self.route.is_for_load):
            return True
        self.plane.count("shadow_copies_skipped")
        return False

    def hold(self, is_recorded: bool) -> None:
        """`durability: before-send`: record the event, and launch it once that is durable."""
        event = self.event
        if not is_recorded:
            self.plane.ledger.add(event)
        if event.deferred:
            self.standing[1 - self.authority] = WAITING
            self.handed |= event.deferred
        self.is_held = True
        self.wait_durable(event.deferred)

    def launch_accepted(self) -> None:
        """`ack: accepted`, or an authority that takes events from the ledger alone: that delivers, to it first, but for
        consumers, each of which has its own pace.

        The client hears 202 once the event is durable.
        """
        event = self.event
        for side in (0, 1):
            if event.owed >> side & 1:
                self.standing[side] = WAITING
        event.handed = event.owed & ~event.deferred
        event.after_authority = event.handed == BOTH and not self.route.is_fanout
        self.handed = event.owed
        self.plane.ledger.add(event)
        self.wait_durable(event.owed)

    def _send_out(self, authority: int, copy_to: int | None, is_down: bool) -> None:
        made = None if is_down else self.made_for(authority)
        if isinstance(made, Unfit):
            remedies.unfit(self, authority, AUTHORITY, made.reason)  # and no copy goes out of what is refused
            return
        if copy_to is not None:
            self.send(copy_to, COPY)
        if is_down:
            self.plane.tick.schedule()
            remedies.authority_failed(self, 503, "the authority's breaker is open", is_sent=False)
        else:
            self.send(authority, AUTHORITY, made)

    def made_for(self, side: int) -> Rendered | Unfit | None:
        """What the templates of this side's backend make of the event; None when it has none."""
        upstream = self.route.sides[side]
        if upstream.rendering is None:
            return None
        return upstream.rendering.render(self.event, upstream.rewrite, self.plane.max_decoded)

    def send(self, side: int, role: int, made: Rendered | None = None) -> None:
        """Send one leg. made: for this side, where that is known already."""
        event = self.event
        upstream = self.route.sides[side]
        method, context, body = self.method, event.context, event.body
        if not upstream.is_plain:
            rendered = made or self.made_for(side)
            if isinstance(rendered, Unfit):
                remedies.unfit(self, side, role, rendered.reason)
                return
            if rendered is not None:
                method, context, body = rendered
            elif upstream.rewrite is not None:
                context = upstream.rewrite.apply(context)
        if self.trace is not None:
            context = self.trace.enter_leg(side, context)
        request = event_request(context, event.id.encode(), ROLE_NAMES[role], 1, body)
        leg = Leg(self, upstream, side, role, method, request, self.may_repeat)
        leg.request_charge = self.charge if body is event.body else charge(self.plane.budget, len(body))
        leg.is_for_load = self.route.is_for_load
        self.legs[side] = leg
        self.route.outstanding[side] += 1
        fault = self.route.fault
        if fault is None or role != COPY or side != NEW:
            upstream.send(leg)
        else:
            self.pair = None  # what a drill says is no answer to compare
            fault.send(leg)

    # back

    def leg_done(self, leg: Leg) -> None:
        """A leg has ended, with a whole answer, a truncated one or none."""
        if self.pair is not None:
            self.pair.take(leg)
        if not leg.is_started:
            self._take_outcome(leg)
        elif leg is self.streaming:
            self._end_stream(leg)
        leg.owner = NOBODY  # no cycle of references: what is done goes at once, not at the next collection

    def leg_started(self, leg: Leg) -> None:
        """The head of a long answer is here: that is the outcome; the body is passed on when it may be."""
        leg.is_started = self.is_long = True
        self._take_outcome(leg)
        if self.is_answered and leg is not self.streaming:
            leg.is_unwanted = True

    def leg_interim(self, leg: Leg, head: ResponseHead) -> None:
        """An answer before the answer: the authority's is for the client."""
        if leg.side == self.authority and self.client is not None and not self.is_answered:
            self.client.answer_interim(head)

    def leg_data(self, leg: Leg, data: bytes) -> None:
        """A piece of a long answer: to the client, into the leg's buffer until then, or nowhere."""
        if leg is self.streaming:
            if self.client is not None:
                self.client.stream(data)
        elif not self.is_answered:
            leg.keep(data)
            leg.answer_charge = None
            leg.answer_charge = charge(self.plane.budget, len(leg.body))

    def _take_outcome(self, leg: Leg) -> None:
        side, status, route = leg.side, leg.status, self.route
        route.outstanding[side] -= 1
        figures = route.figures[side][leg.role]
        if leg.head is not None:
            route.contributions[side].count(self.contributions[side], 1, int(status >= 500))
            figures.classes[status // 100] += 1
            figures.latency.add(leg.answered_at - leg.sent_at)
            if leg.kind == DELIVERED:
                figures.body_bytes += len(self.event.body)
        elif not leg.is_ours:
            route.contributions[side].count(self.contributions[side], 1, 1)
            figures.classes[0] += 1
        if self.trace is not None:
            self.trace.leg_ended(self.event, leg)
        if side == self.authority:
            if leg.kind != DELIVERED:
                self._authority_said_no(leg)
                return
            standing, other = self.standing, 1 - side
            standing[side] = OK
            self.plane.ledger.report(self.event.n, side, STATE_DELIVERED, status)
            known = standing[other]
            if known == WAITING:
                remedies.mind_the_copy(self, other)
            elif known == FAILED:
                remedies.hand(self, other, self.last_status(other))
        elif not self.shadow:
            self._take_copy(leg)
        if self.is_answered:
            self.plane.tick.schedule()
        elif len(leg.body) > SMALL:
            self._settle_with(leg)
        else:
            self.settle()

    def _settle_with(self, leg: Leg) -> None:
        """The same with a large answer, which may have to wait for the other side or the ledger."""
        self.settle()
        if not self.is_answered:
            leg.answer_charge = Charge(self.plane.budget, len(leg.body))

    def _authority_said_no(self, leg: Leg) -> None:
        side, status = leg.side, leg.status
        if status >= 500:
            remedies.authority_failed(self, status, leg.reason, is_sent=leg.sent_at != 0.0)
            return
        self.standing[side] = REFUSED
        self.plane.ledger.report(self.event.n, side, STATE_REFUSED, status)
        self.void()
        self.settle()

    def _take_copy(self, leg: Leg) -> None:
        side, status = leg.side, leg.status
        if leg.kind == DELIVERED:
            self.standing[side] = OK
            self.plane.ledger.report(self.event.n, side, STATE_DELIVERED, status)
        elif leg.kind == KIND_REFUSED:
            self.standing[side] = REFUSED
            self.plane.ledger.report(self.event.n, side, STATE_REFUSED, status)
            self.plane.count("copies_refused")
        else:
            self._copy_failed(side, status)

    def _copy_failed(self, side: int, status: int) -> None:
        if self.is_void:
            self.plane.ledger.report(self.event.n, side, STATE_DISCARDED, status)
        elif self.route.settings.durability == "off":
            self.lose(side)
        elif self.is_answered or self.standing[self.authority] == OK or self.handed >> self.authority & 1:
            remedies.hand(self, side, status)
        else:
            self.standing[side] = FAILED

    def lose(self, side: int) -> None:
        """`durability: off`: this copy is not tried again."""
        self.standing[side] = REFUSED if self.route.settings.ack == "both" else ABSENT
        self.plane.ledger.report(self.event.n, side, STATE_LOST, 0)
        self.plane.count("copies_lost")

    # the record

    def wait_durable(self, mask: int) -> None:
        """The sides in `mask` become SAFE when everything said so far is durable."""
        self.waits.append(mask)
        self.plane.ledger.wait_durable(self)
        self.plane.tick.schedule()

    def record_durable(self) -> None:
        """The oldest wait is over."""
        mask = self.waits.pop(0)
        standing = self.standing
        for side in (0, 1):
            if mask >> side & 1 and standing[side] == WAITING:
                standing[side] = SAFE
        if self.is_held:
            self.is_held = False
            self.launch(True, monotonic())
        elif not self.is_answered:
            self.settle()

    def turn_came(self) -> None:
        """Strict ordering: no other event of this key is on its way."""
        if self.route.settings.durability == "before-send":
            self.hold(True)
        else:
            self.launch(True, monotonic())

    def record_unsafe(self) -> None:
        """The ledger is away for too long: say so; what was recorded stays owed."""
        if not self.is_answered:
            self.plane.count("ledger_unavailable")
            self.answer_problem(503, "the ledger is not available", retry_after=1)

    def void(self) -> None:
        """The client is told no: what the other side has not got is not delivered any more."""
        self.is_void = True
        other = 1 - self.authority
        if self.handed >> other & 1 or self.is_unsent(other):
            self.plane.ledger.report(self.event.n, other, STATE_DISCARDED, 0)

    def is_unsent(self, side: int) -> bool:
        """Is this side still to be tried, by nobody yet: it failed before, or was not sent?"""
        known = self.standing[side]
        if self.handed >> side & 1:
            return False
        return known == FAILED or (known == WAITING and self.legs[side] is None)

    def last_status(self, side: int) -> int:
        """What this side's leg showed; 0 when there was none."""
        leg = self.legs[side]
        return 0 if leg is None else leg.status

    # the answer

    def settle(self) -> None:
        """Answer the client if the rule says so."""
        standing, authority = self.standing, self.authority
        answer = self.route.answers[standing[authority] * 6 + standing[1 - authority]]
        if answer is _AUTHORITY:
            self.answer_from(authority)
        elif answer is _OTHER:
            self.answer_from(1 - authority)
        elif answer is _ACCEPTED:
            self._answer_accepted()
        # WAIT: nothing; DOWN was dealt with when the leg failed

    def _answer_accepted(self) -> None:
        self.is_answered = True
        self.route.accepted += 1
        if self.is_told:
            self._tell(self.route.settings.accepted_status)
        if self.route.dedupe_wait:
            self._say_outcome(self.route.settings.accepted_status)
        if self.client is not None:
            self.client.answer_accepted(self.event.id, self.route.settings.accepted_status)
        self._after_answer()

    def answer_from(self, side: int) -> None:
        """The client gets this side's answer, or 504 when it has none."""
        if self.is_answered:
            return
        leg = self.legs[side]
        if leg is None or leg.head is None:
            status, reason = (leg.status, leg.reason) if leg is not None and leg.status else (504, "no answer")
            self.answer_problem(status, reason)
            return
        self.is_answered = True
        if leg.kind == DELIVERED:
            self.route.accepted += 1
        else:
            self.route.count_answer(leg.status)
        if self.is_told:
            self._tell(leg.status)
        if self.route.dedupe_wait:
            is_told_only = leg.is_overfull and leg.kind == DELIVERED
            self._say_outcome(self.route.settings.accepted_status if is_told_only else leg.status)
        lines = self.route.answer_lines
        if lines is not None:
            leg.head = leg.head.with_line(lines[side])
        client = self.client
        if client is None:
            pass
        elif not leg.is_started:
            client.answer(leg.head, leg.body)
        elif leg.is_overfull:
            self._answer_without_body(client, leg)
        elif leg.connection is None:
            client.answer_kept(leg)
        else:
            self.streaming = leg
            client.start_stream(leg)
        if self.is_long or client is None:
            self._after_answer()

    def _answer_without_body(self, client: Client, leg: Leg) -> None:
        """A copy's answer is the client's, but its long body was not kept."""
        if leg.kind == DELIVERED:
            client.answer_accepted(self.event.id, self.route.settings.accepted_status)
        else:
            client.answer_problem(leg.status, "the backend's answer was too long to be kept")

    def _after_answer(self) -> None:
        """What is not passed on is read to its end, so that its connection can be used again."""
        for leg in self.legs:
            if leg is not None and leg.is_started and leg is not self.streaming:
                leg.body, leg.answer_charge = b"", None
                leg.is_unwanted = True
                leg.resume()
        self.plane.tick.schedule()  # there may be reports, and no answer to write

    def answer_problem(self, status: int, detail: str, retry_after: int = 0) -> None:
        """Answer with an error of our own."""
        if self.is_answered:
            return
        self.is_answered = True
        self.route.count_answer(status)
        if self.is_told:
            self._tell(status, detail)
        if self.route.dedupe_wait:
            self._say_outcome(status)
        if self.client is not None:
            self.client.answer_problem(status, detail, retry_after)
        self._after_answer()

    def _tell(self, status: int, reason: str = "") -> None:
        """Its client is answered. reason: of an answer of our own."""
        if self.trace is not None:
            self.trace.answered(self.event, self.method, status, reason, self.handed)
        if self.plane.access is not None:
            self.plane.access.answered(self, status)

    def _say_outcome(self, status: int) -> None:
        """Its twins wait for this, or will ask for it. It leaves with the records, before the answer."""
        if self.event.client_id:
            self.plane.ledger.answered(self.event.n, status)

    def _end_stream(self, leg: Leg) -> None:
        self.streaming = None
        if self.client is not None:
            self.client.end_stream(leg.truncated)

    def client_gone(self) -> None:
        """The client left; the event goes on, its answer goes nowhere."""
        self.client = None
        if self.streaming is not None:
            self.streaming.abandon()
