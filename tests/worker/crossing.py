"""A data plane, a real ledger with its real transport, and two backends, each speaking what it likes; in one loop."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any

from config.model import Settings
from proxy.core.breaker import BreakerTrouble
from proxy.core.choose import seed_of
from proxy.core.event import SIDES
from proxy.core.owed import STATE_NAMES, Balance
from proxy.core.routing import Dials, Routing
from proxy.fanout.relay import Consumers
from proxy.fanout.server import fan_out_of
from proxy.http.balanced import upstream_of
from proxy.http.downstream import Client
from proxy.http.plane import DataPlane
from proxy.http.route import headers_wanted
from proxy.http.service import Service
from proxy.http.tick import Tick
from proxy.ledger import marks as marks_module
from proxy.ledger.client import LedgerClient
from proxy.ledger.disk import Disk
from proxy.ledger.keeper import Keeper
from proxy.ledger.marks import Marks
from proxy.ledger.shape import as_protocol
from proxy.ledger.store import Store
from proxy.net.lookup import Lookup
from proxy.websocket.service import Sessions
from proxy.worker.transport import Transport
from tests.http.backend import Backend
from tests.http.wire import Answer, Wire, until
from tests.ledger.support import rows, short_directory
from tests.websocket.backends import WebsocketsBackend

SALT = "a-salt-for-tests"
ROUTE = "events"
LEDGER = {
    "reserve": "0B", "min_free": "0B", "commit_interval": "10ms", "retry_initial": "10ms", "retry_max": "40ms",
}  # fmt: skip


class Crossing:
    """What a test sees. old, new: the backends, of either kind."""

    def __init__(self, directory: Path, settings: Settings) -> None:
        self._directory = directory
        self.settings = settings
        self._socket = directory / "l.sock"
        descriptor = marks_module.create(1)
        self.marks = Marks(descriptor)
        os.close(descriptor)  # the map keeps the memory
        self.keeper: Keeper | None = None
        self._transport: Transport | None = None
        self._streams = 0
        self._wires: list[Wire] = []

    # the ledger

    async def start_ledger(self) -> None:
        """Start one on what the last one left."""
        fan_out = fan_out_of(self.settings, self._directory / "fanout.db", self._arrived)
        self._transport = Transport(self.settings, asyncio.get_running_loop(), fan_out)
        ledger = self.settings.ledger
        self.keeper = Keeper(
            self.settings,
            Store(self._directory / "ledger", ledger, time.time_ns),
            Disk(self._directory / "ledger", ledger.reserve, ledger.min_free),
            self.marks,
            self._transport.deliver,
            now_ns=time.time_ns,
            die=_die,
        )
        self.fan_out = fan_out
        if fan_out is not None:
            fan_out.begin_record(self.keeper.book.next_seq)
            await fan_out.start(self._directory / "f.sock")
        await self.keeper.start(self._socket)
        self._route()

    def _arrived(self, backend: str) -> None:
        if self.keeper is not None:
            self.keeper.replayer.backend_is_healthy(backend)

    @property
    def counters(self) -> Mapping[str, int]:
        """What the ledger's transport counts."""
        assert self._transport is not None
        return self._transport.counters()

    def troubles(self) -> dict[str, BreakerTrouble]:
        """As the ledger's transport has them."""
        assert self._transport is not None
        return self._transport.troubles()

    def breakers(self) -> dict[str, str]:
        """As the ledger's transport has them."""
        assert self._transport is not None
        return self._transport.breakers()

    async def kill_ledger(self) -> None:
        """End it without the note that it ended in order: what it knew beyond the disk is gone."""
        keeper, transport = self.keeper, self._transport
        self.keeper = self._transport = None
        assert keeper is not None
        assert transport is not None
        await transport.close()
        await keeper.stop(clean=False)

    # the worker

    async def start_worker(self) -> None:
        """Start a data plane that listens."""
        loop = asyncio.get_running_loop()
        self._streams += 1
        self.ledger = LedgerClient(self._socket, f"stream-{self._streams}", 0, loop)
        tick = Tick(loop, self.ledger.flush)
        self.ledger.resume = tick.run
        self._lookup = Lookup(())
        upstreams = {
            name: upstream_of(name, each, loop, tick, self._lookup) for name, each in self.settings.backends.items()
        }
        limits = self.settings.limits
        self.plane = DataPlane(
            self.settings.routes, None, upstreams, self.ledger, self.marks, tick, loop, seed_of(SALT),
            0xC0FFEE + self._streams, limits.max_decoded_size, limits.memory,
        )  # fmt: skip
        self.service = Service(self.plane, limits, headers_wanted(self.settings.routes), loop, ())
        self.sessions = Sessions(self.plane, self.service, loop)
        self.plane.upgrader = self.sessions
        self.consumers = self.plane.consumers = Consumers(self.service, self._directory / "f.sock")
        self.sessions.start()
        self._house: asyncio.TimerHandle | None = None
        self._keep_house()
        self.ledger.connect()
        self._server = await loop.create_server(lambda: as_protocol(Client(self.service)), "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._route()
        await until(lambda: self.ledger.is_connected, "the ledger is connected")

    def _keep_house(self) -> None:
        now = monotonic()
        for upstream in self.plane.upstreams.values():
            upstream.check_times(now)
        self.ledger.check_time(now)
        self._house = asyncio.get_running_loop().call_later(0.01, self._keep_house)

    async def end_worker(self) -> None:
        """End it; clients and the ledger see their connections end."""
        self._server.close()
        self.sessions.stop()
        self.consumers.stop()
        for wire in self._wires:
            wire.writer.transport.abort()
        self._wires.clear()
        self.service.stop()
        await until(lambda: not self.service.clients, "every client has gone")
        self.sessions.close()
        if self._house is not None:
            self._house.cancel()
        self.plane.close()
        self.ledger.close()
        await self._lookup.close()

    # what a test does

    dials = Dials()

    def turn(self, dials: Dials) -> None:
        """Turn the route's dials, here and at the ledger."""
        self.dials = dials
        self._route()

    def _route(self) -> None:
        routing = Routing(1, {ROUTE: self.dials})
        if hasattr(self, "plane"):
            self.plane.apply(routing)
        if self.keeper is not None:
            self.keeper.set_routing(routing)

    async def ask(self, body: bytes, event_id: str, headers: str = "") -> Answer:
        """A request of the route, on a connection of its own."""
        wire = await Wire.open(self.port, 2**20)
        self._wires.append(wire)
        head = f"POST /events HTTP/1.1\r\nHost: a\r\nX-Event-Id: {event_id}\r\n{headers}Content-Length: {len(body)}\r\n"
        answer = await wire.ask(f"{head}\r\n".encode() + body)
        wire.close()
        return answer

    def states(self) -> dict[str, tuple[str, str]]:
        """States of (old, new) on disk, by event id."""
        found = {}
        for path in sorted((self._directory / "ledger").glob("segment-*.db")):
            for id, old, new in rows(path, "SELECT id, old_state, new_state FROM receipt ORDER BY seq"):
                found[id] = (STATE_NAMES[old], STATE_NAMES[new])
        return found

    async def all_are(self, n: int, states: tuple[str, str]) -> None:
        """Wait until so many events are on record, all with these states."""
        await until(lambda: len(self.states()) == n and set(self.states().values()) == {states}, f"{n} {states}")

    async def balance(self) -> dict[str, dict[str, int]]:
        """The balance of each side, by its name; sound."""
        assert self.keeper is not None
        figures = await self.keeper.figures()
        balances = {SIDES[side]: Balance(counts) for (_, side), counts in figures.balance.items()}
        assert all(each.is_sound() for each in balances.values())
        return {side: each.as_dict() for side, each in balances.items()}


def _die(why: str) -> None:
    raise AssertionError(why)


@asynccontextmanager
async def crossing(
    old: Backend | WebsocketsBackend,
    new: Backend | WebsocketsBackend,
    *,
    deliver: Mapping[str, Any],
    route: Mapping[str, Any] | None = None,
    backend: Mapping[str, Any] | None = None,
    ledger: Mapping[str, Any] | None = None,
) -> AsyncIterator[Crossing]:
    """All of it for the length of a block. deliver: by backend; backend: further settings of both."""
    with short_directory() as directory:
        backends = {
            name: {"url": f"http://127.0.0.1:{each.port}/", **(backend or {})}
            | ({"deliver": deliver[name]} if name in deliver else {})
            for name, each in (("old", old), ("new", new))
        }
        settings = Settings.model_validate(
            {
                "version": 1,
                "salt": SALT,
                "state_dir": str(directory),
                "backends": backends,
                "routes": ({"name": ROUTE, "match": {"path": "/events"}, "key": "json:/key"} | dict(route or {}),),
                "ledger": LEDGER | dict(ledger or {}),
            }
        )
        found = Crossing(directory, settings)
        await old.start()
        await new.start()
        await found.start_ledger()
        await found.start_worker()
        try:
            yield found
        finally:
            await found.end_worker()
            if found.keeper is not None:
                await found.kill_ledger()
            for each in (old, new):
                if isinstance(each, Backend):
                    each.stop()
                else:
                    await each.stop()
