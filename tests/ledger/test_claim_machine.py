"""Hypothesis against claims: workers, their ledger and its record, in one thread, in any order of things.

The machine decides what clients offer, when a worker sends, when verdicts arrive, how events end, when a commit
happens and who dies. Whatever it does:

    an event goes out only when every other one of its id that is remembered was refused or has failed;
    a twin is told DONE only when an event of its id and content was accepted, or is in the ledger's hands;
    in the end nobody waits, and nothing is in flight.

Remembered is what a living process knows, or the disk: only what a worker had sent and the ledger had not on disk when
both died may come twice.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from proxy.core.dedupe import id_digest
from proxy.core.event import Event
from proxy.core.owed import DELIVERED, DISCARDED, REFUSED
from proxy.ledger.arbiter import Arbiter, Policy
from proxy.ledger.claims import ClaimBook
from proxy.ledger.entry import Stream
from proxy.ledger.framing import pack
from proxy.ledger.protocol import HANDED, PARKED, Claims, Frame, LedgerFrame, Report, to_ledger
from proxy.ledger.recall import Recall, in_flight
from proxy.ledger.remembered import Remembered
from tests.conftest import SOAK
from tests.ledger.support import ROUTE, Desk, content, event

ENDS: dict[str, tuple[list[tuple[int, int, int]], int]] = {
    "accepted": ([(0, DELIVERED, 201), (1, DELIVERED, 200)], 201),
    "copy handed": ([(0, DELIVERED, 201), (1, HANDED, 503)], 201),
    "handed": ([(0, HANDED, 503), (1, DELIVERED, 200)], 202),
    "refused": ([(0, REFUSED, 422), (1, DISCARDED, 0)], 422),
    "failed": ([(0, DISCARDED, 504), (1, DISCARDED, 504)], 504),
    "parked": ([(0, DELIVERED, 201), (1, PARKED, 0)], 201),
    "refused early": ([(0, REFUSED, 422)], 422),
}
COPY_IS_OUT = ("parked", "refused early")
CONTENTS = st.sampled_from([b"x", b"x", b"x", b"y"])
FREE = ("refused", "failed", "refused early")


@dataclass
class Offer:
    """One request of a client: a `Claimant`. state: waiting, flying, one of ENDS, done, conflict or left."""

    machine: ClaimMachine
    worker: Worker
    n: int
    id: str
    body: bytes
    until: float = math.inf
    state: str = "waiting"
    frame: int = 0
    """The frame that has the event."""
    is_forgotten: bool = False
    is_doubted: bool = False
    """Its client was told 503, although it goes on."""
    has_copy: bool = False
    """The end of its copy is known, too."""

    @property
    def is_out(self) -> bool:
        """It was sent, or will be."""
        return self.frame > 0 or (self.state == "flying" and not self.worker.is_dead)

    def first(self) -> None:
        others = [each for each in self.machine.same(self.id) if each is not self and not each.is_forgotten]
        assert not [each for each in others if each.is_out and each.state not in FREE], others
        self.state = "flying"
        now = self.machine.desk.clock()
        made = event(self.n, id=self.id, key=self.id, body=self.body, client_id=True, accepted_ns=now)
        self.worker.events.append(made)

    def done(self, status: int) -> None:
        self.state = "done"
        same = [each for each in self.machine.same(self.id) if each.frame and each.body == self.body]
        assert [each for each in same if each.state not in FREE or each.worker.is_dead], "nobody was accepted"
        assert status in (201, 202)

    def conflict(self) -> None:
        self.state = "conflict"
        assert [each for each in self.machine.same(self.id) if each.body != self.body]

    def unsafe(self) -> None:
        raise AssertionError("nobody said so")

    def expired(self) -> None:
        raise AssertionError("nothing expires here")


@dataclass
class Worker:
    """One life of a worker. kept: frames, by number, that are not durable."""

    name: str
    claims: ClaimBook = field(default_factory=ClaimBook)
    events: list[Event] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    answers: list[tuple[int, int]] = field(default_factory=list)
    kept: dict[int, bytes] = field(default_factory=dict)
    frame: int = 0
    numbers: int = 0
    stream: Stream | None = None
    is_dead: bool = False


class ClaimMachine(RuleBasedStateMachine):
    """Two workers, one ledger."""

    @initialize()
    def start(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="cf-"))
        self.desk = Desk(self.directory / "ledger")
        self.offers: list[Offer] = []
        self.lives = 2
        self.workers = [Worker("w0"), Worker("w1")]
        self.dead: list[Worker] = []
        self.begin()
        self.connect(0)
        self.connect(1)
        self.release()

    def begin(self) -> None:
        """A ledger begins on what is on disk."""
        remembered = Remembered(10**6, 1000)
        self.arbiter = Arbiter({ROUTE: Policy("authority", 202, remembered)})
        self.desk.book.arbiter = self.arbiter
        self.desk.book.restore_claims(self.arbiter, in_flight(self.desk.store.segments, self.arbiter.routes))
        self.awaited = [stream for stream in self.desk.book.streams.values() if not stream.closed]
        self.is_released = False

    def same(self, id: str) -> list[Offer]:
        return [each for each in self.offers if each.id == id]

    def pick(self, state: str, index: int) -> Offer | None:
        found = [each for each in self.offers if each.state == state and not each.worker.is_dead]
        return found[index % len(found)] if found else None

    # clients and workers

    @rule(offers=st.lists(st.tuples(st.integers(0, 1), st.sampled_from("aab"), CONTENTS), min_size=1, max_size=4))
    def offer(self, offers: list[tuple[int, str, bytes]]) -> None:
        for worker, id, body in offers:
            one = self.workers[worker]
            one.numbers += 1
            made = Offer(self, one, one.numbers, id, body)
            self.offers.append(made)
            one.claims.ask(made.n, ROUTE, id_digest(id), content(body), made)

    @rule(index=st.integers(0, 99))
    def leave(self, index: int) -> None:
        made = self.pick("waiting", index)
        if made is not None:
            made.state = "left"
            made.worker.claims.withdraw(made.n)

    @rule(index=st.integers(0, 99), how=st.sampled_from(["accepted", "accepted", *ENDS]))
    def end(self, index: int, how: str) -> None:
        made = self.pick("flying", index)
        if made is None:
            return
        reports, status = ENDS[how]
        made.state = how
        made.worker.reports += [(made.n, *each) for each in reports]
        if not made.is_doubted:
            self.answer(made, status)

    @rule(index=st.integers(0, 99), code=st.sampled_from([DELIVERED, REFUSED, HANDED]))
    def end_copy(self, index: int, code: int) -> None:
        found = [each for each in self.offers if each.state in COPY_IS_OUT and not each.has_copy]
        alive = [each for each in found if not each.worker.is_dead]
        if alive:
            made = alive[index % len(alive)]
            made.has_copy = True
            made.worker.reports.append((made.n, 1, code, 0))

    @rule(index=st.integers(0, 99))
    def doubt(self, index: int) -> None:
        made = self.pick("flying", index)
        if made is not None and not made.is_doubted:
            made.is_doubted = True
            self.answer(made, 503)

    def answer(self, made: Offer, status: int) -> None:
        made.worker.answers.append((made.n, status))
        made.worker.claims.answered(made.n)

    @rule(worker=st.integers(0, 1))
    def flush(self, worker: int) -> None:
        """Records leave, or are kept; then events go out."""
        one = self.workers[worker]
        if one.events or one.reports or one.answers:
            one.frame += 1
            frame = Frame(one.frame, False, one.events, one.reports, [], one.answers)
            one.kept[one.frame] = pack(frame)[4:]
            for each in one.events:
                (made,) = [offer for offer in self.offers if offer.worker is one and offer.n == each.n]
                made.frame = one.frame
            one.events, one.reports, one.answers = [], [], []
            if one.stream is not None:
                self.take(one, one.frame)
        if one.stream is not None and one.claims.has_news:
            self.ask(one.stream, one.claims.take())

    def take(self, one: Worker, number: int) -> None:
        frame = to_ledger.decode(one.kept[number])
        assert one.stream is not None
        assert isinstance(frame, LedgerFrame)
        self.desk.book.take_frame(one.stream, frame)

    def ask(self, stream: Stream, claims: Claims) -> None:
        """As the server does."""
        if claims.anew:
            self.arbiter.keep_only(stream.id, {row[0] for row in claims.asked})
        for n in claims.withdrawn:
            self.arbiter.withdraw((stream.id, n))
        for n, route, id, print_, granted in claims.asked:
            self.arbiter.claim((stream.id, n), route, id, print_, granted, self.desk.clock())

    @rule(commits=st.booleans())
    def talk(self, commits: bool) -> None:
        """Everything that is on its way arrives, and is on disk perhaps."""
        self.tell()
        self.flush(0)
        self.flush(1)
        self.tell()
        if commits:
            self.commit()

    @precondition(lambda self: not self.is_released)
    @rule(first=st.integers(0, 1))
    def recover(self, first: int) -> None:
        """The ledger that was started again goes on."""
        self.connect(first)
        self.connect(1 - first)
        self.tell()
        self.release()

    @rule()
    def tell(self) -> None:
        """What the ledger says arrives at workers that are there."""
        said, self.arbiter.said = self.arbiter.said, []
        for stream, verdict in said:
            for one in self.workers:
                if one.stream is not None and one.stream.id == stream:
                    one.claims.hear([verdict])

    # the ledger

    @rule()
    def commit(self) -> None:
        self.desk.commit()
        for one in self.workers:
            if one.stream is not None:
                one.kept = {number: data for number, data in one.kept.items() if number > one.stream.durable}

    @precondition(lambda self: any(one.stream is None for one in self.workers))
    @rule(worker=st.integers(0, 1))
    def connect(self, worker: int) -> None:
        one = self.workers[worker]
        if one.stream is None:
            self.flush(worker)  # at the end of each iteration of the loop; a connection takes some
            one.stream = self.desk.book.hello(one.name, worker)
            one.kept = {number: data for number, data in one.kept.items() if number > one.stream.durable}
            for number in one.kept:
                self.take(one, number)
            self.ask(one.stream, one.claims.all())

    @precondition(lambda self: not self.is_released and all(one.stream is not None for one in self.workers))
    @rule()
    def release(self) -> None:
        """Everybody who lives is back, the others are given up, the receipts are read."""
        for stream in self.awaited:
            if not stream.came_back:
                self.desk.book.hand_over(stream)
        recall = Recall(self.desk.store.segments, self.arbiter.routes, 10**9, self.desk.clock())
        while (found := recall.step()) is not None:
            for each in found:
                self.arbiter.recall(*each)
        self.arbiter.release(self.desk.clock())
        self.is_released = True

    # deaths

    @rule(who=st.sampled_from(["ledger", "ledger", 0, 1]))
    def kill(self, who: str | int) -> None:
        if isinstance(who, int):
            self.kill_worker(who)
        else:
            self.kill_ledger()

    def kill_ledger(self) -> None:
        durable = {row[1]: row[3] for row in self.desk.store.streams()}
        for made in self.offers:
            if made.worker.is_dead and made.frame > durable.get(made.worker.name, 0):
                made.is_forgotten = True
        self.desk.crash()
        self.desk.open()
        for one in self.workers:
            one.stream = None
        self.begin()

    def kill_worker(self, worker: int) -> None:
        one = self.workers[worker]
        one.is_dead = True
        known = self.desk.book.streams.get(one.name)
        for made in self.offers:
            if made.worker is one and made.frame and (known is None or made.frame > known.received):
                made.is_forgotten = True  # the ledger was away, and who could have said it again is dead
        if one.stream is not None:
            self.desk.book.lost(one.stream)
            self.desk.book.hand_over(one.stream)
            self.desk.book.close(one.stream)
        self.workers[worker] = Worker(f"w{self.lives}")
        self.lives += 1

    def teardown(self) -> None:
        if not hasattr(self, "offers"):
            return
        try:
            for _ in range(2 * len(self.offers) + 4):
                for worker in (0, 1):
                    self.connect(worker)
                if not self.is_released:
                    self.release()
                self.tell()
                for _ in self.offers:
                    self.end(0, "failed")
                for worker in (0, 1):
                    self.flush(worker)
                self.commit()
            assert not [each for each in self.offers if each.state in ("waiting", "flying") and not each.worker.is_dead]
            assert len(self.arbiter) == 0
            assert self.arbiter.of_stream(1) == []
        finally:
            self.desk.store.close()
            shutil.rmtree(self.directory)


TestClaims = pytest.mark.timeout(3600)(ClaimMachine.TestCase)  # the soak's full count takes minutes
if not SOAK:
    # Little happens in most runs: with the usual 60 of them a twin is hardly ever there when somebody dies.
    TestClaims.settings = settings(settings(), max_examples=200, stateful_step_count=50)
