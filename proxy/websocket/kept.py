"""What backends got on connections that are another worker's now, until they cannot lose it any more.

    Session.depart --> Kept --redeliver_window--> DELIVERED
                         +-- the other worker loses the connection, or dies --> HANDED: the ledger delivers it again

The records of these messages are in the stream of the worker that has sent them, and nobody else can say anything of
them. So it keeps them, and the worker that has the connection says what becomes of that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from proxy.core.owed import DELIVERED
from proxy.http.tick import Tick
from proxy.ledger.client import LedgerClient
from proxy.ledger.protocol import HANDED, UNANSWERED
from proxy.websocket.receipts import Batch
from proxy.websocket.upstream import Elsewhere, Left


@dataclass
class _Lot:
    """Of one connection. until: monotonic seconds; elsewhere: who had it before us, and keeps what was sent then."""

    batches: deque[Batch]
    window: float
    until: float
    elsewhere: Elsewhere | None


class Kept:
    """Of one worker. count: called with a counter's name and how much more it is."""

    def __init__(self, ledger: LedgerClient, tick: Tick, count: Callable[[str, int], None]) -> None:
        self._ledger = ledger
        self._tick = tick
        self._count = count
        self._lots: dict[tuple[int, int], _Lot] = {}
        """By the number under which a session left, and the side."""

    def keep(self, number: int, side: int, left: Left, window: float, now: float) -> None:
        """A connection has left. window: seconds in which what a backend has may have to be sent again."""
        if left.batches or left.elsewhere is not None:
            until = now + window if left.elsewhere is not None else left.batches[-1].at + window
            self._lots[number, side] = _Lot(deque(left.batches), window, until, left.elsewhere)

    @property
    def is_empty(self) -> bool:
        """Is there nothing that could be lost any more?"""
        return not self._lots

    def lost(self, number: int, side: int) -> None:
        """The other worker has lost the connection."""
        lot = self._lots.pop((number, side), None)
        if lot is None:
            return
        if lot.elsewhere is not None:
            lot.elsewhere.lost()
        for n in _numbers(lot.batches):
            self._ledger.report(n, side, HANDED, UNANSWERED)
            self._count("handed", 1)
        self._tick.schedule()

    def all_lost(self) -> None:
        """The other worker is gone, and all connections with it."""
        for number, side in sorted(self._lots):
            self.lost(number, side)

    def settled(self, number: int, side: int) -> None:
        """The backend has read everything."""
        lot = self._lots.pop((number, side), None)
        if lot is not None:
            if lot.elsewhere is not None:
                lot.elsewhere.settled()
            self._settle(lot, side, float("inf"))

    def forget(self, now: float) -> None:
        """What was kept for long enough is delivered for good."""
        for (number, side), lot in tuple(self._lots.items()):
            self._settle(lot, side, now)
            if lot.until <= now:
                del self._lots[number, side]

    def _settle(self, lot: _Lot, side: int, now: float) -> None:
        """Said, for the ledger has its own clock: if we were gone before it is over there, it would deliver it."""
        while lot.batches and lot.batches[0].at + lot.window <= now:
            for n in _numbers([lot.batches.popleft()]):
                self._ledger.report(n, side, DELIVERED, 0)
            self._tick.schedule()


def _numbers(batches: list[Batch] | deque[Batch]) -> list[int]:
    return sorted(exchange.n for batch in batches for exchange in batch.exchanges)
