"""What workers hand over when a backend is lost keeps the order of its keys, from the frame to the delivery."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.model import Ledger
from proxy.core.event import DELIVERED as TAKEN
from proxy.core.event import RETRY, UNREACHABLE, Outcome
from proxy.ledger.backlog import Backlog
from proxy.ledger.book import Book
from proxy.ledger.entry import Stream
from proxy.ledger.protocol import HANDED, RECEIVED, UNANSWERED, Report
from proxy.ledger.reader import Reader
from proxy.ledger.replayer import Side
from proxy.ledger.store import Store
from tests.ledger.support import ROUTE, SECOND, Clock, FakeMarks, event, frame
from tests.ledger.test_machine import SETTINGS, SteppedReplayer, Timers

NEW = 1
OLD_HAS_IT = 3
"""Code of a report: delivered."""


class WholeReplayer(SteppedReplayer):
    """Reads everything at once."""

    def look(self, index: int) -> None:
        lane, start, without, _ = self.reading[index]
        chunk = self._reader.pending(lane.route, lane.side, start, without, 1000, 10**6)
        self.reading[index] = (lane, start, without, chunk)


class Rig:
    """Book, store and replayer of one route. window: seconds in which a backend may lose what it has received."""

    def __init__(self, directory: Path, window: float) -> None:
        self.clock = Clock()
        self.store = Store(directory, Ledger.model_validate({}), self.clock)
        self.timers = Timers()
        sides = [Side(ROUTE, 0, "old"), Side(ROUTE, NEW, "new")]
        reader = Reader(lambda: self.store.segments)
        self.replayer = WholeReplayer(sides, SETTINGS, None, reader, need=lambda: None, die=print)
        windows = {ROUTE: int(window * SECOND)} if window else {}
        self.book = Book(Backlog({ROUTE: 0}, FakeMarks()), self.replayer, next_seq=1, windows=windows)
        self.replayer.attach(self.book, self.timers.call_later)
        self.replayer.start()
        self.read()

    def worker(self, number: int) -> Stream:
        """Its stream."""
        return self.book.hello(f"worker {number}", number)

    def commit(self) -> None:
        """What was said is on disk."""
        group = self.book.take(self.clock())
        self.store.commit(group)
        self.book.committed(group)

    def read(self) -> None:
        """Every reading ends, and those that come of it."""
        while self.replayer.reading:
            self.replayer.see(0)

    @property
    def flying(self) -> list[int]:
        """Deliveries on their way."""
        return [item.seq for *_, item in self.replayer.flying]

    def delivered(self) -> list[int]:
        """Everything is taken at once; in which order."""
        order: list[int] = []
        for _ in range(100):
            if self.replayer.flying:
                order += self.flying[:1]
                self.replayer.land(0, Outcome(TAKEN, 200))
            elif self.replayer.reading:
                self.replayer.see(0)
            elif self.timers.due:
                self.timers.fire(0)
        return order


def handed(*numbers: int) -> list[Report]:
    return [(number, NEW, HANDED, UNANSWERED) for number in numbers]


@pytest.mark.parametrize("is_shut", [False, True], ids=["open", "shut"])
def test_of_two_workers_that_lose_a_backend_in_the_same_moment(tmp_path: Path, is_shut: bool) -> None:
    """While what the first one handed is read, the second one hands two events of a key, one on either side of that."""
    rig = Rig(tmp_path / "ledger", window=0.0)
    first, second = rig.worker(0), rig.worker(1)
    rig.book.take_frame(second, frame(1, [event(1, key="a")], [(1, 0, OLD_HAS_IT, 0)]))
    rig.book.take_frame(first, frame(1, [event(1, key="b")], [(1, 0, OLD_HAS_IT, 0)]))
    rig.book.take_frame(second, frame(2, [event(2, key="a")], [(2, 0, OLD_HAS_IT, 0)]))
    rig.book.take_frame(first, frame(2, [event(9, key="c", handed=2)], [(9, 0, OLD_HAS_IT, 0)]))
    rig.commit()
    rig.read()
    assert rig.flying == [4], "the others are passed by: their workers are on them"
    rig.book.take_frame(first, frame(3, [], handed(1)))
    assert [start for _, start, *_ in rig.replayer.reading] == [2]
    rig.replayer.look(0)
    rig.book.take_frame(second, frame(3, [], handed(1, 2)))
    if is_shut:
        rig.replayer.land(0, Outcome(UNREACHABLE, 502, "away"))
        assert not rig.replayer.gates["new"].is_open
    lane, _, _, chunk = rig.replayer.reading.pop(0)
    assert chunk is not None
    rig.replayer._loaded(lane, chunk)
    order = rig.delivered()
    assert sorted(order) == [1, 2, 3, 4]
    assert order.index(1) < order.index(3), order


@pytest.mark.parametrize("is_shut", [False, True], ids=["open", "shut"])
def test_what_was_received_and_may_be_lost_goes_before_what_was_not_received(tmp_path: Path, is_shut: bool) -> None:
    """Its row says delivered until the next commit, and so it cannot be read before that."""
    rig = Rig(tmp_path / "ledger", window=5.0)
    worker = rig.worker(0)
    rig.book.take_frame(worker, frame(1, [event(1)], [(1, 0, OLD_HAS_IT, 0), (1, NEW, RECEIVED, 0)]))
    rig.book.take_frame(worker, frame(2, [event(2)], [(2, 0, OLD_HAS_IT, 0)]))
    rig.commit()
    rig.read()
    rig.book.take_frame(worker, frame(3, [], handed(1, 2)))
    rig.read()
    if is_shut and rig.flying:
        rig.replayer.land(0, Outcome(UNREACHABLE, 502, "away"))
    rig.commit()
    assert rig.delivered() == [1, 2]


@pytest.mark.parametrize("kind", [UNREACHABLE, RETRY], ids=["unreachable", "retry"])
@pytest.mark.parametrize("is_early", [False, True], ids=["handed first", "failed first"])
def test_what_comes_back_goes_before_what_the_ledger_has_already(tmp_path: Path, is_early: bool, kind: int) -> None:
    """A worker's own link had one, the next ones went to the ledger behind it; the backend dies with all of them."""
    rig = Rig(tmp_path / "ledger", window=5.0)
    worker = rig.worker(0)
    rig.book.take_frame(worker, frame(1, [event(1)], [(1, 0, OLD_HAS_IT, 0), (1, NEW, RECEIVED, 0)]))
    rig.commit()
    rig.read()
    behind = [event(2, handed=2), event(3, handed=2)]
    rig.book.take_frame(worker, frame(2, behind, [(2, 0, OLD_HAS_IT, 0), (3, 0, OLD_HAS_IT, 0)]))
    rig.commit()
    rig.read()
    assert rig.flying == [2]
    if is_early:
        rig.replayer.land(0, Outcome(kind, 0, "lost"))
    rig.book.take_frame(worker, frame(3, [], handed(1)))
    if not is_early:
        rig.replayer.land(0, Outcome(kind, 0, "lost"))
    rig.commit()
    assert rig.delivered() == [1, 2, 3]


