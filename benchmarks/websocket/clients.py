"""`python -m benchmarks.websocket.clients PORT ...`: the clients, who print one line of JSON when their work is done.

    --window W --seconds S    each client keeps W messages on their way: sends the next as soon as one is acknowledged
    --batch                   with a window: sends W in one write, and the next W when all of them are acknowledged
    --rate R --seconds S      R messages per second in all, each when it is due, whatever has become of those before
    neither                   the sessions are opened, and that was it

A Ping with the message's number stands behind each message, and its Pong acknowledges it. What was acknowledged goes
to `--ids`. The sessions stay open, and the proxy's Pings are answered, until the process is ended.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, cast

import uvloop

from benchmarks.websocket.messages import HANDSHAKE, Messages, new_run
from proxy.websocket.frames import PING, PONG, TEXT, FrameReader, Ping, Pong, Run, frame

OPEN_TIMEOUT: Final = 60.0
LAST_TIMEOUT: Final = 30.0
"""Seconds for the acknowledgement of what is on its way at the end."""
_AT_ONCE: Final = 64
"""Handshakes on their way at the same time."""
_TICK: Final = 0.001


class Client(asyncio.Protocol):
    """One session. acknowledged: called with how many messages a read has acknowledged; latencies: seconds, of each."""

    def __init__(self, end: socket.socket, messages: Messages, acknowledged: Callable[[Client, int], None]) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.latencies: list[float] = []
        self.ids: list[str] = []
        self.sent = 0
        self._socket = end
        self._messages = messages
        self._acknowledged = acknowledged
        self._waiting: deque[tuple[float, str]] = deque()
        self._reader = FrameReader(is_client=False, max_message=2**20, max_fragments=16, runs=True)
        self._head = b""
        self._is_over = False

    @property
    def outstanding(self) -> int:
        """Messages that are not acknowledged."""
        return len(self._waiting)

    def send(self, dues: list[float]) -> None:
        """Send a message for each of these times, when they were due."""
        for due in dues:
            identity, text = self._messages.make()
            self.sent += 1
            self._waiting.append((due, identity))
            self._write(frame(TEXT, text, is_client=True) + frame(PING, b"%d" % self.sent, is_client=True))

    def send_batch(self, due: float, count: int) -> None:
        """Send so many messages in one write, with one Ping behind them."""
        parts = []
        for _ in range(count):
            identity, text = self._messages.make()
            self._waiting.append((due, identity))
            parts.append(frame(TEXT, text, is_client=True))
        self.sent += count
        self._write(b"".join(parts) + frame(PING, b"%d" % self.sent, is_client=True))

    def _write(self, data: bytes) -> None:
        """Send it by itself, while the kernel takes it: uvloop would put the writes of an iteration together."""
        if not self._transport.get_write_buffer_size():
            with suppress(BlockingIOError):
                data = data[self._socket.send(data) :]
        if data:
            self._transport.write(data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(HANDSHAKE)

    def close(self) -> None:
        """End the session, without a word."""
        self._is_over = True
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._is_over:
            sys.exit(f"a session ended: {exc}")

    def data_received(self, data: bytes) -> None:
        if not self.opened.done():
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 101 "):
                sys.exit(f"no session: {head.decode(errors='replace')}")
            self.opened.set_result(None)
        now, before = time.perf_counter(), len(self.ids)
        for item in self._reader.feed(data):
            if type(item) is Pong:
                self._acknowledge(int(item.payload), now)
            elif type(item) is Ping:
                self._transport.write(frame(PONG, item.payload, is_client=True))
            elif type(item) is not Run:
                sys.exit(f"a session ended: {item}")
        if len(self.ids) > before:
            self._acknowledged(self, len(self.ids) - before)

    def _acknowledge(self, number: int, now: float) -> None:
        while len(self.ids) < number:
            due, identity = self._waiting.popleft()
            self.latencies.append(now - due)
            self.ids.append(identity)


async def open_all(port: int, count: int, acknowledged: Callable[[Client, int], None]) -> list[Client]:
    """So many sessions; ends the process when one of them is refused."""
    loop, run = asyncio.get_running_loop(), new_run()
    clients: list[Client] = []
    gate = asyncio.Semaphore(_AT_ONCE)

    async def open_one(number: int) -> None:
        async with gate:
            end = socket.socket()
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(end, ("127.0.0.1", port))
            client = Client(end, Messages(run, number), acknowledged)
            await loop.create_connection(lambda: client, sock=end)
            await client.opened
            clients.append(client)

    async with asyncio.timeout(OPEN_TIMEOUT):
        await asyncio.gather(*[open_one(number) for number in range(count)])
    return clients


async def all_acknowledged(clients: list[Client]) -> None:
    """Wait until nothing is on its way; ends the process when that takes too long."""
    deadline = time.perf_counter() + LAST_TIMEOUT
    while any(client.outstanding for client in clients):
        if time.perf_counter() > deadline:
            sys.exit(f"{sum(client.outstanding for client in clients)} messages were never acknowledged")
        await asyncio.sleep(_TICK)


async def keep_window(port: int, count: int, window: int, seconds: float) -> tuple[list[Client], float]:
    """Load with a sliding window; the clients, and how long it took until the last acknowledgement."""
    until = 0.0

    def acknowledged(client: Client, messages: int) -> None:
        now = time.perf_counter()
        if now < until:
            client.send([now] * messages)

    clients = await open_all(port, count, acknowledged)
    start = time.perf_counter()
    until = start + seconds
    for client in clients:
        client.send([start] * window)
    await asyncio.sleep(seconds)
    await all_acknowledged(clients)
    return clients, time.perf_counter() - start


async def keep_batches(port: int, count: int, size: int, seconds: float) -> tuple[list[Client], float]:
    """Load with whole batches; as `keep_window`."""
    until = 0.0

    def acknowledged(client: Client, _: int) -> None:
        now = time.perf_counter()
        if not client.outstanding and now < until:
            client.send_batch(now, size)

    clients = await open_all(port, count, acknowledged)
    start = time.perf_counter()
    until = start + seconds
    for client in clients:
        client.send_batch(start, size)
    await asyncio.sleep(seconds)
    await all_acknowledged(clients)
    return clients, time.perf_counter() - start


async def keep_rate(port: int, count: int, rate: float, seconds: float) -> tuple[list[Client], float]:
    """Load at a constant rate, the clients in turn; the clients, and how long it took."""
    clients = await open_all(port, count, lambda client, messages: None)
    start, sent, total = time.perf_counter(), 0, int(rate * seconds)
    while sent < total:
        until = min(total, int((time.perf_counter() - start) * rate))
        for offset in range(min(count, until - sent)):
            dues = [start + number / rate for number in range(sent + offset, until, count)]
            clients[(sent + offset) % count].send(dues)
        sent = until
        await asyncio.sleep(_TICK)
    took = time.perf_counter() - start
    if took > seconds * 1.1 + 0.5:
        sys.exit(f"the clients could not keep {rate:.0f} messages/s on their core")
    await all_acknowledged(clients)
    return clients, took


def quantile(ordered: list[float], share: float) -> float:
    """The value that this share (0-1) of the ordered values does not exceed; 0 without any."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


