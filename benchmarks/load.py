"""Open loop: events leave at a constant rate whatever the answers do, and latency counts from when one was due.

The clock is perf_counter: uvloop's own counts whole milliseconds.

wrk waits for an answer before it sends again, so a proxy that stalls is asked less and looks better than it is. This
generator does not: what is due while all connections are busy waits in a queue, and its waiting is its latency.
"""

from __future__ import annotations

import asyncio
import gc
import math
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

from benchmarks.processes import BenchmarkFailed

CONNECTIONS: Final = 64
KEYS: Final = 10_000
BODY_SIZE: Final = 290
TICK: Final = 0.001
"""Seconds between two looks at what is due."""
ANSWER_TIMEOUT: Final = 20.0


@dataclass(slots=True)
class LoadResult:
    """What became of the events. latencies: seconds, of all answers; accepted: ids with a 2xx; failed: id to status."""

    rate: float
    latencies: list[float] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    failed: dict[str, int] = field(default_factory=dict)

    def quantile(self, q: float) -> float:
        """Latency in seconds that the share q (0-1) of the answers did not exceed."""
        return quantile(self.latencies, q)


def quantile(values: Sequence[float], q: float) -> float:
    """The smallest value that at least the share q (0-1) of the values does not exceed; NaN without values."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(q * len(values)) - 1)]


def event(number: int, run: str) -> tuple[str, bytes]:
    """The id and the request bytes of event `number`: the same kind of event that wrk/events.lua sends."""
    name = f"sensor.meter_{number * 7919 % KEYS:05d}"
    event_id = f"02{run}{number:016x}"
    start = (
        f'{{"entity_id":"{name}","state":"21.50","attributes":{{"unit_of_measurement":"kWh","device_class":"energy"}},'
    )
    start += (
        f'"last_changed":"2025-11-20T08:00:00.000000+00:00","context":{{"parent_id":null,"id":"{event_id}"}},"pad":"'
    )
    body = start + "x" * (BODY_SIZE - len(start) - 2) + '"}'
    head = "POST /api/v1/events HTTP/1.1\r\nHost: bench.local\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {BODY_SIZE}\r\nX-Bench-Id: {event_id}\r\n\r\n"
    return event_id, (head + body).encode()


def answer_length(data: bytes | bytearray) -> int | None:
    """How long the answer at the start of `data` is, or None while its head is incomplete.

    Understands what the benchmark's backends answer: a Content-Length, or 204. Raises BenchmarkFailed for others.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = bytes(data[:end]).lower()
    if head[9:12] == b"204":
        return end + 4
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        raise BenchmarkFailed(f"an answer without Content-Length: {head!r}")
    return end + 4 + int(head[at + 17 :].split(b"\r\n", 1)[0])


class _Connection(asyncio.Protocol):
    """One keep-alive connection with at most one event under way."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._buffer = bytearray()
        self._transport: asyncio.WriteTransport | None = None
        self._event_id = ""
        self._due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, for uvloop's transports do not derive from asyncio's classes.
        self._transport = cast(asyncio.WriteTransport, transport)
        self._load.idle.append(self)

    def send(self, number: int, due: float) -> None:
        """Send event `number`, which was due at `due` (time.perf_counter)."""
        assert self._transport is not None
        self._event_id, request = event(number, self._load.run)
        self._due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        length = answer_length(self._buffer)
        if length is None or len(self._buffer) < length:
            return
        status = int(self._buffer[9:12])
        del self._buffer[:length]
        event_id, self._event_id = self._event_id, ""
        self._load.answered(self, event_id, self._due, status)

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.lost(self, self._event_id)

    def close(self) -> None:
        """Close without a word; nothing is under way any more."""
        assert self._transport is not None
        self._transport.close()


class _Load:
    def __init__(self, rate: float) -> None:
        self.run = secrets.token_hex(4)
        self.idle: list[_Connection] = []
        self.result = LoadResult(rate)
        self.outstanding = 0
        self.all_answered = asyncio.Event()
        self.closing = False
        self._waiting: deque[tuple[int, float]] = deque()

    def due(self, number: int, due: float) -> None:
        self.outstanding += 1
        self.all_answered.clear()
        if self.idle:
            self.idle.pop().send(number, due)
        else:
            self._waiting.append((number, due))

    def _finished(self) -> None:
        self.outstanding -= 1
        if not self.outstanding:
            self.all_answered.set()

    def answered(self, connection: _Connection, event_id: str, due: float, status: int) -> None:
        self._finished()
        self.result.latencies.append(time.perf_counter() - due)
        if 200 <= status < 300:
            self.result.accepted.append(event_id)
        else:
            self.result.failed[event_id] = status
        if self._waiting:
            connection.send(*self._waiting.popleft())
        else:
            self.idle.append(connection)

    def lost(self, connection: _Connection, event_id: str) -> None:
        """A connection went; without a replacement, since losing one is a finding and not a nuisance."""
        if connection in self.idle:
            self.idle.remove(connection)
        if event_id:
            self._finished()
            self.result.failed[event_id] = 0
        elif not self.closing:
            self.result.failed[f"connection {len(self.result.failed)}"] = 0


async def run(
    port: int, *, rate: float, seconds: float, watch: Callable[[], None] = lambda: None, watch_every: float = 0.25
) -> LoadResult:
    """Send `rate` events per second for `seconds`; `watch` is called every `watch_every` seconds meanwhile.

    Raises BenchmarkFailed when the generator itself could not keep the rate.
    """
    loop = asyncio.get_running_loop()
    load = _Load(rate)
    connections = [
        (await loop.create_connection(lambda: _Connection(load), "127.0.0.1", port))[1] for _ in range(CONNECTIONS)
    ]
    gc.collect()
    gc.disable()
    try:
        await _send(load, rate=rate, seconds=seconds, watch=watch, watch_every=watch_every)
    finally:
        gc.enable()
        load.closing = True
        for connection in connections:
            connection.close()
    return load.result


async def _send(load: _Load, *, rate: float, seconds: float, watch: Callable[[], None], watch_every: float) -> None:
    start = time.perf_counter()
    sent, total, watched, worst_tick = 0, int(rate * seconds), start, 0.0
    while sent < total:
        now = time.perf_counter()
        due = min(total, int((now - start) * rate) + 1)
        worst_tick = max(worst_tick, now - (start + sent / rate))
        for number in range(sent, due):
            load.due(number, start + number / rate)
        sent = due
        if now - watched >= watch_every:
            watched = now
            watch()
        await asyncio.sleep(TICK)
    if time.perf_counter() - start > seconds * 1.1 + 0.5:
        raise BenchmarkFailed(
            f"the generator could not keep {rate:.0f} events/s on its core (latest {worst_tick:.3f} s)"
        )
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            await load.all_answered.wait()
    except TimeoutError:
        load.result.failed[f"{load.outstanding} unanswered"] = 0
