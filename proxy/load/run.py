"""One run from its first connection to its summary."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from proxy.load.generator import Generator
from proxy.load.requests import Messages, Requests
from proxy.load.schedule import ClosedLoop, OpenLoop
from proxy.load.sessions import PLACES, Sessions
from proxy.load.stores import Holding, Store
from proxy.load.summary import Pace, Summary, Threshold
from proxy.load.tally import Moment, Tally
from proxy.load.target import Target
from proxy.load.wire import UNSENT

_LAST_ANSWERS: Final = 1.0
"""Seconds that an interrupted run waits for what is on its way."""
_ASK_EVERY: Final = 0.2
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Plan:
    """What to do. rate: events/s of an open loop, None for a closed one; count, seconds: None for no end.

    requests: makes them, or the messages of as many sessions as there are connections; timeout: seconds for an answer;
    settle: seconds that the stores have to get what was accepted; side: the one that all events are forced to, or None.
    """

    target: Target
    requests: Requests | Messages
    connections: int
    timeout: float
    rate: float | None = None
    count: int | None = None
    seconds: float | None = None
    thresholds: tuple[Threshold, ...] = ()
    stores: Sequence[Store] = ()
    settle: float = 5.0
    side: str | None = None

    def schedule(self) -> OpenLoop | ClosedLoop:
        """Must be called in a running loop."""
        if self.rate is None:
            return ClosedLoop(self.count, self.seconds)
        lengths = [] if self.seconds is None else [max(1, round(self.rate * self.seconds))]
        lengths += [] if self.count is None else [self.count]
        return OpenLoop(self.rate, min(lengths) if lengths else None)


class Second(NamedTuple):
    """About a second of a run. at: seconds since its start; errors: not accepted; p50, p99: seconds, None without."""

    at: float
    rate: float
    accepted: int
    errors: int
    waiting: int
    p50: float | None
    p99: float | None


class Run:
    """A run of a plan. each_second: is shown what happened in the last second."""

    def __init__(self, plan: Plan, each_second: Callable[[Second], None]) -> None:
        self._plan = plan
        self._each_second = each_second
        self._tally = Tally()
        self._schedule = plan.schedule()
        self._generator = self._make_generator(plan)
        self._interrupts = 0
        self._is_over = asyncio.Event()
        self._unanswered = 0

    def _make_generator(self, plan: Plan) -> Generator:
        """For an open loop a session has many places, and a message goes by the session whose turn it is."""
        connect, is_sticky, lanes = None, False, plan.connections
        if isinstance(plan.requests, Messages):
            connect = Sessions(plan.target, plan.requests, plan.connections, plan.timeout, self._tally.closed).connect
            is_sticky = plan.rate is not None
            lanes *= PLACES if is_sticky else 1
        return Generator(
            plan.target,
            plan.requests.make,
            self._tally,
            connections=lanes,
            timeout=plan.timeout,
            patience=plan.timeout,
            is_sticky=is_sticky,
            connect=connect,
        )

    async def __call__(self) -> Summary:
        """Raises UnreachableError when nothing could be sent. SIGINT and SIGTERM end it early."""
        generator, schedule = self._generator, self._schedule
        try:
            await generator.open()
            gc.collect()
            gc.freeze()  # what lives as long as the run is not looked at again
            with self._interruptible():
                showing = asyncio.create_task(self._show())
                wall, cpu = time.perf_counter(), time.process_time()
                await schedule.run(generator)
                await self._finish()
                ended = time.perf_counter()
                cpu = (time.process_time() - cpu) / max(ended - wall, 1e-9)
                showing.cancel()
                await asyncio.gather(showing, return_exceptions=True)
                stored = await self._ask_stores()
        finally:
            gc.unfreeze()
            generator.close()
        return Summary(
            target=self._plan.target.url,
            connections=self._plan.connections,
            seconds=ended - schedule.started,
            tally=self._tally,
            pace=self._pace(ended, cpu),
            thresholds=self._plan.thresholds,
            unanswered=self._unanswered,
            is_interrupted=self._interrupts > 0,
            stored=stored,
            side=self._plan.side,
            is_session=isinstance(self._plan.requests, Messages),
        )

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._interrupt)
        try:
            yield
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

    def _interrupt(self) -> None:
        """The first one ends it orderly, the second at once."""
        self._interrupts += 1
        self._schedule.stop()
        self._generator.forget_waiting()
        if self._interrupts > 1:
            self._is_over.set()

    async def _finish(self) -> None:
        """Wait for the answers that are due; events end by themselves, by an answer or in time."""
        over = asyncio.create_task(self._is_over.wait())
        ended = asyncio.create_task(self._generator.finish())
        deadline = None
        while not (ended.done() or over.done()):
            if self._interrupts and deadline is None:
                deadline = time.perf_counter() + _LAST_ANSWERS
            if deadline is not None and time.perf_counter() > deadline:
                break
            await asyncio.wait((over, ended), timeout=_ASK_EVERY, return_when=asyncio.FIRST_COMPLETED)
        for task in (over, ended):
            task.cancel()
        await asyncio.gather(over, ended, return_exceptions=True)
        self._generator.forget_waiting()
        self._unanswered = self._generator.outstanding

    def _pace(self, ended: float, cpu: float) -> Pace:
        generator, schedule = self._generator, self._schedule
        sent = self._tally.ended_count - self._tally.failures[UNSENT] + self._unanswered
        wanted = self._plan.rate
        until = ended if wanted is None else generator.last_sent_at
        seconds = until - schedule.started
        if wanted is not None:
            seconds = max(seconds, sent / wanted)
        return Pace(
            wanted,
            sent / seconds if seconds > 0 else 0.0,
            max(0.0, generator.last_sent_at - generator.last_due),
            schedule.late.quantile(0.99),
            schedule.latest,
            cpu,
        )

    async def _show(self) -> None:
        before, at = Moment(0, 0, Tally().latency), time.perf_counter()
        while True:
            await asyncio.sleep(1.0)
            now, moment = time.perf_counter(), self._tally.moment()
            self._each_second(self._second(before, moment, now - at, now))
            before, at = moment, now

    def _second(self, before: Moment, now: Moment, length: float, at: float) -> Second:
        ended, accepted = now.ended - before.ended, now.accepted - before.accepted
        latency = now.latency.since(before.latency)
        quantiles = [latency.quantile(q) if latency.buckets else None for q in (0.5, 0.99)]
        started = self._schedule.started
        return Second(at - started, ended / length, accepted, ended - accepted, self._generator.waiting, *quantiles)

    async def _ask_stores(self) -> dict[str, Holding | str]:
        """Ask until each holds what was accepted, or the time to settle is over, or somebody is impatient.

        The store of a side that the events were not forced to is asked once, when they had that time.
        """
        found: dict[str, Holding | str] = {}
        deadline = time.perf_counter() + self._plan.settle
        side = self._plan.side
        for store in sorted(self._plan.stores, key=lambda store: store.name != side):
            is_due = side is None or store.name == side
            while True:
                try:
                    found[store.name] = stored = await asyncio.to_thread(store.stored, self._plan.requests.run)
                except OSError as error:
                    found[store.name] = str(error)
                    break
                is_there = stored.events >= self._tally.accepted
                if is_there or not is_due or time.perf_counter() > deadline or self._is_over.is_set():
                    break
                await asyncio.sleep(_ASK_EVERY)
        return found
