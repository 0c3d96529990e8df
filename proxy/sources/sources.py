"""The sources that this worker has: it runs what the supervisor leases to it, and nothing else.

RunSource --> RunningSource --> SourceProgress
StopSource, or the worker stops --> it has stopped --> SourceStopped
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from config.sources import Source
from proxy.control.link import RunSource, SourceProgress, SourceStats, SourceStopped, StopSource
from proxy.http.service import Service
from proxy.sources.share import Share
from proxy.sources.source import RunningSource

log = logging.getLogger(__name__)

STOP_WAIT: Final = 2.0
"""Seconds in which what a source has brought may still be accepted when it stops here, and as many to tell it so."""

Said = SourceProgress | SourceStopped


class Sources:
    """say: sends to the supervisor; false when there is none at the moment."""

    def __init__(self, settings: Sequence[Source], service: Service, say: Callable[[Said], bool]) -> None:
        self._settings = {each.name: each for each in settings}
        self._routes = {route.name: route for route in service.plane.routes}
        self._service = service
        self._share = Share(service.budget)
        self._say = say
        self._running: dict[str, RunningSource] = {}
        self._stopped: list[Said] = []
        """Last words that the supervisor has not got yet."""
        self._stopping: set[asyncio.Task[None]] = set()
        self._connections = 0
        self._is_closed = False

    def run(self, lease: RunSource) -> None:
        """Run a source under this lease; one that runs under it already goes on. What cannot be run is given back."""
        running, settings = self._running.get(lease.name), self._settings.get(lease.name)
        if running is not None and (self._is_closed or running.generation >= lease.generation):
            return
        if settings is None or self._is_closed:
            self._stopped.append(SourceStopped(lease.name, lease.generation))
            return
        if running is not None:
            log.error("source %s was leased anew while it runs here", lease.name)
            return  # its own lease has to end first
        started = RunningSource(settings, self._routes[settings.route], self._service, lease, self._share, self._count)
        self._running[lease.name] = started
        started.start()
        log.info("source %s runs here", lease.name, extra={"generation": lease.generation})

    def stop(self, message: StopSource) -> None:
        """The lease of this generation, or an earlier one, is over."""
        running = self._running.get(message.name)
        if running is not None and running.generation <= message.generation:
            task = asyncio.create_task(self._stop(message.name, running, STOP_WAIT))
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)

    def stats(self) -> list[SourceStats]:
        """How those that run here are."""
        return [running.stats() for running in self._running.values()]

    def report(self, connections: int) -> None:
        """Say how far they are. connections: how often there was one to a supervisor: a new one is told everything."""
        is_whole = connections != self._connections
        reports = [running.report(is_whole=is_whole) for running in self._running.values()]
        is_told = all(self._say(each) for each in reports if each is not None)
        # What was not heard is said again as a whole.
        self._connections = connections if is_told else -1
        self._stopped = [each for each in self._stopped if not self._say(each)]

    async def close(self, wait: float) -> None:
        """Stop all of them. wait: seconds for what they have brought, and as many for their connections."""
        self._is_closed = True
        await asyncio.gather(*(self._stop(name, each, wait) for name, each in [*self._running.items()]))
        await asyncio.gather(*self._stopping)

    async def _stop(self, name: str, running: RunningSource, wait: float) -> None:
        await running.stop(wait)
        if self._running.get(name) is not running:
            return  # two asked for it
        last = running.report(is_whole=True)
        del self._running[name]
        self._stopped += [each for each in (last, SourceStopped(name, running.generation)) if each is not None]
        self._stopped = [each for each in self._stopped if not self._say(each)]
        log.info("source %s has stopped here", name, extra={"generation": running.generation})

    def _count(self, source: str, name: str) -> None:
        self._service.plane.count(f"source:{source}:{name}")
