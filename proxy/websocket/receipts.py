"""What one side of a session was given, until nothing can be lost of it any more.

    sent --+--> batch --ping--> awaited --its Pong--> ponged --redeliver_window--> forgotten
           +--> unanswered --its reply--> forgotten

A Pong says that the backend has everything before its Ping. It may still lose what it has not processed, so such a
message is sent again when its connection is lost within `redeliver_window`. A reply says that it was processed.
"""

from __future__ import annotations

from collections import deque
from itertools import chain
from typing import Final

from mypy_extensions import mypyc_attr

from proxy.websocket.exchange import Exchange

MOST_KEPT: Final = 50_000
"""Messages of one connection that are kept because they may have to be sent again, some 200 bytes each."""


@mypyc_attr(acyclic=True)
class Batch:
    """Messages before one Ping. number: the Ping's; exchanges: those messages; at: when it was sent, then ponged."""

    __slots__ = ("at", "exchanges", "number")

    def __init__(self, number: int, exchanges: list[Exchange], at: float) -> None:
        self.number = number
        self.exchanges = exchanges
        self.at = at


class Receipts:
    """Of one connection after the other. Times: monotonic seconds."""

    __slots__ = ("_awaited", "_batch", "_kept", "_ponged", "_unanswered", "number")

    def __init__(self) -> None:
        self._batch: list[Exchange] = []
        """What this iteration writes."""
        self._awaited: deque[Batch] = deque()
        self._ponged: deque[Batch] = deque()
        self._kept = 0
        """Messages in them."""
        self._unanswered: dict[str, tuple[Exchange, float]] = {}
        """By the id of the reply, oldest first, with when it was sent."""
        self.number = 0
        """Of the last Ping."""

    def sent(self, exchange: Exchange) -> None:
        """A message whose receipt is a Pong."""
        self._batch.append(exchange)

    def sent_for_reply(self, exchange: Exchange, now: float) -> None:
        """A message whose receipt is its reply. No other one awaits a reply of that name."""
        self._unanswered[exchange.reply_id] = (exchange, now)

    def ping(self, now: float) -> int:
        """The number of the Ping that is to stand behind everything that is sent now; 0 when none is needed."""
        if not self._batch:
            return 0
        self.number += 1
        self._awaited.append(Batch(self.number, self._batch, now))
        self._batch = []
        return self.number

    def ponged(self, number: int) -> Batch | None:
        """The next messages of those that the backend has with everything before this Ping, taken out."""
        awaited = self._awaited
        return awaited.popleft() if awaited and awaited[0].number <= number else None

    def keep(self, batch: Batch, now: float) -> int:
        """Its messages were ponged now, and may have to be sent again. How many older ones there is no room for."""
        batch.at = now
        self._ponged.append(batch)
        self._kept += len(batch.exchanges)
        cut = 0
        while self._kept > MOST_KEPT:
            cut += self._forget_first()
        return cut

    def _forget_first(self) -> int:
        number = len(self._ponged.popleft().exchanges)
        self._kept -= number
        return number

    def replied(self, id: str, now: float) -> tuple[Exchange, float] | None:
        """The message that this reply is of, and the seconds that it took; None when none awaits it."""
        found = self._unanswered.pop(id, None)
        return None if found is None else (found[0], now - found[1])

    def forget(self, until: float) -> None:
        """What was ponged before then needs not be sent again, whatever happens."""
        ponged = self._ponged
        while ponged and ponged[0].at <= until:
            self._forget_first()

    def take_ponged(self) -> list[Exchange]:
        """What was ponged and might have been sent again, taken out."""
        found = [exchange for batch in self._ponged for exchange in batch.exchanges]
        self._ponged.clear()
        self._kept = 0
        return found

    def take_kept(self) -> list[Batch]:
        """The same by batch, each with when it was ponged."""
        found = [*self._ponged]
        self._ponged.clear()
        self._kept = 0
        return found

    def take_all(self) -> list[Exchange]:
        """Everything, taken out, in the order of their numbers."""
        found = self.on_its_way(0) + self.take_ponged()
        self._batch = []
        self._awaited.clear()
        self._ponged.clear()
        self._kept = 0
        self._unanswered = {}
        found.sort(key=_number)
        return found

    def take_unanswered(self, *, but: int) -> list[Exchange]:
        """What awaits its reply, taken out, oldest first. but: mask of a side; what was sent there again stays.

        So does what is behind something of its bucket that stays: it must not go before it.
        """
        others = [*self.on_its_way(0), *(exchange for batch in self._ponged for exchange in batch.exchanges)]
        staying = {each.bucket for each in others if each.reply_id not in self._unanswered or each.resent & but}
        found = [exchange for exchange, _ in self._unanswered.values() if exchange.bucket not in staying]
        for exchange in found:
            del self._unanswered[exchange.reply_id]
        return found

    def on_its_way(self, after: int) -> list[Exchange]:
        """What has a higher number than this, and no receipt."""
        n = after
        found = [exchange for exchange in self._batch if exchange.n > n]
        for batch in reversed(self._awaited):
            if batch.exchanges[-1].n <= n:
                break
            found += [exchange for exchange in batch.exchanges if exchange.n > n]
        for exchange, _ in reversed(self._unanswered.values()):
            if exchange.n <= n:
                break
            found.append(exchange)
        return found

    @property
    def is_awaiting(self) -> bool:
        """Is there anything without a receipt?"""
        return bool(self._awaited or self._unanswered)

    @property
    def is_still(self) -> bool:
        """Has everything that was sent its receipt?"""
        return not (self._batch or self._awaited or self._unanswered)

    def unanswered(self, heard_at: float) -> int:
        """How many messages the backend has said nothing to: no reply, or nothing at all since they were sent.

        heard_at: when it said something last. A Pong may take as long as something else comes, as for `is_late`.
        """
        n = len(self._unanswered)
        for batch in reversed(self._awaited):
            if batch.at < heard_at:
                break
            n += len(batch.exchanges)
        return n

    def is_late(self, now: float, heard_at: float, resumed_at: float, limit: float) -> bool:
        """Has a receipt not come in time? A Pong may take as long as something else comes, a reply may not.

        resumed_at: since when what the backend says is read
        """
        if self._awaited and now - max(self._awaited[0].at, heard_at) > limit:
            return True
        return bool(self._unanswered) and now - max(next(iter(self._unanswered.values()))[1], resumed_at) > limit

    def without_receipt(self) -> list[Exchange]:
        """What was sent, and of which the backend has not said that it has it."""
        found = [exchange for batch in self._awaited for exchange in batch.exchanges]
        return found + [exchange for exchange, _ in self._unanswered.values()]

    def __len__(self) -> int:
        """How many messages are not settled."""
        batches = sum(len(batch.exchanges) for batch in chain(self._awaited, self._ponged))
        return batches + len(self._batch) + len(self._unanswered)


def _number(exchange: Exchange) -> int:
    return exchange.n
