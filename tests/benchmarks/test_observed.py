"""Who looks while it is measured, and what is made of the figures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from benchmarks.observed import CONSOLES, compare, observed, result
from benchmarks.processes import BenchmarkFailed
from benchmarks.rounds import Round
from benchmarks.verdicts import observed as verdict

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def one_round(worker: float, *, ledger: float = 10.0, supervisor: float = 1.0) -> Round:
    by_role = {"worker": worker, "ledger": ledger, "supervisor": supervisor}
    return Round("crossfade", 1000, sum(by_role.values()), 20_000.0, 0.001, 0.002, 0, 0.0, 1.0, by_role)


@asynccontextmanager
async def server(stream: Handler) -> AsyncIterator[str]:
    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(text="up 1\n")

    app = web.Application()
    app.router.add_get("/api/v1/status/stream", stream)
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def endless(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(request)
    while True:
        await answer.write(b"event: snapshot\nid: a.1\ndata: {}\n\n")
        await asyncio.sleep(0.01)


async def short(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(request)
    await answer.write(b"event: snapshot\n\n")
    return answer


@pytest.mark.asyncio
async def test_all_of_them_look_while_it_is_measured() -> None:
    looked: list[float] = []

    def measure(seconds: float) -> Round:
        looked.append(seconds)
        return one_round(20.0 if len(looked) % 2 == 0 else 21.0)

    async with server(endless) as url:
        async with observed(url) as observers:
            assert len(observers.told) == CONSOLES
            assert all(observers.told)
        found = await compare(measure, url, pairs=2, seconds=0.1)
    assert looked == [1.0, 0.1, 0.1, 0.1, 0.1]  # one for warmth, then in turn
    assert (found.pairs, found.scrapes) == (2, 2)


@pytest.mark.asyncio
async def test_who_cannot_look_fails_the_run() -> None:
    async with server(short) as url:
        with pytest.raises(BenchmarkFailed, match="stream ended"):
            async with observed(url):
                await asyncio.sleep(0.2)
    with pytest.raises(BenchmarkFailed, match="nobody can look at"):
        async with observed(url):
            pass


@pytest.mark.parametrize(("worker", "is_met"), [(20.8, True), (21.0, False)])
def test_the_target_is_about_the_data_plane(worker: float, is_met: bool) -> None:
    found = result([one_round(20.0)], [one_round(worker, supervisor=9.0)], 2.0, 6)
    assert (found.alone, found.seen) == (30.0, worker + 10.0)
    part = verdict(found)
    assert [target.met for target in part.targets] == [is_met]
    (table,) = part.tables
    assert "supervisor 9.0" in table.rows[1][1]
    assert part.figures["scrapes"] == 6
