"""What a client says becomes events, each with its sides.

    bytes --FrameReader--> Message --> key, id, choice --> Event: for the ledger
                                                       --> Link of each side that can have it now, else the ledger's
                           Ping, Close --> acknowledgements

What there is no room for is held up, by reading no more from the client, until there is.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Final

from config.units import BODY_KINDS, parse_source
from proxy.core.authority_down import Remedy, remedy
from proxy.core.choose import Choice
from proxy.core.event import BOTH, NEW, OLD, Event
from proxy.core.owed import LOST
from proxy.core.routing import COPY_NONE
from proxy.http.head import RequestHead
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
from proxy.websocket.upstream import OPEN, Link

if TYPE_CHECKING:
    from proxy.websocket.session import Session

_HOLD: Final = 0.02
"""Seconds until a client that is held up is looked at again."""
_SMALL: Final = 4096
"""Bytes of an unfinished message that the memory budget does not hear of."""
_MOST_BUCKETS: Final = 64
"""Of which a session remembers something."""
_NONE_IN_VAIN: Final[frozenset[tuple[int, int]]] = frozenset()
"""Nearly every session's: one of its own would be a fifth of a KiB of each."""
_OLD_ALONE: Final = Choice(OLD, 1 << OLD, 0, False)


class Intake:
    """Of one session. head, params, peer: of its handshake, where keys may be; name: the session's."""

    __slots__ = (
        "_began_at", "_buckets", "_contexts", "_counted", "_fixed", "_head", "_in_vain", "_missing", "_name", "_params",
        "_peer", "_reader", "_session", "_waiting", "_waits_since", "is_forced", "is_held",
    )  # fmt: skip

    def __init__(self, session: Session, head: RequestHead, params: Mapping[str, str], peer: str, name: str) -> None:
        self._session = session
        self._head = head
        self._params = params
        self._peer = peer
        self._name = name
        self._reader = FrameReader(
            is_client=True,
            max_message=session.service.max_message,
            max_fragments=session.settings.max_fragments,
        )
        self._buckets: dict[str, int] = {}
        self._contexts: dict[int, bytes] = {}
        self._fixed: int | None = None
        """The side that was chosen once, with `unit: connection`."""
        self._waiting: list[Item] = []
        """What was read and cannot be taken yet."""
        self._missing: Message | None = None
        """The message at its head, when it was counted as one without a key already."""
        self._counted = 0
        self._began_at = 0.0
        """When the message began that is not whole yet; 0 without one."""
        self._waits_since = 0.0
        """Since when the message at the head waits for its authority; 0 when none does."""
        self._in_vain = _NONE_IN_VAIN
        """Side and bucket of each backlog that was waited for, and not drained in time."""
        self.is_forced = False
        """Was the last choice for one side alone, also while it fails?"""
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

    # choosing

    def first_choice(self) -> Choice:
        """Where a message would go whose key is that of the handshake."""
        route = self._session.route
        key, _ = route.read_key_and_id(self._head, b"", self._params, self._peer)
        name = key or self._name
        # What is in messages alone is not missing yet.
        to_old = key is None and parse_source(route.settings.key).kind not in BODY_KINDS and self._is_old_without_key
        choice = self._choose(self._bucket(name), name, has_key=key is not None, to_old=to_old)
        if self._session.settings.unit == "connection":
            self._fixed = choice.authority
        return choice

    def _bucket(self, key: str) -> int:
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) > _MOST_BUCKETS:
                self._buckets.clear()
            bucket = self._buckets[key] = self._session.plane.bucket(key)
        return bucket

    @property
    def _is_old_without_key(self) -> bool:
        return self._session.route.settings.key_missing == "old"

    def _choose(self, bucket: int, key: str, *, has_key: bool, to_old: bool) -> Choice:
        """Where a message goes. to_old: to old alone, for want of a key."""
        route = self._session.route
        self.is_forced = False
        if route.steering is not None:
            steered = route.steer(self._head, self._params, bucket, key if has_key else None)
            if steered is not None:
                self.is_forced = steered.is_forced
                return steered.choice
        if to_old:
            return _OLD_ALONE
        if self._fixed is not None and route.dials.weight > 0:
            return route.plan.new if self._fixed == NEW else route.plan.old
        return route.plan.choose(bucket)

    @property
    def possible_sides(self) -> int:
        """Mask of the sides that messages may go to as the dials are; 0 where the handshake names a side for all."""
        if self.is_forced:
            return 0
        dials = self._session.route.dials
        if dials.copy != COPY_NONE:
            return BOTH
        return (1 << OLD if dials.weight < 100 else 0) | (1 << NEW if dials.weight > 0 else 0)

    @property
    def wanted_sides(self) -> int:
        """Mask of those that are to be connected: of a session that has one side the other one only takes over."""
        dials = self._session.route.dials
        if self._fixed is not None and dials.copy == COPY_NONE and dials.weight > 0 and not self.is_forced:
            return 1 << self._fixed
        return self.possible_sides

    # a message

    def _message(self, message: Message) -> bool:
        """Make an event of a message and send it; false when there is no room for it now."""
        session, payload = self._session, message.payload
        plane, route = session.plane, session.route
        if session.ledger.is_full or plane.has_low_disk or plane.budget.is_full or session.acknowledgements.is_full:
            return False
        if session.prologue.takes(message):
            self._broadcast(message)
            return True
        key, event_id = route.read_key_and_id(self._head, payload, self._params, self._peer)
        has_key = key is not None and len(key) <= MAX_VALUE
        if key is None or not has_key:
            if message is not self._missing:
                session.service.count("key_missing")
            if route.settings.key_missing == "reject":
                session.close(POLICY, f"no key: {route.settings.key} is missing"[:120])
                return True
            key = self._name
        bucket = self._bucket(key)
        choice = self._choose(bucket, key, has_key=has_key, to_old=not has_key and self._is_old_without_key)
        link = session.links[choice.authority]
        can_take = link.can_take(bucket)
        if link.is_full if can_take else self._waits(link, choice, bucket):
            self._missing = None if has_key else message
            return False
        if self._waits_since or self._in_vain:
            self._waited(link, bucket, can_take=can_take)
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
        return source(self._head, payload, self._params, self._peer) or ""

    def _context(self, kind: int) -> bytes:
        context = self._contexts.get(kind)
        if context is None:
            session = self._session
            message = SessionMessage(self._name, kind, session.prologue.messages, session.prologue.version)
            context = self._contexts[kind] = pack_context(session.handshake, message)
        return context

    def _waits(self, link: Link, choice: Choice, bucket: int) -> bool:
        """Is a message to wait until its authority can have it, for `drain_wait` at most?

        For the first handshake, because the dials were just turned, in any case; when it is lost, for that of the side
        that takes over. For a backlog, where the session would end, or its client miss a reply that it waits for:
        nothing goes past an older message of the session meanwhile.
        """
        awaited = self._awaited(link, choice, bucket)
        if awaited is None:
            return False
        now = monotonic()
        if not self._waits_since:
            self._waits_since = now
            if not awaited.is_new:
                self._session.service.count("waited_for_backlog")
        if now - self._waits_since < self._session.route.settings.drain_wait:
            return True
        awaited.is_new = False
        if awaited is link:
            before = self._in_vain if len(self._in_vain) <= _MOST_BUCKETS else _NONE_IN_VAIN
            self._in_vain = before | {(link.side, bucket)}
        return False

    def _awaited(self, link: Link, choice: Choice, bucket: int) -> Link | None:
        """Whose handshake or backlog a message waits for; None when it does not."""
        if link.is_by_ledger:
            return None
        if link.is_new:
            link.open()
        if link.is_new:
            return link
        if link.state == OPEN:
            is_in_vain = (link.side, bucket) in self._in_vain
            return link if not is_in_vain and self._is_worth_a_wait(choice, bucket) else None
        other = self._session.links[1 - link.side]
        if self.takes_over(other) and self._remedy_of(choice) is Remedy.FAILOVER:
            other.open()
            return other if other.is_new else None
        return None

    def takes_over(self, link: Link) -> bool:
        """Is this side to be connected for the first time when the other one, which the session has, is lost?"""
        spare = self.possible_sides & ~self.wanted_sides
        return link.is_new and not link.is_by_ledger and bool(spare >> link.side & 1)

    def _is_worth_a_wait(self, choice: Choice, bucket: int) -> bool:
        """Would it otherwise cost more than time that its authority has older messages of this bucket to come?"""
        chosen = self._remedy_of(choice)
        if chosen is Remedy.FAILOVER and self._session.links[1 - choice.authority].can_take(bucket):
            return False
        return chosen is Remedy.FAIL or self._session.replies is not None

    def _waited(self, link: Link, bucket: int, *, can_take: bool) -> None:
        """A message of this bucket is taken. can_take: its authority can have it, and may be waited for again."""
        self._waits_since = 0.0
        if can_take:
            self._in_vain = self._in_vain - {(link.side, bucket)} or _NONE_IN_VAIN

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
            elif link.can_take(bucket) and not link.is_full:
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
        ledger.add(event)
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
        chosen = self._remedy(side, copy_on=copy_on)
        if chosen is Remedy.FAILOVER:
            link = session.links[other]
            if not link.can_take(bucket) or link.is_full:
                link.open()  # nothing, where the ledger alone delivers
                chosen = Remedy.ACCEPT
        if chosen is Remedy.FAIL:
            session.service.count("authority_failures")
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

    def _remedy_of(self, choice: Choice) -> Remedy:
        return self._remedy(choice.authority, copy_on=choice.owed == BOTH and not choice.deferred)

    def _remedy(self, side: int, *, copy_on: bool) -> Remedy:
        """What `on_authority_down` says of a message that was not sent to this side, its authority."""
        if self.is_forced:
            return Remedy.FAIL  # who asks for a side wants no other one
        route = self._session.route
        return remedy(
            route.settings.on_authority_down,
            authority=side,
            weight=route.dials.weight,
            latched=route.dials.latched,
            copy_on=copy_on,
            sent=False,
            client_id=False,
        )

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
    def head(self) -> RequestHead:
        """Of the handshake."""
        return self._head

    @property
    def params(self) -> Mapping[str, str]:
        """What the route's path has found in that."""
        return self._params

    @property
    def peer(self) -> str:
        """The client's address."""
        return self._peer

    @property
    def name(self) -> str:
        """The session's."""
        return self._name

    @property
    def fixed(self) -> int | None:
        """The side that was chosen once."""
        return self._fixed

    @property
    def begun(self) -> Begun:
        """What was read of a message that is not whole."""
        return self._reader.begun()

    @property
    def began_at(self) -> float:
        """When that began; 0 without one."""
        return self._began_at

    def go_on(self, fixed: int | None, begun: Begun, began_at: float) -> None:
        """Go on where another worker stopped."""
        self._reader.go_on(begun)
        self._fixed, self._began_at = fixed, began_at
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
