"""What it costs to be looked at: CPU time per event with three consoles open and a scrape each second, and without.

The same proxy is measured with and without in turn, so that a slow minute of the machine strikes both. Judged is the
data plane, worker and ledger; what the supervisor spends on telling is printed beside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from statistics import median
from typing import Final, NamedTuple

import aiohttp

from benchmarks.processes import BenchmarkFailed
from benchmarks.rounds import Round

CONSOLES: Final = 3
SCRAPE_EVERY: Final = 1.0
"""Seconds."""
DATA_PLANE: Final = ("worker", "ledger")
_STREAM: Final = "/api/v1/status/stream"


class ObservedResult(NamedTuple):
    """Medians over pairs of rounds. alone, seen: the data plane's microseconds per event without and with observers;
    ratio: of each pair's two, with its range; by_role_alone, by_role_seen: the same of every process; told: snapshots
    that a console got per second; scrapes: in all.
    """

    pairs: int
    alone: float
    seen: float
    ratio: float
    ratio_min: float
    ratio_max: float
    by_role_alone: dict[str, float]
    by_role_seen: dict[str, float]
    told: float
    scrapes: int


class Observers:
    """Three consoles and a Prometheus, as the proxy meets them: streams that are read, and `/metrics` once a second."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self.told = [0] * CONSOLES
        """Snapshots that each console got."""
        self.scrapes = 0

    def start(self) -> list[asyncio.Task[None]]:
        """Begin to look; the tasks that do, which never end by themselves."""
        consoles = [asyncio.create_task(self._console(number)) for number in range(CONSOLES)]
        return [*consoles, asyncio.create_task(self._scrape())]

    async def _console(self, number: int) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_read=30)
        async with self._session.get(_STREAM, timeout=timeout, raise_for_status=True) as answer:
            async for chunk in answer.content.iter_any():
                self.told[number] += chunk.count(b"event: snapshot\n")
        raise BenchmarkFailed("a console's stream ended under load")

    async def _scrape(self) -> None:
        while True:
            async with self._session.get("/metrics", raise_for_status=True) as answer:
                await answer.read()
            self.scrapes += 1
            await asyncio.sleep(SCRAPE_EVERY)


@asynccontextmanager
async def observed(url: str) -> AsyncIterator[Observers]:
    """Observers, who all look already. Raises BenchmarkFailed when one of them could not do so to the end."""
    async with aiohttp.ClientSession(url) as session:
        observers = Observers(session)
        tasks = observers.start()
        try:
            while not (all(observers.told) or any(task.done() for task in tasks)):
                await asyncio.sleep(0.02)
            yield observers
            for task in tasks:
                if task.done():
                    task.result()
        except aiohttp.ClientError as error:
            raise BenchmarkFailed(f"nobody can look at {url}: {error}") from None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def compare(measure: Callable[[float], Round], url: str, *, pairs: int, seconds: float) -> ObservedResult:
    """Measure in turn without and with observers. measure: one load of so many seconds."""
    await asyncio.to_thread(measure, max(1.0, seconds / 3))
    alone, seen, told, scrapes = [], [], [], 0
    for _ in range(pairs):
        alone.append(await asyncio.to_thread(measure, seconds))
        async with observed(url) as observers:
            before = list(observers.told)
            seen.append(await asyncio.to_thread(measure, seconds))
            told += [(now - then) / seconds for now, then in zip(observers.told, before, strict=True)]
            scrapes += observers.scrapes
    return result(alone, seen, min(told), scrapes)


def result(alone: list[Round], seen: list[Round], told: float, scrapes: int) -> ObservedResult:
    """Rounds without and with observers together. told: snapshots per second of the console that got the fewest."""
    ratios = [_data_plane(one) / _data_plane(other) for one, other in zip(seen, alone, strict=True)]
    return ObservedResult(
        len(ratios),
        median(map(_data_plane, alone)),
        median(map(_data_plane, seen)),
        median(ratios),
        min(ratios),
        max(ratios),
        _by_role(alone),
        _by_role(seen),
        told,
        scrapes,
    )


def _data_plane(one: Round) -> float:
    return sum(one.by_role[role] for role in DATA_PLANE)


def _by_role(rounds: list[Round]) -> dict[str, float]:
    return {role: median(one.by_role[role] for one in rounds) for role in rounds[0].by_role}
