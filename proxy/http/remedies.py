"""What is done when a side fails, is slow or has a backlog: the slow paths of an exchange.

hand                 the ledger takes a side over
give_up_copy         hand the copy, or lose it under `durability: off`
unfit                its backend's templates cannot make what it takes of the event
park                 the copy is still on its way, but the client need not wait for it
fails_alone          is a failure of the authority the answer in any case?
authority_failed     on_authority_down: fail over, accept, or fail
authority_has_backlog   wait for the backlog to drain, or answer from the other side
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING

from config.model import Route
from proxy.core.acknowledge import ABSENT, FAILED, REFUSED, WAITING
from proxy.core.authority_down import Remedy, remedy
from proxy.core.event import OLD, SIDES
from proxy.core.event import REFUSED as NO
from proxy.core.owed import DISCARDED
from proxy.core.template import Unfit
from proxy.http.leg import Leg
from proxy.http.rendering import Rendered
from proxy.http.route import AUTHORITY, COPY
from proxy.ledger.protocol import ANSWERED, HANDED, OWED, PARKED, UNANSWERED

if TYPE_CHECKING:
    from proxy.http.exchange import Exchange


log = logging.getLogger(__name__)


def _say(x: Exchange, what: str, side: int) -> None:
    """A line for a decision, for whoever wants to see each one."""
    if log.isEnabledFor(logging.DEBUG):
        log.debug(what, extra={"route": x.event.route, "id": x.event.id, "side": SIDES[side], "epoch": x.event.epoch})


def hand(x: Exchange, side: int, status: int) -> None:
    """Give a side to the ledger; the client's answer may wait until that is durable. status: see `HANDED`."""
    _say(x, "left to the ledger", side)
    x.handed |= 1 << side
    leg = x.legs[side]
    if not status and leg is not None and leg.sent_at:
        status = UNANSWERED
    x.plane.ledger.report(x.event.n, side, HANDED, status)
    x.plane.count("handed")
    if x.is_answered:
        x.plane.tick.schedule()
        return
    x.standing[side] = WAITING
    x.wait_durable(1 << side)


def give_up_copy(x: Exchange, other: int, status: int) -> None:
    """This worker does not try the copy (again)."""
    if x.route.settings.durability == "off":
        x.lose(other)
    else:
        hand(x, other, status)


def unfit(x: Exchange, side: int, role: int, reason: str) -> None:
    """Nothing was sent to this side: it refuses with 422 as the authority; of a copy the ledger makes a dead letter."""
    x.plane.count("unfit")
    if role == COPY:
        if x.shadow:
            x.plane.count("shadow_copies_skipped")
        else:
            give_up_copy(x, side, 0)
        return
    leg = Leg(x, x.route.sides[side], side, role, x.method, b"", False)
    leg.kind, leg.status, leg.reason, leg.is_ours = NO, 422, reason, True  # of the backend it says nothing
    x.legs[side] = leg
    x.route.outstanding[side] += 1
    x.leg_done(leg)


def mind_the_copy(x: Exchange, other: int) -> None:
    """The authority has the event, the other side not yet: send the copy now, or watch the one on its way."""
    if x.is_unsent(other):  # it waited for the authority
        upstream = x.route.sides[other]
        marked = x.route.is_ordered and x.plane.marks[x.route.bases[other] + x.event.bucket]
        if x.route.by_ledger or marked or not upstream.is_ready(monotonic(), x.route.is_for_load):
            give_up_copy(x, other, 0)
            return
        x.send(other, COPY)
    if x.standing[other] == WAITING and not x.handed >> other & 1:
        _wait_for_copy(x, other)


def _wait_for_copy(x: Exchange, other: int) -> None:
    """The copy is on its way: how long does the client wait for it?"""
    if x.route.settings.ack == "both":
        return  # to its end
    if x.route.settings.durability == "off":
        x.standing[other] = ABSENT  # not at all
    else:
        x.plane.watch_copy(x)  # for copy_wait


def park(x: Exchange) -> None:
    """The copy is slow: make its record durable and answer; its leg goes on."""
    other = 1 - x.authority
    if x.is_answered or x.standing[other] != WAITING or (x.parked | x.handed) >> other & 1:
        return
    x.parked |= 1 << other
    _say(x, "the copy is slow: its client does not wait for it", other)
    x.route.sides[other].park(monotonic())
    x.plane.ledger.report(x.event.n, other, PARKED, 0)
    x.plane.count("parked")
    x.wait_durable(1 << other)


def authority_failed(x: Exchange, status: int, reason: str, *, is_sent: bool) -> None:
    """Apply on_authority_down. status: the authority's 5xx, or ours (502, 503, 504) without an answer."""
    settings, dials = x.route.settings, x.route.dials
    side = x.authority
    x.standing[side] = FAILED
    if x.is_forced:
        _fail(x, status, reason, stays_owed=False)
        return
    copy_on = x.event.owed == 3 and not x.event.deferred
    if settings.ack == "both":
        _fail(x, status, reason, stays_owed=copy_on)
        return
    leg = x.legs[side]
    if leg is not None and leg.is_ours and settings.on_authority_down != "accept":
        x.plane.count("refused_descriptors")
        _fail(x, status, reason, stays_owed=False)  # the other side is not to answer for what is no fault of this one
        return
    chosen: Remedy | None = remedy(
        settings.on_authority_down,
        authority=side,
        weight=dials.weight,
        latched=dials.latched,
        copy_on=copy_on,
        sent=is_sent,
        client_id=x.event.client_id,
    )
    if chosen is Remedy.FAILOVER:
        chosen = _fail_over(x, status, copy_on=copy_on)
    if chosen is Remedy.ACCEPT:
        _accept(x, status)
    elif chosen is Remedy.FAIL:
        _fail(x, status, reason, stays_owed=False)


