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
import secrets
import signal
import socket
from time import monotonic
from typing import Final

from proxy.control import descriptors
from proxy.control.inherit import Inherited
from proxy.control.link import (
    SPREAD_EVERY,
    STATS_INTERVAL,
    AnsweredPairs,
    Applied,
    BackendHealth,
    BackendRecovered,
    FromSupervisor,
    Register,
    SetRouting,
)
from proxy.control.link_client import LinkClient
from proxy.core.choose import seed_of
from proxy.http import downstream
from proxy.http.balanced import upstream_of
from proxy.http.downstream import Client
from proxy.http.listener import Handshakes, Listener
from proxy.http.plane import DataPlane
from proxy.http.rejection import Rejections
from proxy.http.route import EventRoute, headers_wanted
from proxy.http.service import Service
from proxy.http.tick import Tick
from proxy.ledger.client import LedgerClient
from proxy.ledger.marks import RESTORED, Marks
from proxy.ledger.shape import as_protocol
from proxy.net.live_context import LOOK_EVERY
from proxy.net.lookup import Lookup
from proxy.net.server_tls import ServerTls
from proxy.websocket.service import Sessions
from proxy.worker.shedding import Shedding
from proxy.worker.stats import route_spread, worker_stats

log = logging.getLogger(__name__)

LAST_CALL: Final = 0.5
"""Seconds that idle connections stay open at a stop: a request that is on its way is still answered."""

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
        )
        self.service = Service(
            self.plane, settings.limits, headers_wanted(settings.routes), loop, settings.trusted_proxies
        )
        self.sessions = Sessions(self.plane, self.service, loop)
        self.plane.upgrader = self.sessions
        self.service.most_clients = descriptors.most_clients(settings, descriptors.limit())
        self._rejections = Rejections(loop, self.service.has_room, self.plane.count)
        self._shedding = Shedding(self.plane, self.service)
        register = Register("worker", index, os.getpid(), stream)
        self.link = LinkClient(inherited.places.control_socket, register, self._hear)
        self._reports = 0
        self._served_at = monotonic()
        self._spread_at: dict[int, float] = {}
        """When each route's spread was said last, by its index."""
        self._timers: list[asyncio.TimerHandle] = []

    def _hear(self, message: FromSupervisor) -> None:
        if type(message) is SetRouting:
            self.plane.apply(message.routing)
            self.link.send(Applied(message.routing.epoch))
            self._routed.set()
        elif type(message) is BackendHealth:
            for name, healthy in message.healthy.items():
                self.plane.upstreams[name].is_healthy = healthy
            for name, endpoints in message.endpoints.items():
                self.plane.upstreams[name].set_health(endpoints)
        elif type(message) is BackendRecovered:
            for name in message.backends:
                self.plane.upstreams[name].breaker.succeeded()

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
        for descriptor, tls in zip(self._listen_fds, self._tls, strict=True):
            listening = socket.socket(fileno=os.dup(descriptor))
            listener = self._listener(listening, tls)
            listener.start()
            self._listeners.append(listener)
        self._served_at = monotonic()
        self._report()
        self._check_clients()
        self._check_files()
        self._loop.add_signal_handler(signal.SIGHUP, self.look_at_files)
        gc.collect()
        gc.freeze()  # what lives as long as the process is not looked at again
        gc.set_threshold(50_000, 20, 50)
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
        sheds = self._shedding.look(monotonic())
        self.link.send(worker_stats(self.plane, self.service, self._speaking_tls, sheds))
        self._reports += 1
        if self.plane.compared:
            self.link.send(AnsweredPairs(self.plane.compared.copy()))
            self.plane.compared.clear()  # it is this very list that pairs are put into
        for route in self.plane.routes:  # one after the other: each is 40 KB
            if self._reports % SPREAD_EVERY == (FIRST_SPREAD + route.index) % SPREAD_EVERY and self.link.is_connected:
                self._report_spread(route)
        self._loop.call_later(STATS_INTERVAL, self._report)

    def _report_spread(self, route: EventRoute) -> None:
        now = monotonic()
        self.link.send(route_spread(route, now - self._spread_at.get(route.index, self._served_at)))
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

    async def stop(self) -> None:
        """Take no more clients, finish what is in flight, make the record durable."""
        for listener in self._listeners:
            listener.close()
        for descriptor in self._listen_fds:
            os.close(descriptor)  # else it would go on listening, and a successor could not, until we end
        deadline = monotonic() + self._settings.stop_grace
        self.service.last_call()
        hang_up_at = min(monotonic() + LAST_CALL, deadline)
        while self.service.clients and monotonic() < hang_up_at:
            await asyncio.sleep(0.01)
        self.service.stop()
        self.sessions.stop()
        for listener in self._listeners:
            listener.abandon()
        while (self.service.clients or self.sessions.open or not self.plane.is_idle) and monotonic() < deadline:
            await asyncio.sleep(0.01)
        if self.service.clients:
            log.warning("clients cut at the end of the grace time", extra={"clients": len(self.service.clients)})
        if not await self.ledger.drain(max(deadline - monotonic(), 1.0)):
            log.error("the ledger did not confirm the last records")
        self.link.send(worker_stats(self.plane, self.service, self._speaking_tls))
        await self.link.close()
        self._rejections.close()
        self.ledger.close()
        self.sessions.close()
        self.plane.close()
        await self._lookup.close()
