"""A client's connection without a network: a source's event enters as the request of a client that posts it.

    post() --> request bytes --> Client.data_received --> ... --> Tick.run --> Lane.write --> status

So id, key, choice of a side, record, marks, copy, failover and answer are those of every request, and its limits, too.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from proxy.http.downstream import Client
from proxy.http.service import Service

log = logging.getLogger(__name__)

PEER: Final = "127.0.0.1"
"""Where these requests come from: this machine."""
NO_ANSWER: Final = 0


class Lane(asyncio.Transport):
    """One request at a time. start: request line and headers of every event, each line ended by CRLF."""

    def __init__(self, service: Service, start: bytes) -> None:
        super().__init__()
        self._service = service
        self._start = start
        self._client: Client | None = None
        self._answer: asyncio.Future[int] | None = None
        self._status = NO_ANSWER
        self._is_ending = False
        """Its client takes nothing more, and goes in the next iteration."""

    async def post(self, event_id: str, body: bytes) -> int:
        """The status that a client would get for this event; NO_ANSWER when the connection was closed without one."""
        if self._is_ending:
            self._lost()
        client = self._client or self._open()
        if client is None:
            return NO_ANSWER
        named = f"X-Event-Id: {event_id}\r\n".encode() if event_id else b""
        self._status = NO_ANSWER
        answer: asyncio.Future[int] = self._service.loop.create_future()
        self._answer = answer
        try:
            client.data_received(b"%b%bContent-Length: %d\r\n\r\n%b" % (self._start, named, len(body), body))
        except Exception:  # a loop cuts the connection that this happens to, and serves the others
            log.exception("a source's event could not be taken")
            self.abort()
        try:
            return await answer
        except asyncio.CancelledError:
            self.abort()  # the event goes on, and its answer goes nowhere
            raise

    def _open(self) -> Client | None:
        self._client = client = Client(self._service)
        client.connection_made(self)
        return self._client

    def _lost(self) -> None:
        client, self._client = self._client, None
        self._is_ending = False
        if client is not None:
            client.connection_lost(None)
        self._say(self._status)

    def _say(self, status: int) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_result(status)

    # the transport of a client

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Its peer alone."""
        return (PEER, 0) if name == "peername" else default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """A piece of an answer, or the whole: only its status counts."""
        if self._status == NO_ANSWER:
            status = int(bytes(data[9:12]))
            self._status = status if status >= 200 else NO_ANSWER
        if self._status != NO_ANSWER and self._client is not None and not self._client.is_busy:
            self._say(self._status)

    def close(self) -> None:
        """After what was written."""
        self._is_ending = True
        self._service.loop.call_soon(self._end, self._client)

    def _end(self, client: Client | None) -> None:
        if self._client is client:  # else there is another one already
            self._lost()

    def write_eof(self) -> None:
        """Its client waits for us to close, and we have nothing more to say."""
        self.close()

    def abort(self) -> None:
        """At once."""
        self._lost()

    def is_closing(self) -> bool:
        """Is nothing to be written any more?"""
        return self._client is None

    def get_write_buffer_size(self) -> int:
        """All is read as it is written."""
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There is no buffer."""

    def pause_reading(self) -> None:
        """One request at a time: nothing is behind it."""

    def resume_reading(self) -> None:
        """The same."""
