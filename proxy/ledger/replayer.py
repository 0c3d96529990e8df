"""The replayer: delivers what the ledger holds, side by side and key by key.

    book --handed, settled, released--> lanes --next()--> runners --deliver(event, attempt)--> backend
                                          ^                   |
                                          +--- chunks <--     +--> book.settle --> the next commit

A runner takes one event after another while there are any, so a delivery costs no task of its own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from config.model import Ledger
from proxy.core.event import DELIVERED as TAKEN
from proxy.core.event import DENIED, PAUSE, RETRY, UNFIT, UNREACHABLE, Attempt, Deliver, Outcome
from proxy.core.event import REFUSED as TURNED_AWAY
from proxy.core.owed import DEAD, DELIVERED, PENDING, REFUSED, lets_follow
from proxy.ledger.backoff import Backoff
from proxy.ledger.book import Book
from proxy.ledger.gate import CallLater, Gate
from proxy.ledger.lane import Lane
from proxy.ledger.reader import Chunk, Item, Reader

log = logging.getLogger(__name__)

CHUNK_ROWS: Final = 1000
CHUNK_BYTES: Final = 8 * 2**20
STOP_GRACE: Final = 2.0
"""Seconds that deliveries in flight get when the ledger stops; their outcome is unknown after that."""


_PASSING: Final = frozenset({408, 421, 425, 429})
"""Answers that ask us to come again: they never make a dead letter. Any other that settles nothing may be the event."""


class Side(NamedTuple):
    """One side of one configured route, and the backend that it is."""

    route: str
    side: int
    backend: str


class Replayer:
    """The book's observer. need: says that the book has something to commit; die: ends the process."""

    def __init__(
        self,
        sides: Iterable[Side],
        settings: Ledger,
        deliver: Deliver,
        reader: Reader,
        *,
        need: Callable[[], None],
        die: Callable[[str], None],
    ) -> None:
        self._sides = tuple(sides)
        self._settings = settings
        self._deliver = deliver
        self._reader = reader
        self._need = need
        self._die = die
        self._backoff = Backoff(settings.retry_initial, settings.retry_max)
        self._thread = ThreadPoolExecutor(1, "ledger-reader")
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._by_gate: dict[str, list[Lane]] = {}
        self._runners: set[asyncio.Task[None]] = set()
        self._is_running = False
        self.gates: dict[str, Gate] = {}
        self.counters: Counter[str] = Counter()

    def attach(self, book: Book, call_later: CallLater | None = None) -> None:
        """Make the lanes, on the book that they look into. call_later: the loop's, unless it is given."""
        self._book = book
        self._call_later = call_later or asyncio.get_running_loop().call_later
        for route, side, backend in self._sides:
            gate = self.gates.get(backend)
            if gate is None:
                concurrency = self._settings.replay_concurrency
                gate = self.gates[backend] = Gate(backend, concurrency, self._backoff, self._call_later, self._pump)
                self._by_gate[backend] = []
            lane = self._lanes[route, side] = Lane(route, side, gate, book)
            self._by_gate[backend].append(lane)

    def delivered_bytes(self, route: str, side: int) -> int:
        """Bodies that were delivered to a side since the start, bytes."""
        lane = self._lanes.get((route, side))
        return lane.delivered_bytes if lane is not None else 0

    def start(self) -> None:
        """Begin to deliver."""
        self._is_running = True
        for lane in self._lanes.values():
            self._kick(lane)

    # what the book says

    def has_more(self, route: str, side: int) -> None:
        """New rows are on disk."""
        lane = self._lanes.get((route, side))
        if lane is not None:
            lane.has_more()
            self._kick(lane)

    def handed(self, route: str, side: int, seq: int, key: str) -> None:
        """An old row is ours now."""
        lane = self._lanes.get((route, side))
        if lane is not None:
            lane.handed(seq, key)
            self._kick(lane)

    def parked(self, route: str, side: int, seq: int, key: str) -> None:
        """A row must be waited for."""
        lane = self._lanes.get((route, side))
        if lane is not None:
            lane.parked(seq, key)

    def settled(self, route: str, side: int, seq: int, key: str) -> None:
        """A row is settled."""
        lane = self._lanes.get((route, side))
        if lane is not None:
            lane.settled(seq, key)
            self._kick(lane)

    def released(self, route: str, side: int, seq: int, key: str) -> None:
        """A row's authority has it."""
        lane = self._lanes.get((route, side))
        if lane is not None:
            lane.released(seq, key)
            self._kick(lane)

    def is_reading(self) -> bool:
        """Is anything being read from disk?"""
        return any(lane.is_loading for lane in self._lanes.values())

    def left(self, route: str, side: int, seq: int) -> None:
        """A settled row leaves the book."""
        lane = self._lanes.get((route, side))
        if lane is not None:
            lane.left(seq)

    # what others say

    def read_again(self, route: str, side: int, seq: int) -> None:
        """Rows from `seq` on became pending."""
        lane = self._lanes.get((route, side))
        if lane is not None:
            lane.became_pending(seq)
            self._kick(lane)

    def hold(self, route: str, side: int) -> None:
        """Deliver nothing to this side until `resume`."""
        lane = self._lanes.get((route, side))
        if lane is not None:
            lane.hold()

    def resume(self, route: str, side: int) -> None:
        """Go on, with everything that is pending in its order."""
        lane = self._lanes.get((route, side))
        if lane is not None:
            lane.resume()
            self._kick(lane)

    def answered(self, route: str, side: int, n: int) -> None:
        """Live events got so many answers: the backend works, so what fails meanwhile fails by itself."""
        lane = self._lanes.get((route, side))
        if lane is not None:
            lane.gate.saw_live(n)

    def backend_is_healthy(self, backend: str) -> None:
        """A probe got an answer."""
        gate = self.gates.get(backend)
        if gate is not None:
            gate.try_now()

    def retry_all(self, route: str, side: int) -> None:
        """What made deliveries to this side fail is gone: wait for nothing any longer."""
        lane = self._lanes.get((route, side))
        if lane is not None:
            for key in list(lane.stalls):
                lane.retry(key)
            lane.gate.try_now()
            self._kick(lane)

    # reading and delivering

    def _kick(self, lane: Lane) -> None:
        """Something may have become possible in this lane."""
        if not self._is_running:
            return
        if lane.wants_load():
            self._load(lane)
        self._pump(lane.gate)

    def _load(self, lane: Lane) -> None:
        start, without = lane.begin_load()
        future = asyncio.get_running_loop().run_in_executor(
            self._thread, self._reader.pending, lane.route, lane.side, start, without, CHUNK_ROWS, CHUNK_BYTES
        )
        future.add_done_callback(lambda done: self._read(lane, done))

    def _read(self, lane: Lane, done: asyncio.Future[Chunk]) -> None:
        if done.cancelled() or not self._is_running:
            return
        error = done.exception()
        if error is not None:
            self._die(f"the ledger could not read what is pending: {error!r}")
            return
        self._loaded(lane, done.result())

    def _loaded(self, lane: Lane, chunk: Chunk) -> None:
        for item, state in lane.end_load(chunk):
            if not item.has_body:
                log.error("an event that is owed has no body: it is a dead letter", extra={"seq": item.seq})
                self.counters["bodies_missing"] += 1
            self._settle(lane, item, state, Outcome(UNREACHABLE, 0))
        self._kick(lane)

    def _pump(self, gate: Gate) -> None:
        """Start runners while there is something for them to do."""
        while gate.may_start() and self._is_running:
            found = self._next(gate)
            if found is None:
                return
            self._start(gate, gate.started(), *found)

    def _start(self, gate: Gate, trial: int, lane: Lane, item: Item) -> None:
        task = asyncio.create_task(self._run(gate, trial, lane, item), name=f"replay to {gate.backend}")
        self._runners.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._runners.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("the replayer failed", exc_info=task.exception())
            self._die(f"the replayer failed: {task.exception()!r}")

    def _next(self, gate: Gate) -> tuple[Lane, Item] | None:
        lanes = self._by_gate[gate.backend]
        for _ in range(len(lanes)):
            # In turn, so that one route's backlog does not hold up another's.
            lane = lanes.pop(0)
            lanes.append(lane)
            if lane.wants_load():
                self._load(lane)
            item = lane.next()
            if item is not None:
                return lane, item
        return None

    async def _run(self, gate: Gate, trial: int, lane: Lane, item: Item) -> None:
        """Deliver one event after another while there are any. trial: the first one's, see `Gate.started`."""
        while True:
            outcome = await self._attempt(lane, item)
            gate.ended()
            self._took(lane, item, outcome, trial)
            found = self._next(gate) if gate.may_start() and self._is_running else None
            if found is None:
                return
            lane, item = found
            trial = gate.started()

    async def _attempt(self, lane: Lane, item: Item) -> Outcome:
        try:
            item.attempts = self._book.tries(item.seq, lane.side, item.attempts)
            return await self._deliver(item.event, Attempt(lane.side, "replay", item.attempts + 1, item.seq))
        except Exception as error:
            log.exception("the transport failed to deliver", extra={"seq": item.seq})
            self.counters["deliver_bugs"] += 1
            return Outcome(RETRY, 0, repr(error))

    def _took(self, lane: Lane, item: Item, outcome: Outcome, trial: int) -> None:
        """One attempt showed something."""
        gate = lane.gate
        kind = outcome.kind
        if log.isEnabledFor(logging.DEBUG):
            said = {"id": item.event.id, "route": lane.route, "backend": gate.backend}
            log.debug("tried to deliver", extra={**said, "status": outcome.status, "reason": outcome.reason})
        self._feed_gate(gate, item, outcome, trial)
        if lane.is_settled(item):
            self.counters["delivered_twice"] += kind == TAKEN
            lane.finish(item)
        elif kind == TAKEN:
            self.counters["replayed"] += 1
            lane.delivered_bytes += len(item.event.body)
            self._settle(lane, item, DELIVERED, outcome)
        elif kind == TURNED_AWAY:
            # Of what was accepted for the authority first, somebody was told 202: a person must see it.
            is_first = item.event.after_authority and item.event.authority == lane.side
            self._settle(lane, item, DEAD if is_first else REFUSED, outcome)
        elif kind == UNFIT:
            log.error(
                "an event is a dead letter: what its backend takes cannot be made of it",
                extra={"id": item.event.id, "backend": gate.backend, "reason": outcome.reason},
            )
            self.counters["unfit"] += 1
            self._settle(lane, item, DEAD, outcome)
        elif kind in (PAUSE, UNREACHABLE):
            self._put_back(lane, item, outcome)
            self.counters["paused" if kind == PAUSE else "unreachable"] += 1
        else:
            self._failed(lane, item, outcome)
        self._kick(lane)

    def _put_back(self, lane: Lane, item: Item, outcome: Outcome) -> None:
        """It was not its fault, and costs no attempt; but what went out on a connection that was lost was one."""
        if outcome.lost:
            item.attempts += outcome.lost
            self._stays(lane, item, outcome.status, item.attempts)
        lane.put_back(item)

    def _stays(self, lane: Lane, item: Item, status: int, attempts: int) -> None:
        """It is still pending, and was tried as often."""
        self._book.settle(item.seq, lane.route, lane.side, item.event.bucket, PENDING, status, attempts)
        lane.remember_tries(item.seq)
        self._need()

    def _feed_gate(self, gate: Gate, item: Item, outcome: Outcome, trial: int) -> None:
        """What it showed of the backend counts even when the event was settled by somebody else meanwhile."""
        was_open = gate.is_open
        kind = outcome.kind
        if kind in (TAKEN, TURNED_AWAY):
            gate.succeeded()
        elif kind == PAUSE:
            gate.pause(f"status {outcome.status}", shown=True)
        elif kind == UNREACHABLE:
            gate.pause(outcome.reason or "unreachable", shown=False)
        elif kind in (DENIED, UNFIT) or outcome.is_echo:
            gate.told_nothing(trial)
        else:
            gate.failed(item.seq, time.monotonic())
        if gate.is_open and not was_open:
            for each in self._by_gate[gate.backend]:
                each.retry_young()
                self._kick(each)

    def _settle(self, lane: Lane, item: Item, state: int, outcome: Outcome) -> None:
        event, status = item.event, outcome.status
        attempts = item.attempts + outcome.tries
        self._book.settle(item.seq, lane.route, lane.side, event.bucket, state, status, attempts)
        lane.finish(item)
        self._need()
        if not event.after_authority or event.authority != lane.side:
            return
        other = self._lanes[lane.route, 1 - lane.side]
        if lets_follow(state, status):
            other.released(item.seq, event.key)
        elif event.owed & (1 << other.side) and item.other_state == PENDING:
            # Refused by the authority: refused at the other side. Given up: a person decides about both.
            state = REFUSED if 0 < status < 500 else DEAD
            if self._book.settle(item.seq, lane.route, other.side, event.bucket, state, 0, 0):
                other.remember_settled(item.seq)
                other.settled(item.seq, event.key)
        self._kick(other)

    def _failed(self, lane: Lane, item: Item, outcome: Outcome) -> None:
        """It was this event that failed, as far as we know: its key waits, and others go on."""
        gate = lane.gate
        self.counters["retries"] += 1
        stall = lane.stall(item)
        stall.failures += 1
        is_answer = outcome.status and outcome.status not in _PASSING and not outcome.reason
        if (is_answer or outcome.is_own) and gate.successes > stall.seen:
            # The backend answered so (a reason would be ours: a timeout, a reset), and others succeeded since
            # its last failure or it is its first: it may well be the event.
            stall.counted += 1
            stall.seen = gate.successes
        if stall.counted >= self._settings.dead_after:
            log.error(
                "an event is a dead letter: it failed again and again while others succeeded",
                extra={"id": item.event.id, "backend": gate.backend, "status": outcome.status},
            )
            self.counters["gave_up"] += 1
            self._settle(lane, item, DEAD, outcome)
        else:
            key = item.event.key
            self._stays(lane, item, outcome.status, item.attempts + outcome.tries)
            wait = self._backoff.delay(stall.failures)
            stall.timer = self._call_later(wait, lambda: self._retry(lane, key))

    def _retry(self, lane: Lane, key: str) -> None:
        lane.retry(key)
        self._kick(lane)

    async def rest(self) -> None:
        """Begin no delivery any more: those in flight get a moment, then their outcome is unknown: they are pending.

        The book may go on taking what workers say.
        """
        self._is_running = False
        for gate in self.gates.values():
            gate.close()
        for lane in self._lanes.values():
            lane.close()
        if self._runners:
            _, late = await asyncio.wait(self._runners, timeout=STOP_GRACE)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def close(self) -> None:
        """Stop for good."""
        await self.rest()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._reader.close)
        self._thread.shutdown()
