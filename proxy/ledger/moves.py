"""Changes of state that are not an outcome of a delivery: carry-over, requeue, discard, replay of what was had.

    carry over      deferred  -> pending     buckets that are old's again, or all with durable copy
    requeue         dead      -> pending     a person; what was refused unsent with its authority's goes with it
    discard         dead      -> discarded   a person
    replay          delivered -> pending     a person: a restored backend lacks it
    release         deferred  -> released    past `carry_over_for` (the store does that by itself)

All go in chunks: find candidates in the reading thread, set marks, change them in the writing thread in
one bounded transaction, take back the marks of those that were not in that state any more.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

from proxy.core.event import OLD
from proxy.core.owed import DEAD, DEFERRED, DELIVERED, DISCARDED, PENDING
from proxy.ledger.backlog import Backlog
from proxy.ledger.book import Book
from proxy.ledger.carry import Due
from proxy.ledger.committer import Committer
from proxy.ledger.reader import Reader
from proxy.ledger.store import Moved, Store

log = logging.getLogger(__name__)

CHUNK: Final = 500
"""Events moved in one transaction."""


class Rereader(Protocol):
    """The replayer."""

    def read_again(self, route: str, side: int, seq: int) -> None:
        """Rows from `seq` on became pending."""


class Moves:
    """One move at a time, each to its end. reader: its own, used in `thread` alone."""

    def __init__(
        self,
        store: Store,
        book: Book,
        committer: Committer,
        backlog: Backlog,
        reader: Reader,
        thread: ThreadPoolExecutor,
        replayer: Rereader,
    ) -> None:
        self._store = store
        self._book = book
        self._committer = committer
        self._backlog = backlog
        self._reader = reader
        self._thread = thread
        self._replayer = replayer
        self._lock = asyncio.Lock()
        self.counters: Counter[str] = Counter()

    async def carry_over(self, due: Due, before_seq: int, is_known: Callable[[int], bool]) -> int:
        """Make deferred rows below `before_seq` pending, oldest first; how many. The buckets are marked already.

        is_known: whether the book has the event, and with it the task to change its row.
        """
        loop = asyncio.get_running_loop()
        total = from_seq = 0
        while True:
            reading = (due.route, due.from_bucket, from_seq, before_seq, CHUNK)
            found = await loop.run_in_executor(self._thread, self._reader.deferred, *reading)
            chosen = [row for row in found if not is_known(row[0])]
            if chosen:
                total += await self._move_chunk(OLD, DEFERRED, PENDING, chosen)
            if len(found) < CHUNK:
                break
            from_seq = found[-1][0] + 1
        self.counters["carried_over"] += total
        return total

    async def requeue(self, ids: list[str] | None, side: int | None, route: str | None) -> int:
        """Dead letters become pending again; how many sides of events. ids None: all."""
        return await self._each_side(DEAD, PENDING, ids, side, route, "requeued")

    async def discard(self, ids: list[str] | None, side: int | None, route: str | None) -> int:
        """Dead letters are given up; how many sides of events. ids None: all."""
        return await self._each_side(DEAD, DISCARDED, ids, side, route, "discarded")

    async def replay(self, since_ns: int, side: int, route: str | None) -> tuple[int, int]:
        """What a side had got since then is delivered to it again; how many events, and how many have no body."""
        moved, bare = await self._move(side, DELIVERED, PENDING, route=route, since_ns=since_ns, need_body=True)
        self.counters["replayed_by_hand"] += moved
        return moved, bare

    async def _each_side(
        self, before: int, after: int, ids: list[str] | None, side: int | None, route: str | None, name: str
    ) -> int:
        total = 0
        for each in (0, 1) if side is None else (side,):
            moved, _ = await self._move(each, before, after, route=route, ids=ids, both=side is None)
            total += moved
        self.counters[name] += total
        return total

    async def _move(
        self,
        side: int,
        before: int,
        after: int,
        *,
        route: str | None,
        since_ns: int = 0,
        ids: list[str] | None = None,
        need_body: bool = False,
        both: bool = False,
    ) -> tuple[int, int]:
        """How many were moved, and how many were left because they have no body."""
        loop = asyncio.get_running_loop()
        moved = bare = from_seq = 0
        async with self._lock:
            # What becomes pending again while this runs is not looked at a second time: seqs only go up.
            while True:
                found = await loop.run_in_executor(
                    self._thread, self._find(side, before, route, since_ns, from_seq, ids)
                )
                chosen = [row for row in found if row[3] or not need_body]
                bare += len(found) - len(chosen)
                if chosen:
                    moved += await self._move_chunk(side, before, after, chosen, both=both)
                if len(found) < CHUNK:
                    return moved, bare
                from_seq = found[-1][0] + 1

    def _find(
        self, side: int, state: int, route: str | None, since_ns: int, from_seq: int, ids: list[str] | None
    ) -> Callable[[], list[tuple[int, str, int, bool]]]:
        return lambda: self._reader.candidates(
            side, state, route=route, since_ns=since_ns, from_seq=from_seq, ids=ids, rows=CHUNK
        )

    async def _move_chunk(
        self, side: int, before: int, after: int, rows: Iterable[tuple[int, str, int, bool]], *, both: bool = False
    ) -> int:
        """both: the other side is moved in the same way, so authorities' dead letters take their partners along."""
        rows = [row for row in rows if self._book.may_move(row[0], side, before)]
        sides = (side, 1 - side) if (before, after) == (DEAD, PENDING) else (side,) if after == PENDING else ()
        for each in sides:
            for _, route, bucket, _ in rows:
                self._backlog.enter(route, each, bucket)
        done = Moved([], [], with_partners=both)
        await self._committer.write(self._store.move, side, [row[0] for row in rows], before, after, done)
        moved = {side: set(done.seqs), 1 - side: set(done.partners)}
        for each, seqs in moved.items():
            for seq in seqs:
                self._book.moved(seq, each, after)
        for each in sides:
            self._tell(each, rows, moved[each])
        return len(done.seqs) + len(done.partners)

    def _tell(self, side: int, rows: list[tuple[int, str, int, bool]], moved: set[int]) -> None:
        """Take back the marks of rows that were not made pending, and have the others read."""
        first: dict[str, int] = {}
        for seq, route, bucket, _ in rows:
            if seq in moved:
                first.setdefault(route, seq)
            else:
                self._backlog.leave(route, side, bucket)
        for route, seq in first.items():
            self._replayer.read_again(route, side, seq)
