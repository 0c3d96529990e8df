"""The ledger's process: `python -m proxy.worker.ledger_process`, started by the launcher.

It stands in this package because it gives the ledger the HTTP transport, which the ledger does not know.

    exit 0    stopped in order: everything is durable, the record says so
    exit 70   a write failed: nothing was acknowledged after it; the launcher starts a successor
    exit 78   refuses to start: a damaged or foreign ledger; nothing was touched
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import secrets
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NoReturn

import apsw
import uvloop

from config.model import Settings
from proxy.control.duty import Duty, relief_of
from proxy.control.inherit import EXIT_REFUSED, Inherited, say_refusal, stop_requested
from proxy.control.link import (
    STATS_INTERVAL,
    Applied,
    Ask,
    BackendHealth,
    Drain,
    FromSupervisor,
    LedgerStats,
    Register,
    Reply,
    SetFaults,
    SetLogLevel,
    SetRouting,
    SideStats,
)
from proxy.control.link_client import LinkClient
from proxy.control.logs import LogLevel, setup_logging
from proxy.core.breaker import BreakerTrouble
from proxy.core.errors import RefuseToStart
from proxy.core.event import NEW, OLD, Deliver
from proxy.core.loop_lag import LoopLag
from proxy.core.owed import PENDING, STATE_NAMES, Balance
from proxy.fanout.server import FanOut, fan_out_of
from proxy.ledger.disk import Disk
from proxy.ledger.keeper import Figures, Keeper
from proxy.ledger.marks import Marks, grow
from proxy.ledger.queries import BadQuestion
from proxy.ledger.store import Store
from proxy.net.kernel import resident_bytes
from proxy.worker.drilled import DrilledDelivery
from proxy.worker.traced import TracedDelivery, send_spans, tracer_of
from proxy.worker.transport import Transport

log = logging.getLogger(__name__)

EXIT_FAILED: Final = 70
ORPHAN_MARGIN: Final = 5.0
"""Seconds beyond `stop_grace` that an orphaned ledger waits for its workers' last words."""
EMPTY_POLL: Final = 0.1
"""Seconds between two looks whether something is still pending."""
COME_BACK: Final = 1.0
"""Seconds after its start in which an orphaned ledger's workers come back; they try every 50 ms."""
_FORGET_EVERY: Final = 60.0
"""Seconds between two looks at what consumers need not be told of any more."""
_SWITCH_INTERVAL: Final = 0.0005
"""Seconds. The writing thread asks for Python's lock a few times per commit; 5 ms each would be the latency."""


