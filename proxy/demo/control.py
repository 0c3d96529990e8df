"""The fault that a process has at present, and the second port by which that is set and asked:

POST /control          {"fault": "errors", ...}: the fields of `Fault`
GET  /control          the fault, when an event met it first, and how many events are stored
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable
from typing import get_args

import msgspec
from aiohttp import web

from proxy.demo.faults import Door, Fault, Kind, bind, decode_fault


class Present:
    """The present fault, and which events have it.

    name: seeds the chance of `share`; knows: the faults that the process can have, all by default.
    """

    def __init__(self, name: str, knows: tuple[str, ...] = get_args(Kind)) -> None:
        self.knows = knows
        self.fault = Fault("none")
        self.met_at: float | None = None
        """When an event met the present fault first, monotonic seconds, which all processes of a host share."""
        self._events = 0
        self._chance = random.Random(name)
        self._over = asyncio.Event()

    def set(self, fault: Fault) -> None:
        """From the next event on; what is stalled goes on."""
        self.fault = fault
        self.met_at = None
        self._over.set()
        self._over = asyncio.Event()

    def next(self, id: str = "") -> Fault:
        """What is wrong with the event that has just come. id: its X-Event-Id."""
        self._events += 1
        if self.fault.only not in ("", id):
            return Fault("none")
        if self._events % self.fault.every or self._chance.random() >= self.fault.share:
            return Fault("none")
        if self.met_at is None and self.fault.kind != "none":
            self.met_at = time.monotonic()
        return self.fault

    async def stalled(self) -> None:
        """Wait for the end of a stall, if there is one."""
        while self.fault.kind == "stall":
            await self._over.wait()


class Control:
    """The control port's handlers. count: how many events are stored."""

    def __init__(self, present: Present, door: Door, count: Callable[[], int]) -> None:
        self._present = present
        self._door = door
        self._count = count

    async def read(self, request: web.Request) -> web.Response:
        """GET /control."""
        present = self._present
        return web.json_response({"fault": present.fault.kind, "met_at": present.met_at, "stored": self._count()})

    async def change(self, request: web.Request) -> web.Response:
        """POST /control; 422 for what is not a `Fault`, or none that the process can have."""
        try:
            fault = decode_fault(await request.read())
        except msgspec.DecodeError as error:
            return web.json_response({"error": str(error)}, status=422)
        if fault.every < 1 or fault.seconds <= 0 or not 0 < fault.share <= 1:
            text = "every is at least 1, seconds above 0, share above 0 and at most 1"
            return web.json_response({"error": text}, status=422)
        if fault.kind not in self._present.knows:
            text = f"{fault.kind} is none of {', '.join(self._present.knows)}"
            return web.json_response({"error": text}, status=422)
        self._present.set(fault)
        await self._door.follow(fault)
        return await self.read(request)


async def serve(
    events: web.Application,
    present: Present,
    count: Callable[[], int],
    port: int,
    control_port: int,
    host: str = "127.0.0.1",
) -> None:
    """Serve events at one port and the fault at the other, until SIGTERM or SIGINT. host: of the events."""
    runner = web.AppRunner(events, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    door = Door(runner, port, host)
    await door.open()

    control = Control(present, door, count)
    app = web.Application()
    app.add_routes([web.get("/control", control.read), web.post("/control", control.change)])
    control_runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await control_runner.setup()
    await web.SockSite(control_runner, await bind(control_port)).start()

    await _told_to_stop()
    await door.follow(Fault("down"))
    await runner.cleanup()
    await control_runner.cleanup()


async def _told_to_stop() -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
