"""deliver(event, attempt) -> Outcome over HTTP: how the ledger delivers what is owed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from proxy.core.event import Attempt, Event, Outcome
from proxy.http.leg import Leg
from proxy.http.request import event_request
from proxy.http.response_head import ResponseHead
from proxy.http.route import COPY
from proxy.http.upstream import Upstream


class HttpDelivery:
    """Delivers events to a route's backends. sides: (old, new) upstreams by route name."""

    def __init__(self, sides: Mapping[str, tuple[Upstream, Upstream]]) -> None:
        self._sides = sides

    async def deliver(self, event: Event, attempt: Attempt) -> Outcome:
        """One attempt. Never raises for what the backend does; the answer's body is dropped."""
        upstream = self._sides[event.route][attempt.side]
        waiting = _Waiting()
        context = event.context if upstream.rewrite is None else upstream.rewrite.apply(event.context)
        request = event_request(context, event.id.encode(), attempt.role.encode(), attempt.number, event.body)
        method = event.context.partition(b" ")[0]
        leg = Leg(waiting, upstream, attempt.side, COPY, method, request, True)
        upstream.send(leg)
        try:
            return await waiting.outcome
        except asyncio.CancelledError:
            leg.abandon()
            raise


class _Waiting:
    """The owner of a leg that somebody awaits. Its outcome is known with the head of the answer."""

    __slots__ = ("outcome",)

    def __init__(self) -> None:
        self.outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def leg_interim(self, leg: Leg, head: ResponseHead) -> None:
        """Nobody is there to hear of it."""

    def leg_started(self, leg: Leg) -> None:
        """A long answer: the status is what counts."""
        leg.is_started = leg.is_unwanted = True
        self._end(leg)

    def leg_data(self, leg: Leg, data: bytes) -> None:
        """A piece of its body: nobody reads it."""

    def leg_done(self, leg: Leg) -> None:
        """The answer is here, or there is none."""
        self._end(leg)

    def _end(self, leg: Leg) -> None:
        if not self.outcome.done():
            self.outcome.set_result(Outcome(leg.kind, leg.status, leg.reason, int(leg.lost)))
