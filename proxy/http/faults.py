"""What a drill does to the copies of a route to new, in one process: they fail here and never leave it.

    Exchange.send --CopyFault.send--> fails at once, or goes on to the upstream a while later

A fault has a breaker of its own. The backend's is what events go by whose authority is new, and what other routes go
by: no client may feel a drill. What this one says is told as the backend's, for the guard to see.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Final

from config.model import Backend, Settings
from proxy.core.breaker import Breaker, BreakerTrouble
from proxy.core.drill import DEAD, ERRORS, SLOW, WHY, Fault
from proxy.core.event import RETRY, UNREACHABLE, Outcome
from proxy.http.response_head import ResponseHead, parse_response_head

if TYPE_CHECKING:
    from proxy.http.leg import Leg, Owner

_ANSWERED_WITHIN: Final = 0.001
"""Seconds that an answer of `errors` is said to have taken."""
_UNAVAILABLE: Final = 503
_UNREACHED: Final = 502


def _answer() -> ResponseHead:
    head = parse_response_head(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0")
    assert head is not None
    return head


_ANSWER: Final = _answer()


class CopyFault:
    """The fault of one route. new: the settings of its new backend, whose name is `backend`."""

    def __init__(self, fault: Fault, backend: str, new: Backend, loop: asyncio.AbstractEventLoop) -> None:
        self.kind = fault.kind
        self.delay = fault.delay
        self.backend = backend
        self.breaker = Breaker(new.breaker.failures, new.breaker.reset)
        self.failed = 0
        """Copies that it failed."""
        self.held = 0
        """Copies that it holds back now."""
        self._most_held = new.connections
        self._loop = loop

    @property
    def is_slow(self) -> bool:
        """Does it hold copies back, and fail none?"""
        return self.kind == SLOW

    def count(self) -> int:
        """One more has failed: the status that stands for it."""
        self.failed += 1
        self.breaker.failed(monotonic(), WHY)
        return _UNAVAILABLE if self.kind == ERRORS else _UNREACHED

    def send(self, leg: Leg) -> None:
        """Do to a copy what is to be done. Its owner hears of it at once, or when it was answered after all."""
        if self.is_slow:
            self._hold(leg)
            return
        leg.status = self.count()
        leg.reason = WHY
        if self.kind == DEAD:
            leg.kind = UNREACHABLE
        else:
            leg.kind, leg.head = RETRY, _ANSWER
            leg.sent_at = monotonic()
            leg.answered_at = leg.sent_at + _ANSWERED_WITHIN
        leg.owner.leg_done(leg)

    def _hold(self, leg: Leg) -> None:
        """No more are held than there would be connections; others are the ledger's, as with a backend that is slow."""
        if self.held >= self._most_held:
            leg.kind, leg.status, leg.reason = UNREACHABLE, _UNAVAILABLE, WHY
            leg.is_ours = True
            leg.owner.leg_done(leg)
            return
        self.held += 1
        leg.owner = _Held(self, leg.owner)
        self._loop.call_later(self.delay, self._let_go, leg)

    def _let_go(self, leg: Leg) -> None:
        self.held -= 1
        leg.upstream.send(leg)

    def outcome(self) -> Outcome:
        """What a delivery of the ledger meets."""
        status = self.count()
        return Outcome(UNREACHABLE if self.kind == DEAD else RETRY, status, WHY)


class _Held:
    """The owner of a leg that was held back, until its own hears of it: to whom the wait counts as the answer's."""

    __slots__ = ("_fault", "_owner")

    def __init__(self, fault: CopyFault, owner: Owner) -> None:
        self._fault = fault
        self._owner = owner

    def leg_started(self, leg: Leg) -> None:
        """The head of a long answer is here."""
        self._give_back(leg).leg_started(leg)

    def leg_done(self, leg: Leg) -> None:
        """It has ended."""
        self._give_back(leg).leg_done(leg)

    def leg_data(self, leg: Leg, data: bytes) -> None:
        """Comes after the head, hence to the owner itself."""

    def leg_interim(self, leg: Leg, head: ResponseHead) -> None:
        """A copy's are nobody's."""

    def _give_back(self, leg: Leg) -> Owner:
        leg.owner = self._owner
        if leg.sent_at:
            leg.sent_at -= self._fault.delay
        return self._owner


def new_backends(settings: Settings) -> dict[str, tuple[str, Backend]]:
    """Name and settings of each route's new."""
    return {route.name: (route.new, settings.backends[route.new]) for route in settings.routes}


class Faults:
    """Those of one process. backends: name and settings of each route's new; changed: is told of the fault that a route
    has from now on, and of None when that has ended.
    """

    def __init__(
        self,
        backends: Mapping[str, tuple[str, Backend]],
        loop: asyncio.AbstractEventLoop,
        changed: Callable[[str, CopyFault | None], None],
    ) -> None:
        self._backends = backends
        self._loop = loop
        self._changed = changed
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self.by_route: dict[str, CopyFault] = {}

    def set(self, faults: Mapping[str, Fault]) -> None:
        """These and no others, each for its seconds."""
        for route in [route for route in self.by_route if route not in faults]:
            self._end(route)
        for route, fault in faults.items():
            if route in self._backends:
                self._begin(route, fault)

    def _begin(self, route: str, fault: Fault) -> None:
        present = self.by_route.get(route)
        if present is None or (present.kind, present.delay) != (fault.kind, fault.delay):
            made = self.by_route[route] = CopyFault(fault, *self._backends[route], self._loop)
            self._changed(route, made)
        if route in self._timers:
            self._timers.pop(route).cancel()
        self._timers[route] = self._loop.call_later(fault.seconds, self._end, route)

    def _end(self, route: str) -> None:
        self._timers.pop(route).cancel()
        del self.by_route[route]
        self._changed(route, None)

    def breakers(self, now: float) -> dict[str, str]:
        """By backend, the state of breakers that are not closed."""
        found = {fault.backend: fault.breaker.state(now) for fault in self.by_route.values()}
        return {backend: state for backend, state in found.items() if state != "closed"}

    def troubles(self, now: float) -> dict[str, BreakerTrouble]:
        """By backend, why these are not."""
        found = {fault.backend: fault.breaker.trouble(now) for fault in self.by_route.values()}
        return {backend: trouble for backend, trouble in found.items() if trouble is not None}

    def close(self) -> None:
        """No more timers."""
        for timer in self._timers.values():
            timer.cancel()