class LedgerProcess:
    """One ledger under the supervisor.

    deliver: the transport for all routes; breakers, troubles: their states by backend, and why they are not closed;
    counters: what the transport counts; fan_out: feeds the backends that connect themselves, where there are any
    """

    def __init__(
        self,
        inherited: Inherited,
        deliver: Deliver,
        breakers: Callable[[], dict[str, str]] = dict,
        counters: Callable[[], Mapping[str, int]] = dict,
        troubles: Callable[[], dict[str, BreakerTrouble]] = dict,
        fan_out: FanOut | None = None,
    ) -> None:
        self._fan_out = fan_out
        self._forget_at = 0.0
        self._breakers = breakers
        self._troubles = troubles
        self._counters = counters
        self._drilled = DrilledDelivery(
            inherited.ledger_settings, deliver, asyncio.get_running_loop(), self._drill_ended
        )
        self._tracer = tracer_of(inherited.settings)
        deliver = self._drilled.deliver
        if self._tracer is not None:
            deliver = TracedDelivery(inherited.ledger_settings, deliver, self._tracer).deliver
        self._inherited = inherited
        self._started_at = time.monotonic()
        settings, places = inherited.ledger_settings, inherited.places
        slots = inherited.slots
        grow(inherited.marks_fd, max(slots.values()) + 1)
        store = Store(places.ledger, settings.ledger, time.time_ns)
        disk = Disk(places.ledger, settings.ledger.reserve, settings.ledger.min_free)
        self.keeper = Keeper(
            settings,
            store,
            disk,
            Marks(inherited.marks_fd),
            deliver,
            now_ns=time.time_ns,
            die=_die_at_once,
            slots=slots,
        )
        if fan_out is not None:
            fan_out.begin_record(self.keeper.book.next_seq)
        register = Register("ledger", 0, os.getpid(), secrets.token_hex(8))
        self._link = LinkClient(places.control_socket, register, self._on_message)
        self._answers: set[asyncio.Task[None]] = set()
        self._epoch = 0
        self._deliver_for = 0.0
        """Seconds to go on delivering once told to stop."""
        self._lag = LoopLag()
        self._log_level = LogLevel(settings.log)
        self._worst_lag = 0.0

    async def run(self, stopping: Awaitable[str], serving: Callable[[], object] = bool) -> str:
        """Serve until `stopping` says why to stop; why. serving: called when workers can connect."""
        await self.keeper.start(self._inherited.places.ledger_socket)
        self._link.start()
        serving()
        stats = asyncio.create_task(self._report_stats(), name="stats")
        log.info("the ledger is ready", extra={"next_seq": self.keeper.book.next_seq})
        reason = await stopping
        log.info("%s: stopping", reason)
        if reason == "the launcher died":
            await self._wait_for_workers()
        elif self._deliver_for:
            await self._deliver_rest(time.monotonic() + self._deliver_for)
        stats.cancel()
        await asyncio.gather(stats, *self._answers, return_exceptions=True)
        self._drilled.faults.close()
        await self.keeper.stop()
        self._send_spans()
        await self._link.close()
        log.info("the ledger is closed")
        return reason

    async def _wait_for_workers(self) -> None:
        """The workers are stopping too, and what they say last must be taken.

        One that was just started waits for them to come back: they kept what its predecessor did not confirm.
        """
        deadline = time.monotonic() + self._inherited.settings.stop_grace + ORPHAN_MARGIN
        come_back = self._started_at + COME_BACK
        while time.monotonic() < (deadline if self.keeper.server.connections else come_back):
            await asyncio.sleep(0.05)

    async def _deliver_rest(self, deadline: float) -> None:
        """Go on until nothing is pending: at two looks, for what workers said last must be committed to be seen."""
        wait = max(EMPTY_POLL, 2 * self._inherited.settings.ledger.commit_interval)
        pending, before = await self._pending(), 1
        while (pending or before) and time.monotonic() < deadline:
            await asyncio.sleep(wait)
            pending, before = await self._pending(), pending
        if pending:
            log.warning("%d events are still pending: they stay owed, and the next start delivers them", pending)

    async def _pending(self) -> int:
        balance = (await self.keeper.figures()).balance
        return sum(counts[PENDING] for counts in balance.values())

    def _on_message(self, message: FromSupervisor) -> None:
        if isinstance(message, SetRouting):
            self._epoch = message.routing.epoch
            self.keeper.set_routing(message.routing)
            self._link.send(Applied(self._epoch))
        elif isinstance(message, Drain):
            self._deliver_for = message.deliver_for
        elif isinstance(message, SetFaults):
            self._drilled.faults.set(message.faults)
        elif isinstance(message, SetLogLevel):
            self._log_level.set(message.level, message.seconds)
        elif isinstance(message, BackendHealth):
            for backend, is_healthy in message.healthy.items():
                if is_healthy:
                    self.keeper.replayer.backend_is_healthy(backend)
        elif isinstance(message, Ask):
            task = asyncio.create_task(self._answer(message), name=f"answer {message.op}")
            self._answers.add(task)
            task.add_done_callback(self._answers.discard)

    def _drill_ended(self, route: str) -> None:
        self.keeper.replayer.retry_all(route, NEW)

    async def _answer(self, ask: Ask) -> None:
        try:
            self._link.send(Reply(ask.id, await self.keeper.queries.answer(ask.op, ask.args)))
        except BadQuestion as error:
            self._link.send(Reply(ask.id, error=str(error)))
        except Exception as error:
            log.exception("could not answer %s", ask.op)
            self._link.send(Reply(ask.id, error=f"the ledger could not answer: {error!r}"))

    async def _report_stats(self) -> None:
        while True:
            self._lag.expect(time.monotonic() + STATS_INTERVAL)
            await asyncio.sleep(STATS_INTERVAL)
            self._worst_lag = self._lag.ran(time.monotonic())
            self._send_spans()
            try:
                figures = await self.keeper.figures()
                self._forget_gone(figures)
                if self._link.is_connected:
                    self._link.send(self.stats(figures))
            except Exception:
                log.exception("could not make statistics")

    def _forget_gone(self, figures: Figures) -> None:
        now = time.monotonic()
        if self._fan_out is not None and now >= self._forget_at:
            self._forget_at = now + _FORGET_EVERY
            self._fan_out.forget_gone(figures.nothing_before)

    def _send_spans(self) -> None:
        if self._tracer is not None:
            send_spans(self._tracer, self._link.send)

    def stats(self, figures: Figures) -> LedgerStats:
        """The present state as the supervisor wants it."""
        keeper, now = self.keeper, time.monotonic()
        return LedgerStats(
            epoch=self._epoch,
            sides=_sides(self._inherited.ledger_settings, keeper, figures),
            receipts=figures.receipts,
            commits=keeper.committer.counters["commits"],
            commit_p99=keeper.committer.p99(),
            segments=figures.segments,
            bytes_on_disk=figures.bytes_on_disk,
            disk_free=figures.disk_free,
            low_disk=keeper.is_low,
            gaps=figures.gaps,
            last_gap=figures.last_gap_ns / 1e9,
            counters=keeper.counters() | dict(self._counters()),
            rss_bytes=resident_bytes(),
            breakers=self._breakers() | self._drilled.faults.breakers(now),
            breaker_troubles=self._troubles() | self._drilled.faults.troubles(now),
            remembered=keeper.remembered(),
            loop_lag=self._worst_lag,
            consumers=self._fan_out.stats(now) if self._fan_out is not None else [],
        )


