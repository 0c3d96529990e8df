"""Two workers' data planes in one loop, between which connections move over a real Unix socket, with their descriptors.

Each has a ledger of its own in memory, as each worker has a stream of its own; the backends are the same two.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from shutil import rmtree
from time import monotonic
from typing import Any, cast

from config.model import Route
from proxy.core.routing import Dials
from proxy.fanout.relay import Consumers
from proxy.websocket.kept import Kept
from proxy.worker.adopting import Adopting
from proxy.worker.retiring import Retiring
from tests.http.rig import DUAL, running
from tests.http.wire import PATIENCE, Wire, until
from tests.websocket.backends import HandBackend
from tests.websocket.byhand import HandClient
from tests.websocket.clients import WebsocketsClient
from tests.websocket.rig import SessionRig


class Workers:
    """a and b: two workers; old, new: the backends of sessions, and their HTTP ones are a's."""

    def __init__(self, directory: Path, a: SessionRig, b: SessionRig, old: HandBackend, new: HandBackend) -> None:
        self.directory = directory
        self.both = (a, b)
        self.old, self.new = old, new
        self.adopting: Adopting | None = None
        self.consumers: dict[SessionRig, Consumers] = {}
        self.retiring: Retiring | None = None
        self.lingering: asyncio.Task[None] = cast(asyncio.Task[None], None)
        self._conversations: list[Adopting] = []

    @property
    def a(self) -> SessionRig:
        """The first."""
        return self.both[0]

    @property
    def b(self) -> SessionRig:
        """The second."""
        return self.both[1]

    def listen(self, at: SessionRig) -> Path:
        """Let a worker take connections; where."""
        path = self.directory / f"{self.both.index(at)}.sock"
        consumers = self.consumers[at] = Consumers(at.rig.service, self.directory / "no.sock")
        self.adopting = Adopting(path, at.rig.service, at.sessions, consumers)
        self.adopting.start()
        self._conversations.append(self.adopting)
        return path

    def retire(self, of: SessionRig, *paths: Path) -> Retiring:
        """A worker that is to hand its connections over. paths: to whom."""
        service = of.rig.service
        consumers = self.consumers.get(of) or Consumers(service, self.directory / "no.sock")
        return Retiring(service, of.sessions, consumers, lambda: paths, lambda: False)

    @property
    def kept(self) -> Kept:
        """What the worker keeps from which was moved last."""
        assert self.retiring is not None
        return self.retiring.kept

    async def move(self, start: SessionRig, goal: SessionRig, *, linger: bool = False) -> None:
        """Let everything that one has go to the other; it could come back then. linger: the first one stays there."""
        if self.lingering is not None:  # a worker that retires takes nothing any more; here it is the next goal
            self.lingering.cancel()
            await asyncio.gather(self.lingering, return_exceptions=True)
        retiring = self.retire(start, self.listen(goal))
        moving = asyncio.create_task(retiring.run(monotonic() + PATIENCE))
        await until(lambda: moving.done() or not (start.rig.service.clients or start.sessions.open), "everything moved")
        await until(lambda: goal.rig.service.others == len(goal.sessions.open), "it arrived")
        if linger:
            self.lingering = moving
        else:
            moving.cancel()
            await asyncio.gather(moving, return_exceptions=True)
        start.rig.service.is_ending = False
        start.rig.service.leaving = None
        self.retiring = retiring
        assert self.adopting is not None
        for adoption in tuple(self.adopting.open):
            await adoption.arrived()

    async def to_and_fro(self, start: int, stop: int) -> None:
        """The moves of these numbers, of which the first, 0, is from a to b."""
        for number in range(start, stop):
            await self.move(self.both[number % 2], self.both[1 - number % 2])
            assert self.retiring is not None
            self.retiring.close()
            await self.end()

    async def end(self) -> None:
        """End the conversations."""
        for adopting in self._conversations:
            adopting.close()
            await adopting.end()
        self._conversations.clear()

    async def by_hand(self) -> HandClient:
        """A client that speaks by hand at a."""
        return await self.a.by_hand()

    async def wire(self) -> Wire:
        """An HTTP client at a."""
        return await self.a.rig.wire()

    def numbers(self, side: HandBackend) -> list[bytes]:
        """What a backend has got, in order."""
        return [frame.payload for frame in side.data_frames]


@asynccontextmanager
async def workers(
    route: Route,
    other_route: Route | None = None,
    *,
    dials: Dials = DUAL,
    other: Mapping[str, Any] | None = None,
    backend_settings: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> AsyncIterator[Workers]:
    """Two workers for the length of a block. other, other_route: how the second one differs."""
    directory = Path(tempfile.mkdtemp(prefix="cf-", dir="/tmp"))
    old, new = HandBackend("old"), HandBackend("new")
    async with AsyncExitStack() as stack:
        stack.callback(rmtree, directory)
        for backend in (old, new):
            await backend.start()
            stack.push_async_callback(backend.stop)
        urls = {each.name: {"url": f"http://127.0.0.1:{each.port}"} for each in (old, new)}
        if route.websocket is None:
            urls = {}
        rigs: list[SessionRig] = []
        for its, changes in ((route, arguments), (other_route or route, arguments | dict(other or {}))):
            settings = {**urls, **(backend_settings or {}), **changes.pop("backend_settings", {})}
            rig = await stack.enter_async_context(running(its, dials=dials, backend=settings, **changes))
            rigs.append(SessionRig(rig, old, new, WebsocketsClient))
            if route.websocket is None:  # both have the first one's
                urls = {each: {"url": f"http://127.0.0.1:{getattr(rig, each).port}"} for each in ("old", "new")}
        found = Workers(directory, rigs[0], rigs[1], old, new)
        try:
            yield found
            for each in rigs:
                await each.close()
        finally:
            if found.lingering is not None:
                found.lingering.cancel()
                await asyncio.gather(found.lingering, return_exceptions=True)
            if found.retiring is not None:
                found.retiring.close()
            await found.end()
            for each in rigs:
                await each.leave()


def descriptors() -> int:
    """How many this process has."""
    return len(os.listdir("/proc/self/fd"))
