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
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import apsw
import uvloop

from config.model import Settings
from proxy.control.inherit import EXIT_REFUSED, Inherited, say_refusal, stop_requested
from proxy.control.link import (
    STATS_INTERVAL,
    Applied,
    Ask,
    BackendHealth,
    FromSupervisor,
    LedgerStats,
    Register,
    Reply,
    SetRouting,
    SideStats,
)
from proxy.control.link_client import LinkClient
from proxy.control.logs import setup_logging
from proxy.core.errors import RefuseToStart
from proxy.core.event import NEW, OLD, Attempt, Deliver, Event, Outcome
from proxy.core.owed import STATE_NAMES, Balance
from proxy.http.balanced import upstream_of
from proxy.http.deliver import HttpDelivery
from proxy.http.tick import Tick
from proxy.ledger.disk import Disk
from proxy.ledger.keeper import Figures, Keeper
from proxy.ledger.marks import Marks
from proxy.ledger.queries import BadQuestion
from proxy.ledger.store import Store
from proxy.net.kernel import resident_bytes
from proxy.net.live_context import LOOK_EVERY
from proxy.net.lookup import Lookup
from proxy.websocket.deliver import WebSocketDelivery

log = logging.getLogger(__name__)

EXIT_FAILED: Final = 70
ORPHAN_MARGIN: Final = 5.0
"""Seconds beyond `stop_grace` that an orphaned ledger waits for its workers' last words."""
COME_BACK: Final = 1.0
"""Seconds after its start in which an orphaned ledger's workers come back; they try every 50 ms."""
_SWITCH_INTERVAL: Final = 0.0005
"""Seconds. The writing thread asks for Python's lock a few times per commit; 5 ms each would be the latency."""
_CHECK_EVERY: Final = 0.1
"""Seconds between two looks for deliveries that are overdue."""


class LedgerProcess:
    """One ledger under the supervisor. deliver: the transport for all routes; breakers: their states by backend."""

    def __init__(self, inherited: Inherited, deliver: Deliver, breakers: Callable[[], dict[str, str]] = dict) -> None:
        self._breakers = breakers
        self._inherited = inherited
        self._started_at = time.monotonic()
        settings, places = inherited.settings, inherited.places
        store = Store(places.ledger, settings.ledger, time.time_ns)
        disk = Disk(places.ledger, settings.ledger.reserve, settings.ledger.min_free)
        self.keeper = Keeper(
            settings, store, disk, Marks(inherited.marks_fd), deliver, now_ns=time.time_ns, die=_die_at_once
        )
        register = Register("ledger", 0, os.getpid(), secrets.token_hex(8))
        self._link = LinkClient(places.control_socket, register, self._on_message)
        self._answers: set[asyncio.Task[None]] = set()
        self._epoch = 0

    async def run(self, stopping: Awaitable[str]) -> None:
        """Serve until `stopping` says why to stop."""
        await self.keeper.start(self._inherited.places.ledger_socket)
        self._link.start()
        stats = asyncio.create_task(self._report_stats(), name="stats")
        log.info("the ledger is ready", extra={"next_seq": self.keeper.book.next_seq})
        reason = await stopping
        log.info("%s: stopping", reason)
        if reason == "the launcher died":
            await self._wait_for_workers()
        stats.cancel()
        await asyncio.gather(stats, *self._answers, return_exceptions=True)
        await self.keeper.stop()
        await self._link.close()
        log.info("the ledger is closed")

    async def _wait_for_workers(self) -> None:
        """The workers are stopping too, and what they say last must be taken.

        One that was just started waits for them to come back: they kept what its predecessor did not confirm.
        """
        deadline = time.monotonic() + self._inherited.settings.stop_grace + ORPHAN_MARGIN
        come_back = self._started_at + COME_BACK
        while time.monotonic() < (deadline if self.keeper.server.connections else come_back):
            await asyncio.sleep(0.05)

    def _on_message(self, message: FromSupervisor) -> None:
        if isinstance(message, SetRouting):
            self._epoch = message.routing.epoch
            self.keeper.set_routing(message.routing)
            self._link.send(Applied(self._epoch))
        elif isinstance(message, BackendHealth):
            for backend, is_healthy in message.healthy.items():
                if is_healthy:
                    self.keeper.replayer.backend_is_healthy(backend)
        elif isinstance(message, Ask):
            task = asyncio.create_task(self._answer(message), name=f"answer {message.op}")
            self._answers.add(task)
            task.add_done_callback(self._answers.discard)

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
            await asyncio.sleep(STATS_INTERVAL)
            try:
                if self._link.is_connected:
                    self._link.send(self.stats(await self.keeper.figures()))
            except Exception:
                log.exception("could not make statistics")

    def stats(self, figures: Figures) -> LedgerStats:
        """The present state as the supervisor wants it."""
        keeper = self.keeper
        return LedgerStats(
            epoch=self._epoch,
            sides=_sides(self._inherited.settings, keeper, figures),
            receipts=figures.receipts,
            commits=keeper.committer.counters["commits"],
            commit_p99=keeper.committer.p99(),
            segments=figures.segments,
            bytes_on_disk=figures.bytes_on_disk,
            disk_free=figures.disk_free,
            low_disk=keeper.is_low,
            gaps=figures.gaps,
            counters=keeper.counters(),
            rss_bytes=resident_bytes(),
            breakers=self._breakers(),
            remembered=keeper.remembered(),
        )


