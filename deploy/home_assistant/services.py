"""The old and the new side of the migration, one process for each part; all of them take POST /api/v1/events.

    old   monolith ──► InfluxDB
    new   ingest ──► enrich ──► store ──► InfluxDB      ingest checks what it is given, enrich adds the weather

Each answers 201 only when InfluxDB has the point; the same event again is the same point, by its series and time. 400:
no `state_changed` event; 422: InfluxDB refuses the point; 503: what stands behind does not answer, or not well. GET
/health says that of what stands behind: 200 or 503. Faults are set at a second port, see `proxy.demo.control`.

Started as `python -m deploy.home_assistant.services ROLE --influxdb URL --database NAME --port N --control-port N`;
ingest and enrich have `--next URL` in the place of the database. With `--org NAME` it is an InfluxDB 2.x, whose bucket
`--database` names, and whose token INFLUXDB_TOKEN_FILE does.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp
import msgspec
import uvloop
from aiohttp import web

from deploy.home_assistant.events import Event, decode, line_of
from deploy.home_assistant.influxdb import Database, NotStored
from proxy.demo.backends import EVENTS_PATH
from proxy.demo.control import Present, serve

FAULTS: Final = ("none", "errors", "stall", "down", "slow", "flap", "forget")
_TIMEOUT: Final = aiohttp.ClientTimeout(total=5)
_WEATHER: Final = (("clear", 9.5), ("rain", 11.0), ("cloudy", 14.5), ("clear", 12.0))
"""Of each quarter of a day: what it is like, and degrees."""
ENRICHMENT: Final = ("weather", "outdoor_temperature")
"""Fields that the new side alone has."""


class Behind(NamedTuple):
    """What a part does with an event, and whether what it needs for that is there."""

    take: Callable[[Event], Awaitable[None]]
    """Raises NotStored."""
    is_there: Callable[[], Awaitable[bool]]


class Part:
    """The event port's handlers. present: its fault; stored: how many events are behind it."""

    def __init__(self, name: str, behind: Behind) -> None:
        self._name = name
        self._behind = behind
        self.present = Present(name, FAULTS)
        self.stored = 0

    async def health(self, request: web.Request) -> web.Response:
        """GET /health."""
        await self.present.stalled()
        is_well = await self._behind.is_there()
        return web.json_response({"status": "ok" if is_well else "unavailable"}, status=200 if is_well else 503)

    async def event(self, request: web.Request) -> web.Response:
        """POST /api/v1/events."""
        fault = self.present.next(request.headers.get("X-Event-Id", ""))
        body = await request.read()
        if fault.kind == "errors":
            return self._refused(fault.status or 503, "injected fault")
        if fault.kind == "stall":
            await self.present.stalled()
        try:
            event = decode(body)
            if fault.kind != "forget":
                await self._behind.take(event)
                self.stored += 1
        except msgspec.DecodeError as error:
            return self._refused(400, str(error))
        except NotStored as error:
            return self._refused(error.status, str(error))
        if fault.kind == "slow":
            await asyncio.sleep(fault.seconds)
        return web.json_response({"by": self._name}, status=201)

    def _refused(self, status: int, message: str) -> web.Response:
        return web.json_response({"error": f"{self._name}: {message}"}, status=status)


def into(database: Database) -> Behind:
    """Writes what it is given; each time under an id of its own, in which is the time (UUID version 1)."""

    async def take(event: Event) -> None:
        await database.write(line_of(event, uuid.uuid1().hex))

    return Behind(take, database.is_there)


def onward(http: aiohttp.ClientSession, url: str, change: Callable[[Event], Event]) -> Behind:
    """Hands on what it is given to the next part at `url`, changed, and waits for its answer."""

    async def take(event: Event) -> None:
        body = msgspec.json.encode(change(event))
        try:
            async with http.post(f"{url}{EVENTS_PATH}", data=body) as answer:
                if answer.status == 201:
                    return
                status, text = answer.status, (await answer.text())[:500]
        except (aiohttp.ClientError, TimeoutError) as error:
            raise NotStored(503, f"{url}: {str(error) or type(error).__name__}") from None
        # Behind a refusal stands the event itself; all else may go well another time.
        raise NotStored(status if 400 <= status < 500 else 503, text)

    async def is_there() -> bool:
        try:
            async with http.get(f"{url}/health") as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    return Behind(take, is_there)


def enriched(event: Event) -> Event:
    """With the weather at its time, as a weather service would have it."""
    weather = _WEATHER[event.time_fired.hour // 6]
    return msgspec.structs.replace(event, enrichment=dict(zip(ENRICHMENT, weather, strict=True)))


def unchanged(event: Event) -> Event:
    """As it is."""
    return event


def token() -> str:
    """What lets us into the InfluxDB: in the file that INFLUXDB_TOKEN_FILE names; empty without one."""
    path = os.environ.get("INFLUXDB_TOKEN_FILE")
    return Path(path).read_text().strip() if path else ""


@asynccontextmanager
async def opened(arguments: argparse.Namespace) -> AsyncIterator[Behind]:
    """What stands behind the part that is asked for."""
    if arguments.role in ("monolith", "store"):
        database = Database(arguments.influxdb, arguments.database, arguments.org, token())
        try:
            yield into(database)
        finally:
            await database.close()
    else:
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as http:
            yield onward(http, arguments.next, enriched if arguments.role == "enrich" else unchanged)


async def run(arguments: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT."""
    async with opened(arguments) as behind:
        part = Part(arguments.role, behind)
        app = web.Application()
        app.add_routes([web.post(EVENTS_PATH, part.event), web.get("/health", part.health)])
        await serve(app, part.present, lambda: part.stored, arguments.port, arguments.control_port, arguments.host)


def parsed(words: list[str] | None = None) -> argparse.Namespace:
    """The command line; ends the process for one that is wrong. words: those of the process when None."""
    parser = argparse.ArgumentParser(description="A part of the old or the new side of a migration.")
    parser.add_argument("role", choices=("monolith", "ingest", "enrich", "store"))
    parser.add_argument("--influxdb", help="URL of the InfluxDB that it writes to (monolith, store)")
    parser.add_argument("--database", help="its database (monolith, store)")
    parser.add_argument("--org", default="", help="organisation of an InfluxDB 2.x; without it it is a 1.x")
    parser.add_argument("--host", default="127.0.0.1", help="address for events")
    parser.add_argument("--next", help="URL of the part that it hands events on to (ingest, enrich)")
    parser.add_argument("--port", type=int, required=True, help="port for events")
    parser.add_argument("--control-port", type=int, required=True, help="port for faults")
    arguments = parser.parse_args(words)
    needed = ("influxdb", "database") if arguments.role in ("monolith", "store") else ("next",)
    missing = [f"--{name}" for name in needed if getattr(arguments, name) is None]
    if missing:
        parser.error(f"{arguments.role} needs {' and '.join(missing)}")
    return arguments


def main() -> None:
    """Entry of the process."""
    uvloop.run(run(parsed()))


if __name__ == "__main__":
    main()
