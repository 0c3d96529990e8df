"""A backend with several endpoints: names that are looked up again and again, health and failures of each address.

    Lookup --> Names --> endpoints --> Balance.choose --> idle connection | new connection | waiting line

An endpoint that cannot be connected is left out for a while, and its leg goes to another one: no byte was sent.
One that fails otherwise is left out after as many failures in a row as open the breaker; the backend's breaker
opens when that is true of every endpoint.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from time import monotonic
from typing import Final

from aiohappyeyeballs import start_connection

from config.model import Backend
from config.units import parse_backend_url
from proxy.http.balance import Balance
from proxy.http.connection import Connection
from proxy.http.endpoint import Endpoint
from proxy.http.leg import Leg
from proxy.http.rejection import SHORTAGES
from proxy.http.tick import Tick
from proxy.http.upstream import EndpointFigures, Upstream
from proxy.ledger.shape import as_protocol
from proxy.net.client_tls import SHUTDOWN
from proxy.net.live_context import reason
from proxy.net.lookup import Address, Lookup
from proxy.net.names import Names

log = logging.getLogger(__name__)

_TRIES: Final = 3
"""Endpoints to which one leg is tried to be connected."""
_HEAD_START: Final = 0.25
"""Seconds that an address has before one of the other family is tried beside it (RFC 8305 section 5)."""


def upstream_of(name: str, settings: Backend, loop: asyncio.AbstractEventLoop, tick: Tick, lookup: Lookup) -> Upstream:
    """A backend's connections: without any choosing where there is nothing to choose. Raises BadTls."""
    if not settings.url or (len(settings.url) == 1 and parse_backend_url(settings.url[0]).is_literal):
        return Upstream(name, settings, loop, tick)
    return BalancedUpstream(name, settings, loop, tick, lookup)