def _sides(settings: Settings, keeper: Keeper, figures: Figures) -> list[SideStats]:
    """Each side of each configured route, and what is left of routes that are not configured any more."""
    backends = {
        (route.name, side): name for route in settings.routes for side, name in ((OLD, route.old), (NEW, route.new))
    }
    now = time.time_ns()
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
    gc.set_threshold(50_000, 20, 50)
    logging.basicConfig(level=logging.INFO)
    try:
        inherited = Inherited.from_environment()
        setup_logging(inherited.settings.log, "ledger")
        uvloop.run(_main(inherited))
    except RefuseToStart as error:
        log.error("the ledger refuses to start: %s", error)
        say_refusal(error)
        return EXIT_REFUSED
    return 0


async def _main(inherited: Inherited) -> None:
    stopping = asyncio.create_task(stop_requested(inherited))
    transport = _Transport(inherited.settings, asyncio.get_running_loop())
    try:
        await LedgerProcess(inherited, transport.deliver, transport.breakers).run(stopping)
    finally:
        await transport.close()


class _Transport:
    """The ledger's own connections to the backends."""

    def __init__(self, settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
        tick = Tick(loop, lambda: True)  # nothing has to leave this process before an event
        self._loop = loop
        self._lookup = Lookup(settings.resolver)
        self._upstreams = {
            name: upstream_of(name, backend, loop, tick, self._lookup) for name, backend in settings.backends.items()
        }
        sides = {route.name: (self._upstreams[route.old], self._upstreams[route.new]) for route in settings.routes}
        self._http = HttpDelivery(sides)
        sessions = {route.name: route.websocket for route in settings.routes if route.websocket is not None}
        self._websocket = WebSocketDelivery(sides, sessions, settings.limits.max_event_size, tick, loop)
        self._timer = loop.call_later(_CHECK_EVERY, self._check)
        self._files_timer = loop.call_later(LOOK_EVERY, self._check_files)
        loop.add_signal_handler(signal.SIGHUP, self.look_at_files)

    def _check_files(self) -> None:
        self.look_at_files()
        self._files_timer = self._loop.call_later(LOOK_EVERY, self._check_files)

    def look_at_files(self) -> None:
        """Use certificates that have changed."""
        for upstream in self._upstreams.values():
            upstream.look_at_files()

    def _check(self) -> None:
        now = time.monotonic()
        for upstream in self._upstreams.values():
            upstream.check_times(now)
        self._websocket.check_times(now)
        self._timer = self._loop.call_later(_CHECK_EVERY, self._check)

    async def deliver(self, event: Event, attempt: Attempt) -> Outcome:
        """By the transport that the event came by."""
        if event.transport == "websocket":
            return await self._websocket.deliver(event, attempt)
        return await self._http.deliver(event, attempt)

    def breakers(self) -> dict[str, str]:
        """The state of each backend's breaker."""
        now = time.monotonic()
        return {name: upstream.breaker.state(now) for name, upstream in self._upstreams.items()}

    async def close(self) -> None:
        """Close the connections."""
        self._timer.cancel()
        self._files_timer.cancel()
        self._websocket.close()
        for upstream in self._upstreams.values():
            upstream.close()
        await self._lookup.close()


if __name__ == "__main__":
    sys.exit(main())
