"""Hypothesis against the book, the store, the lanes and the gates: nothing is lost, nothing overtakes.

Two workers, one ledger and two backends live in one thread. The machine decides when a frame is sent,
when a commit begins and ends, when a chunk is read and seen, how a delivery ends, who dies, and what is
resent. In the end everything gets well, and then:

    each event is settled at each side it was owed to, and was delivered there if that is what the record says;
    an event that was answered before another of its key was accepted came to each side before it;
    the balance is what the rows say, and no mark is left.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from config.model import Ledger
from proxy.core.event import BOTH, PAUSE, RETRY, UNFIT, UNFIT_STATUS, UNREACHABLE, Event, Outcome
from proxy.core.event import DELIVERED as TAKEN
from proxy.core.event import REFUSED as TURNED_AWAY
from proxy.core.owed import DEAD, DELIVERED, DISCARDED, REFUSED, TRANSITIONS
from proxy.core.routing import Dials, Routing
from proxy.ledger.backlog import Backlog
from proxy.ledger.book import Book
from proxy.ledger.entry import Stream
from proxy.ledger.gate import Gate
from proxy.ledger.group import Group
from proxy.ledger.lane import Lane
from proxy.ledger.protocol import HANDED, PARKED
from proxy.ledger.reader import Chunk, Item, Reader
from proxy.ledger.replayer import Replayer, Side
from proxy.ledger.store import Store
from tests.ledger.support import ROUTE, Clock, FakeMarks, bucket, counted, event, frame, rows

KEYS = ("a", "b")
LEGAL = {(before, after) for (before, _), after in TRANSITIONS.items()}
SETTINGS = Ledger.model_validate({"dead_after": 3, "retry_initial": "10ms", "retry_max": "20ms"})
ANY_AGE = 10**18
"""Nanoseconds: however old it is, an event may be left for the next group."""
IN_FLIGHT, SETTLED, WAITING, GIVEN = "in flight", "settled", "parked", "given"


@dataclass
class Sent:
    """An event as its worker knows it. sides: what the worker thinks of each; said: frame of the last word on it."""

    event: Event
    worker: int
    sides: dict[int, str]
    said: int
    answered: bool = False
    before: list[str] = field(default_factory=list)
    """Ids of the events of the key that were answered when this one was accepted."""


@dataclass
class Worker:
    """One worker: frames are kept until durable; `unsent` are not even in the socket."""

    index: int
    life: int = 0
    numbers: int = 0
    frame: int = 0
    durable: int = 0
    events: list[Event] = field(default_factory=list)
    reports: list[tuple[int, int, int, int]] = field(default_factory=list)
    kept: list[tuple[int, list[Event], list[tuple[int, int, int, int]]]] = field(default_factory=list)
    live: dict[int, Sent] = field(default_factory=dict)
    stream: Stream | None = None

    @property
    def name(self) -> str:
        return f"w{self.index}-{self.life}"


class Timers:
    """Timers that fire when the machine says so."""

    def __init__(self) -> None:
        self.due: list[tuple[Any, Callable[[], None]]] = []

    def call_later(self, seconds: float, call: Callable[[], None]) -> Any:
        assert seconds > 0
        timer = _Timer(self)
        self.due.append((timer, call))
        return timer

    def fire(self, index: int) -> None:
        _, call = self.due.pop(index % len(self.due))
        call()


class _Timer:
    def __init__(self, timers: Timers) -> None:
        self._timers = timers

    def cancel(self) -> None:
        self._timers.due = [each for each in self._timers.due if each[0] is not self]


class SteppedReplayer(Replayer):
    """The replayer, whose readings and deliveries end when the machine says so."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reading: list[tuple[Lane, int, list[str], Chunk | None]] = []
        self.flying: list[tuple[Gate, int, Lane, Item]] = []
        self.check: Callable[[Lane, Item], None] = lambda lane, item: None

    def _load(self, lane: Lane) -> None:
        start, without = lane.begin_load()
        self.reading.append((lane, start, without, None))

    def _start(self, gate: Gate, trial: int, lane: Lane, item: Item) -> None:
        self.check(lane, item)
        self.flying.append((gate, trial, lane, item))

    def look(self, index: int) -> None:
        """The statement of a reading runs now; its result is not seen yet."""
        lane, start, without, chunk = self.reading[index]
        if chunk is None:
            chunk = self._reader.pending(lane.route, lane.side, start, without, 3, 10**6)
        self.reading[index] = (lane, start, without, chunk)

    def see(self, index: int) -> None:
        """The result of a reading is seen now."""
        self.look(index)
        lane, _, _, chunk = self.reading.pop(index)
        assert chunk is not None
        self._loaded(lane, chunk)

    def land(self, index: int, outcome: Outcome) -> None:
        """A delivery ends."""
        gate, trial, lane, item = self.flying.pop(index)
        gate.ended()
        self._took(lane, item, outcome, trial)
        self._pump(gate)


