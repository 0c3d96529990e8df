"""One worker: the data plane between the inherited listeners, the ledger and the supervisor.

launcher's sockets --> Service/Client --> DataPlane --> Upstream (old, new)
                                             |  ^
                                LedgerClient +  +-- LinkClient: routing and health in, figures out
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import pickle
import secrets
import signal
import socket
from collections.abc import Iterable
from pathlib import Path
from random import shuffle
from time import monotonic, time
from typing import Final

from config.changes import digest, flatten
from config.model import Settings
from proxy.control import descriptors
from proxy.control.inherit import Inherited
from proxy.control.link import (
    SPREAD_EVERY,
    STATS_INTERVAL,
    AnsweredPairs,
    Applied,
    BackendHealth,
    BackendRecovered,
    Drain,
    FromSupervisor,
    Register,
    RunSource,
    SetFaults,
    SetLogLevel,
    SetRouting,
    SetSettings,
    StopSource,
)
from proxy.control.link_client import LinkClient
from proxy.control.logs import LogLevel
from proxy.core.choose import seed_of
from proxy.core.loop_lag import LoopLag
from proxy.fanout.relay import Consumers
from proxy.http import downstream, tracing
from proxy.http.access import AccessLog
from proxy.http.balanced import upstream_of
from proxy.http.downstream import Client
from proxy.http.faults import CopyFault, Faults, new_backends
from proxy.http.listener import Handshakes, Listener
from proxy.http.plane import DataPlane
from proxy.http.rejection import Rejections
from proxy.http.route import EventRoute, headers_wanted
from proxy.http.service import Service
from proxy.http.tick import Tick
from proxy.http.upstream import Upstream
from proxy.ledger.client import LedgerClient
from proxy.ledger.marks import RESTORED, Marks, grow
from proxy.ledger.shape import as_protocol
from proxy.net.live_context import LOOK_EVERY
from proxy.net.lookup import Lookup
from proxy.net.server_tls import ServerTls
from proxy.sources.sources import STOP_WAIT, Sources
from proxy.websocket.frames import GOING_AWAY, SERVICE_RESTART
from proxy.websocket.service import Sessions
from proxy.worker.adopting import Adopting
from proxy.worker.retiring import Retiring
from proxy.worker.shedding import Shedding
from proxy.worker.stats import route_spread, worker_stats
from proxy.worker.traced import send_spans, tracer_of

log = logging.getLogger(__name__)

LAST_CALL: Final = 0.5
"""Seconds that idle connections stay open at a stop: a request that is on its way is still answered."""

_FINISH: Final = 0.1
"""Share of `drain_timeout` that is left for what has not ended by then: it is closed all at once."""

FIRST_SPREAD: Final = 8
"""Reports of a worker before the first `RouteSpread`: soon enough for a dry run right after a start."""


def _start_anew() -> None:
    """This stream is over; the launcher starts another worker, which has a new one.

    It happens when a worker was frozen while the ledger was replaced: the ledger has taken its events over.
    """
    os._exit(1)


class Worker:
    """Everything one worker process has. index: from 0."""

    def __init__(self, inherited: Inherited, index: int, loop: asyncio.AbstractEventLoop) -> None:
        settings = inherited.settings
        self._settings = settings
        self._loop = loop
        self._listen_fds = inherited.listen_fds
        self._listeners: list[Listener] = []
        self._tls = [ServerTls(each.tls, each.address) if each.tls else None for each in settings.listen]
        self._speaking_tls = [tls for tls in self._tls if tls is not None]
        self._routed = asyncio.Event()
        stream = secrets.token_hex(8)
        self.ledger = LedgerClient(inherited.places.ledger_socket, stream, index, loop)
        self.tick = Tick(loop, self.ledger.flush)
        self.ledger.resume = self.tick.run
        self.ledger.forgotten = _start_anew
        slots = inherited.slots
        grow(inherited.marks_fd, max(slots.values()) + 1)
        self._marks = Marks(inherited.marks_fd)
        self._lookup = Lookup(settings.resolver)
        upstreams = {
            name: upstream_of(name, backend, loop, self.tick, self._lookup)
            for name, backend in settings.backends.items()
        }
        self.plane = DataPlane(
            settings.routes,
            settings.default,
            upstreams,
            self.ledger,
            self._marks,
            self.tick,
            loop,
            seed_of(settings.salt),
            int(stream[:8], 16),
            settings.limits.max_decoded_size,
            settings.limits.memory // settings.workers,
            slots,
        )
        self.plane.tracer = self._tracer = tracer_of(settings)
        self.plane.access = AccessLog(settings.log.access) if settings.log.access is not None else None
        wanted = headers_wanted(settings.routes)
        if self._tracer is not None:
            wanted |= {tracing.HEADER}
        self.service = Service(self.plane, settings.limits, wanted, loop, settings.trusted_proxies)
        self.sessions = Sessions(self.plane, self.service, loop)
        self.plane.upgrader = self.sessions
        self.consumers = self.plane.consumers = Consumers(self.service, inherited.places.fanout_socket)
        self.service.most_clients = descriptors.most_clients(settings, descriptors.limit())
        self._rejections = Rejections(loop, self.service.has_room, self.plane.count)
        self._shedding = Shedding(self.plane, self.service)
        self.faults = Faults(new_backends(settings), loop, self._set_fault)
        self._register = Register("worker", index, os.getpid(), stream, time(), digest(flatten(settings)))
        self.link = LinkClient(inherited.places.control_socket, self._register, self._hear)
        self.sources = Sources(settings.sources, self.service, self.link.send)
        self._places = inherited.places
        self._is_accepting = False
        self._retiring: Retiring | None = None
        self.adopting = Adopting(inherited.places.handover_socket(index), self.service, self.sessions, self.consumers)
        self._reports = 0
        self._lag = LoopLag()
        self._log_level = LogLevel(settings.log)
        self._served_at = monotonic()
        self._spread_at: dict[int, float] = {}
        """When each route's spread was said last, by its index."""
        self._timers: list[asyncio.TimerHandle] = []

    def _hear(self, message: FromSupervisor) -> None:
        if type(message) is SetRouting:
            self.plane.apply(message.routing)
            self.link.send(Applied(message.routing.epoch))
            self._routed.set()
        elif type(message) is SetSettings:
            self._adopt(message)
        elif type(message) is Drain:
            self.service.drain()
        elif type(message) is SetFaults:
            self.faults.set(message.faults)
        elif type(message) is SetLogLevel:
            self._log_level.set(message.level, message.seconds)
        elif type(message) is BackendHealth:
            for upstream in self._known(message.healthy):
                upstream.is_healthy = message.healthy[upstream.name]
            for upstream in self._known(message.endpoints):
                upstream.set_health(message.endpoints[upstream.name])
        elif type(message) is BackendRecovered:
            for upstream in self._known(message.backends):
                upstream.breaker.succeeded()
        elif type(message) is RunSource:
            self.sources.run(message)
        elif type(message) is StopSource:
            self.sources.stop(message)

    def _known(self, names: Iterable[str]) -> list[Upstream]:
        """The backends of these names. A supervisor of another file than ours may know more of them."""
        return [self.plane.upstreams[name] for name in names if name in self.plane.upstreams]

    def _adopt(self, message: SetSettings) -> None:
        """Go by other settings from now on, where only live keys are others; else a successor of ours has them."""
        if self._register.configuration not in message.instead_of:
            return
        settings: Settings = pickle.loads(message.settings)  # noqa: S301 - our own supervisor's
        self._settings = settings
        self.plane.adopt(settings)
        self._register.configuration = message.digest
        log.info("other settings", extra={"configuration": message.digest})

    def _set_fault(self, name: str, fault: CopyFault | None) -> None:
        for route in self.plane.routes:
            if route.name == name:
                route.fault = fault

    async def start(self) -> None:
        """Connect to ledger and supervisor, wait for the routing, then take clients."""
        self.ledger.connect()
        self.link.start()
        self.plane.start()
        self.sessions.start()
        await self._routed.wait()
        # The marks of a new instance are empty until the ledger has found what a predecessor left undelivered:
        # an event taken before that would overtake it.
        while not self._marks.flag(RESTORED):
            await asyncio.sleep(0.01)
        self.adopting.start()
        for descriptor, tls in zip(self._listen_fds, self._tls, strict=True):
            listening = socket.socket(fileno=os.dup(descriptor))
            listener = self._listener(listening, tls)
            listener.start()
            self._listeners.append(listener)
        self._is_accepting = True
        self._served_at = monotonic()
        self._report()
        self._check_clients()
        self._check_files()
        self._loop.add_signal_handler(signal.SIGHUP, self.look_at_files)
        gc.collect()
        gc.freeze()  # what lives as long as the process is not looked at again
        is_compiled = not str(downstream.__file__).endswith(".py")
        log.info("worker serves", extra={"epoch": self.plane.epoch, "compiled": is_compiled})

    def _listener(self, listening: socket.socket, tls: ServerTls | None) -> Listener:
        if tls is None:
            return Listener(self._loop, listening, self._make_client, self._cannot_accept, rejections=self._rejections)
        limits = self._settings.limits
        handshakes = Handshakes(
            tls.live,
            timeout=limits.head_timeout,
            linger=limits.keepalive_timeout,  # a slow client may still read its last answer
            most=limits.max_connections,
            failed=self._handshake_failed,
        )
        return Listener(self._loop, listening, self._make_tls_client, self._cannot_accept, handshakes, self._rejections)

    def _make_client(self) -> asyncio.Protocol:
        return as_protocol(Client(self.service))

    def _make_tls_client(self) -> asyncio.Protocol:
        return as_protocol(Client(self.service, is_tls=True))

    def _handshake_failed(self, _: str) -> None:
        self.plane.count("tls_handshakes_failed")

    def _cannot_accept(self) -> None:
        self.plane.count("accept_failures")

    def _report(self) -> None:
        now = monotonic()
        sheds, lag = self._shedding.look(now), self._lag.ran(now)
        sources = self.sources.stats()
        refusals = self.sessions.refusals(now)
        stats = worker_stats(self.plane, self.service, self._speaking_tls, sheds, self.faults, sources, lag, refusals)
        stats.configuration = self._register.configuration
        self.link.send(stats)
        self._send_spans()
        self.sources.report(self.link.connections)
        self._reports += 1
        if self.plane.compared:
            self.link.send(AnsweredPairs(self.plane.compared.copy()))
            self.plane.compared.clear()  # it is this very list that pairs are put into
        for route in self.plane.routes:  # one after the other: each is 40 KB
            if self._reports % SPREAD_EVERY == (FIRST_SPREAD + route.index) % SPREAD_EVERY and self.link.is_connected:
                self._report_spread(route)
        self._lag.expect(monotonic() + STATS_INTERVAL)
        self._loop.call_later(STATS_INTERVAL, self._report)

    def _send_spans(self) -> None:
        if self._tracer is not None:
            send_spans(self._tracer, self.link.send)

    def _report_spread(self, route: EventRoute) -> None:
        now = monotonic()
        seconds = now - self._spread_at.get(route.index, self._served_at)
        self.link.send(route_spread(route, seconds, self.plane.epoch))
        self._spread_at[route.index] = now

    def _check_clients(self) -> None:
        self.service.check_times(monotonic())
        self._loop.call_later(1.0, self._check_clients)

    def _check_files(self) -> None:
        self.look_at_files()
        self._loop.call_later(LOOK_EVERY, self._check_files)

    def look_at_files(self) -> None:
        """Use certificates that have changed; connections keep those that they began with."""
        for tls in self._speaking_tls:
            tls.live.look()
        for upstream in self.plane.upstreams.values():
            upstream.look_at_files()

    async def retire(self) -> None:
        """Another worker has this one's place: give it the connections that can move, end the others in order.

        It serves on the same listeners, and this process may have to serve there again.
        """
        self._accept_no_more()
        deadline = monotonic() + self._settings.drain_timeout
        sources = asyncio.create_task(self.sources.close(min(STOP_WAIT, self._settings.drain_timeout / 4)))
        self._retiring = Retiring(self.service, self.sessions, self.consumers, self._successors, self._is_arriving)
        try:
            await self._retiring.run(deadline - _FINISH * self._settings.drain_timeout)
            self.service.drain()  # from here on nobody goes on elsewhere, and answers say so
            await sources
        finally:
            sources.cancel()
        self.service.last_call()
        await self._finish(deadline, SERVICE_RESTART, "the proxy restarts")

    def _successors(self) -> list[Path]:
        """Where workers may listen that take our connections: who has our place, or any other one if it is given up."""
        ours = self.adopting.path
        others = self._places.handover_sockets()
        shuffle(others)
        return [ours, *[path for path in others if path != ours]]

    def _is_arriving(self) -> bool:
        return self.adopting.is_busy or any(listener.is_opening for listener in self._listeners)

    @property
    def is_serving(self) -> bool:
        """Does it take clients?"""
        return self._is_accepting

    def _accept_no_more(self) -> None:
        self.adopting.close()
        if self._is_accepting:
            self._is_accepting = False
            for listener in self._listeners:
                listener.close()

    async def stop(self, *, is_relieved: bool = False) -> None:
        """Take no more clients, finish what is in flight, make the record durable.

        is_relieved: this process may have to serve on the same listeners again.
        """
        self._accept_no_more()
        if not is_relieved:
            for descriptor in self._listen_fds:
                os.close(descriptor)  # else it would go on listening, and a successor could not, until we end
        if self.service.is_ending:  # it was retiring: connections end with their next answer anyway
            self.service.drain()
        deadline = monotonic() + self._settings.stop_grace
        await self.sources.close(min(STOP_WAIT, self._settings.stop_grace / 4))
        self.service.last_call()
        hang_up_at = min(monotonic() + LAST_CALL, deadline)
        while self.service.clients and monotonic() < hang_up_at:
            await asyncio.sleep(0.01)
        await self._finish(deadline, GOING_AWAY, "the proxy stops")

    async def _finish(self, deadline: float, code: int, reason: str) -> None:
        """Close what is open, wait for what is on its way, and make the record durable. code: of a session's end."""
        self.service.stop()
        over = min(self._settings.drain.close_over, deadline - monotonic() - LAST_CALL)
        self.sessions.stop(code, reason, max(over, 0.0))
        self.consumers.stop()
        for listener in self._listeners:
            listener.abandon()
        while self._is_busy() and monotonic() < deadline:
            await asyncio.sleep(0.01)
        if self.service.clients:
            log.warning("clients cut at the end of the grace time", extra={"clients": len(self.service.clients)})
        if self._retiring is not None:
            self._retiring.close()  # which may have something to say to the ledger
        if not await self.ledger.drain(max(deadline - monotonic(), 1.0)):
            log.error("the ledger did not confirm the last records")
        await self.adopting.end()
        self.link.send(worker_stats(self.plane, self.service, self._speaking_tls))
        self._send_spans()
        await self.link.close()
        self._rejections.close()
        self.faults.close()
        self.ledger.close()
        self.sessions.close()
        self.plane.close()
        await self._lookup.close()

    def _is_busy(self) -> bool:
        """Is anything on its way, or kept of a session that another worker has?"""
        is_kept = self._retiring is not None and self._retiring.keeps(monotonic())
        return bool(self.service.clients or self.sessions.open or is_kept) or not self.plane.is_idle
