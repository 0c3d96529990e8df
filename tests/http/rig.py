"""Everything of one worker in one loop: listener, data plane, two scripted backends, a ledger in memory."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import orjson

from config.model import Backend as BackendSettings
from config.model import Limits, Route
from proxy.core.choose import bucket_of, seed_of
from proxy.core.event import NEW, OLD
from proxy.core.owed import DELIVERED, DISCARDED, LOST, REFUSED
from proxy.core.routing import Dials, Routing
from proxy.http.balanced import upstream_of
from proxy.http.downstream import Client
from proxy.http.plane import DataPlane
from proxy.http.route import headers_wanted
from proxy.http.service import Service
from proxy.http.tick import Tick
from proxy.ledger import marks as marks_module
from proxy.ledger.client import LedgerClient
from proxy.ledger.marks import Marks
from proxy.ledger.protocol import ANSWERED, HANDED, OWED, PARKED, RECEIVED
from proxy.ledger.shape import as_protocol
from proxy.net.lookup import Lookup
from tests.http.backend import Backend
from tests.http.fake_ledger import FakeLedger
from tests.http.wire import Answer, Wire, until

SALT = "a-salt-for-tests"
SEED = seed_of(SALT)
PATH = "/events"
HOUSEKEEPING = 0.01
"""Seconds; the product's 100 ms would make every timeout in here slow."""

OFF = Dials()
DUAL = Dials(0.0, "durable")
LIVE = Dials(50.0, "durable")
SPLIT = Dials(50.0, "none")
SHADOW = Dials(0.0, "best-effort")
COMPLETE = Dials(100.0, "none")

LETTERS = {
    DELIVERED: "D",
    REFUSED: "R",
    DISCARDED: "X",
    LOST: "L",
    PARKED: "P",
    HANDED: "H",
    ANSWERED: "A",
    OWED: "O",
    RECEIVED: "r",
}


def make_route(**changes: Any) -> Route:
    """The route `events`: POST /events, key and id from the JSON body or the usual headers."""
    document: dict[str, Any] = {
        "name": "events",
        "match": {"path": PATH, "methods": ("POST", "PUT")},
        "key": "json:/key",
        "carry_over": False,
        "copy_wait": "5ms",
        "drain_wait": "200ms",
    }
    return Route.model_validate(document | changes)


def key_for(side: int, dials: Dials = LIVE, start: int = 0) -> str:
    """A key whose authority is this side at the dials' weight."""
    return next(
        f"k{i}" for i in range(start, start + 10_000) if (bucket_of(f"k{i}", SEED) < dials.weight * 100) == bool(side)
    )


def event_bytes(event_id: str = "", *, method: str = "POST", **body: Any) -> bytes:
    """A request that is an event, with a JSON body."""
    data = orjson.dumps(body)
    named = f"X-Event-Id: {event_id}\r\n" if event_id else ""
    return f"{method} {PATH} HTTP/1.1\r\nHost: a\r\n{named}Content-Length: {len(data)}\r\n\r\n".encode() + data


