"""A JSON API that keeps events in memory: the contract that the HTTP store is tested against."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from consistency.moments import parse_time
from proxy.demo.children import free_port

TOKEN: Final = "token of the checker"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class EventsApi:
    """Events of the form {"id": ..., "at": ..., "data": {...}}, listed at /events, read and written at /events/{id}.

    events: those that are there, in the order they came in; requests: method and path with query of each one
    is_ordered: lists are in order of time and end behind `limit`; else they are in pages that a cursor leads through
    broken: answers every request instead, while it is set
    """

    def __init__(self, *, is_ordered: bool) -> None:
        self._by_id: dict[str, list[dict[str, Any]]] = {}
        self.events: list[dict[str, Any]] = []
        self.requests: list[tuple[str, str]] = []
        self.broken: Handler | None = None
        self.is_ordered = is_ordered
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen; again after a stop, with what was there."""
        application = web.Application(middlewares=[self._guard])
        application.router.add_get("/events", self._list)
        application.router.add_get("/events/{id}", self._one)
        application.router.add_post("/events", self._create)
        application.router.add_put("/events/{id}", self._replace)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        """Listen no more; connections are closed."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def add(self, event: dict[str, Any]) -> None:
        """One more event."""
        self.events.append(event)
        self._by_id.setdefault(event["id"], []).append(event)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs))
        if self.broken is not None:
            return await self.broken(request)
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.json_response({"detail": "who are you?"}, status=401)
        return await handler(request)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        if "id" in query:
            return _json({"data": {"events": self._with_id(query["id"])}})
        start, end = parse_time(query["from"]), parse_time(query["to"])
        found = [event for event in self.events if start <= parse_time(event["at"]) < end]
        size = int(query["limit"])
        if self.is_ordered:
            found.sort(key=lambda event: parse_time(event["at"]))
            return _json({"data": {"events": found[:size]}})
        # The place to go on is a number with characters that an address has other uses for.
        first = int(query["after"].removeprefix("&n=") or 0)
        following = f"&n={first + size}" if first + size < len(found) else None
        return _json({"data": {"events": found[first : first + size], "next": following}})

    def _with_id(self, identity: str) -> list[dict[str, Any]]:
        return self._by_id.get(identity, [])

    async def _one(self, request: web.Request) -> web.StreamResponse:
        found = self._with_id(request.match_info["id"])
        return _json(found[0]) if found else web.json_response({"detail": "no such event"}, status=404)

    async def _create(self, request: web.Request) -> web.StreamResponse:
        event = json.loads(await request.read())
        if event["data"].get("note") == "unwelcome":
            return web.json_response({"detail": "not that note"}, status=422)
        if self._with_id(event["id"]):
            return web.json_response({"detail": "it is there"}, status=409)
        self.add(event)
        return web.Response(status=201)

    async def _replace(self, request: web.Request) -> web.StreamResponse:
        identity = request.match_info["id"]
        if self._with_id(identity) and request.headers.get("If-None-Match") == "*":
            return web.Response(status=412)
        self.events = [event for event in self.events if event["id"] != identity]
        self._by_id.pop(identity, None)
        self.add(json.loads(await request.read()))
        return web.Response(status=204)


def saying(body: bytes, status: int = 200, **headers: str) -> Handler:
    """For `broken`: the same answer to everything."""

    async def say(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, status=status, headers=headers, content_type="application/json")

    return say


async def hang(request: web.Request) -> web.StreamResponse:
    """For `broken`: no answer."""
    await asyncio.Event().wait()
    raise AssertionError("never")


async def cut(request: web.Request) -> web.StreamResponse:
    """For `broken`: the connection ends in the middle of an answer that looks whole so far."""
    body = b'{"data":{"events":[],"next":null}}'
    answer = web.StreamResponse(headers={"Content-Length": str(len(body) + 1)})
    await answer.prepare(request)
    await answer.write(body)
    assert request.transport is not None
    request.transport.close()
    return answer


def _json(document: Any) -> web.Response:
    return web.Response(body=json.dumps(document).encode(), content_type="application/json")
