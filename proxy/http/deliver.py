"""deliver(event, attempt) -> Outcome over HTTP: how the ledger delivers what is owed."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from proxy.core.event import DENIED, PAUSE, UNFIT, UNFIT_STATUS, Attempt, Event, Outcome
from proxy.core.template import Unfit
from proxy.http.batching import Batching
from proxy.http.leg import Leg
from proxy.http.rendering import Rendered
from proxy.http.request import event_request
from proxy.http.response_head import ResponseHead
from proxy.http.room import Room
from proxy.http.route import COPY
from proxy.http.upstream import Upstream

_LONGEST_ANSWER: Final = 2**20
"""Bytes of an answer to a batch."""
_OF_CREDENTIALS: Final = frozenset({401, 403})


class HttpDelivery:
    """Delivers events to a route's backends. sides: (old, new) upstreams by route name; max_decoded: bytes."""

    def __init__(self, sides: Mapping[str, tuple[Upstream, Upstream]], max_decoded: int) -> None:
        self._sides = sides
        self._max_decoded = max_decoded
        self._batchings: dict[str, Batching] = {}
        """By backend, of those that take batches."""
        self._rooms: defaultdict[str, Room] = defaultdict(Room)
        """By backend: one that answers nothing keeps none from another."""

    async def deliver(self, event: Event, attempt: Attempt) -> Outcome:
        """One attempt. Never raises for what the backend does; the answer's body is dropped."""
        upstream = self._sides[event.route][attempt.side]
        room = self._rooms[upstream.name]
        await room.enter()
        try:
            rendered = rendered_for(upstream, event, self._max_decoded)
        except BaseException:
            room.pass_on()
            raise
        size = len(rendered.body) if isinstance(rendered, Rendered) else 0
        room.take(size)
        try:
            if isinstance(rendered, Unfit):
                return Outcome(UNFIT, UNFIT_STATUS, rendered.reason)
            return await self._send(upstream, rendered, event, attempt)
        finally:
            room.give(size)

    async def _send(self, upstream: Upstream, rendered: Rendered, event: Event, attempt: Attempt) -> Outcome:
        http = upstream.settings.deliver.http
        if http is not None and http.batch is not None:
            batching = self._batchings.get(upstream.name)
            if batching is None:
                loop = asyncio.get_running_loop()
                batching = Batching(http.batch, lambda method, request: _ask(upstream, method, request), loop)
                self._batchings[upstream.name] = batching
            return await batching.deliver(rendered, event.id.encode(), attempt.number)
        waiting = _Waiting()
        method, context, body = rendered
        request = event_request(context, event.id.encode(), attempt.role.encode(), attempt.number, body)
        leg = Leg(waiting, upstream, attempt.side, COPY, method, request, True)
        upstream.send(leg)
        try:
            outcome = await waiting.outcome
        except asyncio.CancelledError:
            leg.abandon()
            raise
        return _of_session(outcome) if _has_clients_credential(event, upstream) else outcome

    def close(self) -> None:
        """Batches on their way fail."""
        for batching in self._batchings.values():
            batching.close()


def _has_clients_credential(event: Event, upstream: Upstream) -> bool:
    """Is it a message, sent with what its session's client brought, for the backend has nothing of its own?"""
    settings, form = upstream.settings, upstream.settings.deliver.http
    changed = (*settings.headers.set, *settings.headers.remove, *(form.headers if form is not None else ()))
    is_ours = settings.authorization is not None or "authorization" in {name.lower() for name in changed}
    return event.transport == "websocket" and not is_ours


def _of_session(outcome: Outcome) -> Outcome:
    """As for a courier's handshake: a credential that is refused is that of this session, and others' go on."""
    return outcome._replace(kind=DENIED) if outcome.kind == PAUSE and outcome.status in _OF_CREDENTIALS else outcome


async def _ask(upstream: Upstream, method: bytes, request: bytes) -> tuple[Outcome, bytes]:
    """Send a request; what came of it, and the answer's body."""
    waiting = _WaitingForAll()
    leg = Leg(waiting, upstream, 0, COPY, method, request, True)
    upstream.send(leg)
    try:
        return await waiting.outcome, leg.body
    except asyncio.CancelledError:
        leg.abandon()
        raise


def rendered_for(upstream: Upstream, event: Event, max_decoded: int) -> Rendered | Unfit:
    """What this backend gets of an event."""
    if upstream.rendering is not None:
        return upstream.rendering.render(event, upstream.rewrite, max_decoded)
    context = event.context if upstream.rewrite is None else upstream.rewrite.apply(event.context)
    return Rendered(event.context.partition(b" ")[0], context, event.body)


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


class _WaitingForAll(_Waiting):
    """The same for who wants the answer's body, too."""

    __slots__ = ()

    def leg_started(self, leg: Leg) -> None:
        """A long answer: it is kept whole."""
        leg.is_started = True

    def leg_data(self, leg: Leg, data: bytes) -> None:
        """A piece of it; one without an end says nothing."""
        leg.body += data
        if len(leg.body) > _LONGEST_ANSWER:
            leg.abandon()

    def leg_done(self, leg: Leg) -> None:
        """It is whole, or broke off: then it does not say what became of the events."""
        if leg.truncated:
            leg.body = b""
        self._end(leg)