class BalancedUpstream(Upstream):
    """One backend of several endpoints. `check_times` also keeps its names up to date."""

    def __init__(
        self, name: str, settings: Backend, loop: asyncio.AbstractEventLoop, tick: Tick, lookup: Lookup
    ) -> None:
        Upstream.__init__(self, name, settings, loop, tick)
        self._balance = Balance(settings.connections)
        self._failures = settings.breaker.failures
        self._reset = settings.breaker.reset
        self._health: dict[str, bool] = {}
        self.names = Names(name, settings.url, lookup, settings.resolve_interval, self._renew)

    # choosing

    @property
    def has_room(self) -> bool:
        """Would a copy be sent soon? A line as long as the pool of one endpoint says that the backend is stalled."""
        for endpoint in self._balance.endpoints:
            if endpoint.idle or endpoint.open < self._connections:
                return True
        return len(self._waiting) < self._connections

    @property
    def is_idle(self) -> bool:
        """No leg is on its way."""
        is_at_rest = sum(len(each.idle) for each in self._balance.endpoints) == self.open
        return is_at_rest and not self._waiting and not self.lasting

    @property
    def is_line_full(self) -> bool:
        """Would a leg that is sent now be refused?"""
        if len(self._waiting) < self._pending:
            return False
        return not any(each.idle or each.open < self._connections for each in self._balance.endpoints)

    @property
    def outstanding(self) -> int:
        """Legs on their way or waiting for a connection."""
        idle = sum(len(each.idle) for each in self._balance.endpoints)
        return self.open - idle + len(self._waiting) + len(self.lasting)

    def send(self, leg: Leg) -> None:
        """Send a leg; its owner hears of it later, or at once when the line is full."""
        now = monotonic()
        endpoint = self._balance.choose(now)
        if endpoint is not None and self._give(leg, endpoint, now):
            return
        if endpoint is None:
            self.names.check(now)
            if self.names.is_known:
                self._refuse_unknown(leg)
                return
        self.wait(leg, now)

    def _give(self, leg: Leg, endpoint: Endpoint, now: float) -> bool:
        """Let an endpoint have a leg; false when it can take none now."""
        if endpoint.idle and not leg.is_alone:
            self._balance.take(endpoint, now, self._reset, is_for_load=leg.is_for_load)
            endpoint.idle.pop().begin(leg)
        elif not (self._short_until and self._is_short()) and (endpoint.open < self._connections or leg.is_alone):
            self._balance.take(endpoint, now, self._reset, is_for_load=leg.is_for_load)
            self.open += 1
            endpoint.open += 1
            task = self._loop.create_task(self._reach(leg, endpoint))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)
        else:
            return False
        return True

    def _refuse_unknown(self, leg: Leg) -> None:
        self.trouble = self.last_trouble = self.names.trouble
        self._refuse(leg, 502, f"cannot look up the backend {self.name}")

    def _serve_waiting(self) -> None:
        while self._waiting:
            now = monotonic()
            endpoint = self._balance.choose(now)
            if endpoint is None or not (endpoint.idle or endpoint.open < self._connections):
                return
            since, leg = self._waiting.popleft()
            if not self._give(leg, endpoint, now):
                self._waiting.appendleft((since, leg))
                return
        self.look_at_line()

    # connecting

    async def _reach(self, leg: Leg, endpoint: Endpoint) -> None:
        """Connect to an endpoint for a leg, or to another one instead."""
        tried: list[Endpoint] = []
        while True:
            connection = Connection(self, self.tls is not None, endpoint)
            try:
                why = await self._attempt(leg, connection, endpoint)
            except OSError:  # one of SHORTAGES
                self._lose(connection.endpoint or endpoint)
                self.fall_short(leg)
                return
            except asyncio.CancelledError:
                self._lose(connection.endpoint or endpoint)
                self._refuse(leg, 502, "closing")
                raise
            endpoint = connection.endpoint or endpoint
            if not why:
                break
            self._lose(endpoint)
            now = monotonic()
            self._unreached(leg, endpoint, now, f"cannot connect: {why}")
            tried.append(endpoint)
            other = self._balance.choose(now, tried) if len(tried) < _TRIES else None
            if other is None or not other.is_usable(now):
                self.trouble = self.last_trouble = f"cannot connect to {endpoint.address.text}: {why}"
                self._refuse(leg, 502, f"cannot connect to the backend {self.name}")
                self._serve_waiting()
                return
            if not leg.is_alone and (other.idle or other.open >= self._connections):
                self._waiting.appendleft((now, leg))
                self._serve_waiting()
                return
            self._balance.take(other, now, self._reset, is_for_load=leg.is_for_load)
            self.open += 1
            other.open += 1
            endpoint = other
        self._all.add(connection)
        self.last_trouble = ""
        self._begin(connection, leg)

    def _lose(self, endpoint: Endpoint) -> None:
        self.open -= 1
        endpoint.open -= 1

    async def _attempt(self, leg: Leg, connection: Connection, endpoint: Endpoint) -> str:
        """Connect; why not, or empty. The connection's endpoint is another one when that was faster.

        Raises OSError when there are no descriptors.
        """
        try:
            async with asyncio.timeout(self.settings.connect_timeout):
                await self._open_to(leg, connection, endpoint)
        except TimeoutError:
            return f"no connection within {self.settings.connect_timeout:g} s"
        except OSError as error:
            if error.errno in SHORTAGES:
                raise
            return reason(error)
        return "" if connection.transport is not None else "closed at once"

    async def _open_to(self, leg: Leg, connection: Connection, endpoint: Endpoint) -> None:
        tls, loop = self.tls, self._loop
        server_name = None if tls is None else tls.server_name or endpoint.address.name
        context = None if tls is None else tls.live.context
        shutdown = None if tls is None else SHUTDOWN
        other = self._of_other_family(endpoint)
        if other is None:
            await loop.create_connection(
                lambda: as_protocol(connection),
                endpoint.address.host,
                endpoint.address.port,
                ssl=context,
                server_hostname=server_name,
                ssl_shutdown_timeout=shutdown,
            )
            return
        connected = await start_connection(
            [_addr_info(endpoint.address), _addr_info(other.address)], happy_eyeballs_delay=_HEAD_START, loop=loop
        )
        if connected.family != _family(endpoint.address):
            self._lose(endpoint)
            self._unreached(leg, endpoint, monotonic(), f"slower than {other.address.text}")
            self.open += 1
            other.open += 1
            connection.endpoint = other
        await loop.create_connection(
            lambda: as_protocol(connection),
            sock=connected,
            ssl=context,
            server_hostname=server_name,
            ssl_shutdown_timeout=shutdown,
        )

    def _of_other_family(self, endpoint: Endpoint) -> Endpoint | None:
        """An address of the same name in the other family: who has no IPv6 (or IPv4) need not wait to find out."""
        mine, now = endpoint.address, monotonic()
        for other in self._balance.endpoints:
            theirs = other.address
            same = theirs.name == mine.name and theirs.port == mine.port and theirs.is_ipv6 != mine.is_ipv6
            if same and other.is_usable(now) and other.open < self._connections:
                return other
        return None

    # what became of it

    def _unreached(self, leg: Leg, endpoint: Endpoint, now: float, why: str) -> None:
        """It could not be connected, or not as soon as another one: leave it out.

        A load test that is left out says that to those who choose, else it would try what is dead again and again. But
        it counts no failure: from those of all endpoints comes the opening of the breaker.
        """
        if not leg.is_for_load:
            self._failed(endpoint, now, why, 0.0, is_out=True)
        elif endpoint.leave_out(now, self._reset):
            self._tell_left_out(endpoint, why)

    def _tell_left_out(self, endpoint: Endpoint, why: str) -> None:
        extra = {"backend": self.name, "endpoint": endpoint.address.text, "reason": why}
        log.warning("endpoint left out", extra=extra)

    def _failed(self, endpoint: Endpoint, now: float, why: str, sent_at: float, *, is_out: bool) -> None:
        if endpoint.failed(now, self._reset, why, is_out=is_out) and is_out:
            self._tell_left_out(endpoint, why)
        breaker, reason = self.breaker, f"{endpoint.address.text}: {why}"
        if not all(each.row >= self._failures or not each.is_healthy for each in self._balance.endpoints):
            breaker.row = max(breaker.row, 1)  # so that a success is told
            breaker.note(now, reason, sent_at)
            return
        if breaker.is_closed:
            breaker.row = max(breaker.row, self._failures - 1)
        if breaker.failed(now, reason, sent_at):
            log.warning("breaker opened", extra={"backend": self.name, "reason": reason})

    def observe(self, leg: Leg, endpoint: Endpoint | None = None) -> None:
        """Feed the endpoint's record, and the breaker when no endpoint is left."""
        if leg.is_for_load:
            self.trouble = ""
        elif endpoint is None:
            if leg.status >= 500 and not self._balance.is_any_usable(monotonic()):
                Upstream.observe(self, leg)
        elif leg.status < 500:
            endpoint.succeeded()
            self.breaker.succeeded()
            if any(each.row for each in self._balance.endpoints):
                self.breaker.row = 1
        else:
            is_out = endpoint.row + 1 >= self._failures
            self._failed(endpoint, monotonic(), leg.reason or f"status {leg.status}", leg.sent_at, is_out=is_out)

    def release(self, connection: Connection, now: float) -> None:
        """A connection is free: the next in line takes it, unless its endpoint is gone."""
        endpoint = connection.endpoint
        assert endpoint is not None
        if endpoint.is_gone:
            connection.abort()
        elif self._waiting and not self._waiting[0][1].is_alone:
            connection.begin(self._waiting.popleft()[1])
            if self.is_crowded:
                self.look_at_line()
        else:
            connection.idle_since = now
            endpoint.idle.append(connection)
            self._serve_waiting()

    def retire(self, connection: Connection) -> None:
        """A connection is about to go: what is sent on it until it is gone would be lost unseen."""
        endpoint = connection.endpoint
        if endpoint is not None and connection in endpoint.idle:
            endpoint.idle.remove(connection)

    def _leave(self, connection: Connection) -> None:
        if connection in self._all:
            self._all.remove(connection)
            assert connection.endpoint is not None
            self._lose(connection.endpoint)

    # names and health

    def _renew(self, addresses: tuple[Address, ...]) -> None:
        """The names stand for these addresses now. What is on its way to others is waited for."""
        known = {each.address[:3]: each for each in self._balance.endpoints}
        endpoints = []
        for address in addresses:
            endpoint = known.pop(address[:3], None)
            if endpoint is None:
                endpoint = Endpoint(address)
                endpoint.is_healthy = self._health.get(address.text, True)
                if not self.breaker.is_closed:
                    self.breaker.succeeded()  # of this one nothing bad is known
            else:
                endpoint.use(address)
            endpoints.append(endpoint)
        self._balance.endpoints = endpoints
        for gone in known.values():
            gone.is_gone = True
            idle, gone.idle = gone.idle, []
            for connection in idle:
                connection.abort()
        if not endpoints:
            while self._waiting:
                self._refuse_unknown(self._waiting.popleft()[1])
        self._serve_waiting()

    def set_health(self, healthy: dict[str, bool]) -> None:
        """What the supervisor's probes say of each address."""
        self._health = healthy
        for endpoint in self._balance.endpoints:
            endpoint.is_healthy = healthy.get(endpoint.address.text, True)

    def check_times(self, now: float) -> None:
        """Every 100 ms: what an upstream checks, idle connections of each endpoint, names that are to be looked up."""
        Upstream.check_times(self, now)
        for endpoint in self._balance.endpoints:
            while endpoint.idle and now - endpoint.idle[0].idle_since > self.settings.idle_timeout:
                endpoint.idle.pop(0).abort()
        self.names.check(now)

    def endpoints(self, now: float) -> list[EndpointFigures]:
        """Each endpoint as it is now."""
        return [
            EndpointFigures(each.address.text, each.state(now), each.outstanding, each.open, each.last_trouble)
            for each in self._balance.endpoints
        ]

    @property
    def lookup_trouble(self) -> str:
        """Why its names could not be looked up last; empty when they could."""
        return self.names.trouble

    @property
    def lookup_failures(self) -> int:
        """How often they could not."""
        return self.names.failures

    def close(self) -> None:
        """Close every connection; legs on the way fail."""
        self.names.close()
        Upstream.close(self)


def _family(address: Address) -> int:
    return socket.AF_INET6 if address.is_ipv6 else socket.AF_INET


def _addr_info(address: Address) -> tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]:
    """As getaddrinfo would say it."""
    where = (address.host, address.port, 0, 0) if address.is_ipv6 else (address.host, address.port)
    return (_family(address), socket.SOCK_STREAM, socket.IPPROTO_TCP, "", where)