def _sides(settings: Settings, keeper: Keeper, figures: Figures) -> list[SideStats]:
    """Each side of each configured route, and what is left of routes that are not configured any more."""
    backends = {
        (route.name, side): name for route in settings.routes for side, name in ((OLD, route.old), (NEW, route.new))
    }
    now, monotonic = time.time_ns(), time.monotonic()
    sides = []
    for route, side in sorted(backends.keys() | figures.balance.keys()):
        backend = backends.get((route, side), "")
        gate = keeper.replayer.gates.get(backend)
        counts = figures.balance.get((route, side), [0] * len(STATE_NAMES))
        oldest = figures.oldest_ns.get((route, side), 0)
        sides.append(
            SideStats(
                route=route,
                side=side,
                backend=backend,
                balance=Balance(counts).as_dict(),
                oldest_pending_age=max(0.0, (now - oldest) / 1e9) if oldest else 0.0,
                marked=keeper.backlog.marked(route, side),
                paused=gate.paused if gate is not None else "",
                is_open=gate is None or gate.is_open,
                is_failing=gate is not None and gate.is_failing(monotonic),
                delivered_bytes=keeper.replayer.delivered_bytes(route, side),
            )
        )
    return sides


def _die_at_once(why: str) -> NoReturn:
    """Nothing may be acknowledged any more, and no handler may wait for the disk."""
    sys.stderr.flush()
    os._exit(EXIT_FAILED)


def main() -> int:
    """The process's main; its exit code."""
    sys.setswitchinterval(_SWITCH_INTERVAL)
    # SQLite counts its memory under a lock of its own; nobody reads that.
    apsw.shutdown()
    apsw.config(apsw.SQLITE_CONFIG_MEMSTATUS, False)
    apsw.initialize()
    gc.freeze()  # what lives as long as the process is not looked at again
    logging.basicConfig(level=logging.INFO)
    try:
        inherited = Inherited.from_environment()
        setup_logging(inherited.settings.log, "ledger")
        duty = Duty(inherited, "ledger")
        return duty.run(lambda inherited: uvloop.run(_main(inherited, duty.serving)))
    except RefuseToStart as error:
        log.error("the ledger refuses to start: %s", error)
        say_refusal(error)
        return EXIT_REFUSED


async def _main(inherited: Inherited, serving: Callable[[], None]) -> str:
    stopping = asyncio.create_task(stop_requested(inherited, relief_of("ledger")))
    process: LedgerProcess | None = None

    def arrived(backend: str) -> None:
        if process is not None:
            process.keeper.replayer.backend_is_healthy(backend)

    places = inherited.places
    fan_out = fan_out_of(inherited.ledger_settings, places.fanout, arrived)
    transport = Transport(inherited.ledger_settings, asyncio.get_running_loop(), fan_out)
    try:
        process = LedgerProcess(
            inherited, transport.deliver, transport.breakers, transport.counters, transport.troubles, fan_out
        )
        if fan_out is not None:
            await fan_out.start(places.fanout_socket)
        return await process.run(stopping, serving)
    finally:
        await transport.close()


if __name__ == "__main__":
    sys.exit(main())
