"""The processes of `services` seen from outside: the monolith alone, and the three parts in its place."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from config.units import Address
from proxy.demo.children import python
from proxy.demo.toy import Breakable

_MODULE = "deploy.home_assistant.services"


class Side:
    """The processes of one side, started: `parts` in the order in which an event passes them."""

    def __init__(self, parts: list[Breakable]) -> None:
        self.parts = parts

    @property
    def address(self) -> Address:
        """Where it takes events."""
        return self.parts[0].address

    @property
    def url(self) -> str:
        """Where it takes events."""
        return self.parts[0].url

    def part(self, name: str) -> Breakable:
        """One of them by its role."""
        return next(part for part in self.parts if part.name == name)

    async def ready(self) -> None:
        """Wait until all of them serve; raises ChildError."""
        await asyncio.gather(*(part.ready() for part in self.parts))

    async def stop(self) -> None:
        """End all of them, the first one first."""
        for part in self.parts:
            await part.stop()


def old_side(directory: Path, influxdb: str, database: str) -> Side:
    """The monolith, which writes to a database of the InfluxDB at a URL. Its log lies in `directory`."""
    return Side([_part("monolith", directory, "--influxdb", influxdb, "--database", database)])


def new_side(directory: Path, influxdb: str, database: str) -> Side:
    """Ingest, enrich and store, which writes to a database of the InfluxDB at a URL. Logs lie in `directory`."""
    with ends_with_failure() as begun:
        begun.append(store := _part("store", directory, "--influxdb", influxdb, "--database", database))
        begun.append(enrich := _part("enrich", directory, "--next", store.url))
        return Side([_part("ingest", directory, "--next", enrich.url), enrich, store])


@contextmanager
def ends_with_failure() -> Iterator[list[Breakable]]:
    """Of processes that are begun one after the other: where one cannot be, those before it are ended by force."""
    begun: list[Breakable] = []
    try:
        yield begun
    except BaseException:
        for each in begun:
            each.child.signal(signal.SIGKILL)
        raise


def _part(role: str, directory: Path, *options: str) -> Breakable:
    return Breakable(role, python(_MODULE, role, *options), directory)