class Rig:
    """What a test sees. old, new: backends; other: the pass-through default."""

    def __init__(
        self,
        directory: Path,
        routes: Sequence[Route],
        backend: Mapping[str, Any],
        limits: Limits,
        trusted_proxies: Sequence[str] = (),
        resolver: Sequence[str] = (),
    ) -> None:
        loop = asyncio.get_running_loop()
        self.directory = directory
        self.old, self.new, self.other = Backend(), Backend(), Backend()
        self.backends = (self.old, self.new)
        self.fake = FakeLedger(directory / "l.sock")
        descriptor = marks_module.create(len(routes))
        self.marks = Marks(descriptor)
        os.close(descriptor)  # the map keeps the memory
        self.ledger = LedgerClient(directory / "l.sock", "stream", 0, loop)
        self.tick = Tick(loop, self.ledger.flush)
        self.ledger.resume = self.tick.run
        self.lookup = Lookup(resolver)
        self.upstreams = {
            name: upstream_of(
                name, self._settings(found.port, backend | backend.get(name, {})), loop, self.tick, self.lookup
            )
            for name, found in (("old", self.old), ("new", self.new), ("other", self.other))
        }
        self.plane = DataPlane(
            routes,
            "other",
            self.upstreams,
            self.ledger,
            self.marks,
            self.tick,
            loop,
            SEED,
            0xC0FFEE,
            limits.max_decoded_size,
            limits.memory,
        )
        self.service = Service(self.plane, limits, headers_wanted(routes), loop, trusted_proxies)
        self._server: asyncio.Server | None = None
        self._housekeeping: asyncio.TimerHandle | None = None
        self.port = 0
        self.wires: list[Wire] = []

    @staticmethod
    def _settings(port: int, changes: Mapping[str, Any]) -> BackendSettings:
        document: dict[str, Any] = {
            "url": f"http://127.0.0.1:{port}",
            "breaker": {"failures": 10**6, "reset": "50ms"},
        } | {name: value for name, value in changes.items() if name not in ("old", "new", "other")}
        urls = document["url"] if isinstance(document["url"], tuple) else (document["url"],)
        document["url"] = tuple(url.format(port=port) for url in urls)
        return BackendSettings.model_validate(document)

    async def start(self, dials: Dials, down: Sequence[Backend]) -> None:
        """Start everything but the backends that are down."""
        await self.fake.start()
        for backend in (self.old, self.new, self.other):
            if backend not in down:
                await backend.start()
        self.ledger.connect()
        self.turn(dials)
        self._keep_house()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: as_protocol(Client(self.service)), "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        await until(lambda: self.ledger.is_connected, "the ledger is connected")

    def _keep_house(self) -> None:
        now = monotonic()
        self.plane.look_at_memory()
        for upstream in self.upstreams.values():
            upstream.check_times(now)
        self._housekeeping = asyncio.get_running_loop().call_later(HOUSEKEEPING, self._keep_house)

    def turn(self, dials: Dials) -> None:
        """Turn the dials of every route."""
        self.plane.apply(Routing(self.plane.epoch + 1, {route.name: dials for route in self.plane.routes}))

    async def stop(self) -> None:
        """End everything, and see that nothing was left behind."""
        if self._server is not None:
            self._server.close()
        if self._housekeeping is not None:
            self._housekeeping.cancel()
        for wire in self.wires:
            wire.close()
        self.service.stop()
        try:
            await until(lambda: not self.service.clients, "every client has gone")
        finally:
            self.plane.close()
            await self.lookup.close()
            self.ledger.close()
            self.fake.stop()
            for backend in (self.old, self.new, self.other):
                backend.stop()
        await until(lambda: not any(upstream.open for upstream in self.upstreams.values()), "connections are closed")
        for route in self.plane.routes:
            route.copies.clear()
        assert self.plane.budget.held == 0, f"{self.plane.budget.held} bytes are still counted"
        self._check_nothing_is_out()

    # what a test does

    async def wire(self, limit: int = 2**20) -> Wire:
        """A new client connection."""
        wire = await Wire.open(self.port, limit)
        self.wires.append(wire)
        return wire

    async def ask(self, data: bytes, method: str = "POST") -> Answer:
        """A request on a connection of its own."""
        wire = await self.wire()
        answer = await wire.ask(data, method)
        wire.close()
        return answer

    def mark(self, side: int, key: str, marked: bool = True) -> None:
        """Set or clear the mark of a key's bucket."""
        self.marks.show(0, side, bucket_of(key, SEED), int(marked))

    # what must hold

    def is_settled(self) -> bool:
        """No leg is on its way, nobody waits for the ledger, and everything said is durable."""
        ledger = self.ledger
        is_waiting = ledger._waiters or ledger._turn_waiters or not ledger.is_flushed
        return self.plane.is_idle and not is_waiting and self.fake.durable >= max(self.fake.frames, default=0)

    async def settled(self) -> None:
        """Wait until it is."""
        await until(self.is_settled, "settled")

    def story(self, event_id: str) -> tuple[str, str]:
        """What the ledger heard of each side, (old, new), a letter per report.

        D delivered, R refused, X discarded, L lost, P parked, H handed, A answered, O owed; a lower case h or d
        first: handed or deferred by the event itself; - when the side is not owed and nothing was said.
        """
        event = self.fake.events[event_id]
        found = []
        for side in (OLD, NEW):
            bit = 1 << side
            first = "d" if event.deferred & bit else "h" if event.handed & bit else ""
            text = first + "".join(LETTERS[code] for code in self.fake.codes(event.n, side))
            found.append(text or ("" if event.owed & bit else "-"))
        return found[0], found[1]

    def check_ends(self) -> None:
        """Every side that is owed has ended in exactly one way, for every event."""
        for event_id, numbers in self.fake.numbers.items():
            assert len(numbers) == 1, f"{event_id} was recorded as {numbers}"
            for side, text in enumerate(self.story(event_id)):
                assert _ends_well(text), f"{event_id}: {self.story(event_id)} at side {side}"
        self._check_nothing_is_out()
        assert not self.ledger._waiters
        assert not self.ledger._turn_waiters

    def _check_nothing_is_out(self) -> None:
        for route in self.plane.routes:
            assert route.outstanding == [0, 0], f"legs of {route.settings.name} that are counted: {route.outstanding}"


def _ends_well(text: str) -> bool:
    """One end: settled, or in the ledger's hands and perhaps taken back from there because the client was told no."""
    if text == "-":
        return True
    plain = text.replace("A", "").replace("O", "")
    if plain.startswith("d") and "O" in text:
        plain = plain[1:]  # deferred, then answered by this very side
    return plain in {
        "h",
        "hX",
        "d",
        "dX",
        "D",
        "R",
        "L",
        "X",
        "H",
        "HX",
        "PD",
        "PR",
        "PH",
        "r",
        "rD",
        "rH",
        "Pr",
        "PrD",
        "PrH",
    }


@asynccontextmanager
async def running(
    *routes: Route,
    dials: Dials = DUAL,
    backend: Mapping[str, Any] | None = None,
    limits: Mapping[str, Any] | None = None,
    down: Sequence[str] = (),
    tls: Mapping[str, ssl.SSLContext] | None = None,
    trusted_proxies: Sequence[str] = (),
    resolver: Sequence[str] = (),
) -> AsyncIterator[Rig]:
    """A rig for the length of a block.

    backend: settings of all backends, or of one under its name; `{port}` in a url is the backend's own.
    tls: the contexts of backends that speak TLS, by name. resolver: DNS servers for backends' names.
    """
    directory = Path(tempfile.mkdtemp(prefix="cf-", dir="/tmp"))
    allowed = Limits.model_validate(limits or {})
    rig = Rig(directory, routes or (make_route(),), backend or {}, allowed, trusted_proxies, resolver)
    for name, context in (tls or {}).items():
        getattr(rig, name).tls = context
    try:
        await rig.start(dials, [getattr(rig, name) for name in down])
        yield rig
    finally:
        await rig.stop()
        shutil.rmtree(directory)
