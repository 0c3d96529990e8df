"""A toy event backend, one process: stores every event in its SQLite file, commits, then answers 201.

    POST /api/v1/events    X-Event-Id names the event; the body is kept byte for byte
    GET  /api/v1/stream    WebSocket: each message is an event, named by the `id` in it; the answer is who stored it
    GET  /health           200, or the fault's

On a second port, which no fault touches, `proxy.demo.control`.

Started as `python -m proxy.demo.backends --name old --db FILE --port N --control-port N`.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path

import msgspec
import uvloop
from aiohttp import web

from proxy.demo import control
from proxy.demo.control import Present
from proxy.demo.store import Arrival, Store

EVENTS_PATH = "/api/v1/events"
STREAM_PATH = "/api/v1/stream"
MAX_BODY = 64 * 2**20


class Backend:
    """The event port's handlers. present: its fault."""

    def __init__(self, name: str, store: Store) -> None:
        self._name = name
        self._store = store
        self._batch: list[tuple[Arrival, asyncio.Future[None]]] = []
        self.present = Present(name)

    async def health(self, request: web.Request) -> web.Response:
        """GET /health."""
        await self.present.stalled()
        return web.json_response({"status": "ok"})

    async def event(self, request: web.Request) -> web.StreamResponse:
        """POST /api/v1/events."""
        fault = self.present.next(request.headers.get("X-Event-Id", ""))
        if fault.kind == "early":
            return await self._answer_early(request, fault.status or 201)
        arrival = Arrival(
            request.headers.get("X-Event-Id", ""),
            request.headers.get("X-Crossfade-Role", ""),
            request.headers.get("X-Crossfade-Attempt", ""),
            await request.read(),
        )
        if not arrival.id:
            return web.json_response({"error": "X-Event-Id is missing"}, status=400)
        if fault.kind == "errors":
            return web.json_response({"error": "injected fault"}, status=fault.status or 503)
        if fault.kind == "stall":
            await self.present.stalled()
        if fault.kind != "forget":
            await self._commit(arrival)
        if fault.kind == "slow":
            await asyncio.sleep(fault.seconds)
        if fault.kind == "half-close" and request.transport is not None:
            request.transport.write_eof()
            # The connection is of no use without an answer; it closes when the peer does, or by this.
            await asyncio.sleep(fault.seconds)
            request.transport.abort()
        return web.json_response({"stored": arrival.id, "by": self._name}, status=201)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """GET /api/v1/stream, a WebSocket: a Pong comes behind everything that came before its Ping and is stored."""
        socket = web.WebSocketResponse(max_msg_size=MAX_BODY, compress=False)
        await socket.prepare(request)
        async for message in socket:
            if message.type not in (web.WSMsgType.TEXT, web.WSMsgType.BINARY):
                break
            body = message.data if isinstance(message.data, bytes) else message.data.encode()
            fault = self.present.next()
            if fault.kind == "stall":
                await self.present.stalled()
            elif fault.kind == "errors":
                await socket.close(code=1011)
                break
            try:
                id = str(msgspec.json.decode(body)["id"])
            except (msgspec.DecodeError, KeyError, TypeError):
                await socket.send_str('{"error":"no id"}')
                continue
            if fault.kind != "forget":
                await self._commit(Arrival(id, "", "", body))
            if fault.kind == "slow":
                await asyncio.sleep(fault.seconds)
            await socket.send_str(f'{{"stored":"{id}","by":"{self._name}"}}')
        return socket

    async def _answer_early(self, request: web.Request, status: int) -> web.StreamResponse:
        body = b'{"early":true,"by":"%s"}' % self._name.encode()
        answer = web.StreamResponse(status=status, headers={"Content-Length": str(len(body))})
        if status >= 300:
            answer.force_close()
        await answer.prepare(request)
        await answer.write(body)
        await answer.write_eof()
        # Time for the peer to act on the answer while the body's rest is still in its hands.
        await asyncio.sleep(0.05)
        if status < 300:
            id, role = request.headers["X-Event-Id"], request.headers.get("X-Crossfade-Role", "")
            await self._commit(Arrival(id, role, request.headers.get("X-Crossfade-Attempt", ""), await request.read()))
        return answer

    async def _commit(self, arrival: Arrival) -> None:
        """Join this turn of the loop's batch; returns once it is committed."""
        loop = asyncio.get_running_loop()
        committed = loop.create_future()
        if not self._batch:
            loop.call_soon(self._commit_batch)
        self._batch.append((arrival, committed))
        await committed

    def _commit_batch(self) -> None:
        batch, self._batch = self._batch, []
        self._store.add([arrival for arrival, _ in batch])
        for _, committed in batch:
            if not committed.done():
                committed.set_result(None)


async def serve(name: str, db: Path, port: int, control_port: int, host: str = "127.0.0.1") -> None:
    """Serve until SIGTERM or SIGINT. host: of the events."""
    store = Store(db)
    backend = Backend(name, store)
    events = web.Application(client_max_size=MAX_BODY)
    events.add_routes(
        [web.post(EVENTS_PATH, backend.event), web.get(STREAM_PATH, backend.stream), web.get("/health", backend.health)]
    )
    await control.serve(events, backend.present, store.count, port, control_port, host)
    store.close()


def main() -> None:
    """Entry of the process."""
    parser = argparse.ArgumentParser(description="A toy event backend with injectable faults.")
    parser.add_argument("--name", required=True, help="what it calls itself in its answers")
    parser.add_argument(
        "--db", type=Path, help="SQLite file to store events in (default: a new one in a temporary folder)"
    )
    parser.add_argument("--port", type=int, required=True, help="port for events")
    parser.add_argument("--host", default="127.0.0.1", help="address for events (default: 127.0.0.1)")
    parser.add_argument("--control-port", type=int, default=0, help="port for faults (default: any free one)")
    arguments = parser.parse_args()
    db = arguments.db or Path(tempfile.mkdtemp(prefix=f"crossfade-{arguments.name}-"), "events.db")
    print(
        f"{arguments.name} takes events at http://{arguments.host}:{arguments.port} and stores them in {db}", flush=True
    )
    uvloop.run(serve(arguments.name, db, arguments.port, arguments.control_port, arguments.host))


if __name__ == "__main__":
    main()
