"""The API as the console meets it, which does what a test says: hangs, tells of another time, knows less than usual."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from aiohttp import web

from proxy.control.audit import iso
from proxy.control.event_stream import HEADERS
from proxy.control.pages import add_pages
from proxy.control.streams import BEAT, message

TICK: Final = 0.2
"""Seconds between two messages of a stream."""
Answer = Callable[[str, str, dict[str, Any]], Awaitable[dict[str, Any]]]


class ConsoleApi:
    """snapshot: what streams tell again and again, with the time put in; a test changes it as it likes."""

    def __init__(self, snapshot: dict[str, Any]) -> None:
        self.snapshot = snapshot
        self.behind = 0.0
        """Seconds that its clock is behind this machine's."""
        self.is_silent = False
        """Signs of life alone, and no snapshot."""
        self.is_away = False
        """No stream, and no new one."""
        self.spans: list[dict[str, str]] = []
        """What past figures were asked for."""
        self.answer: Answer = effect
        """Of a change, by route, its name and its body."""
        self.url = ""

    @property
    def now(self) -> float:
        return time.time() - self.behind

    def route(self, name: str) -> dict[str, Any]:
        """A route of the snapshot."""
        found: dict[str, Any] = next(each for each in self.snapshot["status"]["routes"] if each["name"] == name)
        return found

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        if self.is_away:
            return web.Response(status=503)
        answer = web.StreamResponse(headers=HEADERS)
        await answer.prepare(request)
        await answer.write(message("welcome", "0", {"role": "operator", "token": "ann"}))
        number = 0
        while not self.is_away:
            number += 1
            told = message("snapshot", f"life.{number}", self.snapshot | {"at": iso(self.now)})
            await answer.write(BEAT if self.is_silent else told)
            await asyncio.sleep(TICK)
        return answer

    async def _figures(self, request: web.Request) -> web.Response:
        self.spans.append(dict(request.query))
        return web.json_response({"points": []})

    async def _change(self, request: web.Request) -> web.Response:
        told = await self.answer(request.match_info["route"], request.match_info["what"], await request.json())
        return web.json_response(told, status=told.get("status", 200))

    def app(self) -> web.Application:
        app = web.Application()
        add_pages(app)
        app.router.add_get("/api/v1/status/stream", self._stream)
        app.router.add_get("/api/v1/routes/{route}/figures", self._figures)
        app.router.add_route("*", "/api/v1/routes/{route}/{what}", self._change)
        return app


async def effect(route: str, what: str, body: dict[str, Any]) -> dict[str, Any]:
    """What a change did, or would do."""
    before = {"weight": 20.0, "stage": "live", "latched": False}
    after = before | {"weight": body.get("weight", 0.0)}
    applied = {"workers": 2, "of": 2}
    return {"before": before, "after": after, "notes": [], "moves": None, "changed": True, "applied": applied}


@asynccontextmanager
async def serving(api: ConsoleApi) -> AsyncIterator[ConsoleApi]:
    """The API at its `url`."""
    runner = web.AppRunner(api.app(), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        api.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        yield api
    finally:
        await runner.cleanup()
