"""The keeper puts one ledger together and keeps its times: commits, upkeep, streams that do not come back.

    workers --LedgerServer--> Book <--Replayer--> backends
                               |  ^
                     Committer |  | what was found at the start
                               v  |
                              Store (one writing thread), Disk

After a start the replayer waits a moment (`RESUME_GRACE`), so that workers come back first and say what
they know; until then no turn is given and no mark that was found is cleared. Streams that are not back
after `GAP_AFTER` leave a coverage gap in the record.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw

from config.model import Settings
from proxy.core.event import NEW, OLD, Deliver
from proxy.core.owed import DEFERRED, PENDING
from proxy.core.routing import Routing
from proxy.ledger.arbiter import Arbiter, Policy
from proxy.ledger.backlog import Backlog
from proxy.ledger.book import Book
from proxy.ledger.carry import Due
from proxy.ledger.committer import Committer
from proxy.ledger.disk import Disk, is_no_room
from proxy.ledger.entry import Stream
from proxy.ledger.marks import FAILED, LOW_DISK, RESTORED, Marks
from proxy.ledger.moves import Moves
from proxy.ledger.queries import Queries
from proxy.ledger.reader import Reader
from proxy.ledger.recall import Recall, in_flight
from proxy.ledger.remembered import Remembered
from proxy.ledger.replayer import Replayer, Side
from proxy.ledger.segment import BalanceTable
from proxy.ledger.server import LedgerServer
from proxy.ledger.store import Store

log = logging.getLogger(__name__)

RESUME_GRACE: Final = 0.3
"""Seconds that a worker has to come back before the ledger delivers what it was on."""
GAP_AFTER: Final = 5.0
FORGET_AFTER: Final = 30.0
DISK_EVERY: Final = 0.5
UPKEEP_EVERY: Final = 1.0
ROUTING_GRACE: Final = 10.0
"""Seconds after a start that deliveries to old wait for the routing, where deferred events may have to go first."""
HEARTBEAT_EVERY: Final = 5.0
"""Seconds between two notes that a quiet stream is alive: after a power cut the gap begins at the last one."""


class Figures(NamedTuple):
    """The ledger's present state, for its statistics. balance, oldest_ns: by (route, side).

    nothing_before: by route, the place in the record before which nothing is delivered any more; routes that have
    deferred events are left out.
    """

    balance: BalanceTable
    oldest_ns: dict[tuple[str, int], int]
    nothing_before: dict[str, int]
    receipts: int
    segments: int
    bytes_on_disk: int
    disk_free: int
    gaps: int
    last_gap_ns: int


def windows_of(settings: Settings) -> dict[str, int]:
    """For how many nanoseconds what a backend received may be taken back, by route; only of routes that have such."""
    sessions = {route.name: route.websocket for route in settings.routes if route.websocket is not None}
    return {name: int(each.redeliver_window * 1e9) for name, each in sessions.items() if each.redeliver_window}


def slots_of(settings: Settings, slots: Mapping[str, int] | None) -> dict[str, int]:
    """Where in the marks each configured route is."""
    return {r.name: index if slots is None else slots[r.name] for index, r in enumerate(settings.routes)}


class Keeper:
    """One ledger. Making it opens the store: raises RefuseToStart when that is damaged or foreign.

    deliver: the transport; marks: shared memory; now_ns: wall clock; die: ends the process at once; slots: where in the
    marks each route is, by its name; in the order of the routes when absent.
    """

    def __init__(
        self, settings: Settings, store: Store, disk: Disk, marks: Marks, deliver: Deliver, *,
        now_ns: Callable[[], int], die: Callable[[str], None], slots: Mapping[str, int] | None = None,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._store = store
        self._disk = disk
        self._marks = marks
        self._now_ns = now_ns
        self._end = die
        self._routing: Routing | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._timers: set[asyncio.TimerHandle] = set()
        self._is_stopping = False
        self.is_low = False
        """New events are refused because the disk is nearly full."""
        self._due: deque[tuple[Due, int]] = deque()
        self._wake_carry_over = asyncio.Event()
        self._held_back: set[str] = set()
        self._counters: Counter[str] = Counter()
        self._query_thread = ThreadPoolExecutor(1, "ledger-queries")
        routes = slots_of(settings, slots)
        sides = [Side(r.name, side, name) for r in settings.routes for side, name in ((OLD, r.old), (NEW, r.new))]
        backlog = Backlog(routes, marks)
        self._query_reader = Reader(lambda: store.segments)
        self.replayer = Replayer(
            sides, settings.ledger, deliver, Reader(lambda: store.segments), need=self._need, die=self._die
        )
        self._arbiter = arbiter_of(settings)
        self._claims_wait_for = {"workers", "receipts"}
        """What has to be over before anybody is told that its event is the first of its id."""
        self.book = Book(
            backlog, self.replayer, next_seq=store.next_seq, retain_bodies=settings.ledger.retain_bodies,
            arbiter=self._arbiter, windows=windows_of(settings),
        )  # fmt: skip
        self.replayer.attach(self.book)
        self.backlog = backlog
        self.committer = Committer(
            self.book, store, disk, interval=settings.ledger.commit_interval, now_ns=now_ns,
            durable=self._durable, low=self._show_low, die=self._die,
        )  # fmt: skip
        self.server = LedgerServer(self.book, self._took, self._lost, now_ns)
        moves = Moves(store, self.book, self.committer, backlog, self._query_reader, self._query_thread, self.replayer)
        self.moves = moves
        self.queries = Queries(
            lambda: store.segments, store.balance, moves, self._query_thread,
            retain_bodies=settings.ledger.retain_bodies,
        )  # fmt: skip
        self._restore(routes)

    def _restore(self, routes: dict[str, int]) -> None:
        """Take over what is on disk: counts, marks, streams, and what workers were on."""
        orphans: Counter[str] = Counter()
        for route, side, bucket, n in self._store.pending_by_bucket():
            self.backlog.enter(route, side, bucket, n)
            if route not in routes:
                orphans[route] += n
        for route, n in orphans.items():
            log.error("events are owed to a route that is not configured any more", extra={"route": route, "events": n})
        self.book.turns.hold()
        self.book.restore(self._store.streams(), self._store.last_stream_id, self._store.held_rows())
        if self.book.windows.longest:
            self.book.restore_received(self._store.received_rows(self.book.windows.longest), self._now_ns())
        if self._arbiter is not None:
            self.book.restore_claims(self._arbiter, in_flight(self._store.segments, self._arbiter.routes))
        for route, side, bucket, _ in self._store.deferred_by_bucket():
            if side == OLD:
                self.book.carry.note(route, bucket)
        self._held_back = self.book.carry.unsure()
        for route in self._held_back:
            self.replayer.hold(route, OLD)
        self._marks.set_flag(FAILED, False)
        self._marks.set_flag(RESTORED, True)

    # start and stop

    async def start(self, path: Path) -> None:
        """Listen to workers at `path`, and begin everything else."""
        self._show_low(await self.committer.write(self._disk.check))
        self.committer.start()
        awaited = [stream for stream in self.book.streams.values() if not stream.closed]
        for stream in self.book.streams.values():
            if stream.closed:
                self._later(FORGET_AFTER, self._forget, stream)
        await self.server.start(path)
        self._later(RESUME_GRACE, self._begin_replay, awaited)
        self._later(GAP_AFTER, self._close_awaited, awaited)
        if self._held_back:
            self._later(ROUTING_GRACE, self._routing_is_late)
        for seconds, work in (
            (DISK_EVERY, self._look_at_disk),
            (UPKEEP_EVERY, self._keep_up),
            (HEARTBEAT_EVERY, self._beat),
        ):
            self._tasks.append(asyncio.create_task(self._every(seconds, work), name=work.__name__))
        self._tasks.append(asyncio.create_task(self._carry_over(), name="carry over"))
        if self._arbiter is not None:
            self._tasks.append(asyncio.create_task(self._recall(self._arbiter), name="recall"))
        for task in self._tasks:
            task.add_done_callback(self._task_ended)

    async def stop(self, *, clean: bool = True) -> None:
        """Take what was read, make it durable, stop delivering, close everything."""
        # First, while workers are served still: where a successor follows, they wait only for what comes after it.
        await self.replayer.rest()
        self._is_stopping = True
        if clean:
            self._close_gone()
        self.server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for timer in self._timers:
            timer.cancel()
        await self.replayer.close()
        await self.committer.close()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._query_thread, self._query_reader.close)
        self._query_thread.shutdown()
        await self.committer.write(self._store.close, clean=clean and not self._owes_a_gap())
        self.committer.release_thread()

    def _later(self, seconds: float, call: Callable[..., object], *args: Any) -> None:
        loop = asyncio.get_running_loop()

        def fire() -> None:
            self._timers.discard(timer)
            call(*args)

        timer = loop.call_later(seconds, fire)
        self._timers.add(timer)

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await work()
            await asyncio.sleep(seconds)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._die(f"{task.get_name()} failed: {task.exception()!r}")

    def _die(self, why: str) -> None:
        self._marks.set_flag(FAILED, True)
        log.critical("the ledger ends at once: %s", why)
        self._end(why)

    # streams

    def _took(self, urgent: bool) -> None:
        self.committer.need(urgent=urgent)

    def _need(self) -> None:
        self.committer.need()

    def _durable(self, streams: list[Stream]) -> None:
        self.server.tell_durable(streams)

    def _lost(self, stream: Stream) -> None:
        """A worker's connection ended."""
        if self._is_stopping:
            return
        log.warning("worker %d is gone", stream.worker, extra={"stream": stream.name, "in_flight": len(stream.live)})
        self._later(RESUME_GRACE, self._expire, stream)
        self._later(FORGET_AFTER, self._forget, stream)
        self.committer.need()

    def _expire(self, stream: Stream) -> None:
        if not stream.is_connected:
            self.book.hand_over(stream)
            self.book.close(stream)
            self.server.send_verdicts()
            self.committer.need()

    def _begin_replay(self, awaited: list[Stream]) -> None:
        for stream in awaited:
            if not stream.came_back:
                self.book.hand_over(stream)
        self.book.release_turns()
        self.server.send_turns()
        self._release_claims("workers")
        # Marks that a ledger before this one set for what it never made durable: workers said that again by now.
        self.backlog.show_all()
        self.committer.need()
        self.replayer.start()

    async def _recall(self, arbiter: Arbiter) -> None:
        """Fill the dedupe windows from the receipts that a predecessor left."""
        recall = Recall(self._store.segments, arbiter.routes, self.book.next_seq, self._now_ns())
        loop = asyncio.get_running_loop()
        count = 0
        while not all(policy.remembered.is_full for policy in arbiter.routes.values()):
            found = await loop.run_in_executor(self._query_thread, recall.step)
            if found is None:
                break
            count += len(found)
            for each in found:
                arbiter.recall(each.route, each.id, each.fingerprint, each.status, each.accepted_ns)
        log.info("dedupe windows are read", extra={"ids": count})
        self._release_claims("receipts")

    def _release_claims(self, what: str) -> None:
        """This is over: who asks for a claim from now on is told, and who asked before is told now."""
        self._claims_wait_for.discard(what)
        if self._arbiter is not None and not self._claims_wait_for:
            self._arbiter.release(self._now_ns())
            self.server.send_verdicts()

    def _close_awaited(self, awaited: list[Stream]) -> None:
        """Streams that were open when the ledger ended and did not come back.

        Unless it ended in order, something that they said may not have reached it: a coverage gap.
        """
        for stream in awaited:
            if stream.came_back:
                continue
            if not self._store.was_clean:
                reason = f"worker {stream.worker} and the ledger died together"
                log.error("coverage gap: %s", reason, extra={"from_ns": stream.last_ns})
                self.book.add_gap(stream.last_ns, self._now_ns(), reason)
            self.book.close(stream)
            self._later(FORGET_AFTER, self._forget, stream)
        self.committer.need()

    def _close_gone(self) -> None:
        """At a stop in order: the streams whose workers went before us, with everything they said in the record.

        Left open, a successor that dies within `GAP_AFTER` would leave them to one that takes them for lost.
        """
        for stream in self.book.streams.values():
            if stream.came_back and not stream.is_connected and not stream.closed:
                self.book.hand_over(stream)
                self.book.close(stream)

    def _owes_a_gap(self) -> bool:
        """Our predecessor was killed, and we stop before all its streams came back or were given up."""
        return not self._store.was_clean and any(
            not stream.came_back and not stream.closed for stream in self.book.streams.values()
        )

    def _forget(self, stream: Stream) -> None:
        if not stream.is_connected and not self.book.forget(stream):
            self._later(FORGET_AFTER, self._forget, stream)

    async def _beat(self) -> None:
        """Note that connected streams are alive, so that a power cut's gap begins at the last note."""
        if self.book.touch_streams():
            self.committer.need()

    # the disk

    def _show_low(self, low: bool) -> None:
        self.is_low = low
        self._marks.set_flag(LOW_DISK, low)

    async def _look_at_disk(self) -> None:
        self._show_low(await self.committer.write(self._disk.check))

    async def _keep_up(self) -> None:
        await self.committer.write(self._upkeep)

    def _upkeep(self) -> None:
        """In the writing thread: a new segment, old segments dropped, deferred events released."""
        if not self._disk.is_low and self._store.is_due_to_roll():
            try:
                self._store.roll()
            except (apsw.FullError, apsw.CantOpenError, OSError) as error:
                if isinstance(error, OSError) and not is_no_room(error):
                    raise
                log.error("no room for a new segment, going on in the old one: %s", error)
                self._counters["rolls_failed"] += 1
        self._counters["segments_dropped"] += self._store.drop_old()
        self._counters["released"] += self._store.release_deferred()

    # routing

    def set_routing(self, routing: Routing) -> None:
        """A new epoch. When this returns the marks are such that workers may be told of it.

        What was deferred in buckets that are old's again is moved afterwards; old gets nothing of the
        route from us meanwhile, for what comes later must not overtake it.
        """
        for due in self.book.turn(routing):
            log.warning(
                "buckets are old's again: delivering what was deferred",
                extra={"route": due.route, "buckets": len(due.buckets), "epoch": routing.epoch},
            )
            self.replayer.hold(due.route, OLD)
            self._due.append((due, self.book.next_seq))
        self._go_on()
        if self._due:
            self.committer.need()
            self._wake_carry_over.set()

    def _go_on(self) -> None:
        """Deliveries to old that waited for the first routing."""
        for route in self._held_back:
            self.replayer.resume(route, OLD)
        self._held_back = set()

    def _routing_is_late(self) -> None:
        if self._held_back:
            log.warning("no routing from the supervisor: delivering to old without knowing what goes first")
            self._counters["delivered_without_routing"] += 1
            self._go_on()

    async def _carry_over(self) -> None:
        """Move what is due, one turn of the dials after another."""
        while True:
            await self._wake_carry_over.wait()
            self._wake_carry_over.clear()
            while self._due:
                due, before_seq = self._due.popleft()
                await self.committer.written()
                await self.moves.carry_over(due, before_seq, self.book.on_disk.__contains__)
                self.book.carry.unmark(due.route, due.buckets)
                self.replayer.resume(due.route, OLD)

    # figures

    def remembered(self) -> dict[str, int]:
        """How many ids each route that has a dedupe window remembers."""
        return self._arbiter.figures(self._now_ns()) if self._arbiter is not None else {}

    async def figures(self) -> Figures:
        """The present state."""
        return await asyncio.get_running_loop().run_in_executor(self._query_thread, self._figures)

    def _figures(self) -> Figures:
        next_seq = self._store.next_seq  # before the balance, which then has all before it
        balance = self._store.balance()
        oldest = {name: self._query_reader.oldest_pending(*name) for name, counts in balance.items() if counts[PENDING]}
        before = {route: next_seq for route, _ in balance}
        for (route, _), (seq, _) in oldest.items():
            before[route] = min(before[route], seq)
        for (route, _), counts in balance.items():
            if counts[DEFERRED]:
                before.pop(route, None)
        segments = self._store.segments
        return Figures(
            balance, {name: ns for name, (_, ns) in oldest.items()}, before,
            segments[-1].last_seq - segments[0].first_seq + 1, len(segments),
            self._store.size(), self._disk.free(), self._store.gaps, self._store.last_gap_ns,
        )  # fmt: skip

    def counters(self) -> dict[str, int]:
        """Everything that is counted, cumulative since the start."""
        total = Counter({"reserve_released": self._disk.released})
        if self._arbiter is not None:
            total["dedupe_ids_dropped"] = self._arbiter.dropped
        parts = (self.book, self.committer, self.server, self.replayer, self.moves, self._store.checkpoints)
        for counters in (self._counters, *(part.counters for part in parts)):
            total.update(counters)
        return dict(total)


def arbiter_of(settings: Settings) -> Arbiter | None:
    """The arbiter over the routes that have a dedupe window; None when there are none."""
    windows = [route for route in settings.routes if route.dedupe]
    routes = {r.name: Policy(r.ack, r.accepted_status, Remembered(r.dedupe, r.dedupe_ids)) for r in windows}
    return Arbiter(routes) if routes else None
