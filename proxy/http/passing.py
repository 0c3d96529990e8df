"""A request that no route takes, passed through to the default backend: no event, no record, no copy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.http.budget import Charge
from proxy.http.head import RequestHead
from proxy.http.leg import Leg
from proxy.http.request import plain_request
from proxy.http.response_head import ResponseHead
from proxy.http.upstream import Upstream

if TYPE_CHECKING:
    from proxy.http.downstream import Client


class Passing:
    """One such request on its way."""

    __slots__ = ("_leg", "client", "method")

    def __init__(self, client: Client, method: bytes) -> None:
        self.client: Client | None = client
        self.method = method
        self._leg: Leg | None = None

    def send(
        self, upstream: Upstream, context: bytes, head: RequestHead, body: bytes, charge: Charge | None = None
    ) -> None:
        """Send it; the client is answered with whatever comes back. charge: of a large body."""
        if upstream.rewrite is not None:
            context = upstream.rewrite.apply(context)
        self._leg = Leg(self, upstream, 0, 0, self.method, plain_request(context, head, body), False)
        self._leg.request_charge = charge
        upstream.send(self._leg)

    def leg_interim(self, leg: Leg, head: ResponseHead) -> None:
        """An answer before the answer."""
        if self.client is not None:
            self.client.answer_interim(head)

    def leg_started(self, leg: Leg) -> None:
        """A long answer: pass it on as it comes."""
        leg.is_started = True
        if self.client is None:
            leg.abandon()
        else:
            self.client.start_stream(leg)

    def leg_data(self, leg: Leg, data: bytes) -> None:
        """A piece of it."""
        if self.client is not None:
            self.client.stream(data)

    def leg_done(self, leg: Leg) -> None:
        """The end, or a failure."""
        self._leg = None  # no cycle of references: what is done goes at once, not at the next collection
        if self.client is None:
            return
        if leg.is_started:
            self.client.end_stream(leg.truncated)
        elif leg.head is not None:
            self.client.answer(leg.head, leg.body)
        else:
            self.client.answer_problem(leg.status, leg.reason, 1 if leg.status == 503 else 0)

    def client_gone(self) -> None:
        """Nobody wants the answer any more."""
        self.client = None
        if self._leg is not None:
            self._leg.abandon()
