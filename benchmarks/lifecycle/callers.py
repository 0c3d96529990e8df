"""`python -m benchmarks.lifecycle.callers`: clients of a service that is moved under them, until SIGTERM.

Each lane sends an event, waits for its answer, and sends the next; after so many it takes a new connection, as clients
do in the end: with 1, 10 or 50 events each. What becomes of every event is written to a file as JSON.

A connection that was used before and ends without one byte of an answer had been closed for idleness: the event goes
out again on another one (RFC 9112, 9.3.1), once, and is counted as such. All else but a 2xx is a failure.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import time
from pathlib import Path
from typing import Final

import uvloop

from config.units import Address, parse_address

PER_CONNECTION: Final = (1, 10, 50)
_ANSWER: Final = 20.0
"""Seconds that one may take."""


class Idle(Exception):
    """The connection was closed before it had taken anything."""


class Lane:
    """One event after the other. interval: seconds between two; per_connection: events of each connection.

    told: [id, sent, answered] of each that was accepted, monotonic seconds; failures: texts.
    """

    def __init__(self, name: int, address: Address, interval: float, per_connection: int) -> None:
        self._name = name
        self._address = address
        self._interval = interval
        self._per_connection = per_connection
        self._stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._used = 0
        self.told: list[tuple[str, float, float]] = []
        self.failures: list[str] = []
        self.reopened = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Send until `stop` is set."""
        number, due = 0, time.monotonic()
        while not stop.is_set():
            due = max(due + self._interval, time.monotonic() - 1.0)
            await self._event(f"lane-{self._name}-{number}")
            number += 1
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        self._close()

    async def _event(self, id: str) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(_ANSWER):
                status = await self._tried(id)
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            self._close()
            self.failures.append(f"{id}: {type(error).__name__} {error}")
            return
        if 200 <= status < 300:
            self.told.append((id, began, time.monotonic()))
        else:
            self.failures.append(f"{id}: status {status}")

    async def _tried(self, id: str) -> int:
        try:
            return await self._sent(id)
        except Idle:
            self._close()
            self.reopened += 1
        try:
            return await self._sent(id)
        except Idle:
            raise EOFError("closed without an answer") from None

    async def _sent(self, id: str) -> int:
        """The status of the answer."""
        if self._stream is None or self._used >= self._per_connection:
            self._close()
            self._stream = await asyncio.open_connection(self._address.host, self._address.port)
            self._used = 0
        reader, writer = self._stream
        was_used, self._used = self._used > 0, self._used + 1
        body = json.dumps({"entity_id": f"light.lane_{self._name}", "context": {"id": id}}).encode()
        head = (
            f"POST /api/v1/events HTTP/1.1\r\nHost: service\r\nX-Event-Id: {id}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        try:
            first = await reader.read(1)
        except ConnectionResetError:
            if was_used:
                raise Idle from None
            raise
        if not first:
            raise Idle if was_used else EOFError("closed without an answer")
        answer = first + await reader.readuntil(b"\r\n\r\n")
        lines = answer.decode("latin-1").lower().split("\r\n")
        await reader.readexactly(next(int(line[15:]) for line in lines if line.startswith("content-length:")))
        if "connection: close" in lines:
            self._close()
        return int(lines[0].split()[1])

    def _close(self) -> None:
        if self._stream is not None:
            self._stream[1].close()
            self._stream = None


async def serve(address: Address, rate: float, lanes: int) -> list[Lane]:
    """Send until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    interval = lanes / rate
    made = [Lane(index, address, interval, PER_CONNECTION[index % len(PER_CONNECTION)]) for index in range(lanes)]
    async with asyncio.TaskGroup() as group:
        for index, lane in enumerate(made):
            await asyncio.sleep(interval / lanes if index else 0.0)
            group.create_task(lane.run(stop))
    return made


def main() -> None:
    """Entry of the process."""
    parser = argparse.ArgumentParser(description="Clients of a service that is moved.")
    parser.add_argument("--address", type=parse_address, required=True)
    parser.add_argument("--rate", type=float, required=True, help="events per second, of all lanes")
    parser.add_argument("--lanes", type=int, required=True, help="connections at a time")
    parser.add_argument("--record", type=Path, required=True, help="file that it writes in the end")
    options = parser.parse_args()
    lanes = uvloop.run(serve(options.address, options.rate, options.lanes))
    found = {
        "told": [each for lane in lanes for each in lane.told],
        "failures": [each for lane in lanes for each in lane.failures],
        "reopened": sum(lane.reopened for lane in lanes),
    }
    options.record.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