class LedgerMachine(RuleBasedStateMachine):
    """See the head of this file."""

    @initialize()
    def begin(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="cf-"))
        self.clock = Clock()
        self.workers = [Worker(0), Worker(1)]
        self.all: dict[str, Sent] = {}
        self.log: tuple[list[str], list[str]] = ([], [])
        self.refuses: set[tuple[int, str]] = set()
        self.unfit: set[tuple[int, str]] = set()
        self.answered: dict[str, list[str]] = {key: [] for key in KEYS}
        self.states: dict[tuple[str, int], int] = {}
        self.is_up = False
        self.group: Group | None = None
        self.is_written = False
        self.start_ledger()

    # the ledger's life

    def start_ledger(self) -> None:
        self.store = Store(self.directory / "ledger", SETTINGS, self.clock)
        self.marks = FakeMarks()
        self.backlog = Backlog({ROUTE: 0}, self.marks)
        self.timers = Timers()
        self.reader = Reader(lambda: self.store.segments)
        sides = [Side(ROUTE, 0, "old"), Side(ROUTE, 1, "new")]
        self.replayer = SteppedReplayer(sides, SETTINGS, None, self.reader, need=lambda: None, die=self.fail)
        self.book = Book(self.backlog, self.replayer, next_seq=self.store.next_seq)
        self.replayer.attach(self.book, self.timers.call_later)
        self.replayer.check = self.check_delivery
        for route, side, at, n in self.store.pending_by_bucket():
            self.backlog.enter(route, side, at, n)
        self.book.restore(self.store.streams(), self.store.last_stream_id, self.store.held_rows())
        self.book.turn(Routing(1, {ROUTE: Dials(100.0)}))  # at `complete` all that is deferred stays so
        self.book.granted.clear()
        self.is_up = True
        self.is_replaying = False
        self.on_hold: set[int] = set()
        for worker in self.workers:
            self.connect(worker)
        if len(self.all) % 2:
            self.begin_replay()

    def check_delivery(self, lane: Lane, item: Item) -> None:
        """May the ledger deliver this now?"""
        sent, side = self.all[item.event.id], lane.side
        alive = any(each is sent for worker in self.workers for each in worker.live.values())
        assert not alive or sent.sides.get(side) not in (IN_FLIGHT, WAITING), "its worker is on it"
        if item.event.after_authority and side != item.event.authority:
            authority, id = item.event.authority, item.event.id
            has_it = id in self.log[authority]
            assert has_it or (authority, id) in self.unfit, "the authority does not have it yet, and could be given it"

    def fail(self, why: str) -> None:
        raise AssertionError(why)

    def connect(self, worker: Worker) -> None:
        worker.stream = self.book.hello(worker.name, worker.index)
        self.made_durable(worker, worker.stream.durable)
        for number, events, reports in worker.kept:
            self.book.take_frame(worker.stream, frame(number, events, reports))

    @precondition(lambda self: self.is_up)
    @rule()
    def begin_replay(self) -> None:
        """The grace is over: streams that did not come back lose what they were on."""
        if not self.is_replaying:
            self.is_replaying = True
            names = {worker.name for worker in self.workers}
            for stream in list(self.book.streams.values()):
                if stream.name not in names:
                    self.book.hand_over(stream)
                    self.book.close(stream)
            self.replayer.start()

    @rule(really=st.integers(0, 3), arrives=st.lists(st.booleans(), max_size=8))
    def kill_ledger(self, really: int, arrives: list[bool]) -> None:
        """What is not committed is gone; deliveries in flight arrive or not."""
        if really:
            return
        for (_, _, lane, item), arrived in zip(self.replayer.flying, arrives, strict=False):
            if arrived and (lane.side, item.event.id) not in self.refuses:
                self.log[lane.side].append(item.event.id)
        self.group, self.is_written = None, False
        self.lose_what_only_the_dead_knew()
        self.unfit &= {(side, id) for id, *states in self.rows_on_disk() for side in (0, 1) if states[side] == DEAD}
        self.reader.close()
        self.store.close(clean=False)
        self.start_ledger()

    def lose_what_only_the_dead_knew(self) -> None:
        """Worker and ledger died together: a coverage gap. Nobody was promised that these are recorded."""
        alive = {id(sent) for worker in self.workers for sent in worker.live.values()}
        recorded = set(self.store_ids())
        for name, sent in list(self.all.items()):
            if id(sent) not in alive and name not in recorded:
                assert not sent.answered or set(sent.sides.values()) == {SETTLED}, "answered, and then lost"
                del self.all[name]

    # commits

    @precondition(lambda self: self.group is None)
    @rule()
    def commit(self) -> None:
        """A whole commit."""
        self.commit_all()

    @precondition(lambda self: self.group is not None)
    @rule()
    def end_of_a_commit(self) -> None:
        """What is left of one."""
        self.commit_all()

    @precondition(lambda self: self.group is None)
    @rule()
    def begin_commit(self) -> None:
        if self.book.has_changes():
            self.group, self.is_written = self.book.take(self.clock()), False

    @precondition(lambda self: self.group is None)
    @rule()
    def begin_commit_without_the_young(self) -> None:
        if self.book.has_changes():
            self.group, self.is_written = self.book.take(self.clock(), young_ns=ANY_AGE), False

    @precondition(lambda self: self.group is not None and not self.is_written)
    @rule()
    def write_commit(self) -> None:
        assert self.group is not None
        self.store.commit(self.group)
        self.is_written = True
        self.check_transitions()

    @precondition(lambda self: self.group is not None and self.is_written)
    @rule()
    def end_commit(self) -> None:
        assert self.group is not None
        group, self.group = self.group, None
        for stream in self.book.committed(group):
            for worker in self.workers:
                if worker.stream is stream:
                    self.made_durable(worker, stream.durable)

    @precondition(lambda self: self.group is None)
    @rule()
    def roll(self) -> None:
        if self.store.newest.last_seq - self.store.newest.first_seq >= 5:
            self.store.roll()

    def made_durable(self, worker: Worker, number: int) -> None:
        worker.durable = number
        worker.kept = [each for each in worker.kept if each[0] > number]
        for sent in worker.live.values():
            self.answer(worker, sent)

    def answer(self, worker: Worker, sent: Sent) -> None:
        """The rule of answers: no side in flight; what is not settled is durable."""
        if sent.answered or IN_FLIGHT in sent.sides.values():
            return
        if all(state == SETTLED for state in sent.sides.values()) or sent.said <= worker.durable:
            sent.answered = True
            self.answered[sent.event.key].append(sent.event.id)

    # workers

    @rule(
        index=st.integers(0, 1),
        key=st.sampled_from(KEYS),
        hand=st.sampled_from((0, 0, 0, 1, 2, 2, 3)),
        kind=st.sampled_from(("plain", "plain", "plain", "accepted", "deferred")),
        n=st.integers(1, 4),
        flush=st.booleans(),
        then=st.sampled_from(("nothing", "one side", "park", "both sides", "both sides")),
        commit=st.booleans(),
    )
    def accept_some(
        self, index: int, key: str, hand: int, kind: str, n: int, flush: bool, then: str, commit: bool
    ) -> None:
        """A worker accepts a few events of one key, one after another."""
        worker = self.workers[index]
        for _ in range(n):
            self.accept(index, key, hand, kind == "accepted", kind == "deferred")
            sent = worker.live[worker.numbers]
            if flush or then != "nothing":
                self.flush(index)
            for side in sorted(sent.sides)[: 1 if then == "one side" else 2]:
                if then != "nothing" and sent.sides[side] == IN_FLIGHT:
                    self.say(worker, sent, side, 6 if then == "park" and side else 0)
            if flush:
                self.flush(index)
            if commit:
                self.commit_all()

    def accept(self, index: int, key: str, hand: int, accepted: bool, deferred: bool) -> None:
        """A worker accepts an event; marks decide, as they do in a worker, what it must hand over."""
        worker = self.workers[index]
        worker.numbers += 1
        n, at = worker.numbers, bucket(key)
        if accepted:
            hand = BOTH
        for side in (0, 1):
            if (0, side, at) in self.marks.marked:
                hand |= 1 << side
        defer = 1 if deferred and not accepted else 0
        made = event(
            n, id=f"{worker.name}-{n}", key=key, authority=1 if defer else 0, handed=hand & ~defer, deferred=defer,
            after_authority=accepted, accepted_ns=self.clock(),
        )  # fmt: skip
        sides = {side: GIVEN if made.handed & (1 << side) else IN_FLIGHT for side in (0, 1) if not defer & (1 << side)}
        sent = Sent(made, index, sides, worker.frame + 1, before=list(self.answered[key]))
        worker.live[n] = self.all[made.id] = sent
        worker.events.append(made)
        self.clock.go(0.001)

    @rule(
        index=st.integers(0, 1), which=st.integers(0, 50), side=st.integers(0, 1), what=st.integers(0, 9),
        flush=st.booleans(),
    )  # fmt: skip
    def report_and_flush(self, index: int, which: int, side: int, what: int, flush: bool) -> None:
        """Something becomes known of one side of an event."""
        self.report(index, which, side, what)
        if flush:
            self.flush(index)

    def report(self, index: int, which: int, side: int, what: int) -> None:
        """Something becomes known of one side of an event whose frame was sent."""
        worker = self.workers[index]
        open_ones = [
            sent
            for sent in worker.live.values()
            if sent.sides.get(side) in (IN_FLIGHT, WAITING) and sent.event not in worker.events
        ]
        if not open_ones:
            return
        self.say(worker, open_ones[which % len(open_ones)], side, what)

    def say(self, worker: Worker, sent: Sent, side: int, what: int) -> None:
        """A worker reports. what: 0 to 4 delivered, 5 refused, 6 and 7 parked, else handed over."""
        n = sent.event.n
        if (side, sent.event.id) in self.refuses:
            what = 5
        elif sent.event.id in self.log[side] and what == 5:
            what = 0
        if what <= 4:
            self.log[side].append(sent.event.id)
            worker.reports.append((n, side, DELIVERED, 200))
            sent.sides[side] = SETTLED
        elif what == 5:
            worker.reports.append((n, side, REFUSED, 400))
            sent.sides[side] = SETTLED
            self.refuses.add((side, sent.event.id))
        elif what <= 7:
            worker.reports.append((n, side, PARKED, 0))
            sent.sides[side] = WAITING
        else:
            worker.reports.append((n, side, HANDED, 503))
            sent.sides[side] = GIVEN
        sent.said = worker.frame + 1
        self.answer(worker, sent)

    @rule(index=st.integers(0, 1))
    def flush(self, index: int) -> None:
        """A worker's iteration ends: its words are in the socket, and the ledger reads them."""
        worker = self.workers[index]
        if worker.events or worker.reports:
            worker.frame += 1
            worker.kept.append((worker.frame, worker.events, worker.reports))
            assert worker.stream is not None
            self.book.take_frame(worker.stream, frame(worker.frame, worker.events, worker.reports))
            worker.events, worker.reports = [], []

    @rule(really=st.integers(0, 3), index=st.integers(0, 1), grace=st.booleans())
    def kill_worker(self, really: int, index: int, grace: bool) -> None:
        """A worker dies: what it said is in the socket and read, the rest is gone; another life begins."""
        if really:
            return
        worker = self.workers[index]
        stream = worker.stream
        assert stream is not None
        said = {made.id for _, events, _ in worker.kept for made in events} | set(self.store_ids())
        for sent in [sent for sent in self.all.values() if sent.event in worker.events]:
            del self.all[sent.event.id]
            assert sent.event.id not in said
        self.book.lost(stream)
        if grace:
            # The ledger may die before the grace is over; then its successor does this.
            self.book.hand_over(stream)
            self.book.close(stream)
        self.workers[index] = young = Worker(index, worker.life + 1)
        self.connect(young)
        if not grace:
            self.is_replaying = False

    # readings, deliveries, timers

    @precondition(lambda self: self.is_up and self.replayer.reading)
    @rule(which=st.integers(0, 5), seen=st.booleans())
    def read(self, which: int, seen: bool) -> None:
        index = which % len(self.replayer.reading)
        if seen:
            self.replayer.see(index)
        else:
            self.replayer.look(index)

    @precondition(lambda self: self.is_up and self.replayer.reading)
    @rule()
    def read_all(self) -> None:
        """All readings end."""
        while self.replayer.reading:
            self.replayer.see(0)

    @precondition(lambda self: self.is_up and self.replayer.flying)
    @rule(which=st.integers(0, 50), what=st.integers(0, 10))
    def deliver(self, which: int, what: int) -> None:
        index = which % len(self.replayer.flying)
        outcomes = {
            5: Outcome(TURNED_AWAY, 422),
            6: Outcome(RETRY, 500),
            7: Outcome(RETRY, 429),
            8: Outcome(UNREACHABLE, 502, "refused"),
            9: Outcome(PAUSE, 401),
            10: Outcome(UNFIT, UNFIT_STATUS),
        }
        self.end_delivery(index, outcomes.get(what, Outcome(TAKEN, 200)))

    def end_delivery(self, index: int, outcome: Outcome) -> None:
        _, _, lane, item = self.replayer.flying[index]
        if outcome.kind in (TAKEN, TURNED_AWAY):
            # A backend that refused an event, or took it, says the same again.
            if (lane.side, item.event.id) in self.refuses:
                outcome = Outcome(TURNED_AWAY, 422)
            elif item.event.id in self.log[lane.side]:
                outcome = Outcome(TAKEN, 200)
        self.unfit.discard((lane.side, item.event.id))
        if outcome.kind == UNFIT and not lane.is_settled(item):
            self.unfit.add((lane.side, item.event.id))
        if outcome.kind == TAKEN:
            self.log[lane.side].append(item.event.id)
        elif outcome.kind == TURNED_AWAY:
            self.refuses.add((lane.side, item.event.id))
        self.replayer.land(index, outcome)

    @precondition(lambda self: self.is_up and self.timers.due)
    @rule(which=st.integers(0, 50))
    def fire_timer(self, which: int) -> None:
        self.timers.fire(which)

    @precondition(lambda self: self.is_up)
    @rule(side=st.integers(0, 1))
    def hold_or_resume(self, side: int) -> None:
        """Deliveries to a side wait, as they do while older rows become pending; or they go on."""
        if side in self.on_hold:
            self.resume(side)
        else:
            self.on_hold.add(side)
            self.replayer.hold(ROUTE, side)

    def resume(self, side: int) -> None:
        self.on_hold.discard(side)
        self.replayer.resume(ROUTE, side)

    # what must hold

    def store_ids(self) -> list[str]:
        return [id for segment in self.store.segments for (id,) in rows(segment.path, "SELECT id FROM receipt")]

    def check_transitions(self) -> None:
        """Every change on disk is in the table of transitions, perhaps over several steps."""
        for id, *states in self.rows_on_disk():
            for side, state in enumerate(states):
                before = self.states.get((id, side), state)
                assert state == before or (before, state) in LEGAL, (id, side, before, state)
                self.states[id, side] = state

    def rows_on_disk(self) -> list[Any]:
        """Events with their states at old and new."""
        text = "SELECT id, old_state, new_state FROM receipt"
        return [row for segment in self.store.segments for row in rows(segment.path, text)]

    @invariant()
    def the_balance_is_what_the_rows_say(self) -> None:
        if getattr(self, "is_up", False):
            assert self.store.balance() == counted(self.store)

    def teardown(self) -> None:
        if not getattr(self, "is_up", False):
            return
        try:
            self.get_well()
            self.judge()
        finally:
            self.reader.close()
            self.store.close()
            shutil.rmtree(self.directory)

    def commit_all(self) -> None:
        if self.group is not None:
            if not self.is_written:
                self.write_commit()
            self.end_commit()
        while self.book.has_changes():
            self.begin_commit()
            self.write_commit()
            self.end_commit()

    def get_well(self) -> None:
        """Workers say what they know of everything and end; backends take everything."""
        for worker in self.workers:
            self.flush(worker.index)
            for sent in worker.live.values():
                for side, state in list(sent.sides.items()):
                    if state in (IN_FLIGHT, WAITING):
                        self.say(worker, sent, side, 0)
            self.flush(worker.index)
            assert worker.stream is not None
            self.book.lost(worker.stream)
        for stream in list(self.book.streams.values()):
            self.book.hand_over(stream)
            self.book.close(stream)
        if not self.is_replaying:
            self.is_replaying = True
            self.replayer.start()
        for side in list(self.on_hold):
            self.resume(side)
        for _ in range(5000):
            self.commit_all()
            if self.replayer.reading:
                self.replayer.see(0)
            elif self.replayer.flying:
                self.end_delivery(0, Outcome(TAKEN, 200))
            elif self.timers.due:
                self.timers.fire(0)
            elif not self.book.has_changes():
                return
        raise AssertionError("it does not come to rest")

    def judge(self) -> None:
        final: dict[str, tuple[int, int]] = {}
        for segment in self.store.segments:
            for id, old, new in rows(segment.path, "SELECT id, old_state, new_state FROM receipt"):
                assert id not in final, "recorded twice"
                final[id] = (old, new)
        assert set(final) == set(self.all), "what was sent is what is recorded"
        for id, states in final.items():
            for side, state in enumerate(states):
                name = f"{id} at side {side} is {state}"
                assert state != 1, f"{name}: pending for ever"
                if state == DELIVERED:
                    assert id in self.log[side], f"{name}, but it never came there"
                if state == DISCARDED:
                    assert self.all[id].event.after_authority, name
                    assert (1 - side, id) not in self.unfit, f"{name}, and the authority could not be given it"
        for side in (0, 1):
            first: dict[str, int] = {}
            for at, id in enumerate(self.log[side]):
                first.setdefault(id, at)
            for id, sent in self.all.items():
                for earlier in sent.before:
                    if id in first and earlier in first:
                        assert first[earlier] < first[id], f"{id} overtook {earlier} at side {side}"
        assert not self.marks.marked
        assert not self.book.on_disk
        bodies = sum(len(rows(segment.path, "SELECT seq FROM body")) for segment in self.store.segments)
        kept = sum(1 for states in final.values() if {2, 5} & set(states))
        assert bodies == kept


TestLedgerMachine = pytest.mark.timeout(3600)(LedgerMachine.TestCase)  # the soak's full count takes minutes
