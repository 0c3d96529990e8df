"""A worker whose place another one takes: it hands over the connections that can move, and ends the others in order.

    plain HTTP, between two requests   --> offered; in the middle of one: after its answer
    a consumer without TLS             --> offered
    plain WebSocket, all receipts here --> offered; else it is read no more for a moment, until they are
    TLS, what is refused, no successor --> `proxy.worker.draining`

It looks at a few connections at a time, for thousands of them must not stop the loop in which the others are served.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Final

from proxy.fanout.moved import MovingRelay
from proxy.fanout.relay import Consumers
from proxy.http.downstream import Client
from proxy.http.moved import MovingClient
from proxy.http.service import Service
from proxy.websocket.kept import Kept
from proxy.websocket.moved import MovingSession
from proxy.websocket.service import Sessions
from proxy.websocket.session import Session
from proxy.worker.draining import Draining
from proxy.worker.offers import Movable, Offers, call

log = logging.getLogger(__name__)

_STEP: Final = 0.005
"""Seconds between two looks, unless something was answered."""
_LOOKS: Final = 64
"""Connections of each kind that are looked at in one."""
_PATIENCE: Final = 0.1
"""Seconds that a session is watched for a moment in which nothing of it is on its way, before it is held up for one."""
_HOLD: Final = 1.0
"""Seconds that it is held up at most, and until the next time."""
_SPREAD: Final = 0.8
"""Share of the time over which the others are ended."""
_CALL_AGAIN: Final = 0.25
"""Seconds between two looks for a successor when there is none any more."""
_MOST_CALLS: Final = 3
"""Successors that are tried: with one that does not answer, connections stand still for a while."""


class Retiring:
    """Of one worker. paths: where successors may listen, best first; is_arriving: connections are still being taken."""

    def __init__(
        self,
        service: Service,
        sessions: Sessions,
        consumers: Consumers,
        paths: Callable[[], Sequence[Path]],
        is_arriving: Callable[[], bool],
    ) -> None:
        self._service = service
        self._sessions = sessions
        self._consumers = consumers
        self._paths = paths
        self._is_arriving = is_arriving
        self._plane = service.plane
        self.kept = Kept(self._plane.ledger, self._plane.tick, sessions.count)
        self._numbers = count(1)
        self._offers: Offers | None = None
        self._called_at = 0.0
        self._calls = 0
        self._draining = Draining(0.0, self._plane.count)
        self._parting: deque[Client] = deque()
        """Frozen after their last answer here."""
        self._clients: list[Client] = []
        self._some: list[Session] = []
        """Those that are still to be looked at in this round."""
        self._waits: dict[Session, float] = {}
        """Sessions of which something is on its way, since when."""
        self._held: dict[Session, float] = {}
        """Those that are read no more for that, until when."""
        self._woken = asyncio.Event()

    async def run(self, until: float) -> None:
        """Move and end connections. until: monotonic seconds; by then some may be left."""
        now = monotonic()
        self._draining = Draining(now + _SPREAD * (until - now), self._plane.count)
        self._service.part(self._leaves)
        try:
            while (now := monotonic()) < until and self._has_more():
                self._woken.clear()
                self._look(now)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_STEP):
                        await self._woken.wait()
        finally:
            self._move_no_more()

    def _move_no_more(self) -> None:
        """What is still here stays here."""
        self._service.leaving = None
        if self._offers is not None:
            self._offers.withdraw()
        self._thaw_parting()
        for session in tuple(self._held):
            self._read_on(session)

    def keeps(self, now: float) -> bool:
        """Is anything kept of sessions that have moved?"""
        self.kept.forget(now)
        return not self.kept.is_empty

    def close(self) -> None:
        """End the conversation: what is still kept is the ledger's."""
        if self._offers is not None:
            self._offers.close()

    def _has_more(self) -> bool:
        clients = any(client.transport is not None and not client.is_sourced for client in self._service.clients)
        if clients or self._sessions.open or self._consumers.open or self._is_arriving():
            return True
        return not self.kept.is_empty or not (self._offers is None or self._offers.is_idle)

    # one look

    def _look(self, now: float) -> None:
        self.kept.forget(now)
        offers = self._successor(now)
        if offers is not None:
            offers.check_time(now)
        else:
            self._thaw_parting()
            if self._calls_again(now):
                return  # whoever is there will have moved, or will drain, a moment later
        for _ in range(len(self._parting)):
            self._try_parting(offers)
        self._look_at_clients(offers, now)
        self._look_at_sessions(offers, now)
        self._look_at_relays(offers, now)
        self._draining.look(now)

    def _successor(self, now: float) -> Offers | None:
        """Who takes connections, if anybody does."""
        if self._offers is not None and self._offers.is_open:
            return self._offers
        if self._calls == _MOST_CALLS or (self._called_at and now - self._called_at < _CALL_AGAIN):
            return None
        self._called_at = now
        self._offers = None
        for path in self._paths():
            connection = call(path)
            if connection is not None:
                self._calls += 1
                headers = self._service.parser.wanted
                self._offers = Offers(
                    connection, self._service.loop, headers, self.kept, self._numbers,
                    refused=self._is_refused, count=self._plane.count, wake=self._woken.set,
                )  # fmt: skip
                break
        return self._offers

    def _calls_again(self, now: float) -> bool:
        """Was a successor lost a moment ago, and may there be another one?"""
        return 0 < self._calls < _MOST_CALLS and now - self._called_at < _CALL_AGAIN

    def _is_refused(self, movable: Movable) -> None:
        self._draining.add(movable.connection, monotonic())

    # clients

    def _leaves(self, client: Client) -> None:
        """A client has its last answer here, and is frozen."""
        self._parting.append(client)
        self._woken.set()

    def _try_parting(self, offers: Offers | None) -> None:
        client = self._parting.popleft()
        if client.transport is None:
            return
        if offers is None or not offers.is_open:
            client.thaw()
        elif client.is_written and offers.has_room:
            offers.offer(MovingClient(client, self._plane.routes))
        else:
            self._parting.append(client)

    def _thaw_parting(self) -> None:
        while self._parting:
            self._parting.popleft().thaw()

    def _look_at_clients(self, offers: Offers | None, now: float) -> None:
        if not self._clients:
            self._clients = [client for client in self._service.clients if client not in self._draining]
        for _ in range(min(_LOOKS, len(self._clients))):
            client = self._clients.pop()
            if client.is_sourced or client in self._draining:
                continue
            if offers is None or client.is_tls or self._service.is_draining:
                self._draining.add(client, now)
            elif client.is_movable and client.is_between:
                if not offers.has_room:
                    self._clients.append(client)
                    return
                offers.offer(MovingClient(client, self._plane.routes))

    def _look_at_relays(self, offers: Offers | None, now: float) -> None:
        for relay in tuple(self._consumers.open):
            if relay in self._draining or relay.is_frozen:
                continue
            if offers is None or not relay.is_plain:
                self._draining.add(relay, now)
            elif relay.is_still and offers.has_room:
                offers.offer(MovingRelay(relay))

    # sessions

    def _look_at_sessions(self, offers: Offers | None, now: float) -> None:
        if not self._some:
            self._some = [session for session in self._sessions.open if session not in self._draining]
        for _ in range(min(_LOOKS, len(self._some))):
            session = self._some.pop()
            if session in self._draining or session.is_frozen:
                continue
            if offers is None or not session.is_plain:
                self._read_on(session)
                self._draining.add(session, now)
            elif not session.is_movable:  # it is being opened, or ends
                continue
            elif not session.is_still:
                self._hold_up(session, now)
            elif offers.has_room:
                self._waits.pop(session, None)
                self._held.pop(session, None)
                offers.offer(MovingSession(session, self.kept))
            else:
                self._some.append(session)
                return

    def _hold_up(self, session: Session, now: float) -> None:
        """Something of it is on its way: wait for that, and in the end with its client."""
        since = self._waits.setdefault(session, now)
        if session in self._held:
            if now >= self._held[session]:
                self._waits[session] = now + _HOLD
                self._read_on(session)
        elif now - since > _PATIENCE:
            self._held[session] = now + _HOLD
            session.pause_client()

    def _read_on(self, session: Session) -> None:
        if self._held.pop(session, None) is not None:
            session.read_on()
