"""The answer that does not end: sends a watcher what it is to get, until somebody goes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from proxy.control.streams import Streams, message
from proxy.control.views import Welcome

log = logging.getLogger(__name__)

SLOW: Final = 10.0
"""Seconds in which a client takes what it is sent; then it is cut."""
AGAIN: Final = 1000
"""Milliseconds after which a client that lost its stream asks again."""
HEADERS: Final = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store"}


class EventStream(web.StreamResponse):
    """A watcher's stream (WHATWG HTML, server-sent events), written where aiohttp prepares the answer, as files are.

    welcome: its first event; may_watch: asked before each event, for a token may be revoked meanwhile.
    """

    def __init__(self, streams: Streams, welcome: Welcome, may_watch: Callable[[], bool]) -> None:
        super().__init__(headers=HEADERS)
        self._streams = streams
        self._first = b"retry: %d\n" % AGAIN + message("welcome", "0", welcome)
        self._may_watch = may_watch

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send everything there will be. Raises ConnectionError when the client goes."""
        with self._streams.watcher() as watcher:
            writer = await super().prepare(request)
            told = self._first
            while told and self._may_watch():
                await self._send(request, told)
                told = await watcher.next()
        return writer

    async def _send(self, request: web.BaseRequest, told: bytes) -> None:
        try:
            async with asyncio.timeout(SLOW):
                await self.write(told)
        except TimeoutError:
            log.warning("a stream's client took nothing for %g s and was cut", SLOW)
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("it took nothing") from None
