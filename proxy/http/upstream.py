"""A backend's connections: a pool, a waiting line, the breaker.

    Upstream.send(leg) --> idle connection | new connection | waiting line | failure

A leg is one side of one event on its way. Its owner is told exactly once how it ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

from config.model import Backend
from config.units import parse_backend_url
from proxy.core.breaker import Breaker
from proxy.core.event import UNREACHABLE
from proxy.core.sketch import Sketch
from proxy.http.connection import Connection
from proxy.http.leg import Leg
from proxy.http.rejection import SHORTAGES
from proxy.http.rendering import Rendering
from proxy.http.response_head import ResponseHeads
from proxy.http.rewrite import Rewrite
from proxy.http.tick import Tick
from proxy.ledger.shape import as_protocol
from proxy.net.client_tls import SHUTDOWN, client_tls
from proxy.net.live_context import reason

if TYPE_CHECKING:
    from proxy.http.endpoint import Endpoint

log = logging.getLogger(__name__)

STALLED: Final = 8
"""Copies parked in a row, with no answer between them, before a backend may count as stalled."""
_STALLED_FOR: Final = 0.005
"""Seconds since the first of them before it does, or four times what its answers usually take if that is longer."""
_LATENCY: Final = 0.25
"""Seconds that the answers of a backend are taken to need before there was one, and that one counts as at most."""
NOWHERE: Final = "http://127.0.0.1:9"
"""Of a backend that connects to us: nothing is ever sent to it from here."""
CROWDED: Final = "too many events wait for this backend"
_SHORT: Final = 0.1
"""Seconds without trying to connect after there were no descriptors."""
_ROOM: Final = 0.8
"""Share of `pending` up to which a line is short."""
_TRIAL: Final = 0.1
"""Seconds between two copies that a stalled backend gets all the same, to see whether it answers."""


class Figures:
    """What was seen of one (route, side, role): answers by class of their code, latency, and what was delivered."""

    __slots__ = ("body_bytes", "classes", "latency")

    def __init__(self) -> None:
        self.classes = [0] * 6
        """Index: the status divided by 100; 0 counts failures without an answer."""
        self.latency = Sketch()
        self.body_bytes = 0
        """Of the events that the backend has accepted: their bodies, without heads and frames."""


class EndpointFigures(NamedTuple):
    """An endpoint at a moment. state: up, out or unhealthy; outstanding: legs on their way; trouble: why it failed."""

    address: str
    state: str
    outstanding: int
    open: int
    trouble: str


class Upstream:
    """One backend as this process sees it. This one has one endpoint; see `proxy.http.balanced` for several."""

    def __init__(self, name: str, settings: Backend, loop: asyncio.AbstractEventLoop, tick: Tick) -> None:
        self.name = name
        self.settings = settings
        self.tick = tick
        self.heads = ResponseHeads()
        self.breaker = Breaker(settings.breaker.failures, settings.breaker.reset)
        self.is_healthy = True
        """What the supervisor's probe says; true without a probe."""
        self.open = 0
        """Connections of the pool that are open or being opened."""
        self.lasting: set[Connection] = set()
        """Connections that left it: of bodies in pieces, of long answers, of sessions; as many as clients at most."""
        self._lent: set[Connection] = set()
        """Those of them that speak HTTP. What sessions speak they look after, and there may be many thousands."""
        self.parked = 0
        """Copies that kept their clients waiting too long, since an answer began."""
        self.latency = _LATENCY
        """Seconds from a request to the head of its answer: a moving average."""
        self._parked_at = self._trial_at = 0.0
        self.is_closed = False
        self.trouble = ""
        """Why the last connection could not be made, for the log."""
        self.rewrite = Rewrite.of(settings)
        """What it gets differently; None for what all get."""
        http = settings.deliver.http
        self.rendering = Rendering(http) if http is not None else None
        """What is made of each event for it; None when it takes them as they came."""
        self.is_plain = self.rewrite is None and self.rendering is None
        """Does it get just what all get?"""
        self.last_trouble = ""
        """The same until one could be made."""
        self._connections = settings.connections
        self._pending = settings.pending
        self._loop = loop
        url = parse_backend_url(settings.url[0] if settings.url else NOWHERE)
        self._host, self._port = url.host, url.port
        self.tls = client_tls(name, settings)
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._waiting: deque[tuple[float, Leg]] = deque()
        self._connecting: set[asyncio.Task[None]] = set()
        self.is_crowded = False
        """The line is full or was a moment ago: to be asked before `is_line_full`, because it costs less."""
        self._short_until = 0.0
        """No connection is opened before that: there were no descriptors."""
        self.shortages = 0
        """Connections that were not opened for that."""
        self.cut_rests = 0
        """Requests that it said yes to and never took the rest of."""

    def is_ready(self, now: float, is_for_load: bool) -> bool:
        """May a live event be sent? While the breaker is open, one trial per reset time.

        is_for_load: of a load test that is left out. That is no trial, as nobody would hear how it ended.
        """
        breaker = self.breaker
        if breaker.is_closed:
            return self.is_healthy
        return self.is_healthy and not is_for_load and breaker.allows(now)

    @property
    def is_well(self) -> bool:
        """As `is_ready`, but never takes the breaker's trial."""
        return self.breaker.is_closed and self.is_healthy

    @property
    def has_room(self) -> bool:
        """Would a copy be sent soon? A line as long as the pool says that the backend is stalled."""
        connections = self._connections
        return bool(self._idle) or self.open < connections or len(self._waiting) < connections

    def is_stalled(self, now: float) -> bool:
        """Would a copy only keep its client waiting? False once in a while all the same, for one to try.

        To be asked when `parked` has reached `STALLED`: that alone may also be the sign of a slow backend.
        """
        if self.parked < STALLED or now - self._parked_at < max(_STALLED_FOR, 4 * self.latency):
            return False
        if now < self._trial_at:
            return True
        self._trial_at = now + _TRIAL
        return False

    def park(self, now: float) -> None:
        """A copy kept its client waiting too long."""
        if not self.parked:
            self._parked_at = now
        self.parked += 1

    def heard(self, leg: Leg) -> None:
        """The head of an answer is here."""
        self.parked = 0
        self.latency += (min(leg.answered_at - leg.sent_at, _LATENCY) - self.latency) / 16

    @property
    def is_idle(self) -> bool:
        """No leg is on its way."""
        return len(self._idle) == self.open and not self._waiting and not self.lasting

    @property
    def outstanding(self) -> int:
        """Legs on their way or waiting for a connection."""
        return self.open - len(self._idle) + len(self._waiting) + len(self.lasting)

    def send(self, leg: Leg) -> None:
        """Send a leg; its owner hears of it later, or at once when the line is full."""
        if leg.is_alone:
            self.connect(leg)  # not on one that may be about to go: what is passed on once is gone
        elif self._idle:
            self._idle.pop().begin(leg)
        elif self.open < self._connections and not (self._short_until and self._is_short()):
            self.connect(leg)
        else:
            self.wait(leg, monotonic())

    def wait(self, leg: Leg, now: float) -> None:
        """Put a leg at the end of the line, if that is not full."""
        if self._short_until and not self.open and self._is_short():
            self.refuse_short(leg)  # no connection will be free
            return
        waiting = len(self._waiting)
        if waiting < self._pending:
            self._waiting.append((now, leg))
        if waiting + 1 >= self._pending:
            self.is_crowded = True
        if waiting >= self._pending:
            leg.kind, leg.status, leg.reason = UNREACHABLE, 503, CROWDED
            leg.owner.leg_done(leg)

    @property
    def is_line_full(self) -> bool:
        """Would a leg that is sent now be refused?"""
        if self._idle or len(self._waiting) < self._pending:
            return False
        return self.open >= self._connections

    # without descriptors

    def _is_short(self) -> bool:
        """Were there no descriptors a moment ago?"""
        if monotonic() >= self._short_until:
            self._short_until = 0.0
        return self._short_until != 0.0

    def fall_short(self, leg: Leg) -> None:
        """There was no descriptor for a connection: its leg waits for one that is open, if there is any."""
        now = monotonic()
        self.shortages += 1
        if not self._short_until:
            log.warning("no descriptors for connections", extra={"backend": self.name})
        self._short_until = now + _SHORT
        if self.open and not leg.is_alone:
            self._waiting.appendleft((now, leg))
            return
        self.refuse_short(leg)
        while self._waiting and not self.open:
            self.refuse_short(self._waiting.popleft()[1])

    def refuse_short(self, leg: Leg) -> None:
        """A leg that cannot be sent, for reasons of our own: the breaker does not hear of it."""
        leg.kind, leg.status, leg.reason = UNREACHABLE, 503, "this instance has no descriptors left"
        leg.connection = None
        leg.is_ours = True
        leg.owner.leg_done(leg)

    def connect(self, leg: Leg) -> None:
        """Open a connection for a leg."""
        self.open += 1
        task = self._loop.create_task(self._connect(leg))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, leg: Leg) -> None:
        connection = Connection(self, self.tls is not None)
        try:
            async with asyncio.timeout(self.settings.connect_timeout):
                await self._open(connection)
        except TimeoutError:
            self._not_connected(leg, f"no connection within {self.settings.connect_timeout:g} s")
            return
        except OSError as error:
            if error.errno in SHORTAGES:
                self.open -= 1
                self.fall_short(leg)
            else:
                self._not_connected(leg, reason(error))
            return
        except asyncio.CancelledError:
            self._not_connected(leg, "closing")
            raise
        if connection.transport is None:
            self._not_connected(leg, "closed at once")
            return
        self._all.add(connection)
        self.last_trouble = ""
        self._begin(connection, leg)

    def _begin(self, connection: Connection, leg: Leg) -> None:
        """Send a leg on the connection that was opened for it."""
        if leg.is_alone:
            self.lend(connection)
        connection.begin(leg)

    async def _open(self, connection: Connection) -> None:
        """Connect. Over TLS the connection is made, for its protocol, when the other side has proved who it is."""
        tls, loop = self.tls, self._loop
        if tls is None:
            await loop.create_connection(lambda: as_protocol(connection), self._host, self._port)
        else:
            await loop.create_connection(
                lambda: as_protocol(connection),
                self._host,
                self._port,
                ssl=tls.live.context,
                server_hostname=tls.server_name or self._host,
                ssl_shutdown_timeout=SHUTDOWN,
            )

    def _not_connected(self, leg: Leg, why: str) -> None:
        self.open -= 1
        self.trouble = f"cannot connect to {self._host}:{self._port}: {why}"
        if self.trouble != self.last_trouble:
            self.last_trouble = self.trouble
            log.warning("cannot connect", extra={"backend": self.name, "reason": self.trouble})
        self._refuse(leg, 502, f"cannot connect to the backend {self.name}")  # clients need not know where it is
        self._serve_waiting()

    def repeat(self, leg: Leg) -> None:
        """Send a leg once more, before all others, on a new connection as soon as there may be one."""
        self._waiting.appendleft((monotonic(), leg))

    def _refuse(self, leg: Leg, status: int, reason: str) -> None:
        leg.kind, leg.status, leg.reason = UNREACHABLE, status, reason
        leg.connection = None
        self.observe(leg)
        leg.owner.leg_done(leg)

    def release(self, connection: Connection, now: float) -> None:
        """A connection is free: the next in line takes it."""
        if self._waiting:
            connection.begin(self._waiting.popleft()[1])
            if self.is_crowded:
                self.look_at_line()
        else:
            connection.idle_since = now
            self._idle.append(connection)

    def cut_short(self) -> None:
        """Its yes came before it had the whole request, and the connection ended before it had the rest."""
        self.cut_rests += 1
        log.warning("it said yes to a request and did not take the rest of it", extra={"backend": self.name})

    def retire(self, connection: Connection) -> None:
        """A connection is about to go: what is sent on it until it is gone would be lost unseen."""
        if connection in self._idle:
            self._idle.remove(connection)

    def lend(self, connection: Connection) -> None:
        """Let a connection leave the pool, so that events need not wait for what may last for hours."""
        self._leave(connection)
        connection.is_lasting = True
        self.lasting.add(connection)
        self._lent.add(connection)
        self._serve_waiting()

    def take_over(self, connection: Connection) -> None:
        """A connection that another worker has made, and that speaks something else."""
        connection.is_lasting = True
        self.lasting.add(connection)

    def switched(self, connection: Connection) -> None:
        """A connection that was lent speaks something else from now on."""
        self._lent.discard(connection)

    def _leave(self, connection: Connection) -> None:
        if connection in self._all:
            self._all.remove(connection)
            self.open -= 1

    def forget(self, connection: Connection) -> None:
        """A connection is gone."""
        self._leave(connection)
        self.lasting.discard(connection)
        self._lent.discard(connection)
        self.retire(connection)
        self._serve_waiting()

    def _serve_waiting(self) -> None:
        while self._waiting and self.open < self._connections:
            if self._short_until and self._is_short():
                return
            self.connect(self._waiting.popleft()[1])
        self.look_at_line()

    def look_at_line(self) -> None:
        """Is the line shorter again?"""
        if self.is_crowded and len(self._waiting) <= self._pending * _ROOM:
            self.is_crowded = False

    def observe(self, leg: Leg, endpoint: Endpoint | None = None) -> None:
        """Feed the breaker: a 5xx, ours for a missing answer or the backend's own, is a failure.

        A load test that is left out says nothing: it could break a backend that live events do not, and an open
        breaker reverts; and where they fail, its successes in between would keep the breaker closed.
        """
        if leg.is_for_load:
            pass
        elif leg.status < 500:
            self.breaker.succeeded()
        else:
            reason = self.trouble or leg.reason or f"status {leg.status}"
            if self.breaker.failed(monotonic(), reason, leg.sent_at):
                log.warning("breaker opened", extra={"backend": self.name, "reason": reason})
        self.trouble = ""

    def check_times(self, now: float) -> None:
        """Every 100 ms: overdue answers, overdue waiting, idle connections past their time."""
        settings = self.settings
        for connection in (*self._all, *self._lent):
            connection.check_time(now, settings.response_timeout, settings.body_timeout)
        while self._waiting and now - self._waiting[0][0] > settings.response_timeout:
            self._refuse(self._waiting.popleft()[1], 504, "waited too long for a connection")
        if self._short_until and not self._is_short():
            self._serve_waiting()
        self.look_at_line()
        while self._idle and now - self._idle[0].idle_since > settings.idle_timeout:
            self._idle.pop(0).abort()

    def set_health(self, healthy: dict[str, bool]) -> None:
        """What the supervisor's probes say of each address; of the only one `is_healthy` says it all."""

    def adopt(self, settings: Backend) -> None:
        """Go by these settings from now on; they differ in live keys alone (`config.changes`)."""
        self.settings = settings
        if settings.health is None:
            # Nobody probes it any more, and what the last probe said is nobody's word.
            self.is_healthy = True
            self.set_health({})

    def endpoints(self, now: float) -> list[EndpointFigures]:
        """Each endpoint as it is now."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        state = "unhealthy" if not self.is_healthy else "up" if self.breaker.is_closed else "out"
        outstanding = self.open - len(self._idle)
        return [EndpointFigures(f"{host}:{self._port}", state, outstanding, self.open, self.last_trouble)]

    @property
    def lookup_trouble(self) -> str:
        """Why its names could not be looked up last; empty when they could, or when there is none."""
        return ""

    @property
    def lookup_failures(self) -> int:
        """How often they could not."""
        return 0

    def look_at_files(self) -> None:
        """Use certificates that have changed, from the next connection on."""
        if self.tls is not None:
            self.tls.live.look()

    def close(self) -> None:
        """Close every connection; legs on the way fail."""
        self.is_closed = True
        while self._waiting:
            self._refuse(self._waiting.popleft()[1], 502, "closing")
        for task in tuple(self._connecting):
            task.cancel()
        for connection in (*self._all, *self.lasting):
            connection.abort()
