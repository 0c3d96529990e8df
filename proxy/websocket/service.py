"""What all WebSocket sessions of a worker share: settings, who is there, their timers. Begins a session.

It is the data plane's upgrader: a request of a route of sessions comes here instead of becoming an event.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Final, NamedTuple

from proxy.http.answers import upgrade_required
from proxy.http.head import Refusal, RequestHead
from proxy.http.route import EventRoute
from proxy.websocket.frames import GOING_AWAY
from proxy.websocket.opening import Opening, origin_of, read_opening
from proxy.websocket.prologue import Broadcast, broadcast_of
from proxy.websocket.reception import Reception
from proxy.websocket.replies import Replies
from proxy.websocket.session import Session
from proxy.websocket.upstream import Link

if TYPE_CHECKING:
    from proxy.http.downstream import Client
    from proxy.http.plane import DataPlane
    from proxy.http.service import Service

log = logging.getLogger(__name__)

_STEP: Final = 0.02
"""Seconds. In short ones: to look at thousands of sessions at once would hold up everything else."""
_WATCHED_EVERY: Final = 5
"""Steps after which those of which something is to happen soon are looked at."""
_ROUND: Final = 5.0
"""Seconds in which every session is looked at once; shorter where clients are asked more often."""
_TOLD_FOR: Final = 30.0
"""Seconds for which a refusal is told, and no further line is written of its backend; a link tries again sooner."""


def opening_of(http: Service, client: Client, head: RequestHead) -> Opening | Refusal:
    """What a client's handshake asks for."""
    if http.is_stopping:
        return Refusal(503, "the proxy stops")
    if client.has_more:
        return Refusal(400, "bytes behind a WebSocket handshake, before its answer")
    return read_opening(head, client.context(head))


def refuse(plane: DataPlane, client: Client, refusal: Refusal) -> None:
    """Answer in HTTP, and close: what such a client sends next may be frames."""
    plane.count(f"refused_{refusal.status}")
    client.last_call()
    if refusal.status == 426:
        client.answer_raw(upgrade_required(refusal.reason))
    else:
        client.answer_problem(refusal.status, refusal.reason)


class Rules(NamedTuple):
    """What one route says of messages. replies: None when their receipts are not replies."""

    broadcast: Broadcast
    replies: Replies | None


class Refusals:
    """Of one backend. why: what it had against the last session; at, written_at: when, and when that was logged."""

    __slots__ = ("at", "why", "written_at")

    def __init__(self) -> None:
        self.why = ""
        self.at = self.written_at = 0.0


