"""A lane: what one side of one route is owed, delivered per key in the order of acceptance.

    disk --load--> queues by key --next()--> in flight --> settled
                        |                        |
                        +-- stalls: keys that must wait: failing, parked at a worker, or for the authority

Only a window of the backlog is in memory. A stalled key holds no event in it: its events are dropped
from memory and read again from `Stall.low` on, so a failing key blocks only itself, as long as fewer
than `MOST_STALLS` keys fail or wait; past that nothing further is read. The lane decides; the replayer
reads, delivers and keeps the time.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from proxy.core.owed import DEAD, DISCARDED, PENDING, lets_follow
from proxy.ledger.book import Book
from proxy.ledger.gate import Gate, Timer
from proxy.ledger.reader import Chunk, Item

LOW_WATER: Final = 500
"""With fewer events queued than this, the next chunk is read."""

LOADED_BYTES: Final = 8 * 2**20
"""Bodies in memory, in bytes, from which on nothing further is read: one chunk more at most."""
MOST_STALLS: Final = 5000
"""Keys that wait, past which reading stops at the first event that would add one: about 2 MB, 0.3 ms a load."""
_PRUNE_AT: Final = 1000
"""Settled or released events remembered, past which those that the disk knows of are forgotten."""


class Stall:
    """Why a key waits. low: from where on its events must be read again when it waits no longer.

    parked: seqs that workers are still trying and that block what comes after them;
    head: seq of the event that failed or waits for its authority, 0 without one; needs_authority: which;
    failures: failed attempts in a row; counted: failing answers while others succeeded; seen: the gate's
    successes at the last failure; is_waiting: false while the head is tried again.
    """

    __slots__ = (
        "low", "parked", "head", "needs_authority", "failures", "counted", "seen", "is_waiting", "timer",
    )  # fmt: skip

    def __init__(self, low: int) -> None:
        self.low = low
        self.parked: set[int] = set()
        self.timer: Timer | None = None
        self.clear_head()

    def clear_head(self) -> None:
        """The head is out of the way."""
        self.head = 0
        self.needs_authority = False
        self.failures = 0
        self.counted = 0
        self.seen = -1
        self.is_waiting = False
        self.cancel()

    def cancel(self) -> None:
        """Forget the timer."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    @property
    def blocks(self) -> bool:
        """May nothing of the key be read?"""
        return bool(self.parked) or self.is_waiting


