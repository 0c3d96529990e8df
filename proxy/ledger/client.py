"""The workers' end of the ledger: records leave once per loop iteration, and are kept until durable.

    add(event), report(...)  -->  flush()  -->  socket  -->  ledger  --> Durable(n) --> waiters resolved
    report_late(...)  - -with these  |
                                     +--> kept, oldest first, until Durable; sent again to a restarted ledger

The frames are written with one plain `send`, not through a transport: when `flush` returns true the
bytes have left this process. While the ledger is away frames are only kept, up to a bound.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import Final, Protocol

import msgspec

from proxy.core.event import Event
from proxy.ledger.claims import ClaimBook
from proxy.ledger.framing import LENGTH_BYTES, Unpacker, pack
from proxy.ledger.protocol import (
    Durable,
    Frame,
    FromLedger,
    Hello,
    Report,
    Turn,
    Verdicts,
    Welcome,
    from_ledger,
    with_contexts,
)

log = logging.getLogger(__name__)

KEPT_BYTES: Final = 64 * 2**20
"""Frames kept while they are not durable; past this the client is full."""
TAKES_NOTHING: Final = 1.0
CONFIRMS_NOTHING: Final = 5.0
"""Seconds. A slow disk confirms late but takes what it gets, hence the longer bound."""
_SIGN_OF_LIFE: Final = 1.0
"""Seconds between two empty frames while only turns or verdicts are awaited: theirs may be due much later."""
_LATE: Final = 0.002
"""Seconds for which what nobody waits for may stay here, so that it leaves with what comes next: each frame costs both
processes as much as what is in it. Not longer: what misses the commit of its event is written on its own.
"""
_RECONNECT: Final = 0.05
_SEND_BUFFER: Final = 4 * 2**20


class Waiter(Protocol):
    """Somebody who waits for a frame to be durable, or for a turn."""

    def record_durable(self) -> None:
        """Everything said of this event before the wait is on disk."""

    def turn_came(self) -> None:
        """The event is the only outstanding one of its key."""

    def record_unsafe(self) -> None:
        """The ledger is away for too long: do not wait for it."""


class _Nobody:
    """A `Waiter` for the sake of the rule that a ledger must confirm what somebody waits for."""

    def record_durable(self) -> None:
        """It is alive."""

    def turn_came(self) -> None:
        """Never."""

    def record_unsafe(self) -> None:
        """Those who wait for turns and verdicts are told."""


_NOBODY: Final = _Nobody()


class LedgerClient:
    """One worker's connection to the ledger. stream: the random name of this worker's life.

    resume: called when frames that were held up have left, so that held writes can go on.
    """

    def __init__(self, path: Path, stream: str, worker: int, loop: asyncio.AbstractEventLoop) -> None:
        self._path = str(path)
        self._hello = Hello(stream, worker, os.getpid())
        self._loop = loop
        self._socket: socket.socket | None = None
        self._unpacker = Unpacker()
        self._events: list[Event] = []
        self._context = b""
        """Of the last one of these."""
        self._shares_context = False
        """The ledger understands events without a context."""
        self._reports: list[Report] = []
        self._turns: list[int] = []
        self._answers: list[tuple[int, int]] = []
        self._urgent = False
        self._is_due = False
        """Is there anything that must leave with the next flush?"""
        self._late: asyncio.TimerHandle | None = None
        self._frame = 1
        self._unsent = bytearray()
        self._kept: deque[tuple[int, bytes]] = deque()
        self._kept_bytes = 0
        self._durable = 0
        self._waiters: deque[tuple[int, Waiter, float]] = deque()
        self._progress_at = self._connected_at = self._asked_at = 0.0
        self._turn_waiters: dict[int, Waiter] = {}
        self.claims = ClaimBook()
        self._closing = False
        self._attempt: asyncio.TimerHandle | None = None
        self.number = 0
        """Number of the last event of this stream."""
        self.is_connected = False
        self.away_since: float | None = monotonic()
        """Since when there is no ledger, monotonic seconds; None while connected."""
        self.resume: Callable[[], object] = bool
        self.forgotten: Callable[[], object] = bool
        """Called when the ledger knows less of this stream than it once confirmed: it cannot go on."""

    # what the data plane says

    def next_number(self) -> int:
        """The number for the next event."""
        self.number += 1
        return self.number

    def add(self, event: Event) -> None:
        """Record a new event with the next flush."""
        self._context = event.context
        self._events.append(event)
        self._is_due = True

    def add_message(self, event: Event) -> None:
        """The same of a session's message. `event` is the record's alone: it may lose its context, see `Frame`."""
        if event.context is not self._context:
            self._context = event.context
        elif self._shares_context:
            event.context = b""
        self._events.append(event)
        self._is_due = True

    def report(self, number: int, side: int, code: int, status: int) -> None:
        """Record what became of one side of an event with the next flush."""
        self._reports.append((number, side, code, status))
        self._is_due = True

    def report_late(self, number: int, side: int, code: int, status: int) -> None:
        """The same, with the next flush that has something else to say, or in a moment: nothing depends on it."""
        self._reports.append((number, side, code, status))
        if self._late is None:
            self._late = self._loop.call_later(_LATE, self._no_later)

    def _no_later(self) -> None:
        self._late = None
        if self._reports:
            self._is_due = True
            self.flush()

    def answered(self, number: int, status: int) -> None:
        """Say with the next flush what the client of an event that holds a claim was told."""
        self._answers.append((number, status))
        self._is_due = True
        self.claims.answered(number)

    def wait_durable(self, waiter: Waiter) -> None:
        """Tell `waiter` when everything said so far is on disk; the ledger commits at once."""
        self._urgent = self._is_due = True
        self._waiters.append((self._frame, waiter, monotonic()))

    def wait_turn(self, event: Event, waiter: Waiter) -> None:
        """Tell `waiter` when `event`, just added, is the only outstanding one of its key."""
        self._turns.append(event.n)
        self._turn_waiters[event.n] = waiter

    @property
    def frame(self) -> int:
        """Number of the frame that what is said now will be in."""
        return self._frame

    @property
    def durable(self) -> int:
        """Frames up to this number are on disk, and their marks are set."""
        return self._durable

    def fail_waiters(self) -> None:
        """Tell everybody who waits that the ledger is away; what was said is still kept for it."""
        for _, waiter, _ in self._waiters:
            waiter.record_unsafe()
        for waiter in self._turn_waiters.values():
            waiter.record_unsafe()
        if self.claims.waiting:
            self.claims.fail()

    @property
    def is_full(self) -> bool:
        """No more can be kept: refuse events that would add to it."""
        return self._kept_bytes >= KEPT_BYTES

    @property
    def kept_bytes(self) -> int:
        """Bytes of frames that are held here."""
        return self._kept_bytes + len(self._unsent)

    @property
    def waiting(self) -> int:
        """Events that wait for the ledger's word."""
        return len(self._waiters) + len(self._turn_waiters) + len(self.claims.waiting)

    @property
    def is_flushed(self) -> bool:
        """Everything said is durable."""
        return not (self._events or self._reports or self._answers or self._kept)

    # once per loop iteration

    def flush(self) -> bool:
        """Send what was said. False while the ledger takes no more: what depends on it must wait."""
        if self._is_due:
            self._is_due = False
            data = pack(Frame(self._frame, self._urgent, self._events, self._reports, self._turns, self._answers))
            self._events, self._reports, self._urgent = [], [], False
            self._context = b""
            if self._turns:
                self._turns = []
            if self._answers:
                self._answers = []
            self._kept.append((self._frame, data))
            self._kept_bytes += len(data)
            self._frame += 1
            self._send_or_queue(data)
        if self.claims.has_news and self.is_connected:
            self._send_or_queue(pack(self.claims.take()))
        return not self._unsent

    def _send_or_queue(self, data: bytes) -> None:
        if self.is_connected:
            if self._unsent:
                self._unsent += data
            else:
                self._send(data)

    def _send(self, data: bytes) -> None:
        assert self._socket is not None
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._lost(f"send failed: {error}")
            return
        if sent < len(data):
            self._unsent += data[sent:]
            self._progress_at = monotonic()
            self._loop.add_writer(self._socket, self._writable)

    def _writable(self) -> None:
        assert self._socket is not None
        try:
            sent = self._socket.send(self._unsent)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(f"send failed: {error}")
            return
        del self._unsent[:sent]
        self._progress_at = monotonic()
        if not self._unsent:
            self._loop.remove_writer(self._socket)
            self.resume()

    def check_time(self, now: float) -> None:
        """Let go of a ledger that is there but does nothing, so that the rules for one that is away apply.

        Held writes would hold everything else, and who waits for it would wait for ever.
        """
        if self.claims.waiting:
            self.claims.check_time(now)
        if not self.is_connected:
            return
        is_awaited = self.claims.waiting or self._turn_waiters
        if is_awaited and not self._waiters and now - self._asked_at >= _SIGN_OF_LIFE:
            self._asked_at = now
            self.wait_durable(_NOBODY)
            self.flush()
        if self._unsent and now - self._progress_at > TAKES_NOTHING:
            self._lost(f"it took nothing for {TAKES_NOTHING:g} s")
        elif self._waiters and now - max(self._waiters[0][2], self._connected_at) > CONFIRMS_NOTHING:
            self.fail_waiters()  # here, because it may welcome us again at once, and is not away then
            self._lost(f"it confirmed nothing for {CONFIRMS_NOTHING:g} s")

    # the connection

    def connect(self) -> None:
        """Connect now, and again whenever the connection is lost."""
        self._attempt = None
        if self._closing:
            return
        try:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError:  # no descriptor: there will be one again
            self._attempt = self._loop.call_later(_RECONNECT, self.connect)
            return
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
            connection.connect(self._path)
            connection.send(pack(self._hello))
        except OSError:
            connection.close()
            self._attempt = self._loop.call_later(_RECONNECT, self.connect)
            return
        self._socket = connection
        self._unpacker = Unpacker()
        self._loop.add_reader(connection, self._readable)

    def _lost(self, why: str) -> None:
        if self._socket is None:
            return
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        self._socket = None
        held = bool(self._unsent)
        self._unsent.clear()
        if self.is_connected:
            self.is_connected = False
            self.away_since = monotonic()
            if not self._closing:
                log.warning("ledger lost", extra={"reason": why})
        if not self._closing:
            self._attempt = self._loop.call_later(_RECONNECT, self.connect)
        if held:
            self._loop.call_soon(self.resume)

    def _readable(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(256 * 1024)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(f"receive failed: {error}")
            return
        if not data:
            self._lost("closed by the ledger")
            return
        try:
            messages = [from_ledger.decode(payload) for payload in self._unpacker.feed(data)]
        except (ValueError, msgspec.DecodeError) as error:
            self._lost(f"not a message: {error}")
            return
        for message in messages:
            self._hear(message)

    def _hear(self, message: FromLedger) -> None:
        if type(message) is Durable:
            self._made_durable(message.number)
        elif type(message) is Turn:
            waiter = self._turn_waiters.pop(message.n, None)
            if waiter is not None:
                waiter.turn_came()
        elif type(message) is Verdicts:
            self.claims.hear(message.verdicts)
        elif type(message) is Welcome:
            self._welcomed(message.durable, message.shares_context)

    def _welcomed(self, durable: int, shares_context: bool) -> None:
        """Send again, in order, every frame that the ledger does not have."""
        if durable < self._durable:
            log.error("the ledger has forgotten this stream", extra={"durable": self._durable, "known": durable})
            self.forgotten()
            return
        self._made_durable(durable)
        if self._shares_context and not shares_context:
            self._give_contexts()
        self._shares_context = shares_context
        self.is_connected = True
        self._connected_at = monotonic()
        self.away_since = None
        again = b"".join(data for _, data in self._kept)
        log.info("ledger connected", extra={"frames_sent_again": len(self._kept)})
        if self.claims.is_used:
            again += pack(self.claims.all())
        if again:
            self._send(again)

    def _give_contexts(self) -> None:
        """This ledger is of the version before: each event that was not made durable gets its own context again."""
        for index, (number, data) in enumerate(self._kept):
            self._kept[index] = (number, pack(with_contexts(data[LENGTH_BYTES:])))
        self._kept_bytes = sum([len(data) for _, data in self._kept])
        for before, event in pairwise(self._events):
            event.context = event.context or before.context

    def _made_durable(self, number: int) -> None:
        self._durable = max(self._durable, number)
        kept = self._kept
        while kept and kept[0][0] <= number:
            self._kept_bytes -= len(kept.popleft()[1])
        waiters = self._waiters
        while waiters and waiters[0][0] <= number:
            waiters.popleft()[1].record_durable()

    async def drain(self, timeout: float) -> bool:
        """Wait until everything said is durable; false when that took longer than `timeout` seconds."""
        deadline = monotonic() + timeout
        if not self.is_flushed:
            self._urgent = self._is_due = True
        while not self.is_flushed:
            self.flush()
            if monotonic() > deadline:
                return False
            await asyncio.sleep(0.01)
        return True

    def close(self) -> None:
        """Close the connection for good."""
        self._closing = True
        if self._attempt is not None:
            self._attempt.cancel()
        if self._late is not None:
            self._late.cancel()
        self._lost("closing")
