"""An event whose client gave it an id, on a route with a dedupe window, until it is known whether it is the first.

    begin --> Claim.ask --> ledger --> first     the event is made and launched as any other
                                   --> done      answered as the first was; no event, nothing recorded
                                   --> conflict  422
    nothing within the response timeout, or no ledger                503, try again

Nothing of the event exists before it is the first: no record, no turn, no choice of a side. So a twin that waited
and then takes over follows the weight of that moment.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from proxy.core.dedupe import body_digest, fingerprint, id_digest
from proxy.http.budget import charge
from proxy.http.head import RequestHead
from proxy.http.route import EventRoute

if TYPE_CHECKING:
    from proxy.http.downstream import Client
    from proxy.http.plane import DataPlane


Identity: TypeAlias = tuple[str, str, bool, bool]
"""An event's id and key, whether its client gave the id, and whether it had a key."""


class Named(NamedTuple):
    """A request of which id and key are known. text: the body of which they were read, decoded."""

    route: EventRoute
    head: RequestHead
    body: bytes
    text: bytes
    params: Mapping[str, str]
    identity: Identity


class Claim:
    """One such request: a `Claimant`. n: the number that its event will have; until: when it gives up, monotonic."""

    __slots__ = ("_charge", "_client", "_n", "_named", "_plane", "until")

    def __init__(self, plane: DataPlane, client: Client, named: Named, until: float) -> None:
        self._plane = plane
        self._client: Client | None = client
        self._named = named
        self._n = plane.ledger.next_number()
        self._charge = charge(plane.budget, len(named.body))
        self.until = until

    def ask(self) -> None:
        """Ask with the end of this iteration."""
        named, plane = self._named, self._plane
        assert self._client is not None
        context = self._client.context(named.head)
        print_ = fingerprint(context[: context.index(b"\r\n")], body_digest(named.body))
        plane.ledger.claims.ask(self._n, named.route.name, id_digest(named.identity[0]), print_, self)
        plane.tick.schedule()

    def first(self) -> None:
        """Go on as any event."""
        client, plane = self._client, self._plane
        assert client is not None  # else it would not wait any more
        current = None
        if not plane.refuses_for_room(client):
            route, head, body, text, params, identity = self._named
            client.since = monotonic()  # what happens to the event counts from now
            current = plane.admit(client, route, head, body, text, params, identity, self._n, time.time_ns())
        if current is None:
            self._let_go()
        else:
            client.go_on_with(current)

    def done(self, status: int) -> None:
        """The first was accepted."""
        assert self._client is not None
        self._plane.count("duplicates_answered")
        if status == 202:  # what the ledger says of all that is durable and has no answer
            status = self._named.route.settings.accepted_status
        self._client.answer_duplicate(self._named.identity[0], status)

    def conflict(self) -> None:
        """The id belongs to something else."""
        self._refuse(422, "this event id was used for another body, target or method", "refused_duplicate_conflict")

    def unsafe(self) -> None:
        """Nobody can say whether it is a twin."""
        self._refuse(503, "the ledger is not available", "refused_ledger_away", retry_after=1)

    def expired(self) -> None:
        """Its twin takes too long."""
        self._refuse(503, "an event with this id is still on its way", "duplicates_timed_out", retry_after=1)

    def client_gone(self) -> None:
        """Nobody waits for the answer, and nothing was sent."""
        self._client = None
        self._let_go()

    def _let_go(self) -> None:
        self._plane.ledger.claims.withdraw(self._n)
        self._plane.tick.schedule()

    def _refuse(self, status: int, detail: str, counter: str, retry_after: int = 0) -> None:
        assert self._client is not None
        self._plane.count(counter)
        self._client.answer_problem(status, detail, retry_after)
