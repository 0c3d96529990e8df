"""Two InfluxDBs of Debian asked for the fingerprints of all their points, and beside it for the points themselves."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp

from benchmarks.processes import BenchmarkFailed
from config.stores import InfluxDB1Store as Settings
from consistency.rows import Span
from consistency.stores.influxdb1 import InfluxDB1Store
from deploy.influxdb import DATABASE, InfluxDB

BEGIN: Final = 1_769_860_800 * 10**9
SERIES: Final = 100
WINDOW: Final = 600 * 10**9
_BATCH: Final = 20_000


class Points(NamedTuple):
    """Points per second of both servers together, by their fingerprints and row by row."""

    points: int
    fingerprints: float
    rows: float


def measure(directory: Path, points: int) -> Points:
    """points: of each server, one float to each, a second apart in each series."""
    directory.mkdir(parents=True)
    return asyncio.run(_measure(directory, points))


async def _measure(directory: Path, points: int) -> Points:
    servers = [InfluxDB(side, directory) for side in ("old", "new")]
    try:
        for server in servers:
            await server.start()
            await server.prepare()
        await asyncio.gather(*(_fill(server, points) for server in servers))
        stores = [
            InfluxDB1Store(server.name, Settings.model_validate({"url": server.url, "database": DATABASE}))
            for server in servers
        ]
        for store in stores:
            await store.open()
        span = Span(BEGIN, BEGIN + points // SERIES * 10**9)
        begun = time.monotonic()
        old, new = await asyncio.gather(*(store.fingerprints(span, WINDOW) for store in stores))
        fingerprints = time.monotonic() - begun
        counted = [sum(each.rows for each in side.segments.values()) for side in (old, new)]
        if counted != [points, points] or old.segments != new.segments:
            raise BenchmarkFailed(f"fingerprints of {counted} points of {points} each")
        begun = time.monotonic()
        read = await asyncio.gather(*(_read(store, span) for store in stores))
        rows = time.monotonic() - begun
        if list(read) != [points, points]:
            raise BenchmarkFailed(f"{read} rows of {points} each")
        for store in stores:
            await store.close()
    finally:
        for server in servers:
            await server.stop()
    return Points(points, 2 * points / fingerprints, 2 * points / rows)


async def _fill(server: InfluxDB, points: int) -> None:
    async with aiohttp.ClientSession() as session:
        for first in range(0, points, _BATCH):
            lines = "\n".join(
                f"state,entity=sensor_{number % SERIES} value={number % 1009 / 8} {BEGIN + number // SERIES * 10**9}"
                for number in range(first, min(first + _BATCH, points))
            )
            async with session.post(f"{server.url}/write", params={"db": DATABASE}, data=lines.encode()) as answer:
                if answer.status != 204:
                    raise BenchmarkFailed(f"InfluxDB refused points: {await answer.text()}")


async def _read(store: InfluxDB1Store, span: Span) -> int:
    return sum([len(chunk) async for chunk in store.rows(span)])
