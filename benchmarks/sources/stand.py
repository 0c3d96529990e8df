"""The house, the daemon with a source, its two stores, and a third one that is written without a proxy between."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any, Final

import apsw
import orjson

from benchmarks.live.stand import NEVER_REVERT
from benchmarks.processes import BenchmarkFailed
from benchmarks.sources.house import TOKEN, House
from proxy.demo.children import Child, python
from proxy.demo.instance import Instance, basic_config
from proxy.demo.toy import ToyBackend

_CONNECT_SECONDS: Final = 30.0
_DRAIN_SECONDS: Final = 60.0
"""Without progress."""
_LOOK_EVERY: Final = 0.1


class Stand:
    """Everything that runs. `direct` is the store that is written without a proxy; None where there is none."""

    def __init__(self, directory: Path, config: dict[str, Any], backends: list[ToyBackend]) -> None:
        self.directory = directory
        self.house = House()
        self.backends = backends
        self._config = config
        self._direct: Child | None = None
        self._instance: Instance | None = None

    @property
    def instance(self) -> Instance:
        """The daemon, once it was started."""
        assert self._instance is not None
        return self._instance

    async def start(self) -> None:
        """Start it, and wait until the house has its subscribers."""
        await self.house.start()
        token = self.directory / "token"
        token.write_text(TOKEN)
        for each in self.backends:
            await each.ready()
        own = {"url": self.house.url.replace("http", "ws") + "/api/websocket", "token_file": "token"}
        source = {"name": "home", "route": "events", "retry_initial": "50ms", "unaccepted": 10_000}
        self._config["sources"] = [source | {"home_assistant": own | {"snapshot": "initial"}}]
        self._instance = Instance(self.directory, self._config)
        await self.instance.start()
        if len(self.backends) > 2:
            where = ["--home", self.house.url, "--token-file", str(token), "--to", self.backends[2].url]
            command = python("deploy.home_assistant.demo.direct", *where)
            self._direct = Child("direct", command, self.directory / "direct.log")
        await self.connected()

    async def connected(self) -> None:
        """Wait until all who subscribe have done so, and hear what happens."""
        wanted = 1 + (self._direct is not None)
        await _until(lambda: len(self.house.subscribers) == wanted, "the source is connected")
        await asyncio.sleep(0.5)  # behind its snapshot

    async def stop(self) -> None:
        """Stop all of it, whatever of it fails to."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.house.stop)
            for each in self.backends:
                stack.push_async_callback(each.stop)
            if self._instance is not None:
                stack.push_async_callback(self._instance.stop)
            if self._direct is not None:
                stack.push_async_callback(self._direct.stop)

    async def sides(self) -> dict[str, Any]:
        """What status says of both sides of the route; raises BenchmarkFailed where the balance is not exact."""
        status = await self.instance.admin.ask("GET", "/api/v1/status")
        while status["ledger"]["balanced"] is None:  # it has just begun
            await asyncio.sleep(_LOOK_EVERY)
            status = await self.instance.admin.ask("GET", "/api/v1/status")
        if not status["ledger"]["balanced"]:
            raise BenchmarkFailed(f"the ledger is not balanced: {status['ledger']}")
        found: dict[str, Any] = status["routes"][0]["sides"]
        return found

    async def drained(self, events: int) -> float:
        """Wait until both sides have so many events, and no other; seconds that it took."""
        began = at = time.monotonic()
        least = 0
        while True:
            ledgers = [side["ledger"] for side in (await self.sides()).values()]
            had = min(each["delivered"] for each in ledgers)
            if had >= events:
                break
            if had > least:
                least, at = had, time.monotonic()
            if time.monotonic() - at > _DRAIN_SECONDS:
                raise BenchmarkFailed(f"of {events} events no more than {had} were delivered: {ledgers}")
            await asyncio.sleep(_LOOK_EVERY)
        if any(each["owed"] != events or each["delivered"] != events for each in ledgers):
            raise BenchmarkFailed(f"{events} events, and the balance is {ledgers}")
        return time.monotonic() - began

    def stored(self, backend: ToyBackend) -> dict[str, int]:
        """When each change was stored first, nanoseconds since 1970, by the id of its context."""
        path = self.directory / f"{backend.name}.db"
        found: dict[str, int] = {}
        with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as db:
            for body, at in db.execute("SELECT body, stored_ns FROM event ORDER BY position"):
                found.setdefault(orjson.loads(bytes(body))["context"]["id"], int(at))
        return found


async def _until(condition: Any, what: str) -> None:
    deadline = time.monotonic() + _CONNECT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise BenchmarkFailed(f"never happened within {_CONNECT_SECONDS:g} s: {what}")
        await asyncio.sleep(0.02)


@asynccontextmanager
async def stand(*, has_direct: bool = False) -> AsyncIterator[Stand]:
    """In dual write over HTTP, for the length of a block."""
    directory = Path(tempfile.mkdtemp(prefix="cf-sources-"))
    names = ("old", "new", "direct") if has_direct else ("old", "new")
    backends = [ToyBackend(name, directory) for name in names]
    config = basic_config(backends[0].url, backends[1].url, stage="dualwrite", dedupe="10m", trigger=NEVER_REVERT)
    async with _opened(Stand(directory, config, backends)) as opened:
        yield opened


@asynccontextmanager
async def fanned_out(tokens: dict[str, str]) -> AsyncIterator[Stand]:
    """The same with consumers. tokens: of old and new."""
    directory = Path(tempfile.mkdtemp(prefix="cf-sources-"))
    route: dict[str, Any] = {"ack": "accepted", "stage": "dualwrite", "fanout": {}, "dedupe": "10m"}
    config = basic_config("http://127.0.0.1:1", "http://127.0.0.1:1", trigger=NEVER_REVERT, **route)
    config["routes"][0]["match"]["path"] = "/api/websocket"
    config["backends"] = {side: {"consumer": {"token": token}} for side, token in tokens.items()}
    async with _opened(Stand(directory, config, [])) as opened:
        yield opened


@asynccontextmanager
async def _opened(made: Stand) -> AsyncIterator[Stand]:
    try:
        await made.start()
        yield made
    finally:
        try:
            await made.stop()
        finally:
            shutil.rmtree(made.directory)
