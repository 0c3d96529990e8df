"""A receiver of notifications, as real as any: an HTTP server that keeps what it got and fails as it is told."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from proxy.demo.children import free_port


class Server:
    """A receiver. answers: the status of each request in turn, the last for all that follow; hold: they wait for it."""

    def __init__(self) -> None:
        self.port = free_port()
        self.answers = [204]
        self.hold = asyncio.Event()
        self.hold.set()
        self.got: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.asked = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/SECRET-path"

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/SECRET-path", self._take)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _take(self, request: web.Request) -> web.Response:
        self.asked += 1
        body = await request.json()
        await self.hold.wait()
        status = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if status < 300:
            self.got.append(body)
            self.headers.append(dict(request.headers))
        return web.Response(status=status)

    def actions(self) -> list[str]:
        return [each["action"] for each in self.got]
