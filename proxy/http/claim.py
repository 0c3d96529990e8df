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
from time import monotonic
from typing import TYPE_CHECKING

from proxy.core.dedupe import body_digest, fingerprint, id_digest
from proxy.http.arrival import Arrival
from proxy.http.budget import SMALL, TIMES_HELD, Charge

if TYPE_CHECKING:
    from proxy.http.downstream import Client
    from proxy.http.plane import DataPlane


class Claim:
    """One such request: a `Claimant`. n: the number that its event will have; until: when it gives up, monotonic."""

    __slots__ = ("_arrival", "_charge", "_client", "_n", "_plane", "until")

    def __init__(self, plane: DataPlane, client: Client, arrival: Arrival, until: float) -> None:
        self._plane = plane
        self._client: Client | None = client
        self._arrival = arrival
        self._n = plane.ledger.next_number()
        size = len(arrival.body)
        self._charge = Charge(plane.budget, TIMES_HELD * size) if size > SMALL else None
        """As of an event that is on its way, which it may be at any moment."""
        self.until = until

    def ask(self) -> None:
        """Ask with the end of this iteration."""
        arrival, plane = self._arrival, self._plane
        assert self._client is not None
        context = self._client.context(arrival.head)
        print_ = fingerprint(context[: context.index(b"\r\n")], body_digest(arrival.body))
        plane.ledger.claims.ask(self._n, arrival.route.name, id_digest(arrival.event_id), print_, self)
        plane.tick.schedule()

    def first(self) -> None:
        """Go on as any event."""
        client, plane = self._client, self._plane
        assert client is not None  # else it would not wait any more
        current = None
        if not plane.refuses_for_room(client, self._arrival.route):
            self._charge = None  # the event has its own
            client.since = monotonic()  # what happens to the event counts from now
            current = plane.admit(client, self._arrival, self._n, time.time_ns())
        if current is None:
            self._let_go()
        else:
            client.go_on_with(current)

    def done(self, status: int) -> None:
        """The first was accepted."""
        assert self._client is not None
        self._plane.count("duplicates_answered")
        self._arrival.route.count_answer(status)
        self._client.answer_duplicate(self._arrival.event_id, status)

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
        self._plane.refuse(self._client, status, detail, counter, retry_after, self._arrival.route)
