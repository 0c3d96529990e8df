"""Once per loop iteration: first the records leave for the ledger, then everything is written.

Data arrives -> decisions are made and their writes queued here -> at the end of the iteration one
callback sends the records and then writes. So a record has left this process before the bytes that
depend on it, at the price of one `send` for all events of an iteration, and kill -9 in between
cannot leave an answered event without its record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum


class End(Enum):
    """How a connection ends after what was written to it."""

    CLOSE = "close both directions"
    LINGER = "end our direction; closing with unread bytes would reset the answer away"
    """Not for TLS, which has no half-closed connections: there CLOSE ends our direction and waits for the other end."""


class Tick:
    """The queue of writes. flush: sends the records; false while they cannot all leave (writes are held)."""

    __slots__ = ("_after", "_flush", "_loop", "_scheduled", "_writes", "runs")

    def __init__(self, loop: asyncio.AbstractEventLoop, flush: Callable[[], bool]) -> None:
        self._loop = loop
        self._flush = flush
        self._scheduled = False
        self._writes: list[tuple[asyncio.WriteTransport, bytes | End]] = []
        self._after: list[Callable[[], None]] = []
        self.runs = 0
        """How often everything queued was written."""

    def write(self, transport: asyncio.WriteTransport, data: bytes) -> None:
        """Write at the end of this iteration."""
        self._writes.append((transport, data))
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self.run)

    def end(self, transport: asyncio.WriteTransport, how: End) -> None:
        """End the connection after everything written before."""
        self._writes.append((transport, how))
        self.schedule()

    def schedule(self) -> None:
        """There are records to send, and perhaps nothing to write."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self.run)

    def after(self, callback: Callable[[], None]) -> None:
        """Call when everything queued so far was written: not before the records have left, however long that takes."""
        self._after.append(callback)
        self.schedule()

    def run(self) -> None:
        """Send records, then write; also called when a congested ledger takes records again."""
        self._scheduled = False
        if not self._flush():
            return
        self.runs += 1
        writes, self._writes = self._writes, []
        for transport, data in writes:
            if type(data) is bytes:
                transport.write(data)
            elif data is End.CLOSE:
                transport.close()
            elif not transport.is_closing():
                transport.write_eof()
        if self._after:
            after, self._after = self._after, []
            for callback in after:
                callback()

    def holds(self, transport: asyncio.WriteTransport) -> bool:
        """Is anything queued for this transport?"""
        return any(write[0] is transport for write in self._writes)

    def has_written(self, transport: asyncio.WriteTransport) -> bool:
        """Has everything that was ever to be written to it left this process? False over a closed one."""
        return not transport.is_closing() and not transport.get_write_buffer_size() and not self.holds(transport)

    def drop_writes(self, transport: asyncio.WriteTransport) -> bool:
        """Forget what was not written yet to a transport that is lost; true when there was something.

        To be called for every lost transport: writing to it later would raise.
        """
        before = len(self._writes)
        if before:
            self._writes = [write for write in self._writes if write[0] is not transport]
        return len(self._writes) < before
