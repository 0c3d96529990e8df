"""`python aiohttp_proxy.py split|dual PORT OLD NEW`: the proxy that one would write first, of aiohttp.

split: the key of the JSON body says who gets the event, a quarter of the keys goes to new. dual: both get it at once,
and the client has old's answer when both have answered. No record is kept, and a copy that fails is gone.

As its manual advises for speed: uvloop, no access log, one session for all requests, no limit of connections.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Mapping
from typing import Final

import aiohttp
import orjson
import uvloop
from aiohttp import web

SHARE: Final = 25
_HOP_BY_HOP: Final = frozenset(
    ["connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"]
)


def end_to_end(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """The headers that go on."""
    return [(name, value) for name, value in headers.items() if name.lower() not in _HOP_BY_HOP]


def bucket(body: bytes) -> int:
    """0-99, by the event's key."""
    key: str = orjson.loads(body)["entity_id"]
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest(), "big") % 100


class Proxy:
    """The handler of every request."""

    def __init__(self, old: int, new: int, *, is_dual: bool) -> None:
        self._old, self._new = f"http://127.0.0.1:{old}", f"http://127.0.0.1:{new}"
        self._is_dual = is_dual

    async def open(self, _: web.Application) -> None:
        """Make the one session, which needs the loop."""
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)

    async def close(self, _: web.Application) -> None:
        """Close it."""
        await self._session.close()

    async def _send(self, url: str, request: web.Request, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        headers = [*end_to_end(request.headers), ("X-Forwarded-For", request.remote or "")]
        async with self._session.request(request.method, url + request.raw_path, headers=headers, data=body) as answer:
            return answer.status, end_to_end(answer.headers), await answer.read()

    async def handle(self, request: web.Request) -> web.Response:
        """One event."""
        body = await request.read()
        if self._is_dual:
            (status, headers, answer), _ = await asyncio.gather(
                self._send(self._old, request, body), self._send(self._new, request, body)
            )
        else:
            url = self._new if bucket(body) < SHARE else self._old
            status, headers, answer = await self._send(url, request, body)
        return web.Response(status=status, headers=headers, body=answer)


def main(arguments: list[str]) -> None:
    """Serve until the process is ended."""
    mode, port, old, new = arguments
    proxy = Proxy(int(old), int(new), is_dual=mode == "dual")
    app = web.Application(client_max_size=2**24)
    app.on_startup.append(proxy.open)
    app.on_cleanup.append(proxy.close)
    app.router.add_route("*", "/{path:.*}", proxy.handle)
    loop = uvloop.new_event_loop()
    web.run_app(app, host="127.0.0.1", port=int(port), access_log=None, print=None, backlog=4096, loop=loop)


if __name__ == "__main__":
    main(sys.argv[1:])
