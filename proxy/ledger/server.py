"""The ledger's socket: workers connect, say hello, and send frames.

What arrived in one round of the loop is taken together, ordered by the time at which it was accepted,
so that two workers' events get their numbers in about the order in which they came. Garbage ends the
connection it came by and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

import msgspec

from proxy.ledger.book import Book
from proxy.ledger.entry import Stream
from proxy.ledger.framing import Unpacker, pack
from proxy.ledger.protocol import (
    ACCEPTED_NS,
    Claims,
    Durable,
    Hello,
    LedgerFrame,
    Turn,
    Verdict,
    Verdicts,
    Welcome,
    to_ledger,
)
from proxy.ledger.shape import as_protocol

log = logging.getLogger(__name__)

MAX_UNCOMMITTED: Final = 128 * 2**20
"""Bytes of events in memory past which no worker is read until a commit is done."""


def bind(path: Path) -> socket.socket:
    """A Unix socket of mode 0600 at `path`; what a dead ledger left there is removed."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o600)
    return listener


class WorkerConnection:
    """One worker's connection, a `StreamProtocol`."""

    def __init__(self, server: LedgerServer) -> None:
        self._server = server
        self._unpacker = Unpacker()
        self.stream: Stream | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The worker is there; it says hello first."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass
        self._server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Keep what it says for the end of this round."""
        try:
            for payload in self._unpacker.feed(data):
                self._server.receive(self, to_ledger.decode(payload))
        except (ValueError, msgspec.DecodeError) as error:
            self.refuse(str(error))

    def refuse(self, why: str) -> None:
        """It says what cannot be: end this connection."""
        log.error("garbage from a worker, closing its connection", extra={"reason": why})
        self._server.counters["garbage_connections"] += 1
        if self.transport is not None:
            self.transport.abort()

    def eof_received(self) -> bool:
        """It says nothing more: close."""
        return False

    def pause_writing(self) -> None:
        """The worker reads slowly; what it is told is short."""

    def resume_writing(self) -> None:
        """It reads on."""

    def connection_lost(self, error: Exception | None) -> None:
        """It is gone: everything that was read of it counts, and then it is gone."""
        self._server.lose(self)
        self.transport = None

    def send(self, message: Welcome | Durable | Turn | Verdicts) -> None:
        """Tell the worker something, if it is still there."""
        if self.transport is not None:
            self.transport.write(pack(message))


class LedgerServer:
    """Takes frames into the book.

    took: called after a round with whether somebody waits for it; lost: called with a stream whose
    connection ended; now_ns: wall clock.
    """

    def __init__(
        self, book: Book, took: Callable[[bool], None], lost: Callable[[Stream], None], now_ns: Callable[[], int]
    ) -> None:
        self._book = book
        self._now_ns = now_ns
        self._took = took
        self._lost = lost
        self._inbox: list[tuple[WorkerConnection, LedgerFrame]] = []
        self._claims: list[tuple[WorkerConnection, Claims]] = []
        self._by_stream: dict[int, WorkerConnection] = {}
        self._server: asyncio.Server | None = None
        self._is_paused = False
        self.connections: set[WorkerConnection] = set()
        self.counters: Counter[str] = Counter()

    async def start(self, path: Path) -> None:
        """Listen; a socket that a dead ledger left is removed."""
        loop = asyncio.get_running_loop()
        listener = bind(path)
        self._server = await loop.create_unix_server(
            lambda: as_protocol(WorkerConnection(self)), sock=listener, backlog=64
        )

    def receive(self, connection: WorkerConnection, message: Hello | LedgerFrame | Claims) -> None:
        """A whole message arrived."""
        if isinstance(message, Hello):
            self._hello(connection, message)
            return
        if connection.stream is None:
            raise ValueError("a frame or claims before hello")
        if not self._inbox and not self._claims:
            asyncio.get_running_loop().call_soon(self._take_round)
        if isinstance(message, Claims):
            self._claims.append((connection, message))
        else:
            self._inbox.append((connection, message))

    def _hello(self, connection: WorkerConnection, hello: Hello) -> None:
        if connection.stream is not None:
            raise ValueError("a second hello")
        self._take_round()
        stream = self._book.hello(hello.stream, hello.worker)
        before = self._by_stream.get(stream.id)
        connection.stream = stream
        self._by_stream[stream.id] = connection
        if before is not None and before.transport is not None:
            before.transport.abort()
        log.info("worker %d is connected", hello.worker, extra={"stream": hello.stream, "durable": stream.durable})
        connection.send(Welcome(stream.durable, shares_context=True))
        for _, n in self._book.turns.holders(stream.id):
            connection.send(Turn(n))
        self._took(False)

    def _take_round(self) -> None:
        """Take everything that arrived in this round: first what is said, then what is asked."""
        if self._inbox:
            self._take_frames()
        if self._claims:
            self._take_claims()
        self.send_verdicts()

    def _take_frames(self) -> None:
        inbox, self._inbox = self._inbox, []
        if len(inbox) > 1:
            inbox = self._in_order(inbox)
        urgent = False
        for connection, frame in inbox:
            assert connection.stream is not None
            if self._by_stream.get(connection.stream.id) is not connection:
                continue
            try:
                self._book.take_frame(connection.stream, frame)
            except ValueError as error:
                connection.refuse(str(error))
                self._drop(connection)
                continue
            urgent = urgent or frame.urgent
        self.send_turns()
        self._took(urgent)
        if self._book.uncommitted_bytes > MAX_UNCOMMITTED and not self._is_paused:
            self._pause()

    def _take_claims(self) -> None:
        asked, self._claims = self._claims, []
        arbiter, now_ns = self._book.arbiter, self._now_ns()
        for connection, message in asked:
            stream = connection.stream
            assert stream is not None
            if self._by_stream.get(stream.id) is not connection:
                continue
            if arbiter is None or any(row[1] not in arbiter.routes for row in message.asked):
                connection.refuse("claims on ids of a route without a dedupe window")
                self._drop(connection)
                continue
            if message.anew:
                arbiter.keep_only(stream.id, {row[0] for row in message.asked})
            for n in message.withdrawn:
                arbiter.withdraw((stream.id, n))
            for n, route, id, fingerprint, granted in message.asked:
                arbiter.claim((stream.id, n), route, id, fingerprint, granted, now_ns)

    def send_verdicts(self) -> None:
        """Tell workers what became of their claims."""
        arbiter = self._book.arbiter
        if arbiter is None or not arbiter.said:
            return
        said, arbiter.said = arbiter.said, []
        by_stream: dict[int, list[Verdict]] = {}
        for stream_id, verdict in said:
            by_stream.setdefault(stream_id, []).append(verdict)
        for stream_id, verdicts in by_stream.items():
            connection = self._by_stream.get(stream_id)
            if connection is not None:
                connection.send(Verdicts(verdicts))

    def _in_order(
        self, inbox: list[tuple[WorkerConnection, LedgerFrame]]
    ) -> list[tuple[WorkerConnection, LedgerFrame]]:
        """Order by acceptance; a frame without events stays behind the one before it of its stream."""
        latest: dict[WorkerConnection, int] = {}
        times: list[tuple[int, int]] = []
        for index, (connection, frame) in enumerate(inbox):
            at = latest.get(connection, 0)
            if frame.events:
                at = max(at, frame.events[0][ACCEPTED_NS])
            latest[connection] = at
            times.append((at, index))
        return [inbox[index] for _, index in sorted(times)]

    def send_turns(self) -> None:
        """Tell workers whose turn it is now."""
        granted = self._book.granted
        for stream_id, n in granted:
            connection = self._by_stream.get(stream_id)
            if connection is not None:
                connection.send(Turn(n))
        granted.clear()

    def lose(self, connection: WorkerConnection) -> None:
        """A connection ended."""
        self._take_round()
        self.connections.discard(connection)
        self._drop(connection)

    def _drop(self, connection: WorkerConnection) -> None:
        stream = connection.stream
        if stream is None or self._by_stream.get(stream.id) is not connection:
            return
        del self._by_stream[stream.id]
        self._book.lost(stream)
        self.send_turns()
        self._lost(stream)

    def tell_durable(self, streams: list[Stream]) -> None:
        """These streams have a new durable frame."""
        for stream in streams:
            connection = self._by_stream.get(stream.id)
            if connection is not None:
                connection.send(Durable(stream.durable))
        self.send_verdicts()
        if self._is_paused and self._book.uncommitted_bytes <= MAX_UNCOMMITTED:
            self._resume()

    def _pause(self) -> None:
        log.warning("the disk does not keep up: not reading from workers for a moment")
        self.counters["reading_paused"] += 1
        self._is_paused = True
        for connection in self.connections:
            if connection.transport is not None:
                connection.transport.pause_reading()

    def _resume(self) -> None:
        self._is_paused = False
        for connection in self.connections:
            if connection.transport is not None:
                connection.transport.resume_reading()

    def stop_listening(self) -> None:
        """No new connections."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def close(self) -> None:
        """End all connections; what was read of them is taken first."""
        self._take_round()
        self.stop_listening()
        for connection in list(self.connections):
            if connection.transport is not None:
                connection.transport.close()