def seen_after_a_commit(rig: Rig) -> int:
    """A reading that has begun ends after what is known by then is on disk; how often its one event was tried."""
    rig.replayer.look(0)
    rig.commit()
    assert rig.book.tries(1, NEW, 0) == 0, "the book has it from the disk now"
    lane, _, _, chunk = rig.replayer.reading.pop(0)
    assert chunk is not None
    rig.replayer._loaded(lane, chunk)
    ((_, _, _, item),) = rig.replayer.flying
    assert item.seq == 1
    return rig.book.tries(1, NEW, item.attempts)


def test_what_a_worker_tried_counts_in_a_reading_that_began_before_it_was_on_disk(tmp_path: Path) -> None:
    """Else the ledger's delivery calls itself the first one, and of the copy that it makes nobody knows."""
    rig = Rig(tmp_path / "ledger", window=0.0)
    worker = rig.worker(0)
    rig.book.take_frame(worker, frame(1, [event(1)], [(1, 0, OLD_HAS_IT, 0)]))
    rig.commit()
    rig.read()
    assert rig.flying == []
    rig.book.take_frame(worker, frame(2, [], handed(1)))
    assert seen_after_a_commit(rig) == 1


def test_so_does_what_the_ledger_tried_itself(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "ledger", window=0.0)
    rig.book.take_frame(rig.worker(0), frame(1, [event(1, handed=2)], [(1, 0, OLD_HAS_IT, 0)]))
    rig.commit()
    rig.read()
    rig.replayer.land(0, Outcome(RETRY, 503))
    rig.timers.fire(0)
    assert seen_after_a_commit(rig) == 1


def test_and_what_went_out_on_a_connection_that_was_lost(tmp_path: Path) -> None:
    """It is dropped and read again where its worker is on an older event of its key."""
    rig = Rig(tmp_path / "ledger", window=0.0)
    rig.book.take_frame(rig.worker(0), frame(1, [event(1, handed=2)], [(1, 0, OLD_HAS_IT, 0)]))
    rig.commit()
    rig.read()
    ((_, _, lane, item),) = rig.replayer.flying
    lane.stalls.clear()
    lane._stall_of(item.event.key, 1).parked.add(99)
    rig.replayer.land(0, Outcome(UNREACHABLE, 502, "away", lost=1))
    lane.stalls.clear()
    lane.read_again(1)
    gate = rig.replayer.gates["new"]
    gate.succeeded()
    rig.replayer._kick(lane)
    assert seen_after_a_commit(rig) == 1
