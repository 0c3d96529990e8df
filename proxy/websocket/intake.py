"""What a client says becomes events, each with its sides.

    bytes --FrameReader--> Message --> key, id, Choosing --> Event: for the ledger
                                                         --> Link of each side that can have it now, else the ledger's
                           Ping, Close --> acknowledgements

What there is no room for is held up, by reading no more from the client, until there is; `Patience` holds it up for a
backend.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from proxy.core.authority_down import Remedy
from proxy.core.choose import Choice
from proxy.core.event import BOTH, NEW, OLD, Event
from proxy.core.owed import LOST
from proxy.http.route import COPY
from proxy.http.values import MAX_VALUE, Reader, is_safe_id
from proxy.websocket.context import SessionMessage, pack_context
from proxy.websocket.exchange import Exchange
from proxy.websocket.frames import (
    NO_CODE,
    NORMAL,
    POLICY,
    PONG,
    TOO_BIG,
    TRY_AGAIN,
    Begun,
    Broken,
    Closing,
    FrameReader,
    Item,
    Message,
    Ping,
    close_frame,
    frame,
)
from proxy.websocket.patience import Patience
from proxy.websocket.upstream import OPEN

if TYPE_CHECKING:
    from proxy.websocket.session import Session

_HOLD: Final = 0.02
"""Seconds until a client that is held up is looked at again."""
_SMALL: Final = 4096
"""Bytes of an unfinished message that the memory budget does not hear of."""


class Intake:
    """Of one session."""

    __slots__ = (
        "_began_at", "_choosing", "_contexts", "_counted", "_missing", "_patience", "_reader", "_session", "_waiting",
        "is_held",
    )  # fmt: skip

    def __init__(self, session: Session) -> None:
        self._session = session
        self._choosing = session.choosing
        self._patience = Patience(session)
        self._reader = FrameReader(
            is_client=True,
            max_message=session.service.max_message,
            max_fragments=session.settings.max_fragments,
        )
        self._contexts: dict[int, bytes] = {}
        self._waiting: list[Item] = []
        """What was read and cannot be taken yet."""
        self._missing: Message | None = None
        """The message at its head, when it was counted as one without a key already."""
        self._counted = 0
        self._began_at = 0.0
        """When the message began that is not whole yet; 0 without one."""
        self.is_held = False

    # reading

    def feed(self, data: bytes, now: float) -> None:
        """Some bytes of the client's."""
        reader = self._reader
        items = reader.feed(data)
        if reader.is_between:
            self._began_at = 0.0
        elif not self._began_at:
            self._began_at = now
            self._session.watch()
        elif items and self._is_another(items):
            self._began_at = now
        if self._waiting:
            self._waiting += items
        else:
            self._take(items)
        if self._counted or reader.held > _SMALL:
            self.count()

    def _is_another(self, items: list[Item]) -> bool:
        """Has what is not whole begun behind these? Control frames in between its own do not end a message."""
        return not self._reader.is_in_fragments or any(type(item) is Message for item in items)

    def _take(self, items: list[Item]) -> None:
        """Act on what was read; what there is no room for waits, and the client with it."""
        session = self._session
        before = session.route.accepted
        for i, item in enumerate(items):
            if session.is_over:
                return
            if type(item) is Message:
                if not self._message(item):
                    self._waiting = items[i:]
                    self._hold()
                    break
            elif type(item) is Ping:
                if not session.acknowledgements.when_safe(frame(PONG, item.payload, is_client=False)):
                    session.close(POLICY, "too many Pings")
            elif type(item) is Closing:
                code = NORMAL if item.code == NO_CODE else item.code
                session.acknowledgements.when_safe(close_frame(code, is_client=False), is_last=True)
                session.close_after(code)
                break
            elif type(item) is Broken:
                session.service.count(f"websocket_closed_{item.code}")
                session.close(item.code, item.reason)
                break
        if session.route.accepted > before:
            session.service.count("websocket_messages", session.route.accepted - before)
            session.service.tick.schedule()
            session.watch()
        for link in session.links:
            link.flush()

    def _hold(self) -> None:
        """Read no more until there is room."""
        session = self._session
        session.service.count("websocket_held")
        self.is_held = True
        session.watch()
        session.pause_client()
        session.service.loop.call_later(_HOLD, self._go_on)

    def _go_on(self) -> None:
        if self._session.is_over:
            return
        items, self._waiting = self._waiting, []
        self._take(items)
        if not self._waiting:
            self.is_held = False
            self._session.read_on()

    # a message

    def _message(self, message: Message) -> bool:
        """Make an event of a message and send it; false when there is no room for it now."""
        session, choosing, payload = self._session, self._choosing, message.payload
        plane, route = session.plane, session.route
        if session.ledger.is_full or plane.has_low_disk or plane.budget.is_full or session.acknowledgements.is_full:
            return False
        if session.prologue.takes(message):
            self._broadcast(message)
            return True
        key, event_id = route.read_key_and_id(choosing.head, payload, choosing.params, choosing.peer)
        has_key = key is not None and len(key) <= MAX_VALUE
        if key is None or not has_key:
            if message is not self._missing:
                session.service.count("key_missing")
            if route.settings.key_missing == "reject":
                session.close(POLICY, f"no key: {route.settings.key} is missing"[:120])
                return True
            key = choosing.name
        bucket = choosing.bucket(key)
        choice = choosing.choose(bucket, key if has_key else None, is_missing=not has_key)
        link = session.links[choice.authority]
        can_take = link.can_take(bucket)
        if link.is_full if can_take else self._patience.waits(link, choice, bucket):
            self._missing = None if has_key else message
            return False
        self._patience.taken(link, bucket, can_take=can_take)
        wall = time.time_ns()
        is_clients_id = event_id is not None and is_safe_id(event_id)
        if event_id is None or not is_clients_id:
            event_id = plane.ids.make(wall)
        self._launch(message, choice, can_take, Event(
            0, event_id, route.name, key, bucket, plane.epoch, choice.authority, choice.owed, 0, choice.deferred, False,
            wall, "websocket", self._context(message.kind), payload,
            self._read(route.time_reader, payload) if route.time_reader else "",
            tuple([self._read(each, payload) for each in route.identity_readers]) if route.identity_readers else (),
            is_clients_id,
        ))  # fmt: skip
        if has_key:
            route.chosen[choice.authority] += 1
            route.spread.count(bucket, key)
        return True

    def _read(self, source: Reader, payload: bytes) -> str:
        choosing = self._choosing
        return source(choosing.head, payload, choosing.params, choosing.peer) or ""

    def _context(self, kind: int) -> bytes:
        context = self._contexts.get(kind)
        if context is None:
            session = self._session
            message = SessionMessage(self._choosing.name, kind, session.prologue.messages, session.prologue.version)
            context = self._contexts[kind] = pack_context(session.handshake, message)
        return context

    def _launch(self, message: Message, choice: Choice, can_take: bool, event: Event) -> None:
        """Record an event and send it to the sides that can have it now; the ledger delivers to the others.

        can_take: can its authority?
        """
        session, bucket = self._session, event.bucket
        links, ledger, route = session.links, session.ledger, session.route
        if not can_take:
            links[choice.authority].open()
            if not self._without_authority(event, bucket):
                return
        session.answering = authority = event.authority
        fault = route.fault
        failed = 0 if fault is None or authority == NEW else 1 << NEW & event.owed
        sent = 0
        for side in (OLD, NEW):
            bit = 1 << side
            if not event.owed & bit or event.deferred & bit or event.handed & bit:
                continue
            link = links[side]
            if failed & bit:
                event.handed |= bit
            elif (can_take and side == authority) or (link.can_take(bucket) and not link.is_full):
                sent |= bit
            else:
                link.open()
                event.handed |= bit
        event.n = ledger.next_number()
        frame = ledger.frame if event.handed or event.deferred else 0
        exchange = Exchange(event.n, bucket, authority, sent, frame, len(message.payload))
        if session.plane.tracer is not None:
            exchange.trace, exchange.event_id = session.plane.tracer.draw(), event.id
        lost = 0
        if fault is not None and failed:
            fault.count()
            route.figures[NEW][COPY].classes[0] += 1
        if event.handed and route.settings.durability == "off":
            lost, event.handed = event.handed & ~(1 << authority), event.handed & 1 << authority
        ledger.add_message(event)
        session.took(exchange, message)
        for side in (OLD, NEW):
            bit = 1 << side
            if sent & bit:
                links[side].send(exchange, message.raw)
            elif event.handed & bit:
                links[side].park_all()
                links[side].handed(bucket)
                session.service.count("handed")
            elif lost & bit:
                ledger.report(event.n, side, LOST, 0)
                session.service.count("copies_lost")
            elif choice.shadow:
                self._shadow(side, message)

    def _shadow(self, side: int, message: Message) -> None:
        """A copy that nobody counts on."""
        link = self._session.links[side]
        if link.state == OPEN and not link.is_full:
            link.pass_on(message.raw)
        else:
            link.open()
            self._session.service.count("shadow_copies_skipped")

    def _without_authority(self, event: Event, bucket: int) -> bool:
        """The authority cannot have it now: apply `on_authority_down`. False when the session ends for it."""
        session, side = self._session, event.authority
        other = 1 - side
        if session.links[side].is_by_ledger:
            event.handed |= 1 << side  # the ledger is the way to it
            return True
        copy_on = event.owed == BOTH and not event.deferred
        chosen = self._choosing.remedy(side, copy_on=copy_on)
        if chosen is Remedy.FAILOVER:
            link = session.links[other]
            if not link.can_take(bucket) or link.is_full:
                link.open()  # nothing, where the ledger alone delivers
                chosen = Remedy.ACCEPT
        if chosen is Remedy.FAIL:
            session.service.count("authority_failures")
            session.route.failed += 1
            session.close(TRY_AGAIN, "the backend is away")
            return False
        event.handed |= 1 << side
        if chosen is Remedy.ACCEPT:
            session.service.count("accepted_for_authority")
            return True
        session.service.count("failovers")
        event.authority = other
        if not copy_on:
            # As for HTTP: what new answers instead of old is kept for old, behind what that has not got yet.
            keeps = side == OLD and session.route.settings.carry_over
            event.owed = BOTH if keeps else 1 << other
            event.handed = 1 << OLD if keeps else 0
            event.deferred = 0
        return True

    def _broadcast(self, message: Message) -> None:
        """A message of the prologue: to both sides, now and first on every connection that is made later."""
        session = self._session
        if not session.prologue.keep(message):
            session.close(TOO_BIG, "too much that both sides must have")
            return
        self._contexts.clear()
        session.count_prologue()
        session.service.count("websocket_broadcasts")
        for link in session.links:
            if link.is_full and link.state == OPEN:
                link.drop(TRY_AGAIN, "it does not take what both sides must have")  # it gets it first, next time
            else:
                link.pass_on(message.raw)

    # another worker

    @property
    def is_still(self) -> bool:
        """Does nothing wait for room? A message that is not whole may well have begun."""
        return not self.is_held and not self._waiting

    @property
    def begun(self) -> Begun:
        """What was read of a message that is not whole."""
        return self._reader.begun()

    @property
    def began_at(self) -> float:
        """When that began; 0 without one."""
        return self._began_at

    def go_on(self, begun: Begun, began_at: float) -> None:
        """Go on where another worker stopped."""
        self._reader.go_on(begun)
        self._began_at = began_at
        self.count()

    # time, and the end

    @property
    def is_amid(self) -> bool:
        """Has a message begun that is not whole yet?"""
        return self._began_at > 0.0

    def is_too_slow(self, now: float) -> bool:
        """Does the rest of a message take too long? While memory is short it has a tenth of a body's time."""
        if not self._began_at:
            return False
        waited = now - self._began_at
        if self._session.plane.budget.is_short:
            waited *= 10
        return waited > self._session.service.http.limits.body_timeout

    def resumed(self, now: float) -> None:
        """The client is read on: the rest of a message has its time from now on, for it could not come before."""
        if self._began_at:
            self._began_at = now

    def forget(self) -> None:
        """Nothing of it is wanted any more."""
        self._waiting = []

    @property
    def held(self) -> int:
        """Bytes that are kept of what is not whole."""
        return self._reader.held

    def count(self) -> None:
        """Tell the budget what is held of unfinished messages."""
        held = 0 if self._session.is_over else self._reader.held
        if held <= _SMALL:
            held = 0
        if held != self._counted:
            self._session.plane.budget.add(held - self._counted)
            self._counted = held
