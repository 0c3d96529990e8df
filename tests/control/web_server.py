"""A server on the web that answers what a test says: for gates that are asked, and a Prometheus among them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Answers with `handler`, and keeps what it was asked."""

    def __init__(self) -> None:
        self.handler: Handler | None = None
        self.bodies: list[bytes] = []
        self.headers: list[Any] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.read())
        self.headers.append(request.headers)
        assert self.handler is not None
        return await self.handler(request)

    def says(self, status: int, text: str = "", **more: Any) -> None:
        async def handler(_: web.Request) -> web.StreamResponse:
            return web.Response(status=status, text=text, **more)

        self.handler = handler

    def gives(self, kind: str, result: Any, status: str = "success") -> None:
        data = {"resultType": kind, "result": result}
        self.says(200, orjson.dumps({"status": status, "data": data}).decode(), content_type="application/json")
