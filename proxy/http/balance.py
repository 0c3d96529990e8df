"""Which endpoint gets the next leg: the least outstanding, by weight, among those that can be used.

Where all have equally much to do, turns go by weight: each endpoint's turns lie on a line, `1 / weight` apart, and
the first one on the line is next (virtual time, as in fair queueing: Demers, Keshav and Shenker 1989). So one event
at a time is spread as evenly as many. Nobody is further behind than one turn: who was away or busy does not get what
it missed.
"""

from __future__ import annotations

from collections.abc import Collection

from proxy.http.endpoint import Endpoint

ROOM, FULL, OUT = 0, 1, 2
"""Can take a leg now; has as many as it may; is not to be used, unless there is nothing else."""


class Balance:
    """Chooses among the endpoints of one backend. most: connections to each."""

    __slots__ = ("_most", "_now", "endpoints")

    def __init__(self, most: int) -> None:
        self._most = most
        self._now = 0.0
        """Where on the line the last turn was."""
        self.endpoints: list[Endpoint] = []

    def rank(self, endpoint: Endpoint, now: float) -> int:
        """ROOM, FULL or OUT."""
        if not endpoint.is_usable(now):
            return OUT
        return ROOM if endpoint.idle or endpoint.open < self._most else FULL

    def choose(self, now: float, without: Collection[Endpoint] = ()) -> Endpoint | None:
        """The best endpoint; None when there is none at all. `take` is to follow when it gets the leg."""
        best: Endpoint | None = None
        best_key = (0, 0, 0.0, 0.0)
        for endpoint in self.endpoints:
            if endpoint in without:
                continue
            rank = self.rank(endpoint, now)
            if rank == OUT:
                key = (OUT, 0, endpoint.out_until, 0.0)
            else:
                load = endpoint.outstanding / endpoint.weight
                # A full endpoint sends nobody to one of a worse priority, which is for when it cannot be used.
                key = (0, endpoint.address.priority, rank * 1e9 + load, self._turn(endpoint))
            if best is None or key < best_key:
                best, best_key = endpoint, key
        return best

    def take(self, endpoint: Endpoint, now: float, reset: float, *, is_for_load: bool = False) -> None:
        """The endpoint gets a leg. is_for_load: nobody hears how it ends, so that others need not wait for that."""
        endpoint.turn = self._turn(endpoint)
        self._now = max(self._now, endpoint.turn)
        if endpoint.row and endpoint.outs and not is_for_load:
            endpoint.trying(now, reset)

    def _turn(self, endpoint: Endpoint) -> float:
        """Where on the line its next turn is."""
        step = 1.0 / endpoint.weight
        return max(endpoint.turn, self._now - step) + step

    def is_any_usable(self, now: float) -> bool:
        """Is there an endpoint to be used?"""
        return any(endpoint.is_usable(now) for endpoint in self.endpoints)
