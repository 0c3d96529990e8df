"""Everything that runs: Home Assistant, both sides with their InfluxDBs, the proxy, and the way without it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from deploy.home_assistant.backends import ends_with_failure, new_side, old_side
from deploy.home_assistant.core import HomeAssistant
from deploy.home_assistant.demo.compared import Span
from deploy.home_assistant.demo.configuration import configuration
from deploy.home_assistant.settings import followers
from deploy.influxdb import DATABASE, InfluxDB, Points
from proxy.core.event import SIDES
from proxy.demo.children import Child, python
from proxy.demo.instance import Instance

FOLLOWERS: Final = 100
"""State changes that come at once."""
_DIRECT: Final = "direct"
"""Database of what went without the proxy, in old's InfluxDB."""
_START_SECONDS: Final = 20.0


class Parts:
    """All of it in one directory; `start` and `stop` are in the order in which one needs another."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.influxes = {side: InfluxDB(side, directory) for side in SIDES}
        self.home = HomeAssistant(directory, followers(FOLLOWERS))
        old, new = (self.influxes[side].url for side in SIDES)
        with ends_with_failure() as begun:
            self.sides = {"old": old_side(directory, old, DATABASE)}
            begun.extend(self.sides["old"].parts)
            self.sides["new"] = new_side(directory, new, DATABASE)
            begun.extend(self.sides["new"].parts)
            urls = {name: side.url for name, side in self.sides.items()}
            stores = {name: influx.url for name, influx in self.influxes.items()}
            document = configuration(urls, stores, DATABASE, (self.home.url, self.home.token_file))
            self.instance = Instance(directory, document)

    async def start_stores(self) -> None:
        """Both InfluxDBs with a database, and both sides. Raises ChildError, RuntimeError when there is no InfluxDB."""
        for influx in self.influxes.values():
            await influx.start()
            await influx.prepare()
        await asyncio.gather(*(side.ready() for side in self.sides.values()))

    async def stop(self) -> None:
        """Stop all, the proxy before its backends; raises the first failure after all are stopped."""
        stopping: list[Callable[[], Awaitable[object]]] = [self.instance.stop, self.home.stop]
        stopping += [side.stop for side in self.sides.values()]
        stopping += [influx.stop for influx in self.influxes.values()]
        results = [await asyncio.gather(stop(), return_exceptions=True) for stop in stopping]
        for [result] in results:
            if isinstance(result, BaseException):
                raise result

    async def points(self, side: str) -> Points:
        """Everything that a side has stored."""
        return await self.influxes[side].points()

    async def lose(self, count: int, span: Span) -> None:
        """Take so many of the last points of a span away from new's store."""
        points = await self.points("new")
        there = [(at, dict(tags)) for (_, tags), rows in points.items() for at in rows if span.has(at // 1000)]
        for at, tags in sorted(there, key=lambda point: point[0], reverse=True)[:count]:
            await self.influxes["new"].query(f"DELETE WHERE entity_id = '{tags['entity_id']}' AND time = {at}")


class Direct:
    """The way without a proxy, while it is open: a subscription of its own, a monolith of its own, a database."""

    def __init__(self, parts: Parts) -> None:
        self._influx = parts.influxes["old"]
        self._home = parts.home
        self._directory = parts.directory / _DIRECT
        self._directory.mkdir()

    async def __aenter__(self) -> Direct:
        await self._influx.query(f"CREATE DATABASE {_DIRECT}")
        self._side = old_side(self._directory, self._influx.url, _DIRECT)
        self._client: Child | None = None
        try:
            await self._side.ready()
            self._client = await self._subscribed()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def _subscribed(self) -> Child:
        log = self._directory / "direct.log"
        options = ("--home", self._home.url, "--token-file", str(self._home.token_file), "--to", self._side.url)
        client = Child("the direct way", python("deploy.home_assistant.demo.direct", *options), log)

        async def is_subscribed() -> bool:
            return "subscribed" in log.read_text()

        try:
            await client.until(is_subscribed, _START_SECONDS)
        except BaseException:
            await client.stop()
            raise
        return client

    def check(self) -> None:
        """Raise ChildError when it has ended."""
        assert self._client is not None
        self._client.check()

    async def points(self) -> Points:
        """Everything that went this way."""
        return await self._influx.points(_DIRECT)

    async def __aexit__(self, *_: object) -> None:
        if self._client is not None:
            await self._client.stop()
        await self._side.stop()