async def work(options: argparse.Namespace) -> None:
    """Do it, say so, and stay."""
    port, count = options.port, options.connections
    if options.batch:
        clients, took = await keep_batches(port, count, options.window, options.seconds)
    elif options.window:
        clients, took = await keep_window(port, count, options.window, options.seconds)
    elif options.rate:
        clients, took = await keep_rate(port, count, options.rate, options.seconds)
    else:
        clients, took = await open_all(port, count, lambda client, messages: None), 0.0
    latencies = sorted(latency for client in clients for latency in client.latencies)
    if options.ids:
        options.ids.write_text("".join(f"{one}\n" for client in clients for one in client.ids))
    result = {
        "sessions": len(clients),
        "messages": len(latencies),
        "seconds": took,
        "p50": quantile(latencies, 0.5),
        "p99": quantile(latencies, 0.99),
        "p999": quantile(latencies, 0.999),
    }
    print(json.dumps(result), flush=True)
    await asyncio.get_running_loop().create_future()


def main(arguments: list[str]) -> None:
    """Be the clients."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.websocket.clients")
    parser.add_argument("port", type=int)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--window", type=int, default=0)
    parser.add_argument("--batch", action="store_true")
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--ids", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    gc.disable()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work(options))


if __name__ == "__main__":
    main(sys.argv[1:])
