"""Health probes against real servers on loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from config.model import BackendTls
from proxy.control.probes import Probes, ProbeTrouble, Standing
from proxy.control.sockets import address_text, listen_tcp
from proxy.net.client_tls import ClientTls
from tests.control.helpers import eventually, make_settings
from tests.harness.certificates import Authority

HEALTH = {"path": "/up", "interval": "10ms", "timeout": "5s", "healthy": 2, "unhealthy": 3}


def test_a_standing_needs_answers_in_a_row() -> None:
    standing = Standing(healthy=2, unhealthy=3)
    seen = []
    for ok in (True, False, True, True, False, False, True, False, False, False, True, True):
        standing.take(ok)
        seen.append(standing.is_healthy)
    assert seen == [None] * 3 + [True] * 6 + [False] * 2 + [True]


def test_a_standing_tells_of_changes_alone() -> None:
    standing = Standing(healthy=1, unhealthy=1)
    assert [standing.take(ok) for ok in (True, True, False, False, True)] == [True, False, True, False, True]


def test_a_standing_says_why_it_fails_how_often_and_since_when() -> None:
    standing = Standing(healthy=1, unhealthy=3)
    standing.take(True, "status 200 after 1 ms", 1.0)
    assert standing.trouble(2.0) is None
    for begun, detail in ((3.0, "status 503 after 5 ms"), (4.0, "no answer within 2 s")):
        standing.take(False, detail, begun)
    assert standing.trouble(6.0) == ProbeTrouble("no answer within 2 s", 2, 3.0)
    standing.take(True, "status 200 after 1 ms", 7.0)
    assert standing.trouble(8.0) is None


def test_a_backend_is_down_since_the_last_of_its_endpoints_is() -> None:
    looking = probes("127.0.0.1:9", [], health=HEALTH)
    first, second = Standing(1, 1), Standing(1, 1)
    looking.standings["new"] = {"127.0.0.1:9": first, "127.0.0.2:9": second}
    assert looking.trouble("new", 1.0) is None
    first.take(False, "status 500", 2.0)
    second.take(True, "status 200", 2.0)
    assert looking.trouble("new", 3.0) is None
    second.take(False, "status 503", 4.0)
    assert looking.trouble("new", 5.0) == ProbeTrouble("status 503", 1, 1.0)
    assert looking.trouble("old", 5.0) is None


class Backend:
    """Answers /up with a status, or not at all (status 0)."""

    def __init__(self) -> None:
        self.status = 200
        self.asked: list[str] = []
        self.listener = listen_tcp("127.0.0.1:0")
        self.address = address_text(self.listener)

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        if self.status == 0:
            await asyncio.sleep(60)
        return web.Response(status=self.status, headers={"Location": "/elsewhere"})


@pytest_asyncio.fixture
async def backend() -> AsyncIterator[Backend]:
    made = Backend()
    app = web.Application()
    app.router.add_get("/{path:.*}", made.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.SockSite(runner, made.listener).start()
    yield made
    await runner.cleanup()


def probes(address: str, changes: list[dict[str, bool]], **more: Any) -> Probes:
    backends = {"old": {"url": "http://127.0.0.1:9"}, "new": {"url": f"http://{address}", **more}}
    return Probes(make_settings("/x", backends=backends), lambda healthy, _: changes.append(healthy))


@pytest.mark.asyncio
async def test_a_backend_goes_down_and_comes_back(backend: Backend) -> None:
    changes: list[dict[str, bool]] = []
    looking = probes(backend.address, changes, health=HEALTH)
    await looking.start()
    try:
        await eventually(lambda: changes == [{"new": True}])
        for bad in (500, 404):
            backend.status = bad
            await eventually(lambda: looking.healthy == {"new": False})
            backend.status = 302  # any 3xx is well, and is not followed
            await eventually(lambda: looking.healthy == {"new": True})
        assert set(backend.asked) == {"/up"}
        assert len(changes) == 5
    finally:
        await looking.close()


@pytest.mark.asyncio
async def test_silence_and_refusal_are_failures(backend: Backend) -> None:
    backend.status = 0
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = address_text(taken)
    looking = probes(nobody, [])
    await looking.start()
    try:
        silent = await looking.ask(f"http://{backend.address}/up", 0.05)
        assert (silent.ok, silent.detail) == (False, "no answer within 0.05 s")
        for address in (f"http://{nobody}/", f"tcp://{nobody}", "tcp://host.invalid:1"):
            refused = await looking.ask(address, 5.0)
            assert not refused.ok
            assert refused.detail
        assert (await looking.ask(f"tcp://{backend.address}", 5.0)).ok
    finally:
        await looking.close()


@pytest.mark.asyncio
async def test_what_was_found_last_is_known_before_the_verdict_is(backend: Backend) -> None:
    looking = probes(backend.address, [], health=HEALTH | {"unhealthy": 1000})
    await looking.start()
    try:
        await eventually(lambda: looking.healthy == {"new": True} and looking.answers == {"new": True})
        backend.status = 503
        await eventually(lambda: looking.answers == {"new": False})
        assert looking.healthy == {"new": True}
        backend.status = 200
        await eventually(lambda: looking.answers == {"new": True})
    finally:
        await looking.close()


@pytest.mark.asyncio
async def test_dependencies_are_followed(backend: Backend) -> None:
    named = {"cache": f"http://{backend.address}/cache", "database": f"tcp://{backend.address}"}
    looking = probes(backend.address, [], health=HEALTH, dependencies=named)
    assert [(each.name, each.healthy) for each in looking.dependencies] == [("cache", None), ("database", None)]
    await looking.start()
    try:
        await eventually(lambda: [each.healthy for each in looking.dependencies] == [True, True])
        backend.status = 503
        await eventually(lambda: [each.healthy for each in looking.dependencies] == [False, True])
        assert looking.dependencies[0].detail.startswith("status 503 after")
    finally:
        await looking.close()


async def well(_: web.Request) -> web.Response:
    return web.Response()


@pytest.mark.asyncio
async def test_a_probe_over_tls_believes_whom_events_believe(tmp_path: Path) -> None:
    ca = Authority(tmp_path)
    context = ca.server(ca.issue("backend", "events.internal"), asks=True)
    ours = ca.issue("ours", "crossfade")
    listener = listen_tcp("127.0.0.1:0")
    app = web.Application()
    app.router.add_get("/up", well)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.SockSite(runner, listener, ssl_context=context).start()
    url = f"https://{address_text(listener)}"
    good: dict[str, Any] = {"ca": ca.file, "server_name": "events.internal", "cert": ours.cert, "key": ours.key}
    cases = {
        "": good,
        "certificate verify failed: IP address mismatch": good | {"server_name": None},
        "certificate verify failed: self-signed certificate in certificate chain": good | {"ca": None},
        "Server disconnected": good | {"cert": None, "key": None},  # that is what TLS 1.3 lets a client see
    }
    looking = probes("127.0.0.1:9", [], health=HEALTH)
    await looking.start()
    try:
        for why, tls in cases.items():
            made = ClientTls("new", BackendTls.model_validate(tls))
            found = await looking.ask(f"{url}/up", 5.0, made, tls["server_name"])
            assert (found.ok, why in found.detail) == (not why, True), found.detail
    finally:
        await looking.close()
        await runner.cleanup()
