"""A toy event backend, one process: stores every event in its SQLite file, commits, then answers 201.

    POST /api/v1/events    X-Event-Id names the event; the body is kept byte for byte
    GET  /api/v1/stream    WebSocket: each message is an event, named by the `id` in it; the answer is who stored it
    GET  /health           200, or the fault's

On a second port, which no fault touches:

    POST /control          {"fault": "errors", ...}: the fields of `Fault`
    GET  /control          the fault, and how many rows are stored

Started as `python -m proxy.demo.backends --name old --db FILE --port N --control-port N`.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import tempfile
from pathlib import Path

import msgspec
import uvloop
from aiohttp import web

from proxy.demo.faults import Door, Fault, bind, decode_fault
from proxy.demo.store import Arrival, Store

EVENTS_PATH = "/api/v1/events"
STREAM_PATH = "/api/v1/stream"
MAX_BODY = 64 * 2**20


class Backend:
    """The event port's handlers and the present fault."""

    def __init__(self, name: str, store: Store) -> None:
        self._name = name
        self._store = store
        self._batch: list[tuple[Arrival, asyncio.Future[None]]] = []
        self._events = 0
        self.fault = Fault("none")
        self._over = asyncio.Event()

    def set_fault(self, fault: Fault) -> None:
        """From the next event on; what is stalled goes on."""
        self.fault = fault
        self._over.set()
        self._over = asyncio.Event()

    async def health(self, request: web.Request) -> web.Response:
        """GET /health."""
        while self.fault.kind == "stall":
            await self._over.wait()
        return web.json_response({"status": "ok"})

    async def event(self, request: web.Request) -> web.StreamResponse:
        """POST /api/v1/events."""
        fault = self._next_fault()
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
            await self._stalled()
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
            fault = self._next_fault()
            if fault.kind == "stall":
                await self._stalled()
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

    def _next_fault(self) -> Fault:
        self._events += 1
        return self.fault if self._events % self.fault.every == 0 else Fault("none")

    async def _stalled(self) -> None:
        while self.fault.kind == "stall":
            await self._over.wait()

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


class Control:
    """The control port's handlers."""

    def __init__(self, backend: Backend, door: Door, store: Store) -> None:
        self._backend = backend
        self._door = door
        self._store = store

    async def read(self, request: web.Request) -> web.Response:
        """GET /control."""
        return web.json_response({"fault": self._backend.fault.kind, "stored": self._store.count()})

    async def change(self, request: web.Request) -> web.Response:
        """POST /control; 422 for what is not a `Fault`."""
        try:
            fault = decode_fault(await request.read())
        except msgspec.DecodeError as error:
            return web.json_response({"error": str(error)}, status=422)
        if fault.every < 1 or fault.seconds <= 0:
            return web.json_response({"error": "every is at least 1, seconds above 0"}, status=422)
        self._backend.set_fault(fault)
        await self._door.follow(fault)
        return await self.read(request)


async def serve(name: str, db: Path, port: int, control_port: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    store = Store(db)
    backend = Backend(name, store)
    events = web.Application(client_max_size=MAX_BODY)
    events.add_routes(
        [web.post(EVENTS_PATH, backend.event), web.get(STREAM_PATH, backend.stream), web.get("/health", backend.health)]
    )
    runner = web.AppRunner(events, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    door = Door(runner, port)
    await door.open()

    control = Control(backend, door, store)
    app = web.Application()
    app.add_routes([web.get("/control", control.read), web.post("/control", control.change)])
    control_runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await control_runner.setup()
    await web.SockSite(control_runner, await bind(control_port)).start()

    await _told_to_stop()
    await door.follow(Fault("down"))
    await runner.cleanup()
    await control_runner.cleanup()
    store.close()


async def _told_to_stop() -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()


def main() -> None:
    """Entry of the process."""
    parser = argparse.ArgumentParser(description="A toy event backend with injectable faults.")
    parser.add_argument("--name", required=True, help="what it calls itself in its answers")
    parser.add_argument(
        "--db", type=Path, help="SQLite file to store events in (default: a new one in a temporary folder)"
    )
    parser.add_argument("--port", type=int, required=True, help="port for events")
    parser.add_argument("--control-port", type=int, default=0, help="port for faults (default: any free one)")
    arguments = parser.parse_args()
    db = arguments.db or Path(tempfile.mkdtemp(prefix=f"crossfade-{arguments.name}-"), "events.db")
    print(f"{arguments.name} takes events at http://127.0.0.1:{arguments.port} and stores them in {db}", flush=True)
    uvloop.run(serve(arguments.name, db, arguments.port, arguments.control_port))


if __name__ == "__main__":
    main()