class Sessions:
    """All sessions of one worker. max_message: bytes."""

    def __init__(self, plane: DataPlane, service: Service, loop: asyncio.AbstractEventLoop) -> None:
        self.plane = plane
        self.http = service
        self.loop = loop
        self.tick = plane.tick
        self.max_message = service.limits.max_event_size
        self.open: set[Session] = set()
        self.watched: set[Session] = set()
        """Those of which something is to happen soon."""
        self._round: list[Session] = []
        """Those whose turn is still to come in this round."""
        self._share = 0
        """How many of them have it in each step."""
        self._waiting: dict[str, set[Link]] = {}
        """Links that wait for their next try, by backend."""
        self._steps = int(_ROUND / _STEP)
        """In how many steps a round is done."""
        self._step = 0
        self._next_round = 0.0
        """When the next one begins, if only a few sessions were done with this one long before."""
        self._epoch = 0
        """Of the routing that is known to every session, or will be within a round."""
        self._rules: dict[str, Rules] = {}
        self._refusals: dict[str, Refusals] = {}
        """By backend."""
        self._timer: asyncio.TimerHandle | None = None
        self._farewells: list[asyncio.TimerHandle] = []
        for route in plane.routes:
            settings = route.settings.websocket
            if settings is not None:
                replies = Replies(settings.reply) if settings.reply is not None else None
                self._rules[route.name] = Rules(broadcast_of(settings), replies)
                self._steps = max(1, min(self._steps, int(settings.ping_interval / (10 * _STEP))))

    def start(self) -> None:
        """Start the timer that looks at every session."""
        self._timer = self.loop.call_later(_STEP, self._check)

    def count(self, name: str, more: int = 1) -> None:
        """So many more of something worth counting."""
        counters = self.plane.counters
        counters[name] = counters.get(name, 0) + more

    def begin(
        self, client: Client, route: EventRoute, head: RequestHead, params: Mapping[str, str]
    ) -> Reception | None:
        """Begin a session; None when the client was answered at once."""
        settings = route.settings.websocket
        assert settings is not None
        opening = opening_of(self.http, client, head)
        if not isinstance(opening, Refusal) and settings.origins and origin_of(opening) not in settings.origins:
            opening = Refusal(403, "this Origin is not let in")
        if isinstance(opening, Refusal):
            refuse(self.plane, client, opening)
            route.count_answer(opening.status)
            return None
        if self.plane.refuses_for_room(client, route):
            return None
        name = self.plane.ids.make(time_ns())
        trace = None if self.plane.tracer is None else self.plane.tracer.begin(head)
        if trace is not None:
            opening = opening._replace(context=trace.enter(opening.context))
        session = Session(self, client.peer, route, head, params, opening, name, self._rules[route.name])
        session.trace = trace
        self.open.add(session)
        choice = session.choosing.first()
        reception = session.reception = Reception(session, client, opening)
        reception.begin(choice)
        return None if session.is_over else reception

    def restore(
        self, route: EventRoute, head: RequestHead, params: Mapping[str, str], opening: Opening, peer: str, name: str
    ) -> Session:
        """A session that another worker has begun, as far as its handshake tells it."""
        session = Session(self, peer, route, head, params, opening, name, self._rules[route.name])
        self.open.add(session)
        return session

    def waits(self, link: Link) -> None:
        """A link could not be made, and will be tried again after a while."""
        self._waiting.setdefault(link.upstream.name, set()).add(link)

    def reached(self, link: Link) -> None:
        """A link was made: its backend is there, for those that wait, too."""
        waiting = self._waiting.pop(link.upstream.name, None)
        if waiting is not None:
            waiting.discard(link)
            for other in waiting:
                other.hasten()

    def refused(self, backend: str, why: str) -> None:
        """A backend will not have a session that its client has, or is to have: what it is owed waits for it."""
        self.count("websocket_handshakes_refused")
        now = monotonic()
        refusals = self._refusals.setdefault(backend, Refusals())
        refusals.why, refusals.at = why, now
        if not refusals.written_at or now - refusals.written_at >= _TOLD_FOR:
            refusals.written_at = now
            log.warning("a backend refuses sessions", extra={"backend": backend, "reason": why})

    def refusals(self, now: float) -> dict[str, str]:
        """By backend, what it had against a session of late. now: monotonic seconds."""
        return {name: each.why for name, each in self._refusals.items() if now - each.at < _TOLD_FOR}

    def ended(self, session: Session) -> None:
        """A session and its connections are gone."""
        self.open.discard(session)
        self.watched.discard(session)
        for link in session.links:
            self._waiting.get(link.upstream.name, set()).discard(link)

    def _check(self) -> None:
        self._timer = self.loop.call_later(_STEP, self._check)
        now = monotonic()
        self._step = (self._step + 1) % _WATCHED_EVERY
        if not self._step:
            for session in tuple(self.watched):
                session.check_time(now)
                if not session.is_waiting:
                    self.watched.discard(session)
        if now >= self._next_round or self.plane.epoch != self._epoch:
            self._epoch = self.plane.epoch
            self._next_round = now + self._steps * _STEP
            left = [session for session in self._round if session in self.open]
            self._round = [*self.open.difference(left), *left]  # those first that had no turn in the last one
            self._share = len(self._round) // self._steps + 1
        for _ in range(min(len(self._round), self._share)):
            self._round.pop().check_time(now)

    def stop(self, code: int = GOING_AWAY, reason: str = "the proxy stops", over: float = 0.0) -> None:
        """Every client is told that we go away; what backends have is settled.

        over: seconds in which that is done, one after the other: all of them at once would connect elsewhere at once.
        """
        leaving = list(self.open)
        if not over:
            for session in leaving:
                session.close(code, reason)
            return
        for index, session in enumerate(leaving):
            at = index * over / len(leaving)
            self._farewells.append(self.loop.call_later(at, self._send_away, session, code, reason))

    def _send_away(self, session: Session, code: int, reason: str) -> None:
        if session in self.open:
            session.close(code, reason)

    def close(self) -> None:
        """Stop the timers."""
        for timer in (self._timer, *self._farewells):
            if timer is not None:
                timer.cancel()