class Lane:
    """One route's side."""

    def __init__(self, route: str, side: int, gate: Gate, book: Book) -> None:
        self.route = route
        self.side = side
        self.gate = gate
        self.is_loading = False
        self.delivered_bytes = 0
        """Bodies that the backend has accepted."""
        self.stalls: dict[str, Stall] = {}
        self._book = book
        self._cursor = 0
        self._again_from: int | None = 0
        self._more = True
        self._queues: dict[str, deque[Item]] = {}
        self._ready: deque[str] = deque()
        self._busy: dict[str, Item] = {}
        self._loaded: dict[int, int] = {}
        """Events in memory, and the bytes of their bodies."""
        self._loaded_bytes = 0
        self._settled: dict[int, int] = {}
        self._released: dict[int, int] = {}
        self._tried: dict[int, tuple[int, int]] = {}
        """The group with which it is on disk how often an event was tried, and how often."""
        self._prune_at = _PRUNE_AT
        self._left: set[int] = set()
        self._reopened: dict[str, int] = {}
        """From where on what is being read of a key is stale: something before it may not be in this reading."""
        self._holds = 0
        self._is_stale = False

    # reading

    def wants_load(self) -> bool:
        """Is there room in memory and perhaps something to read?"""
        # With too many stalls only what is before the cursor is read: what they wait for may be there.
        more = self._more and len(self.stalls) < MOST_STALLS
        if self.is_loading or self._holds or not (more or self._again_from is not None):
            return False
        low = LOW_WATER if self.gate.is_open else 1
        return len(self._loaded) < low and self._loaded_bytes < LOADED_BYTES

    def begin_load(self) -> tuple[int, list[str]]:
        """Where to read from, and which keys to leave out."""
        self.is_loading = True
        self._left.clear()
        self._reopened.clear()
        self._prune()
        if self._again_from is not None:
            # The cursor goes back now: a key that stalls during the reading is read again from there.
            self._cursor = min(self._cursor, self._again_from)
        self._again_from = None
        self._more = False
        return self._cursor, [key for key, stall in self.stalls.items() if stall.blocks]

    def _prune(self) -> None:
        """What was settled in a group that is on disk by now will not be seen as pending again."""
        done = self._book.committed_number
        for memory in (self._settled, self._released):
            for seq in [seq for seq, group in memory.items() if group <= done and seq not in self._loaded]:
                del memory[seq]
        for seq in [seq for seq, (group, _) in self._tried.items() if group <= done]:
            del self._tried[seq]
        # Doubled, so that forgetting costs little per event also while nothing of it is durable yet.
        self._prune_at = max(_PRUNE_AT, 2 * self._remembered)

    @property
    def _remembered(self) -> int:
        return len(self._settled) + len(self._released) + len(self._tried)

    def _remember(self, memory: dict[int, int], seq: int) -> None:
        memory[seq] = self._book.group_number + 1
        self._bound_memory()

    def remember_tries(self, seq: int) -> None:
        """A reading that begins before that is on disk says less, also when the book has forgotten it since."""
        tries = self._book.tries(seq, self.side, 0)
        if tries:
            self._tried[seq] = (self._book.group_number + 1, tries)
            self._bound_memory()

    def _bound_memory(self) -> None:
        if not self.is_loading and self._remembered > self._prune_at:
            self._prune()

    def end_load(self, chunk: Chunk) -> list[tuple[Item, int]]:
        """Queue what was read; events that shall be settled without a delivery, and their state."""
        self.is_loading = False
        if self._is_stale:
            # Read before or while older rows became pending.
            self._is_stale = False
            self.read_again(self._cursor)
            return []
        self._cursor = chunk.next_seq
        self._more = self._more or chunk.more
        hopeless: list[tuple[Item, int]] = []
        for item in chunk.items:
            seq, key = item.seq, item.event.key
            if seq in self._tried:
                item.attempts = max(item.attempts, self._tried[seq][1])
            if (
                seq >= self._reopened.get(key, seq + 1)
                or seq in self._loaded
                or seq in self._settled
                or seq in self._left
                or self._book.is_settled(seq, self.side)
            ):
                continue
            stall = self.stalls.get(key)
            if stall is not None and (stall.blocks or seq > stall.head != 0):
                continue
            is_held = self._book.is_held(seq, self.side)
            if is_held and not self._book.is_parked(seq, self.side):
                # Held but not parked: nobody was promised an order yet, so it blocks nothing.
                continue
            state = PENDING if is_held else self._verdict(item)
            if state == PENDING and stall is None and len(self.stalls) >= MOST_STALLS:
                # It and what comes after it is read again when there is room.
                self._cursor, self._more = seq, True
                break
            if is_held:
                self._stall_of(key, seq).parked.add(seq)
            elif state == PENDING:
                stall = self._stall_of(key, seq)
                stall.head, stall.needs_authority, stall.is_waiting = seq, True, True
            elif state:
                hopeless.append((item, state))
            else:
                self._queue(key, item)
        return hopeless

    def _verdict(self, item: Item) -> int:
        """0: deliver it; PENDING: not before its authority's 2xx; another state: settle it so."""
        if not item.has_body:
            return DEAD
        event = item.event
        if not event.after_authority or event.authority == self.side:
            return 0
        if lets_follow(item.other_state, item.other_status) or item.seq in self._released:
            return 0
        return PENDING if item.other_state == PENDING else DISCARDED

    def _queue(self, key: str, item: Item) -> None:
        size = len(item.event.body)
        self._loaded[item.seq] = size
        self._loaded_bytes += size
        queue = self._queues.get(key)
        if queue is None:
            self._queues[key] = deque((item,))
            if key not in self._busy:
                self._ready.append(key)
            return
        queue.append(item)
        if len(queue) > 1 and queue[-2].seq > item.seq:
            self._sort(key, queue)

    def _sort(self, key: str, queue: deque[Item]) -> None:
        """Some of them came back to us while later ones were on their way."""
        self._queues[key] = deque(sorted(queue, key=lambda each: each.seq))

    # delivering

    def next(self) -> Item | None:
        """The next event to deliver; its key waits until `finish` or `put_back`."""
        while self._ready and not self._holds:
            key = self._ready.popleft()
            queue = self._queues.get(key)
            if queue is None or key in self._busy:
                continue
            item = queue.popleft()
            if not queue:
                del self._queues[key]
            if item.seq in self._settled:
                self._unload(item.seq)
                if queue:
                    self._ready.append(key)
                continue
            self._busy[key] = item
            return item
        return None

    def finish(self, item: Item) -> None:
        """It is settled: the next of its key may go."""
        key = item.event.key
        self._free(item)
        self._unload(item.seq)
        self.remember_settled(item.seq)
        if self.stalls:
            self._clear_head(key, item.seq)
        if key in self._queues:
            self._ready.append(key)

    def _unload(self, *seqs: int) -> None:
        """These are not in memory any more."""
        for seq in seqs:
            self._loaded_bytes -= self._loaded.pop(seq, 0)

    def _free(self, item: Item) -> None:
        """Its key may be delivered again; unless another of the key is in flight (this one never was)."""
        if self._busy.get(item.event.key) is item:
            del self._busy[item.event.key]

    def put_back(self, item: Item) -> None:
        """It was not its fault: first of its key again, but for what came back to us while it was in flight."""
        key = item.event.key
        self._free(item)
        stall = self.stalls.get(key)
        if stall is not None and stall.blocks:
            self._drop(key, stall, item.seq)
            return
        queue = self._queues.setdefault(key, deque())
        queue.appendleft(item)
        if len(queue) > 1 and queue[1].seq < item.seq:
            self._sort(key, queue)
        self._ready.append(key)

    def stall(self, item: Item) -> Stall:
        """It failed: its key waits, and what was read of it is dropped from memory."""
        key = item.event.key
        self._free(item)
        # One in the queue may be older: it came back to us while this one was in flight.
        dropped = [item.seq, *(each.seq for each in self._queues.pop(key, ()))]
        self._unload(*dropped)
        stall = self._stall_of(key, min(dropped))
        if stall.head != item.seq:
            stall.clear_head()
            stall.head = item.seq
        stall.is_waiting = True
        return stall

    def retry(self, key: str) -> None:
        """Its wait is over: read its first event again, and no other of the key yet."""
        stall = self.stalls.get(key)
        if stall is not None and stall.head and not stall.needs_authority and stall.is_waiting:
            stall.is_waiting = False
            stall.cancel()
            self.read_again(min(stall.low, stall.head))  # what came back to us meanwhile goes before it

    def retry_young(self) -> None:
        """The backend is back: keys that failed once or twice may have failed because of it."""
        for key, stall in list(self.stalls.items()):
            if stall.failures <= 2:
                self.retry(key)

    def _stall_of(self, key: str, seq: int) -> Stall:
        """The key's stall, which leaves out everything from `seq` or from where we read on."""
        low = min(seq, self._cursor, seq if self._again_from is None else self._again_from)
        stall = self.stalls.get(key)
        if stall is None:
            stall = self.stalls[key] = Stall(low)
        stall.low = min(stall.low, low)
        return stall

    def _clear_head(self, key: str, seq: int) -> None:
        stall = self.stalls.get(key)
        if stall is not None and stall.head == seq:
            stall.clear_head()
            self._review(key, stall)

    def _review(self, key: str, stall: Stall) -> None:
        """Something that was in the key's way is gone; is there anything left?"""
        if not stall.parked and not stall.head:
            del self.stalls[key]
            self.read_again(stall.low)
            if self.is_loading:
                # What is being read of the key comes after events that were passed by: those first.
                self._reopen(key, stall.low)
        elif not stall.blocks:
            self.read_again(min(stall.low, stall.head))

    def _reopen(self, key: str, seq: int) -> None:
        """What is being read of the key from `seq` on is passed by: it is read again from there."""
        self._reopened[key] = min(seq, self._reopened.get(key, seq))

    # older rows that become pending

    def hold(self) -> None:
        """Deliver nothing until `resume`: rows older than some that were read are about to become pending."""
        self._holds += 1

    def resume(self) -> None:
        """They are pending: forget what was read, so that everything is read again in its order."""
        self._holds -= 1
        if self._holds:
            return
        for key, queue in self._queues.items():
            dropped = [item.seq for item in queue]
            self._unload(*dropped)
            self._read_key_again(key, min(dropped))
        self._queues.clear()
        self._ready.clear()
        self._is_stale = self.is_loading

    def became_pending(self, seq: int) -> None:
        """Rows from `seq` on, of whatever keys, are pending now."""
        for stall in self.stalls.values():
            stall.low = min(stall.low, seq)
        self.read_again(seq)

    # news

    def read_again(self, seq: int) -> None:
        """Something before the cursor may be deliverable now."""
        self._again_from = seq if self._again_from is None else min(self._again_from, seq)

    def _read_key_again(self, key: str, seq: int) -> None:
        """So may an event of this key: it is read now, or when the key waits no longer."""
        stall = self.stalls.get(key)
        if stall is not None:
            stall.low = min(stall.low, seq)
        self.read_again(seq)

    def has_more(self) -> None:
        """Something after the cursor is on disk."""
        self._more = True

    def remember_settled(self, seq: int) -> None:
        """The disk will go on to say that it is pending until the next group is committed."""
        self._remember(self._settled, seq)

    def settled(self, seq: int, key: str) -> None:
        """Settled by somebody else. Of an entry the book itself remembers that it is settled."""
        if self.is_loading or seq in self._loaded:
            self.remember_settled(seq)
        self._unpark(key, seq)
        self._clear_head(key, seq)

    def released(self, seq: int, key: str) -> None:
        """Its authority has it."""
        self._remember(self._released, seq)
        stall = self.stalls.get(key)
        if stall is not None and stall.needs_authority:
            self._clear_head(key, seq)

    def handed(self, seq: int, key: str) -> None:
        """An event before the cursor is the ledger's now."""
        self.remember_tries(seq)
        self._read_key_again(key, seq)
        if self.is_loading:
            # It may be before what is being read, and what comes after it of its key in there: that waits for it.
            self._reopen(key, seq)
        self._unpark(key, seq)

    def parked(self, seq: int, key: str) -> None:
        """An event that its worker is still trying goes before all that are not read yet."""
        stall = self._stall_of(key, seq)
        stall.parked.add(seq)
        queue = self._queues.get(key)
        if queue and queue[-1].seq > seq:
            self._drop(key, stall)

    def _drop(self, key: str, stall: Stall, *seqs: int) -> None:
        """What is in memory of a key that waits is read again when it does not."""
        dropped = [*seqs, *(each.seq for each in self._queues.pop(key, ()))]
        self._unload(*dropped)
        stall.low = min(stall.low, *dropped)

    def _unpark(self, key: str, seq: int) -> None:
        stall = self.stalls.get(key)
        if stall is not None and seq in stall.parked:
            stall.parked.discard(seq)
            self._review(key, stall)

    def left(self, seq: int) -> None:
        """Settled on disk while a reading is under way that may still have seen it pending."""
        if self.is_loading:
            self._left.add(seq)

    def is_settled(self, item: Item) -> bool:
        """Was it settled by somebody else while it was in flight?"""
        return item.seq in self._settled

    def close(self) -> None:
        """No more retries."""
        for stall in self.stalls.values():
            stall.cancel()

    @property
    def queued(self) -> int:
        """Events in memory."""
        return len(self._loaded)