def fails_alone(settings: Route, *, is_forced: bool) -> bool:
    """Is the authority's failure to be the answer, before anything was sent?"""
    if settings.ack == "accepted":
        return False
    return is_forced or settings.ack == "both" or settings.on_authority_down == "fail"


def _accept(x: Exchange, status: int) -> None:
    """202 once durable: the ledger delivers to the authority, and to the other side if that is open."""
    side, other = x.authority, 1 - x.authority
    x.plane.count("accepted_for_authority")
    _say(x, "accepted for its authority", side)
    if x.is_unsent(other):
        give_up_copy(x, other, x.last_status(other))
    elif x.standing[other] == WAITING and not x.handed >> other & 1:
        _wait_for_copy(x, other)
    hand(x, side, status)


def _fail(x: Exchange, status: int, reason: str, *, stays_owed: bool) -> None:
    """The failure is the answer."""
    side, other = x.authority, 1 - x.authority
    x.plane.count("authority_failures")
    _say(x, "its authority has failed, and nobody else answers", side)
    leg = x.legs[side]
    if leg is not None and leg.head is not None:
        x.answer_from(side)
    else:
        x.answer_problem(status, reason or "the backend failed", retry_after=1 if status == 503 else 0)
    if stays_owed:
        hand(x, side, status)
        if x.is_unsent(other):
            give_up_copy(x, other, x.last_status(other))
    else:
        x.plane.ledger.report(x.event.n, side, DISCARDED, status)
        x.void()


def _fail_over(x: Exchange, status: int, *, copy_on: bool) -> Remedy | None:
    """Let the other side answer; a remedy to apply instead when it cannot, else None."""
    side, other = x.authority, 1 - x.authority
    known = x.standing[other]
    if x.shadow:
        return Remedy.ACCEPT  # as at weight 0, under which it was sent; new has a copy that nobody counts on
    instead = Remedy.ACCEPT if copy_on else Remedy.FAIL
    if side != x.event.authority:
        return instead  # the other side has failed before
    if copy_on and (x.handed >> other & 1 or known in (FAILED, ABSENT)):
        return instead  # it is in the ledger's hands, failed too, or is lost
    made: Rendered | None = None
    if x.legs[other] is None:
        marked = x.route.is_ordered and x.plane.marks[x.route.bases[other] + x.event.bucket]
        by_ledger = x.route.by_ledger >> other & 1
        if by_ledger or marked or not x.route.sides[other].is_ready(monotonic(), x.route.is_for_load):
            return instead
        rendered = x.made_for(other)
        if isinstance(rendered, Unfit):
            return instead  # it cannot be given the event, which the authority would take
        made = rendered
    report, number = x.plane.ledger.report, x.event.n
    x.plane.count("failovers")
    _say(x, "failed over", other)
    x.authority = other
    x.waits = [mask & ~(1 << other) for mask in x.waits]
    x.handed &= ~(1 << other)
    if known == REFUSED:
        report(number, side, DISCARDED, status)  # one side is down, the other refused: a definite no
        x.standing[side] = ABSENT
    elif copy_on:
        report(number, other, ANSWERED, 0)
        hand(x, side, status)
    else:
        report(number, other, OWED, 0)  # first: between two reports the event must not look done
        report(number, other, ANSWERED, 0)
        if side == OLD and x.route.settings.carry_over:
            hand(x, side, status)  # what new answers is old's too: behind what old has not got yet
        else:
            report(number, side, DISCARDED, status)
            x.standing[side] = ABSENT
    if x.legs[other] is None:
        x.standing[other] = WAITING
        x.send(other, AUTHORITY, made)
    else:
        x.settle()
    return None


def authority_has_backlog(x: Exchange, is_recorded: bool, now: float) -> None:
    """The authority's bucket has a backlog: older events of this key must reach it first.

    With a failover allowed the other side answers at once; else the event waits until the ledger has
    drained the bucket, for at most `drain_wait`.
    """
    settings, dials = x.route.settings, x.route.dials
    copy_on = x.event.owed == 3 and not x.event.deferred
    chosen = remedy(
        settings.on_authority_down,
        authority=x.authority,
        weight=dials.weight,
        latched=dials.latched,
        copy_on=copy_on,
        sent=False,
        client_id=x.event.client_id,
    )
    other = 1 - x.authority
    by_ledger = x.route.by_ledger >> other & 1
    other_is_free = (
        not by_ledger and x.plane.marks[x.route.bases[other] + x.event.bucket] == 0 and x.route.sides[other].is_well
    )
    is_in_vain = chosen is Remedy.ACCEPT and not x.route.sides[x.authority].is_well
    expired = is_in_vain or (x.started_at and now - x.started_at >= settings.drain_wait)
    if (chosen is Remedy.FAILOVER and other_is_free and settings.ack == "authority") or expired:
        if not is_recorded:
            x.plane.ledger.add(x.event)
        if x.event.owed >> other & 1 and x.standing[other] == ABSENT:
            x.standing[other] = WAITING
            if x.event.deferred:
                x.handed |= x.event.deferred
                x.wait_durable(x.event.deferred)
        authority_failed(x, 503, "older events of this key are on their way to the backend", is_sent=False)
        return
    if not x.started_at:
        x.started_at = now
        x.plane.count("waited_for_backlog")
        _say(x, "waits until its authority has what is older of its key", x.authority)
    x.plane.watch_backlog(x, is_recorded)
